"""The layers of pixel networks: gated in two stacks, masked in one, and looking back at every earlier cell.

Maps are ``[batch, features, height, width]``, labels one-hot ``[batch, classes]``.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pieria.layers.dropout import dropout
from pieria.layers.masked import above, affine, beside


class GatedLayer(nn.Module):
    """One layer of both stacks: ``v' = v + gate(above v)``, ``h' = h + out gate(beside h + down v')``.

    ``gate(a, b) = tanh(a) σ(b)``. Maps are ``[batch, features, height, width]``, ``label`` ``[batch, classes]``.
    """

    def __init__(self, features: int, size: int, classes: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.above = above(features, 2 * features, size, own=True)
        self.beside = beside(features, 2 * features, size, own=True)
        self.down = nn.Conv2d(features, 2 * features, 1)
        self.out = nn.Conv2d(features, features, 1, bias=False)
        self.label = nn.Linear(classes, 4 * features, bias=False) if classes else None

    def said(self, label: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """What the label adds to the two stacks, ``[batch, 2 · features]`` each."""
        if self.label is None:
            return 0.0, 0.0
        first, second = self.label(label).chunk(2, dim=1)
        return first, second

    def forward(self, v: Tensor, h: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Both stacks, one layer on."""
        add_v, add_h = (add if isinstance(add, float) else add[:, :, None, None] for add in self.said(label))
        share = self.share if self.training else 0.0
        v = v + dropout(self.bend(self.above(v) + add_v), share)
        h = h + self.out(dropout(self.bend(self.beside(h) + self.down(v) + add_h), share))
        return v, h

    @staticmethod
    def bend(x: Tensor) -> Tensor:
        """``tanh(a) σ(b)`` of the two halves of the features."""
        a, b = x.chunk(2, dim=1)
        return a.tanh() * b.sigmoid()


class MaskedLayer(nn.Module):
    """One layer of a single stack: ``h' = h + out relu(above h + beside h)``, a convolution masked after the pixel."""

    def __init__(self, features: int, size: int, classes: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.above = above(features, features, size, own=False)
        self.beside = beside(features, features, size, own=True)
        self.out = nn.Conv2d(features, features, 1, bias=False)
        self.label = nn.Linear(classes, features, bias=False) if classes else None

    def said(self, label: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """What the label adds, ``[batch, features]``."""
        return 0.0, 0.0 if self.label is None else self.label(label)

    def forward(self, v: Tensor, h: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """The stack, one layer on."""
        add = self.said(label)[1]
        add = add if isinstance(add, float) else add[:, :, None, None]
        bent = self.bend(self.above(h) + self.beside(h) + add)
        return v, h + self.out(dropout(bent, self.share if self.training else 0.0))

    @staticmethod
    def bend(x: Tensor) -> Tensor:
        """Rectified."""
        return x.relu()


class LookBack(nn.Module):
    """Attention to all pixels before each one: ``h' = h + gate(out Σ softmax(q k) v)``; keys and values also know the pixel.

    The first of the keys is nothing (zeros), for a pixel that finds nothing of interest.
    """

    def __init__(self, features: int, inputs: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, max(4, features // (2 * heads))
        self.ask = nn.Conv2d(features, heads * self.size, 1)
        self.tell = nn.Conv2d(features + inputs, 2 * heads * self.size, 1)
        self.out = nn.Conv2d(heads * self.size, 2 * features, 1)

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        """``h [batch, features, height, width]``, ``x [batch, inputs, height, width]``."""
        queries = self.ask(h).flatten(2).unflatten(1, (self.heads, self.size)).mT  # [batch, head, place, size]
        told = self.tell(torch.cat([h, x.to(h)], dim=1)).flatten(2).unflatten(1, (2 * self.heads, self.size)).mT
        # one place on: what is found by a pixel comes from those before it
        keys, values = functional.pad(told[:, :, :-1], (0, 0, 1, 0)).chunk(2, dim=1)
        found = functional.scaled_dot_product_attention(queries.contiguous(), keys, values, is_causal=True)
        made = self.out(found.mT.flatten(1, 2).unflatten(2, h.shape[2:]))
        return h + GatedLayer.bend(made)


class LookReading:
    """A `LookBack` read pixel by pixel: keys and values of all pixels so far, ``[n, head, place, size]``."""

    def __init__(self, look: LookBack, items: int, places: int) -> None:
        self.parts = [affine(part) for part in (look.ask, look.tell, look.out)]
        self.shape = (items, look.heads, look.size)
        self.keys = look.ask.weight.new_zeros(items, look.heads, places, look.size)
        self.values = torch.zeros_like(self.keys)
        self.h = torch.empty(0)

    def look(self, h: Tensor, place: int) -> Tensor:
        """``h [n, features]`` with what it finds in the places before."""
        (ask, ask_bias), _, (out, out_bias) = self.parts
        self.h = h
        queries = torch.addmm(ask_bias, h, ask).view(*self.shape[:2], 1, self.shape[2])
        odds = queries @ self.keys[:, :, : place + 1].mT * self.shape[2] ** -0.5
        found = odds.softmax(dim=-1) @ self.values[:, :, : place + 1]
        return h + GatedLayer.bend(torch.addmm(out_bias, found.flatten(1), out))

    def put(self, features: Tensor, place: int) -> None:
        """The place is known: its key and value, for those that come after."""
        tell, bias = self.parts[1]
        told = torch.addmm(bias, torch.cat([self.h, features], dim=1), tell).view(len(features), -1, self.shape[2])
        self.keys[:, :, place + 1], self.values[:, :, place + 1] = told.chunk(2, dim=1)

    def take(self, items: Tensor) -> None:
        """Go on with these items."""
        self.keys, self.values = self.keys[items], self.values[items]
