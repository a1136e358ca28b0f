"""Figures of models that turn pictures of A into pictures of B, beside what it costs nothing to give: A untranslated.

How much the translations look like B is told by the Fréchet distance in the feature network; how much of a picture is kept
by the way there and back; and where each has a partner in B, by how far from it the translation is.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pieria.data.examples import Examples, UnpairedExamples
from pieria.errors import UsageError
from pieria.evaluation.comparison import spread
from pieria.evaluation.distances import frechet, mean_interval
from pieria.evaluation.features import as_values, picture_features
from pieria.evaluation.scorecard import Figure
from pieria.forms import Grid
from pieria.models.contract import Model, Translates, device_of
from pieria.noise import ItemNoise

BASELINE = "the untranslated picture"
MOST = 1_000
TOGETHER = 32  # of larger pictures fewer
PIXELS = 2**20


def figures(model: Model, held: Examples, own: list[Figure], split: str, seed: int) -> list[Figure]:
    """The figures of a translator: ``own``, those of any pictures, with A's beside the Fréchet distance, and others."""
    form, given = model.form, model.condition
    if not isinstance(model, Translates) or not isinstance(form, Grid) or not isinstance(given, Grid):
        return own
    unpaired = isinstance(held, UnpairedExamples)
    a = _some(held.sources if isinstance(held, UnpairedExamples) else held, given=not unpaired)
    b = _some(held.items if isinstance(held, UnpairedExamples) else held, given=False)
    distance = frechet(picture_features(b, form), picture_features(a, given))
    own = [replace(figure, baseline=distance) if figure.name.startswith("C-FID") else figure for figure in own]
    made = turned(model, a, "b", seed)
    found = []
    try:
        for name, x, kind, there, back in (("A", a, given, "b", "a"), ("B", b, form, "a", "b")):
            once = made if name == "A" else turned(model, x, there, seed)
            apart = gaps(turned(model, once, back, seed), x, kind)
            note = f"mean absolute difference, as a share of the range, of {name}'s pictures there and back"
            found.append(_figure(f"cycle error of {name}", apart, split, seed, note))
    except UsageError:
        pass  # it goes one way alone
    if not unpaired:
        apart, other = gaps(made, b, form), gaps(a, b, form)
        note = "mean absolute difference to the partner, as a share of the range"
        found.append(replace(_figure("pixel error", apart, split, seed, note), baseline=float(other.mean())))
    return [*own, *found]


def turned(model: Model, x: Tensor, to: str, seed: int) -> Tensor:
    """``x`` ``[n, channel, height, width]`` as the kind ``to``, with the default options."""
    assert isinstance(model, Translates)
    options, size = model.Sampling.of({}), max(1, min(TOGETHER, PIXELS // x[0, 0].numel()))
    parts = []
    with torch.no_grad():
        for start in range(0, len(x), size):
            part = x[start : start + size].to(device_of(model))
            parts.append(model.translate(part, to, options, ItemNoise(seed, len(part), first=start)).cpu())
    return torch.cat(parts)


def gaps(first: Tensor, second: Tensor, form: Grid) -> np.ndarray:
    """The mean absolute difference of each picture to another, as a share of the range, float64 ``[n]``."""
    return ((as_values(first, form) - as_values(second, form)).abs().flatten(1).double().mean(dim=1) / 2).numpy()


def _some(examples: Examples, *, given: bool) -> Tensor:
    batch = examples.batch(spread(len(examples), MOST))
    found = batch.condition if given else batch.x
    assert found is not None
    return found


def _figure(name: str, each: np.ndarray, split: str, seed: int, note: str) -> Figure:
    mean, low, high = mean_interval(each)
    return Figure(name, mean, "share", "measure", "lower", split, len(each), seed, low=low, high=high, note=note)
