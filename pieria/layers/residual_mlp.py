"""A residual perceptron that is told how noisy its numbers are: the network of noisy rows and of very small pictures."""

import torch.nn.functional as F
from torch import Tensor, nn

from pieria.layers.noise_levels import LevelEmbedding


class ResidualMLP(nn.Module):
    """Float ``[batch, …]`` in the shape ``shape``, to the same shape: ``depth`` residual blocks of ``width`` features.

    Each block is normalised, then scaled and shifted by the noise level and the class (one-hot ``[batch, classes]``).
    """

    def __init__(self, shape: tuple[int, ...], width: int, depth: int, *, classes: int = 0, waves: int = 64) -> None:
        super().__init__()
        cells = 1
        for side in shape:
            cells *= side
        self.width = width
        self.embed = LevelEmbedding(waves, width, classes)
        self.first = nn.Linear(cells, width)
        self.told = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.widen = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.narrow = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(depth))
        self.last = nn.Linear(width, cells)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, level: Tensor, labels: Tensor) -> Tensor:
        """``level`` is ``[batch]``, on a scale of a thousand."""
        told = F.silu(self.embed(level, labels))
        inside = self.first(x.flatten(1))
        for tell, widen, narrow in zip(self.told, self.widen, self.narrow, strict=True):
            scale, shift = tell(told).chunk(2, dim=1)
            inside = inside + narrow(F.silu(widen(F.layer_norm(inside, (self.width,)) * (1 + scale) + shift)))
        out: Tensor = self.last(F.silu(inside))
        return out.view(x.shape)
