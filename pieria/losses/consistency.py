"""Learning where the path of a noisy item ends, so that one or two steps draw what thirty did.

A solver follows a path from noise to an item, and every place on one path ends at the same item. A network that says so of
each place needs no steps in between. It is learned without a solver: an item with noise of a level and the same item with
the same noise, a little less of it, lie on neighbouring paths in the mean; the guess at the first is to be that at the
second, and the guess at the last one is the item itself (consistency models: Song et al. 2023, arXiv 2303.01469; begun
with a network that denoises, as here: Geng et al. 2024, 2406.14548; the distance: Song & Dhariwal 2023, 2310.14189).

Levels are angles, ``tan(angle) = sigma / alpha``: from 0, the item, to a quarter turn, pure noise.
"""

import math

from torch import Tensor

from pieria.sampling.noise_schedules import Schedule

QUARTER = math.pi / 2
SMOOTH = 0.00054  # of a cell: below this the distance is a square


def earlier(schedule: Schedule, uniform: Tensor, jumps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Times to learn at, as the law of ``uniform [batch]``, the times a ``1 / jumps`` of the way nearer to the item, and
    which of these are the item: ``(t, nearer, clean)``, float64 and bool ``[batch]``.
    """
    angle = QUARTER * (1 - uniform.double())  # never 0
    before = angle - QUARTER / jumps
    clean = before <= 0
    before = before.where(~clean, angle / 2)  # it is looked at, and not used
    return schedule.when(angle.tan()), schedule.when(before.tan()), clean


def distance(guess: Tensor, goal: Tensor) -> Tensor:
    """The Euclidean distance of items ``[batch, …]``, as a mean over cells and smooth near 0: ``√(‖·‖² + c²) - c``."""
    cells = guess[0].numel()
    smooth = SMOOTH * math.sqrt(cells)
    off = (guess - goal).square().flatten(1).sum(dim=1)
    return ((off + smooth * smooth).sqrt() - smooth) / math.sqrt(cells)
