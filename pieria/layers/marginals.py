"""Each number by itself as a standard Gaussian: what a flow is given, so that it only has to learn how they hang together.

``z = Φ⁻¹(F(x))`` with ``F`` the distribution of a column (or a cell of a picture) in the training data: a bijection, fitted
by counting and then fixed, whose slope enters the likelihood like that of any other layer. Numbers on a lattice (levels,
integers) come *dequantised*: a value stands for the whole interval around it, and where in it is drawn at random. Single
values that many rows share then are intervals with much mass, which the map spreads as widely as they are frequent.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor, nn

from pieria.data.batch import Batch
from pieria.forms import Column, Grid
from pieria.layers.splines import within, within_inverse

KNOTS = 32  # pieces of a column's map at most, evenly over the Gaussian
FAR = 4.0  # deviations of the Gaussian beyond which the map is straight,
BEYOND = 10  # or where fewer values than these lie: a map of the outermost ones would learn them by heart
FLOOR = 0.01  # a number is known to this share of its column's spread: a single value is no narrower peak
FIT_ROWS = 100_000  # how many items the maps are fitted to
LEAST = 1e-10  # share of the distribution that stays beyond either end
STRAY = 1e-3  # how much the law of all cells together counts in that of each: a level may come where it never was
TABLE = 2**20  # entries of the tables of levels, beyond which all cells of a channel share one
HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


class Columns(nn.Module):
    """The maps of the columns of numbers of a `Row`; before `fit` the identity.

    Attributes:
        knots, codes: where each map's pieces meet, ``[column, knot]``, float64 and rising.
        left, right: the slope of each piece at its ends, ``[column, knot - 1]``.
        low, high: the range of each column in training, ``[column]``.
        common: single values that many rows have, ``[column, value]``, infinite where there are no more.
        hair: how near to one a number must be to be taken for it, ``[column]``.
    """

    knots: Tensor
    codes: Tensor
    left: Tensor
    right: Tensor
    low: Tensor
    high: Tensor
    common: Tensor
    hair: Tensor
    steps: Tensor
    shifts: Tensor

    def __init__(self, columns: list[Column]) -> None:
        super().__init__()
        count, pieces = len(columns), 3 * KNOTS
        even = torch.linspace(-FAR, FAR, pieces + 1, dtype=torch.float64).repeat(count, 1)
        self.register_buffer("knots", even.clone())
        self.register_buffer("codes", even.clone())
        self.register_buffer("left", torch.ones(count, pieces, dtype=torch.float64))
        self.register_buffer("right", torch.ones(count, pieces, dtype=torch.float64))
        self.register_buffer("low", torch.full((count,), -math.inf))
        self.register_buffer("high", torch.full((count,), math.inf))
        self.register_buffer("common", torch.full((count, KNOTS // 2), math.inf))
        self.register_buffer("hair", torch.zeros(count))
        # integers lie on a lattice with this step, in the form's units; other numbers have step 0
        steps = [1 / c.scale if c.kind == "integer" else 0.0 for c in columns]
        self.register_buffer("steps", torch.tensor(steps, dtype=torch.float64), persistent=False)
        shifts = [c.shift / c.scale for c in columns]
        self.register_buffer("shifts", torch.tensor(shifts, dtype=torch.float64), persistent=False)

    @property
    def lattice(self) -> bool:
        """Whether any column holds integers, which are dequantised."""
        return bool((self.steps > 0).any())

    def fit(self, values: Tensor, present: Tensor) -> None:
        """Set the maps by training rows ``[row, column]``, of which those ``present`` count."""
        for column in range(values.shape[1]):
            seen = values[present[:, column], column].double().cpu().numpy()
            if len(seen):
                self.low[column], self.high[column] = float(seen.min()), float(seen.max())
                self._fit(column, seen)

    def _fit(self, column: int, seen: np.ndarray) -> None:
        step, shift = float(self.steps[column]), float(self.shifts[column])
        if step:
            seen, width = np.rint((seen + shift) / step), 1.0  # whole numbers
        else:
            # by the middle half of the values: a few very large ones do not blur all others
            middle = float(np.subtract(*np.quantile(seen, [0.75, 0.25])))
            width = max(FLOOR * (middle or float(seen.std())), 1e-6 * (1 + abs(float(seen.mean()))))
        values, counts = np.unique(seen, return_counts=True)
        edges, below = _distribution(values, counts, width)
        far = min(FAR, -float(ndtri(min(0.25, BEYOND / len(seen)))))
        # few rows tell no more than a smooth map: the cube root is the usual rule for a histogram
        pieces = KNOTS if step else max(4, min(KNOTS, round(len(seen) ** (1 / 3))))
        grid = ndtr(np.linspace(-far, far, pieces + 1))
        common = values[np.argsort(-counts, kind="stable")[: KNOTS // 2]]
        common = common[np.isin(common, values[counts >= max(2, len(seen) / KNOTS)])]
        if not step:
            self.common[column] = math.inf
            self.common[column, : len(common)] = torch.from_numpy(common)
            self.hair[column] = width / 2
        # an even grid, and the edges of what is common: there the density jumps
        at = np.concatenate([np.interp(grid, below, edges), common - width / 2, common + width / 2])
        inside = (at >= np.interp(grid[0], below, edges)) & (at <= np.interp(grid[-1], below, edges))
        knots = np.unique(at[inside])
        knots = knots[np.concatenate([[True], np.diff(knots) > 1e-3 * width])]
        codes = ndtri(np.interp(knots, edges, below))
        rising = np.concatenate([[True], np.diff(codes) > 1e-6])
        knots, codes = knots[rising], codes[rising]
        if len(knots) < 2:
            knots, codes = np.array([seen.mean() - width / 2, seen.mean() + width / 2]), np.array([-far, far])
        if step:
            knots = knots * step - shift
        slopes = np.diff(codes) / np.diff(knots)
        if step:
            left = right = slopes  # straight pieces: a lattice's density is level between its edges
        else:
            between = np.sqrt(slopes[1:] * slopes[:-1])
            left, right = np.concatenate([slopes[:1], between]), np.concatenate([between, slopes[-1:]])
        # what is left of the table goes straight on
        spare = self.left.shape[1] - len(slopes)
        on = np.arange(1, spare + 1)
        gap = codes[-1] - codes[-2]
        for table, found, more in (
            (self.knots, knots, knots[-1] + on * gap / slopes[-1]),
            (self.codes, codes, codes[-1] + on * gap),
            (self.left, left, np.full(spare, slopes[-1])),
            (self.right, right, np.full(spare, slopes[-1])),
        ):
            table[column] = torch.from_numpy(np.concatenate([found, more]))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers ``[batch, column]`` as Gaussian ones (float32), and the log of each slope."""
        at, begin, width, bottom, height, left, right, outside = self._piece(x.double(), self.knots, self.codes)
        place = (at - begin) / width
        gone, rise = within(place.clamp(0, 1), height / width, left, right)
        # beyond the ends it goes straight on
        z = torch.where(outside, bottom + height * place, bottom + height * gone)
        return z.float(), torch.where(outside, (height / width).log(), rise).float()

    def inverse(self, z: Tensor) -> Tensor:
        """Gaussian numbers as those of the columns, float32."""
        at, bottom, height, begin, width, left, right, outside = self._piece(z.double(), self.codes, self.knots)
        share = (at - bottom) / height
        came = within_inverse(share.clamp(0, 1), height / width, left, right)
        return (begin + width * torch.where(outside, share, came)).float()

    def _piece(self, x: Tensor, looked: Tensor, other: Tensor) -> tuple[Tensor, ...]:
        last = looked.shape[1] - 2
        piece = (torch.searchsorted(looked, x.T.contiguous(), right=True) - 1).clamp(0, last)

        def at(table: Tensor, shift: int = 0) -> Tensor:
            return table.gather(1, piece + shift).T

        begin, bottom = at(looked), at(other)
        outside = (x < looked[:, 0]) | (x > looked[:, -1])
        ends = at(looked, 1) - begin, at(other, 1) - bottom
        return x, begin, ends[0], bottom, ends[1], at(self.left), at(self.right), outside

    def spread(self, x: Tensor, uniform: Tensor) -> Tensor:
        """Numbers with each integer moved within its interval by ``uniform`` in [0, 1); other numbers as they are."""
        return (x.double() + (uniform - 0.5) * self.steps).float()

    def on_lattice(self, x: Tensor, inside: bool = False) -> Tensor:
        """Numbers with the integers among them rounded.

        With ``inside`` none lies beyond the range of the training rows, or a hair beside a value that many of them have.
        """
        step = torch.where(self.steps > 0, self.steps, torch.ones_like(self.steps))
        whole = ((x.double() + self.shifts) / step).round() * step - self.shifts
        x = torch.where(self.steps > 0, whole.float(), x)
        if not inside:
            return x
        away, nearest = (x[:, :, None] - self.common).abs().min(dim=2)
        value = self.common.gather(1, nearest.T).T
        return torch.where(away <= self.hair, value, x).clamp(self.low, self.high)


