import pytest
import torch
from torch.nn import functional

from pieria.layers.cross_attention import CrossAttention, attend
from pieria.layers.dropout import Dropout


def heads(n, time, seed):
    return torch.randn(n, 2, time, 8, generator=torch.Generator().manual_seed(seed))


def test_padding_has_no_part_in_what_is_found():
    queries, keys, values = heads(2, 3, 0), heads(2, 5, 1), heads(2, 5, 2)
    real = torch.tensor([[True, True, False, False, False], [True] * 5])
    found = attend(queries, keys, values, real)
    torch.testing.assert_close(found[:1], attend(queries[:1], keys[:1, :, :2], values[:1, :, :2]))
    torch.testing.assert_close(found[1:], functional.scaled_dot_product_attention(queries[1:], keys[1:], values[1:]))


def test_products_in_bfloat16_find_the_same():
    queries, keys, values = heads(2, 3, 0), heads(2, 5, 1), heads(2, 5, 2)
    real = torch.tensor([[True, True, False, False, False], [True] * 5])
    half = attend(queries.bfloat16(), keys.bfloat16(), values.bfloat16(), real)
    torch.testing.assert_close(half.float(), attend(queries, keys, values, real), atol=0.03, rtol=0.03)


@pytest.mark.parametrize("unit_queries", [False, True])
def test_the_maps_are_the_weights_of_what_is_found(unit_queries):
    torch.manual_seed(0)
    layer = CrossAttention(16, 4, unit_queries=unit_queries)
    x, memory = torch.randn(2, 3, 16), torch.randn(2, 6, 16)
    real = torch.arange(6) < torch.tensor([[6], [4]])
    with torch.no_grad():
        pairs = layer.pairs(memory)
        maps = layer.maps(x, pairs, real)
        found = layer.output(torch.einsum("bhts,bhsd->bthd", maps, pairs[1]).flatten(2))
        torch.testing.assert_close(found, layer(x, pairs, real))
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 4, 3))
    assert (maps[1, :, :, 4:] == 0).all()


def test_dropout_keeps_its_share_and_the_mean():
    drop, x = Dropout(0.3), torch.ones(1000, 1000)
    torch.manual_seed(1)
    dropped = drop(x)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.003)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.005)
    torch.manual_seed(1)
    assert torch.equal(drop(x), dropped)  # a function of the global state, which the loop seeds by the step
    # no pattern along the eight features of one draw
    assert (dropped == 0).float().view(-1, 8).mean(dim=0).sub(0.3).abs().max() < 0.005
    assert torch.equal(drop.eval()(x), x)
