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
from dataclasses import fields
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from pieria.data.batch import Batch, check, mask_after_end
from pieria.errors import FormError, TrainingError, UsageError
from pieria.forms import Form, Tokens
from pieria.layers import backoff
from pieria.layers.backoff import Law, Stated
from pieria.layers.ngrams import Array, Grams, count, merge
from pieria.models.contract import Model, Step
from pieria.noise import Noise
from pieria.sampling.decoding import Decoding, generate
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

AT_ONCE = 1 << 20  # symbols counted or scored together, and odds held while a row of them is made: bounds memory
WALKS = 1e-5  # by how much a given law may miss a sum of 1, as rounded numbers do, and be drawn from order by order
BLOCK = 128  # symbols whose noise is drawn together: making a generator costs more than drawing from it


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
        self._known: Law | None = None
        self.register_load_state_dict_post_hook(lambda module, _: setattr(module, "_known", None))

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
        return [Grams(*arrays) for arrays in self._kept("keys", "count", "suffix")]

    def _kept(self, *names: str) -> list[list[Array]]:
        """The buffers of these names, one list an order; none before a fit."""
        if not self.get_buffer("keys_1").numel():
            return []
        orders = range(1, self.order + 1)
        return [[self.get_buffer(f"{name}_{length}").cpu().numpy() for name in names] for length in orders]

    def _keep(self, orders: Sequence[Grams | Stated]) -> None:
        for length, here in enumerate(orders, start=1):
            for field in fields(here):
                setattr(self, f"{field.name}_{length}", torch.from_numpy(getattr(here, field.name)))
        self._known = None

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
        return backoff.told(self.law)

    def excess(self) -> Array:
        """By how much the law after each history that has followers sums to more than 1: rounding, unless it was given."""
        return np.concatenate([table.excess() for table in self.law.tables])

    @property
    def law(self) -> Law:
        """The law, worked out from the counts (or from what was given) when first asked for."""
        if self._known is None:
            smoothing = self.settings.smoothing
            if smoothing == "given" and (orders := self._kept(*(field.name for field in fields(Stated)))):
                self._known = backoff.given([Stated(*arrays) for arrays in orders], self.width)
            elif smoothing != "given" and (grams := self._grams()) and grams[0].count.any():
                self._known = backoff.smoothed(grams, self.width, smoothing, self.settings.k)
            else:
                raise TrainingError("this n-gram has counted nothing", "a fitted model", "Fit it, or load one that is")
        return self._known

    def _walks(self) -> bool:
        """Whether each history's law is a toss between speaking and backing off; a given one may take back what it left."""
        if self.settings.smoothing != "given":
            return True
        against = max(float(-table.spoken.min()) if len(table.spoken) else 0.0 for table in self.law.tables)
        return against <= WALKS and float(np.abs(self.excess()).max()) <= WALKS

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
        places = self.law.places(symbols, before, self.order)
        uniform = 1 / self.form.vocabulary
        odds = [np.full(len(symbols), uniform)]
        readable = None
        if self.settings.smoothing == "add-k":
            readable = np.where(before > 0, np.concatenate([[0], self._readable(symbols, before)[:-1]]), 0)
        for length, table in enumerate(self.law.tables):
            history, found = backoff.earlier(places[length], before, length), places[length + 1]
            left = np.where(history >= 0, table.backoff[history], 1.0) if len(table.backoff) else 1.0
            spoken = np.where(found >= 0, table.spoken[found], 0.0) if len(table.spoken) else 0.0
            if readable is None:
                odds.append(spoken + left * odds[-1])
            else:
                odds.append(np.where(readable >= length, spoken + left * uniform, odds[-1]))
        return odds

    def logits(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log-probabilities, float64 ``[batch, time, vocabulary]``; row t is of what follows ``tokens[:, : t + 1]``."""
        del condition
        symbols = tokens.cpu().numpy().reshape(-1)
        before = np.tile(np.arange(tokens.shape[1]), tokens.shape[0])
        histories = self.law.places(symbols, before, self.reach)
        readable = self._readable(symbols, before)
        odds = np.empty((len(symbols), self.form.vocabulary))
        rows = max(1, AT_ONCE // self.form.vocabulary)
        for part in (slice(row, row + rows) for row in range(0, len(symbols), rows)):
            self._law([history[part] for history in histories], readable[part], odds[part])
        return torch.from_numpy(np.log(odds, out=odds)).reshape(*tokens.shape, -1)

    def _law(self, histories: list[Array], readable: Array, odds: Array) -> None:
        """Write the law after each history (one array of places for each length) into ``odds`` ``[row, vocabulary]``."""
        odds[:] = 1 / self.form.vocabulary
        for length, table in enumerate(self.law.tables):
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
            depth, history = self.law.moved(depth, history, np.full(n, self.form.begin), np.full(n, -1), history)
        toss = np.empty((n, 0))
        for place in range(length):
            if place % BLOCK == 0:
                # two single-precision draws make one fine enough to be split at every order it passes
                pair = noise.uniform("symbol", (min(BLOCK, length - place), 2), step=place // BLOCK).double().numpy()
                toss = pair[..., 0] + pair[..., 1] * 2.0**-24
            symbol, spoke, edge = self._drawn(depth, history, toss[alive, place % BLOCK], place)
            drawn[alive, place] = symbol
            depth, history = self.law.moved(depth, history, symbol, spoke, edge)
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
            table = self.law.tables[length]
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

    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """At each symbol: the odds that it had by each length of history, and which length spoke for it."""
        x = self.sample(1, options, noise, condition)
        tokens = torch.cat([torch.full((1, 1), self.form.begin), x], dim=1)
        symbols, before = tokens.numpy()[0], np.arange(tokens.shape[1])
        odds = np.stack(self._odds(symbols, before))[:, 1:]  # [order + 1, time]
        met = np.stack(self.law.places(symbols, before, self.order))[1:, 1:] >= 0  # [order, time]
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
