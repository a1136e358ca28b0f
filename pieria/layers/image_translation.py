"""Networks that turn a picture into a picture, and one that says of each patch whether it is real.

`ResNetGenerator` is that of Johnson et al. 2016 (arXiv 1603.08155) as Zhu et al. 2017 (1703.10593) use it: a few
convolutions of stride 2, residual blocks where the picture is small, and up again. `UNetGenerator` is that of Isola et al.
2017 (1611.07004): halved until it is small, doubled again, each size beside what was seen there on the way down. Both are
convolutions throughout, so that a picture of any size is padded, turned and cropped back. `PatchDiscriminator` is Isola's
PatchGAN. Instances are normalised each by itself (Ulyanov et al. 2016, 1607.08022), so that no item depends on the others.

Made larger by nearest neighbours and a convolution, instead of the papers' transposed convolutions, which leave a
checkerboard (Odena et al. 2016, distill.pub/2016/deconv-checkerboard).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pieria.layers.unet import doubled
from pieria.noise import Noise

SPREAD = 0.02  # standard deviation of the first weights, as in both papers
WIDE = 64  # the shorter side, from which on the first and the last kernel are 7 pixels wide


def reflected(x: Tensor, left: int, right: int, above: int, below: int) -> Tensor:
    """``x`` mirrored beyond its border; the last pixel is repeated where the picture is too small to be mirrored so far."""
    height, width = x.shape[-2:]
    if max(left, right) >= width or max(above, below) >= height:
        return F.pad(x, (left, right, above, below), mode="replicate")
    if x.device.type == "cpu":
        return F.pad(x, (left, right, above, below), mode="reflect")
    return mirrored(x, left, right, above, below)


def mirrored(x: Tensor, left: int, right: int, above: int, below: int) -> Tensor:
    """`reflected` of slices, whose gradient is the same in every run, which that of torch's reflection on a GPU is not."""
    height, width = x.shape[-2:]
    x = torch.cat([x[..., 1 : left + 1].flip(-1), x, x[..., width - 1 - right : width - 1].flip(-1)], dim=-1)
    return torch.cat([x[..., 1 : above + 1, :].flip(-2), x, x[..., height - 1 - below : height - 1, :].flip(-2)], dim=-2)


class ReflectionConv(nn.Conv2d):
    """A convolution of an odd kernel over a picture that is mirrored beyond its border: the size stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, kernel, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """Float ``[batch, inputs, height, width] → [batch, outputs, height, width]``."""
        beyond = self.kernel_size[0] // 2
        return super().forward(reflected(input, beyond, beyond, beyond, beyond) if beyond else input)


class Residual(nn.Module):
    """Two 3 × 3 convolutions beside the way straight on."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ReflectionConv(channels, channels, 3, bias=False)
        self.norm1 = nn.InstanceNorm2d(channels, affine=True)
        self.conv2 = ReflectionConv(channels, channels, 3, bias=False)
        self.norm2 = nn.InstanceNorm2d(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, channel, height, width]``, the same shape."""
        out: Tensor = x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return out


class Up(nn.Module):
    """Twice as large, and a 3 × 3 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = ReflectionConv(inputs, outputs, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, inputs, h, w] → [batch, outputs, 2 h, 2 w]``."""
        out: Tensor = self.conv(doubled(x, 2 * x.shape[-2], 2 * x.shape[-1]))
        return out


class ResNetGenerator(nn.Module):
    """A picture in [-1, 1] as another one of the same size, by residual blocks at a ``2 ** halvings`` times smaller size.

    Args:
        inputs, outputs: channels of the two pictures.
        channels: features at the full size; twice as many after each halving.
        blocks: residual blocks.
        halvings: how many times the picture is halved before them.
        wide: the first and the last kernel are 7 pixels wide, else 3.
    """

    def __init__(self, inputs: int, outputs: int, channels: int, blocks: int, halvings: int, *, wide: bool) -> None:
        super().__init__()
        kernel = 7 if wide else 3
        self.multiple = 2**halvings
        self.smallest = max(kernel // 2 + 1, 2 * self.multiple)  # a normalised instance of one pixel would be nothing
        widths = [channels * 2**stage for stage in range(halvings + 1)]
        down: list[nn.Module] = [
            ReflectionConv(inputs, channels, kernel, bias=False), nn.InstanceNorm2d(channels, affine=True), nn.ReLU()
        ]  # fmt: skip
        for before, after in pairwise(widths):
            strided = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
            down += [strided, nn.InstanceNorm2d(after, affine=True), nn.ReLU()]
        self.down = nn.Sequential(*down)
        self.blocks = nn.Sequential(*(Residual(widths[-1]) for _ in range(blocks)))
        up: list[nn.Module] = []
        for before, after in pairwise(reversed(widths)):
            up += [Up(before, after), nn.InstanceNorm2d(after, affine=True), nn.ReLU()]
        self.up = nn.Sequential(*up, ReflectionConv(channels, outputs, kernel))
        first_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[batch, inputs, height, width]`` of any size to ``[batch, outputs, height, width]`` in [-1, 1]."""
        return self.steps(x)[-1]

    def steps(self, x: Tensor) -> list[Tensor]:
        """The features where the blocks begin, those behind them, and the picture."""
        padded = whole(x, self.multiple, self.smallest)
        begun = self.down(padded)
        done = self.blocks(begun)
        return [begun, done, self.up(done)[..., : x.shape[-2], : x.shape[-1]].float().tanh()]


