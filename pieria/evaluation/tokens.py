"""Figures of symbols in order: nats per symbol, bits per character, perplexity, and copied runs.

A likelihood is taken over the whole split, each symbol scored once, and the figure's note says how many symbols stood
before it. Perplexity is per symbol of a named tokenisation, so it does not compare across tokenisations; bits per character
do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from pieria.data.batch import mask_after_end
from pieria.data.examples import Examples, StreamExamples, without_condition
from pieria.evaluation.comparison import Comparison, Nearness, everything, nats
from pieria.evaluation.copying import longest_runs
from pieria.evaluation.distances import ProfileDistance
from pieria.evaluation.scorecard import Figure, likelihood_name
from pieria.forms import Tokens
from pieria.models.contract import Model, Predicts, Scores

SEARCHED = 20_000_000


@runtime_checkable
class Spelled(Protocol):
    """A modality whose symbols stand for characters, so that bits per character can be told."""

    @property
    def tokenisation(self) -> str:
        """The name of what a symbol is, such as "characters" or "BPE 8,000"."""

    def characters(self, tokens: Tensor) -> int:
        """How many characters these symbols stand for."""


@dataclass(frozen=True)
class Likelihood:
    """Nats of a whole split: of each window or item, and how many symbols each had."""

    nats: np.ndarray
    symbols: np.ndarray
    rule: str

    @property
    def per_symbol(self) -> float:
        """Mean nats of a symbol."""
        return float(self.nats.sum() / self.symbols.sum())

    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean, from how it differs between windows."""
        n, mean, width = len(self.nats), self.per_symbol, self.symbols.mean()
        if n < 2:
            return mean, mean
        half = 1.96 * float(np.std(self.nats - mean * self.symbols, ddof=1)) / (width * np.sqrt(n))
        return mean - half, mean + half


