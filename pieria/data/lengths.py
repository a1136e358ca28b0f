"""Batches of items that are about equally long, so that little of them is padding: a pure function of (seed, step)."""

from functools import lru_cache

import numpy as np

from pieria.data.batch import mask_after_end
from pieria.data.examples import Examples, ItemExamples
from pieria.forms import Tokens
from pieria.noise import key_of

POOL = 50  # batches whose items are sorted together: more would make neighbours in length always meet


class ByLength:
    """Shuffled epochs of ``len(lengths) // size`` batches of ``size``; what is left over, other items in each epoch, waits.

    Items are shuffled, sorted by length within pools of some batches, and the batches are shuffled (as in Vaswani et al.
    2017, section 5.1, where sentences are batched by length). An epoch holds at least one batch.
    """

    def __init__(self, lengths: np.ndarray, size: int, seed: int) -> None:
        self.lengths, self.size, self.seed = lengths, size, seed
        self.batches = max(1, len(lengths) // size)
        self._shuffled = lru_cache(maxsize=2)(self._shuffle)

    def _shuffle(self, epoch: int) -> np.ndarray:
        generator = np.random.Generator(np.random.Philox(key=key_of(self.seed, "order by length", epoch)))
        kept = generator.permutation(len(self.lengths))
        if len(kept) < self.size:
            kept = np.resize(kept, self.size)
        kept = kept[: self.batches * self.size]
        for start in range(0, len(kept), POOL * self.size):
            pool = kept[start : start + POOL * self.size]
            kept[start : start + POOL * self.size] = pool[np.argsort(self.lengths[pool], kind="stable")]
        return kept.reshape(self.batches, self.size)[generator.permutation(self.batches)]

    def places(self, step: int) -> np.ndarray:
        """The ``size`` places of this step (long)."""
        epoch, place = divmod(step, self.batches)
        chosen: np.ndarray = self._shuffled(epoch)[place]
        return chosen.astype(np.int64)

    def epochs(self, step: int) -> np.ndarray:
        """The epoch that each of these places belongs to."""
        return np.full(self.size, step // self.batches, dtype=np.int64)


def lengths_of(examples: Examples) -> np.ndarray | None:
    """How long each pair is, both sides together; None for data that are not pairs of symbol sequences."""
    if not isinstance(examples, ItemExamples) or not isinstance(examples.form, Tokens):
        return None
    if not isinstance(examples.condition, Tokens) or examples.conditions is None or examples.masks is None:
        return None
    source = mask_after_end(examples.conditions, examples.condition.end)
    total: np.ndarray = (examples.masks.sum(dim=1) + source.sum(dim=1)).numpy()
    return total
