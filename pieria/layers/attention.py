"""Scaled dot-product attention with fused projections, shared key heads, rotary positions and sliding windows."""

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from pieria.layers.dropout import dropout


def check_heads(width: int, heads: int, *, rotary: bool) -> None:
    """Raise `ValueError` unless ``width`` features can be shared by so many heads, evenly where pairs of them are turned."""
    if width % heads:
        raise ValueError(f"width {width} is not a multiple of heads {heads}")
    if rotary and (width // heads) % 2:
        raise ValueError(f"rotary positions need an even number of features a head, not {width // heads}")


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


def rotate(heads: Tensor, table: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Turn ``[..., time, head, size]`` by the rows of a table ``[2, time, 1, 2, size / 2]`` that `rotary_table` made."""
    pairs = heads.unflatten(-1, (2, -1))  # [..., time, head, 2, size / 2]
    return torch.addcmul(pairs * table[0], pairs.flip(-2), table[1]).flatten(-2)


@lru_cache(maxsize=16)
def visible(new: int, stop: int, window: int | None, device: torch.device) -> Tensor:
    """Where the last ``new`` of ``stop`` places may look: bool ``[new, stop]``, themselves and what stands before them.

    With a ``window``, at the last so many places only, themselves included (Beltagy et al. 2020, arXiv 2004.05150).
    """
    with torch.inference_mode(False):  # kept for later calls, of which some may train
        seen = torch.ones(new, stop, dtype=torch.bool, device=device).tril_(stop - new)
        return seen if window is None else seen.triu_(stop - new - window + 1)


@lru_cache(maxsize=16)
def _penalties(time: int, window: int | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`visible` as numbers to add to log-odds: 0, or minus infinity."""
    with torch.inference_mode(False):
        return torch.zeros(time, time, dtype=dtype, device=device).masked_fill_(
            ~visible(time, time, window, device), -torch.inf
        )


class Attention(nn.Module):
    """Each place looks at the places before it (or at all, if not ``causal``) and takes what it finds there.

    softmax(q kᵀ / √size) v with ``heads`` queries a place, which share ``key_heads`` keys and values in equal groups
    (Vaswani et al. 2017, arXiv 1706.03762; Ainslie et al. 2023, arXiv 2305.13245). With ``unit_queries``, queries and keys
    are brought to root-mean-square 1 before, which bounds the odds (Henry et al. 2020, arXiv 2010.04245); with
    ``query_scales`` they are then multiplied by learned scales. With a ``window``, a place sees the last so many places,
    itself included (Jiang et al. 2023, arXiv 2310.06825).

    Args:
        width: features of a place.
        heads: queries a place.
        key_heads: keys and values a place; ``heads`` if None.
        size: features of a head; ``width / heads`` if None.
        bias: of the output, and of queries, keys and values where ``query_bias`` does not say otherwise.
        query_bias: of queries, keys and values.
        dropout: share of looks that are left out in training.
        unit_queries, query_scales, causal, window: as above.
        epsilon: added to mean squares before their root is divided by.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        key_heads: int | None = None,
        *,
        size: int | None = None,
        bias: bool = False,
        query_bias: bool | None = None,
        dropout: float = 0.0,
        unit_queries: bool = False,
        query_scales: bool = False,
        causal: bool = True,
        window: int | None = None,
        epsilon: float = 1e-6,
    ) -> None:
        super().__init__()
        self.heads, self.key_heads, self.size = heads, key_heads or heads, size or width // heads
        self.dropout, self.unit_queries, self.causal, self.window = dropout, unit_queries, causal, window
        self.epsilon = epsilon
        # one matrix for queries, keys and values: one large product is faster than three small ones
        rows = (heads + 2 * self.key_heads) * self.size
        self.project = nn.Linear(width, rows, bias=bias if query_bias is None else query_bias)
        self.output = nn.Linear(heads * self.size, width, bias=bias)
        self.query_scale = nn.Parameter(torch.ones(self.size)) if query_scales else None
        self.key_scale = nn.Parameter(torch.ones(self.size)) if query_scales else None

    def scales(self) -> Tensor | None:
        """The learned scales of all queries and keys, ``[heads + key_heads, size]``; None without any."""
        if self.query_scale is None or self.key_scale is None:
            return None
        return torch.cat([self.query_scale.expand(self.heads, -1), self.key_scale.expand(self.key_heads, -1)])

    def heads_of(self, projected: Tensor, table: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values ``[..., time, head, size]`` from what ``project`` gave, turned by their positions."""
        each = projected.view(*projected.shape[:-1], -1, self.size)
        if table is None and not self.unit_queries:
            queries, keys, values = each.split_with_sizes((self.heads, self.key_heads, self.key_heads), dim=-2)
            return queries, keys, values
        turned, values = each.split_with_sizes((self.heads + self.key_heads, self.key_heads), dim=-2)
        if self.unit_queries:
            turned = functional.rms_norm(turned, (self.size,), eps=self.epsilon)
            scales = self.scales()
            if scales is not None:
                turned = turned * scales.to(turned.dtype)
        if table is not None:
            turned = rotate(turned, table.to(turned.dtype))
        queries, keys = turned.split_with_sizes((self.heads, self.key_heads), dim=-2)
        return queries, keys, values

    def forward(self, x: Tensor, table: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """``[batch, time, width]`` to the same shape.

        ``table`` holds the rotary rows of these places. ``mask`` (bool ``[batch, 1, time, time]``) says where a place may
        look, and then it and the window alone do: it must be causal where the attention is.
        """
        # each [batch, head, time, size]
        queries, keys, values = (heads.transpose(1, 2) for heads in self.heads_of(self.project(x), table))
        share = self.dropout if self.training else 0.0
        time, causal = queries.shape[2], self.causal
        by_products = queries.dtype == torch.bfloat16 and queries.device.type == "cpu" and (mask is None or causal)
        if causal and self.window is not None and time > self.window and (mask is not None or not by_products):
            near = visible(time, time, self.window, x.device)
            mask = near if mask is None else mask & near
        if by_products:
            return self.output(self._by_products(queries, keys, values, mask, share).transpose(1, 2).flatten(2))
        found = functional.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=mask,
            dropout_p=share,
            is_causal=causal and mask is None,
            enable_gqa=self.key_heads != self.heads,
        )
        return self.output(found.transpose(1, 2).flatten(2))

    def _by_products(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, share: float) -> Tensor:
        """Attention as two batched products: on CPUs torch's fused backward in bfloat16 takes two to four times as long."""
        n, time = queries.shape[0], queries.shape[2]
        groups = self.heads // self.key_heads
        if groups > 1:
            keys, values = (each.repeat_interleave(groups, dim=1) for each in (keys, values))
        keys, values = keys.flatten(0, 1), values.flatten(0, 1)
        if self.causal:
            if mask is None:
                penalties = _penalties(time, self.window, queries.dtype, queries.device)
            else:
                allowed = queries.new_zeros(mask.shape).masked_fill_(~mask, -torch.inf)
                penalties = allowed.expand(n, self.heads, time, time).flatten(0, 1)
            odds = torch.baddbmm(penalties, queries.flatten(0, 1), keys.transpose(1, 2), alpha=self.size**-0.5)
        else:
            odds = torch.bmm(queries.flatten(0, 1) * self.size**-0.5, keys.transpose(1, 2))
        looks = dropout(odds.softmax(dim=-1), share)
        return torch.bmm(looks, values).unflatten(0, (n, self.heads))

    def maps(self, x: Tensor, table: Tensor | None = None) -> Tensor:
        """The attention weights ``[batch, head, time, time]``: row t says where place t looks; rows sum to 1."""
        queries, keys, _ = self.heads_of(self.project(x), table)
        keys = keys.repeat_interleave(self.heads // self.key_heads, dim=-2)
        odds = torch.einsum("bthd,bshd->bhts", queries, keys) / self.size**0.5
        if self.causal:
            odds = odds.masked_fill(~visible(x.shape[1], x.shape[1], self.window, x.device), -torch.inf)
        return odds.softmax(dim=-1)
