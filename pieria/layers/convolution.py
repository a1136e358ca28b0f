"""Convolutional encoder and decoder for any rectangle: halve until it is small, double until it is whole.

After DCGAN (Radford et al. 2016), without batch statistics, so that an item does not depend on the batch around it.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from pieria.layers.mlp import activation, bounded


def halvings(height: int, width: int, smallest: int = 4) -> list[tuple[int, int]]:
    """The sizes from the whole picture down to one whose longer side is at most ``smallest``, halved and rounded up.

    >>> halvings(28, 28)
    [(28, 28), (14, 14), (7, 7), (4, 4)]
    >>> halvings(3, 10)
    [(3, 10), (2, 5), (1, 3)]
    """
    sizes = [(height, width)]
    while max(sizes[-1]) > smallest:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def feature_counts(sizes: list[tuple[int, int]], channels: int, cells: int) -> list[int]:
    """Features at each size, the whole picture first: ``channels`` at the smallest, half as many at each doubling.

    So each size costs about the same. At the whole size a large picture has no features but its ``cells`` themselves.
    """
    widths = [max(channels // 2**stage, min(channels, 8)) for stage in reversed(range(len(sizes)))]
    return widths if is_small(sizes) else [cells, *widths[1:]]


def is_small(sizes: list[tuple[int, int]]) -> bool:
    """Whether there are features at the full size: in a small picture each cell matters, and they are cheap."""
    return max(sizes[0]) <= 16


class PixelNorm(nn.Module):
    """Divides the features of each place by their root mean square (Karras et al. 2018)."""

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[batch, channel, height, width]``, the same shape."""
        return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class Encoder(nn.Module):
    """A picture ``[batch, inputs, height, width]`` as features ``[batch, outputs]``, by strided 4 × 4 convolutions."""

    def __init__(
        self, inputs: int, height: int, width: int, channels: int, *, nonlinear: str = "leaky", spectral: bool = False
    ) -> None:
        super().__init__()
        sizes = halvings(height, width)
        widths = feature_counts(sizes, channels, inputs)
        self.first = bounded(nn.Conv2d(inputs, widths[0], 3, padding=1), spectral) if is_small(sizes) else None
        self.stages = nn.ModuleList(
            bounded(nn.Conv2d(before, after, 4, stride=2, padding=1), spectral) for before, after in pairwise(widths)
        )
        self.nonlinear = activation(nonlinear)
        self.outputs = widths[-1] * sizes[-1][0] * sizes[-1][1]

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[batch, inputs, height, width] → [batch, outputs]``."""
        if self.first is not None:
            x = self.nonlinear(self.first(x))
        for stage in self.stages:
            # an odd side gets one empty line, so that halving rounds up
            x = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))
            x = self.nonlinear(stage(x))
        return x.flatten(1)


class Decoder(nn.Module):
    """Features ``[batch, inputs]`` as a picture ``[batch, outputs, height, width]``, by transposed 4 × 4 convolutions."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        height: int,
        width: int,
        channels: int,
        *,
        nonlinear: str = "relu",
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.sizes = halvings(height, width)[::-1]
        widths = feature_counts(self.sizes[::-1], channels, outputs)[::-1]
        self.smallest = (widths[0], *self.sizes[0])
        self.first = nn.Linear(inputs, widths[0] * self.sizes[0][0] * self.sizes[0][1])
        self.stages = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 4, stride=2, padding=1) for before, after in pairwise(widths)
        )
        self.last = nn.Conv2d(widths[-1], outputs, 3, padding=1) if is_small(self.sizes[::-1]) else None
        self.nonlinear = activation(nonlinear)
        self.norm = PixelNorm() if norm else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Float ``[batch, inputs] → [batch, outputs, height, width]``."""
        return self.steps(features)[-1]

    def steps(self, features: Tensor) -> list[Tensor]:
        """What ``forward`` passes through: the feature maps from the smallest to the largest, then its result."""
        x = self.norm(self.nonlinear(self.first(features).unflatten(1, self.smallest)))
        seen = [x]
        for stage, (height, width) in zip(self.stages, self.sizes[1:], strict=True):
            x = stage(x)[..., :height, :width]
            if self.last is None and (height, width) == self.sizes[-1]:
                return [*seen, x]
            x = self.norm(self.nonlinear(x))
            seen.append(x)
        assert self.last is not None
        return [*seen, self.last(x)]