class UNetGenerator(nn.Module):
    """A picture in [-1, 1] as another one of the same size: halved ``depth`` times, and doubled beside what was seen.

    The dropout of the inner layers on the way up is the only noise that it has; ``noise`` draws it, without noise there is
    none.
    """

    def __init__(self, inputs: int, outputs: int, channels: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.multiple, self.dropout = 2**depth, dropout
        self.smallest = self.multiple
        widths = [channels * min(2**stage, 8) for stage in range(depth)]
        self.first = ReflectionConv(inputs, channels, 3)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.down_norms, self.up_norms = nn.ModuleList(), nn.ModuleList()
        for stage, (before, after) in enumerate(zip([channels, *widths[:-1]], widths, strict=True)):
            innermost = stage == depth - 1  # it may be a single pixel, which normalised by itself would be nothing
            self.down.append(nn.Conv2d(before, after, 4, stride=2, padding=1))
            self.down_norms.append(nn.Identity() if innermost else nn.InstanceNorm2d(after, affine=True))
            self.up.append(Up(after if innermost else 2 * after, before))
            self.up_norms.append(nn.InstanceNorm2d(before, affine=True))
        self.last = ReflectionConv(2 * channels, outputs, 3)
        first_weights(self)

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """Float ``[batch, inputs, height, width]`` of any size to ``[batch, outputs, height, width]`` in [-1, 1]."""
        return self.steps(x, noise)[-1]

    def steps(self, x: Tensor, noise: Noise | None = None) -> list[Tensor]:
        """The smallest features, and the picture."""
        h = self.first(whole(x, self.multiple, self.smallest))
        seen = [h]
        for conv, norm in zip(self.down, self.down_norms, strict=True):
            h = norm(conv(F.leaky_relu(h, 0.2)))
            seen.append(h)
        smallest = seen.pop()
        inner = max(1, min(3, len(self.up) - 2))
        for stage in reversed(range(len(self.up))):
            h = self.up_norms[stage](self.up[stage](F.relu(h)))
            if noise is not None and self.dropout and len(self.up) - stage <= inner:
                kept = noise.uniform("dropout", h.shape[1:], step=stage).to(h.device) >= self.dropout
                h = h * kept / (1 - self.dropout)
            h = torch.cat([h, seen.pop()], dim=1)
        out = self.last(F.relu(h))[..., : x.shape[-2], : x.shape[-1]]
        return [smallest, out.float().tanh()]


class PatchDiscriminator(nn.Module):
    """Says of each of many overlapping patches how real it looks, ``[batch, 1, rows, columns]``, higher for real.

    With three ``halvings`` a patch is 70 × 70 pixels, with two 34 × 34, with one 16 × 16, with none 7 × 7.
    """

    def __init__(self, inputs: int, channels: int, halvings: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, after = inputs, channels
        for stage in range(halvings):
            layers.append(nn.Conv2d(before, after, 4, stride=2, padding=1, bias=stage == 0))
            layers += ([nn.InstanceNorm2d(after, affine=True)] if stage else []) + [nn.LeakyReLU(0.2)]
            before, after = after, min(2 * after, 8 * channels)
        if halvings:
            layers += [nn.Conv2d(before, after, 4, padding=1, bias=False), nn.InstanceNorm2d(after, affine=True)]
            layers += [nn.LeakyReLU(0.2), nn.Conv2d(after, 1, 4, padding=1)]
        else:
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.LeakyReLU(0.2)]
            layers += [nn.Conv2d(after, 2 * after, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(2 * after, 1, 3, padding=1)]
        self.layers = nn.Sequential(*layers)
        first_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[batch, inputs, height, width]`` in [-1, 1] to one score a patch."""
        scores: Tensor = self.layers(x)
        return scores.float()


def whole(x: Tensor, multiple: int, smallest: int) -> Tensor:
    """``x`` padded at the right and below to a multiple of ``multiple`` of at least ``smallest`` pixels."""
    sides = [max(-(-side // multiple), -(-smallest // multiple)) * multiple for side in x.shape[-2:]]
    right, below = sides[1] - x.shape[-1], sides[0] - x.shape[-2]
    return reflected(x, 0, right, 0, below) if right or below else x


def halvings_of(height: int, width: int, from_sides: Sequence[int]) -> int:
    """How many of the sides ``from_sides`` the shorter side of a picture reaches: so many halvings suit it."""
    return sum(min(height, width) >= side for side in from_sides)


def first_weights(network: nn.Module) -> None:
    """Normal weights of a small spread and no bias, in every convolution."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0.0, SPREAD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
