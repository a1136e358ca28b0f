"""Layers whose weights all begin as standard normal numbers and are scaled where they are used (equalised learning rate).

So an optimiser that divides by the size of the gradient moves every weight by the same share of its size (Karras et al.
2018, arXiv 1710.10196).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pieria.layers.filters import blur, even, halved

SLOPE, GAIN = 0.2, 2**0.5


def bent(x: Tensor) -> Tensor:
    """A leaky ReLU that keeps the size of its input."""
    return F.leaky_relu(x, SLOPE) * GAIN


class Linear(nn.Module):
    """x W / √inputs + b, float ``[..., inputs] → [..., outputs]``; ``pace`` slows its learning down."""

    def __init__(self, inputs: int, outputs: int, *, start: float = 0.0, pace: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / pace)
        self.bias = nn.Parameter(torch.full((outputs,), start / pace))
        self.scale, self.pace = pace / inputs**0.5, pace

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[..., inputs] → [..., outputs]``."""
        return F.linear(x, self.weight * self.scale, self.bias * self.pace)


class Convolution(nn.Module):
    """A convolution that keeps the size or, with ``halve``, blurs and takes every other cell."""

    def __init__(self, inputs: int, outputs: int, size: int, *, halve: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale, self.size, self.halve = (inputs * size * size) ** -0.5, size, halve

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[batch, inputs, height, width] → [batch, outputs, height', width']``."""
        weight = self.weight * self.scale
        if not self.halve:
            return F.conv2d(x, weight, self.bias, padding=self.size // 2)
        more = self.size - 1
        x = blur(even(x), (1 + (more + 1) // 2, 1 + more // 2))
        return F.conv2d(x, weight, self.bias, stride=2)


class Shrinking(nn.Module):
    """Two convolutions to half the size, beside a straight way."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = Convolution(inputs, inputs, 3), Convolution(inputs, outputs, 3, halve=True)
        self.straight = Convolution(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, inputs, height, width]`` to half the size, rounded up."""
        x = even(x)
        return (bent(self.second(bent(self.first(x)))) + self.straight(halved(x))) * 0.5**0.5
