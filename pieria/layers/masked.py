"""Convolutions that see only cells before a given one, and the same numbers row by row and cell by cell.

Reading order is from the top row down, in a row from the left. What stands in the rows above is whole once a row begins, so
it is computed for a whole row at once (`Rows`); what stands to the left is computed cell by cell (`Cells`). Each number is
computed once, so drawing a picture costs about as much as scoring it.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Window(nn.Module):
    """A convolution over the rows ``-up … height - 1 - up`` and the columns ``-left … width - 1 - left`` around a cell.

    Beyond the picture are zeros. Nothing at or after the cell is seen if ``up == height``, or ``up == 0``, ``height == 1``
    and ``left == width``; the cell itself is, but nothing after it, if ``left == width - 1`` there.
    """

    def __init__(self, inputs: int, outputs: int, *, height: int, width: int, up: int, left: int, bias: bool = True) -> None:
        super().__init__()
        self.height, self.width, self.up, self.left = height, width, up, left
        bound = 1 / math.sqrt(inputs * height * width)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, height, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[batch, inputs, height, width] → [batch, outputs, height, width]``."""
        around = (self.left, self.width - 1 - self.left, self.up, self.height - 1 - self.up)
        return functional.conv2d(functional.pad(x, around), self.weight, self.bias)

    def matrix(self) -> Tensor:
        """The weights for a row of what is seen, by rows, columns and features: ``[height · width · inputs, outputs]``."""
        return self.weight.detach().permute(2, 3, 1, 0).flatten(0, 2).contiguous()


def above(inputs: int, outputs: int, size: int, *, own: bool) -> Window:
    """What stands in the ``size // 2`` rows above, at most so many columns aside; with ``own`` the cell's row as well."""
    half = size // 2
    return Window(inputs, outputs, height=half + own, width=2 * half + 1, up=half, left=half)


def beside(inputs: int, outputs: int, size: int, *, own: bool, bias: bool = False) -> Window:
    """What stands in the ``size // 2`` cells to the left; with ``own`` the cell itself as well."""
    half = size // 2
    return Window(inputs, outputs, height=1, width=half + own, up=0, left=half, bias=bias)


class Rows:
    """Computes a `Window` row by row: keeps as many rows as it sees, ``[item, height, left + columns + right, inputs]``.

    For a window that sees its own row, ``push`` that row first; for one that sees the rows above alone, afterwards.
    """

    def __init__(self, window: Window, items: int, columns: int) -> None:
        self.window, self.columns = window, columns
        self.matrix = window.matrix()
        wide = columns + window.width - 1
        self.kept = self.matrix.new_zeros(items, window.height, wide, window.weight.shape[1])

    def push(self, row: Tensor) -> None:
        """The next row, ``[item, column, inputs]``."""
        if self.window.height > 1:
            self.kept[:, :-1] = self.kept[:, 1:].clone()
        self.kept[:, -1, self.window.left : self.window.left + self.columns] = row

    def compute(self) -> Tensor:
        """What the window computes from the rows that are kept, ``[item, column, outputs]``."""
        seen = self.kept.unfold(2, self.window.width, 1)  # [item, height, column, inputs, width]
        seen = seen.permute(0, 2, 1, 4, 3).reshape(len(seen) * self.columns, -1)
        bias = self.window.bias
        made = seen @ self.matrix if bias is None else torch.addmm(bias.detach(), seen, self.matrix)
        return made.view(len(self.kept), self.columns, -1)

    def take(self, items: Tensor) -> None:
        """Go on with these items."""
        self.kept = self.kept[items]


class Cells:
    """Computes a `Window` of one row cell by cell, from a row in the making, ``[item, (left + columns) · inputs]``."""

    def __init__(self, window: Window, items: int, columns: int) -> None:
        self.size, self.width, self.left = window.weight.shape[1], window.width, window.left
        self.matrix, self.columns = window.matrix(), columns
        self.kept = self.matrix.new_zeros(items, (self.left + columns) * self.size)

    def put(self, column: int, features: Tensor) -> None:
        """The cell's own features, ``[item, inputs]``."""
        start = (column + self.left) * self.size
        self.kept[:, start : start + self.size] = features

    def added(self, rest: Tensor, column: int) -> Tensor:
        """What the window computes at the column, added to ``rest``: ``[item, outputs]``."""
        seen = self.kept[:, column * self.size : (column + self.width) * self.size]
        return torch.addmm(rest, seen, self.matrix)

    def row(self) -> Tensor:
        """The whole row, ``[item, column, inputs]``."""
        return self.kept[:, self.left * self.size :].view(len(self.kept), self.columns, self.size)

    def take(self, items: Tensor) -> None:
        """Go on with these items."""
        self.kept = self.kept[items]


def matrix(layer: nn.Conv2d) -> Tensor:
    """A convolution of single cells as ``[inputs, outputs]``."""
    return layer.weight.detach()[:, :, 0, 0].t()


def affine(layer: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """A convolution of single cells as its `matrix` and its bias ``[outputs]``."""
    bias = layer.bias
    return matrix(layer), layer.weight.new_zeros(len(layer.weight)) if bias is None else bias.detach()


class Entrance(nn.Module):
    """The first layer: what stands in a window before each cell, without the cell, and what is special about its place.

    Args:
        inputs, features: channels of the picture and of what is made of them.
        size: side of the window, before masking.
        places: height and width of the pictures if something is learned of each place, else None.
    """

    def __init__(self, inputs: int, features: int, size: int, places: tuple[int, int] | None) -> None:
        super().__init__()
        self.above = above(inputs, features, size, own=False)
        self.beside = beside(inputs, features, size, own=False, bias=True)
        self.places = nn.Parameter(torch.zeros(2, features, *places)) if places is not None else None

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """``[batch, inputs, height, width]`` as what the rows above say, and what they and the row itself say."""
        v = self.above(picture)
        h = self.beside(picture) + v
        return (v, h) if self.places is None else (v + self.places[0], h + self.places[1])


class EntranceReading:
    """An `Entrance` read cell by cell."""

    def __init__(self, entrance: Entrance, items: int, columns: int) -> None:
        self.entrance = entrance
        self.above, self.beside = Rows(entrance.above, items, columns), Cells(entrance.beside, items, columns)
        self.start = torch.empty(0)

    def row(self, row: int) -> Tensor:
        """What the rows above say of the next one, ``[item, column, features]``."""
        if row:
            self.above.push(self.beside.row())
        v, bias, places = self.above.compute(), self.entrance.beside.bias, self.entrance.places
        start = v if bias is None else v + bias
        if places is not None:
            v, start = v + places[0, :, row].t(), start + places[1, :, row].t()
        self.start = start.transpose(0, 1).contiguous()
        return v

    def cell(self, column: int) -> Tensor:
        """What they and the row itself say of the cell, ``[item, features]``."""
        return self.beside.added(self.start[column], column)

    def put(self, column: int, picture: Tensor) -> None:
        """The cell's own channels, ``[item, inputs]``."""
        self.beside.put(column, picture)

    def take(self, items: Tensor) -> None:
        """Go on with these items."""
        self.above.take(items)
        self.beside.take(items)
