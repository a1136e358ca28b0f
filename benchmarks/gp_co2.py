"""Gaussian process on CO2 at Mauna Loa: marginal likelihood, seconds a fit, and how often 95 % intervals hold.

Protocol: statsmodels' weekly CO2, month-end means, months without a value dropped: 521 points, 1958 to 2001; the position is
year + month/12. (1) The kernel of scikit-learn's example, learned on all points: its log marginal likelihood, in ppm, with
the mean taken away and nothing else, is -115.050 there, the optimum to which L-BFGS converges. (2) The family's default
kernel, learned on the 400 points before 1992, says where the 121 later ones lie. With the kernel of (1) only 68 % of them
lie in the 95 % intervals: a squared-exponential trend believes itself too much.
"""

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import Outcome
from pieria.data.batch import Batch
from pieria.forms import Curve
from pieria.models.gp import Gp


def points() -> Tensor:
    """``[1, 521, 2]``: year + month/12, and ppm."""
    import statsmodels.api

    weekly = statsmodels.api.datasets.co2.load_pandas().data["co2"]
    monthly = weekly.resample("ME").mean().dropna()
    years = np.asarray(monthly.index.year + monthly.index.month / 12)
    return torch.from_numpy(np.stack([years, np.asarray(monthly)], axis=1))[None]


def fitted(preset: str, x: Tensor) -> tuple[Gp, float]:
    """A Gaussian process fitted to ``x``, and the seconds that took."""
    model = Gp(Gp.Settings.of(Gp.presets[preset]), Curve())
    begun = time.perf_counter()
    model.estimate(lambda: [Batch(x)])
    return model, time.perf_counter() - begun


def measure(gate: bool) -> Outcome:
    """Both parts take seconds, so the gate is the whole."""
    del gate
    x = points()
    known, first = fitted("co2", x)
    learned = known.kernel.learned(float(known.scale.square().mean()))
    year = x[0, :, 0]
    model, second = fitted("default", x[:, year < 1992])
    later = x[:, year >= 1992]
    mean, variance = model.predict(later[0, :, :1])
    away = (later[0, :, 1:] - mean) / variance.sqrt()
    covered = float((away.abs() < 1.96).double().mean())
    density = float(-0.5 * (away.square() + (2 * torch.pi * variance).log()).mean())
    measured: dict[str, Any] = {
        "points": x.shape[1],
        "log marginal likelihood, scikit-learn's kernel, nats": round(known.log_marginal_likelihood(), 3),
        "seconds a fit, scikit-learn's kernel, 521 points": round(first, 2),
        "seconds a fit, default kernel with 3 restarts, 400 points": round(second, 2),
        "share of 121 months from 1992 in the 95 % intervals": round(covered, 3),
        "root mean squared error from 1992, ppm": round(float((later[0, :, 1:] - mean).square().mean().sqrt()), 3),
        "mean log density of a month from 1992, nats": round(density, 3),
    }
    goal = {
        "points": 521,
        "log marginal likelihood, scikit-learn's kernel, nats": "≥ -115.05, to its two decimals",
        "seconds a fit, scikit-learn's kernel, 521 points": "≤ 5",
        "seconds a fit, default kernel with 3 restarts, 400 points": "≤ 5",
        "share of 121 months from 1992 in the 95 % intervals": "0.90 to 0.99",
    }
    passed = (
        x.shape[1] == 521
        and round(known.log_marginal_likelihood(), 2) >= -115.05
        and max(first, second) <= 5
        and 0.90 <= covered <= 0.99
    )
    return Outcome(measured, goal, passed, [f"learned with scikit-learn's kernel: {learned}", __doc__.partition("\n\n")[2]])
