"""The importance-weighted bound ``log 1/k Σ p(x, z_i) / q(z_i | x)``, and two ways to follow its slope."""

import math

from torch import Tensor


def weighted(weights: Tensor) -> Tensor:
    """Minus the bound of each item ``[batch]``, from ``log p(x, z) - log q(z | x)`` ``[batch, draw]``.

    Burda et al. 2016, https://arxiv.org/abs/1509.00519.
    """
    return math.log(weights.shape[1]) - weights.logsumexp(dim=1)


def doubly(weights: Tensor, z: Tensor) -> Tensor:
    """As `weighted`, with slopes that are the same on average and less noisy, the more so the better ``q`` fits.

    Part of the slope of ``q`` is zero on average. Without it, what is left goes through the codes ``z``, ``[batch, draw,
    number]``, alone, weighted twice by the share ``w`` of each draw: ``Σ w² ∂ log(p / q) / ∂z``. The slope of ``p`` is
    weighted once, as ever. ``weights`` must reach ``q`` through ``z`` only (see `layers.latents.guessed`).

    Tucker et al. 2019, https://arxiv.org/abs/1810.04152 (DReG); with one draw that is Roeder et al. 2017,
    https://arxiv.org/abs/1703.09194 (sticking the landing).
    """
    share = weights.softmax(dim=1).detach()
    if z.requires_grad:
        z.register_hook(lambda slope: slope * share[..., None])
    # the value is the bound, the slope that of the weighted sum
    followed = -(share * weights).sum(dim=1)
    return followed + (weighted(weights) - followed).detach()
