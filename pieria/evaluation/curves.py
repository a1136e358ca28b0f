"""Figures of measured curves: predictive nats per point, error of the mean, and whether 95 % intervals hold 95 %.

Samples are drawn at the held-out positions, with the error of measurement where the model can add it, and stand for the
predictive distribution: their mean is the forecast, their 2.5 and 97.5 percentiles the interval.
"""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pieria.data.batch import Batch
from pieria.data.examples import Examples
from pieria.evaluation.comparison import Comparison, Nearness, copies_by_ratio, nats, nearest
from pieria.evaluation.distances import EnergyDistance, share_interval
from pieria.evaluation.scorecard import Figure, likelihood_name
from pieria.forms import Curve
from pieria.models.contract import Model, Scores, device_of
from pieria.noise import ItemNoise

WINDOW = 8
FEWEST = 4  # points of a curve, below which it has no windows to compare


def whole(examples: Examples) -> Batch:
    """All functions of a split."""
    return examples.batch(np.arange(len(examples)))


def real_points(batch: Batch, row: int) -> Tensor:
    """The points of one function that are not padding."""
    return batch.x[row] if batch.mask is None else batch.x[row][batch.mask[row]]


def draw_functions(model: Model, batch: Batch, row: int, n: int, seed: int) -> Tensor:
    """``n`` functions at the positions of one held-out function, as data would be: ``[n, point, inputs + outputs]``."""
    form = model.form
    assert isinstance(form, Curve)
    positions = real_points(batch, row)[:, : form.inputs].expand(n, -1, -1)
    sampling = type(model).Sampling
    options = sampling.of({"noise": True} if "noise" in sampling.model_fields else {})
    with torch.no_grad():
        return model.sample(n, options, ItemNoise(seed, n, first=row * n), positions.to(device_of(model))).cpu().double()


