"""Counting: a Markov chain of order n, smoothed; the next symbol depends on the last n - 1 alone.

What was seen after a history is counted. Histories are sparse, so the law after a long one leans on the law after the
same history without its oldest symbol, and that one on a shorter one, down to the uniform law:

    p(w | h) = spoken(h, w) + backoff(h) · p(w | h without its oldest symbol)

The three smoothings differ in what a history may say for itself and what it leaves to the shorter one. Because this is a
mixture, drawing needs no row of odds: at each order toss whether this order speaks, else back off.

A law can also be *given* instead of counted, as the probabilities and back-offs of the n-grams that an ARPA file lists.

It is the yardstick of every text model, not a straw man: many small networks lose to it. It does not generalise beyond
histories that it has met, and it sees no further back than n - 1 symbols.

Papers: Chen and Goodman (1999), modified Kneser-Ney with three discounts an order; Kneser and Ney (1995); Witten and Bell
(1991); Heafield et al. (2013) for the treatment of the beginning of a sentence and of the uniform law.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from pieria.data.batch import Batch, check, mask_after_end
from pieria.errors import FormError, TrainingError, UsageError
from pieria.forms import Form, Tokens
from pieria.models.contract import Model, Step
from pieria.noise import Noise
from pieria.sampling.decoding import Decoding, generate
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

Array = np.ndarray
AT_ONCE = 1 << 20  # symbols counted or scored together, and odds held while a row of them is made: bounds memory
NEVER = 1e-99  # how a back-off model writes a probability of 0
WALKS = 1e-5  # by how much a given law may miss a sum of 1, as rounded numbers do, and be drawn from order by order
BLOCK = 128  # symbols whose noise is drawn together: making a generator costs more than drawing from it


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
    before it. Ranks among the shorter n-grams stand in for the symbols themselves, so that any vocabulary and order fit
    into 64 bits.
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


def _real(counted: Array) -> tuple[Array, Array]:
    """Where ``counted`` ``[batch, time]`` has something left to count (what follows is padding), and each place's column."""
    real = counted[:, ::-1].cumsum(axis=1)[:, ::-1] > 0
    return real, np.broadcast_to(np.arange(counted.shape[1]), counted.shape)


def _has_context(batch: Batch) -> bool:
    return batch.context is not None and batch.context.shape[1] > 0


class NgramSettings(AnySettings):
    """Hyperparameters of `Ngram`."""

    order: int = Field(5, ge=1, le=32, description="symbols in the longest n-gram: order - 1 are read, one is predicted")
    smoothing: Literal["kneser-ney", "witten-bell", "add-k", "given"] = Field(
        "kneser-ney",
        description="how unseen symbols get their share: from shorter histories, or (add-k) k each; given: as imported",
    )
    k: float = Field(1.0, gt=0, description="what add-k adds to each count (the other smoothings do not read it)")


