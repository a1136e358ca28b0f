"""Drawing a grid cell by cell in reading order, and filling one whose cells are partly given.

A family lends a `Reader`, which tells of one cell after the other what a law then draws from. `Anew` is the plain reader:
it computes the whole network for each cell, and shows that a reader that keeps what does not change says the same.

Filling draws what is missing given what stands *before* it. What is given *after* it has its say by importance: of each
item several completions are drawn side by side, each weighted by how probable it makes the given cells that follow; at the
end of a row those that have become improbable are replaced by copies of the others (a particle filter; Gordon et al. 1993),
and one is chosen by its weight. As their number grows, this becomes the law given everything.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pieria.errors import FormError
from pieria.forms import Grid
from pieria.models.contract import Step
from pieria.noise import Noise
from pieria.settings import Field, Settings

# items that are drawn together: bounds the memory of what is kept, and changes nothing else
TOGETHER = 256


class Raster(Settings):
    """How a grid is drawn cell by cell."""

    temperature: float = Field(1.0, ge=0, description="below 1 more typical cells, above 1 wilder ones, 0 the likeliest")
    particles: int = Field(16, ge=1, description="filling: completions drawn side by side, to fit what is given after them")
    cached: bool = Field(True, description="keep what does not change from cell to cell; off: compute all of it anew (slow)")


class Reader(Protocol):
    """What an autoregressive network says of the cells of ``n`` items, asked in reading order."""

    def row(self, row: int) -> None:
        """A row begins; all before it was put."""

    def cell(self, row: int, column: int) -> Tensor:
        """What is said of the cell, ``[n, outputs]``."""

    def put(self, row: int, column: int, values: Tensor) -> None:
        """The cell has these channels, ``[n, channel]``."""

    def take(self, items: Tensor) -> None:
        """Go on with these items (long ``[n]``); between two rows."""


# the reader of the items at these places, long [m], of which some may stand there several times
ReaderOf = Callable[[Tensor], Reader]


class Law(Protocol):
    """How the channels of a cell follow from what is said of it; see ``losses.pixels``."""

    def nats(self, raw: Tensor, before: Tensor, x: Tensor) -> Tensor:
        """Log-probability of the next channel, ``[n]``."""

    def draw(self, raw: Tensor, before: Tensor, uniform: Tensor, temperature: float = 1.0) -> Tensor:
        """The next channel, ``[n]``."""

    def odds(self, raw: Tensor, before: Tensor, levels: int) -> Tensor:
        """Log-probabilities of every level of the next channel, ``[n, levels]``."""


class Anew:
    """Computes everything again for each cell: ``network`` maps items to ``[n, outputs, height, width]``."""

    def __init__(self, network: Callable[[Tensor], Tensor], blank: Tensor) -> None:
        self.network, self.x = network, blank.clone()

    def row(self, row: int) -> None:
        """Nothing is kept."""

    def cell(self, row: int, column: int) -> Tensor:
        """What is said of the cell, ``[n, outputs]``."""
        return self.network(self.x)[:, :, row, column]

    def put(self, row: int, column: int, values: Tensor) -> None:
        """The cell has these channels, ``[n, channel]``."""
        self.x[:, :, row, column] = values

    def take(self, items: Tensor) -> None:
        """Go on with these items."""
        self.x = self.x[items]


def blank(form: Grid, n: int, device: torch.device) -> Tensor:
    """``n`` items of the form with nothing in them, ``[n, channel, height, width]``."""
    return torch.zeros(n, *form.shape, dtype=torch.float32 if form.levels is None else torch.int64, device=device)


@dataclass
class Cell:
    """One cell that was drawn.

    Attributes:
        row, column: which.
        raw: what was said of it, ``[n, outputs]``.
        x: all items as far as they are drawn, ``[n, channel, height, width]``.
    """

    row: int
    column: int
    raw: Tensor
    x: Tensor


def scan(
    reader: Reader, law: Law, x: Tensor, uniform: Tensor, temperature: float = 1.0, known: Tensor | None = None
) -> Iterator[Cell]:
    """Draw every cell of ``x`` (changed in place) that is not ``known``; yields after each cell.

    ``uniform`` is ``[n, channel, height, width, 2]``: two numbers for each symbol.
    """
    _, channels, height, width = x.shape
    numbers = uniform.to(x.device).double()
    for row in range(height):
        reader.row(row)
        for column in range(width):
            raw = reader.cell(row, column)
            for channel in range(channels):
                before, here = x[:, :channel, row, column], numbers[:, channel, row, column]
                drawn = law.draw(raw, before, here, temperature)
                if known is not None:
                    drawn = torch.where(known[:, channel, row, column], x[:, channel, row, column], drawn)
                x[:, channel, row, column] = drawn
            reader.put(row, column, x[:, :, row, column])
            yield Cell(row, column, raw, x)


def drawn(reader_of: ReaderOf, law: Law, x: Tensor, noise: Noise, temperature: float = 1.0) -> Tensor:
    """Items like ``x``, a `blank`, drawn cell after cell."""
    uniform, every = noise.uniform("pixel", (*x.shape[1:], 2)), torch.arange(len(x), device=x.device)
    for items in every.split(TOGETHER):
        part = slice(int(items[0]), int(items[-1]) + 1)
        for _ in scan(reader_of(items), law, x[part], uniform[part], temperature):
            pass
    return x


def steps(reader_of: ReaderOf, law: Law, form: Grid, x: Tensor, noise: Noise, temperature: float = 1.0) -> Iterator[Step]:
    """What `drawn` does for one item: a step for each cell, and how surprising each one was."""
    surprise = torch.zeros(form.height, form.width)
    uniform, first = noise.uniform("pixel", (*form.shape, 2)), torch.zeros(1, dtype=torch.int64, device=x.device)
    for number, cell in enumerate(scan(reader_of(first), law, x, uniform, temperature), 1):
        values = x[:, :, cell.row, cell.column]
        each = [float(law.nats(cell.raw, values[:, :c], values[:, c])) for c in range(form.channels)]
        surprise[cell.row, cell.column] = -sum(each)
        few = form.levels is not None and form.levels <= 2**12
        data = {"odds": law.odds(cell.raw, values[:, :0], form.levels)[0].exp().float()} if few and form.levels else {}
        note = f"Row {cell.row + 1}, column {cell.column + 1}, given all pixels above it and to its left."
        yield Step(f"pixel {number}", x.clone(), note, data)
    note = "How surprising each pixel was, in nats: little where it follows from those before it."
    yield Step("surprise", x, note, {"surprise": surprise})


def checked(form: Grid, x: Tensor, known: Tensor) -> None:
    """Raise `FormError` unless both are of the form's size: what `filled` needs."""
    if known.shape != x.shape or tuple(x.shape[1:]) != form.shape:
        raise FormError(
            f"a mask of {list(known.shape)} for pictures of {list(x.shape)}",
            f"both [picture, {', '.join(map(str, form.shape))}]",
            "Resize the picture, and make a mask of its size",
        )


