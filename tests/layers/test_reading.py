"""Products for reading: the weights as they are now, however they came to change, and packed once while they do not."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from pieria.layers import reading
from pieria.layers.reading import product

ITEMS = 16


def by_a_fused_optimiser(weight: nn.Parameter, other: torch.Tensor) -> None:
    weight.grad = torch.ones_like(weight)
    torch.optim.AdamW([weight], lr=0.1, fused=True).step()


def by_exchange_with_an_average(weight: nn.Parameter, other: torch.Tensor) -> None:
    # as a running average is put in a model's place, goes on, and is put there again
    own, weight.data = weight.data, other
    product(weight, None, ITEMS)
    weight.data = own
    torch._foreach_lerp_([other], [own], 0.5)
    weight.data = other


def in_place(weight: nn.Parameter, other: torch.Tensor) -> None:
    with torch.no_grad():
        weight.mul_(2)


@pytest.mark.parametrize("change", [by_a_fused_optimiser, by_exchange_with_an_average, in_place])
def test_weights_that_changed_are_packed_anew(change) -> None:
    draw = torch.Generator().manual_seed(0)
    weight, other, x = (torch.randn(n, 512, generator=draw) for n in (256, 256, ITEMS))
    weight = nn.Parameter(weight)
    torch.testing.assert_close(product(weight, None, ITEMS)(x), functional.linear(x, weight.detach()), atol=1e-3, rtol=1e-4)
    change(weight, other)
    torch.testing.assert_close(product(weight, None, ITEMS)(x), functional.linear(x, weight.detach()), atol=1e-3, rtol=1e-4)


@pytest.mark.skipif(
    not hasattr(torch, "hash_tensor") or not torch.backends.mkldnn.is_available(),
    reason="torch before 2.9 cannot tell whether weights changed, and without oneDNN nothing is packed",
)
def test_weights_that_did_not_change_are_packed_once() -> None:
    weight = nn.Parameter(torch.randn(256, 512, generator=torch.Generator().manual_seed(0)))
    product(weight, None, ITEMS)
    first = reading._packed[weight][1]
    product(weight, None, ITEMS)
    assert reading._packed[weight][1] is first
