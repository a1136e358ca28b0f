"""Back-off laws of n-grams, from counts or from stated probabilities, as tables that can be asked.

    p(w | h) = spoken(h, w) + backoff(h) · p(w | h without its oldest symbol)

Papers: Chen and Goodman (1999), modified Kneser-Ney with three discounts an order; Witten and Bell (1991); Heafield et al.
(2013) for the treatment of the beginning of a sentence and of the uniform law.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pieria.layers.ngrams import Array, Grams

Smoothing = Literal["kneser-ney", "witten-bell", "add-k"]
NEVER = 1e-99  # how a back-off model writes a probability of 0


@dataclass
class Table:
    """The law of one order, ready to be asked; ``history`` counts from 0 (nothing read) to order - 1 symbols.

    Attributes:
        keys: of the n-grams ``history + symbol``, sorted.
        spoken: what the history itself gives to the symbol, one for each key.
        backoff: what each history leaves to the shorter one.
        first: where each history's keys begin; one more at the end.
        summed: running sum of ``spoken``, from 0: a history's share of it is its own law. What a given law speaks against
            a symbol (less than its share of the back-off) counts as nothing here.
        shorter: each history without its oldest symbol.
    """

    keys: Array
    spoken: Array
    backoff: Array
    first: Array
    summed: Array
    shorter: Array

    @classmethod
    def of(cls, keys: Array, spoken: Array, backoff: Array, shorter: Array, width: int) -> "Table":
        """With the keys' histories found and the running sum made."""
        first = np.searchsorted(keys, np.arange(len(shorter) + 1) * width)
        summed = np.concatenate([[0.0], np.cumsum(np.maximum(spoken, 0.0))])
        return cls(keys, spoken, backoff, first, summed, shorter)

    def excess(self) -> Array:
        """By how much the law after each history that has followers sums to more than 1."""
        followed = self.first[1:] > self.first[:-1]
        spoken = np.concatenate([[0.0], np.cumsum(self.spoken)])
        excess: Array = (spoken[self.first[1:]] - spoken[self.first[:-1]] + self.backoff - 1)[followed]
        return excess


@dataclass
class Law:
    """The law of every order, and the way from what was read to a place in its tables.

    Attributes:
        tables: one for each length of history, from none on.
        width: the vocabulary and ``form.begin``.
        suffix: the place of each n-gram of the highest order without its oldest symbol: the history that it leaves behind.
    """

    tables: list[Table]
    width: int
    suffix: Array

    @property
    def reach(self) -> int:
        """Symbols in the longest history."""
        return len(self.tables) - 1

    def followed(self, length: int, history: Array, symbol: Array) -> Array:
        """The place of each n-gram ``history + symbol`` (history of ``length`` symbols, -1 for none), or -1."""
        if length == 0:
            return np.where(history >= 0, symbol, -1)
        found = np.full(len(history), -1)
        keys = self.tables[length].keys
        rows = np.flatnonzero((history >= 0) & (symbol >= 0))
        if len(keys) and len(rows):
            wanted = history[rows] * self.width + symbol[rows]
            place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            found[rows] = np.where(keys[place] == wanted, place, -1)
        return found

    def places(self, symbols: Array, before: Array, longest: int) -> list[Array]:
        """For each length up to ``longest``, which n-gram ends at each symbol; -1 for none.

        ``symbols`` ``[time]`` and ``before``, how many of its own sequence stand before each, are those of `ngrams.count`.
        """
        found = [np.zeros(len(symbols), np.int64)]
        for length in range(longest):
            found.append(self.followed(length, earlier(found[length], before, length), symbols))
        return found

    def moved(self, depth: Array, history: Array, symbol: Array, spoke: Array, places: Array) -> tuple[Array, Array]:
        """The longest history seen in counting that ends with ``symbol``, as its length and place.

        ``depth`` and ``history`` are those before it. It is looked for from the longest down to the one that spoke for the
        symbol (``spoke`` its length, -1 for none), whose n-gram is known already (``places``).
        """
        depth, history = depth.copy(), history.copy()
        new_depth, new_history = np.zeros_like(depth), np.zeros_like(history)
        for length in range(self.reach, -1, -1):
            rows = np.flatnonzero(depth == length)
            found = places[rows]
            unknown = spoke[rows] != length
            found[unknown] = self.followed(length, history[rows[unknown]], symbol[rows[unknown]])
            known, lost = rows[found >= 0], rows[found < 0]
            new_depth[known], new_history[known] = length + 1, found[found >= 0]
            history[lost] = self.tables[length].shorter[history[lost]]
            depth[lost] = length - 1
        full = new_depth == len(self.tables)
        if full.any():
            new_history[full] = self.suffix[new_history[full]]
            new_depth[full] = self.reach
        return new_depth, new_history


def earlier(places: Array, before: Array, length: int) -> Array:
    """What stood at the symbol before: the history of ``length`` symbols that each symbol is read after."""
    return np.where(before >= length, np.concatenate([[0], places[:-1]]), -1) if length else places


# ---- from counts -----------------------------------------------------------------------------------------------------