def filled(reader_of: ReaderOf, law: Law, x: Tensor, known: Tensor, noise: Noise, options: Raster) -> Tensor:
    """``x`` with what is not ``known`` drawn given all that is, both ``[n, channel, height, width]``."""
    shape, particles = x.shape[1:], options.particles
    uniform = noise.uniform("pixel", (particles, *shape, 2))
    again, choice = noise.uniform("again", (shape[1],)), noise.uniform("choice")
    made: Iterable[Tensor] = (
        _filled(reader_of, law, items, x[items], known[items], uniform[items], again[items], choice[items], options)
        for items in torch.arange(len(x), device=x.device).split(max(1, TOGETHER // particles))
    )
    return torch.cat(list(made))


def _filled(
    reader_of: ReaderOf,
    law: Law,
    items: Tensor,
    x: Tensor,
    known: Tensor,
    uniform: Tensor,
    again: Tensor,
    choice: Tensor,
    options: Raster,
) -> Tensor:
    n, channels, height, width = x.shape
    particles = options.particles
    same = torch.arange(particles, device=x.device)
    first = torch.arange(n, device=x.device)[:, None] * particles
    # what is not known must not be read, whatever stands there
    many = torch.where(known, x, torch.zeros_like(x)).repeat_interleave(particles, dim=0)
    given, weights = known.repeat_interleave(particles, dim=0), x.new_zeros(len(many), dtype=torch.float64)
    reader = reader_of(items.repeat_interleave(particles))
    for cell in scan(reader, law, many, uniform.flatten(0, 1), options.temperature, given):
        row, column = cell.row, cell.column
        if particles == 1:
            continue
        for channel in range(channels):
            here, values = given[:, channel, row, column], many[:, :, row, column]
            if bool(here.any()):
                nats = law.nats(cell.raw, values[:, :channel], values[:, channel]).double()
                weights = weights + torch.where(here, nats, torch.zeros_like(nats))
        share = weights.view(n, particles).softmax(dim=1)
        few = share.square().sum(dim=1, keepdim=True) * particles > 2  # fewer than half of them still count
        if column == width - 1 and row < height - 1 and bool(few.any()):
            # one number an item: evenly spaced points on the cumulative weights
            points = (same + again[:, row : row + 1].to(x.device).double()) / particles
            chosen = torch.searchsorted(share.cumsum(dim=1), points).clamp(max=particles - 1)
            rows = (first + torch.where(few, chosen, same)).flatten()
            many[:] = many[rows]
            reader.take(rows)
            weights = torch.where(few, torch.zeros_like(share), weights.view(n, particles)).flatten()
    passed = weights.view(n, particles).softmax(dim=1).cumsum(dim=1)
    last = choice.to(x.device).double()[:, None] * passed[:, -1:]
    chosen = torch.searchsorted(passed, last, right=True).clamp(max=particles - 1)
    return many[(first + chosen)[:, 0]]
