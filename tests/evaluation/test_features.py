"""The feature network orders pictures by how bad they are, and any grid can be shown to it."""

import hashlib

import numpy as np
import pytest
import torch
from torch.nn import functional

from pieria.evaluation.distances import frechet, kernel_distance, prdc
from pieria.evaluation.features import WEIGHTS, as_pictures, network, picture_features
from pieria.forms import Grid
from tests.evaluation.small import digits


@pytest.fixture(scope="module")
def real():
    data = digits()
    return data.form, data.examples("train").x, data.examples("test"), data.examples("validation").x


def distance(form, held, x):
    return frechet(picture_features(held, form), picture_features(x, form))


def test_its_name_carries_the_hash_of_its_weights():
    assert network()[1].split() == ["pieria-c1", hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:8]]
    assert WEIGHTS.stat().st_size < 300_000


def test_worse_pictures_lie_farther_away(real):
    form, training, test, other = real
    held = test.x
    generator = torch.Generator().manual_seed(0)
    flips = torch.rand(other.shape, generator=generator)
    random = torch.randint(0, 17, other.shape, generator=generator)
    soft = functional.avg_pool2d(other.float(), 3, stride=1, padding=1).round().long()
    order = [
        distance(form, held, other),
        distance(form, held, torch.where(flips < 0.05, random, other)),
        distance(form, held, torch.where(flips < 0.15, random, other)),
        distance(form, held, torch.where(flips < 0.4, random, other)),
        distance(form, held, random),
    ]
    assert order == sorted(order)
    assert order[1] > 1.5 * order[0]
    assert distance(form, held, soft) > 3 * order[0]
    # half of the classes are missing: quality is perfect, so only recall and coverage should suffer
    classes = digits().examples("validation").conditions
    few = other[classes < 5]
    assert distance(form, held, few) > 1.5 * distance(form, held, other[: len(few)])
    full, dropped = (prdc(picture_features(held, form), picture_features(x, form)) for x in (other[: len(few)], few))
    assert dropped["coverage"] < 0.8 * full["coverage"]
    assert dropped["precision"] > 0.8 * full["precision"]
    assert training.shape[1:] == other.shape[1:]


def test_kernel_distance_sees_the_same_order(real):
    form, _, test, other = real
    held = picture_features(test.x, form)
    noise = torch.randint(0, 17, other.shape, generator=torch.Generator().manual_seed(0))
    assert kernel_distance(held, picture_features(other, form)) < kernel_distance(held, picture_features(noise, form)) / 10


@pytest.mark.parametrize(
    "form",
    [
        Grid(1, 8, 8, levels=2),
        Grid(3, 64, 48, levels=256),
        Grid(2, 16, 40, levels=None),
        Grid(5, 32, 32, levels=256),
        Grid(1, 14, 28, levels=12, ordered=False),
    ],
)
def test_any_grid_can_be_shown(form):
    generator = torch.Generator().manual_seed(0)
    if form.levels is None:
        x = torch.rand((4, *form.shape), generator=generator) * 2 - 1
    else:
        x = torch.randint(0, form.levels, (4, *form.shape), generator=generator)
    shown = as_pictures(x, form)
    assert shown.shape == (4, 3, 32, 32)
    assert float(shown.abs().max()) <= 1 + 1e-5
    features = picture_features(x, form)
    assert np.isfinite(features).all()
    assert features.std(axis=0).max() > 0
    assert np.allclose(features[:2], picture_features(x[:2], form), atol=1e-6)
