"""The encoded items of one split, as a model is given them.

`ItemExamples` hold items of their own (pictures, rows, names); `UnpairedExamples` hold two kinds of them, none of which
belongs to any of the other kind; `StreamExamples` cut windows from one long stream of symbols, which may be memory-mapped.
All answer the same two questions: the batch at these places, and everything once.
"""

import mmap
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from pieria.data.batch import Batch, check, mask_after_end
from pieria.errors import FormError
from pieria.forms import Form, Grid, Label, Tokens
from pieria.noise import ItemNoise, Noise, key_of

CHECKED = 2**22  # numbers that are looked at together when levels are checked
FORGET_AFTER = 128  # windows of a mapped stream, after which the pages that they lay on are let go

Augment = Callable[[Tensor, Noise], Tensor]


class Examples(ABC):
    """Encoded items of one form, with or without a condition."""

    form: Form
    condition: Form | None

    @abstractmethod
    def __len__(self) -> int:
        """How many different places ``batch`` can be asked for."""

    @abstractmethod
    def batch(self, places: Sequence[int] | np.ndarray | Tensor, noise: Noise | None = None) -> Batch:
        """The items at these places; ``noise`` (a function of seed, epoch and item) drives augmentation in training."""

    @abstractmethod
    def sweep(self, size: int, *, length: int | None = None, context: int = 0) -> Iterator[Batch]:
        """Everything exactly once, in order, ``size`` items a batch.

        For a stream, every symbol is scored exactly once, in windows of ``length`` symbols (the form's length if None),
        each with up to ``context`` symbols of what stood before it. Items are given whole; the two arguments do not
        matter to them.
        """

    @abstractmethod
    def scored(self) -> int:
        """How many symbols (`Tokens`) or items (other forms) ``sweep`` scores in all."""


class Source(Protocol):
    """Items as arrays that are fetched by place, from wherever they are kept."""

    def __len__(self) -> int:
        """How many there are."""

    def fetch(self, places: np.ndarray) -> np.ndarray:
        """The items at these places, in their order."""

    def ahead(self, places: np.ndarray) -> None:
        """Say which places will be asked for soon."""


@runtime_checkable
class Fetches(Protocol):
    """Examples that may be quicker where they are told what will be asked for soon."""

    @property
    def fetches(self) -> bool:
        """Whether they are; those that are held in memory need not be told."""

    def ahead(self, places: np.ndarray) -> None:
        """Say which places will be asked for soon; what they hold does not depend on it."""


class Fetched:
    """Items that are not held in memory: fetched when they are asked for, and changed by ``change(values, places)``.

    Indexed by a tensor of places, as a tensor of all items would be.
    """

    def __init__(self, source: Source, change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        self.source, self.change = source, change

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: Tensor) -> Tensor:
        places = index.numpy()
        return as_tensor(self.change(self.source.fetch(places), places))


def as_tensor(values: np.ndarray) -> Tensor:
    """Levels or intensities as torch knows them: uint8 as it is, all others as long."""
    return torch.from_numpy(values if values.dtype == np.uint8 else values.astype(np.int64))


