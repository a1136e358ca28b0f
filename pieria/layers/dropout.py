"""Dropout that does not cost more than the layer that it regularises."""

import torch
from torch import Tensor, nn
from torch.nn import functional

BYTES = 256


def dropout(x: Tensor, share: float) -> Tensor:
    """``x`` with a share of its numbers set to zero and the others scaled up (Srivastava et al. 2014), at any shape.

    On CPUs torch draws a double for each number, which takes a fifth of a transformer's step. Here a number takes one byte
    of a 64-bit draw, so that ``share`` is rounded to the nearest 256th; the others are scaled by what is really kept.
    """
    if share == 0:
        return x
    if x.device.type != "cpu":
        return functional.dropout(x, share)
    dropped = min(round(share * BYTES), BYTES - 1)
    drawn = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
    kept = (drawn.view(torch.uint8)[: x.numel()] >= dropped).view(x.shape)
    return x * kept * (BYTES / (BYTES - dropped))


class Dropout(nn.Module):
    """`dropout` in training, nothing otherwise."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return dropout(x, self.share) if self.training else x