class Persistence:
    """The cheap baseline: each output stays at its last training value, or at the training mean, whichever did better.

    Errors are normal and independent, with the variance that the same rule had on the last fifth of the training points
    (at least a hundredth of the data's own). Where there are several curves, the held-out ones go on from none of them:
    the rule is the mean of all, with the variance around it.
    """

    def __init__(self, training: Batch, form: Curve) -> None:
        values = [real_points(training, row)[:, form.inputs :].double() for row in range(len(training))]
        ends = [v[: max(1, len(v) * 4 // 5)] for v in values]
        rests = [v[max(1, len(v) * 4 // 5) :] for v in values]
        everything = torch.cat(values)
        floor = 0.01 * everything.var(dim=0, correction=0).clamp_min(1e-12)
        if len(values) > 1:
            self.rule, self.level = "mean", everything.mean(dim=0)
            self.variance = torch.maximum(everything.var(dim=0, correction=0), floor)
            return
        choices = {
            "last value": torch.cat([rest - end[-1] for end, rest in zip(ends, rests, strict=True)]),
            "mean": torch.cat([rest - end.mean(dim=0) for end, rest in zip(ends, rests, strict=True)]),
        }
        errors = {name: float(gap.square().mean()) if len(gap) else float("inf") for name, gap in choices.items()}
        self.rule = min(errors, key=lambda name: errors[name])
        gap = choices[self.rule]
        self.variance = torch.maximum(gap.square().mean(dim=0) if len(gap) else floor, floor)
        self.level = everything[-1] if self.rule == "last value" else everything.mean(dim=0)

    def nats(self, y: Tensor) -> float:
        """Minus the log density of values ``[point, outputs]``, in nats."""
        gap = (y.double() - self.level).square() / self.variance
        return float(0.5 * (gap + self.variance.log() + np.log(2 * np.pi)).sum())

    def error(self, y: Tensor) -> Tensor:
        """Squared errors."""
        return (y.double() - self.level).square()

    def covered(self, y: Tensor) -> Tensor:
        """Which values lie within 1.96 standard deviations."""
        return self.error(y) <= 1.96**2 * self.variance


def figures(model: Model, training: Examples, held: Examples, split: str, seed: int, draws: int) -> list[Figure]:
    """Nats per point, coverage and root mean square error, with those of the last value (or the mean) beside them."""
    form = held.form
    assert isinstance(form, Curve)
    batch, baseline = whole(held), Persistence(whole(training), form)
    values = [real_points(batch, row)[:, form.inputs :].double() for row in range(min(len(batch), 64))]
    points = sum(v.numel() for v in values)
    name = f"baseline: {baseline.rule} with independent normal errors"
    found = []
    if isinstance(model, Scores) and model.likelihood != "none":
        total = float(nats(model, batch.rows(slice(0, len(values)))).sum())
        cheap = sum(baseline.nats(v) for v in values) / points
        found.append(
            Figure(
                likelihood_name("nats per point", model.likelihood),
                total / points,
                "nats",
                model.likelihood,
                "lower",
                split,
                points,
                baseline=cheap,
                note=f"density of all held-out points together, in the data's own unit; {name}",
            )
        )
    squared, inside = [], []
    for row, real in enumerate(values):
        made = draw_functions(model, batch, row, draws, seed)[:, :, form.inputs :]
        low, high = (torch.quantile(made, q, dim=0) for q in (0.025, 0.975))
        squared.append((made.mean(dim=0) - real).square().flatten())
        inside.append(((real >= low) & (real <= high)).flatten())
    error, hits = torch.cat(squared), torch.cat(inside)
    cheap_error = torch.cat([baseline.error(v).flatten() for v in values])
    low_share, high_share = share_interval(float(hits.sum()), len(hits))
    found += [
        Figure(
            "error of the mean",
            float(error.mean().sqrt()),
            "RMSE, data's unit",
            "measure",
            "lower",
            split,
            points,
            seed,
            baseline=float(cheap_error.mean().sqrt()),
            note=f"mean of {draws} samples at the held-out positions; {name}",
        ),
        Figure(
            "distance of coverage from 95 %",
            abs(float(hits.double().mean()) - 0.95),
            "share",
            "measure",
            "lower",
            split,
            points,
            seed,
            baseline=abs(float(torch.cat([baseline.covered(v).flatten() for v in values]).double().mean()) - 0.95),
            note=f"{float(hits.double().mean()):.1%} of the held-out values lie in the 95 % interval of {draws} samples "
            f"(interval of that share {low_share:.1%} to {high_share:.1%}, were points independent); {name}",
        ),
    ]
    return found


class CurveComparison(Comparison):
    """Likeness and novelty of short windows: the shape of consecutive values, and their steps."""

    likeness_unit = "energy"
    least = 1  # one curve is many windows

    @property
    def likeness_note(self) -> str:
        """What was compared."""
        return f"energy coefficient of windows of {self.width} points and their steps; 0 the same, 1 nothing in common"

    @cached_property
    def width(self) -> int:
        """Points in a window: fewer where the curves are short."""
        return max(2, min(WINDOW, self.held.shape[1] // 2, self.seen.shape[1] // 2))

    @cached_property
    def _scales(self) -> tuple[Tensor, Tensor]:
        """The training spread of values and of steps, one an output."""
        assert isinstance(self.form, Curve)
        batch = whole(self.training)
        curves = [real_points(batch, row)[:, self.form.inputs :].double() for row in range(len(batch))]

        def spread(parts: list[Tensor]) -> Tensor:
            size = torch.cat(parts).std(dim=0, correction=0)
            return torch.where(size > 0, size, torch.ones_like(size))

        return spread(curves), spread([curve.diff(dim=0) for curve in curves])

    def windows(self, curves: Tensor) -> Tensor:
        """Every window of consecutive points of ``[curve, point, …]`` as a flat vector: its shape, and its steps.

        The shape is the values less their mean, in units of the training spread; the steps are in units of theirs, or else
        a smooth curve and a rough one that swing as far would look alike.
        """
        assert isinstance(self.form, Curve)
        values, steps = self._scales
        cut = curves[:, :, self.form.inputs :].double().unfold(1, self.width, 1)  # [curve, start, output, width]
        shape = (cut - cut.mean(dim=-1, keepdim=True)) / values[:, None]
        joined = torch.cat([shape, cut.diff(dim=-1) / steps[:, None]], dim=-1)
        return joined.flatten(2).flatten(0, 1) / self.width**0.5

    @cached_property
    def _all(self) -> Tensor:
        batch = whole(self.training)
        curves = [real_points(batch, row)[None] for row in range(len(batch))]
        return torch.cat([self.windows(curve) for curve in curves if curve.shape[1] >= self.width])

    @cached_property
    def _points(self) -> dict[str, Tensor]:
        generator = np.random.default_rng([self.seed, 17])

        def some(x: Tensor, most: int = 600) -> Tensor:
            return x[torch.from_numpy(np.sort(generator.permutation(len(x))[:most]))]

        made = self.windows(self.made).unflatten(0, (len(self.made), -1))
        starts = torch.from_numpy(generator.integers(0, made.shape[1], len(made)))
        return {
            "held": some(self.windows(self.held)),
            "made": made[torch.arange(len(made)), starts],  # one window a sample: windows of one curve are not independent
            "seen": some(self._all),
        }

    def distance(self, first: str, second: str) -> tuple[EnergyDistance, int, int]:
        """The energy distance between two sets of windows."""
        a, b = (self._points[name].numpy() for name in (first, second))
        return EnergyDistance(a, b), len(a), len(b)

    @cached_property
    def nearness(self) -> Nearness:
        """Root mean square difference to the nearest training window."""
        training = self._all.float()
        made, held = (nearest(self._points[name].float(), training) for name in ("made", "held"))
        near, usual = copies_by_ratio(made, held)
        note = (
            f"near: the root mean square difference to the nearest training window of {self.width} points, means taken away"
        )
        return Nearness(made[:, 0], held[:, 0], near, usual, 0.1, note)

    def features(self, which: str) -> np.ndarray:
        """The windows, and their squares: a linear judge then sees how far values and steps swing."""
        points = self._points[which].numpy()
        return np.column_stack([points, points**2])
