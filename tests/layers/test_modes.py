"""Which kinds of thing a set of made items leaves out."""

import pytest
import torch

from pieria.layers.modes import left_out, small_pictures

CENTRES = 10 * torch.randn(25, 6, generator=torch.Generator().manual_seed(1))


def drawn(places: list[int], n: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.tensor(places)[torch.randint(len(places), (n,), generator=generator)]
    return CENTRES[chosen] + 0.1 * torch.randn(n, 6, generator=generator)


def test_one_law_leaves_nothing_out_and_a_collapsed_one_nearly_all():
    real = drawn(list(range(25)), 500, 0)
    share, clusters, covered = left_out(real, drawn(list(range(25)), 500, 2))
    assert (share, clusters, covered) == (0.0, 25, 25)
    share, clusters, covered = left_out(real, drawn([3], 500, 2))
    assert share > 0.9
    assert (clusters, covered) == (25, 1)
    share, _, covered = left_out(real, drawn(list(range(10)), 500, 2))
    assert share == pytest.approx(0.6, abs=0.1)
    assert covered == 10


def test_a_kind_that_is_made_too_seldom_is_left_out():
    real = drawn(list(range(25)), 500, 0)
    made = torch.cat([drawn(list(range(1, 25)), 495, 2), drawn([0], 1, 3)])
    share, _, covered = left_out(real, made)
    assert covered == 24
    assert share == pytest.approx(0.04, abs=0.03)


def test_few_points_have_few_clusters_and_looks_agree():
    real = torch.randn(7, 3)
    assert left_out(real, real)[:1] == (0.0,)
    assert left_out(real, real.flip(0)) == left_out(real, real)
    same = torch.zeros(30, 2)
    assert left_out(same, same) == (0.0, 1, 1)


def test_large_pictures_are_averaged_down():
    assert small_pictures(torch.randn(2, 3, 64, 20)).shape == (2, 3 * 16 * 16)
    picture = torch.randn(2, 1, 5, 30)
    assert small_pictures(picture[..., :9]).shape == (2, 45)
    torch.testing.assert_close(small_pictures(picture[..., :9]), picture[..., :9].flatten(1))
