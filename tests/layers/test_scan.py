"""The scan equals one step after the other, forwards and backwards, however time is cut."""

import pytest
import torch

from pieria.layers import scan as scanning
from pieria.layers.scan import scan

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def one_by_one(factors, terms, start):
    states, h = [], torch.zeros_like(terms[:, 0]) if start is None else start
    for factor, term in zip(factors.unbind(1), terms.unbind(1), strict=True):
        h = factor * h + term
        states.append(h)
    return torch.stack(states, dim=1)


def numbers(batch, time, width, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    factors = torch.rand(batch, time, width, dtype=dtype, generator=generator)
    terms = torch.randn(batch, time, width, dtype=dtype, generator=generator)
    start = torch.randn(batch, width, dtype=dtype, generator=generator)
    return [tensor.requires_grad_() for tensor in (factors, terms, start)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("time", [1, 2, 3, 7, 31, 32, 33, 100, 257, 4096])
def test_it_equals_steps_and_so_do_its_gradients(time, dtype):
    given = numbers(2, time, 3, dtype)
    weights = torch.randn(2, time, 3, dtype=dtype, generator=torch.Generator().manual_seed(1))
    found, wanted = scan(*given), one_by_one(*given)
    torch.testing.assert_close(found, wanted, rtol=0, atol=TOLERANCE[dtype] * float(wanted.detach().abs().max()))
    ours = torch.autograd.grad((found * weights).sum(), given)
    theirs = torch.autograd.grad((wanted * weights).sum(), given)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=TOLERANCE[dtype] * float(other.abs().max()))


@pytest.mark.parametrize("way", ["stepped", "doubled"])
@pytest.mark.parametrize("time", [1, 2, 5, 64, 101])
def test_every_way_of_computing_it_agrees(way, time, monkeypatch):
    given = numbers(2, time, 3, torch.float64)
    chunked = torch.autograd.grad(scan(*given).square().sum(), given)

    def other(a, b, start, *, backwards=False, out=None):
        return getattr(scanning, f"_{way}")(a, b, start, backwards, torch.empty_like(b) if out is None else out)

    monkeypatch.setattr(scanning, "run", other)
    for one, two in zip(chunked, torch.autograd.grad(scan(*given).square().sum(), given), strict=True):
        torch.testing.assert_close(one, two)


def test_large_steps_are_taken_one_by_one():
    given = numbers(16, 20, 300, torch.float64)
    torch.testing.assert_close(scan(*given), one_by_one(*given))


def test_any_factors_will_do():
    """Zero forgets everything, one keeps it for ever, minus one alternates; none of them may end in NaN."""
    for factor in (0.0, 1.0, -1.0):
        factors = torch.full((1, 500, 2), factor, requires_grad=True)
        terms = torch.ones(1, 500, 2)
        found = scan(factors, terms)
        torch.testing.assert_close(found, one_by_one(factors, terms, None))
        found.sum().backward()
        assert torch.isfinite(factors.grad).all()


def test_slices_of_larger_tensors_are_read_where_they_lie():
    large = torch.rand(3, 50, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    factors, terms = large[:, 2:45, :4], large[:, :43, 5:]
    kept = large.clone()
    torch.testing.assert_close(scan(factors, terms, large[:, 0, :4]), one_by_one(factors, terms, large[:, 0, :4]))
    assert torch.equal(large, kept)
