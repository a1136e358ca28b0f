"""Figures of pictures: nats and bits per dimension, and distances in the space of a frozen, hashed network.

Fréchet and kernel distances shrink or wander as the sets grow, and depend on the network: each stands beside what as many
real pictures show against the same held-out ones.
"""

import math
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pieria.data.examples import Examples, without_condition
from pieria.evaluation import inception
from pieria.evaluation.comparison import (
    Comparison,
    Nearness,
    copies_by_ratio,
    nats,
    nearest,
    spread,
)
from pieria.evaluation.distances import (
    EnergyDistance,
    frechet,
    inception_score,
    kernel_distance,
    kernel_interval,
    mean_interval,
    prdc,
)
from pieria.evaluation.extractors import Extractor, seen, seen_once, shipped
from pieria.evaluation.features import as_values
from pieria.evaluation.scorecard import Figure, likelihood_name, plain
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
    """Likeness in the shipped network's features; novelty by the distance of pixels, at 16 × 16 where pictures are larger.

    ``judge`` is the network in whose features figures of sets of pictures are taken. Likeness and the two-sample classifier
    stay in the shipped one's, so that they mean the same on every scorecard.
    """

    likeness_unit = "energy"

    def __init__(
        self,
        training: Examples,
        held: Tensor,
        made: Tensor,
        seen: Tensor,
        seed: int,
        judge: Extractor | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(training, held, made, seen, seed)
        self.judge, self.device = judge or shipped(), device

    @property
    def likeness_note(self) -> str:
        """What was compared."""
        return f"energy coefficient of features ({shipped().name}); 0 the same, 1 nothing in common"

    @cached_property
    def _features(self) -> dict[str, np.ndarray]:
        return self._seen_by(shipped())

    def _seen_by(self, extractor: Extractor) -> dict[str, np.ndarray]:
        assert isinstance(self.form, Grid)
        return {
            "held": seen_once(extractor, self.held, self.form, self.device, "held-out"),
            "made": seen(extractor, self.made, self.form, self.device, "made"),
            "seen": seen_once(extractor, self.seen, self.form, self.device, "training"),
        }

    @cached_property
    def _scaled(self) -> dict[str, np.ndarray]:
        scale = self._features["seen"].std(axis=0)
        scale = np.where(scale > 1e-6, scale, 1.0)
        return {name: points / scale for name, points in self._features.items()}

    def features(self, which: str) -> np.ndarray:
        """The shipped network's features of each picture."""
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
        """Fréchet and kernel distance, precision, recall, density and coverage, each beside what real pictures show.

        In Inception's features the Inception score too.
        """
        judge = self.judge
        points = self._features if judge is shipped() else self._seen_by(judge)
        real, made, seen_ = points["held"], points["made"], points["seen"]

        def figure(
            name: str,
            value: float,
            floor: float,
            better: Literal["lower", "higher"],
            note: str,
            unit: str = "",
            half: float | None = None,
        ) -> Figure:
            low, high = (None, None) if half is None else (value - half, value + half)
            return Figure(
                f"{name} (features {judge.name})",
                value,
                unit,
                "measure",
                better,
                split,
                len(made),
                self.seed,
                floor=floor,
                low=low,
                high=high,
                note=note,
            )

        few = min(len(real), len(made))
        warned = (
            f"; {few:,} pictures are few for {judge.width:,} features, which alone makes it larger: --samples asks for more"
            if few < 10 * judge.width
            else ""
        )
        value, half = frechet(real, made), self._frechet_half(real, made)
        against = f"of {len(made):,} samples to {len(real):,} held-out pictures"
        found = [
            figure(
                judge.distance,
                value,
                frechet(real, seen_),
                "lower",
                f"Fréchet distance {against}; it shrinks with more pictures, so compare it only at the same number, and "
                f"with what real data show{warned}",
                half=half,
            )
        ]
        value, half = kernel_interval(real, made)
        found.append(
            figure(
                "KID",
                value,
                kernel_distance(real, seen_),
                "lower",
                f"kernel distance: asks what {judge.distance} asks, and does not shrink with more pictures; about 0 for "
                "real ones, and it can be a little below",
                half=half,
            )
        )
        if judge.classes is not None:
            logits = {name: points[name] @ judge.classes.T for name in ("made", "seen")}
            value, spread_of_parts = inception_score(logits["made"])
            found.append(
                figure(
                    "Inception score",
                    value,
                    inception_score(logits["seen"])[0],
                    "higher",
                    f"how clearly samples fall into the network's {inception.CLASSES:,} classes, and into how many; mean of "
                    "10 parts; real data are not looked at, so it says nothing where these have other classes",
                    half=1.96 * spread_of_parts / 10**0.5,
                )
            )
        shares, floors = prdc(real, made), prdc(real, seen_)
        meanings = {
            "precision": "quality: share of samples that lie as near to a real picture as its 5th neighbour does",
            "recall": "variety: share of real pictures that lie as near to a sample as its 5th neighbour does",
            "density": "quality, without a limit: near how many real pictures a sample lies, over 5",
            "coverage": "variety: share of real pictures with a sample as near as their 5th neighbour",
        }
        for name, share in shares.items():
            unit = "share" if name != "density" else ""
            found.append(figure(name, share, floors[name], "higher", meanings[name], unit=unit))
        return found

    def _frechet_half(self, real: np.ndarray, made: np.ndarray) -> float:
        """Half the width of the 95 % interval, by drawing both sets again (bootstrap)."""
        generator = np.random.default_rng([self.seed, 13])
        drawn = [
            frechet(real[generator.integers(0, len(real), len(real))], made[generator.integers(0, len(made), len(made))])
            for _ in range(12)
        ]
        return 1.96 * float(np.std(drawn))


def in_words(found: list[Figure]) -> list[str]:
    """What the figures of a set of pictures say, in one sentence a question."""
    by_name = {figure.name.partition(" (features ")[0]: figure for figure in found}
    distance = by_name.get("FID") or by_name["C-FID"]
    quality, variety = by_name["precision"], by_name["coverage"]
    assert distance.value is not None
    assert distance.floor is not None
    name = distance.name.partition(" (")[0]
    if distance.low is not None and distance.low <= distance.floor:
        said = f"the samples' {name} is that of real pictures ({plain(distance.value)}; real {plain(distance.floor)})"
    else:
        said = f"the samples' {name} is {plain(distance.value)}, and that of as many real pictures {plain(distance.floor)}"
    return [
        f"Pictures: {said}. Quality: {quality.value:.0%} of the samples look like some held-out picture (of real ones: "
        f"{quality.floor:.0%}). Variety: {variety.value:.0%} of the held-out pictures have a sample that looks like them "
        f"(among as many real ones: {variety.floor:.0%})."
    ]


def _small(x: Tensor, form: Grid, batch: int = 5_000) -> Tensor:
    """Pictures as flat float vectors, averaged down to 16 × 16 where they are larger."""
    parts = []
    for start in range(0, len(x), batch):
        values = as_values(x[start : start + batch], form)
        if values.shape[-1] * values.shape[-2] > 256:
            values = functional.interpolate(values, (16, 16), mode="area")
        parts.append(values.flatten(1) / values[0].numel() ** 0.5)
    return torch.cat(parts)
