"""Cross-entropy over the symbols that count."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from pieria.models.contract import Losses

# numbers of a piece of the odds: few enough to stay in a processor's cache while they become probabilities
IN_CACHE = 1 << 18


def symbol_log_prob(logits: Tensor, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Nats of each symbol, ``[batch, time]``: log softmax(logits)[x], and 0 where ``mask`` is False.

    Args:
        logits: ``[batch, time, vocabulary]``, row t being of symbol t.
        x: long ``[batch, time]``.
        mask: bool ``[batch, time]``: what counts; None means everything.
    """
    scores = -functional.cross_entropy(logits.flatten(0, 1), x.flatten(), reduction="none").view_as(x)
    return scores if mask is None else torch.where(mask, scores, scores.new_zeros(()))


def cross_entropy(logits: Tensor, x: Tensor, mask: Tensor | None = None, smoothing: float = 0.0) -> Losses:
    """The mean nats that a scored symbol costs: -1/N Σ log softmax(logits)[x] over the N symbols with ``mask``.

    With ``smoothing`` s, each symbol is learned as (1 - s) of itself and s of a uniform draw; the part "nats" is without it.
    A batch in which nothing counts costs 0.
    """
    flat, wanted = logits.flatten(0, 1), x.flatten()
    if mask is not None:
        # ignore_index leaves symbols out without choosing rows, which would copy the logits
        wanted = wanted.masked_fill(~mask.flatten(), -100)
    count = x.numel() if mask is None else int(mask.sum())
    if not smoothing:
        nats = functional.cross_entropy(flat, wanted, reduction="sum") / max(1, count)
        return Losses(nats, {"nats": nats.detach()}, count=float(count), unit="symbols")
    odds = flat.log_softmax(dim=-1)  # once for both, since the vocabulary makes it dear
    nats = functional.nll_loss(odds, wanted, reduction="sum") / max(1, count)
    each = odds.mean(dim=-1)
    uniform = -(each if mask is None else each * mask.flatten()).sum() / max(1, count)
    loss = (1 - smoothing) * nats + smoothing * uniform
    return Losses(loss, {"nats": nats.detach()}, count=float(count), unit="symbols")


def cross_entropy_of_features(
    features: Tensor, weight: Tensor, bias: Tensor | None, x: Tensor, mask: Tensor | None = None
) -> Losses:
    """`cross_entropy` of the odds ``features @ weight.T + bias``, which are never held in float32.

    With a large vocabulary the odds are the largest tensor of a language model, and going through memory for each operation
    on them costs more than the products. So they become the gradient in place, a piece at a time, while they are at hand (as
    in Hsu et al. 2024, arXiv 2410.10989). Inside `layers.precision.products` the products are in its precision.

    Args:
        features: ``[batch, time, width]``.
        weight: ``[vocabulary, width]``.
        bias: ``[vocabulary]`` or None.
        x: long ``[batch, time]``.
        mask: bool ``[batch, time]``: what counts; None means everything.
    """
    wanted = x.flatten() if mask is None else x.flatten().masked_fill(~mask.flatten(), -100)
    count = x.numel() if mask is None else int(mask.sum())
    nats: Tensor = _OfFeatures.apply(features.flatten(0, 1), weight, bias, wanted) / max(1, count)
    return Losses(nats, {"nats": nats.detach()}, count=float(count), unit="symbols")


class _OfFeatures(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, wanted: Tensor) -> Tensor:
        kind = features.device.type
        if torch.is_autocast_enabled(kind):
            low = torch.get_autocast_dtype(kind)
            features, weight = features.to(low), weight.to(low)

        odds = features @ weight.T
        total = torch.zeros((), dtype=torch.float64 if odds.dtype == torch.float64 else torch.float32, device=odds.device)
        of_bias = None if bias is None else torch.zeros_like(bias)
        rows = max(1, IN_CACHE // odds.shape[1])
        for piece, symbols in zip(odds.split(rows), wanted.split(rows), strict=True):
            found = piece.to(total.dtype) if bias is None else piece + bias  # at least float32, as the bias is
            counts, place = (symbols >= 0)[:, None], symbols.clamp(min=0)[:, None]
            found = found - found.amax(dim=1, keepdim=True)
            there = found.gather(1, place)
            scale = found.exp_().sum(dim=1, keepdim=True)
            total += ((scale.log() - there) * counts).sum()
            gradient = found.mul_(counts / scale).scatter_add_(1, place, -counts.to(found.dtype))
            if of_bias is not None:
                of_bias += gradient.sum(dim=0)
            piece.copy_(gradient)
        ctx.save_for_backward(features, weight, odds, of_bias)
        return total

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        features, weight, odds, of_bias = ctx.saved_tensors
        of_features = (odds @ weight).to(gradient.dtype) * gradient
        of_weight = (odds.T @ features).to(gradient.dtype) * gradient
        return of_features, of_weight, None if of_bias is None else of_bias * gradient, None
