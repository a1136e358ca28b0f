"""The scan equals one step after the other, forwards and backwards, however time is cut."""

import pytest
import torch

from pieria.layers import scan as scanning
from pieria.layers.scan import gated_scan, run

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def numbers(batch, time, width, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, time, width), (batch, time, width), (batch, width)]
    return [torch.randn(shape, dtype=dtype, generator=generator).requires_grad_() for shape in shapes]


def one_by_one(a, b, start, backwards=False):
    states, h = [], start
    steps = list(zip(a.unbind(1), b.unbind(1), strict=True))
    for factor, term in reversed(steps) if backwards else steps:
        h = factor * h + term
        states.append(h)
    return torch.stack(states[::-1] if backwards else states, dim=1)


def gated_one_by_one(odds, values, start):
    takes = torch.sigmoid(odds)
    return one_by_one(1 - takes, takes * values, start)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("time", [1, 2, 3, 7, 31, 32, 33, 100, 257, 4096])
def test_it_equals_steps_and_so_do_its_gradients(time, dtype):
    given = numbers(2, time, 3, dtype)
    weights = torch.randn(2, time, 3, dtype=dtype, generator=torch.Generator().manual_seed(1))
    found, wanted = gated_scan(*given), gated_one_by_one(*given)
    torch.testing.assert_close(found, wanted, rtol=0, atol=TOLERANCE[dtype] * float(wanted.detach().abs().max()))
    ours = torch.autograd.grad((found * weights).sum(), given)
    theirs = torch.autograd.grad((wanted * weights).sum(), given)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=TOLERANCE[dtype] * float(other.abs().max()))


@pytest.mark.parametrize("way", ["stepped", "doubled"])
@pytest.mark.parametrize("time", [1, 2, 5, 64, 101])
def test_every_way_of_computing_it_agrees(way, time, monkeypatch):
    given = numbers(2, time, 3, torch.float64)
    chunked = torch.autograd.grad(gated_scan(*given).square().sum(), given)

    def other(a, b, start, *, backwards=False, out=None):
        return getattr(scanning, f"_{way}")(a, b, start, backwards, out)

    monkeypatch.setattr(scanning, "run", other)
    for one, two in zip(chunked, torch.autograd.grad(gated_scan(*given).square().sum(), given), strict=True):
        torch.testing.assert_close(one, two)


@torch.no_grad()
@pytest.mark.parametrize("backwards", [False, True])
def test_large_steps_are_taken_one_by_one(backwards):
    given = numbers(16, 20, 300, torch.float64)
    torch.testing.assert_close(run(*given, backwards=backwards), one_by_one(*given, backwards))


@torch.no_grad()
@pytest.mark.parametrize("backwards", [False, True])
def test_any_factors_will_do(backwards):
    """Zero forgets everything, one keeps it for ever, minus one alternates; none of them may end in NaN."""
    for factor in (0.0, 1.0, -1.0):
        a, b, start = torch.full((1, 500, 2), factor), torch.ones(1, 500, 2), torch.ones(1, 2)
        torch.testing.assert_close(run(a, b, start, backwards=backwards), one_by_one(a, b, start, backwards))


@torch.no_grad()
def test_slices_of_larger_tensors_are_read_where_they_lie_and_written_where_asked():
    large = torch.rand(3, 50, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kept = large.clone()
    a, b, start = large[:, 2:45, :4], large[:, :43, 5:], large[:, 0, :4]
    wanted = one_by_one(a, b, start)
    torch.testing.assert_close(run(a, b, start), wanted)
    assert torch.equal(large, kept)
    run(a, b, start.clone(), out=b)
    torch.testing.assert_close(large[:, :43, 5:], wanted)
    assert torch.equal(large[:, 43:], kept[:, 43:])
