"""The two players of an adversarial game on pictures: what makes them, and what tells them from real ones.

Two architectures as they were published, for any rectangle whose sides are at least 4, beside the quick `convolution`:
transposed and strided 4 × 4 convolutions (DCGAN: Radford et al. 2016, arXiv 1511.06434), and residual blocks (Gulrajani et
al. 2017, 1704.00028; Miyato et al. 2018, 1802.05957). Both generators normalise their features over the batch while they
learn; the residual one with a gain and a shift for each class, where there are classes (Miyato & Koyama 2018, 1802.05637).

A side that is odd is halved to the next larger whole number, and what a doubling makes too much is cut off.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pieria.errors import UsageError
from pieria.layers.convolution import Decoder, Encoder, feature_counts, halvings, is_small
from pieria.layers.mlp import bounded

SMALLEST = 4  # cells of a side
START = 0.02  # deviation of a DCGAN's weights, before they learn
MEMORY = 0.02  # share that a batch has in the statistics that drawing normalises by, once many were seen


class Discriminator(nn.Module):
    """Scores items ``[batch, …]`` by the ``features`` that a ``body`` finds in them: ``[batch]``, higher for real.

    A label is read beside the features (``how="concatenation"``) or as an inner product with them ("projection").
    """

    def __init__(self, body: nn.Module, features: int, classes: int, how: str, spectral: bool) -> None:
        super().__init__()
        self.body, self.classes, self.how = body, classes, how
        beside = classes if how == "concatenation" else 0
        self.hidden = bounded(nn.Linear(features + beside, features), spectral) if beside else None
        self.score = bounded(nn.Linear(features, 1), spectral)
        self.project = bounded(nn.Linear(classes, features, bias=False), spectral) if classes and not beside else None

    def forward(self, item: Tensor, labels: Tensor) -> Tensor:
        """``labels`` is one-hot ``[batch, classes]``."""
        features = self.body(item)
        if self.hidden is not None:
            features = F.leaky_relu(self.hidden(torch.cat([features, labels], dim=1)), 0.2)
        score: Tensor = self.score(features)[:, 0]
        if self.project is not None:
            score = score + (self.project(labels) * features).sum(dim=1) / features.shape[1] ** 0.5
        return score


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation whose statistics soon forget the first batches, as the running average of weights does."""

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[batch, channel, height, width]``, the same shape."""
        if self.training and self.num_batches_tracked is not None:
            self.momentum = max(MEMORY, 9 / (10 + int(self.num_batches_tracked)))
        normal: Tensor = super().forward(x)
        return normal


class ClassNorm(nn.Module):
    """Batch normalisation with a gain and a shift for each class; without classes, one of each."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.norm = BatchNorm(features, affine=not classes)
        self.gain = nn.Parameter(torch.ones(classes, features)) if classes else None
        self.shift = nn.Parameter(torch.zeros(classes, features)) if classes else None

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """``labels`` is one-hot ``[batch, classes]``."""
        x = self.norm(x)
        if self.gain is None or self.shift is None:
            return x
        return x * (labels @ self.gain)[:, :, None, None] + (labels @ self.shift)[:, :, None, None]


# ---- DCGAN -----------------------------------------------------------------------------------------------------------


class DeepGenerator(nn.Module):
    """Codes ``[batch, inputs]`` as pictures ``[batch, outputs, height, width]``, doubled by transposed convolutions.

    ``channels`` features at the smallest size, half as many at each doubling.
    """

    def __init__(self, inputs: int, outputs: int, height: int, width: int, channels: int) -> None:
        super().__init__()
        self.sizes = halvings(height, width)[::-1]
        widths = feature_counts(self.sizes[::-1], channels, outputs)[::-1]
        self.smallest = (widths[0], *self.sizes[0])
        self.first = nn.Linear(inputs, widths[0] * self.sizes[0][0] * self.sizes[0][1])
        self.stages = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths))
        # a small picture is whole before its last convolution, a large one after it
        small = is_small(self.sizes[::-1])
        self.last = nn.Conv2d(widths[-1], outputs, 3, padding=1) if small else None
        self.norms = nn.ModuleList(BatchNorm(features) for features in (widths if small else widths[:-1]))
        self.apply(_start)

    def forward(self, codes: Tensor) -> Tensor:
        """Float ``[batch, inputs] → [batch, outputs, height, width]``."""
        return self.steps(codes)[-1]

    def steps(self, codes: Tensor) -> list[Tensor]:
        """What ``forward`` passes through: the feature maps from the smallest to the largest, then its result."""
        x = F.relu(self.norms[0](self.first(codes).unflatten(1, self.smallest)))
        seen = [x]
        for stage, norm, size in zip(self.stages, self.norms[1:], self.sizes[1:], strict=False):
            x = F.relu(norm(_cut(stage(x), size)))
            seen.append(x)
        return [*seen, _cut(self.stages[-1](x), self.sizes[-1]) if self.last is None else self.last(x)]