class ItemExamples(Examples):
    """Items held as one tensor ``x``, or `Fetched` when they are asked for.

    A `Grid` may come as uint8 levels, and stays so: an eighth of the memory of the long tensors that batches are.
    ``augment`` makes what is learned from out of ``source`` (out of ``x`` itself without one): binary pictures are drawn
    again each epoch from grey ones.
    """

    def __init__(
        self,
        form: Form,
        x: Tensor | Fetched,
        *,
        condition: Form | None = None,
        conditions: Tensor | None = None,
        masks: Tensor | None = None,
        augment: Augment | None = None,
        source: Tensor | Fetched | None = None,
    ) -> None:
        # of what is fetched, the first item stands for all: looking at each would read the whole set once more
        seen = x[torch.zeros(min(1, len(x)), dtype=torch.int64)] if isinstance(x, Fetched) else x
        small = _checked(form, seen)
        if (condition is None) != (conditions is None):
            raise FormError("a condition without its values, or values without their form", "both or neither")
        self.form, self.condition, self.conditions = form, condition, conditions
        self.masks, self.augment, self.source = masks, augment, source
        self._held, self._small = x, small
        if masks is None and isinstance(form, Tokens):
            self.masks = mask_after_end(seen, form.end)
        if conditions is not None and isinstance(condition, Label | Tokens | Grid):
            _checked(condition, conditions, "the condition")

    @property
    def x(self) -> Tensor:
        """All items, in the dtype that the form states; `Fetched` ones are held in memory then."""
        held = self._held[torch.arange(len(self))] if isinstance(self._held, Fetched) else self._held
        return held.long() if self._small else held

    def __len__(self) -> int:
        return len(self._held)

    @property
    def fetches(self) -> bool:
        """Whether the items are fetched when they are asked for."""
        return isinstance(self._held, Fetched)

    def ahead(self, places: np.ndarray) -> None:
        """Say which places will be asked for soon."""
        if isinstance(self._held, Fetched):
            self._held.source.ahead(places)

    def batch(self, places: Sequence[int] | np.ndarray | Tensor, noise: Noise | None = None) -> Batch:
        """The items at these places, augmented if ``noise`` is given and the data set has an augmentation."""
        index = torch.as_tensor(np.asarray(places), dtype=torch.int64)
        if self.augment is not None and noise is not None:
            x = self.augment((self._held if self.source is None else self.source)[index], noise)
        else:
            x = self._held[index]
        if self._small:
            x = x.long()
        return Batch(
            x=x,
            index=index,
            condition=None if self.conditions is None else self._condition(index, noise),
            mask=None if self.masks is None else self.masks[index],
        )

    def _condition(self, index: Tensor, noise: Noise | None) -> Tensor:
        assert self.conditions is not None
        condition = self.conditions[index]
        if isinstance(self.condition, Grid):  # a picture that belongs to the item is changed as the item is
            if self.augment is not None and noise is not None:
                condition = self.augment(condition, noise)
            if condition.dtype == torch.uint8:
                condition = condition.long()
        return condition

    def sweep(self, size: int, *, length: int | None = None, context: int = 0) -> Iterator[Batch]:
        """Every item once, in order."""
        del length, context  # items are whole
        for start in range(0, len(self), size):
            self.ahead(np.arange(start, min(start + 2 * size, len(self))))
            yield self.batch(np.arange(start, min(start + size, len(self))))

    def scored(self) -> int:
        """Scored symbols for `Tokens` and points for masked forms, else items."""
        return len(self) if self.masks is None else int(self.masks.sum())


class UnpairedExamples(Examples):
    """Items of one kind, each given an item of another kind that does not belong to it: the condition.

    In training (with ``noise``) the condition is drawn apart from the item, whatever the sizes of the two sets; else item i
    has condition i, from the beginning again where there are fewer.
    """

    def __init__(self, items: Examples, sources: Examples) -> None:
        self.items, self.sources = items, sources
        self.form, self.condition = items.form, sources.form

    def __len__(self) -> int:
        return len(self.items)

    def batch(self, places: Sequence[int] | np.ndarray | Tensor, noise: Noise | None = None) -> Batch:
        """The items at these places, and sources that are drawn from ``noise``."""
        items = self.items.batch(places, noise)
        assert items.index is not None
        if noise is None:
            others, apart = items.index % len(self.sources), None
        else:
            others = noise.integers("source", len(self.sources))
            apart = ItemNoise(key_of(noise.seed, "sources"), 0, items=noise.items) if isinstance(noise, ItemNoise) else noise
        return replace(items, condition=self.sources.batch(others, apart).x)

    def sweep(self, size: int, *, length: int | None = None, context: int = 0) -> Iterator[Batch]:
        """Every item once, in order."""
        del length, context  # items are whole
        for start in range(0, len(self), size):
            yield self.batch(np.arange(start, min(start + size, len(self))))

    def scored(self) -> int:
        """The items."""
        return len(self)


