"""A row of mixed columns as numbers of about the same size, each number column bent into a standard Gaussian.

A number's law is estimated by the bumps of `RowEncoding`, and ``u = Φ⁻¹(F(x))`` with F their distribution function turns it
into a standard Gaussian, spikes and long tails included. The map is smooth and one to one, so that a density over ``u`` is
one over ``x``. Categories and flags are one-hot, as -1 and 1; what belongs to a missing value is 0.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pieria.forms import Row
from pieria.layers.rows import RowEncoding

FAR = 37.0  # beyond it a Gaussian tail is no double any more
HALVINGS = 50  # of the interval in which a number is looked for


class NormalRows(nn.Module):
    """Rows ``[batch, column]`` to codes ``[batch, width]`` and back.

    Number columns come first in a code, then the levels of each category, then a flag for each missing column.
    """

    def __init__(self, form: Row, modes: int) -> None:
        super().__init__()
        self.rows = RowEncoding(form, modes)
        self.numbers = len(self.rows.numbers)
        self.width = self.numbers + sum(self.rows.levels) + len(self.rows.missing)

    # ---- numbers -----------------------------------------------------------------------------------------------------

    def normal(self, values: Tensor) -> Tensor:
        """``Φ⁻¹(F(values))`` of numbers ``[batch, number]``, float64; in each half of F from its own tail."""
        away = (values.double()[:, :, None] - self.rows.centres) / self.rows.widths
        shares = self.rows.shares.double().log()
        below = (shares + torch.special.log_ndtr(away)).logsumexp(dim=2)
        above = (shares + torch.special.log_ndtr(-away)).logsumexp(dim=2)
        u = torch.where(below < above, torch.special.ndtri(below.exp()), -torch.special.ndtri(above.exp()))
        return u.clamp(-FAR, FAR)

    def value(self, u: Tensor) -> Tensor:
        """The inverse of `normal`, by halving intervals: ``[batch, number]``, float64."""
        u = u.double()
        centres, reach = self.rows.centres.double(), FAR * self.rows.widths.double()
        used = self.rows.shares > 0
        low = torch.where(used, centres - reach, torch.inf).amin(dim=1).expand_as(u)
        high = torch.where(used, centres + reach, -torch.inf).amax(dim=1).expand_as(u)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            above = self.normal(middle) < u
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        return (low + high) / 2

    # ---- rows --------------------------------------------------------------------------------------------------------

    def encode(self, x: Tensor) -> Tensor:
        """Float32 ``[batch, column] → [batch, width]``."""
        e = self.rows
        present = e.present(x).to(x.dtype)
        parts = [self.normal(x[:, e.numbers]).to(x.dtype) * present[:, e.numbers]]
        for place, levels in zip(e.categories, e.levels, strict=True):
            parts.append((2 * F.one_hot(x[:, place].long(), levels) - 1) * present[:, place : place + 1])
        return torch.cat([*parts, 2 * x[:, e.missing] - 1], dim=1)

    def split(self, code: Tensor) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        """Numbers, the levels of each category, flags."""
        e = self.rows
        numbers, categories, flags = code.split([self.numbers, sum(e.levels), len(e.missing)], dim=1)
        return numbers, categories.split(e.levels, dim=1) if e.levels else (), flags

    def decode(self, code: Tensor) -> Tensor:
        """Codes to rows: the likeliest category, flags by their sign, numbers within the range of the training rows."""
        e = self.rows
        numbers, categories, flags = self.split(code)
        x = code.new_zeros(len(code), len(e.form.columns))
        x[:, e.numbers] = e.on_lattice(self.value(numbers).to(x.dtype).clamp(e.low, e.high))
        for place, part in zip(e.categories, categories, strict=True):
            x[:, place] = part.argmax(dim=1).to(x.dtype)
        x[:, e.missing] = (flags > 0).to(x.dtype)
        return e.without_missing(x)

    def known(self, mask: Tensor) -> Tensor:
        """Which parts of a code follow from the columns that are given: bool ``[batch, column] → [batch, width]``.

        A given value is not missing, whether its flag is given or not.
        """
        e = self.rows
        parts = [mask[:, e.numbers]]
        parts += [mask[:, p : p + 1].expand(-1, levels) for p, levels in zip(e.categories, e.levels, strict=True)]
        flags = mask[:, e.missing]
        for place, flag in enumerate(e.missing):
            flags[:, place] |= (mask & (e.flags == flag)).any(dim=1)
        return torch.cat([*parts, flags], dim=1)

    # ---- what a density over codes needs to be one over rows ---------------------------------------------------------

    @property
    def places(self) -> tuple[Tensor, list[int], list[int]]:
        """Which columns are numbers, categories and flags."""
        return self.rows.numbers, self.rows.categories, self.rows.missing

    @property
    def steps(self) -> Tensor:
        """Between neighbours of an integer column in the form's units; 0 for other numbers."""
        return self.rows.steps

    def present(self, x: Tensor) -> Tensor:
        """Bool ``[batch, column]``: whether each value counts."""
        return self.rows.present(x)

    def log_density(self, values: Tensor) -> Tensor:
        """``log F'`` of numbers ``[batch, number]``, float64."""
        return self.rows.bump(values.double()).logsumexp(dim=2) - 0.5 * math.log(2 * math.pi)
