"""How many of the kinds of thing that there are among some items another set has as well: what an adversarial game forgets.

Kinds are clusters found by k-means among the items themselves (after the bins of Richardson & Weiss 2018, *On GANs and
GMMs*, arXiv 1805.12462), so that no network is needed and every look finds the same ones.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pieria.layers.spreading import spread_out

IN_ONE, CLUSTERS = 20, 50  # items in a cluster, on average; clusters at most
ROUNDS = 10
FEW = 0.25  # of the items that a cluster should have: with fewer it is left out
SIDE = 16  # cells of a side: finer detail does not tell kinds apart
GOLDEN = 0.6180339887498949


def left_out(real: Tensor, made: Tensor) -> tuple[float, int, int]:
    """The share of the ``real`` points in clusters that ``made`` points leave out; how many clusters; how many are covered.

    Both are ``[n, d]``. A cluster is covered if at least a quarter as large a share of the made points fall in it as of the
    real ones. With sets of one law and of some hundred points, next to nothing is left out.
    """
    real, made = real.detach().double().cpu(), made.detach().double().cpu()
    centres = clusters(real)
    there, here = (torch.bincount(torch.cdist(x, centres).argmin(dim=1), minlength=len(centres)) for x in (real, made))
    shares = there / len(real)
    covered = here / len(made) >= FEW * shares
    return float(shares[~covered].sum()), int((there > 0).sum()), int((covered & (there > 0)).sum())


def clusters(points: Tensor) -> Tensor:
    """Centres ``[k, d]`` of points ``[n, d]``, by k-means from points far apart; the same for the same points."""
    count = max(2, min(CLUSTERS, len(points) // IN_ONE))
    tosses = (np.arange(1, count + 1) * GOLDEN) % 1
    first, _ = spread_out(len(points), tosses, lambda i: (points - points[i]).square().sum(dim=1).numpy())
    centres = points[first]
    for _ in range(ROUNDS):
        nearest = F.one_hot(torch.cdist(points, centres).argmin(dim=1), len(centres)).to(points)
        inside = nearest.sum(dim=0)[:, None]
        centres = torch.where(inside > 0, nearest.T @ points / inside.clamp(min=1), centres)
    return centres


def small_pictures(picture: Tensor) -> Tensor:
    """``[batch, channel, height, width]`` as points ``[batch, d]``, averaged down to 16 cells a side at most."""
    height, width = picture.shape[-2:]
    return F.adaptive_avg_pool2d(picture.float(), (min(height, SIDE), min(width, SIDE))).flatten(1)
