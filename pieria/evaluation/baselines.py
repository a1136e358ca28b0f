"""The cheap baseline of each form, fitted on the training part: what a neural model must beat to be worth its cost.

`Tokens`: an n-gram. `Grid`: a mixture. `Row`: independent columns. A `Curve`'s is the last value (in `curves.py`).
Baselines are found by name like any family, and kept in memory by the fingerprint of the data.
"""

import json
import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pieria import registry
from pieria.data.batch import Batch
from pieria.data.examples import Examples, StreamExamples, without_condition
from pieria.errors import PieriaError
from pieria.evaluation.comparison import spread
from pieria.forms import Form, Grid, Tokens
from pieria.models.contract import Estimates, Model, Predicts, Scores

KEPT: "OrderedDict[str, Baseline]" = OrderedDict()
MOST_KEPT = 4
MOST_ITEMS = {"grid": 10_000, "row": 50_000}
# laws of cells that one pass of a mixture over its items may look at: a baseline that takes minutes is none
MOST_CELLS = 20_000_000


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline, or the reason why there is none.

    Attributes:
        name: what it is, as a reader is told: "a 7-gram".
        model: None where it could not be fitted.
        reason: why not.
    """

    name: str
    model: Model | None
    reason: str = ""


def recipe(form: Form, amount: int, likelihood: str = "exact") -> tuple[str, str, dict[str, Any]]:
    """The family, what it is called and its settings for a form and an amount of training symbols or items.

    Beside a pseudo-likelihood, where each symbol is told from those behind it too, an exact one would be compared wrongly.
    Of symbols that do not depend on each other both are the same, so there the baseline is how frequent each symbol is.
    """
    if isinstance(form, Tokens) and likelihood == "pseudo":
        return "ngram", "how frequent each symbol is", {"order": 1}
    if isinstance(form, Tokens):
        letters = form.vocabulary <= 300
        # a longer history is only worth its memory where it is met again
        order = (7 if amount >= 300_000 else 5 if amount >= 20_000 else 4) if letters else (5 if amount >= 300_000 else 3)
        return "ngram", f"a {order}-gram", {"order": order}
    if isinstance(form, Grid):
        components = int(np.clip(math.sqrt(amount) / 2, 1, 50))
        components = min(components, max(1, 8_192 // math.prod(form.shape)))
        return (
            "mixture",
            f"a mixture of {components} components",
            {"components": components, "restarts": 1, "iterations": 20},
        )
    return "mixture", "independent columns", {"components": 1, "restarts": 1, "anneal": 1.0}


def cheap(form: Form, training: Examples, fingerprint: str, likelihood: str = "exact") -> Baseline:
    """The baseline of this form on this training part, from memory if it was fitted before."""
    amount = training.scored()
    family, name, settings = recipe(form, amount, likelihood)
    key = json.dumps([fingerprint, form.to_json(), family, settings, amount], sort_keys=True, default=str)
    if fingerprint and key in KEPT:
        KEPT.move_to_end(key)
        return KEPT[key]
    fitted = _fit(family, name, settings, form, without_condition(training))
    if fingerprint:
        KEPT[key] = fitted
        while len(KEPT) > MOST_KEPT:
            KEPT.popitem(last=False)
    return fitted


def _fit(family: str, name: str, settings: dict[str, Any], form: Form, training: Examples) -> Baseline:
    try:
        found = registry.find(family)
        model = found(found.Settings.of(settings), form)
        if not isinstance(model, Estimates) or not isinstance(model, Scores):
            return Baseline(name, None, f"{family} cannot be fitted and scored")
        most = MOST_ITEMS.get(form.kind)
        if isinstance(form, Grid):
            most = int(np.clip(MOST_CELLS / (math.prod(form.shape) * settings["components"]), 500, MOST_ITEMS["grid"]))
        model.estimate(lambda: _batches(model, training, most))
    except PieriaError as error:
        return Baseline(name, None, str(error))
    if most is not None and len(training) > most:
        name += f" fitted on {most:,} of {len(training):,} items"
    return Baseline(name, model.eval())


def _batches(model: Model, training: Examples, most: int | None) -> Iterable[Batch]:
    if isinstance(training, StreamExamples):
        reach = model.reach if isinstance(model, Predicts) else 0
        yield from training.sweep(16, length=8192, context=reach)
        return
    if most is None or most >= len(training):
        yield from (replace(batch, condition=None) for batch in training.sweep(1000))
        return
    places = spread(len(training), most)  # not the first ones: files come class after class, and tables may be sorted
    for start in range(0, most, 1000):
        yield replace(training.batch(places[start : start + 1000]), condition=None)
