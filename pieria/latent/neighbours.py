"""The training items nearest to given ones: by their values, and for grids by the features of a frozen network."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pieria.data.examples import Examples
from pieria.evaluation.features import picture_features
from pieria.forms import Form, Grid
from pieria.latent.distances import cells, reading
from pieria.latent.space import Progress

CHUNK = 2000  # training items looked at together


@dataclass(frozen=True)
class Near:
    """The nearest training items to each of some items, ``[n, k]``: their places, and how far they are."""

    measure: str
    places: Tensor
    distances: Tensor


def nearest(form: Form, x: Tensor, training: Examples, k: int, progress: Progress) -> list[Near]:
    """The ``k`` nearest training items to each of ``x`` by each measure, nearest first; all of them are looked at once."""
    measures = ["pixels" if isinstance(form, Grid) else "values"] + (["features"] if isinstance(form, Grid) else [])
    asked = [_described(measure, form, x) for measure in measures]
    best: list[tuple[Tensor, Tensor]] = []
    for start in range(0, len(training), CHUNK):
        places = torch.arange(start, min(start + CHUNK, len(training)))
        batch = training.batch(places).x
        found = [_among(points, _described(m, form, batch), places, k) for m, points in zip(measures, asked, strict=True)]
        best = found if not best else [_merged(a, b, k) for a, b in zip(best, found, strict=True)]
        progress("looking at training items", int(places[-1]) + 1, len(training))
    scale = [cells(form, x) ** 0.5, 1.0]
    return [
        Near(measure, places, distances / scale[number])
        for number, (measure, (distances, places)) in enumerate(zip(measures, best, strict=True))
    ]


def _described(measure: str, form: Form, x: Tensor) -> Tensor:
    if measure != "features":
        return reading(form, x)
    assert isinstance(form, Grid)
    return torch.from_numpy(picture_features(x, form)).float()


def _among(points: Tensor, others: Tensor, places: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Distances and places of the ``k`` nearest of ``others``; candidates by the quick product, then taken exactly."""
    product = others.square().sum(dim=1) - 2 * points @ others.T
    candidates = product.topk(min(2 * k, len(others)), dim=1, largest=False).indices
    exact = (others[candidates] - points[:, None]).double().norm(dim=2)
    order = exact.argsort(dim=1, stable=True)[:, :k]
    return exact.gather(1, order), places[candidates.gather(1, order)]


def _merged(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], k: int) -> tuple[Tensor, Tensor]:
    distances, places = (torch.cat(pair, dim=1) for pair in zip(first, second, strict=True))
    order = distances.argsort(dim=1, stable=True)[:, :k]
    return distances.gather(1, order), places.gather(1, order)
