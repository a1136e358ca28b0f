"""Attention against its formula, and rotary positions against what they promise."""

import torch

from pieria.layers.attention import Attention, rotary_table, rotate


def test_rotated_products_depend_on_the_distance_alone():
    table = rotary_table(40, 8).double()
    query, key = torch.randn(2, 1, 1, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def product(here, there):
        return (rotate(query[None], table[:, here : here + 1]) * rotate(key[None], table[:, there : there + 1])).sum()

    torch.testing.assert_close(product(3, 1), product(30, 28), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(product(9, 9), (query * key).sum(), atol=1e-5, rtol=1e-5)
    assert abs(product(3, 1) - product(3, 2)) > 1e-3


def test_rotation_keeps_lengths():
    x = torch.randn(2, 10, 3, 8)
    torch.testing.assert_close(rotate(x, rotary_table(10, 8)).norm(dim=-1), x.norm(dim=-1))


def test_attention_is_its_formula():
    torch.manual_seed(0)
    for key_heads, unit in ((4, False), (2, True), (1, False)):
        layer = Attention(16, 4, key_heads, unit_queries=unit)
        x, table = torch.randn(2, 7, 16), rotary_table(7, 4)
        queries, keys, values = layer.heads_of(layer.project(x), table)
        expected = torch.zeros(2, 7, 4, 4)
        for head in range(4):
            group = head // (4 // key_heads)
            for place in range(7):
                odds = (queries[:, place, head, None] * keys[:, : place + 1, group]).sum(-1) / 2
                expected[:, place, head] = (odds.softmax(-1)[:, :, None] * values[:, : place + 1, group]).sum(1)
        torch.testing.assert_close(layer(x, table), layer.output(expected.flatten(2)))
        found = torch.einsum("bhts,bshd->bthd", layer.maps(x, table), values.repeat_interleave(4 // key_heads, 2))
        torch.testing.assert_close(found, expected)