def likelihood(model: Model, examples: Examples, most: int | None = None) -> Likelihood:
    """Minus ``log_prob`` of everything in a split (or of its first ``most`` symbols), each symbol once.

    A stream is read in windows that overlap by half of what the model can read (its ``reach``), so that each symbol has at
    least that much before it, but for those at the beginning of the stream, which have what there is.
    """
    form = examples.form
    assert isinstance(form, Tokens)
    length, context, rule = form.length, 0, "each item from its beginning"
    if isinstance(examples, StreamExamples):
        reach = model.reach if isinstance(model, Predicts) else form.length
        total = max(form.length, reach)
        context = min(reach, total // 2)
        length = max(1, total - context)
        rule = (
            f"each symbol read after at least {context} symbols of what stood before it (windows of {length}), at the "
            "beginning after what there is"
        )
    size = int(np.clip(4_000_000 // (length * form.vocabulary), 1, 64))
    found, symbols, seen = [], [], 0
    for batch in examples.sweep(size, length=length, context=context):
        scored = batch.x.shape[1] * torch.ones(len(batch)) if batch.mask is None else batch.mask.sum(dim=1)
        found.append(nats(model, batch).numpy())
        symbols.append(scored.double().numpy())
        seen += int(scored.sum())
        if most is not None and seen >= most and seen < examples.scored():
            rule += f"; the first {seen:,} of {examples.scored():,} symbols"
            break
    return Likelihood(np.concatenate(found), np.concatenate(symbols), rule)


def scored_characters(examples: Examples, modality: Spelled, symbols: int) -> int:
    """How many characters the first ``symbols`` symbols of a split stand for."""
    if isinstance(examples, StreamExamples):
        return modality.characters(torch.from_numpy(np.asarray(examples.stream[:symbols], dtype=np.int64)))
    count, left = 0, symbols
    for batch in examples.sweep(256):
        assert batch.mask is not None
        for row, mask in zip(batch.x, batch.mask, strict=True):
            if left <= 0:
                return count
            count += modality.characters(row[mask])
            left -= int(mask.sum())
    return count


def figures(
    model: Model,
    held: Examples,
    modality: object,
    baseline: Model | None,
    split: str,
    most: int | None = None,
) -> list[Figure]:
    """Nats per symbol, bits per character and perplexity of a model, with the baseline's beside them."""
    if not isinstance(model, Scores) or model.likelihood == "none":
        return []
    kind = model.likelihood
    own = likelihood(model, held, most)
    other = likelihood(baseline, without_condition(held), most) if baseline is not None else None
    low, high = own.interval()
    symbols = int(own.symbols.sum())
    # the probability of an answer is not that of a text: figures of different meaning have different names
    given = " given the prompt" if isinstance(model.condition, Tokens) else ""
    tokenisation = modality.tokenisation if isinstance(modality, Spelled) else "the modality's own symbols"

    def figure(name: str, unit: str, convert: Callable[[float], float], count: int) -> Figure:
        return Figure(
            likelihood_name(name + given, kind),
            convert(own.per_symbol),
            unit,
            kind,
            "lower",
            split,
            count,
            baseline=None if other is None else convert(other.per_symbol),
            low=convert(low),
            high=convert(high),
            note=f"a symbol is one of: {tokenisation}; {own.rule}",
        )

    found = [figure("nats per symbol", "nats", float, symbols)]
    if isinstance(modality, Spelled):
        characters = scored_characters(held, modality, symbols)
        if characters:
            each = symbols / characters / np.log(2)
            found.append(figure("bits per character", "bits", lambda nats: float(nats * each), characters))
    found.append(figure("perplexity", f"per symbol ({tokenisation})", lambda nats: float(np.exp(nats)), symbols))
    return found


class TokensComparison(Comparison):
    """Likeness by the profiles of n-grams; novelty by the longest run that an item shares with the training text."""

    likeness_unit = "bits (JS)"

    @property
    def order(self) -> int:
        """How many symbols a profile's gram has: fewer where there are too many different ones to meet twice."""
        assert isinstance(self.form, Tokens)
        return 3 if self.form.vocabulary <= 256 else 2 if self.form.vocabulary <= 4096 else 1

    @property
    def likeness_note(self) -> str:
        """What was compared."""
        return f"Jensen-Shannon divergence of the profiles of {self.order}-symbol grams; 0 the same, 1 nothing in common"

    def _items(self, x: Tensor) -> list[np.ndarray]:
        """Each item as its symbols up to its end, after the symbol ``begin`` where items have a beginning."""
        assert isinstance(self.form, Tokens)
        if self.form.end is None:
            return list(x.numpy())
        kept = mask_after_end(x, self.form.end).numpy()
        return [np.concatenate([[self.form.begin], row[mask]]) for row, mask in zip(x.numpy(), kept, strict=True)]

    @cached_property
    def _sets(self) -> dict[str, list[np.ndarray]]:
        return {"held": self._items(self.held), "made": self._items(self.made), "seen": self._items(self.seen)}

    def _profiles(self, order: int) -> dict[str, csr_matrix]:
        """Counts of each gram in each item of each set, over the grams of all three."""
        assert isinstance(self.form, Tokens)
        base = self.form.vocabulary + 1
        keys: list[np.ndarray] = []
        owners: list[np.ndarray] = []
        sizes: list[int] = []
        for items in self._sets.values():
            for item in items:
                key = np.zeros(max(0, len(item) - order + 1), dtype=np.int64)
                for place in range(order):
                    key = key * base + item[place : place + len(key)]
                keys.append(key)
                owners.append(np.full(len(key), len(owners)))
            sizes.append(len(items))
        names, columns = np.unique(np.concatenate(keys), return_inverse=True)
        counts = csr_matrix((np.ones(len(columns)), (np.concatenate(owners), columns)), shape=(sum(sizes), len(names)))
        starts = np.cumsum([0, *sizes])
        return {name: counts[starts[i] : starts[i + 1]] for i, name in enumerate(self._sets)}

    @cached_property
    def _grams(self) -> dict[str, csr_matrix]:
        return self._profiles(self.order)

    def distance(self, first: str, second: str) -> tuple[ProfileDistance, int, int]:
        """The divergence between the profiles of two sets."""
        a, b = self._grams[first], self._grams[second]
        return ProfileDistance(a, b), a.shape[0], b.shape[0]

    @cached_property
    def training_line(self) -> np.ndarray:
        """The training text as one line of symbols, at most `SEARCHED` of them."""
        assert isinstance(self.form, Tokens)
        if isinstance(self.training, StreamExamples):
            return np.asarray(self.training.stream[:SEARCHED], dtype=np.int64)
        x = everything(self.training, max(1, SEARCHED // self.form.length))
        begun = torch.cat([torch.full((len(x), 1), self.form.begin), x], dim=1)
        kept = torch.cat([torch.ones(len(x), 1, dtype=torch.bool), mask_after_end(x, self.form.end)], dim=1)
        return begun[kept].numpy()

    @cached_property
    def runs(self) -> dict[str, np.ndarray]:
        """The longest run that each made and each held-out item shares with the training text, and their lengths."""
        made, held = self._sets["made"], self._sets["held"]
        found = longest_runs(self.training_line, [*made, *held])
        return {
            "made": found[: len(made)],
            "held": found[len(made) :],
            "made length": np.asarray([len(item) for item in made]),
            "held length": np.asarray([len(item) for item in held]),
        }

    @cached_property
    def nearness(self) -> Nearness:
        """One minus the share of an item that its longest copied run covers; a copy is an item that is one such run."""
        runs = self.runs
        made, held = 1 - runs["made"] / runs["made length"], 1 - runs["held"] / runs["held length"]
        # items may be so short that an honest model hits training items by chance; windows of a text are not
        short = np.mean(runs["held length"]) < 24
        note = "near: the share of an item that one copied run covers; a copy is covered wholly" + (
            "; where each item occurs only once in the data, held-out items cannot be copies but honest samples can"
            if short
            else ""
        )
        return Nearness(made, held, made == 0, held == 0, 0.5 if short else 0.1, note)

    def run_figure(self, split: str) -> Figure:
        """The longest run of symbols that any sample shares with the training text, beside held-out text's own."""
        runs = self.runs
        begun = int(self.form.end is not None) if isinstance(self.form, Tokens) else 0  # begin is no symbol
        return Figure(
            "longest copied run",
            float(max(0, runs["made"].max() - begun)),
            "symbols",
            "measure",
            "lower",
            split,
            len(runs["made"]),
            self.seed,
            floor=float(max(0, runs["held"].max() - begun)),
            note=f"searched in {len(self.training_line):,} training symbols; the median sample has a run of "
            f"{max(0.0, float(np.median(runs['made'])) - begun):.0f}, the median held-out item one of "
            f"{max(0.0, float(np.median(runs['held'])) - begun):.0f}",
        )

    def features(self, which: str) -> np.ndarray:
        """How often an item has each of the 200 most frequent pairs of symbols, and its length."""
        columns = self._frequent
        lengths = np.asarray([len(item) for item in self._sets[which]], dtype=float)
        return np.column_stack([self._pairs[which][:, columns].toarray(), lengths])

    @cached_property
    def _pairs(self) -> dict[str, csr_matrix]:
        return self._profiles(2)

    @cached_property
    def _frequent(self) -> np.ndarray:
        totals = sum(np.asarray(counts.sum(axis=0)).ravel() for counts in self._pairs.values())
        return np.sort(np.argsort(-np.asarray(totals), kind="stable")[:200])
