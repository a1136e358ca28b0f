import pytest
import torch

from pieria.latent import moving
from pieria.noise import ItemNoise

ZERO, ONE = torch.zeros(64), torch.ones(64)


def pair():
    return ItemNoise(0, 2).normal("z", (64,))


@pytest.mark.parametrize("steps", [2, 3, 9])
def test_both_paths_begin_and_end_where_they_should(steps):
    first, second = pair()
    for path in (moving.linear(first, second, steps), moving.spherical(first, second, steps, ZERO, ONE)):
        assert path.shape == (steps, 64)
        assert torch.equal(path[0], first)
        assert torch.equal(path[-1], second)


def test_a_sphere_keeps_the_length_that_a_line_loses():
    first, second = pair()
    lengths = torch.stack([first, second]).norm(dim=1)
    assert float(moving.linear(first, second, 3)[1].norm()) < 0.8 * float(lengths.min())
    round_path = moving.spherical(first, second, 11, ZERO, ONE)
    assert torch.allclose(round_path.norm(dim=1), torch.linspace(float(lengths[0]), float(lengths[1]), 11), atol=1e-4)
    turned = torch.nn.functional.cosine_similarity(round_path[:-1], round_path[1:])
    assert float(turned.max() - turned.min()) < 1e-5  # even steps


def test_a_sphere_around_another_centre_is_the_same_path_moved():
    first, second = pair()
    plain = moving.spherical(first, second, 5, ZERO, ONE)
    moved = moving.spherical(3 + 2 * first, 3 + 2 * second, 5, 3 * ONE, 2 * ONE)
    assert torch.allclose(moved, 3 + 2 * plain, atol=1e-4)


@pytest.mark.parametrize("second", [torch.zeros(64), -pair()[0], 2 * pair()[0]])
def test_without_one_great_circle_the_way_is_straight(second):
    first = pair()[0]
    assert torch.allclose(moving.spherical(first, second, 4, ZERO, ONE), moving.linear(first, second, 4), atol=1e-5)


def test_a_walk_is_closed_smooth_and_distributed_as_the_draws():
    draws = ItemNoise(3, 6).normal("z", (20_000,))
    walk = moving.loop(draws, 50, torch.zeros(20_000))
    assert walk.std(dim=1).sub(1).abs().max() < 0.03  # at every moment a standard Gaussian
    steps = torch.cat([walk, walk[:1]]).diff(dim=0).norm(dim=1)
    assert float(steps[-1]) < 2 * float(steps.median())  # the last step, back to the beginning, is one as any other
    assert float(steps.max()) < 0.35 * float(walk.norm(dim=1).mean())
