"""Convolutions that are told by a style, for each item of its own, how much each feature counts.

Scaling a feature and then dividing by what that does to the size of the output replaces normalisation of what really comes
out, which would see one picture only and leave blobs (Karras et al. 2020, arXiv 1912.04958, equations 1 and 3).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pieria.layers.equalised import Linear, bent
from pieria.layers.filters import blur


class Modulated(nn.Module):
    """A convolution whose input features are scaled by a style of each item's own; with ``double``, to twice the size.

    The weights are shared: scaling the input features and then the output features is the same as scaling the weights of
    each item, and needs no convolution of its own for each.
    """

    def __init__(
        self, inputs: int, outputs: int, size: int, style: int, *, double: bool = False, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.affine = Linear(style, inputs, start=1.0)
        self.scale = (inputs * size * size) ** -0.5
        self.size, self.doubles, self.demodulate = size, double, demodulate

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """``x`` ``[batch, inputs, height, width]`` and the code ``w`` ``[batch, style]``; ``[batch, outputs, …]``."""
        style, weight = self.affine(w) * self.scale, self.weight
        x = x * style[:, :, None, None]
        if self.doubles:
            # enlarged with zeros, convolved and blurred; the blur has four times the gain, since three of four were zero
            x = blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), (1, 1), gain=4.0)
        else:
            x = F.conv2d(x, weight, padding=self.size // 2)
        if self.demodulate:
            size = style.square() @ weight.square().sum(dim=(2, 3)).t()
            x = x * (size + 1e-8).rsqrt()[:, :, None, None]
        return x


class StyledConvolution(nn.Module):
    """A modulated convolution, noise with a learned strength, a bias and a leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, style: int, *, double: bool = False) -> None:
        super().__init__()
        self.convolution = Modulated(inputs, outputs, 3, style, double=double)
        self.strength, self.bias = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, w: Tensor, size: tuple[int, int], noise: Tensor | None) -> Tensor:
        """``noise`` is ``[batch, 1, *size]``; without it there is none."""
        x = self.convolution(x, w)[..., : size[0], : size[1]]
        if noise is not None:
            x = x + (self.strength * noise).to(x.dtype)
        return bent(x + self.bias.to(x.dtype)[:, None, None])  # half the memory where products are in bfloat16
