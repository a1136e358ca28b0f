"""How probable an item is around a guess at it that is known to be about right: the last step of a diffusion.

A guess ``[batch, …]`` is a clean picture or a coded row as a network sees it; its numbers are off by about ``scale``. So
numbers have a normal density, levels the normal mass of their interval, and symbols, which are one-hot with -1 and 1,
the probability that theirs is the one seen among all symbols (Kingma et al. 2021, arXiv 2107.00630).
"""

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from pieria.forms import Grid
from pieria.losses.observation import HALF_LOG_TAU, log_difference, log_normal


def grid_around(form: Grid, guess: Tensor, scale: float, x: Tensor, added: Tensor) -> Tensor:
    """Nats ``[batch]`` of grids ``x`` in the form's tensor, given guesses ``[batch, channel, height, width]``.

    ``added`` is the standard noise that the guess was made from, in its shape. By about so much a guess at continuous cells
    is off; its square less 1, which is 0 in the mean, takes the chance out of their density.
    """
    guess, levels = guess.double(), form.levels
    if levels is None:
        cell = 0.5 * (added.square() - 1 - ((x - guess) / scale).square()) - math.log(scale) - HALF_LOG_TAU
    elif form.ordered:
        centre, half = 2 * x.double() / max(1, levels - 1) - 1, 1 / max(1, levels - 1)
        upper, lower = (centre + half - guess) / scale, (centre - half - guess) / scale
        inside = log_difference(upper, lower, "normal")
        cell = torch.where(x == 0, log_normal(upper), torch.where(x == levels - 1, log_normal(-lower), inside))
    else:
        odds = (2 * guess.unflatten(1, (form.channels, levels)) / scale**2).log_softmax(dim=2)
        cell = odds.gather(2, x[:, :, None])
    return cell.flatten(1).sum(dim=1)


class Coded(Protocol):
    """What `row_around` needs of coded rows (see ``layers.normal_rows``)."""

    @property
    def places(self) -> tuple[Tensor, list[int], list[int]]:
        """Which columns are numbers, categories and flags."""

    @property
    def steps(self) -> Tensor:
        """Between neighbours of an integer column; 0 for other numbers."""

    def present(self, x: Tensor) -> Tensor:
        """Bool ``[batch, column]``: whether each value counts."""

    def split(self, code: Tensor) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        """Numbers, the levels of each category, flags."""

    def normal(self, values: Tensor) -> Tensor:
        """Numbers bent into standard Gaussians."""

    def log_density(self, values: Tensor) -> Tensor:
        """By how much they are bent: the log density of each number."""


def row_around(rows: Coded, guess: Tensor, scale: float, x: Tensor, added: Tensor) -> Tensor:
    """Nats ``[batch]`` of rows ``[batch, column]``, given guesses at their codes ``[batch, width]``.

    Densities are in the form's units, and an integer has that of its rounding interval. What is said to be missing does
    not count. ``added`` is the standard noise that the guess was made from (see `grid_around`).
    """
    numbers, categories, flags = rows.split(guess.double())
    noise, _, _ = rows.split(added.double())
    where, of_categories, of_flags = rows.places
    present, values = rows.present(x), x[:, where].double()
    u = rows.normal(values)
    # the density of u, and how much the numbers are stretched there: their own density over the standard normal one
    smooth = 0.5 * (noise.square() - 1 - ((u - numbers) / scale).square()) - math.log(scale)
    smooth = smooth + rows.log_density(values) + 0.5 * u.square()
    if (rows.steps > 0).any():
        step = torch.where(rows.steps > 0, rows.steps, torch.ones_like(rows.steps)).double()
        upper = (rows.normal(values + step / 2) - numbers) / scale
        lower = (rows.normal(values - step / 2) - numbers) / scale
        smooth = torch.where(rows.steps > 0, log_difference(upper, lower, "normal") - step.log(), smooth)
    total = torch.where(present[:, where], smooth, torch.zeros_like(smooth)).sum(dim=1)
    for place, part in zip(of_categories, categories, strict=True):
        odds = (2 * part / scale**2).log_softmax(dim=1).gather(1, x[:, place : place + 1].long())[:, 0]
        total = total + torch.where(present[:, place], odds, torch.zeros_like(odds))
    said = 2 * x[:, of_flags].double() - 1
    return total + F.logsigmoid(2 * said * flags / scale**2).sum(dim=1)
