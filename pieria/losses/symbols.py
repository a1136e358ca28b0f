"""Cross-entropy over the symbols that count."""

import torch
from torch import Tensor
from torch.nn import functional

from pieria.models.contract import Losses


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