def _checked(form: Form, x: Tensor, what: str = "the data") -> bool:
    """`check` in parts; whether these are the levels of a grid in a byte each."""
    if not isinstance(form, Grid) or form.levels is None or x.dtype != torch.uint8:
        check(form, x, what)
        return False
    size = max(1, CHECKED // max(1, x[:1].numel()))
    for start in range(0, max(1, len(x)), size):
        check(form, x[start : start + size].long(), what)
    return True


def _map_under(stream: np.ndarray) -> mmap.mmap | None:
    """The mapped file that a read-only array is a view of, where the system can be told to let go of its pages."""
    base: object = stream
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and not stream.flags.writeable and hasattr(mmap, "MADV_DONTNEED"):
        return base
    return None


class StreamExamples(Examples):
    """Windows of one stream of symbols: ``stream`` is a one-dimensional integer array, in memory or memory-mapped."""

    def __init__(self, form: Tokens, stream: np.ndarray) -> None:
        if form.end is not None:
            raise FormError("a stream whose form has an end symbol", "Tokens(..., end=None)")
        if len(stream) < 2:
            raise FormError(f"a stream of {len(stream)} symbols", "at least 2", "Give more text")
        self.form: Tokens = form
        self.condition = None
        # a memory map as a plain view of it: indexing the subclass is slow
        self.stream = np.asarray(stream)
        self._map = _map_under(stream)
        self._read = 0

    def __len__(self) -> int:
        # a window needs one symbol before it, so that each of its symbols is predicted from a real neighbour
        return max(1, len(self.stream) - self.form.length)

    def batch(self, places: Sequence[int] | np.ndarray | Tensor, noise: Noise | None = None) -> Batch:
        """Windows whose context (one symbol) lies at these places: ``x`` is what follows, ``form.length`` symbols."""
        del noise
        length = min(self.form.length, len(self.stream) - 1)
        index = np.asarray(places, dtype=np.int64)
        windows = self.stream[index[:, None] + np.arange(length + 1)[None, :]].astype(np.int64)
        self._forget(len(index))
        drawn = torch.from_numpy(windows)
        return Batch(x=drawn[:, 1:], context=drawn[:, :1], index=torch.from_numpy(index))

    def sweep(self, size: int, *, length: int | None = None, context: int = 0) -> Iterator[Batch]:
        """Every symbol scored once. The first windows, which have less before them than ``context``, come alone."""
        length = self.form.length if length is None else length
        total = len(self.stream)
        starts = range(0, total, length)  # not a list: a large stream has many millions
        group: list[int] = []

        def cut(starts: list[int]) -> Batch:
            before = min(context, starts[0])
            stop = min(starts[-1] + length, total)
            width = min(length, stop - starts[-1])
            places = np.asarray(starts)[:, None] + np.arange(-before, width)[None, :]
            rows = torch.from_numpy(np.asarray(self.stream[places], dtype=np.int64))
            self._forget(len(starts))
            return Batch(
                x=rows[:, before:],
                context=rows[:, :before] if before else None,
                index=torch.as_tensor(starts, dtype=torch.int64),
            )

        for start in starts:
            whole = start >= context and start + length <= total
            if group and (len(group) == size or not whole or group[0] < context):
                yield cut(group)
                group = []
            group.append(start)
        if group:
            yield cut(group)

    def _forget(self, windows: int) -> None:
        # each look at a mapped file keeps up to 2 MB around it in this process: without this, all of it in the end
        self._read += windows
        if self._map is not None and self._read >= FORGET_AFTER:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._read = 0

    def scored(self) -> int:
        """The symbols of the stream."""
        return len(self.stream)


def without_condition(examples: Examples) -> Examples:
    """The same items for a model that takes no condition."""
    if examples.condition is None:
        return examples
    bare = copy(examples)
    bare.condition = None
    if isinstance(bare, UnpairedExamples):
        return bare.items
    if isinstance(bare, ItemExamples):
        bare.conditions = None
    return bare
