"""How far one item is from another one that it should be, where the path of a noisy item is to be known to its end.

A solver follows a path from noise to an item, and every place on it ends at the same item. A network that says where a path
ends (a consistency function: Song et al. 2023, arXiv 2303.01469) needs one step, not thirty.
"""

import math

from torch import Tensor

SMOOTH = 0.00054  # of a cell: below this the distance is a square


def distance(guess: Tensor, goal: Tensor) -> Tensor:
    """The Euclidean distance of items ``[batch, …]``, as a root mean square of cells and smooth near 0, ``[batch]``.

    ``√(‖guess - goal‖² + c²) - c`` (Song & Dhariwal 2023, arXiv 2310.14189).
    """
    cells = guess[0].numel()
    smooth = SMOOTH * math.sqrt(cells)
    off = (guess - goal).square().flatten(1).sum(dim=1)
    return ((off + smooth * smooth).sqrt() - smooth) / math.sqrt(cells)
