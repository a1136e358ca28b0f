"""From a picture to a smaller field of features and back: convolutions that keep the place, and blocks that look around.

After van den Oord et al. 2017 (arXiv 1711.00937): strided 4 × 4 convolutions, residual blocks, and the same turned round.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


def sizes(height: int, width: int, halvings: int) -> list[tuple[int, int]]:
    """The sizes from the whole picture down, each half of the one before, rounded up.

    >>> sizes(28, 20, 2)
    [(28, 20), (14, 10), (7, 5)]
    """
    found = [(height, width)]
    for _ in range(halvings):
        found.append((-(-found[-1][0] // 2), -(-found[-1][1] // 2)))
    return found


class Block(nn.Module):
    """``x + what lies around it``: a 3 × 3 and a 1 × 1 convolution, each of what is positive."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.around = nn.Conv2d(channels, channels // 2 or 1, 3, padding=1)
        self.here = nn.Conv2d(channels // 2 or 1, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[batch, channel, height, width]``, the same shape."""
        out: Tensor = x + self.here(F.silu(self.around(F.silu(x))))
        return out


class Shrink(nn.Module):
    """A picture ``[batch, inputs, height, width]`` as a field ``[batch, outputs, h, w]``, halved ``halvings`` times."""

    def __init__(self, inputs: int, outputs: int, channels: int, halvings: int, blocks: int) -> None:
        super().__init__()
        widths = [inputs, *(max(8, channels >> stage) for stage in reversed(range(halvings)))]
        self.stages = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths))
        self.first = nn.Conv2d(widths[-1], channels, 3, padding=1)
        self.blocks = nn.ModuleList(Block(channels) for _ in range(blocks))
        self.last = nn.Conv2d(channels, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[batch, inputs, height, width] → [batch, outputs, h, w]``."""
        for stage in self.stages:
            # an odd side gets one empty line, so that halving rounds up
            x = F.silu(stage(F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))))
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.last(F.silu(x))
        return out


class Grow(nn.Module):
    """A field ``[batch, inputs, h, w]`` as a picture ``[batch, outputs, height, width]``: `Shrink` turned round."""

    def __init__(
        self, inputs: int, outputs: int, height: int, width: int, channels: int, halvings: int, blocks: int
    ) -> None:
        super().__init__()
        self.sizes = sizes(height, width, halvings)[-2::-1]
        widths = [channels, *(max(8, channels >> stage) for stage in range(1, halvings))]
        self.first = nn.Conv2d(inputs, channels, 3, padding=1)
        self.blocks = nn.ModuleList(Block(channels) for _ in range(blocks))
        ends = [*widths[: halvings or 1], outputs]
        self.stages = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, stride=2, padding=1) for a, b in (pairwise(ends) if halvings else ())
        )
        self.last = None if halvings else nn.Conv2d(channels, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[batch, inputs, h, w] → [batch, outputs, height, width]``."""
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        for stage, (height, width) in zip(self.stages, self.sizes, strict=True):
            x = stage(F.silu(x))[..., :height, :width]
        if self.last is not None:
            x = self.last(F.silu(x))
        return x
