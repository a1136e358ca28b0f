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


def test_a_window_is_its_formula_in_every_way_of_computing_it():
    torch.manual_seed(0)
    layer = Attention(16, 4, 2, window=3).eval()
    x, table = torch.randn(2, 9, 16), rotary_table(9, 4)
    queries, keys, values = layer.heads_of(layer.project(x), table)
    expected = torch.zeros(2, 9, 4, 4)
    for head in range(4):
        for place in range(9):
            near = slice(max(0, place - 2), place + 1)
            odds = (queries[:, place, head, None] * keys[:, near, head // 2]).sum(-1) / 2
            expected[:, place, head] = (odds.softmax(-1)[:, :, None] * values[:, near, head // 2]).sum(1)
    torch.testing.assert_close(layer(x, table), layer.output(expected.flatten(2)))
    by_products = layer._by_products(*(each.transpose(1, 2) for each in (queries, keys, values)), mask=None, share=0.0)
    torch.testing.assert_close(by_products.transpose(1, 2), expected)
    found = torch.einsum("bhts,bshd->bthd", layer.maps(x, table), values.repeat_interleave(2, 2))
    torch.testing.assert_close(found, expected)


def test_dropout_leaves_out_looks_and_keeps_their_mean():
    torch.manual_seed(0)
    layer = Attention(16, 4, dropout=0.5)
    queries, keys, values = (torch.randn(1, 4, 6, 4) for _ in range(3))
    plain = layer._by_products(queries, keys, values, mask=None, share=0.0)
    many = torch.stack([layer._by_products(queries, keys, values, mask=None, share=0.5) for _ in range(4000)])
    assert not torch.equal(many[0], many[1])
    torch.testing.assert_close(many.mean(dim=0), plain, atol=0.1, rtol=0)


def test_biases_and_scales_where_they_are_wanted():
    names = {name for name, _ in Attention(16, 4, query_bias=True, unit_queries=True, query_scales=True).named_parameters()}
    assert names == {"project.weight", "project.bias", "output.weight", "query_scale", "key_scale"}
    assert Attention(16, 4, size=6).output.weight.shape == (16, 24)
