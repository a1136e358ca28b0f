"""Attention from one sequence to another, and over sequences of different lengths that are padded to one."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pieria.layers.attention import Attention
from pieria.layers.dropout import dropout


def attend(queries: Tensor, keys: Tensor, values: Tensor, real: Tensor | None = None, share: float = 0.0) -> Tensor:
    """What each query finds: softmax(q kᵀ / √size) v over the keys that are real, ``[batch, head, time, size]``.

    Args:
        queries: ``[batch, head, time, size]``.
        keys, values: ``[batch, head, source, size]``.
        real: bool ``[batch, source]``: which keys may be looked at, at least one a row; None means all.
        share: of the looks, that is left out at random (dropout).
    """
    if queries.dtype != torch.bfloat16 or queries.device.type != "cpu":
        mask = None if real is None else real[:, None, None]
        return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=share)
    # two batched products: on CPUs torch's fused backward in bfloat16 takes two to four times as long
    n, heads, _, size = queries.shape
    away = queries.new_zeros(n, 1, keys.shape[2])
    if real is not None:
        away = away.masked_fill(~real[:, None], -torch.inf)
    away = away.repeat_interleave(heads, dim=0)
    odds = torch.baddbmm(away, queries.flatten(0, 1), keys.flatten(0, 1).transpose(1, 2), alpha=size**-0.5)
    return torch.bmm(dropout(odds.softmax(dim=-1), share), values.flatten(0, 1)).unflatten(0, (n, heads))


def looks(queries: Tensor, keys: Tensor, real: Tensor | None = None) -> Tensor:
    """The attention weights by which `attend` sums the values, ``[batch, head, time, source]``; rows sum to 1."""
    odds = queries @ keys.transpose(2, 3) * queries.shape[3] ** -0.5
    if real is not None:
        odds = odds.masked_fill(~real[:, None, None], -torch.inf)
    return odds.softmax(dim=-1)


def among_real(look: Attention, x: Tensor, real: Tensor | None, table: Tensor | None = None) -> Tensor:
    """``look`` at all of ``x`` (``[batch, time, width]``), before and behind, but not at padding."""
    queries, keys, values = (each.transpose(1, 2) for each in look.heads_of(look.project(x), table))
    found: Tensor = look.output(attend(queries, keys, values, real).transpose(1, 2).flatten(2))
    return found


class CrossAttention(nn.Module):
    """Each place of one sequence looks at all places of another one, the memory (Vaswani et al. 2017, section 3.2.3).

    Keys and values depend on the memory alone, so a decoder computes them once, with `pairs`. There are no positions here:
    those of the memory are in its vectors.
    """

    def __init__(self, width: int, heads: int, *, bias: bool = False, unit_queries: bool = False) -> None:
        super().__init__()
        self.heads, self.size, self.unit_queries = heads, width // heads, unit_queries
        self.ask = nn.Linear(width, width, bias=bias)
        self.offer = nn.Linear(width, 2 * width, bias=bias)
        self.output = nn.Linear(width, width, bias=bias)

    def pairs(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values ``[batch, head, source, size]`` of a memory ``[batch, source, width]``."""
        keys, values = self.offer(memory).unflatten(-1, (2, self.heads, self.size)).unbind(-3)
        return self._unit(keys).transpose(1, 2), values.transpose(1, 2)

    def _unit(self, heads: Tensor) -> Tensor:
        return functional.rms_norm(heads, (self.size,), eps=1e-6) if self.unit_queries else heads

    def queries(self, x: Tensor) -> Tensor:
        """``[batch, time, width]`` to ``[batch, head, time, size]``."""
        return self._unit(self.ask(x).unflatten(-1, (self.heads, self.size))).transpose(1, 2)

    def forward(self, x: Tensor, pairs: tuple[Tensor, Tensor], real: Tensor | None = None) -> Tensor:
        """``[batch, time, width]`` to the same shape; ``real`` (bool ``[batch, source]``) leaves padding out."""
        found: Tensor = self.output(attend(self.queries(x), *pairs, real).transpose(1, 2).flatten(2))
        return found

    def maps(self, x: Tensor, pairs: tuple[Tensor, Tensor], real: Tensor | None = None) -> Tensor:
        """The attention weights ``[batch, head, time, source]``; rows sum to 1."""
        return looks(self.queries(x), pairs[0], real)
