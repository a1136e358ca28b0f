"""k-means++: centres that lie far apart, from which mixtures begin (Arthur and Vassilvitskii 2007)."""

from collections.abc import Callable

import numpy as np

Array = np.ndarray


def spread_out(points: int, tosses: Array, apart: Callable[[int], Array]) -> tuple[list[int], Array]:
    """As many centres as ``tosses`` (uniform, ``[centre]``), and the centre that each point is nearest to, ``[point]``.

    Each next centre is a point, drawn by its squared distance to the nearest centre; ``apart(i)`` gives the squared
    distances of all points to point i.
    """
    centres: list[int] = []
    nearest, distance = np.zeros(points, np.int64), np.ones(points)
    for number, toss in enumerate(tosses):
        passed = np.cumsum(distance if distance.any() else np.ones_like(distance))
        centres.append(min(int(np.searchsorted(passed, toss * passed[-1], side="right")), points - 1))
        away = apart(centres[-1])
        closer = (away < distance) | (number == 0)
        nearest[closer], distance = number, np.where(closer, away, distance)
    return centres, nearest
