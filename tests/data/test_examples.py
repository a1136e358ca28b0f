import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pieria.data.batch import Batch, check, mask_after_end
from pieria.data.examples import ItemExamples, StreamExamples
from pieria.data.order import Order, RandomWindows
from pieria.errors import FormError
from pieria.forms import Grid, Label, Tokens
from pieria.noise import StepNoise


@given(st.integers(2, 200), st.integers(1, 20), st.integers(1, 7), st.integers(0, 30))
def test_a_sweep_scores_every_symbol_once_behind_its_own_context(total, length, size, context):
    stream = np.arange(total) % 251
    examples = StreamExamples(Tokens(251, 8), stream)
    seen = []
    for batch in examples.sweep(size, length=length, context=context):
        assert len(batch) <= size
        for row in range(len(batch)):
            start = int(batch.index[row])
            assert batch.x[row].tolist() == stream[start : start + batch.x.shape[1]].tolist()
            before = [] if batch.context is None else batch.context[row].tolist()
            assert before == stream[max(0, start - context) : start].tolist()
            seen += range(start, start + batch.x.shape[1])
    assert seen == list(range(total))
    assert examples.scored() == total


def test_windows_of_a_memory_map_are_what_follows_their_context(tmp_path):
    stream = np.memmap(tmp_path / "a.bin", dtype=np.uint16, mode="w+", shape=(1000,))
    stream[:] = np.arange(1000)
    examples = StreamExamples(Tokens(1000, 16), stream)
    batch = examples.batch([0, len(examples) - 1])
    assert batch.context.tolist() == [[0], [983]]
    assert batch.x[1].tolist() == list(range(984, 1000))
    assert batch.x.dtype == torch.int64


def test_a_large_sweep_starts_at_once():
    class Endless:
        shape, ndim, dtype = (10**12,), 1, np.dtype(np.uint8)

        def __len__(self):
            return 10**12

        def __array__(self, dtype=None, copy=None):
            return self.view()

        @staticmethod
        def view():
            return np.broadcast_to(np.zeros(1, np.uint8), (10**12,))

    examples = StreamExamples(Tokens(2, 8), Endless.view())
    assert next(examples.sweep(4)).x.shape == (4, 8)


def test_a_stream_shorter_than_a_window_is_one_window():
    examples = StreamExamples(Tokens(10, 64), np.arange(5))
    assert len(examples) == 1
    assert examples.batch([0]).x.tolist() == [[1, 2, 3, 4]]
    with pytest.raises(FormError, match="1 symbols"):
        StreamExamples(Tokens(10, 4), np.arange(1))
    with pytest.raises(FormError, match="end symbol"):
        StreamExamples(Tokens(10, 4, end=9), np.arange(5))


def test_items_count_up_to_their_end():
    x = torch.tensor([[1, 2, 9, 9], [9, 9, 9, 9], [1, 2, 3, 4]])
    assert mask_after_end(x, 9).sum(dim=1).tolist() == [3, 1, 4]
    examples = ItemExamples(Tokens(10, 4, end=9), x, condition=Label(("a", "b")), conditions=torch.tensor([0, 1, 0]))
    assert examples.scored() == 8
    batches = list(examples.sweep(2))
    assert [len(batch) for batch in batches] == [2, 1]
    assert batches[1].condition.tolist() == [0]
    with pytest.raises(FormError, match="both or neither"):
        ItemExamples(Tokens(10, 4, end=9), x, condition=Label(("a",)))


def test_augmentation_needs_noise_and_leaves_the_data_alone():
    x = torch.zeros(3, 1, 2, 2)
    examples = ItemExamples(Grid(1, 2, 2, None), x, augment=lambda x, noise: x + noise.normal("jitter", x.shape[1:]))
    assert (examples.batch([0, 1]).x == 0).all()
    drawn = examples.batch([0, 1], StepNoise(0, 0, "augment", 2))
    assert (drawn.x != 0).all()
    assert (x == 0).all()


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (torch.zeros(0, 3, dtype=torch.long), "holds no items"),
        (torch.zeros(2, 3), "dtype"),
        (torch.zeros(2, 3, 4, dtype=torch.long), "shape"),
        (torch.full((2, 3), 7), "symbol 7"),
        (torch.full((2, 3), -1), "symbol -1"),
    ],
)
def test_wrong_tensors_are_told(x, said):
    with pytest.raises(FormError, match=said):
        check(Tokens(7, 3), x)


def test_a_batch_moves_and_divides_whole():
    batch = Batch(torch.arange(6).view(3, 2), mask=torch.ones(3, 2, dtype=torch.bool), index=torch.arange(3))
    part = batch.rows(slice(1, 3)).to("cpu")
    assert part.x.tolist() == [[2, 3], [4, 5]]
    assert part.index.tolist() == [1, 2]
    assert part.context is None


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 5))
def test_an_epoch_meets_everything_once(count, size, seed):
    order = Order(count, size, seed)
    met = np.concatenate([order.places(step) for step in range(count)])  # size epochs
    assert np.bincount(met, minlength=count).tolist() == [size] * count
    assert order.places(3).tolist() == Order(count, size, seed).places(3).tolist()
    assert order.epochs(0)[0] == 0


def test_windows_depend_on_seed_and_step_alone():
    windows = RandomWindows(10**9, 64, seed=1)
    assert windows.places(5).tolist() == RandomWindows(10**9, 64, seed=1).places(5).tolist()
    assert windows.places(5).tolist() != windows.places(6).tolist()
    assert windows.places(5).tolist() != RandomWindows(10**9, 64, seed=2).places(5).tolist()
    assert 0.4e9 < windows.places(7).mean() < 0.6e9


@pytest.mark.skipif(not hasattr(__import__("mmap"), "MADV_DONTNEED"), reason="this system cannot let go of mapped pages")
def test_a_mapped_stream_does_not_grow_into_memory(tmp_path):
    import psutil

    size = 200_000_000
    with (tmp_path / "a.bin").open("wb") as file:
        for _ in range(20):
            file.write(bytes(range(250)) * (size // 20 // 250))
    examples = StreamExamples(Tokens(250, 64), np.memmap(tmp_path / "a.bin", dtype=np.uint8, mode="r"))
    before = psutil.Process().memory_info().rss
    for step in range(60):
        batch = examples.batch(RandomWindows(len(examples), 100, seed=0).places(step))
        assert (batch.x[:, 1:] == (batch.x[:, :-1] + 1) % 250).all()
    list(zip(range(50), examples.sweep(100), strict=False))
    assert psutil.Process().memory_info().rss - before < 150_000_000
