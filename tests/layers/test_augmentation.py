"""Augmentation by small changes of every picture, and the strength that follows the discriminator."""

import pytest
import torch

from pieria.layers.augmentation import ADAPT_EVERY, _Draws, _shifted, _without_square, adapt, differentiable, notice
from pieria.noise import StepNoise


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 9, 14), (5, 7, 4)])
def test_every_picture_is_changed_a_little_with_a_gradient_and_none_without_strength(shape):
    picture = torch.rand(16, *shape) * 2 - 1
    noise = StepNoise(0, 0, "judge", 16)
    assert differentiable(picture, 0.0, noise, "real") is picture
    picture.requires_grad_(True)
    changed = differentiable(picture, 1.0, noise, "real")
    assert changed.shape == picture.shape
    assert ((changed - picture).abs().amax((1, 2, 3)) > 0.01).all()
    assert torch.equal(changed, differentiable(picture, 1.0, noise, "real"))
    assert not torch.equal(changed, differentiable(picture, 1.0, noise, "made"))
    changed.square().sum().backward()
    assert (picture.grad.abs().amax((1, 2, 3)) > 0).all()


def test_without_colours_cells_are_moved_or_cut_out_and_nothing_else():
    picture = 1 + torch.arange(10 * 10).reshape(1, 1, 10, 10).float().expand(40, -1, -1, -1)
    changed = differentiable(picture, 1.0, StepNoise(0, 0, "judge", 40), "real", colours=False)
    for item in changed[:, 0]:
        kept = item[item > 0]
        assert set(kept.tolist()) <= set(picture[0].flatten().tolist())
        assert len(kept.unique()) == len(kept)  # no cell twice
        assert len(kept) >= 100 - 25 - 19  # a square of 5 × 5, one line and one column
        down, across = torch.nonzero(item > 0).T
        moved = (kept - 1 - 10 * down - across).unique()
        assert len(moved) == 1  # all of them by as much
        assert moved.abs() <= 11
    assert len({tuple(item.flatten().tolist()) for item in changed}) > 20


def test_strength_rises_while_the_discriminator_is_sure_and_falls_otherwise():
    strength, signs = torch.zeros(()), torch.zeros(3)
    seen = []
    for scores in (torch.ones(8), torch.tensor([1.0, -1.0] * 4), torch.ones(8)):
        for _ in range(ADAPT_EVERY * 2):
            notice(signs, scores)
            adapt(strength, signs, target=0.6, items=100)
        seen.append(float(strength))
    assert seen == pytest.approx([0.64, 0.0, 0.64])
    for _ in range(ADAPT_EVERY * 4):
        notice(signs, torch.ones(8))
        adapt(strength, signs, target=0.6, items=100)
    assert float(strength) == 1.0


@pytest.mark.parametrize(("side", "moved", "cut"), [(4, 1, 2), (5, 1, 3), (20, 3, 10), (28, 4, 14)])
def test_half_a_cell_is_rounded_up_as_in_the_paper(side, moved, cut):
    picture, draws = torch.ones(200, 1, side, side), _Draws(StepNoise(0, 0, "judge", 200), "real", 1.0, torch.ones(1))
    lines = (_shifted(picture, 1.0, draws) == 0).all(dim=3).sum(dim=(1, 2))
    cells = (_without_square(picture, 1.0, draws) == 0).sum(dim=(1, 2, 3))
    assert (int(lines.max()), int(cells.max())) == (moved, cut**2)