class DeepDiscriminator(nn.Module):
    """Pictures ``[batch, inputs, height, width]`` as features ``[batch, outputs]``, halved by strided convolutions.

    ``norm`` normalises over the batch behind every convolution but the first, as in the paper: not to be combined with a
    penalty on slopes nor with bounded (``spectral``) weights.
    """

    def __init__(
        self, inputs: int, height: int, width: int, channels: int, *, spectral: bool = False, norm: bool = False
    ) -> None:
        super().__init__()
        sizes = halvings(height, width)
        widths = feature_counts(sizes, channels, inputs)
        layers: list[nn.Module] = []
        if is_small(sizes):
            layers += [bounded(nn.Conv2d(inputs, widths[0], 3, padding=1), spectral), nn.LeakyReLU(0.2)]
        for before, after in pairwise(widths):
            layers += [Even(), bounded(nn.Conv2d(before, after, 4, stride=2, padding=1), spectral)]
            layers += [BatchNorm(after)] if norm and len(layers) > 2 else []
            layers += [nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.outputs = widths[-1] * sizes[-1][0] * sizes[-1][1]
        if norm:
            self.apply(_start)

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[batch, inputs, height, width] → [batch, outputs]``."""
        features: Tensor = self.layers(x).flatten(1)
        return features


def _start(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(layer.weight, 0.0, START)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    elif isinstance(layer, BatchNorm):
        nn.init.normal_(layer.weight, 1.0, START)


# ---- residual blocks -------------------------------------------------------------------------------------------------


class ResidualGenerator(nn.Module):
    """Codes ``[batch, inputs]`` (the last ``classes`` of them a one-hot label) as pictures, doubled by residual blocks."""

    def __init__(self, inputs: int, classes: int, outputs: int, height: int, width: int, channels: int) -> None:
        super().__init__()
        self.sizes, self.classes = halvings(height, width)[::-1], classes
        widths = _halved_less(channels, len(self.sizes))
        self.smallest = (widths[0], *self.sizes[0])
        self.first = nn.Linear(inputs, widths[0] * self.sizes[0][0] * self.sizes[0][1])
        self.blocks = nn.ModuleList(Doubling(before, after, classes) for before, after in pairwise(widths))
        self.norm = BatchNorm(widths[-1])
        self.last = nn.Conv2d(widths[-1], outputs, 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        """Float ``[batch, inputs] → [batch, outputs, height, width]``."""
        return self.steps(codes)[-1]

    def steps(self, codes: Tensor) -> list[Tensor]:
        """What ``forward`` passes through: the feature maps from the smallest to the largest, then its result."""
        x = self.first(codes).unflatten(1, self.smallest)
        labels, seen = codes[:, codes.shape[1] - self.classes :], [x]
        for block, size in zip(self.blocks, self.sizes[1:], strict=True):
            x = block(x, labels, size)
            seen.append(x)
        return [*seen, self.last(F.relu(self.norm(x)))]


class Doubling(nn.Module):
    """Two normalised convolutions at twice the size, beside a straight way."""

    def __init__(self, before: int, after: int, classes: int) -> None:
        super().__init__()
        self.enter, self.middle = ClassNorm(before, classes), ClassNorm(after, classes)
        self.first, self.second = nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)
        self.straight = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor, labels: Tensor, size: tuple[int, int]) -> Tensor:
        """``[batch, before, height, width]`` to ``[batch, after, *size]``."""
        y = self.first(_doubled(F.relu(self.enter(x, labels)), size))
        y = self.second(F.relu(self.middle(y, labels)))
        straight: Tensor = _doubled(self.straight(x), size)
        return y + straight


class ResidualDiscriminator(nn.Module):
    """Pictures ``[batch, inputs, height, width]`` as features ``[batch, outputs]``, halved by residual blocks.

    The features are summed over the places of the smallest size.
    """

    def __init__(self, inputs: int, height: int, width: int, channels: int, *, spectral: bool = False) -> None:
        super().__init__()
        widths = _halved_less(channels, len(halvings(height, width)))[::-1]
        self.enter = bounded(nn.Conv2d(inputs, widths[0], 3, padding=1), spectral)
        self.blocks = nn.ModuleList(Halving(before, after, spectral) for before, after in pairwise(widths))
        self.outputs = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[batch, inputs, height, width] → [batch, outputs]``."""
        x = self.enter(x)
        for block in self.blocks:
            x = block(x)
        return F.relu(x).sum(dim=(2, 3))


class Halving(nn.Module):
    """Two convolutions and a mean over fours of cells, beside a straight way."""

    def __init__(self, before: int, after: int, spectral: bool) -> None:
        super().__init__()
        self.first = bounded(nn.Conv2d(before, after, 3, padding=1), spectral)
        self.second = bounded(nn.Conv2d(after, after, 3, padding=1), spectral)
        self.straight = bounded(nn.Conv2d(before, after, 1), spectral)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, before, height, width]`` to half the size, rounded up."""
        x = _even(x)
        y = self.second(F.relu(self.first(F.relu(x))))
        straight: Tensor = self.straight(F.avg_pool2d(x, 2))
        return F.avg_pool2d(y, 2) + straight


class Even(nn.Module):
    """An odd side gets one empty line, so that halving rounds up."""

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[batch, channel, height, width]``, each side even."""
        return _even(x)


