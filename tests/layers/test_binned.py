"""Gaussians seen through bins: odds as scipy has them, and passes of EM that never make the data less probable."""

import numpy as np
import pytest
from scipy.stats import norm

from pieria.layers.binned import STRAY, log_odds, refitted

MEAN, VARIANCE = np.array([[3.2, 250.0], [-4.0, 127.5]]), np.array([[0.04, 9.0], [1.0, 1e4]])


def test_each_level_has_what_the_gaussian_has_between_its_edges():
    found = log_odds(MEAN, VARIANCE, 256)
    edges = np.concatenate([[-np.inf], np.arange(255) + 0.5, [np.inf]])[None, :, None]
    standard = (edges - MEAN[:, None]) / np.sqrt(VARIANCE)[:, None]
    # differences on the side where the law is small, which is exact in both tails
    mass = np.where(
        standard[:, :-1] > 0,
        norm.sf(standard[:, :-1]) - norm.sf(standard[:, 1:]),
        norm.cdf(standard[:, 1:]) - norm.cdf(standard[:, :-1]),
    )
    assert np.exp(found) == pytest.approx((1 - STRAY) * mass + STRAY / 256, rel=1e-12)
    assert np.exp(found).sum(axis=1) == pytest.approx(1)


def test_each_pass_makes_the_levels_counted_more_probable():
    random = np.random.default_rng(0)
    levels = np.clip(np.rint(random.normal(140, 30, 5000)), 0, 255).astype(int)
    levels[:5] = 3  # strays, which must not widen the law
    counts = np.bincount(levels, minlength=256).astype(float)[None, :, None]
    mean, variance, centre, spread = np.array([[90.0]]), np.array([[3000.0]]), np.array([128.0]), np.array([4000.0])
    likelihoods = []
    for _ in range(30):
        likelihoods.append(float((counts * log_odds(mean, variance, 256)).sum()))
        mean, variance = refitted(counts, mean, variance, centre, spread, 1e-6)
    assert np.diff(likelihoods).min() > -1e-6
    assert mean[0, 0] == pytest.approx(140, abs=1)
    assert variance[0, 0] == pytest.approx(900, rel=0.1)
