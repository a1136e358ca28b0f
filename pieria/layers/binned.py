"""Many ordered levels as Gaussians seen through bins: what each level has of them, fitting, and drawing.

A level stands for a hidden number that was rounded to it; the outer bins take the tails. A share ``STRAY`` of all values may
lie anywhere, so that one odd pixel does not cost hundreds of nats. Fitting is exact expectation-maximisation for the hidden
number: its expected moments stand in for it (Dempster, Laird and Rubin 1977).
"""

import math

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray
STRAY = 1e-3
LEAST = 1e-290  # mass below which a bin's moments are lost to rounding


def log_odds(mean: Array, variance: Array, depth: int) -> Array:
    """Log-probability of each of ``depth`` levels under Gaussians ``[column, k]``: ``[column, level, k]``."""
    found: Array = _mass(_edges(mean, variance, depth)).mul_(1 - STRAY).add_(STRAY / depth).log_().numpy()
    return found


def _edges(mean: Array, variance: Array, depth: int) -> Tensor:
    """Where one level ends and the next begins, in standard units, ``[column, depth - 1, k]``."""
    ends = torch.arange(1, depth, dtype=torch.float64)[None, :, None] - 0.5
    return (ends - torch.from_numpy(mean)[:, None, :]).div_(torch.from_numpy(variance).sqrt()[:, None, :])


def _mass(edges: Tensor) -> Tensor:
    """What a standard Gaussian has between the edges and beyond the outer ones, ``[column, depth, k]``.

    Taken from the tail on the edges' own side of the mean, so that it is exact however far out they lie.
    """
    tail = torch.special.erfc(edges.abs().mul_(math.sqrt(0.5))).mul_(0.5)
    tail = _padded(torch.copysign(tail, edges).neg_())
    # a bin that the mean lies in has the tails of both its edges too little, and so one too little
    left = torch.nn.functional.pad(edges < 0, (0, 0, 1, 1))
    left[:, 0] = True
    return (tail[:, 1:] - tail[:, :-1]).add_(left[:, :-1] & ~left[:, 1:])


def _padded(x: Tensor) -> Tensor:
    """With a zero for the ends that lie at infinity."""
    return torch.nn.functional.pad(x, (0, 0, 1, 1))


def _hidden(mean: Array, variance: Array, depth: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each level, ``[column, level, k]``: the share that comes from the Gaussian, and the first two moments, in standard
    units, of the number that it hides there.
    """
    edges = _edges(mean, variance, depth)
    mass = _mass(edges)
    share = mass * (1 - STRAY)
    share.div_(share + STRAY / depth)
    density = (edges**2).mul_(-0.5).exp_().mul_(1 / math.sqrt(2 * math.pi))
    slope, density = _padded(edges.mul_(density)), _padded(density)
    empty, safe = mass <= LEAST, mass.clamp_(min=LEAST)
    first = (density[:, :-1] - density[:, 1:]).div_(safe).masked_fill_(empty, 0.0)
    second = (slope[:, :-1] - slope[:, 1:]).div_(safe).add_(1).masked_fill_(empty, 0.0)
    return share, first, second


def refitted(counts: Array, mean: Array, variance: Array, centre: Array, spread: Array, extra: float) -> tuple[Array, Array]:
    """Mean and variance ``[column, k]`` after one pass of EM over the levels counted, ``[column, level, k]``.

    ``extra`` average items (``centre`` and ``spread``, ``[column]``) count as well.
    """
    share, first, second = _hidden(mean, variance, counts.shape[1])
    old, deviation = mean, np.sqrt(variance)
    heard = share.mul_(torch.from_numpy(counts))
    total = heard.sum(dim=1).numpy() + extra
    moment = deviation * first.mul_(heard).sum(dim=1).numpy()
    mean = ((total - extra) * old + moment + extra * centre[:, None]) / total
    away = old - mean
    scatter = deviation**2 * second.mul_(heard).sum(dim=1).numpy() + 2 * away * moment + away**2 * (total - extra)
    average = extra * ((mean - centre[:, None]) ** 2 + spread[:, None])
    return mean, (np.maximum(scatter, 0) + average) / total


def drawn(mean: Array, variance: Array, normal: Array, uniform: Array, depth: int) -> Array:
    """Levels of Gaussians, all ``[item, column]``, from standard normals and uniform numbers."""
    hidden = mean + np.sqrt(variance) * normal
    stray = uniform / STRAY
    return np.where(stray < 1, np.floor(stray * depth), np.clip(np.rint(hidden), 0, depth - 1))
