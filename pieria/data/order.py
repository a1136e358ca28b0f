"""In which order a training run meets its examples: a pure function of (seed, step), so that resuming continues it."""

from functools import lru_cache

import numpy as np

from pieria.noise import key_of


class Order:
    """Shuffled epochs over ``count`` places, ``size`` places a step; the last batch of an epoch wraps into the next.

    >>> order = Order(count=5, size=2, seed=0)
    >>> sorted(int(i) for step in range(5) for i in order.places(step))
    [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    """

    def __init__(self, count: int, size: int, seed: int) -> None:
        self.count, self.size, self.seed = count, size, seed
        self._shuffled = lru_cache(maxsize=2)(self._shuffle)

    def _shuffle(self, epoch: int) -> np.ndarray:
        generator = np.random.Generator(np.random.Philox(key=key_of(self.seed, "order", epoch)))
        return generator.permutation(self.count)

    def places(self, step: int) -> np.ndarray:
        """The ``size`` places of this step (long)."""
        return np.asarray([self._place(step * self.size + k) for k in range(self.size)], dtype=np.int64)

    def epochs(self, step: int) -> np.ndarray:
        """The epoch that each of these places belongs to."""
        return (step * self.size + np.arange(self.size)) // self.count

    def _place(self, position: int) -> int:
        epoch, within = divmod(position, self.count)
        return int(self._shuffled(epoch)[within])


class RandomWindows:
    """Places drawn independently and uniformly: for streams, whose windows overlap and which are too many to shuffle."""

    def __init__(self, count: int, size: int, seed: int) -> None:
        self.count, self.size, self.seed = count, size, seed

    def places(self, step: int) -> np.ndarray:
        """The ``size`` places of this step (long)."""
        generator = np.random.Generator(np.random.Philox(key=key_of(self.seed, "windows"), counter=[0, 0, 0, step]))
        return generator.integers(0, self.count, self.size)

    def epochs(self, step: int) -> np.ndarray:
        """Zero: independent draws have no epochs."""
        del step
        return np.zeros(self.size, dtype=np.int64)


class Columns:
    """A stream read from left to right by ``size`` readers at once, each in a column of its own, ``length`` symbols a step.

    The windows of a column join without a gap. After the last one the readers begin anew, a few symbols further on (by
    chance), so that windows are not cut at the same places twice.

    >>> [Columns(count=21, size=2, seed=0, length=3).places(step).tolist() for step in range(4)]
    [[1, 11], [4, 14], [0, 10], [3, 13]]
    """

    def __init__(self, count: int, size: int, seed: int, length: int) -> None:
        self.size, self.seed, self.length = size, seed, length
        self.column = count // size
        self.shifts = min(length, self.column - length + 1)
        self.windows = (self.column - self.shifts + 1) // length

    @staticmethod
    def fit(count: int, size: int, length: int) -> bool:
        """Whether each column holds a window."""
        return count // size >= length

    def places(self, step: int) -> np.ndarray:
        """The ``size`` places of this step (long)."""
        epoch, window = divmod(step, self.windows)
        generator = np.random.Generator(np.random.Philox(key=key_of(self.seed, "columns", epoch)))
        first = int(generator.integers(self.shifts)) + window * self.length
        return np.arange(self.size, dtype=np.int64) * self.column + first

    def epochs(self, step: int) -> np.ndarray:
        """How often each column was read to its end."""
        return np.full(self.size, step // self.windows, dtype=np.int64)
