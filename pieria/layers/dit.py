"""A diffusion transformer: a picture as a row of patches, each looking at all others, told at every block how noisy it is.

DiT with adaLN-zero (Peebles & Xie 2023, arXiv 2212.09748): the noise level and the class say how each block scales and
shifts what it reads, and how much of what it found it adds; at first nothing.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pieria.layers.noise_levels import LevelEmbedding, waves


def places(height: int, width: int, features: int) -> Tensor:
    """Fixed features of each place of a grid, ``[height · width, features]``: waves of its row beside its column's."""
    half = features // 2 + features // 2 % 2
    row, column = waves(torch.arange(height), half), waves(torch.arange(width), half)
    both = torch.cat([row[:, None].expand(-1, width, -1), column[None].expand(height, -1, -1)], dim=2)
    return both.flatten(0, 1)[:, :features]


class Block(nn.Module):
    """Attention and a feed-forward network, each scaled, shifted and gated by the noise level."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.told = nn.Linear(width, 6 * width)
        self.attend = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        nn.init.zeros_(self.told.weight)
        nn.init.zeros_(self.told.bias)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """``[batch, place, width]`` and ``[batch, width]``."""
        shift, scale, gate, shift2, scale2, gate2 = self.told(level)[:, None].chunk(6, dim=2)
        inside = F.layer_norm(x, x.shape[2:]) * (1 + scale) + shift
        q, k, v = self.attend(inside).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + gate * self.attended(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        inside = F.layer_norm(x, x.shape[2:]) * (1 + scale2) + shift2
        return x + gate2 * self.narrow(F.gelu(self.widen(inside), approximate="tanh"))


class DiT(nn.Module):
    """What the network says of noisy pictures ``[batch, inputs, height, width]``, in the same shape.

    Args:
        inputs: channels of the picture; ``height`` and ``width`` its size.
        patch: side of a patch; the picture is padded to a whole number of them.
        width: features of a patch, a multiple of ``heads``; ``depth`` blocks.
        classes: of the condition; 0 without one.
    """

    grid: Tensor

    def __init__(
        self, inputs: int, height: int, width: int, *, patch: int, features: int, depth: int, heads: int, classes: int = 0
    ) -> None:
        super().__init__()
        self.patch, self.size, cells = patch, (height, width), inputs * patch * patch
        self.patches = (-(-height // patch), -(-width // patch))
        self.register_buffer("grid", places(*self.patches, features), persistent=False)
        self.embed = LevelEmbedding(min(256, features), features, classes)
        self.first = nn.Linear(cells, features)
        self.blocks = nn.ModuleList(Block(features, heads) for _ in range(depth))
        self.told = nn.Linear(features, 2 * features)
        self.last = nn.Linear(features, cells)
        for layer in (self.told, self.last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, level: Tensor, labels: Tensor) -> Tensor:
        """Pictures, how noisy each is ``[batch]`` (on a scale of a thousand), and one-hot classes ``[batch, classes]``."""
        told = F.silu(self.embed(level, labels))
        x = F.pad(x, (0, -self.size[1] % self.patch, 0, -self.size[0] % self.patch))
        x = F.pixel_unshuffle(x, self.patch).flatten(2).transpose(1, 2)  # [batch, place, cell]
        x = self.first(x) + self.grid
        for block in self.blocks:
            x = block(x, told)
        shift, scale = self.told(told)[:, None].chunk(2, dim=2)
        x = self.last(F.layer_norm(x, x.shape[2:]) * (1 + scale) + shift)
        x = F.pixel_shuffle(x.transpose(1, 2).unflatten(2, self.patches), self.patch)
        return x[:, :, : self.size[0], : self.size[1]]