def smoothed(grams: list[Grams], width: int, smoothing: Smoothing, k: float) -> Law:
    """The law of counted n-grams; ``k`` is what add-k adds to each count."""
    counts = adjusted(grams, width) if smoothing == "kneser-ney" else [here.count.astype(np.float64) for here in grams]
    tables = []
    for length, (here, seen) in enumerate(zip(grams, counts, strict=True)):
        shorter = grams[length - 1].suffix if length else np.zeros(1, np.int32)
        history, histories = here.keys // width, len(shorter)
        total = np.bincount(history, weights=seen, minlength=histories)
        if smoothing == "kneser-ney":
            taken = discounts(seen)[np.minimum(seen, 3).astype(np.int64)]
            left = np.bincount(history, weights=taken, minlength=histories)
            kept, all_ = seen - taken, total
        else:
            kinds = np.bincount(history, weights=seen > 0, minlength=histories)
            left = kinds if smoothing == "witten-bell" else np.where(total > 0, k * (width - 1), 0.0)
            kept, all_ = seen, total + left
        never = total == 0  # a history that nothing followed leaves everything to the shorter one
        all_ = np.where(never, 1.0, all_)
        tables.append(Table.of(here.keys, kept / all_[history], np.where(never, 1.0, left / all_), shorter, width))
    return Law(tables, width, grams[-1].suffix)


def adjusted(grams: list[Grams], width: int) -> list[Array]:
    """Kneser-Ney's counts: below the highest order, in how many *different* places an n-gram continued something.

    An n-gram at the very beginning continues nothing, so it keeps its count.
    """
    found = []
    opens = grams[0].keys == width - 1  # the last id is `form.begin`
    for length, here in enumerate(grams):
        if length:
            opens = opens[here.keys // width]
        if here is grams[-1]:
            found.append(here.count.astype(np.float64))
        else:
            above = grams[length + 1]
            continued = np.bincount(above.suffix[above.count > 0], minlength=len(here.keys))
            found.append(np.where(opens, here.count, continued).astype(np.float64))
    return found


def discounts(counts: Array) -> Array:
    """What is taken from counts of 0, 1, 2 and 3 or more: ``D(j) = j - (j + 1) Y n(j+1) / n(j)``, ``Y = n1/(n1 + 2 n2)``.

    ``n(j)`` is how many n-grams have count j. Where the data are too few for that, one half of each count.
    """
    n = np.bincount(np.minimum(counts, 5).astype(np.int64), minlength=6).astype(np.float64)
    if (n[1:4] == 0).any():
        return np.array([0.0, 0.5, 1.0, 1.5])
    share = n[1] / (n[1] + 2 * n[2])
    j = np.arange(1, 4)
    taken = j - (j + 1) * share * n[2:5] / n[1:4]
    return np.array([0.0, *taken]) if ((taken > 0) & (taken <= j)).all() else np.array([0.0, 0.5, 1.0, 1.5])


# ---- from stated probabilities, and back -----------------------------------------------------------------------------


@dataclass
class Stated:
    """What a back-off model says of the n-grams of one order, in the order of their keys.

    p(w | h) is ``10 ** log10`` of the n-gram h w where there is one, else ``10 ** backoff`` of h times p of w after h
    without its oldest symbol.

    Attributes:
        keys, suffix: as those of `Grams`; every symbol, and then ``form.begin``, is an n-gram of order 1.
        log10: the base-10 logarithm of the probability of the last symbol.
        backoff: the base-10 logarithm of what the n-gram, as a history, leaves to the shorter one.
    """

    keys: Array
    suffix: Array
    log10: Array
    backoff: Array


def given(orders: Sequence[Stated], width: int) -> Law:
    """The law that is stated: what a history speaks is what it says beyond its share of the back-off."""
    tables: list[Table] = []
    odds, backoff = np.zeros(1), np.zeros(1)
    shorter = np.zeros(1, np.int32)
    for length, here in enumerate(orders):
        probability = 10.0**here.log10
        if not length:
            probability[-1] = 0.0  # `begin` follows nothing
        spoken = probability - backoff[here.keys // width] * odds[here.suffix]
        tables.append(Table.of(here.keys, spoken, backoff, shorter, width))
        odds, backoff, shorter = probability, 10.0**here.backoff, here.suffix
    return Law(tables, width, shorter)


def told(law: Law) -> list[Stated]:
    """The probabilities and back-offs of a law, from which `given` makes an equal one."""
    found = []
    odds = np.full(1, 1 / (law.width - 1))  # of each n-gram one order below
    for length, table in enumerate(law.tables):
        last = length == law.reach
        suffix = law.suffix if last else law.tables[length + 1].shorter
        odds = table.spoken + table.backoff[table.keys // law.width] * odds[suffix]
        if not length:
            odds[-1] = NEVER
        above = np.ones(len(odds)) if last else law.tables[length + 1].backoff
        logs = (np.log10(np.maximum(values, NEVER)) for values in (np.minimum(odds, 1.0), above))
        found.append(Stated(table.keys, suffix, *logs))
    return found
