"""A U-Net that is told how noisy its picture is: halve, look at the whole, double, each time beside what was seen before.

The network of Ho et al. 2020 (arXiv 2006.11239): residual blocks with group normalisation, self-attention where pictures
are small, skip connections from every block on the way down to one on the way up. Any rectangle; an odd side is rounded up
when it is halved. With ``patch`` the picture is read in squares of that side, at a fraction of the cost (Hoogeboom et al.
2023, arXiv 2301.11093).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pieria.layers.cross_attention import attend
from pieria.layers.dropout import Dropout
from pieria.layers.noise_levels import LevelEmbedding


def doubled(x: Tensor, height: int, width: int) -> Tensor:
    """Each place four times, cut to this size: as nearest-neighbour interpolation, with a gradient that is a plain sum."""
    wide = x[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2).flatten(4).flatten(2, 3)
    return wide[:, :, :height, :width]


class Residual(nn.Module):
    """Two normalised convolutions; between them the noise level is added to every place."""

    def __init__(self, inputs: int, outputs: int, level: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.level = nn.Linear(level, outputs)
        self.norm2 = nn.GroupNorm(groups, outputs)
        self.dropout = Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None
        nn.init.zeros_(self.conv2.weight)  # a block begins as the identity
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]  # it has one

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """``[batch, inputs, height, width]`` and ``[batch, level]`` (already through the non-linearity)."""
        inside = self.conv1(F.silu(self.norm1(x))) + self.level(level)[:, :, None, None]
        inside = self.conv2(self.dropout(F.silu(self.norm2(inside))))
        return inside + (x if self.shortcut is None else self.shortcut(x))


class Look(nn.Module):
    """Every place of a picture looks at every other one: self-attention with heads of at least ``head`` features."""

    def __init__(self, channels: int, head: int, groups: int) -> None:
        super().__init__()
        self.heads = max(count for count in range(1, max(1, channels // head) + 1) if channels % count == 0)
        self.norm = nn.GroupNorm(groups, channels)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, channel, height, width]``, the same shape."""
        places = self.norm(x).flatten(2).transpose(1, 2)  # [batch, place, channel]
        q, k, v = (
            part(places).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        seen = attend(q, k, v).transpose(1, 2).flatten(2)
        return x + self.out(seen).transpose(1, 2).unflatten(2, x.shape[2:])


class Stage(nn.Module):
    """The blocks of one size, and the change to the next one (None at the end)."""

    def __init__(self, blocks: list[Residual], looks: list[Look], change: nn.Conv2d | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.looks = nn.ModuleList(looks)
        self.change = change

    def block(self, place: int, x: Tensor, level: Tensor) -> Tensor:
        """One residual block, and attention after it if this size has any."""
        x = self.blocks[place](x, level)
        if len(self.looks):
            x = self.looks[place](x)
        return x


class UNet(nn.Module):
    """What the network says of noisy pictures ``[batch, inputs, height, width]``, in the same shape.

    Args:
        inputs: channels of the picture.
        height, width: its size.
        channels: features at its full size; ``widths`` are multiples of it, one for each size.
        blocks: residual blocks at each size on the way down; one more on the way up.
        attention: sizes whose longer side is at most this have self-attention.
        classes: of the condition; 0 without one.
    """

    def __init__(
        self,
        inputs: int,
        height: int,
        width: int,
        channels: int,
        widths: Sequence[int] = (1, 2, 2),
        *,
        blocks: int = 1,
        attention: int = 8,
        head: int = 32,
        dropout: float = 0.0,
        classes: int = 0,
        patch: int = 1,
    ) -> None:
        super().__init__()
        self.patch = patch
        # padded to a whole number of patches
        self.size = (height, width)
        sides = [(-(-height // patch), -(-width // patch))]
        for _ in widths[1:]:
            sides.append((-(-sides[-1][0] // 2), -(-sides[-1][1] // 2)))
        features = [channels * width for width in widths]
        groups = max(g for g in range(1, 33) if channels % g == 0 and g <= max(1, channels // 4))
        level = 4 * channels
        cells = inputs * patch * patch
        self.embed = LevelEmbedding(channels, level, classes)
        self.first = nn.Conv2d(cells, features[0], 3, padding=1)

        def block(before: int, after: int) -> Residual:
            return Residual(before, after, level, groups, dropout)

        def looks(stage: int, count: int) -> list[Look]:
            return [Look(features[stage], head, groups) for _ in range(count)] if max(sides[stage]) <= attention else []

        down, skips, at = [], [features[0]], features[0]
        for stage, wide in enumerate(features):
            rows = [block(at if place == 0 else wide, wide) for place in range(blocks)]
            last = stage == len(features) - 1
            down.append(Stage(rows, looks(stage, blocks), None if last else nn.Conv2d(wide, wide, 3, stride=2, padding=1)))
            skips += [wide] * (blocks + (0 if last else 1))
            at = wide
        self.down = nn.ModuleList(down)
        self.middle = nn.ModuleList([block(at, at), Look(at, head, groups), block(at, at)])
        up = []
        for stage in reversed(range(len(features))):
            wide, rows = features[stage], []
            for _ in range(blocks + 1):
                rows.append(block(at + skips.pop(), wide))
                at = wide
            up.append(Stage(rows, looks(stage, blocks + 1), nn.Conv2d(wide, wide, 3, padding=1) if stage else None))
        self.up = nn.ModuleList(up)
        self.norm = nn.GroupNorm(groups, features[0])
        self.last = nn.Conv2d(features[0], cells, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]  # it has one

    def forward(self, x: Tensor, level: Tensor, labels: Tensor) -> Tensor:
        """Pictures, how noisy each is ``[batch]`` (on a scale of a thousand), and one-hot classes ``[batch, classes]``."""
        told = F.silu(self.embed(level, labels))
        if self.patch > 1:
            x = F.pad(x, (0, -self.size[1] % self.patch, 0, -self.size[0] % self.patch))
            x = F.pixel_unshuffle(x, self.patch)
        if not torch.is_grad_enabled():
            # measured on a processor with one thread: drawing is an eighth quicker so; learning in bfloat16 is slower
            x = x.contiguous(memory_format=torch.channels_last)
        x = self.first(x)
        seen = [x]
        for stage in self.down:
            assert isinstance(stage, Stage)
            for place in range(len(stage.blocks)):
                x = stage.block(place, x, told)
                seen.append(x)
            if stage.change is not None:
                x = stage.change(x)
                seen.append(x)
        for part in self.middle:
            x = part(x, told) if isinstance(part, Residual) else part(x)
        for stage in self.up:
            assert isinstance(stage, Stage)
            for place in range(len(stage.blocks)):
                x = stage.block(place, torch.cat([x, seen.pop()], dim=1), told)
            if stage.change is not None:
                x = stage.change(doubled(x, seen[-1].shape[2], seen[-1].shape[3]))
        x = self.last(F.silu(self.norm(x)))
        if self.patch > 1:
            x = F.pixel_shuffle(x, self.patch)[:, :, : self.size[0], : self.size[1]]
        return x
