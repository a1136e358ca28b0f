"""Linear recurrences along time, computed many steps at once.

``h_t = a_t h_{t-1} + b_t`` looks as if step t had to wait for step t - 1. But two steps make one of the same kind, so that
time can be cut into chunks that are run side by side from nothing, each with the product of its factors; then only the ends
of the chunks are run one after the other, and what came in is added to every step of a chunk (Blelloch 1990, *Prefix sums
and their applications*; Martin and Cundy 2018, arXiv 1709.04057).

Neither logarithms nor divisions are taken, so that any factors will do, also 0 and negative ones, and nothing over- or
underflows that would not do so step by step. The gradient is the same recurrence run backwards.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# with so many numbers in a step, a step is worth its own operation: chunks would triple what goes through memory
WORTH_A_STEP = 4096


def gated_scan(odds: Tensor, values: Tensor, start: Tensor) -> Tensor:
    """``h_t = (1 - z_t) h_{t-1} + z_t values_t`` with ``z_t = σ(odds_t)``, for all t.

    Args:
        odds: ``[batch, time, width]``; positive where the past is to be forgotten.
        values: the same shape; float32 or float64, as the odds.
        start: ``[batch, width]``, what stood before the first step.

    Returns:
        ``[batch, time, width]``. Differentiable once, in all three.
    """
    found: Tensor = _GatedScan.apply(odds, values, start)
    return found


class _GatedScan(torch.autograd.Function):
    """One function and not six, since each new tensor of some megabytes costs as much as the arithmetic on it."""

    @staticmethod
    def forward(ctx: Any, odds: Tensor, values: Tensor, start: Tensor) -> Tensor:
        takes = torch.sigmoid(odds)
        h = takes * values
        keeps = 1 - takes
        run(keeps, h, start, out=h)
        ctx.save_for_backward(takes, keeps, values, h, start)
        return h

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        takes, keeps, values, h, start = ctx.saved_tensors
        # what h_t is worth: its own gradient, and what it passes on to h_{t+1}
        worth = torch.empty_like(h)
        worth[:, -1] = gradient[:, -1]
        if h.shape[1] > 1:
            run(keeps[:, 1:], gradient[:, :-1], gradient[:, -1], backwards=True, out=worth[:, :-1])
        of_start = keeps[:, 0] * worth[:, 0]
        of_values = worth.mul_(takes)
        of_odds = torch.empty_like(h)
        torch.sub(values[:, 1:], h[:, :-1], out=of_odds[:, 1:])
        torch.sub(values[:, 0], start, out=of_odds[:, 0])
        return of_odds.mul_(of_values).mul_(keeps), of_values, of_start


def run(a: Tensor, b: Tensor, start: Tensor, *, backwards: bool = False, out: Tensor | None = None) -> Tensor:
    """``h_t = a_t h_{t-1} + b_t`` from ``h_0 = start``, for any factors, without a gradient.

    Args:
        a: ``[batch, time, width]``.
        b: the same shape.
        start: ``[batch, width]``.
        backwards: begin at the last step and go to the first, ``h_t = a_t h_{t+1} + b_t``.
        out: where the states are written; it may be ``b``.
    """
    out = torch.empty_like(b, memory_format=torch.contiguous_format) if out is None else out
    batch, time, width = b.shape
    if b.device.type != "cpu":
        return _doubled(a, b, start, backwards, out)
    length = round((time / 2) ** 0.5)  # two operations a step of a chunk, one a chunk
    if batch * width >= WORTH_A_STEP or length < 4:
        return _stepped(a, b, start, backwards, out)
    count = time // length
    whole, rest = slice(0, count * length), slice(count * length, time)
    if backwards:
        whole, rest = slice(time - count * length, time), slice(0, time - count * length)
    pieces = [tensor[:, whole].unflatten(1, (count, length)) for tensor in (a, b, out)]
    products = torch.empty(batch, count, length, width, dtype=a.dtype)
    chunk_a, chunk_b, chunk_h = (piece.unbind(2) for piece in pieces)
    chunk_p = products.unbind(2)
    order = range(length - 1, -1, -1) if backwards else range(length)
    first = order[0]
    chunk_h[first].copy_(chunk_b[first])
    chunk_p[first].copy_(chunk_a[first])
    for before, place in pairwise(order):
        torch.addcmul(chunk_b[place], chunk_a[place], chunk_h[before], out=chunk_h[place])
        torch.mul(chunk_p[before], chunk_a[place], out=chunk_p[place])
    last = order[-1]
    # the state before each chunk, and after the last one
    ends = torch.empty(batch, count + 1, width, dtype=b.dtype)
    _stepped(chunk_p[last], chunk_h[last], start, backwards, ends[:, :-1] if backwards else ends[:, 1:])
    ends[:, -1 if backwards else 0] = start
    came_in = ends[:, 1:] if backwards else ends[:, :-1]
    pieces[2].addcmul_(products, came_in[:, :, None])
    if rest.start != rest.stop:
        _stepped(a[:, rest], b[:, rest], ends[:, 0 if backwards else -1], backwards, out[:, rest])
    return out


def _stepped(a: Tensor, b: Tensor, start: Tensor, backwards: bool, out: Tensor) -> Tensor:
    """One step after the other, in place."""
    steps = list(zip(a.unbind(1), b.unbind(1), out.unbind(1), strict=True))
    h = start
    for factor, term, place in reversed(steps) if backwards else steps:
        h = torch.addcmul(term, factor, h, out=place)
    return out


def _doubled(a: Tensor, b: Tensor, start: Tensor, backwards: bool, out: Tensor) -> Tensor:
    """Spans of 1, 2, 4 … steps, all at once: more work in few large operations (Hillis and Steele 1986), for GPUs."""
    if backwards:
        return out.copy_(_doubled(a.flip(1), b.flip(1), start, False, torch.empty_like(b)).flip(1))
    b = torch.cat([(b[:, 0] + a[:, 0] * start)[:, None], b[:, 1:]], dim=1)
    span = 1
    while span < b.shape[1]:
        b = torch.cat([b[:, :span], torch.addcmul(b[:, span:], a[:, span:], b[:, :-span])], dim=1)
        a = torch.cat([a[:, :span], a[:, span:] * a[:, :-span]], dim=1)
        span *= 2
    return out.copy_(b)