class Levels(nn.Module):
    """The maps of the cells of a `Grid` of levels, by how frequent each level is in each cell; before `fit` all alike.

    Attributes:
        shares: the probability of each level, ``[table, level]``; a table for each cell, or where that would be too many for
            each channel.
    """

    shares: Tensor

    def __init__(self, form: Grid) -> None:
        super().__init__()
        assert form.levels is not None
        self.cells, self.levels = form.channels * form.height * form.width, form.levels
        tables = self.cells if self.cells * self.levels <= TABLE else form.channels
        self.register_buffer("shares", torch.full((tables, self.levels), 1 / self.levels))

    def fit(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Count the levels of the training items."""
        tables = len(self.shares)
        which = torch.arange(tables).repeat_interleave(self.cells // tables) * self.levels
        counts = torch.zeros(tables * self.levels, dtype=torch.float64)
        seen = 0
        for batch in batches():
            cells = (batch.x.flatten(1).cpu() + which).flatten()
            counts += torch.bincount(cells, minlength=len(counts))
            seen += len(batch)
            if seen >= FIT_ROWS:
                break
        counts = counts.view(tables, self.levels)
        everywhere = counts.sum(dim=0)
        broad = 0.5 * everywhere / everywhere.sum() + 0.5 / self.levels
        total = counts.sum(dim=1, keepdim=True)
        self.shares.copy_((counts + (STRAY * total + 1) * broad) / ((1 + STRAY) * total + 1))

    def _tables(self) -> tuple[Tensor, Tensor]:
        """Probability of each level, and of all levels up to and with it, ``[table, level]`` float64."""
        shares = self.shares.double()
        shares = shares / shares.sum(dim=1, keepdim=True)
        return shares, shares.cumsum(dim=1)

    def forward(self, x: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Levels (long ``[batch, cell]``), each at the place ``uniform`` in [0, 1) of its interval, as Gaussian numbers.

        Returns them (float32) and the log of each slope, in units of a level.
        """
        shares, ends = self._tables()
        tables = len(shares)
        cell = x + torch.arange(tables, device=x.device).repeat_interleave(self.cells // tables) * self.levels
        share = shares.flatten()[cell]
        below = ends.flatten()[cell] - share * (1 - uniform)
        z = torch.special.ndtri(below.clamp(LEAST, 1 - LEAST))
        return z.float(), (share.log() + 0.5 * z.square() + HALF_LOG_TAU).float()

    def inverse(self, z: Tensor) -> Tensor:
        """The level (long ``[batch, cell]``) whose interval each Gaussian number lies in."""
        n, tables = len(z), len(self.shares)
        share = torch.special.ndtr(z.double()).view(n, tables, -1).transpose(0, 1).reshape(tables, -1)
        level = torch.searchsorted(self._tables()[1], share.contiguous(), right=True)
        return level.view(tables, n, -1).transpose(0, 1).reshape(n, -1).clamp(max=self.levels - 1)


def _distribution(values: np.ndarray, counts: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """The places where a distribution function bends, and its value there, if each value is an interval of ``width``."""
    edges = np.unique(np.concatenate([values - width / 2, values + width / 2]))
    through = np.concatenate([[0.0], np.cumsum(counts)])
    weighted = np.concatenate([[0.0], np.cumsum(counts * values)])
    whole = np.searchsorted(values, edges - width / 2 * (1 - 1e-9), side="right")  # intervals that end here or before
    begun = np.maximum(np.searchsorted(values, edges + width / 2 * (1 - 1e-9), side="left"), whole)
    partly = through[begun] - through[whole]
    below = through[whole] + (partly * (edges / width + 0.5) - (weighted[begun] - weighted[whole]) / width)
    below = np.maximum.accumulate(np.clip(below / through[-1], 0, 1))
    return edges, below
