"""The small network of a transformer's layer, the same at every place."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from pieria.layers.dropout import Dropout

Activation = Literal["gelu", "gelu-tanh", "relu", "relu2", "swiglu"]


class FeedForward(nn.Module):
    """``leave(bend(enter(x)))`` with ``inner`` features between the two matrices.

    ``swiglu`` has a gate for each of them (Shazeer 2020, arXiv 2002.05202), and so half as many matrices again; ``relu2`` is
    squared (So et al. 2021, arXiv 2109.08668); ``gelu-tanh`` is GPT-2's approximation of ``gelu``.
    """

    def __init__(
        self, width: int, inner: int, activation: Activation = "gelu", *, bias: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.activation = activation
        # swiglu's gate and value are one matrix, the gate's rows first
        self.enter = nn.Linear(width, inner * (2 if activation == "swiglu" else 1), bias=bias)
        self.drop = Dropout(dropout)
        self.leave = nn.Linear(inner, width, bias=bias)

    def bend(self, inner: Tensor) -> Tensor:
        """The non-linearity between the two matrices."""
        if self.activation == "swiglu":
            gate, value = inner.chunk(2, dim=-1)
            return functional.silu(gate) * value
        if self.activation == "relu":
            return functional.relu(inner)
        if self.activation == "relu2":
            return functional.relu(inner).square()
        return functional.gelu(inner, approximate="tanh" if self.activation == "gelu-tanh" else "none")

    def forward(self, x: Tensor) -> Tensor:
        """``[..., width]`` to the same shape."""
        out: Tensor = self.leave(self.drop(self.bend(self.enter(x))))
        return out
