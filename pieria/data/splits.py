"""Which items train, which validate and which test: fixed for every data set, and the same on every machine. No torch.

Rules give the places of each part. ``test`` is what a published protocol holds out; nothing is fitted or tuned on it.
"""

import hashlib
from collections.abc import Iterable
from typing import Literal

import numpy as np

from pieria.errors import DataError

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
Places = dict[str, np.ndarray]

MANY = 100  # items, from which on one that is very frequent is not held out
FEWEST = 5  # symbols or points of a stream, below which nothing can be learned
LEAST = 20  # symbols or points of a stream, below which it is not worth cutting


def by_content(digests: Iterable[bytes]) -> Places:
    """About 80 / 10 / 10, decided by each item's own content.

    The order of the items and the presence of others do not matter, and duplicates stay together, so none leaks from
    train into test. One that makes up more than a twentieth of many items trains: held out, it would be most of its
    part and missing in train. With at least three different items no part is empty; with fewer, all of them train.
    """
    groups: dict[bytes, list[int]] = {}
    for place, digest in enumerate(digests):
        groups.setdefault(digest, []).append(place)
    drawn = {digest: _uniform(digest) for digest in groups}
    chosen: dict[str, list[bytes]] = {"train": [], "validation": [], "test": []}
    count = sum(len(places) for places in groups.values())
    for digest, u in drawn.items():
        common = count >= MANY and len(groups[digest]) > count // 20
        chosen["train" if common or u < 0.8 else "validation" if u < 0.9 else "test"].append(digest)
    if len(groups) < 3:
        return {"train": np.arange(count)}
    for part in ("test", "validation", "train"):
        if not chosen[part]:
            giver = max(chosen, key=lambda name: len(chosen[name]))
            moved = max(chosen[giver], key=lambda digest: drawn[digest])
            chosen[giver].remove(moved)
            chosen[part].append(moved)
    return {
        part: np.array(sorted(place for digest in chosen[part] for place in groups[digest]), dtype=np.int64)
        for part in PARTS
    }


def _uniform(digest: bytes) -> float:
    hashed = hashlib.blake2b(digest, digest_size=8, person=b"pieria split").digest()
    return int.from_bytes(hashed, "big") / 2**64


def by_place(total: int, train: float = 0.8, validation: float = 0.1) -> dict[str, tuple[int, int]]:
    """Start and stop of each part of a stream of ``total`` symbols or points, in order; a very short one only trains.

    >>> by_place(1000)
    {'train': (0, 800), 'validation': (800, 900), 'test': (900, 1000)}
    """
    if total < LEAST:
        return {"train": (0, total)}
    first, second = int(total * train), int(total * (train + validation) + 1e-9)
    return {"train": (0, first), "validation": (first, second), "test": (second, total)}


def validation_from(train: np.ndarray, test: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut validation from the end of published training places: as many as ``test`` has, at most a tenth of them."""
    size = min(test, len(train) // 10)
    if size == 0:
        return train, train[:0]
    return train[:-size], train[-size:]


def _with_validation(train: np.ndarray, test: np.ndarray) -> Places:
    train, validation = validation_from(train, len(test))
    return {"train": train, "validation": validation, "test": test}


def makemore(total: int) -> Places:
    """The split of makemore's names: torch's seed 3407 permutes them, the last thousand (at most a tenth) are test."""
    import torch

    order = torch.randperm(total, generator=torch.Generator().manual_seed(3407)).numpy()
    test = min(1000, total // 10)
    return _with_validation(order[:-test], order[-test:])


def digits(total: int) -> Places:
    """The split of scikit-learn's digits in quoted likelihoods: RandomState(0), first 1,297 train, last 500 test."""
    order = np.random.RandomState(0).permutation(total)  # the published permutation
    return _with_validation(order[:-500], order[-500:])


def marked(marks: np.ndarray) -> Places:
    """A split that the data carry themselves: 0 is train, 1 is test, 2 is validation."""
    train, test, validation = (np.flatnonzero(marks == mark) for mark in (0, 1, 2))
    if not len(validation):
        return _with_validation(train, test)
    return {"train": train, "validation": validation, "test": test}


def last_tenth(total: int) -> dict[str, tuple[int, int]]:
    """The split of tinyshakespeare: the last tenth is test, and validation is the last twentieth of what is before it."""
    test = int(total * 0.9)
    validation = test - test // 20
    return {"train": (0, validation), "validation": (validation, test), "test": (test, total)}


ITEM_RULES = {"makemore": makemore, "digits": digits}
STREAM_RULES = {"place": by_place, "last tenth": last_tenth}


def places_of(rule: str, total: int) -> Places:
    """The places of each part under a named rule for items."""
    if total < 10:
        raise DataError(f"{total} items", f"the split '{rule}' needs at least 10", "Use the whole published set")
    return ITEM_RULES[rule](total)
