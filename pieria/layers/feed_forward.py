"""The small network of a transformer's layer, the same at every place."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

Bend = Literal["relu", "gelu", "swiglu"]


class FeedForward(nn.Module):
    """``leave(bend(enter(x)))`` with ``inner`` features between the two matrices.

    ``swiglu`` has a gate for each of them (Shazeer 2020, arXiv 2002.05202), and so half as many matrices again.
    """

    def __init__(self, width: int, inner: int, bend: Bend = "gelu", *, bias: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.bend = bend
        self.enter = nn.Linear(width, inner * (2 if bend == "swiglu" else 1), bias=bias)
        self.drop = nn.Dropout(dropout)
        self.leave = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., width]`` to the same shape."""
        inner = self.enter(x)
        if self.bend == "relu":
            inner = functional.relu(inner)
        elif self.bend == "gelu":
            inner = functional.gelu(inner)
        else:
            gate, value = inner.chunk(2, dim=-1)
            inner = functional.silu(gate) * value
        out: Tensor = self.leave(self.drop(inner))
        return out
