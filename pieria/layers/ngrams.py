"""Counting n-grams: of every order up to the longest, sparse, and any vocabulary and order in 64 bits.

An n-gram is known by its *place* in the sorted table of its order, and written as the place of its history in the order
below and its last symbol. Ranks among the shorter n-grams so stand in for the symbols themselves. ``width`` is one more than
the vocabulary: the last id, `Tokens.begin`, may be read, and never follows anything.
"""

from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass
class Grams:
    """The n-grams of one order, sorted by (history, last symbol).

    Attributes:
        keys: ``history · width + symbol``, where history is a place among the n-grams of the order below.
        count: how often each was seen; 0 for one that only ever was a history.
        suffix: the place, in the order below, of the n-gram without its oldest symbol.
    """

    keys: Array
    count: Array
    suffix: Array


def count(symbols: Array, counts: Array, before: Array, order: int, width: int) -> list[Grams]:
    """Count the n-grams of every order up to ``order``.

    Each symbol (``[time]``) counts where ``counts`` is True; ``before`` says how many symbols of its own sequence stand
    before it.
    """
    singles = np.bincount(symbols, weights=counts, minlength=width)
    found = [Grams(np.arange(width), singles.astype(np.int32), np.zeros(width, np.int32))]
    ids = symbols
    for length in range(2, order + 1):
        here = np.flatnonzero(before >= length - 1)
        keys, first, ranks = np.unique(ids[here - 1] * width + symbols[here], return_index=True, return_inverse=True)
        seen = np.bincount(ranks, weights=counts[here], minlength=len(keys))
        found.append(Grams(keys, seen.astype(np.int32), ids[here][first].astype(np.int32)))
        ids = np.full(len(symbols), -1)
        ids[here] = ranks
    return found


def merge(old: list[Grams], new: list[Grams], width: int) -> list[Grams]:
    """The counts of both together; places move, so each order is renumbered after the one below it."""
    merged = [Grams(old[0].keys, old[0].count + new[0].count, old[0].suffix)]
    moved = [np.arange(width), np.arange(width)]
    for pair in zip(old[1:], new[1:], strict=True):
        renamed = [to[grams.keys // width] * width + grams.keys % width for to, grams in zip(moved, pair, strict=True)]
        keys, ranks = np.unique(np.concatenate(renamed), return_inverse=True)
        seen = np.bincount(ranks, weights=np.concatenate([grams.count for grams in pair]), minlength=len(keys))
        suffix = np.empty(len(keys), np.int32)
        suffix[ranks] = np.concatenate([to[grams.suffix] for to, grams in zip(moved, pair, strict=True)])
        moved = np.split(ranks, [len(renamed[0])])
        merged.append(Grams(keys, seen.astype(np.int32), suffix))
    return merged
