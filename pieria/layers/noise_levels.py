"""How noisy an item is, as features that a network reads."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def waves(place: Tensor, width: int) -> Tensor:
    """Cosines and sines of ``place [batch]`` at ``width / 2`` frequencies from 1 to 1e-4: float32 ``[batch, width]``."""
    half = width // 2
    frequency = torch.exp(-math.log(10_000) / half * torch.arange(half, dtype=torch.float32, device=place.device))
    angle = place[:, None].float() * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class LevelEmbedding(nn.Module):
    """A noise level ``[batch]`` and a one-hot class ``[batch, classes]`` as features ``[batch, width]``.

    A class of all zeros is no class: what classifier-free guidance asks the network without one.
    """

    def __init__(self, waves: int, width: int, classes: int = 0) -> None:
        super().__init__()
        self.waves = waves + waves % 2
        self.first = nn.Linear(self.waves, width)
        self.second = nn.Linear(width, width)
        self.label = nn.Linear(classes, width, bias=False) if classes else None

    def forward(self, level: Tensor, labels: Tensor) -> Tensor:
        """Float ``[batch]`` on a scale of a thousand, and ``[batch, classes]``, to ``[batch, width]``."""
        features: Tensor = self.second(F.silu(self.first(waves(level, self.waves))))
        return features if self.label is None else features + self.label(labels)