def _halved_less(channels: int, sizes: int) -> list[int]:
    """Features at each size, the smallest first: half as many at each doubling, but never few."""
    return [max(channels // 2**stage, min(channels, 16)) for stage in range(sizes)]


def _doubled(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")[..., : size[0], : size[1]]


def _cut(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x[..., : size[0], : size[1]]


def _even(x: Tensor) -> Tensor:
    return F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)) if x.shape[-1] % 2 or x.shape[-2] % 2 else x


# ---- by name ---------------------------------------------------------------------------------------------------------

PictureGenerator = Decoder | DeepGenerator | ResidualGenerator
PictureReader = Encoder | DeepDiscriminator | ResidualDiscriminator


def makes(network: str, inputs: int, classes: int, size: tuple[int, int, int], channels: int) -> PictureGenerator:
    """The generator of pictures of this ``size`` (channel, height, width) from codes whose last ``classes`` are a label.

    Raises `UsageError` for pictures that are smaller than the published networks halve.
    """
    cells, height, width = size
    if network == "convolution":
        return Decoder(inputs, cells, height, width, channels, norm=True)
    if min(height, width) < SMALLEST:
        raise UsageError(
            f"network={network} for grids of {height} × {width}",
            f"both sides are at least {SMALLEST} for it",
            "Take network=mlp, or larger pictures",
        )
    if network == "dcgan":
        return DeepGenerator(inputs, cells, height, width, channels)
    return ResidualGenerator(inputs, classes, cells, height, width, channels)


def reads(network: str, size: tuple[int, int, int], channels: int, *, spectral: bool, norm: bool) -> PictureReader:
    """What a discriminator of such pictures reads them by; ``norm`` is DCGAN's alone."""
    cells, height, width = size
    if network == "convolution":
        return Encoder(cells, height, width, channels, spectral=spectral)
    if network == "dcgan":
        return DeepDiscriminator(cells, height, width, channels, spectral=spectral, norm=norm)
    return ResidualDiscriminator(cells, height, width, channels, spectral=spectral)
