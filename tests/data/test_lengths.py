import numpy as np
import pytest
import torch

from pieria.data.examples import ItemExamples
from pieria.data.lengths import ByLength, lengths_of
from pieria.data.order import Order
from pieria.forms import Label, Tokens
from pieria.training.stages import order_of

FORM = Tokens(4, 6, end=3)


def test_an_epoch_meets_every_item_at_most_once_and_batches_are_of_like_length():
    lengths = np.random.default_rng(0).integers(2, 40, 1003)
    order = ByLength(lengths, 10, seed=5)
    for epoch in range(3):
        steps = range(epoch * 100, (epoch + 1) * 100)
        met = np.concatenate([order.places(step) for step in steps])
        assert len(set(met.tolist())) == 1000
        spans = [np.ptp(lengths[order.places(step)]) for step in steps]
        assert np.mean(spans) < 3  # 34 if they came by chance
        assert set(np.concatenate([order.epochs(step) for step in steps])) == {epoch}
        means = [lengths[order.places(step)].mean() for step in steps]
        assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 0.4  # short ones do not come first
    assert not np.array_equal(order.places(0), order.places(100))


def test_it_is_a_function_of_seed_and_step():
    lengths = np.random.default_rng(0).integers(2, 40, 300)
    order = ByLength(lengths, 16, seed=5)
    late = order.places(50)
    assert np.array_equal(ByLength(lengths, 16, seed=5).places(50), late)
    assert not np.array_equal(ByLength(lengths, 16, seed=6).places(50), late)


@pytest.mark.parametrize("count", [1, 5])
def test_fewer_items_than_a_batch_are_repeated(count):
    places = ByLength(np.arange(count), 16, seed=0).places(3)
    assert len(places) == 16
    assert set(places.tolist()) == set(range(count))


def test_only_pairs_are_met_by_length():
    x = torch.tensor([[0, 1, 3, 3, 3, 3], [0, 1, 2, 1, 3, 3], [3, 3, 3, 3, 3, 3]])
    paired = ItemExamples(FORM, x, condition=FORM, conditions=x.flip(0))
    assert lengths_of(paired).tolist() == [4, 10, 4]
    assert isinstance(order_of(paired, 2, 0)[0], ByLength)
    labelled = ItemExamples(FORM, x, condition=Label(("a",)), conditions=torch.zeros(3, dtype=torch.int64))
    assert isinstance(order_of(labelled, 2, 0)[0], Order)
    assert isinstance(order_of(ItemExamples(FORM, x), 2, 0)[0], Order)
