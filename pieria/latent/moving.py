"""Paths through a latent space, as plain functions of codes ``[numbers]``."""

import math

import torch
from torch import Tensor


def linear(first: Tensor, second: Tensor, steps: int) -> Tensor:
    """``steps`` codes on the straight line between two, both ends included, ``[steps, numbers]``."""
    along = torch.linspace(0, 1, steps, dtype=torch.float64)[:, None].to(first.device)
    return ((1 - along) * first.double() + along * second.double()).to(first.dtype)


def spherical(first: Tensor, second: Tensor, steps: int, centre: Tensor, spread: Tensor) -> Tensor:
    """``steps`` codes on the great circle between two around ``centre``, ``[steps, numbers]``.

    In many dimensions nearly all of a Gaussian lies in a thin shell, and a straight line between two of its points leaves
    it: halfway the code is shorter than any that is drawn. Here the direction turns evenly, and the length goes evenly from
    one to the other (Shoemake 1985; White 2016, arXiv:1609.04468). Codes in opposite directions have no one great circle,
    and codes in the same direction need none: between them the line is straight.
    """
    a, b = (((code - centre) / spread).double() for code in (first, second))
    length_a, length_b = a.norm(), b.norm()
    if float(length_a * length_b) == 0:
        return linear(first, second, steps)
    cosine = float((a @ b) / (length_a * length_b))
    if abs(cosine) > 1 - 1e-9:
        return linear(first, second, steps)
    angle = math.acos(cosine)
    along = torch.linspace(0, 1, steps, dtype=torch.float64)[:, None].to(first.device)
    turned = ((1 - along) * angle).sin() * a / length_a + (along * angle).sin() * b / length_b
    codes = turned / math.sin(angle) * ((1 - along) * length_a + along * length_b)
    codes = codes * spread.double() + centre.double()
    codes[0], codes[-1] = first.double(), second.double()
    return codes.to(first.dtype)


def loop(draws: Tensor, frames: int, centre: Tensor) -> Tensor:
    """A smooth closed walk of ``frames`` codes through the space that ``draws`` ``[2 k, numbers]`` come from.

    ``c(t) = centre + Σⱼ √wⱼ (aⱼ cos 2πjt + bⱼ sin 2πjt)`` over the draws' distances from the centre, two for each of ``k``
    harmonics, with ``wⱼ`` falling as 1/j² and adding up to 1. At every moment the code has the mean and the covariance of
    the draws; where they are Gaussian it is itself such a draw, and the walk is a periodic Gaussian process.
    """
    harmonics = len(draws) // 2
    turns = torch.arange(1, harmonics + 1, dtype=torch.float64)
    weights = turns.square().reciprocal()
    weights = (weights / weights.sum()).sqrt()
    angle = 2 * math.pi * torch.arange(frames, dtype=torch.float64)[:, None] / frames * turns
    waves = torch.cat([weights * angle.cos(), weights * angle.sin()], dim=1).to(draws.device)  # [frame, 2 k]
    away = (draws - centre).double()
    return (waves @ away + centre.double()).to(draws.dtype)
