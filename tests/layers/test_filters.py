"""Filters against the same sums as convolutions, and their gradients."""

import pytest
import torch
import torch.nn.functional as F

from pieria.layers.filters import TAPS, blur, doubled, halved, upfirdn


def plainly(x: torch.Tensor, up: int, down: int, pad: tuple[int, int]) -> torch.Tensor:
    """Zeros put in, a depthwise convolution with the outer product of the taps, every so-manieth cell."""
    n, channels, height, width = x.shape
    wide = x.new_zeros(n, channels, height * up, width * up)
    wide[:, :, ::up, ::up] = x
    wide = F.pad(wide, (*pad, *pad))
    taps = x.new_tensor(TAPS)
    kernel = torch.outer(taps, taps).expand(channels, 1, 4, 4)
    return F.conv2d(wide, kernel, groups=channels)[:, :, ::down, ::down]


@pytest.mark.parametrize(
    ("up", "down", "pad"), [(1, 1, (2, 1)), (2, 1, (2, 1)), (1, 2, (1, 1)), (3, 2, (0, 4)), (1, 1, (-1, 2))]
)
def test_upfirdn_is_a_convolution_between_zeros_and_strides(up, down, pad):
    x = torch.randn(2, 3, 7, 9, dtype=torch.float64)
    assert torch.allclose(upfirdn(x, TAPS, up, down, pad), plainly(x, up, down, pad), atol=1e-12)


def test_doubling_halving_and_blurring_are_cases_of_it():
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    assert torch.allclose(doubled(x), 4 * upfirdn(x, TAPS, up=2, pad=(2, 1)), atol=1e-12)
    assert torch.allclose(halved(x), upfirdn(x, TAPS, down=2, pad=(1, 1)), atol=1e-12)
    assert torch.allclose(blur(x, (2, 1), gain=4.0), 4 * upfirdn(x, TAPS, pad=(2, 1)), atol=1e-12)
    assert halved(x[..., :5, :7]).shape[-2:] == (3, 4)


def test_every_filter_has_a_gradient_of_the_second_order():
    x = torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: (doubled(x) ** 2, halved(x) ** 2, blur(x, (1, 1)) ** 3), (x,))
