"""The longest run of symbols that each item shares with the training text, exactly.

All suffixes of the training text and of the items are sorted together by prefix doubling (Manber and Myers 1993,
https://doi.org/10.1137/0222058). An item's suffix shares its longest beginning with one of the two training suffixes that
stand nearest to it in that order, and the ranks kept from each round of doubling say how long that is. A text of n symbols
takes O(n log L) for runs up to L; longer texts are cut into overlapping pieces, which changes nothing.
"""

from collections.abc import Sequence

import numpy as np

PIECE = 4_000_000


def longest_runs(training: np.ndarray, items: Sequence[np.ndarray], piece: int = PIECE) -> np.ndarray:
    """The length of the longest run of each item that stands somewhere in ``training``, long ``[items]``.

    ``training`` is one line of symbols ≥ 0; where it holds items of its own, put a symbol that no item contains between
    them, and no run will reach across.
    """
    if not len(items):
        return np.zeros(0, dtype=np.int64)
    longest = max(len(item) for item in items)
    best = np.zeros(len(items), dtype=np.int64)
    for start in range(0, max(len(training), 1), piece):
        part = np.asarray(training[start : start + piece + longest], dtype=np.int64)
        if len(part):
            best = np.maximum(best, _runs_in(part, items, longest))
    return best


def longest_run(training: np.ndarray, item: np.ndarray) -> tuple[int, int]:
    """The longest run of one item: where it begins in the item, and its length."""
    ends = [item[place:] for place in range(len(item))]
    # the longest run that begins at a place is the longest beginning of that suffix found in training
    lengths = [_beginning(training, end) for end in ends]
    place = int(np.argmax(lengths)) if lengths else 0
    return place, int(lengths[place]) if lengths else 0


def _beginning(training: np.ndarray, item: np.ndarray) -> int:
    places = np.arange(len(training))
    for length, symbol in enumerate(item):
        places = places[places < len(training)]
        places = places[training[places] == symbol] + 1
        if not len(places):
            return length
    return len(item)


def _runs_in(training: np.ndarray, items: Sequence[np.ndarray], longest: int) -> np.ndarray:
    lengths = np.asarray([len(item) for item in items])
    stop = max(int(training.max()), max((int(item.max()) for item in items if len(item)), default=0)) + 1
    text = np.concatenate([training, *[part for item in items for part in ([stop], item)], [stop]]).astype(np.int64)
    owners = np.concatenate([np.full(1 + n, place) for place, n in enumerate(lengths)])  # of each symbol after training
    ranks, order = _sorted_suffixes(text, longest)

    position = np.empty(len(text), dtype=np.int64)
    position[order] = np.arange(len(text))
    is_training = order < len(training)
    places = np.arange(len(text))
    above = np.maximum.accumulate(np.where(is_training, places, -1))
    below = np.minimum.accumulate(np.where(is_training, places, len(text))[::-1])[::-1]

    asked = np.arange(len(training), len(text) - 1)
    best = np.zeros(len(asked), dtype=np.int64)
    for nearest in (above[position[asked]], below[position[asked]]):
        valid = (nearest >= 0) & (nearest < len(text))
        found = order[np.clip(nearest, 0, len(text) - 1)]
        best = np.maximum(best, np.where(valid, _shared(ranks, asked, found, len(text)), 0))
    # the training text ends with a stop symbol as each item does, so what is shared is cut at the item's end
    left = np.concatenate([np.concatenate([[0], np.arange(n, 0, -1)]) for n in lengths])
    runs = np.zeros(len(items), dtype=np.int64)
    np.maximum.at(runs, owners, np.minimum(best, left))
    return runs


def _sorted_suffixes(text: np.ndarray, longest: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The rank of each suffix by its first 1, 2, 4 … symbols (≥ ``longest``), and the suffixes in their order."""
    rank = np.unique(text, return_inverse=True)[1].astype(np.int64)
    ranks = [rank.astype(np.int32)]
    width = 1
    order = np.argsort(rank, kind="stable")
    while width < longest:
        after = np.zeros(len(text), dtype=np.int64)
        after[:-width] = rank[width:] + 1  # nothing sorts before anything
        key = rank * (len(text) + 1) + after
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        rank = np.empty(len(text), dtype=np.int64)
        rank[order] = np.concatenate([[0], np.cumsum(ordered[1:] != ordered[:-1])])
        width *= 2
        ranks.append(rank.astype(np.int32))
        if rank[order[-1]] == len(text) - 1:  # all different: no two suffixes share more than this
            break
    return ranks, order


def _shared(ranks: list[np.ndarray], a: np.ndarray, b: np.ndarray, size: int) -> np.ndarray:
    """How many symbols the suffixes at ``a`` and at ``b`` have in common, by halving."""
    a, b = a.copy(), b.copy()
    length = np.zeros(len(a), dtype=np.int64)
    for level in range(len(ranks) - 1, -1, -1):
        # the topmost level may hold more than once (the longest run is at least half of what doubling reached)
        for _ in range(2 if level == len(ranks) - 1 else 1):
            inside = (a < size) & (b < size)
            ahead = inside.copy()
            ahead[inside] = ranks[level][a[inside]] == ranks[level][b[inside]]
            step = np.where(ahead, 1 << level, 0)
            a, b, length = a + step, b + step, length + step
    return length
