"""StyleGAN2's three networks: codes to styles, styles to pictures, pictures to scores.

Sizes are those of the picture from the smallest on, ``(height, width)``, and ``widths`` the features at each of them. Karras
et al. 2020, arXiv 1912.04958, figure 7: a generator that sums up what every size adds, a discriminator with residual blocks.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from pieria.layers.equalised import Convolution, Linear, Shrinking, bent
from pieria.layers.filters import doubled
from pieria.layers.modulation import Modulated, StyledConvolution

Sizes = list[tuple[int, int]]


class Mapping(nn.Module):
    """A code (and a label) to a style: ``[batch, latent]`` to ``[batch, style]``."""

    def __init__(self, latent: int, style: int, layers: int, classes: int) -> None:
        super().__init__()
        self.label = Linear(classes, latent) if classes else None
        widths = [latent * (2 if classes else 1), *[style] * layers]
        self.layers = nn.ModuleList(Linear(before, after, pace=0.01) for before, after in pairwise(widths))

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """``labels`` is one-hot ``[batch, classes]``."""
        x = _unit(z)
        if self.label is not None:
            x = torch.cat([x, _unit(self.label(labels))], dim=1)
        for layer in self.layers:
            x = bent(layer(x))
        return x


def _unit(x: Tensor) -> Tensor:
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class Synthesis(nn.Module):
    """Styles to a picture: a learned field, doubled until it is whole; the picture is the sum over all sizes."""

    def __init__(self, sizes: Sizes, widths: list[int], style: int, outputs: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.start = nn.Parameter(torch.randn(widths[0], *sizes[0]))
        before = [widths[0], *widths[:-1]]
        # at each size but the first, one convolution that doubles; at each, one that does not
        self.doubling = nn.ModuleList(
            StyledConvolution(a, b, style, double=True) for a, b in list(zip(before, widths, strict=True))[1:]
        )
        self.staying = nn.ModuleList(StyledConvolution(width, width, style) for width in widths)
        self.tones = nn.ModuleList(Modulated(width, outputs, 1, style, demodulate=False) for width in widths)
        self.tone_bias = nn.Parameter(torch.zeros(outputs))
        self.styles = 2 * len(sizes)  # one a convolution, and the last one's picture

    def steps(
        self, styles: Tensor, noise: Callable[[int, tuple[int, int]], Tensor | None]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Features and picture at each size; ``styles`` is ``[batch, self.styles, style]``, ``noise`` by place and size."""
        x = self.start.expand(len(styles), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        w = iter(styles.unbind(1))
        picture: Tensor | None = None
        style = next(w)
        for place, size in enumerate(self.sizes):
            if place:
                x = self.doubling[place - 1](x, style, size, noise(2 * place - 1, size))
                style = next(w)
            x = self.staying[place](x, style, size, noise(2 * place, size))
            style = next(w)
            tone = self.tones[place](x, style)  # shares its style with the next convolution
            picture = tone if picture is None else tone + doubled(picture)[..., : size[0], : size[1]]
            yield x, picture + self.tone_bias[:, None, None]

    def forward(self, styles: Tensor, noise: Callable[[int, tuple[int, int]], Tensor | None]) -> Tensor:
        """The picture ``[batch, outputs, height, width]``."""
        *_, (_, picture) = self.steps(styles, noise)
        return picture


class Discriminator(nn.Module):
    """Scores pictures ``[batch, inputs, height, width]``: ``[batch]``, higher for real."""

    def __init__(self, sizes: Sizes, widths: list[int], inputs: int, classes: int, group: int) -> None:
        super().__init__()
        widths = widths[::-1]
        self.enter = Convolution(inputs, widths[0], 1)
        self.blocks = nn.ModuleList(Shrinking(before, after) for before, after in pairwise(widths))
        self.group, last = group, widths[-1]
        self.look = Convolution(last + 1, last, 3)
        self.think = Linear(last * sizes[0][0] * sizes[0][1], last)
        self.score = Linear(last, max(1, classes))
        self.classes = classes

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """``labels`` is one-hot ``[batch, classes]``: each class has a score of its own (projection)."""
        x = bent(self.enter(x.contiguous(memory_format=torch.channels_last)))
        for block in self.blocks:
            x = block(x)
        x = bent(self.look(torch.cat([x, self._variety(x)], dim=1)))
        scores: Tensor = self.score(bent(self.think(x.flatten(1))))
        return (scores * labels).sum(dim=1) if self.classes else scores[:, 0]

    def _variety(self, x: Tensor) -> Tensor:
        """How much the features differ within a group of pictures, as one more feature ``[batch, 1, height, width]``."""
        n = len(x)
        size = next(size for size in range(min(self.group, n), 0, -1) if n % size == 0)
        each = x.float().unflatten(0, (size, n // size))
        spread = ((each - each.mean(dim=0)).square().mean(dim=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))
        return spread.repeat(size)[:, None, None, None].expand(n, 1, *x.shape[-2:]).to(x.dtype)
