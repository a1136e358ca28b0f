"""Enlarging, shrinking and blurring pictures with a small separable filter, so that no frequency is folded onto another.

The filter is (1, 3, 3, 1)/8 along each axis, as StyleGAN's: enlarging puts a zero after each cell and filters that,
shrinking filters and takes every other cell (Zhang 2019, arXiv 1904.11486; Karras et al. 2020, arXiv 1912.04958).
Outside the picture there are zeros. It is a convolution of each channel by itself, with a gradient of any order; with
channels last that is several times faster on a processor than sums of shifted slices, in the precision of products.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

TAPS = (1 / 8, 3 / 8, 3 / 8, 1 / 8)


def upfirdn(x: Tensor, taps: tuple[float, ...], up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)) -> Tensor:
    """Put ``up - 1`` zeros after each cell, ``pad`` each side, filter by ``taps`` along both axes, take every ``down``-th.

    Args:
        x: ``[batch, channel, height, width]``.
        taps: the filter along one axis; it must be the same read backwards.
        pad: zeros before and after, along both axes; negative ones cut.

    Returns:
        ``[batch, channel, (height · up + pad - taps) // down + 1, …]``.
    """
    if up > 1:
        x = F.pad(x[..., None, :, None], (0, up - 1, 0, 0, 0, up - 1)).flatten(-2).flatten(-3, -2)
    if pad[0] != pad[1] or pad[0] < 0:
        x, pad = F.pad(x, (*pad, *pad)), (0, 0)
    line = x.new_tensor(taps)
    window = torch.outer(line, line).expand(x.shape[1], 1, -1, -1)
    # cells are left out afterwards: the gradient of a strided convolution of single channels takes four times as long
    return F.conv2d(x, window, padding=pad[0], groups=x.shape[1])[..., ::down, ::down]


def blur(x: Tensor, pad: tuple[int, int], gain: float = 1.0) -> Tensor:
    """Filtered, ``pad`` zeros each side before; a side of n cells becomes one of n + pad - 3."""
    taps = tuple(tap * gain**0.5 for tap in TAPS)
    return upfirdn(x, taps, pad=pad)


def doubled(x: Tensor) -> Tensor:
    """Twice as high and wide: each new cell is 9, 3, 3 and 1 sixteenths of the four old ones around it."""
    for axis in (2, 3):
        x = x.movedim(axis, -1)
        round_about = F.pad(x, (1, 1))
        earlier, later = round_about[..., :-2], round_about[..., 2:]
        near = 0.75 * x
        pair = torch.stack([torch.add(near, earlier, alpha=0.25), torch.add(near, later, alpha=0.25)], dim=-1)
        x = pair.flatten(-2).movedim(-1, axis)
    return x


def halved(x: Tensor) -> Tensor:
    """Half as high and wide; an odd side gets one empty line first."""
    return upfirdn(even(x), TAPS, down=2, pad=(1, 1))


def even(x: Tensor) -> Tensor:
    """With an empty line at the end of each odd side."""
    return F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)) if x.shape[-1] % 2 or x.shape[-2] % 2 else x
