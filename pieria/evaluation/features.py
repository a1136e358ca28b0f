"""What a picture looks like to a small frozen network: the space in which sets of pictures are compared.

Distances such as Fréchet's mean nothing without the network that they were taken in, so its weights ship with the package,
its name carries their hash (``pieria-c1 ab12cd34``), and every figure carries the name. It saw Fashion-MNIST, MNIST,
Omniglot and emoji at 32 × 32, and learned two things at once: what a picture shows, and what was done to it (noise, blur,
shuffled patches, a ghost of a second picture, …), so that its features notice both what is drawn and how well.
``python -m benchmarks.make_features`` makes the weights again. It is small: figures taken in it are for comparing models on
the same data, and are not those that papers take in Inception networks.
"""

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pieria.forms import Grid

SIZE = 32
WEIGHTS = Path(__file__).parent / "features-c1.safetensors"


class FeatureNetwork(nn.Module):
    """Four convolutions; the features are the averages over the picture of its second and of its last layer.

    The second layer, whose cells see 5 × 5 pixels, tells sharp from blurred; the last one sees nearly everything.
    """

    width = 32 + 64
    mean: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 24, 3, padding=1)
        self.second = nn.Conv2d(24, 32, 3, stride=2, padding=1)
        self.third = nn.Conv2d(32, 48, 3, stride=2, padding=1)
        self.fourth = nn.Conv2d(48, 64, 3, stride=2, padding=1)
        # mean and spread of each feature over the pictures that it learned from: a unit means the same in all of them
        self.register_buffer("mean", torch.zeros(self.width))
        self.register_buffer("spread", torch.ones(self.width))

    def forward(self, x: Tensor) -> Tensor:
        """Features ``[batch, 96]`` of pictures ``[batch, 3, 32, 32]`` in [-1, 1]."""
        h = functional.relu(self.first(x))  # [b, 24, 32, 32]
        texture = functional.relu(self.second(h))  # [b, 32, 16, 16]
        h = functional.relu(self.third(texture))  # [b, 48, 8, 8]
        shape = functional.relu(self.fourth(h))  # [b, 64, 4, 4]
        pooled = torch.cat([texture.mean(dim=(2, 3)), shape.mean(dim=(2, 3))], dim=1)
        return (pooled - self.mean) / self.spread


@lru_cache(maxsize=1)
def network() -> tuple[FeatureNetwork, str]:
    """The frozen network and its name, which ends with the first eight digits of its weights' sha256."""
    from safetensors.torch import load

    raw = WEIGHTS.read_bytes()
    frozen = FeatureNetwork()
    frozen.load_state_dict(load(raw))
    return frozen.eval().requires_grad_(False), f"pieria-c1 {hashlib.sha256(raw).hexdigest()[:8]}"


def as_values(x: Tensor, form: Grid) -> Tensor:
    """Any grid as float ``[batch, channel, height, width]`` in [-1, 1].

    Kinds that have no order (tiles) each become a colour of their own: three channels, averaged over the form's own.
    """
    if form.levels is None:
        return x.float().clamp(-1, 1)
    if form.ordered:
        return x.float() * (2.0 / max(form.levels - 1, 1)) - 1
    return _palette(form.levels)[x].movedim(-1, 2).mean(dim=1)


def as_colours(x: Tensor, form: Grid) -> Tensor:
    """Any grid as float ``[batch, 3, height, width]`` in [-1, 1].

    Grey is repeated; two channels get their mean as the third; more than three are averaged in three groups.
    """
    values = as_values(x, form)
    channels = values.shape[1]
    if channels == 1:
        values = values.expand(-1, 3, -1, -1)
    elif channels == 2:
        values = torch.cat([values, values.mean(dim=1, keepdim=True)], dim=1)
    elif channels > 3:
        parts = torch.tensor_split(values, 3, dim=1)
        values = torch.cat([part.mean(dim=1, keepdim=True) for part in parts], dim=1)
    return values


def as_pictures(x: Tensor, form: Grid, size: int = SIZE) -> Tensor:
    """Any grid as float ``[batch, 3, size, size]`` in [-1, 1]: what the network is shown.

    Larger grids are averaged down, smaller ones interpolated.
    """
    values = as_colours(x, form)
    if values.shape[-2:] == (size, size):
        return values
    if min(values.shape[-2:]) >= size:
        return functional.interpolate(values, (size, size), mode="area")
    return functional.interpolate(values, (size, size), mode="bilinear", antialias=True)


def _palette(levels: int) -> Tensor:
    # colours far apart, in a fixed order: steps of the golden angle through a cube (Roberts' low-discrepancy sequence)
    steps = torch.arange(levels, dtype=torch.float64)[:, None] * torch.tensor([0.8191725134, 0.6710436067, 0.5497004779])
    return (2 * ((0.5 + steps) % 1.0) - 1).float()


def picture_features(x: Tensor, form: Grid, batch: int = 500) -> np.ndarray:
    """Features float64 ``[batch, 96]`` of any grid, by the frozen network."""
    frozen, _ = network()
    device = frozen.mean.device  # a scorecard of a model on another device leaves it there
    with torch.no_grad():
        parts = [frozen(as_pictures(x[start : start + batch], form).to(device)) for start in range(0, len(x), batch)]
    return torch.cat(parts).double().cpu().numpy()
