"""Whole chains of bijections: over the numbers of a vector, over a field scale by scale, into the intervals of levels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pieria.layers.bijections import (
    ActNorm,
    Autoregressive,
    Bijection,
    Chain,
    Coupling,
    FieldNetwork,
    Mixing,
    Scales,
    Squeeze,
    VectorNetwork,
)
from pieria.layers.marginals import HALF_LOG_TAU
from pieria.layers.splines import Affine, Elementwise

LEAST = 1e-6  # a place within an interval is no nearer to its end
DEQUANTISING = 4  # couplings of the flow that places an item within its intervals
FIRST, SECOND = slice(0, None, 2), slice(1, None, 2)


def vector_coupling(size: int, context: int, widths: Sequence[int], law: Elementwise, backwards: bool) -> Coupling:
    """Every second number stays; with ``backwards`` those that are changed else."""
    kept, changed = (FIRST, SECOND) if backwards and size > 1 else (SECOND, FIRST)
    count, told = (len(range(size)[part]) for part in (changed, kept))
    return Coupling(size, kept, changed, VectorNetwork(told, context, widths, count * law.parameters), law)


def field_coupling(
    channels: int, context: int, hidden: int, law: Elementwise, backwards: bool = False, *, maps: bool = False
) -> Coupling:
    """The first half of the channels stays; with ``backwards`` the second. ``hidden`` features of its network."""
    half = channels // 2
    kept, changed = (slice(half, None), slice(0, half)) if backwards else (slice(0, half), slice(half, None))
    # what a spline is told is much, so it is told by the place itself
    network = FieldNetwork(half, context, hidden, half * law.parameters, maps=maps, spread=law.parameters <= 2)
    return Coupling(channels, kept, changed, network, law)


def over_vector(
    size: int, context: int, widths: Sequence[int], layers: int, law: Elementwise, *, autoregressive: bool, standardise: bool
) -> Chain:
    """``layers`` couplings or autoregressive layers, to and fro; with ``standardise`` after a shift and a scale."""
    links: list[Bijection] = [ActNorm(size)] if standardise else []
    for number in range(layers if size else 0):
        backwards = number % 2 == 1
        if autoregressive:
            links.append(Autoregressive(size, context, widths, law, backwards=backwards))
        else:
            links.append(vector_coupling(size, context, widths, law, backwards))
    return Chain(links)


def over_field(
    shape: tuple[int, int, int],
    context: int,
    hidden: int,
    law: Elementwise,
    *,
    layers: int,
    scales: int,
    fine: int,
) -> Scales:
    """A field of ``shape`` (height, width, channels) halved up to ``scales`` times, with steps of Glow at each scale.

    The finest of several scales has ``fine`` steps and puts nothing aside: its few steps have seen but the nearest cells.
    Each other one has ``layers`` steps.
    """
    height, width, channels = shape
    levels: list[Chain] = []
    asides: list[Bijection | None] = []
    while True:
        height, width, channels = height // 2, width // 2, 4 * channels
        first = not levels
        last = len(levels) + 1 == scales or bool(height % 2 or width % 2) or min(height, width) < 4
        links: list[Bijection] = []
        for _ in range(fine if first and not last else layers):
            links += [ActNorm(channels), Mixing(channels), field_coupling(channels, context, hidden, law)]
        levels.append(Chain(links))
        if last:
            return Scales(shape, levels, asides, Squeeze())
        asides.append(None if first else field_coupling(channels, context, hidden, law))
        channels //= 1 if first else 2


class Dequantiser(nn.Module):
    """Draws where in its interval each level lies, as a flow of its own has learned, given all levels (Ho et al. 2019).

    ``shape`` is (height, width, channels) of a field, or ``(size,)`` of a vector.
    """

    def __init__(self, shape: tuple[int, ...], widths: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.squeeze = Squeeze() if len(shape) == 3 else None
        channels = 4 * shape[-1]
        couplings = [
            field_coupling(channels, channels, hidden, Affine(), number % 2 == 1, maps=True)
            if self.squeeze is not None
            else vector_coupling(shape[0], shape[0], widths, Affine(), number % 2 == 1)
            for number in range(DEQUANTISING)
        ]
        self.chain = Chain(couplings)

    def forward(self, x: Tensor, away: Tensor) -> tuple[Tensor, Tensor]:
        """Levels in [-1, 1] and Gaussian noise, ``[batch, *shape]``: places in (0, 1), and the log-density ``[batch]``."""
        total = (-0.5 * away.square() - HALF_LOG_TAU).flatten(1).sum(dim=1)
        if self.squeeze is not None:
            x, away = self.squeeze(x, x)[0], self.squeeze(away, x)[0]
        place, rise = self.chain(away, x)
        if self.squeeze is not None:
            place = self.squeeze.inverse(place, x)
        # where the chain does nothing, a place is anywhere in its interval
        slope = -0.5 * place.square() - HALF_LOG_TAU
        return torch.special.ndtr(place).clamp(LEAST, 1 - LEAST), total - rise - slope.flatten(1).sum(dim=1)
