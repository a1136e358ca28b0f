from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pieria.data import splits
from pieria.data.fingerprint import of_item

words = st.lists(st.text(max_size=5), min_size=3, max_size=60)


def parts_of(items):
    return {part: [items[p] for p in places] for part, places in splits.by_content(map(of_item, items)).items()}


@given(words)
def test_every_item_is_in_exactly_one_part(items):
    places = splits.by_content(map(of_item, items))
    assert sorted(p for part in places.values() for p in part) == list(range(len(items)))


@given(words, st.randoms(use_true_random=False))
def test_order_does_not_matter_and_duplicates_stay_together(items, random):
    shuffled = items + items[:2]
    random.shuffle(shuffled)
    first, second = parts_of(items), parts_of(shuffled)
    assert {part: set(held) for part, held in first.items()} == {part: set(held) for part, held in second.items()}
    assert not set(second.get("train", ())) & set(second.get("test", ()))


@given(st.sets(st.integers(), min_size=3, max_size=40))
def test_no_part_is_empty_when_there_are_three_items(items):
    places = splits.by_content(map(of_item, items))
    assert set(places) == set(splits.PARTS)
    assert all(len(part) for part in places.values())


def test_about_eighty_ten_ten():
    places = splits.by_content(of_item(i) for i in range(20_000))
    assert abs(len(places["test"]) - 2000) < 200
    assert abs(len(places["validation"]) - 2000) < 200


def test_one_or_two_items_only_train():
    assert list(splits.by_content([b"a"])) == ["train"]
    assert len(splits.by_content([b"a", b"b", b"a"])["train"]) == 3


@given(st.integers(1, 10_000))
def test_a_stream_is_cut_without_gap_or_overlap(total):
    for rule in (splits.by_place, splits.last_tenth):
        if rule is splits.last_tenth and total < 1000:
            continue
        cuts = list(rule(total).values())
        assert cuts[0][0] == 0
        assert cuts[-1][1] == total
        assert all(left[1] == right[0] for left, right in pairwise(cuts))
        assert all(start < stop for start, stop in cuts)


def test_the_published_permutation_of_the_digits():
    places = splits.digits(1797)
    order = np.random.RandomState(0).permutation(1797)
    assert (np.concatenate([places["train"], places["validation"]]) == order[:1297]).all()
    assert (places["test"] == order[1297:]).all()
    assert len(places["validation"]) == 129


def test_marks_in_the_data_decide():
    places = splits.marked(np.array([0, 1, 0, 1] + [0] * 20))
    assert places["test"].tolist() == [1, 3]
    assert places["validation"].tolist() == [22, 23]


def test_a_rule_for_a_whole_set_refuses_a_rest_of_it():
    with pytest.raises(splits.DataError, match="at least 10"):
        splits.places_of("makemore", 3)


def test_an_item_that_is_a_tenth_of_all_trains():
    for common in "abcdefghij":
        places = splits.by_content(map(of_item, [common] * 20 + list(range(180))))
        assert set(range(20)) <= set(places["train"])
        assert len(places["test"]) >= 5
