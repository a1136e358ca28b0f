"""Our distances against other people's on the same features, and against cases whose answer is known."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pieria.evaluation.classifier import area_interval, told_apart
from pieria.evaluation.copying import longest_run, longest_runs
from pieria.evaluation.distances import (
    EnergyDistance,
    ProfileDistance,
    frechet,
    inception_score,
    kernel_distance,
    kernel_interval,
    mean_interval,
    prdc,
    share_interval,
    with_interval,
)


def clouds(n=300, m=260, d=12, shift=0.3, seed=0):
    rng = np.random.default_rng(seed)
    turn = rng.normal(size=(d, d)) / np.sqrt(d)
    return rng.normal(size=(n, d)), rng.normal(size=(m, d)) @ turn + shift


def test_frechet_of_normals_with_known_distance():
    # |mean|² + Σ (s - 1)² for independent dimensions
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(200_000, 3)), rng.normal(size=(200_000, 3)) * [1, 2, 3] + [1, 0, 0]
    assert frechet(a, b) == pytest.approx(1 + 1 + 4, rel=0.02)
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)


def test_frechet_and_kernel_distance_equal_torchmetrics():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchmetrics.image.fid import _compute_fid
        from torchmetrics.image.kid import poly_mmd
    a, b = clouds()
    ta, tb = torch.from_numpy(a), torch.from_numpy(b)
    theirs = _compute_fid(ta.mean(0), torch.cov(ta.T), tb.mean(0), torch.cov(tb.T))
    assert frechet(a, b) == pytest.approx(float(theirs), rel=1e-6)
    same = clouds(m=300)[1]  # theirs wants as many of each
    assert kernel_distance(a, same) == pytest.approx(float(poly_mmd(ta, torch.from_numpy(same))), rel=1e-6)


def test_frechet_with_fewer_points_than_dimensions_is_exact():
    # two sets of two points on lines: covariances of rank one, whose root has the trace of the length of their overlap
    rng = np.random.default_rng(0)
    u, v, gap = (rng.normal(size=600) for _ in range(3))
    a, b = np.stack([u, -u]), np.stack([v, -v]) + gap
    expected = gap @ gap + 2 * u @ u + 2 * v @ v - 4 * abs(u @ v)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-12)
    # of a set to itself nothing is left, not even rounding's roots
    few = rng.normal(size=(40, 600))
    assert abs(frechet(few, few)) < 1e-9 * 600
    # turned points: the same covariance up to a turn, and a distance that does not depend on the axes
    turn = np.linalg.qr(rng.normal(size=(600, 600)))[0]
    assert frechet(few @ turn, few[:30] @ turn) == pytest.approx(frechet(few, few[:30]), rel=1e-10)


def test_inception_score_equals_torchmetrics():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchmetrics.image.inception import InceptionScore

        logits = torch.randn(400, 20, generator=torch.Generator().manual_seed(0)) * 2
        theirs = InceptionScore(feature=torch.nn.Identity(), splits=1)
        theirs.update(logits)
        assert inception_score(logits.double().numpy(), parts=1)[0] == pytest.approx(float(theirs.compute()[0]), rel=1e-5)
        theirs = InceptionScore(feature=torch.nn.Identity(), splits=10)
        theirs.update(logits)
        torch.manual_seed(7)
        mean, spread = theirs.compute()
        torch.manual_seed(7)
        order = torch.randperm(400)  # theirs is of parts drawn by chance
    ours = inception_score(logits[order].double().numpy())
    assert ours[0] == pytest.approx(float(mean), rel=1e-5)
    assert ours[1] * (10 / 9) ** 0.5 == pytest.approx(float(spread), rel=1e-4)
    # pictures of ten classes, each sure and as many of each
    sure = np.repeat(np.eye(10), 10, axis=0)[np.random.default_rng(0).permutation(100)] * 1e3
    assert inception_score(sure, parts=1)[0] == pytest.approx(10)
    assert inception_score(np.zeros((50, 10)))[0] == pytest.approx(1)


def test_kernel_distance_on_subsets_has_the_mean_of_all_pairs_and_an_honest_interval():
    rng = np.random.default_rng(0)
    values, halves = zip(*[kernel_interval(rng.normal(size=(80, 4)), rng.normal(size=(90, 4)) + 0.4) for _ in range(150)])
    truth = kernel_distance(rng.normal(size=(6_000, 4)), rng.normal(size=(6_000, 4)) + 0.4)
    assert abs(np.mean(values) - truth) < 3 * np.std(values) / 150**0.5 + 0.02 * truth
    assert 0.85 < np.mean(np.abs(np.asarray(values) - truth) < halves) <= 1
    # the same in pieces as at once
    a, b = clouds(n=2_100, m=1_500)
    whole = ((a @ b.T / 12 + 1) ** 3).mean()
    parts = ((a @ a.T / 12 + 1) ** 3).sum() - ((np.square(a).sum(1) / 12 + 1) ** 3).sum()
    others = ((b @ b.T / 12 + 1) ** 3).sum() - ((np.square(b).sum(1) / 12 + 1) ** 3).sum()
    expected = parts / (2_100 * 2_099) + others / (1_500 * 1_499) - 2 * whole
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_neighbours_of_pictures_that_repeat_do_not_hang_on_rounding():
    # real pictures of three kinds, many of each, and samples of the first two: distances of 0 and equal ones everywhere
    kinds = np.random.default_rng(0).normal(size=(3, 2048)) * 1e3
    real, made = kinds[np.arange(60) % 3], kinds[np.arange(40) % 2]
    assert prdc(real, made) == {"precision": 0.0, "recall": 0.0, "density": 0.0, "coverage": 0.0}  # no ball has an inside
    # in pieces as at once, and moved far from the origin
    a, b = clouds(n=2_300, m=1_200)
    assert prdc(a + 1e3, b + 1e3) == prdc(a, b)


def test_precision_recall_density_coverage_equal_prdc():
    from prdc import compute_prdc

    a, b = clouds()
    theirs = compute_prdc(a, b, nearest_k=5)
    ours = prdc(a, b, k=5)
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(float(value), abs=1e-12), name
    assert ours["precision"] != ours["recall"]


def test_energy_distance_is_zero_for_the_same_and_one_for_far_points():
    a, _ = clouds()
    even = np.full(len(a), 1 / len(a))
    assert EnergyDistance(a, a)(even, even) == pytest.approx(0, abs=1e-12)
    assert EnergyDistance(a * 1e-3, a * 1e-3 + 50)(even, even) > 0.999


def test_profile_distance_of_disjoint_profiles_is_one_bit():
    a, b = np.array([[3.0, 1, 0, 0]]), np.array([[0, 0, 2.0, 2]])
    one = np.ones(1)
    assert ProfileDistance(a, b)(one, one) == pytest.approx(1)
    assert ProfileDistance(a, a)(one, one) == pytest.approx(0)


def test_intervals_hold_what_they_promise():
    rng = np.random.default_rng(0)
    means = [mean_interval(rng.normal(2, 1, 50)) for _ in range(600)]
    assert 0.92 < np.mean([low < 2 < high for _, low, high in means]) < 0.98
    shares = [share_interval(rng.binomial(60, 0.1), 60) for _ in range(600)]
    assert 0.92 < np.mean([low < 0.1 < high for low, high in shares]) < 0.985
    assert share_interval(0, 50)[0] == 0
    assert share_interval(50, 50)[1] == pytest.approx(1)
    a, b = clouds()
    value, low, high = with_interval(EnergyDistance(a, b), len(a), len(b), seed=0)
    assert low < value < high
    assert (value, low, high) == with_interval(EnergyDistance(a, b), len(a), len(b), seed=0)


@pytest.mark.parametrize("trees", [True, False])
def test_the_classifier_cannot_tell_the_same_and_tells_others(trees):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(400, 5)), rng.normal(size=(400, 5))
    low, high = area_interval(told_apart(a, b, 0, trees), 400, 400)
    assert low < 0.5 < high + 0.02
    assert told_apart(a, b + 0.7, 0, trees) > 0.75
    assert told_apart(a, b + 5, 0, trees) > 0.99


@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=60),
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=14), min_size=1, max_size=4),
    st.sampled_from([7, 1000]),
)
def test_longest_runs_equal_looking_at_every_substring(training, items, piece):
    text = bytes(training)

    def slow(item):
        return max(
            (n for n in range(1, len(item) + 1) for k in range(len(item) - n + 1) if bytes(item[k : k + n]) in text),
            default=0,
        )

    found = longest_runs(np.asarray(training), [np.asarray(item) for item in items], piece)
    assert list(found) == [slow(item) for item in items]
    place, length = longest_run(np.asarray(training), np.asarray(items[0]))
    assert length == found[0]
    assert bytes(items[0][place : place + length]) in text
