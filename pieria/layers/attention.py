"""Scaled dot-product attention with fused projections, shared key heads and rotary positions."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def rotary_table(length: int, size: int, base: float = 10_000.0) -> Tensor:
    """Cosines and signed sines ``[2, length, 1, 2, size / 2]`` that turn pairs of features by position · frequency.

    Feature i is paired with feature i + size / 2 and turned by position · base^(-2i / size), so that a product of a query
    and a key depends on their distance alone (Su et al. 2021, arXiv 2104.09864).
    """
    frequency = base ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency  # [length, size / 2]
    cosine = torch.stack([angle.cos(), angle.cos()], dim=1)
    sine = torch.stack([-angle.sin(), angle.sin()], dim=1)
    return torch.stack([cosine, sine])[:, :, None].float()


def rotate(heads: Tensor, table: Tensor) -> Tensor:
    """Turn ``[..., time, head, size]`` by the rows of a table ``[2, time, 1, 2, size / 2]`` that `rotary_table` made."""
    pairs = heads.unflatten(-1, (2, -1))  # [..., time, head, 2, size / 2]
    return torch.addcmul(pairs * table[0], pairs.flip(-2), table[1]).flatten(-2)


class Attention(nn.Module):
    """Each place looks at the places before it (or at all, if not ``causal``) and takes what it finds there.

    softmax(q kᵀ / √size) v with ``heads`` queries a place, which share ``key_heads`` keys and values in equal groups
    (Vaswani et al. 2017, arXiv 1706.03762; Ainslie et al. 2023, arXiv 2305.13245). With ``unit_queries``, queries and keys
    are brought to root-mean-square 1 before, which bounds the odds (Henry et al. 2020, arXiv 2010.04245).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        key_heads: int | None = None,
        *,
        bias: bool = False,
        dropout: float = 0.0,
        unit_queries: bool = False,
        causal: bool = True,
    ) -> None:
        super().__init__()
        self.heads, self.key_heads, self.size = heads, key_heads or heads, width // heads
        self.dropout, self.unit_queries, self.causal = dropout, unit_queries, causal
        # one matrix for queries, keys and values: one large product is faster than three small ones
        self.project = nn.Linear(width, (heads + 2 * self.key_heads) * self.size, bias=bias)
        self.output = nn.Linear(heads * self.size, width, bias=bias)

    def heads_of(self, projected: Tensor, table: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values ``[..., time, head, size]`` from what ``project`` gave, turned by their positions."""
        each = projected.view(*projected.shape[:-1], -1, self.size)
        if table is None and not self.unit_queries:
            queries, keys, values = each.split_with_sizes((self.heads, self.key_heads, self.key_heads), dim=-2)
            return queries, keys, values
        turned, values = each.split_with_sizes((self.heads + self.key_heads, self.key_heads), dim=-2)
        if self.unit_queries:
            turned = functional.rms_norm(turned, (self.size,), eps=1e-6)
        if table is not None:
            turned = rotate(turned, table.to(turned.dtype))
        queries, keys = turned.split_with_sizes((self.heads, self.key_heads), dim=-2)
        return queries, keys, values

    def forward(self, x: Tensor, table: Tensor | None = None) -> Tensor:
        """``[batch, time, width]`` to the same shape; ``table`` holds the rotary rows of these places."""
        # each [batch, head, time, size]
        queries, keys, values = (heads.transpose(1, 2) for heads in self.heads_of(self.project(x), table))
        dropout = self.dropout if self.training else 0.0
        if queries.dtype == torch.bfloat16 and queries.device.type == "cpu" and not dropout:
            found = self._by_products(queries, keys, values)
        else:
            found = functional.scaled_dot_product_attention(
                queries,
                keys,
                values,
                dropout_p=dropout,
                is_causal=self.causal,
                enable_gqa=self.key_heads != self.heads,
            )
        return self.output(found.transpose(1, 2).flatten(2))

    def _by_products(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attention as two batched products: on CPUs torch's fused backward in bfloat16 takes two to four times as long."""
        n, time = queries.shape[0], queries.shape[2]
        groups = self.heads // self.key_heads
        if groups > 1:
            keys, values = (each.repeat_interleave(groups, dim=1) for each in (keys, values))
        keys, values = keys.flatten(0, 1), values.flatten(0, 1)
        mask = queries.new_zeros(time, time)
        if self.causal:
            mask = torch.full_like(mask, -torch.inf).triu(1)
        odds = torch.baddbmm(mask, queries.flatten(0, 1), keys.transpose(1, 2), alpha=self.size**-0.5)
        return torch.bmm(odds.softmax(dim=-1), values).unflatten(0, (n, self.heads))

    def maps(self, x: Tensor, table: Tensor | None = None) -> Tensor:
        """The attention weights ``[batch, head, time, time]``: row t says where place t looks; rows sum to 1."""
        queries, keys, _ = self.heads_of(self.project(x), table)
        keys = keys.repeat_interleave(self.heads // self.key_heads, dim=-2)
        odds = torch.einsum("bthd,bshd->bhts", queries, keys) / self.size**0.5
        if self.causal:
            later = torch.ones(odds.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
            odds = odds.masked_fill(later, -torch.inf)
        return odds.softmax(dim=-1)
