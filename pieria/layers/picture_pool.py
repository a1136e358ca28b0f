"""Made pictures, kept to be shown again: a discriminator that sees older ones too does not chase the newest.

After Shrivastava et al. 2017 (arXiv 1612.07828), as Zhu et al. 2017 use it: each new picture is as likely shown itself as it
takes the place of one that was kept, which is shown instead.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pieria.noise import Noise


class PicturePool(nn.Module):
    """Up to ``size`` pictures of one shape, in buffers, so that a resumed training goes on with the same ones.

    Processes that train together keep a pool each, of what they made themselves.
    """

    kept: Tensor
    filled: Tensor

    def __init__(self, size: int, shape: Sequence[int]) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("kept", torch.zeros(size, *shape))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def exchanged(self, made: Tensor, noise: Noise, name: str) -> Tensor:
        """What to show instead of ``made`` ``[batch, …]``; the pool takes in what it gave something else for.

        ``name`` tells the draws of one pool in a step from those of another.
        """
        if not self.size:
            return made
        older = (noise.uniform(f"{name} older") < 0.5).tolist()
        places = noise.integers(f"{name} place", self.size).tolist()
        shown, filled = made.clone(), int(self.filled)
        for item, (swap, place) in enumerate(zip(older, places, strict=True)):
            if filled < self.size:
                self.kept[filled] = made[item]
                filled += 1
            elif swap:
                shown[item] = self.kept[place]
                self.kept[place] = made[item]
        self.filled.fill_(filled)
        return shown
