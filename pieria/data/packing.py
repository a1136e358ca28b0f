"""Items of different lengths one after the other in the same row, so that little of a batch is padding.

A batch of items is as wide as its longest, and more than half of it may be padding. Laid end to end in fewer rows the items
cost a network less, and nothing else changes: each symbol keeps its place in its item, and sees no other item (as in Krell
et al. 2021, arXiv 2107.02027), so that losses and gradients are those of the same items in rows of their own.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Packed = bool | Literal["auto"]

WIDTHS = 16  # different widths of rows at most
WORTH = 0.95  # auto: what packed rows may cost at most, as a share of what plain rows cost


@dataclass(frozen=True)
class Rows:
    """A batch of items laid out in rows, ``[row, time]`` each.

    Attributes:
        x: the symbols; anything where there is none.
        mask: bool: what counts in the loss.
        items: which item of the batch each symbol is of.
        places: its place in the item, from 0 on.
        several: whether a row may hold more than one item.
    """

    x: Tensor
    mask: Tensor
    items: Tensor
    places: Tensor
    several: bool

    def read(self, before: Tensor) -> Tensor:
        """What stands before each symbol in its item; ``before`` ``[item]`` is what stands before the first one."""
        return torch.where(self.places == 0, before[self.items], self.x.roll(1, dims=1))

    def seen(self) -> Tensor | None:
        """Where each place may look, bool ``[row, 1, time, time]``: its own item up to itself; None for all before it."""
        if not self.several:
            return None
        return (self.items[:, :, None] == self.items[:, None, :]).tril()[:, None]


def rows_of(x: Tensor, mask: Tensor | None, packed: Packed, features: int) -> Rows:
    """Lay out the items ``x`` (long ``[item, time]``), each up to its last symbol that counts (``mask``; None: all do).

    ``auto`` packs where that costs a transformer with so many ``features`` a symbol less than a row for each item. Which
    item goes where follows from their lengths and order alone.
    """
    counts = torch.ones_like(x, dtype=torch.bool) if mask is None else mask
    device, after = x.device, torch.arange(1, x.shape[1] + 1, device=x.device)
    lengths = (counts * after).amax(dim=1).clamp(min=1).cpu().numpy()
    longest = int(lengths.max())
    width, room = _rounded(longest, x.shape[1]), _rounded(2 * longest, x.shape[1])
    filled = first_fit(lengths, room) if packed else []
    if not packed or (packed == "auto" and _cost(len(filled), room, features) > WORTH * _cost(len(x), width, features)):
        items = torch.arange(len(x), device=device)[:, None].expand(-1, width)
        return Rows(x[:, :width], counts[:, :width], items, (after[:width] - 1).expand(len(x), -1), False)

    order = np.concatenate(filled)
    wide = lengths[order]
    first = np.concatenate([row * room + _starts(lengths[held]) for row, held in enumerate(filled)])
    within = np.arange(wide.sum()) - np.repeat(_starts(wide), wide)
    at = np.repeat(first, wide) + within
    # what is left of a row goes on as its last item, so that it sees something, and does not count
    whose = np.repeat([held[-1] for held in filled], room)
    places, real = np.zeros(len(whose), dtype=np.int64), np.zeros(len(whose), dtype=bool)
    whose[at], places[at], real[at] = np.repeat(order, wide), within, True
    of, place, there = (torch.from_numpy(each).view(len(filled), room).to(device) for each in (whose, places, real))
    return Rows(x[of, place], counts[of, place] & there, of, place, True)


def first_fit(lengths: np.ndarray, room: int) -> list[list[int]]:
    """The items of each row of ``room`` symbols: the longest first, each into the first row that has room for it.

    At most 11/9 of the fewest possible rows, and 6/9 of one (Dósa 2007, *The tight bound of first fit decreasing*).

    >>> first_fit(np.array([3, 7, 2, 5, 3]), room=10)
    [[1, 0], [3, 4, 2]]
    """
    left = np.full(len(lengths), room)
    rows: list[list[int]] = [[] for _ in lengths]
    for item in np.argsort(-lengths, kind="stable").tolist():
        row = int(np.argmax(left >= lengths[item]))
        left[row] -= lengths[item]
        rows[row].append(item)
    return [row for row in rows if row]


def _rounded(length: int, most: int) -> int:
    """One of few widths: on the CPU every new shape of a product of bfloat16 matrices makes a kernel, and keeps it."""
    step = -(-most // WIDTHS)
    return min(most, -(-length // step) * step)


def _cost(rows: int, time: int, features: int) -> int:
    """Relative time of a training step: of each symbol by itself, and of looking at the whole row, seen or not.

    The 3 is measured: width 256, one core, rows of 11 to 400 symbols.
    """
    return rows * time * (3 * features + time)


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.cumsum(lengths) - lengths
