"""Figures of pictures: nats and bits per dimension, and distances in the space of a small, frozen, hashed network.

Fréchet and kernel distances shrink or wander as the sets grow, and depend on the network: each stands beside what as many
real pictures show against the same held-out ones.
"""

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pieria.data.examples import Examples, without_condition
from pieria.evaluation.comparison import (
    Comparison,
    Nearness,
    copies_by_ratio,
    nats,
    nearest,
    spread,
)
from pieria.evaluation.distances import EnergyDistance, frechet, kernel_distance, mean_interval, prdc
from pieria.evaluation.features import as_values, network, picture_features
from pieria.evaluation.scorecard import Figure, likelihood_name
from pieria.forms import Grid
from pieria.models.contract import Model, Scores

# a bound takes many passes for each picture (importance samples)
MOST_SCORED, MOST_BOUNDED = 2_000, 400
TOGETHER = 2**24  # numbers of training pictures that are made small at once


def nats_of(model: Model, examples: Examples, most: int = MOST_SCORED, size: int = 200) -> np.ndarray:
    """Minus ``log_prob`` of the items of a split (at most ``most``, spread evenly over it), nats."""
    places = spread(len(examples), most)
    parts = [nats(model, examples.batch(places[start : start + size])) for start in range(0, len(places), size)]
    return torch.cat(parts).numpy()


def figures(model: Model, held: Examples, baseline: Model | None, split: str) -> list[Figure]:
    """Nats per picture, and bits per dimension where levels are discrete, with the baseline's beside them."""
    if not isinstance(model, Scores) or model.likelihood == "none":
        return []
    form = held.form
    assert isinstance(form, Grid)
    kind = model.likelihood
    most = MOST_SCORED if kind == "exact" else MOST_BOUNDED
    each = nats_of(model, held, most)
    other = None if baseline is None else float(nats_of(baseline, without_condition(held), most).mean())
    mean, low, high = mean_interval(each)
    note = "probability of levels" if form.levels is not None else "density of values in [-1, 1]"
    if len(each) < len(held):
        note += f"; {len(each):,} of {len(held):,} pictures, spread evenly"
    found = [
        Figure(
            likelihood_name("nats per item", kind),
            mean,
            "nats",
            kind,
            "lower",
            split,
            len(each),
            baseline=other,
            low=low,
            high=high,
            note=note,
        )
    ]
    if form.levels is not None:
        bits = 1 / (np.prod(form.shape) * np.log(2))
        found.append(
            Figure(
                likelihood_name("bits per dimension", kind),
                float(mean * bits),
                "bits",
                kind,
                "lower",
                split,
                len(each),
                baseline=None if other is None else float(other * bits),
                low=float(low * bits),
                high=float(high * bits),
                note=note,
            )
        )
    return found


class GridComparison(Comparison):
    """Likeness in the feature network's space; novelty by the distance of pixels, at 16 × 16 where pictures are larger."""

    likeness_unit = "energy"

    @property
    def likeness_note(self) -> str:
        """What was compared."""
        return f"energy coefficient of features ({network()[1]}); 0 the same, 1 nothing in common"

    @cached_property
    def _features(self) -> dict[str, np.ndarray]:
        assert isinstance(self.form, Grid)
        return {name: picture_features(getattr(self, name), self.form) for name in ("held", "made", "seen")}

    @cached_property
    def _scaled(self) -> dict[str, np.ndarray]:
        scale = self._features["seen"].std(axis=0)
        scale = np.where(scale > 1e-6, scale, 1.0)
        return {name: points / scale for name, points in self._features.items()}

    def features(self, which: str) -> np.ndarray:
        """The network's features of each picture."""
        return self._features[which]

    def distance(self, first: str, second: str) -> tuple[EnergyDistance, int, int]:
        """The energy distance between two sets, each feature in units of its spread in the training data."""
        a, b = self._scaled[first], self._scaled[second]
        return EnergyDistance(a, b), len(a), len(b)

    @cached_property
    def nearness(self) -> Nearness:
        """Root mean square difference of pixels to the nearest training picture."""
        assert isinstance(self.form, Grid)
        batches = self.training.sweep(max(1, min(5_000, TOGETHER // math.prod(self.form.shape))))
        training = torch.cat([_small(batch.x, self.form) for batch in batches])  # large sets are never held whole
        made = nearest(_small(self.made, self.form), training)
        held = nearest(_small(self.held, self.form), training)
        near, usual = copies_by_ratio(made, held)
        note = (
            "near: the root mean square difference of pixels to the nearest training picture"
            f"{' at 16 × 16' if self.form.height * self.form.width > 256 else ''}; a copy is near to one alone"
        )
        return Nearness(made[:, 0], held[:, 0], near, usual, 0.1, note)

    def figures(self, split: str) -> list[Figure]:
        """C-FID, KID, precision, recall, density and coverage, each beside what real pictures show."""
        real, made, seen = (self._features[name] for name in ("held", "made", "seen"))
        where = f"(features {network()[1]})"
        generator = np.random.default_rng([self.seed, 13])

        def spread_of(statistic: Callable[[np.ndarray, np.ndarray], float]) -> float:
            drawn = [
                statistic(
                    real[generator.integers(0, len(real), len(real))], made[generator.integers(0, len(made), len(made))]
                )
                for _ in range(12)
            ]
            return 1.96 * float(np.std(drawn))

        found = []
        few = "" if len(made) >= 10 * made.shape[1] else f"; {len(made)} pictures are few for {made.shape[1]} features"
        for name, statistic, note in (
            ("C-FID", frechet, f"Fréchet distance; lower with more pictures, so read it against real data{few}"),
            ("KID", kernel_distance, "unbiased, so that it can be a little below zero"),
        ):
            value, half = statistic(real, made), spread_of(statistic)
            found.append(
                Figure(
                    f"{name} {where}",
                    value,
                    "",
                    "measure",
                    "lower",
                    split,
                    len(made),
                    self.seed,
                    floor=statistic(real, seen),
                    low=value - half,
                    high=value + half,
                    note=note,
                )
            )
        shares, floors = prdc(real, made), prdc(real, seen)
        meanings = {
            "precision": "share of samples inside a real picture's neighbourhood",
            "recall": "share of real pictures inside a sample's neighbourhood",
            "density": "how many real neighbourhoods a sample lies in, over 5",
            "coverage": "share of real neighbourhoods with a sample inside",
        }
        for name, value in shares.items():
            found.append(
                Figure(
                    f"{name} {where}",
                    value,
                    "share" if name != "density" else "",
                    "measure",
                    "higher",
                    split,
                    len(made),
                    self.seed,
                    floor=floors[name],
                    note=meanings[name] + "; neighbourhoods reach to the 5th neighbour",
                )
            )
        return found


def _small(x: Tensor, form: Grid, batch: int = 5_000) -> Tensor:
    """Pictures as flat float vectors, averaged down to 16 × 16 where they are larger."""
    parts = []
    for start in range(0, len(x), batch):
        values = as_values(x[start : start + batch], form)
        if values.shape[-1] * values.shape[-2] > 256:
            values = functional.interpolate(values, (16, 16), mode="area")
        parts.append(values.flatten(1) / values[0].numel() ** 0.5)
    return torch.cat(parts)
