"""Many ordered levels as Gaussians seen through bins: what each level has of them, fitting, and drawing.

A level stands for a hidden number that was rounded to it; the outer bins take the tails. A share ``STRAY`` of all values may
lie anywhere, so that one odd pixel does not cost hundreds of nats. Fitting is exact expectation-maximisation for the hidden
number: its expected moments stand in for it (Dempster, Laird and Rubin 1977).
"""

import numpy as np
from scipy.special import ndtr

Array = np.ndarray
STRAY = 1e-3


def bins(mean: Array, variance: Array, depth: int) -> tuple[Array, Array, Array, Array]:
    """What ``depth`` levels have of Gaussians ``[column, k]``.

    Log-odds of each level ``[column, level, k]``; the share that the Gaussian has in it; the first two moments, in standard
    units, of the number that it hides there.
    """
    mean, deviation = mean[:, None, :], np.sqrt(variance[:, None, :])
    edges = (np.arange(1, depth)[None, :, None] - 0.5 - mean) / deviation
    density = np.exp(-0.5 * edges**2) / np.sqrt(2 * np.pi)
    pad = [(0, 0), (1, 1), (0, 0)]
    below = np.pad(ndtr(edges), pad, constant_values=((0, 0), (0, 1), (0, 0)))
    above = np.pad(ndtr(-edges), pad, constant_values=((0, 0), (1, 0), (0, 0)))
    # in the right tail the difference of what lies above is exact, in the left tail that of what lies below
    mass = np.where(below[:, :-1] > 0.5, above[:, :-1] - above[:, 1:], below[:, 1:] - below[:, :-1])
    heard = (1 - STRAY) * mass
    odds = heard + STRAY / depth
    density, slope = np.pad(density, pad), np.pad(edges * density, pad)
    safe = np.maximum(mass, 1e-290)
    first = np.where(mass > 1e-290, (density[:, :-1] - density[:, 1:]) / safe, 0.0)
    second = np.where(mass > 1e-290, 1 + (slope[:, :-1] - slope[:, 1:]) / safe, 0.0)
    return np.log(odds), heard / odds, first, second


def begun(counts: Array, centre: Array, spread: Array, extra: float) -> tuple[Array, Array]:
    """Mean and variance ``[column, k]`` of the levels counted (``[column, level, k]``), each at its middle.

    ``extra`` average items (``centre`` and ``spread``, ``[column]``) count as well.
    """
    level = np.arange(counts.shape[1])[None, :, None]
    total = counts.sum(axis=1) + extra
    mean = ((counts * level).sum(axis=1) + extra * centre[:, None]) / total
    scatter = (counts * (level - mean[:, None, :]) ** 2).sum(axis=1)
    return mean, _variance(scatter, total, mean, centre, spread, extra)


def refitted(counts: Array, mean: Array, variance: Array, centre: Array, spread: Array, extra: float) -> tuple[Array, Array]:
    """Mean and variance after one pass of EM over the levels counted; the rest as in `begun`."""
    _, share, first, second = bins(mean, variance, counts.shape[1])
    old, deviation = mean, np.sqrt(variance)
    heard = counts * share
    total = heard.sum(axis=1) + extra
    moment = deviation * (heard * first).sum(axis=1)
    mean = ((total - extra) * old + moment + extra * centre[:, None]) / total
    away = old - mean
    scatter = deviation**2 * (heard * second).sum(axis=1) + 2 * away * moment + away**2 * (total - extra)
    return mean, _variance(scatter, total, mean, centre, spread, extra)


def _variance(scatter: Array, total: Array, mean: Array, centre: Array, spread: Array, extra: float) -> Array:
    variance: Array = (np.maximum(scatter, 0) + extra * ((mean - centre[:, None]) ** 2 + spread[:, None])) / total
    return variance


def drawn(mean: Array, variance: Array, normal: Array, uniform: Array, depth: int) -> Array:
    """Levels of Gaussians, all ``[item, column]``, from standard normals and uniform numbers."""
    hidden = mean + np.sqrt(variance) * normal
    stray = uniform / STRAY
    return np.where(stray < 1, np.floor(stray * depth), np.clip(np.rint(hidden), 0, depth - 1))
