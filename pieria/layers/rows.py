"""A row of mixed columns as a network reads and writes it: what is fitted is how each number is distributed.

A number is seldom Gaussian: hours worked pile up at 40, capital gains at 0. So each number column gets up to ``modes``
bumps, each with a centre, a width and a share: first the single values that many rows have in common, then a Gaussian
mixture of the rest. A number is read as "which bump, and how far from its centre" (mode-specific normalisation, Xu et al.
2019); categories are one-hot; where a value is missing, everything about it is zero but its flag.
"""

import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pieria.data.batch import Batch
from pieria.forms import Row

FIT_ROWS = 100_000  # how many rows the bumps are fitted to
FIT_VALUES, FIT_STEPS = 10_000, 50  # values that the EM looks at, and its steps
SPIKE = 0.02  # a single value that at least this share of the rows has is a bump of its own
FLOOR = 0.01  # no bump of a number is narrower than this share of its column's standard deviation
INTEGER_FLOOR = 0.2  # nor one of an integer than this share of one step
REACH = 3.0  # offsets of up to this many widths from the centre can be written by `decode`


class RowEncoding(nn.Module):
    """The fitted encoding of a `Row`; before `fit` each number is one standard Gaussian.

    Attributes:
        centres, widths, shares: the bumps of each number column, ``[number, modes]``; an unused bump has share 0.
        floors: the smallest width of each number column, ``[number]``.
        middle, spread: mean and standard deviation of each number column, ``[number]``.
        low, high: the range of each number column in training, ``[number]``.
    """

    centres: Tensor
    widths: Tensor
    shares: Tensor
    floors: Tensor
    middle: Tensor
    spread: Tensor
    low: Tensor
    high: Tensor
    numbers: Tensor
    flags: Tensor
    steps: Tensor
    shifts: Tensor

    def __init__(self, form: Row, modes: int) -> None:
        super().__init__()
        self.form, self.modes = form, modes
        places = {kind: [i for i, c in enumerate(form.columns) if c.kind == kind] for kind in ("category", "missing")}
        numbers = [i for i, c in enumerate(form.columns) if c.kind in ("number", "integer")]
        self.categories: list[int] = places["category"]
        self.missing: list[int] = places["missing"]
        self.levels = [form.columns[i].levels or 1 for i in self.categories]
        count = len(numbers)
        shares = torch.zeros(count, modes)
        shares[:, 0] = 1.0
        self.register_buffer("centres", torch.zeros(count, modes))
        self.register_buffer("widths", torch.ones(count, modes))
        self.register_buffer("shares", shares)
        self.register_buffer("floors", torch.full((count,), FLOOR))
        self.register_buffer("middle", torch.zeros(count))
        self.register_buffer("spread", torch.ones(count))
        self.register_buffer("low", torch.full((count,), -math.inf))
        self.register_buffer("high", torch.full((count,), math.inf))
        # what the form says is not state: it is made again when a model is loaded
        columns = [form.columns[i] for i in numbers]
        self.register_buffer("numbers", torch.tensor(numbers, dtype=torch.int64), persistent=False)
        # the column that says where each column is missing; one past the last where none does
        flags = [form.missing_of(i) for i in range(len(form.columns))]
        self.register_buffer(
            "flags", torch.tensor([len(flags) if f is None else f for f in flags], dtype=torch.int64), persistent=False
        )
        # integers lie on a lattice with this step, in the form's units; other numbers have step 0
        steps = [1 / c.scale if c.kind == "integer" else 0.0 for c in columns]
        self.register_buffer("steps", torch.tensor(steps), persistent=False)
        self.register_buffer("shifts", torch.tensor([c.shift / c.scale for c in columns]), persistent=False)
        #: features that a network reads, and numbers that it writes to be decoded
        self.inputs = count * (modes + 1) + sum(self.levels) + len(self.missing)
        self.outputs = count * (modes + 1) + sum(self.levels) + 2 * len(self.missing)

    # ---- fitting -----------------------------------------------------------------------------------------------------

    def fit(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Set the bumps from the first training rows, deterministically; a column with no value stays as it is."""
        rows, seen = [], 0
        for batch in batches():
            rows.append(batch.x.to(self.centres.device))
            seen += len(batch)
            if seen >= FIT_ROWS:
                break
        x = torch.cat(rows)
        present = self.present(x)
        for row, place in enumerate(self.numbers.tolist()):
            values = x[present[:, place], place].double().cpu()
            if not len(values):
                continue
            middle, spread = values.mean(), values.std(correction=0)
            step = float(self.steps[row])
            # an integer's law is a probability, which a narrow bump cannot push above one; a number's is a density
            floor = max(step * INTEGER_FLOOR if step else float(spread) * FLOOR, 1e-6 * (1 + abs(float(middle))))
            self.low[row], self.high[row] = values.min(), values.max()
            self.middle[row], self.spread[row], self.floors[row] = middle, spread.clamp(min=floor), floor
            bumps = [(float(middle), float(spread), 1.0)] if self.modes == 1 else _bumps(values, self.modes)
            for column in (self.centres, self.widths, self.shares):
                column[row] = 0
            for place_, (centre, width, share) in enumerate(bumps):
                self.centres[row, place_], self.widths[row, place_], self.shares[row, place_] = centre, width, share
            self.widths[row] = self.widths[row].clamp(min=floor)

    def present(self, x: Tensor) -> Tensor:
        """Bool ``[batch, column]``: whether each value counts (is not said to be missing)."""
        flags = torch.cat([x, x.new_zeros(len(x), 1)], dim=1)
        return flags[:, self.flags] < 0.5

    # ---- reading -----------------------------------------------------------------------------------------------------

    def bump(self, values: Tensor) -> Tensor:
        """Log of share × density of each bump at ``values`` ``[batch, number]``: ``[batch, number, modes]``."""
        distance = (values[:, :, None] - self.centres) / self.widths
        return self.shares.log() - 0.5 * distance.square() - self.widths.log()

    def encode(self, x: Tensor) -> Tensor:
        """Rows as features for an encoder: standardised numbers, their bumps' odds, one-hot categories, missing flags.

        Float ``[batch, column] → [batch, inputs]``.
        """
        present = self.present(x).to(x.dtype)
        values, there = x[:, self.numbers], present[:, self.numbers]
        standard = ((values - self.middle) / self.spread).clamp(-5, 5) * there
        odds = self.bump(values).softmax(dim=2) * there[:, :, None]
        return torch.cat([standard, odds.flatten(1), *self._categories(x, present), x[:, self.missing]], dim=1)

    def code(self, x: Tensor) -> Tensor:
        """Rows as `decode` writes them: hard bump and offset, one-hot categories, one-hot flags ``[batch, outputs]``."""
        present = self.present(x).to(x.dtype)
        values, there = x[:, self.numbers], present[:, self.numbers]
        chosen = self.bump(values).argmax(dim=2)
        if self.modes == 1:
            offset = (values - self.middle) / self.spread
        else:
            centre = self.centres.gather(1, chosen.T).T
            width = self.widths.gather(1, chosen.T).T
            offset = ((values - centre) / (REACH * width)).clamp(-1, 1)
        hard = F.one_hot(chosen, self.modes).to(x.dtype) * there[:, :, None]
        flags = [F.one_hot(x[:, place].long(), 2).to(x.dtype) for place in self.missing]
        return torch.cat([offset * there, hard.flatten(1), *self._categories(x, present), *flags], dim=1)

    def _categories(self, x: Tensor, present: Tensor) -> list[Tensor]:
        return [
            F.one_hot(x[:, place].long(), levels).to(x.dtype) * present[:, place : place + 1]
            for place, levels in zip(self.categories, self.levels, strict=True)
        ]

    # ---- writing -----------------------------------------------------------------------------------------------------

    def soften(self, raw: Tensor, gumbel: Tensor | None, temperature: float = 1.0) -> Tensor:
        """What a network wrote, ``[batch, outputs]``, as a code: offsets within reach, every choice one-hot.

        Choices are drawn with ``gumbel`` (same shape; without it the likeliest is taken) and are hard forwards and soft
        backwards (the straight-through Gumbel-softmax of Jang et al. 2017), so that a critic sees what it sees of data.
        What belongs to a missing value is zero, as in `code`.
        """
        count = len(self.numbers)
        offset, choices = raw[:, :count], raw[:, count:]
        offset = offset if self.modes == 1 else offset.tanh()
        sizes = [self.modes] * count + self.levels + [2] * len(self.missing)
        chances = choices if gumbel is None else choices + gumbel[:, count:].to(choices)
        drawn = []
        for part in chances.split(sizes, dim=1):
            soft = (part / temperature).softmax(dim=1)
            hard = F.one_hot(part.argmax(dim=1), part.shape[1]).to(soft.dtype)
            drawn.append(hard + soft - soft.detach())
        flags = drawn[len(drawn) - len(self.missing) :]
        of = {place: 1 - flag[:, 1:] for place, flag in zip(self.missing, flags, strict=True)}
        there = [
            of.get(int(self.flags[place]), offset.new_ones(1, 1)) for place in [*self.numbers.tolist(), *self.categories]
        ]
        offsets = [offset[:, i : i + 1] * there[i] for i in range(count)]
        chosen = [part * present for part, present in zip(drawn[: len(there)], there, strict=True)]
        return torch.cat([*offsets, *chosen, *flags], dim=1)

    def decode(self, code: Tensor) -> Tensor:
        """A hard code ``[batch, outputs]`` as rows ``[batch, column]``: the inverse of `code` up to its reach."""
        count = len(self.numbers)
        x = code.new_zeros(len(code), len(self.form.columns))
        offset, rest = code[:, :count], code[:, count:]
        if self.modes == 1:
            values = self.middle + self.spread * offset
        else:
            hard = rest[:, : count * self.modes].unflatten(1, (count, self.modes))
            values = (hard * (self.centres + REACH * self.widths * offset[:, :, None])).sum(dim=2)
        x[:, self.numbers] = self.on_lattice(values.clamp(self.low, self.high))
        at = count * self.modes
        for place, levels in zip(self.categories, self.levels, strict=True):
            x[:, place] = rest[:, at : at + levels].argmax(dim=1).to(x.dtype)
            at += levels
        for place in self.missing:
            x[:, place] = rest[:, at : at + 2].argmax(dim=1).to(x.dtype)
            at += 2
        return self.without_missing(x)

    def on_lattice(self, values: Tensor) -> Tensor:
        """Numbers ``[batch, number]`` with the integers among them rounded to whole ones (in the original unit)."""
        step = torch.where(self.steps > 0, self.steps, torch.ones_like(self.steps))
        whole = ((values + self.shifts) / step).round() * step - self.shifts
        return torch.where(self.steps > 0, whole, values)

    def inside(self, x: Tensor) -> Tensor:
        """Rows with each number moved into the range seen in training."""
        moved = x.clone()
        moved[:, self.numbers] = self.on_lattice(x[:, self.numbers].clamp(self.low, self.high))
        return self.without_missing(moved)

    def without_missing(self, x: Tensor) -> Tensor:
        """Rows with 0 wherever their own flag says that there is no value."""
        return torch.where(self.present(x), x, torch.zeros_like(x))


def _bumps(values: Tensor, modes: int) -> list[tuple[float, float, float]]:
    """Centre, width and share of at most ``modes`` bumps: frequent single values first, then a mixture of the rest."""
    unique, counts = values.unique(return_counts=True)
    frequent = counts >= SPIKE * len(values)
    if len(unique) <= modes:
        frequent = torch.ones_like(frequent)
    order = counts[frequent].argsort(descending=True, stable=True)[: modes if len(unique) <= modes else modes // 2]
    spikes = unique[frequent][order]
    bumps = [(float(v), 0.0, int(counts[unique == v]) / len(values)) for v in spikes]
    rest = values[~torch.isin(values, spikes)].sort().values
    left = min(modes - len(bumps), len(rest))
    if left:
        share = len(rest) / len(values)
        bumps += [(m, w, share * p) for m, w, p in _mixture(rest, left)]
    return bumps


def _mixture(values: Tensor, bumps: int) -> list[tuple[float, float, float]]:
    """Centre, width and share of a Gaussian mixture over sorted numbers ``[n]``, by EM from equal shares of them."""
    parts = values.tensor_split(bumps)
    centre = torch.stack([part.mean() for part in parts])
    width = torch.stack([(part[-1] - part[0]) / math.sqrt(12) for part in parts])
    least = 1e-3 * values.std(correction=0).clamp(min=1e-12)
    share = torch.full_like(centre, 1 / bumps)
    some = values[:: max(1, len(values) // FIT_VALUES)]
    for _ in range(FIT_STEPS):
        width = width.clamp(min=float(least))
        odds = (share.log() - width.log() - 0.5 * ((some[:, None] - centre) / width).square()).softmax(dim=1)
        weight = odds.sum(dim=0).clamp(min=1e-9)
        centre = (odds * some[:, None]).sum(dim=0) / weight
        width = ((odds * (some[:, None] - centre).square()).sum(dim=0) / weight).sqrt()
        share = weight / weight.sum()
    return list(zip(centre.tolist(), width.tolist(), share.tolist(), strict=True))
