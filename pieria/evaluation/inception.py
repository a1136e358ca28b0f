"""The Inception network in whose features papers take the Fréchet distance between sets of pictures (FID).

Figures of different networks cannot be compared, and neither can those of one network with other weights or another way to
enlarge pictures. So this is the network of 2015-12-05 that the first FIDs were taken in, with its peculiarities: 1,008
classes, averages that leave the padding out, a last pool that takes maxima, and pictures that are stretched to 299 × 299 as
TensorFlow 1 did it. Features are the 2,048 averages before its classes; its classes, without their offsets, give the
Inception score.

Its weights are not ours and are 96 MB, so they are fetched once, where they are asked for. They are published as a file of
torch. Its SHA-256 is declared here and is checked before anything of it is read, and it is read as tensors alone
(``weights_only``): nothing of it is executed. There is no safetensors file with a hash that others could look up.

Szegedy et al. 2016, https://arxiv.org/abs/1512.00567; Heusel et al. 2017, https://arxiv.org/abs/1706.08500; Salimans et al.
2016, https://arxiv.org/abs/1606.03498. The weights: https://github.com/mseitzer/pytorch-fid, made from those of
http://download.tensorflow.org/models/image/imagenet/inception-2015-12-05.tgz (Apache 2.0).
"""

import hashlib
import io
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from pieria.data.fetched import File
from pieria.errors import DataError
from pieria.evaluation.features import as_colours
from pieria.forms import Grid

SIZE = 299
FEATURES, CLASSES = 2048, 1008
NAME = "inception-2015"
PUBLISHED = File(
    path="features/pt_inception-2015-12-05-6726825d.pth",
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
)

# a convolution: features, window, and a step of 2 where there is one
Layer = tuple[int, int | tuple[int, int]] | tuple[int, int | tuple[int, int], int]
# branches by name, each a chain of convolutions whose last link may be two side by side
Branches = dict[str, list[Layer | list[Layer]]]
ROW, COLUMN = (1, 7), (7, 1)
SIDE_BY_SIDE: list[Layer] = [(384, (1, 3)), (384, (3, 1))]


class Normalised(nn.Module):
    """Batch normalisation by the averages that were learned."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        for name, value in {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}.items():
            self.register_buffer(name, torch.full((width,), value))

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, width, height, width]``."""
        return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=1e-3)


