"""Drawing a grid cell by cell in reading order, and filling one whose cells are partly given.

A family lends a `Reader`, which tells of one cell after the other what a law then draws from. `Anew` is the plain reader:
it computes the whole network for each cell, and shows that a reader that keeps what does not change says the same.

Filling draws what is missing given what stands *before* it. What is given *after* it has its say by importance: of each
item several completions are drawn side by side, each weighted by how probable it makes the given cells that follow; at the
end of a row those that have become improbable are replaced by copies of the others (a particle filter; Gordon et al. 1993),
and one is chosen by its weight. As their number grows, this becomes the law given everything.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pieria.noise import Noise

# items that are drawn together: bounds the memory of what is kept, and changes nothing else
TOGETHER = 256


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


class Law(Protocol):
    """How the channels of a cell follow from what is said of it; see ``losses.pixels``."""

    def nats(self, raw: Tensor, before: Tensor, x: Tensor) -> Tensor:
        """Log-probability of the next channel, ``[n]``."""

    def draw(self, raw: Tensor, before: Tensor, uniform: Tensor, temperature: float = 1.0) -> Tensor:
        """The next channel, ``[n]``."""


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


def filled(
    reader: Reader, law: Law, x: Tensor, known: Tensor, noise: Noise, particles: int, temperature: float = 1.0
) -> Tensor:
    """``x`` with what is not ``known`` drawn given all that is; the ``reader`` reads ``particles`` times as many items.

    Both are ``[n, channel, height, width]``.
    """
    n, shape = len(x), x.shape[1:]
    uniform = noise.uniform("pixel", (particles, *shape, 2)).flatten(0, 1)
    many, given = x.repeat_interleave(particles, dim=0), known.repeat_interleave(particles, dim=0)
    weights = torch.zeros(len(many), dtype=torch.float64, device=x.device)
    first = torch.arange(n, device=x.device)[:, None] * particles
    for cell in scan(reader, law, many, uniform, temperature, given):
        row, column = cell.row, cell.column
        if particles > 1:
            for channel in range(shape[0]):
                here = given[:, channel, row, column]
                if bool(here.any()):
                    values = many[:, :, row, column]
                    nats = law.nats(cell.raw, values[:, :channel], values[:, channel])
                    weights = weights + torch.where(here, nats, torch.zeros_like(nats))
        if particles > 1 and column == shape[2] - 1 and row < shape[1] - 1:
            share = weights.view(n, particles).softmax(dim=1)
            alike = share.square().sum(dim=1) * particles > 2  # fewer than half of them still count
            if bool(alike.any()):
                # one number for an item: evenly spaced points on the cumulative weights
                points = torch.arange(particles, device=x.device) + noise.uniform("again", step=row).to(x.device)[:, None]
                chosen = torch.searchsorted(share.cumsum(dim=1), points.double() / particles).clamp(max=particles - 1)
                chosen = torch.where(alike[:, None], chosen, torch.arange(particles, device=x.device))
                rows = (first + chosen).flatten()
                many[:] = many[rows]
                reader.take(rows)
                weights = torch.where(alike[:, None], torch.zeros_like(share), weights.view(n, particles)).flatten()
    passed = weights.view(n, particles).softmax(dim=1).cumsum(dim=1)
    last = noise.uniform("choice").to(x.device).double()[:, None]
    chosen = torch.searchsorted(passed, last * passed[:, -1:], right=True).clamp(max=particles - 1)
    return many[(first + chosen)[:, 0]]
