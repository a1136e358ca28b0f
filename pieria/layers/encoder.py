"""An encoder of sequences: every place looks at every other real place, before and behind; padding is never read.

Items of a batch differ in length. Everything that is done place by place (the products with large matrices, norms, the
small network) is done for the real places alone, laid end to end ``[real, width]``; only the looks themselves need the
padded ``[batch, time]``. On phrases of nine words in a batch as long as its longest this saves two thirds of the time.
"""

from collections.abc import Callable, Iterator
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from pieria.layers.attention import Attention
from pieria.layers.cross_attention import attend, looks
from pieria.layers.dropout import Dropout

Activation = Literal["gelu", "gelu_tanh", "relu"]

BENDS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "relu": functional.relu,
}


class Packing:
    """Which places of a padded ``[batch, time]`` are real, and the way to and fro.

    ``real`` is bool ``[batch, time]``; without one every place is real, and packing is but another view.
    """

    def __init__(self, batch: int, time: int, real: Tensor | None) -> None:
        self.batch, self.time, self.real = batch, time, real
        self.places = None if real is None else real.flatten().nonzero()[:, 0]

    def packed(self, x: Tensor) -> Tensor:
        """``[batch, time, …]`` to the real places ``[real, …]``."""
        flat = x.flatten(0, 1)
        return flat if self.places is None else flat.index_select(0, self.places)

    def padded(self, x: Tensor) -> Tensor:
        """``[real, …]`` to ``[batch, time, …]``, zero where nothing is real."""
        if self.places is not None:
            whole = x.new_zeros(self.batch * self.time, *x.shape[1:])
            x = whole.index_copy(0, self.places, x)
        return x.unflatten(0, (self.batch, self.time))

    def positions(self, device: torch.device) -> Tensor:
        """The place of each real symbol in its item, long ``[real]``."""
        return self.packed(torch.arange(self.time, device=device).expand(self.batch, -1))


class EncoderLayer(nn.Module):
    """Look, then think: each adds to what it read.

    Norms stand after the sum, norm(x + look(x)), as in the original (Vaswani et al. 2017; BERT), or with ``norm_first``
    before the part, x + look(norm(x)), which is easier to train (Xiong et al. 2020, arXiv 2002.04745).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        inner: int,
        *,
        norm_first: bool = False,
        activation: Activation = "gelu",
        bias: bool = True,
        eps: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm_first, self.bend = norm_first, BENDS[activation]
        self.look = Attention(width, heads, bias=bias, dropout=dropout, causal=False)
        self.look_norm = nn.LayerNorm(width, eps=eps, bias=bias)
        self.enter = nn.Linear(width, inner, bias=bias)
        self.leave = nn.Linear(inner, width, bias=bias)
        self.think_norm = nn.LayerNorm(width, eps=eps, bias=bias)
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor, packing: Packing, table: Tensor | None = None) -> Tensor:
        """``[real, width]`` to the same shape."""
        if self.norm_first:
            x = x + self.drop(self._looked(self.look_norm(x), packing, table))
            return x + self.drop(self.leave(self.bend(self.enter(self.think_norm(x)))))
        x = self.look_norm(x + self.drop(self._looked(x, packing, table)))
        return self.think_norm(x + self.drop(self.leave(self.bend(self.enter(x)))))

    def _heads(self, x: Tensor, packing: Packing, table: Tensor | None) -> Iterator[Tensor]:
        """Queries, keys and values ``[batch, head, time, size]`` of packed vectors; ``table`` turns the first two."""
        return (packing.padded(each).transpose(1, 2) for each in self.look.heads_of(self.look.project(x), table))

    def _looked(self, x: Tensor, packing: Packing, table: Tensor | None) -> Tensor:
        """What each real place finds at all real places (Vaswani et al. 2017, arXiv 1706.03762)."""
        queries, keys, values = self._heads(x, packing, table)
        found = attend(queries, keys, values, packing.real, self.look.dropout if self.training else 0.0)
        out: Tensor = self.look.output(packing.packed(found.transpose(1, 2).flatten(2)))
        return out

    def maps(self, x: Tensor, packing: Packing, table: Tensor | None = None) -> Tensor:
        """The attention weights ``[batch, head, time, time]``: row t says where place t looks; rows sum to 1."""
        queries, keys, _ = self._heads(self.look_norm(x) if self.norm_first else x, packing, table)
        return looks(queries, keys, packing.real)


class Encoder(nn.Module):
    """Layers one after the other; with ``norm_first`` a last norm follows."""

    def __init__(
        self,
        layers: int,
        width: int,
        heads: int,
        inner: int,
        *,
        norm_first: bool = False,
        activation: Activation = "gelu",
        bias: bool = True,
        eps: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(
                width, heads, inner, norm_first=norm_first, activation=activation, bias=bias, eps=eps, dropout=dropout
            )
            for _ in range(layers)
        )
        self.last = nn.LayerNorm(width, eps=eps, bias=bias) if norm_first else None

    def _each(self) -> Iterator[EncoderLayer]:
        return (cast(EncoderLayer, layer) for layer in self.layers)

    def forward(self, x: Tensor, packing: Packing, table: Tensor | None = None) -> Tensor:
        """Packed ``[real, width]`` to the same shape; ``table``: rotary, over places, ``[2, length, 1, 2, size / 2]``."""
        turn = None if table is None else table[:, packing.positions(x.device)]
        for layer in self._each():
            x = layer(x, packing, turn)
        return x if self.last is None else self.last(x)

    def maps(self, x: Tensor, packing: Packing, table: Tensor | None = None) -> Tensor:
        """Where each place looks in each layer, ``[layer, batch, head, time, time]``."""
        turn = None if table is None else table[:, packing.positions(x.device)]
        found = []
        for layer in self._each():
            found.append(layer.maps(x, packing, turn))
            x = layer(x, packing, turn)
        return torch.stack(found)