class Unit(nn.Module):
    """A convolution without offsets, normalised, rectified."""

    def __init__(
        self, inputs: int, width: int, window: int | tuple[int, int], step: int = 1, pad: bool | None = None
    ) -> None:
        super().__init__()
        sides = (window, window) if isinstance(window, int) else window
        padded = step == 1 if pad is None else pad
        self.conv = nn.Conv2d(inputs, width, sides, step, (sides[0] // 2, sides[1] // 2) if padded else 0, bias=False)
        self.bn = Normalised(width)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures as the features before them."""
        y: Tensor = self.bn(self.conv(x))
        return functional.relu(y, inplace=True)


class Block(nn.ModuleDict):
    """Branches side by side; the one called ``branch_pool`` reads a pool of what the others read."""

    def __init__(self, inputs: int, branches: Branches, pool: str) -> None:
        super().__init__()
        self.pool, self.chains, self.width = pool, [], 0
        for name, chain in branches.items():
            width, stages = inputs, []
            for place, link in enumerate(chain, 1):
                layers = link if isinstance(link, list) else [link]
                called = name if len(chain) == 1 else f"{name}_{place}"
                names = [called + letter for letter in "ab"] if len(layers) > 1 else [called]
                for one, layer in zip(names, layers, strict=True):
                    self[one] = Unit(width, *layer)
                width = sum(layer[0] for layer in layers)
                stages.append(names)
            self.chains.append((name, stages))
            self.width += width

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, inputs, height, width]`` to ``[batch, self.width, …]``."""
        found = []
        for name, stages in self.chains:
            h = self._pooled(x) if name == "branch_pool" else x
            for names in stages:
                h = torch.cat([self[one](h) for one in names], dim=1)
            found.append(h)
        return torch.cat(found, dim=1)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pool == "average":
            return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return functional.max_pool2d(x, 3, 2) if self.pool == "half" else functional.max_pool2d(x, 3, 1, 1)


def _fives(pool: int) -> Branches:
    return {
        "branch1x1": [(64, 1)],
        "branch5x5": [(48, 1), (64, 5)],
        "branch3x3dbl": [(64, 1), (96, 3), (96, 3)],
        "branch_pool": [(pool, 1)],
    }


def _sevens(width: int) -> Branches:
    return {
        "branch1x1": [(192, 1)],
        "branch7x7": [(width, 1), (width, ROW), (192, COLUMN)],
        "branch7x7dbl": [(width, 1), (width, COLUMN), (width, ROW), (width, COLUMN), (192, ROW)],
        "branch_pool": [(192, 1)],
    }


SMALLER: Branches = {"branch3x3": [(384, 3, 2)], "branch3x3dbl": [(64, 1), (96, 3), (96, 3, 2)], "branch_pool": []}
SMALLEST: Branches = {
    "branch3x3": [(192, 1), (320, 3, 2)],
    "branch7x7x3": [(192, 1), (192, ROW), (192, COLUMN), (192, 3, 2)],
    "branch_pool": [],
}
WIDE: Branches = {
    "branch1x1": [(320, 1)],
    "branch3x3": [(384, 1), SIDE_BY_SIDE],
    "branch3x3dbl": [(448, 1), (384, 3), SIDE_BY_SIDE],
    "branch_pool": [(192, 1)],
}
BLOCKS: dict[str, tuple[Branches, str]] = {
    "Mixed_5b": (_fives(32), "average"),
    "Mixed_5c": (_fives(64), "average"),
    "Mixed_5d": (_fives(64), "average"),
    "Mixed_6a": (SMALLER, "half"),
    "Mixed_6b": (_sevens(128), "average"),
    "Mixed_6c": (_sevens(160), "average"),
    "Mixed_6d": (_sevens(160), "average"),
    "Mixed_6e": (_sevens(192), "average"),
    "Mixed_7a": (SMALLEST, "half"),
    "Mixed_7b": (WIDE, "average"),
    "Mixed_7c": (WIDE, "largest"),
}


class Inception(nn.Module):
    """The network; its parts are called as in the published file."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Unit(3, 32, 3, step=2)
        self.Conv2d_2a_3x3 = Unit(32, 32, 3, pad=False)
        self.Conv2d_2b_3x3 = Unit(32, 64, 3)
        self.Conv2d_3b_1x1 = Unit(64, 80, 1)
        self.Conv2d_4a_3x3 = Unit(80, 192, 3, pad=False)
        width = 192
        for name, (branches, pool) in BLOCKS.items():
            block = Block(width, branches, pool)
            self.add_module(name, block)
            width = block.width
        self.fc = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Features ``[batch, 2048]`` of pictures ``[batch, 3, 299, 299]`` in [-1, 1]."""
        h = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # [b, 64, 147, 147]
        h = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(functional.max_pool2d(h, 3, 2)))  # [b, 192, 71, 71]
        h = functional.max_pool2d(h, 3, 2)  # [b, 192, 35, 35]
        for name in BLOCKS:
            h = self.get_submodule(name)(h)  # [b, 2048, 8, 8] at last
        return h.mean(dim=(2, 3))


def load(path: Path | None = None) -> tuple[Inception, str]:
    """The frozen network and the SHA-256 of its weights, read from ``path``, or else fetched once.

    Raises `DataError` for a file that is not the published one, and where it cannot be fetched; the message says what to do.
    """
    if path is None:
        how = f", or name the file itself: --features {Path(PUBLISHED.path).name}"
        path = PUBLISHED.fetch("inception", "https://github.com/mseitzer/pytorch-fid", how, room="")
    raw = path.read_bytes()
    found = hashlib.sha256(raw).hexdigest()  # of the very bytes that are read below
    if found != PUBLISHED.sha256:
        raise DataError(
            f"{path} has the SHA-256 {found}",
            f"the weights that FID is defined by, {PUBLISHED.sha256}",
            f"Fetch them from {PUBLISHED.url}",
        )
    state = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    with torch.device("meta"):
        network = Inception()
    # channels last: a quarter less time on processors
    weights = {
        name: value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")
    }
    network.load_state_dict(weights, assign=True)
    return network.eval().requires_grad_(False), found


def as_shown(x: Tensor, form: Grid) -> Tensor:
    """Any grid as float ``[batch, 3, 299, 299]`` in [-1, 1), from colours of 8 bits, stretched as TensorFlow 1 did it.

    A pixel lies at its upper left corner, not in its middle, and where pictures shrink nothing is averaged.
    """
    colours = ((as_colours(x, form) + 1) * 127.5).round()
    height, width = (_stretched(side, SIZE, colours) for side in colours.shape[-2:])
    return ((height @ colours @ width.T - 128) / 128).contiguous(memory_format=torch.channels_last)


def _stretched(size: int, wanted: int, like: Tensor) -> Tensor:
    """The matrix ``[wanted, size]`` that stretches a line of pixels, in straight lines from one to the next."""
    places = torch.arange(wanted, dtype=torch.float64) * (size / wanted)
    low = places.floor().long()
    rows, share = torch.arange(wanted), places - low
    matrix = torch.zeros(wanted, size, dtype=torch.float64)
    matrix[rows, low] += 1 - share
    matrix[rows, (low + 1).clamp(max=size - 1)] += share
    return matrix.to(like)
