"""Monotone functions of one number, each with its slope and its inverse: affine, and the rational-quadratic spline.

A spline of ``K`` bins maps ``[-BOUND, BOUND]`` onto itself and is the identity outside. A bin has a width, a height and a
slope at either end; with ``ξ`` the place within it, ``s`` height over width and ``d₀``, ``d₁`` the slopes,

    η = (s ξ² + d₀ ξ (1 - ξ)) / (s + (d₀ + d₁ - 2 s) ξ (1 - ξ))

is where it goes (Gregory & Delbourgo 1982; as a layer of a flow: Durkan et al. 2019, arXiv 1906.04032). It rises wherever
the slopes are positive, and its inverse is the root of a quadratic equation.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

BOUND = 5.0
LIMIT = -math.log(1e-3)  # no slope is steeper than 1000 or flatter than 1 / 1000


def limited(raw: Tensor, limit: float | Tensor = LIMIT) -> Tensor:
    """``raw`` near 0, and smoothly never beyond ``±limit``."""
    return raw / (1 + (raw / limit).abs())


def within(place: Tensor, slope: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Where ``place`` in [0, 1] of a bin goes, in [0, 1] of its height, and the log of the slope there.

    ``slope`` is height over width, ``left`` and ``right`` are the slopes at the ends; all of one shape.
    """
    both = place * (1 - place)
    below = slope + (left + right - 2 * slope) * both
    gone = (slope * place.square() + left * both) / below
    rising = right * place.square() + 2 * slope * both + left * (1 - place).square()
    return gone, 2 * slope.log() + rising.log() - 2 * below.log()


def within_inverse(gone: Tensor, slope: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """The inverse of `within`: where in the bin it came from."""
    bend = gone * (left + right - 2 * slope)
    a, b, c = slope - left + bend, left - bend, -slope * gone
    return 2 * c / (-b - (b.square() - 4 * a * c).clamp(min=0).sqrt())


class Elementwise(ABC):
    """A monotone function of each number, whose ``parameters`` a network writes; it is the identity where those are 0."""

    parameters: int

    @abstractmethod
    def forward(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """``x [...]``, ``raw [..., parameters]`` to the function of ``x`` and the log of its slope, both ``[...]``."""

    @abstractmethod
    def inverse(self, y: Tensor, raw: Tensor) -> Tensor:
        """What `forward` made ``y`` of."""


@dataclass(frozen=True)
class Affine(Elementwise):
    """``exp(a) x + b`` with ``b, a = raw``, and ``a`` kept within ``±LIMIT``."""

    parameters: int = 2

    def forward(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """One product and one sum."""
        rise = limited(raw[..., 1])
        return x * rise.exp() + raw[..., 0], rise

    def inverse(self, y: Tensor, raw: Tensor) -> Tensor:
        """One difference and one product."""
        return (y - raw[..., 0]) * (-limited(raw[..., 1])).exp()


class Spline(Elementwise):
    """A rational-quadratic spline of ``bins`` bins: ``raw`` holds the widths, the heights, and the slopes between bins."""

    def __init__(self, bins: int) -> None:
        self.bins, self.parameters = bins, 3 * bins - 1

    def forward(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Within the bound by the formula, outside it the identity."""
        place = (x / (2 * BOUND) + 0.5).clamp(0, 1)
        begin, width, bottom, height, left, right = self._bin(place, raw, 0)
        gone, rise = within((place - begin) / width, height / width, left, right)
        inside = x.abs() < BOUND
        return (
            torch.where(inside, (bottom + height * gone - 0.5) * (2 * BOUND), x),
            torch.where(inside, rise, torch.zeros_like(x)),
        )

    def inverse(self, y: Tensor, raw: Tensor) -> Tensor:
        """The same bins, looked up by their heights."""
        place = (y / (2 * BOUND) + 0.5).clamp(0, 1)
        begin, width, bottom, height, left, right = self._bin(place, raw, 1)
        came = within_inverse((place - bottom) / height, height / width, left, right)
        return torch.where(y.abs() < BOUND, (begin + width * came - 0.5) * (2 * BOUND), y)

    def _bin(self, place: Tensor, raw: Tensor, side: int) -> tuple[Tensor, ...]:
        """The bin of each ``place`` among widths (``side`` 0) or heights (1): begin and width, bottom and height, slopes."""
        limits = raw.new_tensor([LIMIT / 2] * 2 * self.bins + [LIMIT] * (self.bins - 1))
        shares, slopes = limited(raw, limits).exp().split([2 * self.bins, self.bins - 1], dim=-1)
        shares = shares.unflatten(-1, (2, self.bins))
        shares = shares / shares.sum(dim=-1, keepdim=True)
        ends = shares.cumsum(dim=-1)
        bin_ = (place[..., None] >= ends[..., side, :-1]).sum(dim=-1, keepdim=True)
        both = bin_[..., None].expand(*bin_.shape[:-1], 2, 1)
        size = shares.gather(-1, both)[..., 0]
        width, height = size.unbind(dim=-1)
        begin, bottom = (ends.gather(-1, both)[..., 0] - size).unbind(dim=-1)
        # outside the bound the slope is 1
        edges = F.pad(slopes, (1, 1), value=1.0)
        left, right = edges.gather(-1, torch.cat([bin_, bin_ + 1], dim=-1)).unbind(dim=-1)
        return begin, width, bottom, height, left, right
