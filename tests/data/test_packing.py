"""Items packed into rows: all of them, once, each apart from the others."""

import numpy as np
import pytest
import torch

from pieria.data.batch import mask_after_end
from pieria.data.packing import rows_of

END = 0


def items(lengths, wide, seed=0):
    """Random items of these lengths, each with its end, padded with it."""
    x = torch.full((len(lengths), wide), END)
    generator = torch.Generator().manual_seed(seed)
    for row, length in enumerate(lengths):
        x[row, : length - 1] = torch.randint(1, 9, (length - 1,), generator=generator)
    return x, mask_after_end(x, END)


@pytest.mark.parametrize("lengths", [[7, 3, 2, 9, 1, 4, 4], [5], [6, 6, 6], list(range(1, 40))])
def test_every_item_stands_once_and_whole_in_a_row(lengths):
    x, mask = items(lengths, 50)
    rows = rows_of(x, mask, True, 64)
    for place, length in enumerate(lengths):
        there = (rows.items == place) & rows.mask
        assert there.any(dim=1).sum() == 1
        assert rows.x[there].tolist() == x[place, :length].tolist()
        assert rows.places[there].tolist() == list(range(length))
    assert int(rows.mask.sum()) == sum(lengths)


def test_what_is_read_is_what_stands_before_in_the_same_item():
    x, mask = items([7, 3, 2, 9, 1, 4, 4], 12)
    before = torch.arange(100, 107)
    rows = rows_of(x, mask, True, 64)
    assert rows.several
    wanted = torch.cat([before[:, None], x[:, :-1]], dim=1)
    assert torch.equal(rows.read(before)[rows.mask], wanted[rows.items, rows.places][rows.mask])


def test_a_place_sees_its_own_item_up_to_itself():
    x, mask = items([3, 2, 4, 1], 5)
    rows = rows_of(x, mask, True, 64)
    seen = rows.seen()[:, 0]
    for row in range(len(rows.x)):
        for place in range(rows.x.shape[1]):
            looked = seen[row, place].nonzero()[:, 0]
            assert looked.max() == place
            if rows.mask[row, place]:
                assert rows.places[row, looked].tolist() == list(range(int(rows.places[row, place]) + 1))
                assert rows.items[row, looked].unique().numel() == 1


def test_little_of_packed_rows_is_padding():
    """Of 64 words as long as names half would be padding in rows as wide as the longest; a tenth of packed rows is."""
    lengths = np.random.default_rng(0).geometric(0.2, 64).clip(2, 16)
    x, mask = items(lengths.tolist(), 16)
    packed, plain = rows_of(x, mask, True, 64), rows_of(x, mask, False, 64)
    assert lengths.sum() / plain.x.numel() < 0.5
    assert lengths.sum() / packed.x.numel() > 0.9


def test_plain_rows_have_few_widths():
    widths = {rows_of(*items([length], 500), False, 64).x.shape[1] for length in range(1, 501)}
    assert len(widths) <= 16
    assert max(widths) == 500


def test_auto_packs_only_where_padding_is_saved():
    alike, mask = items([9, 8, 9, 9, 8, 9], 12)
    assert not rows_of(alike, mask, "auto", 64).several
    short = [9, 2, 3, 9, 2, 3, 2, 2]
    mixed, mask = items(short, 12)
    assert rows_of(mixed, mask, "auto", 64).several


def test_one_long_item_of_a_data_set_makes_no_long_rows():
    """Looking costs as much as the row is wide, so rows of short items are no wider than two of them."""
    x, mask = items([30, 12, 9, 20, 4], 2000)
    assert rows_of(x, mask, True, 64).x.shape[1] <= 125
    x, mask = items([1000, 12, 9, 20, 4], 2000)
    assert rows_of(x, mask, "auto", 64).several


def test_symbols_after_the_last_that_counts_are_left_out_and_those_before_it_are_read():
    """A conversation counts in the assistant's turns alone, but all of it is read."""
    x = torch.arange(1, 13).view(2, 6)
    mask = torch.tensor([[False, True, False, True, False, False], [True, False, False, False, False, False]])
    rows = rows_of(x, mask, True, 64)
    assert sorted(rows.x[rows.mask].tolist()) == [2, 4, 7]
    assert {1, 3} <= set(rows.x.flatten().tolist())
    assert not {5, 6, 8, 9} & set(rows.x.flatten().tolist())


def test_a_batch_in_which_nothing_counts_is_still_rows():
    x = torch.ones(3, 4, dtype=torch.int64)
    for packed in (True, False, "auto"):
        assert not rows_of(x, torch.zeros(3, 4, dtype=torch.bool), packed, 64).mask.any()


def test_the_same_items_are_packed_alike():
    x, mask = items([7, 3, 2, 9, 1, 4, 4], 12)
    assert torch.equal(rows_of(x, mask, True, 64).items, rows_of(x, mask, True, 64).items)
