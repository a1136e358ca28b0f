"""A picture told from a coarse grid to ever finer ones: each new cell by the levels of the cells that are known around it.

The order is that of an interlaced PNG. Where the cells of every second row and column are known, those between them in their
rows are told next, then those of the rows between, half of them at a time. Cells told together are independent given the
known ones (Reed et al. 2017, arXiv 1703.03664). Each pass is a coupling by splines: where the neighbours leave no doubt of a
cell's level, the stretch of that level alone becomes a whole Gaussian.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pieria.layers.bijections import FieldNetwork
from pieria.layers.splines import Spline

REACH = 7  # known cells around a new one that are looked at, on a side and of each grid

Pass = tuple[int, int, int]  # row and column where a grid begins, and its stride


def passes(height: int, width: int) -> list[tuple[Pass, list[Pass]]]:
    """Each grid that is told, and those of the same stride that are known by then.

    >>> passes(8, 8)
    [((0, 1, 2), [(0, 0, 2)]), ((1, 0, 2), [(0, 0, 2), (0, 1, 2)]), ((1, 1, 2), [(0, 0, 2), (0, 1, 2), (1, 0, 2)])]
    """
    stride = 1
    while height % (2 * stride) == 0 and width % (2 * stride) == 0 and min(height, width) >= 8 * stride:
        stride *= 2
    found = []
    while stride > 1:
        half = stride // 2
        grids = [(0, 0, stride), (0, half, stride), (half, 0, stride), (half, half, stride)]
        found += [(grids[number], grids[:number]) for number in (1, 2, 3)]
        stride = half
    return found


class Interlaced(nn.Module):
    """Couplings of a field of ``shape`` (height, width, channels), told by ``shown`` channels of each known cell."""

    def __init__(self, shape: tuple[int, int, int], shown: int, context: int, hidden: int, bins: int) -> None:
        super().__init__()
        height, width, channels = shape
        self.law = Spline(bins)
        self.passes = passes(height, width)
        self.networks = nn.ModuleList(
            FieldNetwork(
                shown * len(known),
                context,
                hidden,
                channels * self.law.parameters,
                reach=REACH,
                spread=False,
                places=(height // grid[2], width // grid[2]),
            )
            for grid, known in self.passes
        )

    def _raw(self, number: int, shown: Tensor, context: Tensor, channels: int) -> Tensor:
        known = torch.cat([_cells(shown, grid) for grid in self.passes[number][1]], dim=-1)
        raw: Tensor = self.networks[number](known, context)
        return raw.unflatten(-1, (channels, -1))

    def forward(self, x: Tensor, shown: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Gaussian cells and the levels that they stand for, as a network reads them, both ``[batch, height, width, …]``.

        Returns cells of the same shape, and the log-determinant ``[batch]``.
        """
        z, total = x.clone(), x.new_zeros(len(x))
        for number, (grid, _) in enumerate(self.passes):
            part, rise = self.law.forward(_cells(x, grid), self._raw(number, shown, context, x.shape[-1]))
            _cells(z, grid).copy_(part)
            total = total + rise.flatten(1).sum(dim=1)
        return z, total

    def inverse(self, z: Tensor, read: Callable[[Tensor], Tensor], context: Tensor) -> Tensor:
        """What `forward` made ``z`` of; ``read`` turns Gaussian cells into what is shown of them."""
        x = z.clone()
        for number, (grid, _) in enumerate(self.passes):
            raw = self._raw(number, read(x), context, z.shape[-1])
            _cells(x, grid).copy_(self.law.inverse(_cells(z, grid), raw))
        return x


def _cells(field: Tensor, grid: Pass) -> Tensor:
    row, column, stride = grid
    return field[:, row::stride, column::stride]
