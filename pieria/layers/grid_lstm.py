"""LSTMs whose state is carried over a picture: from row to row, or from cell to cell along diagonals (PixelRNN).

After van den Oord et al. 2016 (arXiv 1601.06759). Maps are ``[batch, features, height, width]``, labels one-hot.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pieria.layers.masked import Cells, beside, matrix


def beat(gates: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """An LSTM's step: gates ``[…, 4 · features]`` and the memory before, to the new state and memory ``[…, features]``."""
    sigmoids, candidate = gates.split((3 * memory.shape[-1], memory.shape[-1]), dim=-1)
    keep, write, show = sigmoids.sigmoid().chunk(3, dim=-1)
    memory = keep * memory + write * candidate.tanh()
    return show * memory.tanh(), memory


def remembering(bias: Tensor, features: int) -> None:
    """Begin with gates that keep most of the memory."""
    with torch.no_grad():
        bias[:features] = 1.0


class RowLSTM(nn.Module):
    """States go from row to row: ``gates = beside x + W [state above left, above, above right] + b``."""

    def __init__(self, features: int, kernel: int, classes: int) -> None:
        super().__init__()
        self.reach = kernel // 2
        self.beside = beside(features, 4 * features, kernel, own=True)
        self.before = nn.Linear((2 * self.reach + 1) * features, 4 * features)
        self.label = nn.Linear(classes, 4 * features, bias=False) if classes else None
        self.out = nn.Conv2d(features, features, 1, bias=False)
        remembering(self.before.bias, features)

    def above(self, states: Tensor) -> Tensor:
        """What a row of states ``[batch, column, features]`` says to the next one, ``[batch, column, 4 · features]``."""
        columns, padded = states.shape[1], functional.pad(states, (0, 0, self.reach, self.reach))
        seen = torch.cat([padded[:, k : k + columns] for k in range(2 * self.reach + 1)], dim=2)
        said: Tensor = self.before(seen)
        return said

    def forward(self, x: Tensor, above: Tensor, label: Tensor) -> Tensor:
        """States of all cells; ``x`` and they are ``[batch, features, height, width]``; ``above`` is not used."""
        del above
        read = self.beside(x)
        if self.label is not None:
            read = read + self.label(label)[:, :, None, None]
        rows = read.permute(2, 0, 3, 1).contiguous()  # [height, batch, width, 4 · features]
        # the memory adds up over rows, so it is kept in the precision of the weights
        state = memory = self.before.weight.new_zeros(len(x), x.shape[3], x.shape[1])
        made = []
        for row in rows.unbind(0):
            state, memory = beat(row + self.above(state), memory)
            made.append(state)
        return torch.stack(made).permute(1, 3, 0, 2)


