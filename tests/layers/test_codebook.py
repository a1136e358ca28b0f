"""Code books: the nearest vector, running means, revival, residual levels; odds that learn by gradient."""

import pytest
import torch

from pieria.layers.code_grids import Grow, Shrink, sizes
from pieria.layers.codebook import CodeBook, SoftCodeBook, perplexity
from pieria.noise import StepNoise


def points(n=400, clusters=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = 4 * torch.randn(clusters, 3, generator=generator)
    return centres[torch.arange(n) % clusters] + 0.05 * torch.randn(n, 3, generator=generator), centres


def learned(book, x, steps):
    for step in range(steps):
        book.learn(x.view(20, -1, 3), StepNoise(0, step, "", 20))
        book.update()
    return book


def apart(book, x):
    return float((book.look_up(book.codes(x)) - x).square().sum(dim=1).mean())


def test_running_means_find_the_clusters_whatever_they_start_from():
    x, _ = points()
    book = learned(CodeBook(16, 3, 1, decay=0.9, revive=0.1), x, 60)
    assert apart(book, x) < 0.02 * float(x.var(dim=0).sum())
    assert float(book.used()) > 8
    lazy = CodeBook(8, 3, 1, decay=0.9, revive=0.0)
    lazy.vectors[0, 1:] = lazy.sums[0, 1:] = 100.0  # without revival these are never chosen again
    assert float(learned(lazy, x, 60).used()) == pytest.approx(1, abs=0.05)


def test_k_means_starts_it_at_the_features():
    x, _ = points()
    book = CodeBook(16, 3, 1, decay=0.9, revive=0.1)
    before = apart(book, x)
    book.begin(x, StepNoise(0, 0, "", 1))
    assert apart(book, x) < 0.2 * before
    few = CodeBook(16, 3, 2, decay=0.9, revive=0.1)
    few.begin(x[:3], StepNoise(0, 0, "", 1))  # fewer features than vectors
    assert torch.isfinite(few.vectors).all()
    assert apart(few, x[:3]) < 1e-8


def test_each_level_names_what_is_left():
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(1))
    errors = []
    for depth in (1, 2, 3):
        book = CodeBook(8, 3, depth, decay=0.9, revive=0.1)
        book.begin(x, StepNoise(0, 0, "", 1))
        errors.append(apart(learned(book, x, 30), x))
        assert book.codes(x).shape == (400, depth)
    assert errors[2] < 0.7 * errors[1] < 0.5 * errors[0]


def test_the_gradient_passes_through_and_the_distance_draws_the_features():
    book = CodeBook(4, 3, 2, decay=0.9, revive=0.0)
    x = torch.randn(2, 5, 3, requires_grad=True)
    chosen, kept = book.learn(x, StepNoise(0, 0, "", 2))
    assert torch.allclose(chosen, book.look_up(book.codes(x)), atol=1e-6)
    (straight,) = torch.autograd.grad((2 * chosen).sum(), x, retain_graph=True)
    assert torch.equal(straight, torch.full_like(x, 2.0))
    first = book.vectors[0][book.codes(x)[..., 0]]
    wanted = ((x - first) + (x - chosen.detach())) / x.numel()  # two levels, averaged
    assert torch.allclose(torch.autograd.grad(kept, x)[0], wanted, atol=1e-6)


def test_parts_of_a_batch_teach_as_the_whole():
    x, _ = points(400)
    whole, parts = (CodeBook(8, 3, 1, decay=0.9, revive=0.0) for _ in range(2))
    parts.load_state_dict(whole.state_dict())
    whole.learn(x.view(20, 20, 3), StepNoise(0, 0, "", 20))
    for half in x.view(2, 10, 20, 3):
        parts.learn(half, StepNoise(0, 0, "", 10))
    whole.update()
    parts.update()
    assert torch.allclose(whole.vectors, parts.vectors, atol=1e-5)
    assert torch.allclose(whole.counts, parts.counts, atol=1e-5)


def test_soft_choices_are_hard_forwards_and_learn_by_gradient():
    book = SoftCodeBook(5, 3, decay=0.9, cooling=10.0)
    odds = torch.randn(4, 6, 5, requires_grad=True)
    chosen, told = book.learn(odds, StepNoise(0, 0, "", 4))
    assert (torch.cdist(chosen.flatten(0, 1), book.vectors).min(dim=1).values < 1e-5).all()
    assert 0 <= float(told.detach()) <= torch.log(torch.tensor(5.0))
    slope, move = torch.autograd.grad(chosen.square().sum(), [odds, book.vectors])
    assert slope.abs().sum() > 0
    assert move.abs().sum() > 0
    book.update()
    assert int(book.steps) == 1
    assert book.codes(odds).shape == (4, 6, 1)


def test_perplexity_counts_codes():
    assert float(perplexity(torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]))) == pytest.approx(3)


@pytest.mark.parametrize(("height", "width", "halvings"), [(28, 28, 2), (7, 10, 1), (5, 5, 0), (33, 18, 3)])
def test_fields_shrink_and_grow_back(height, width, halvings):
    x = torch.randn(2, 3, height, width)
    field = Shrink(3, 5, 8, halvings, 1)(x)
    assert field.shape == (2, 5, *sizes(height, width, halvings)[-1])
    assert Grow(5, 4, height, width, 8, halvings, 1)(field).shape == (2, 4, height, width)