class Ngram(Model):
    """A smoothed Markov chain of order n over `Tokens`, with exact likelihood.

    Trained on one sequence or many; ``add`` counts more data later, and everything is worked out again from the counts.

    >>> from pieria.noise import ItemNoise
    >>> model = Ngram(NgramSettings(order=2), Tokens(vocabulary=3, length=4, end=0))
    >>> model.estimate(lambda: [Batch(torch.tensor([[1, 2, 1, 0], [2, 1, 0, 0]]))])
    >>> tuple(model.sample(5, Decoding(), ItemNoise(0, 5)).shape)
    (5, 4)
    """

    Settings = NgramSettings
    Sampling = Decoding
    consumes = frozenset({Tokens})
    likelihood = "exact"
    holds_data = False
    presets: ClassVar = {
        "tiny": {"order": 3},
        "words": {"order": 5},
        "characters": {"order": 7},
        "names": {"order": 6},
        "bigram": {"order": 2, "smoothing": "add-k", "k": 1.0},
    }
    paper = "Chen and Goodman 1999, An empirical study of smoothing techniques for language modeling"

    form: Tokens
    settings: NgramSettings

    def __init__(self, settings: NgramSettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        self.order = self.settings.order
        self.width = self.form.vocabulary + 1  # `begin` is one more id: it may be read, never follows anything
        kinds = {"keys": torch.int64, "suffix": torch.int32}
        given = self.settings.smoothing == "given"
        kinds |= {"log10": torch.float64, "backoff": torch.float64} if given else {"count": torch.int32}
        for length in range(1, self.order + 1):
            for name, kind in kinds.items():
                self.register_buffer(f"{name}_{length}", torch.empty(0, dtype=kind))
        self._tables: list[Table] | None = None
        self.register_load_state_dict_post_hook(lambda module, _: setattr(module, "_tables", None))

    @property
    def reach(self) -> int:
        """The last ``order - 1`` symbols are read."""
        return self.order - 1

    # ---- counting ----------------------------------------------------------------------------------------------------

    def estimate(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Count these sequences and nothing else."""
        self._counts_wanted()
        self._keep(count(np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64), self.order, self.width))
        self.add(batches)

    def add(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Count these sequences as well: the same model as from all data at once."""
        self._counts_wanted()
        total = self._grams() or None
        waiting: list[tuple[Array, Array, Array]] = []
        for batch in batches():
            waiting.append(self._sequences(batch))
            if sum(len(part[0]) for part in waiting) >= AT_ONCE:
                total, waiting = self._joined(total, waiting), []
        if waiting:
            total = self._joined(total, waiting)
        if total is None or not total[0].count.any():
            raise TrainingError("the n-gram was given nothing to count", "at least one symbol", "Give it some data")
        self._keep(total)

    def _counts_wanted(self) -> None:
        if self.settings.smoothing == "given":
            raise UsageError(
                "an n-gram whose probabilities were given was asked to count",
                "smoothing=kneser-ney, witten-bell or add-k",
                "Fit a new n-gram to the data",
            )

    def _joined(self, total: list[Grams] | None, waiting: list[tuple[Array, Array, Array]]) -> list[Grams]:
        symbols, counts, before = (np.concatenate(parts) for parts in zip(*waiting, strict=True))
        found = count(symbols, counts, before, self.order, self.width)
        return found if total is None else merge(total, found, self.width)

    def _sequences(self, batch: Batch) -> tuple[Array, Array, Array]:
        """A batch as flat symbols, which of them count, and how many of their own sequence stand before each."""
        tokens, counted = self._read(batch)
        real, before = _real(counted)
        if not _has_context(batch) and self.form.end is None:
            # a stream begins once: what one text happens to begin with is no law of beginnings
            real, before = real[:, 1:], before[:, 1:] - 1
            tokens, counted = tokens[:, 1:], counted[:, 1:]
        return tokens[real], counted[real], before[real]

    def _read(self, batch: Batch) -> tuple[Array, Array]:
        """What stands before ``batch.x`` and ``batch.x`` itself, ``[batch, before + time]``, and where symbols count."""
        check(self.form, batch.x)
        if self.form.end is not None and batch.x.shape[1] > self.form.length:
            raise FormError(
                f"items of {batch.x.shape[1]} symbols",
                f"at most {self.form.length}",
                "Cut them, or fit to a form with longer items",
            )
        mask = mask_after_end(batch.x, self.form.end) if batch.mask is None else batch.mask
        if batch.context is None or not _has_context(batch):
            context = torch.full((len(batch), 1), self.form.begin)
        else:
            context = batch.context[:, batch.context.shape[1] - min(self.reach, batch.context.shape[1]) :]
        tokens = torch.cat([context, batch.x], dim=1).cpu().numpy()
        counted = torch.cat([torch.zeros_like(context, dtype=torch.bool), mask], dim=1).cpu().numpy()
        return tokens, counted

    def _grams(self) -> list[Grams]:
        names = ("keys", "count", "suffix")
        if not self.get_buffer("keys_1").numel():
            return []
        return [
            Grams(*(self.get_buffer(f"{name}_{length}").cpu().numpy() for name in names))
            for length in range(1, self.order + 1)
        ]

    def _keep(self, orders: Sequence[Grams | Stated]) -> None:
        for length, here in enumerate(orders, start=1):
            for field in fields(here):
                setattr(self, f"{field.name}_{length}", torch.from_numpy(getattr(here, field.name)))
        self._tables = None

    # ---- probabilities given, and told -------------------------------------------------------------------------------

    def give(self, orders: Sequence[Stated]) -> None:
        """Take this law (one `Stated` an order, the histories and endings of each n-gram among the shorter ones).

        It needs the setting ``smoothing="given"``.
        """
        if self.settings.smoothing != "given" or len(orders) != self.order:
            raise UsageError(
                f"{len(orders)} orders for an n-gram of order {self.order}, {self.settings.smoothing}",
                "as many orders, and smoothing=given",
            )
        self._keep(orders)

    def told(self) -> list[Stated]:
        """The law as probabilities and back-offs, from which `give` makes an equal one.

        Raises `UsageError` for add-k, where a history that was never seen leads to the uniform law and not to a shorter one.
        """
        if self.settings.smoothing == "add-k" and self.order > 1:
            raise UsageError(
                f"add-k of order {self.order}, which does not back off to shorter histories",
                "smoothing kneser-ney or witten-bell",
                "Fit with one of them",
            )
        found = []
        odds = np.full(1, 1 / self.form.vocabulary)  # of each n-gram one order below
        for length, table in enumerate(self.tables):
            suffix = self.get_buffer(f"suffix_{length + 1}").cpu().numpy()
            odds = table.spoken + table.backoff[table.keys // self.width] * odds[suffix]
            if not length:
                odds[-1] = NEVER  # `begin` follows nothing
            above = self.tables[length + 1].backoff if length + 1 < self.order else np.ones(len(odds))
            logs = (np.log10(np.maximum(values, NEVER)) for values in (np.minimum(odds, 1.0), above))
            found.append(Stated(table.keys, suffix, *logs))
        return found

    def excess(self) -> Array:
        """By how much the law after each history that has followers sums to more than 1: rounding, unless it was given."""
        return np.concatenate([self._excess(table) for table in self.tables])

    @staticmethod
    def _excess(table: Table) -> Array:
        followed = table.first[1:] > table.first[:-1]
        spoken = np.concatenate([[0.0], np.cumsum(table.spoken)])
        excess: Array = (spoken[table.first[1:]] - spoken[table.first[:-1]] + table.backoff - 1)[followed]
        return excess

    def _stated_tables(self) -> list[Table]:
        """Tables of the law that was given: what a history speaks is what it says beyond its share of the back-off."""
        tables: list[Table] = []
        odds, backoff = np.zeros(1), np.zeros(1)
        shorter = np.zeros(1, np.int32)
        for length in range(1, self.order + 1):
            here = Stated(*(self.get_buffer(f"{field.name}_{length}").cpu().numpy() for field in fields(Stated)))
            given = 10.0**here.log10
            if length == 1:
                given[-1] = 0.0
            spoken = given - backoff[here.keys // self.width] * odds[here.suffix]
            tables.append(self._as_table(here.keys, spoken, backoff, shorter))
            odds, backoff, shorter = given, 10.0**here.backoff, here.suffix
        return tables

    # ---- from counts to a law ----------------------------------------------------------------------------------------

    @property
    def tables(self) -> list[Table]:
        """The law, one table for each length of history, worked out when first asked for."""
        if self._tables is None and self.settings.smoothing == "given" and self.get_buffer("keys_1").numel():
            self._tables = self._stated_tables()
        elif self._tables is None:
            grams = self._grams()
            if not grams or not grams[0].count.any():
                raise TrainingError("this n-gram has counted nothing", "a fitted model", "Fit it, or load one that is")
            kneser_ney = self.settings.smoothing == "kneser-ney"
            counts = adjusted(grams, self.width) if kneser_ney else [here.count.astype(np.float64) for here in grams]
            self._tables = []
            for length, (here, seen) in enumerate(zip(grams, counts, strict=True)):
                shorter = grams[length - 1].suffix if length else np.zeros(1, np.int32)
                self._tables.append(self._table(here.keys, seen, shorter))
        return self._tables

    def _table(self, keys: Array, seen: Array, shorter: Array) -> Table:
        history, histories = keys // self.width, len(shorter)
        total = np.bincount(history, weights=seen, minlength=histories)
        if self.settings.smoothing == "kneser-ney":
            taken = discounts(seen)[np.minimum(seen, 3).astype(np.int64)]
            left = np.bincount(history, weights=taken, minlength=histories)
            kept, all_ = seen - taken, total
        else:
            kinds = np.bincount(history, weights=seen > 0, minlength=histories)
            added = self.settings.k * self.form.vocabulary
            left = kinds if self.settings.smoothing == "witten-bell" else np.where(total > 0, added, 0.0)
            kept, all_ = seen, total + left
        never = total == 0  # a history that nothing followed leaves everything to the shorter one
        all_ = np.where(never, 1.0, all_)
        return self._as_table(keys, kept / all_[history], np.where(never, 1.0, left / all_), shorter)

    def _as_table(self, keys: Array, spoken: Array, backoff: Array, shorter: Array) -> Table:
        first = np.searchsorted(keys, np.arange(len(shorter) + 1) * self.width)
        summed = np.concatenate([[0.0], np.cumsum(np.maximum(spoken, 0.0))])
        return Table(keys, spoken, backoff, first, summed, shorter)

    def _walks(self) -> bool:
        """Whether each history's law is a toss between speaking and backing off; a given one may take back what it left."""
        if self.settings.smoothing != "given":
            return True
        against = max(float(-table.spoken.min()) if len(table.spoken) else 0.0 for table in self.tables)
        return against <= WALKS and float(np.abs(self.excess()).max()) <= WALKS

    def _followed(self, length: int, history: Array, symbol: Array) -> Array:
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

    def _places(self, symbols: Array, before: Array, longest: int) -> list[Array]:
        """For each length up to ``longest``, which n-gram ends at each symbol (``[time]``, as in `count`); -1 for none."""
        found = [np.zeros(len(symbols), np.int64)]
        for length in range(longest):
            found.append(self._followed(length, self._earlier(found[length], before, length), symbols))
        return found

    @staticmethod
    def _earlier(places: Array, before: Array, length: int) -> Array:
        """What stood at the symbol before: the history of ``length`` symbols that each symbol is read after."""
        return np.where(before >= length, np.concatenate([[0], places[:-1]]), -1) if length else places

    def _readable(self, symbols: Array, before: Array) -> Array:
        """How many symbols of a history end at each symbol: add-k backs off to none that is shorter.

        Nothing before ``begin`` is readable; ``begin`` itself is in items, but not in streams, which have one beginning.
        """
        here = np.arange(len(symbols))
        first = np.where(symbols < 0, here + 1, here - before)
        opened = here + (0 if self.form.end is not None else 1)
        first = np.maximum.accumulate(np.where(symbols == self.form.begin, opened, first))
        return np.minimum(here + 1 - first, self.reach)

    # ---- asking ------------------------------------------------------------------------------------------------------

    def log_prob(self, batch: Batch) -> Tensor:
        """Nats of each item, ``[batch]``."""
        return self.symbol_log_prob(batch).sum(dim=1)

    def symbol_log_prob(self, batch: Batch) -> Tensor:
        """Nats of each symbol, float64 ``[batch, time]``."""
        tokens, counted = self._read(batch)
        log = np.zeros(tokens.shape)
        rows = max(1, AT_ONCE // tokens.shape[1])
        for part in (slice(row, row + rows) for row in range(0, len(tokens), rows)):
            real, before = _real(counted[part])
            odds = np.zeros(real.shape)
            odds[real] = self._odds(tokens[part][real], before[real])[-1]
            np.log(odds, out=log[part], where=counted[part])
        return torch.from_numpy(log[:, -batch.x.shape[1] :].copy())

    def _odds(self, symbols: Array, before: Array) -> list[Array]:
        """The probability of each symbol after histories of up to no, one, two … symbols, ``[time]`` each.

        The last is the model's; the others are what it backs off to, the uniform law first.
        """
        places = self._places(symbols, before, self.order)
        uniform = 1 / self.form.vocabulary
        odds = [np.full(len(symbols), uniform)]
        readable = None
        if self.settings.smoothing == "add-k":
            readable = np.where(before > 0, np.concatenate([[0], self._readable(symbols, before)[:-1]]), 0)
        for length, table in enumerate(self.tables):
            history, found = self._earlier(places[length], before, length), places[length + 1]
            backoff = np.where(history >= 0, table.backoff[history], 1.0) if len(table.backoff) else 1.0
            spoken = np.where(found >= 0, table.spoken[found], 0.0) if len(table.spoken) else 0.0
            if readable is None:
                odds.append(spoken + backoff * odds[-1])
            else:
                odds.append(np.where(readable >= length, spoken + backoff * uniform, odds[-1]))
        return odds

    def logits(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log-probabilities, float64 ``[batch, time, vocabulary]``; row t is of what follows ``tokens[:, : t + 1]``."""
        del condition
        symbols = tokens.cpu().numpy().reshape(-1)
        before = np.tile(np.arange(tokens.shape[1]), tokens.shape[0])
        histories = self._places(symbols, before, self.reach)
        readable = self._readable(symbols, before)
        odds = np.empty((len(symbols), self.form.vocabulary))
        rows = max(1, AT_ONCE // self.form.vocabulary)
        for part in (slice(row, row + rows) for row in range(0, len(symbols), rows)):
            self._law([history[part] for history in histories], readable[part], odds[part])
        return torch.from_numpy(np.log(odds, out=odds)).reshape(*tokens.shape, -1)

    def _law(self, histories: list[Array], readable: Array, odds: Array) -> None:
        """Write the law after each history (one array of places for each length) into ``odds`` ``[row, vocabulary]``."""
        odds[:] = 1 / self.form.vocabulary
        for length, table in enumerate(self.tables):
            rows = np.flatnonzero(histories[length] >= 0)
            if self.settings.smoothing == "add-k":
                rows = rows[readable[rows] >= length]
                odds[readable >= length] = 1 / self.form.vocabulary
            history = histories[length][rows]
            odds[rows] *= table.backoff[history][:, None]
            start, many = table.first[history], table.first[history + 1] - table.first[history]
            edge = np.repeat(start - np.cumsum(many) + many, many) + np.arange(many.sum())
            symbol = table.keys[edge] % self.width
            real = symbol < self.form.vocabulary  # `begin` has a place among the single symbols, and no share
            odds[np.repeat(rows, many)[real], symbol[real]] += table.spoken[edge][real]

    def start(self, n: int, condition: Tensor | None = None) -> Tensor:
        """The last ``order - 1`` symbols, long ``[n, order - 1]``; -1 where nothing was read yet."""
        del condition
        return torch.full((n, self.reach), -1)

    def step(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Read ``tokens`` ``[batch, k]``; the log-odds ``[batch, vocabulary]`` of what comes next, and the new state."""
        read = torch.cat([state, tokens.cpu()], dim=1)
        recent = read[:, read.shape[1] - max(1, self.reach) :]
        return self.logits(recent)[:, -1], read[:, read.shape[1] - self.reach :]

    # ---- drawing -----------------------------------------------------------------------------------------------------

    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """Draw ``n`` items, long ``[n, length]``; without truncation by walking down the orders, for all items at once."""
        assert isinstance(options, Decoding)
        fits = self.form.end is None or (options.length or 0) <= self.form.length
        if options.changed(length=None) != Decoding() or not fits or not self._walks():
            return generate(self, n, options, noise)
        end = self.form.end
        length = options.length or self.form.length
        drawn = np.full((n, length), 0 if end is None else end)
        alive = np.arange(n)
        depth, history = np.zeros(n, np.int64), np.zeros(n, np.int64)
        if end is not None:
            depth, history = self._moved(depth, history, np.full(n, self.form.begin), np.full(n, -1), history)
        toss = np.empty((n, 0))
        for place in range(length):
            if place % BLOCK == 0:
                # two single-precision draws make one fine enough to be split at every order it passes
                pair = noise.uniform("symbol", (min(BLOCK, length - place), 2), step=place // BLOCK).double().numpy()
                toss = pair[..., 0] + pair[..., 1] * 2.0**-24
            symbol, spoke, edge = self._drawn(depth, history, toss[alive, place % BLOCK], place)
            drawn[alive, place] = symbol
            depth, history = self._moved(depth, history, symbol, spoke, edge)
            if end is not None:
                on = symbol != end
                alive, depth, history = alive[on], depth[on], history[on]
                if not len(alive):
                    break
        return torch.from_numpy(drawn)

    def _drawn(self, depth: Array, history: Array, toss: Array, place: int) -> tuple[Array, Array, Array]:
        """One symbol after each history (of ``depth`` symbols): the toss falls to this order, or is handed down, rescaled.

        Also how long the history was that spoke (-1: the uniform law did), and the place of that n-gram.
        """
        depth, history, toss = depth.copy(), history.copy(), toss.copy()
        symbol, spoke, places = np.full(len(toss), -1), np.full(len(toss), -1), np.full(len(toss), -1)
        add_k = self.settings.smoothing == "add-k"
        if add_k:  # a history that was never seen is not shortened: everything is equally likely
            depth[depth < min(place + (self.form.end is not None), self.reach)] = -1
        for length in range(self.reach, -1, -1):
            table = self.tables[length]
            rows = np.flatnonzero(depth == length)
            here, tossed = history[rows], toss[rows]
            backoff = table.backoff[here]
            speaks = tossed < 1 - backoff
            start = table.first[here[speaks]]
            edge = np.searchsorted(table.summed, table.summed[start] + tossed[speaks], side="right") - 1
            edge = np.clip(edge, start, table.first[here[speaks] + 1] - 1)
            spoken = rows[speaks]
            symbol[spoken], spoke[spoken], places[spoken] = table.keys[edge] % self.width, length, edge
            rest = rows[~speaks]
            toss[rest] = (tossed[~speaks] - (1 - backoff[~speaks])) / backoff[~speaks]
            depth[rows] = -1
            if length and not add_k:
                depth[rest], history[rest] = length - 1, table.shorter[here[~speaks]]
        rest = symbol < 0
        symbol[rest] = np.minimum(toss[rest] * self.form.vocabulary, self.form.vocabulary - 1).astype(np.int64)
        return symbol, spoke, places

    def _moved(self, depth: Array, history: Array, symbol: Array, spoke: Array, places: Array) -> tuple[Array, Array]:
        """The longest history seen in counting that ends with ``symbol``, as its length and place.

        It is looked for from the longest down to the one that spoke, whose n-gram is known already.
        """
        depth, history = depth.copy(), history.copy()
        new_depth, new_history = np.zeros_like(depth), np.zeros_like(history)
        for length in range(self.reach, -1, -1):
            rows = np.flatnonzero(depth == length)
            found = places[rows]
            unknown = spoke[rows] != length
            found[unknown] = self._followed(length, history[rows[unknown]], symbol[rows[unknown]])
            known, lost = rows[found >= 0], rows[found < 0]
            new_depth[known], new_history[known] = length + 1, found[found >= 0]
            history[lost] = self.tables[length].shorter[history[lost]]
            depth[lost] = length - 1
        full = new_depth == self.order
        if full.any():
            new_history[full] = self._suffix(new_history[full])
            new_depth[full] = self.reach
        return new_depth, new_history

    def _suffix(self, places: Array) -> Array:
        """The longest n-grams without their oldest symbol: the histories that they leave behind."""
        shorter: Array = self.get_buffer(f"suffix_{self.order}").cpu().numpy()
        return shorter[places]

    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """At each symbol: the odds that it had by each length of history, and which length spoke for it."""
        x = self.sample(1, options, noise, condition)
        tokens = torch.cat([torch.full((1, 1), self.form.begin), x], dim=1)
        symbols, before = tokens.numpy()[0], np.arange(tokens.shape[1])
        odds = np.stack(self._odds(symbols, before))[:, 1:]  # [order + 1, time]
        met = np.stack(self._places(symbols, before, self.order))[1:, 1:] >= 0  # [order, time]
        last = int(mask_after_end(x, self.form.end).sum())
        for place in range(last):
            path = odds[:, place]
            spoke = int(met[:, place].sum())  # an n-gram that was met has met endings, so these are the shortest ones
            law = self.logits(tokens[:, max(0, place + 1 - max(1, self.reach)) : place + 1])[0, -1].exp()
            yield Step(
                name=f"order {spoke} speaks" if spoke else "backed off to the uniform law",
                x=x if place == last - 1 else x[:, : place + 1],
                note=f"The symbol had odds of {path[-1]:.3g}, and {path[1]:.3g} without any history.",
                data={"odds": law, "by order": torch.from_numpy(path[1:].copy()), "symbol": x[0, place]},
            )


MODEL = Ngram