class DiagonalBiLSTM(nn.Module):
    """States come from the side and from above: ``gates = W x + U [state beside, state above] + b``, from left and right.

    The one from the right must not see pixels after this one in its own row: it reads ``x`` of the row above, and ``above``,
    what a network says of a cell from the rows above alone, so that not even the last pixel of a row is missed.
    """

    def __init__(self, features: int, kernel: int, classes: int) -> None:
        super().__init__()
        del kernel  # a state is handed on to the next cells alone
        self.features = features
        self.read = nn.Conv2d(features, 4 * features, 1, bias=False)
        self.read_above = nn.Conv2d(2 * features, 4 * features, 1, bias=False)
        self.before = nn.ModuleList(nn.Linear(2 * features, 4 * features) for _ in range(2))
        self.label = nn.Linear(classes, 8 * features, bias=False) if classes else None
        self.out = nn.Conv2d(features, features, 1, bias=False)
        for before in self.before:
            assert isinstance(before, nn.Linear)
            remembering(before.bias, features)

    def forward(self, x: Tensor, above: Tensor, label: Tensor) -> Tensor:
        """States of all cells, both directions added; all maps are ``[batch, features, height, width]``."""
        lower = functional.pad(x[:, :, :-1], (0, 0, 1, 0))  # each cell's is that of the row above
        read = torch.cat([self.read(x), self.read_above(torch.cat([lower, above], dim=1))], dim=1)
        if self.label is not None:
            read = read + self.label(label)[:, :, None, None]
        from_left, from_right = read.permute(0, 2, 3, 1).chunk(2, dim=3)
        left = self._diagonals(from_left, self.before[0], self.out.weight.dtype)
        right = self._diagonals(from_right.flip(2), self.before[1], self.out.weight.dtype).flip(2)
        return (left + right).permute(0, 3, 1, 2)

    @staticmethod
    def _diagonals(read: Tensor, before: nn.Module, precision: torch.dtype) -> Tensor:
        """States ``[batch, height, width, features]`` of gates ``[…, 4 · features]`` read from the left, by diagonals."""
        n, height, width, gates = read.shape
        # row r is moved r to the right: the cells of a diagonal then stand in a column
        skewed = functional.pad(read, (0, 0, 0, height)).flatten(1, 2)[:, :-height].unflatten(1, (height, -1))
        cells = torch.arange(skewed.shape[2], device=read.device)[:, None] - torch.arange(height, device=read.device)
        there = ((cells >= 0) & (cells < width)).to(read.dtype)[..., None]  # [diagonal, height, 1]
        state = memory = torch.zeros(n, height, gates // 4, device=read.device, dtype=precision)
        made = []
        for gate, real in zip(skewed.unbind(2), there.unbind(0), strict=True):
            above = functional.pad(state[:, :-1], (0, 0, 1, 0))
            state, memory = beat(gate + before(torch.cat([state, above], dim=2)), memory)
            state, memory = state * real, memory * real
            made.append(state)
        back = functional.pad(torch.stack(made, dim=2).flatten(1, 2), (0, 0, 0, height))
        return back.unflatten(1, (height, -1))[:, :, :width]


class RowReading:
    """A `RowLSTM` read cell by cell: what the states above say is computed a row at once."""

    def __init__(self, layer: RowLSTM, labels: Tensor, columns: int) -> None:
        self.layer, self.out = layer, matrix(layer.out)
        self.cells = Cells(layer.beside, len(labels), columns)
        self.add = 0.0 if layer.label is None else layer.label(labels)[:, None]
        # of the row that was read last, [n, column, features]; they are overwritten column by column
        self.states = self.out.new_zeros(len(labels), columns, len(self.out))
        self.memories = torch.zeros_like(self.states)
        self.rest = self.states

    def row(self, above: Tensor) -> None:
        """A row begins; ``above`` is not used."""
        del above
        self.rest = (self.layer.above(self.states) + self.add).transpose(0, 1).contiguous()

    def cell(self, column: int, h: Tensor) -> Tensor:
        """The state of the cell, ``[n, features]``."""
        self.cells.put(column, h)
        state, memory = beat(self.cells.added(self.rest[column], column), self.memories[:, column])
        self.states[:, column], self.memories[:, column] = state, memory
        return state

    def take(self, items: Tensor) -> None:
        """Go on with these items."""
        self.states, self.memories = self.states[items], self.memories[items]
        self.cells.take(items)
        self.add = self.add if isinstance(self.add, float) else self.add[items]


class DiagonalReading:
    """A `DiagonalBiLSTM` read cell by cell: the states from the right are computed when their row is whole."""

    def __init__(self, layer: DiagonalBiLSTM, labels: Tensor, columns: int) -> None:
        self.out, self.read, self.read_above = matrix(layer.out), matrix(layer.read), matrix(layer.read_above)
        self.left, self.right = layer.before
        add = layer.label(labels) if layer.label is not None else self.read.new_zeros(len(labels), 2 * self.read.shape[1])
        self.adds = list(add.chunk(2, dim=1))
        empty = self.out.new_zeros(len(labels), columns + 1, len(self.out))
        # the row that was read last, one column more so that the first and the last have a neighbour: [n, column, features]
        self.lefts, self.rights, self.seen = empty.clone(), empty.clone(), empty[:, 1:].clone()
        self.memory = empty[:, 0]

    def row(self, above: Tensor) -> None:
        """A row begins, and so all that comes from the right is known; ``above`` is ``[n, column, features]``."""
        read = torch.cat([self.seen, above], dim=2) @ self.read_above + self.adds[1][:, None]
        memory = torch.zeros_like(self.memory)
        for column in reversed(range(above.shape[1])):
            before = torch.cat([self.rights[:, column + 1], self.rights[:, column]], dim=1)
            self.rights[:, column], memory = beat(read[:, column] + self.right(before), memory)
        self.memory = torch.zeros_like(memory)

    def cell(self, column: int, h: Tensor) -> Tensor:
        """The states of the cell, from the left and from the right, ``[n, features]``."""
        self.seen[:, column] = h
        # column c of the states stands at c + 1, so that the neighbour of the first is nothing
        before = torch.cat([self.lefts[:, column], self.lefts[:, column + 1]], dim=1)
        said = h @ self.read + self.adds[0] + self.left(before)
        state, self.memory = beat(said, self.memory)
        self.lefts[:, column + 1] = state
        return state + self.rights[:, column]

    def take(self, items: Tensor) -> None:
        """Go on with these items."""
        self.lefts, self.rights, self.seen = self.lefts[items], self.rights[items], self.seen[items]
        self.adds = [add[items] for add in self.adds]
