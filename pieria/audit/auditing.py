"""What must be known before a model or its samples are given away, measured, and said in plain words.

The findings are figures with their counts and seeds; a verdict has a severity: "good", "attention" (look before you
publish), "serious" (do not publish as it is), or "unknown" (nobody measured or stated it).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pieria.audit.groups import group_shares, refuse_unknown
from pieria.audit.sensitivity import sensitivity
from pieria.data.examples import Examples, ItemExamples, StreamExamples
from pieria.data.storage import finite
from pieria.evaluation import grids, rows, tokens
from pieria.evaluation.comparison import Comparison, as_learned, held_out, random_items
from pieria.evaluation.evaluating import compare_sets, default_count
from pieria.evaluation.scorecard import plain
from pieria.evaluation.similarity import memorised, novelty
from pieria.forms import Curve, Grid, Row, Tokens
from pieria.models.contract import Model, Scores

if TYPE_CHECKING:
    from pieria.modalities.opening import Dataset

NOT_STATED = "not stated"
ASKED = 1_000


def audit(
    model: Model,
    dataset: "Dataset",
    *,
    group: str | None = None,
    count: int | None = None,
    seed: int = 0,
    record: Mapping[str, Any] | None = None,
    split: str = "test",
) -> dict[str, Any]:
    """Overfitting, copies, groups, robustness, cost and consent of a trained model, as JSON.

    Args:
        model: trained, on any form.
        dataset: what it was trained on.
        group: a column of the table, "label", or a named group of the collection: who is in the data and in the samples.
        count: how many samples to draw; without it as many as a scorecard.
        seed: of the samples and of every random choice.
        record: ``run.json``, for the name of the run and the cost of training.
        split: the held-out part.

    Raises `UsageError` for a group that there is not, naming those that there are.
    """
    training, held = dataset.examples("train"), dataset.examples(split)
    if group is not None:
        refuse_unknown(dataset, training, group, split)  # before anything that takes long
    training, held = as_learned(model, training), as_learned(model, held)
    compared, _ = compare_sets(model, training, held, count or default_count(model.form, held), seed)
    found: dict[str, Any] = {
        "run": (record or {}).get("name", NOT_STATED),
        "data": dataset.name,
        "split": split,
        "seed": seed,
        "samples": len(compared.made),
        "gap": gap(model, training, held, seed),
        "copies": copies(compared, split),
        "groups": None if group is None else group_shares(dataset, compared, model, group, split, seed),
        "sensitivity": sensitivity(model, held, seed),
        "cost": _cost(record or {}),
        "holds_data": type(model).holds_data,
        "licence": dataset.licence or NOT_STATED,
        "consent": dataset.consent or NOT_STATED,
        "source": dataset.source or NOT_STATED,
    }
    found["verdicts"] = verdicts(found)
    said: dict[str, Any] = finite(found)
    return said


def gap(model: Model, training: Examples, held: Examples, seed: int) -> dict[str, Any]:
    """How much better the model does on what it learned from: nats on training and on held-out data, with the interval
    of their difference. Large gaps mean overfitting, and let others find out who was in the data."""
    if not isinstance(model, Scores) or model.likelihood == "none":
        return {"measured": False, "why": "this family has no likelihood"}
    form = model.form
    if isinstance(form, Curve):
        return {"measured": False, "why": "later points of a curve are not exchangeable with earlier ones"}
    if isinstance(form, Tokens):
        own, other = (tokens.likelihood(model, part) for part in _alike(training, held, seed))
        values = own.per_symbol, other.per_symbol
        errors = [(part.interval()[1] - part.interval()[0]) / 3.92 for part in (own, other)]
        counts, unit = (int(own.symbols.sum()), int(other.symbols.sum())), "nats per symbol"
    else:
        nats_of = grids.nats_of if isinstance(form, Grid) else rows.nats_of
        chosen = _alike(training, held, seed)
        sets = [nats_of(model, part, ASKED) for part in chosen]
        values = float(sets[0].mean()), float(sets[1].mean())
        errors = [float(part.std(ddof=1)) / np.sqrt(len(part)) if len(part) > 1 else 0.0 for part in sets]
        counts, unit = (len(sets[0]), len(sets[1])), "nats per row" if isinstance(form, Row) else "nats per item"
    half = 1.96 * float(np.hypot(errors[0], errors[1]))
    difference = values[1] - values[0]
    return {
        "measured": True,
        "train": values[0],
        "heldout": values[1],
        "difference": difference,
        "low": difference - half,
        "high": difference + half,
        "unit": unit,
        "kind": model.likelihood,
        "counts": list(counts),
    }


def _alike(training: Examples, held: Examples, seed: int, symbols: int = 40_000) -> tuple[Examples, Examples]:
    """Parts of training and held-out data of the same size, so that their figures compare."""
    if isinstance(training, StreamExamples) and isinstance(held, StreamExamples):
        size = min(symbols, len(held.stream), len(training.stream))
        start = int(np.random.default_rng([seed, 19]).integers(0, len(training.stream) - size + 1))
        return (
            StreamExamples(training.form, np.asarray(training.stream[start : start + size])),
            StreamExamples(held.form, np.asarray(held.stream[:size])),
        )
    size = min(ASKED, len(held), len(training))
    parts = []
    for source, batch in ((training, random_items(training, size, seed)), (held, held_out(held, size))):
        parts.append(
            ItemExamples(
                training.form,
                batch.x,
                condition=source.condition,
                conditions=batch.condition,
                masks=batch.mask,
            )
        )
    return parts[0], parts[1]


def copies(compared: Comparison, split: str) -> dict[str, Any]:
    """Novelty, copies and, for symbols, the longest copied run, each with its interval and what held-out data show."""
    near, copied = novelty(compared, split)
    found: dict[str, Any] = {"memorised": memorised(compared)}
    figures = [near, copied]
    if isinstance(compared, tokens.TokensComparison):
        figures.append(compared.run_figure(split))
    for figure in figures:
        found[figure.name] = {
            "value": figure.value,
            "low": figure.low,
            "high": figure.high,
            "held-out": figure.floor,
            "unit": figure.unit,
            "count": figure.count,
            "note": figure.note,
        }
    distinct = len(torch.unique(compared.made, dim=0))
    found["distinct samples"] = {"value": distinct / len(compared.made), "count": len(compared.made), "unit": "share"}
    return found


def _cost(record: Mapping[str, Any]) -> dict[str, Any]:
    result = record.get("result") or {}
    cost = result.get("cost") or {}
    told = {"seconds": result.get("seconds"), **cost, "joules_source": cost.get("source")}
    return {
        name: NOT_STATED if told.get(name) is None else told[name]
        for name in ("seconds", "joules", "joules_source", "gCO2e", "gCO2e_source")
    }


def verdicts(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """What the findings mean, each with a severity, the gravest first."""
    said: list[dict[str, str]] = []

    def say(severity: str, about: str, words: str) -> None:
        said.append({"severity": severity, "about": about, "words": words})

    measured = found["gap"]
    if not measured["measured"]:
        say("unknown", "overfitting", f"The gap between training and held-out data was not measured: {measured['why']}.")
    elif measured["low"] > 0.05 * max(abs(measured["heldout"]), 1.0):
        say(
            "attention",
            "overfitting",
            f"Training data are {plain(measured['difference'])} {measured['unit']} more probable than held-out data "
            f"({plain(measured['train'])} against {plain(measured['heldout'])}): whoever has the model can tell, to some "
            "degree, what it was trained on.",
        )
    else:
        say(
            "good",
            "overfitting",
            f"Training and held-out data are nearly as probable: {plain(measured['difference'])} {measured['unit']} apart.",
        )
    copied = found["copies"]
    share, usual = copied["copies"]["value"], copied["copies"]["held-out"]
    if copied["memorised"]:
        say(
            "serious",
            "copies",
            f"{share:.0%} of the samples are copies of training items ({usual:.0%} among held-out items). This model "
            "memorised: do not publish its samples as new, nor the model if the data are private.",
        )
    elif copied["novelty"]["low"] > max(0.1, 2 * copied["novelty"]["held-out"]):
        say(
            "attention",
            "copies",
            f"{copied['novelty']['value']:.0%} of the samples lie nearer to a training item than 95 % of held-out items do; "
            f"{share:.0%} are copies.",
        )
    elif copied["novelty"]["low"] > copied["novelty"]["held-out"]:
        say(
            "good",
            "copies",
            f"{copied['novelty']['value']:.0%} of the samples lie very near to a training item, and "
            f"{copied['novelty']['held-out']:.0%} of held-out items do: somewhat nearer than new data would; "
            f"{share:.0%} are copies.",
        )
    else:
        say("good", "copies", f"Samples lie no nearer to the training data than held-out items do; {share:.0%} are copies.")
    if copied["distinct samples"]["value"] < 0.5:
        say("attention", "variety", f"Only {copied['distinct samples']['value']:.0%} of the samples differ from each other.")
    if found["holds_data"]:
        say("attention", "privacy", "The model's file contains training examples: giving it away gives them away.")
    for name, one in (found["groups"] or {}).get("groups", {}).items():
        if one["samples"]["high"] < 0.8 * one["data"]["share"]:
            say(
                "attention",
                "groups",
                f"{name!r} is {one['data']['share']:.1%} of the data, but {one['samples']['share']:.1%} of the samples.",
            )
    moved = found["sensitivity"]
    if not moved["measured"]:
        say("unknown", "robustness", f"How much the output moves with the input was not measured: {moved['why']}.")
    else:
        severity = "attention" if moved.get("ratio", 0) > 10 else "good"
        say(severity, "robustness", moved["words"])
    if found["cost"]["joules"] == NOT_STATED:
        say("unknown", "cost", "The energy of training was not recorded.")
    for name in ("licence", "consent"):
        if found[name] == NOT_STATED:
            say("unknown", name, f"The {name} of the data is not stated: ask whoever holds the rights before you publish.")
    grave = ("serious", "attention", "unknown", "good")
    return sorted(said, key=lambda one: grave.index(one["severity"]))
