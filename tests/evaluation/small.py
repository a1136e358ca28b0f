"""Small real data and small real models for the tests of evaluation and audit."""

from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pieria.data.batch import Batch, mask_after_end
from pieria.data.examples import Examples, ItemExamples, StreamExamples
from pieria.forms import Column, Curve, Form, Grid, Label, Row, Tokens
from pieria.models.contract import Model
from pieria.settings import Field, Settings


@dataclass
class Small:
    """What `evaluate` and `audit` ask of a data set, from tensors in memory."""

    name: str
    splits: dict[str, Examples]
    modality: Any = None
    licence: str = ""
    consent: str = ""
    source: str = ""
    fingerprint: str = "small"
    parts: dict[str, Any] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.modality is None:
            self.modality = Plain()

    @property
    def form(self) -> Form:
        return self.splits["train"].form

    def examples(self, part: str, training: bool = False) -> Examples:
        del training
        return self.splits[part]


class Plain:
    """A modality without wishes."""

    settings = None
    tokenisation = "characters"

    def characters(self, tokens: Tensor) -> int:
        return tokens.numel()


def _cut(x: Tensor, seed: int = 0) -> list[Tensor]:
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(x)))
    half = len(x) // 2
    third = len(x) // 4
    return [x[order[:half]], x[order[half : half + third]], x[order[half + third :]]]


@cache
def digits() -> Small:
    from sklearn.datasets import load_digits

    loaded = load_digits()
    x = torch.from_numpy(loaded.images.astype(np.int64))[:, None]
    y = torch.from_numpy(loaded.target.astype(np.int64))
    form, label = Grid(1, 8, 8, levels=17), Label(tuple("0123456789"))
    parts = zip(("train", "test", "validation"), _cut(x), _cut(y), strict=True)
    return Small(
        "digits", {n: ItemExamples(form, a, condition=label, conditions=b) for n, a, b in parts}, fingerprint="digits"
    )


@cache
def table() -> Small:
    """Diabetes progression with a category (sex) and an integer column, some values missing."""
    from sklearn.datasets import load_breast_cancer

    loaded = load_breast_cancer()
    numbers = loaded.data[:, :6]
    scale, shift = numbers.std(axis=0), numbers.mean(axis=0)
    scaled = (numbers - shift) / scale
    rng = np.random.default_rng(0)
    gaps = rng.random(len(scaled)) < 0.1
    scaled[gaps, 2] = 0
    columns = [Column(f"n{i}", "number", scale=float(scale[i]), shift=float(shift[i])) for i in range(6)]
    columns += [Column("n2 gap", "missing", of="n2"), Column("benign", "category", levels=2)]
    x = torch.from_numpy(np.column_stack([scaled, gaps, loaded.target]).astype(np.float32))
    form = Row(tuple(columns))
    return Small(
        "cancer", dict(zip(("train", "test", "validation"), (ItemExamples(form, p) for p in _cut(x)))), fingerprint="t"
    )


@cache
def text(length: int = 48) -> Small:
    """Python's own reference manual, as one stream of characters."""
    from pydoc_data.topics import topics

    # the manual says some things in several places; here each paragraph stands once
    paragraphs = dict.fromkeys(p for name in sorted(topics) for p in topics[name].split("\n\n"))
    said = "\n\n".join(paragraphs)[:240_000]
    assert len(said) == 240_000
    symbols = {c: i for i, c in enumerate(sorted(set(said)))}
    stream = np.asarray([symbols[c] for c in said])
    form = Tokens(len(symbols), length)
    cuts = {"train": stream[:160_000], "validation": stream[160_000:200_000], "test": stream[200_000:]}
    return Small("manual", {n: StreamExamples(form, s) for n, s in cuts.items()}, fingerprint="manual")


@cache
def words() -> Small:
    """Different words of the manual, each an item with an end."""
    import re
    from pydoc_data.topics import topics

    found = sorted(set(re.findall(r"[a-z]{4,15}", " ".join(topics.values()))))
    end = 26
    x = torch.full((len(found), 16), end)
    for row, word in enumerate(found):
        x[row, : len(word)] = torch.tensor([ord(c) - 97 for c in word])
    form = Tokens(27, 16, end=end)
    return Small(
        "words", dict(zip(("train", "test", "validation"), (ItemExamples(form, p) for p in _cut(x)))), fingerprint="w"
    )


@cache
def series() -> Small:
    """A measured-looking series: season, trend and noise; later points are held out."""
    t = np.arange(420) / 12
    noise = np.random.default_rng(0).normal(size=len(t))
    y = 3 * np.sin(2 * np.pi * t) + np.sin(4.3 * t) + 0.4 * noise
    x = torch.from_numpy(np.column_stack([t, y]))[None]
    form = Curve(1, 1)
    cuts = {"train": x[:, :280], "validation": x[:, 280:350], "test": x[:, 350:]}
    return Small("series", {n: ItemExamples(form, p) for n, p in cuts.items()}, fingerprint="s")


ALL = {"grid": digits, "row": table, "stream": text, "items": words, "curve": series}


def more_like(data: Small, n: int, seed: int = 3) -> Tensor:
    """``n`` items of a part that is neither train nor test: what an honest, perfect model would draw."""
    return some_of(data.examples("validation"), n, data.form, seed, len(data.examples("test").batch([0]).x[0]))


def copies_of(data: Small, n: int, seed: int = 3) -> Tensor:
    """``n`` training items."""
    return some_of(data.examples("train"), n, data.form, seed, len(data.examples("test").batch([0]).x[0]))


def some_of(examples: Examples, n: int, form: Form, seed: int, points: int) -> Tensor:
    rng = np.random.default_rng(seed)
    if isinstance(form, Curve):
        # another stretch of the series, as long as what is held out; or fresh noise on the same law for more curves
        x = examples.batch([0]).x[0]
        starts = rng.integers(0, max(1, len(x) - points + 1), n)
        return torch.stack([x[s : s + points] for s in starts])
    if isinstance(examples, StreamExamples):
        starts = rng.integers(0, len(examples.stream) - form.length, n)
        return torch.from_numpy(np.stack([examples.stream[s : s + form.length] for s in starts]))
    return examples.batch(rng.permutation(len(examples))[np.arange(n) % len(examples)]).x


class BagSettings(Settings):
    share: float = Field(
        1.0, ge=0, le=1, description="how many of the draws are kept items; the rest comes from the other bag"
    )


class Bag(Model):
    """Draws items from a bag, as they are: a memoriser if the bag is the training part."""

    Settings = BagSettings
    consumes = frozenset({Tokens, Grid, Row, Curve})
    conditions = frozenset({Label})
    presets: ClassVar = {"tiny": {}}
    holds_data = True
    paper = "a test"

    def __init__(self, settings, form, condition=None, bag: Tensor | None = None, other: Tensor | None = None) -> None:
        super().__init__(settings, form, condition)
        self.register_buffer("bag", bag)
        self.register_buffer("other", bag if other is None else other)

    def sample(self, n, options, noise, condition=None):
        def pick(bag: Tensor, name: str) -> Tensor:
            return bag[noise.integers(name, len(bag))]

        kept, others = pick(self.bag, "item"), pick(self.other, "other")
        chosen = noise.uniform("which") < self.settings.share
        return torch.where(chosen.view(-1, *[1] * (kept.ndim - 1)), kept, others)


def bag(data: Small, x: Tensor, other: Tensor | None = None, share: float = 1.0) -> Bag:
    return Bag(BagSettings(share=share), data.form, bag=x, other=other)


class Bits(Model):
    """Independent pixels or columns: an exact likelihood, learned in closed form."""

    Settings = BagSettings
    consumes = frozenset({Grid, Row, Tokens})
    likelihood = "exact"
    presets: ClassVar = {"tiny": {}}
    paper = "a test"

    def __init__(self, settings, form, condition=None) -> None:
        super().__init__(settings, form, condition)
        self.register_buffer("odds", torch.zeros(0))

    def estimate(self, batches) -> None:
        if isinstance(self.form, Tokens):
            counts = sum(
                torch.bincount(b.x[b.mask] if b.mask is not None else b.x.flatten(), minlength=self.form.vocabulary)
                for b in batches()
            )
            self.odds = ((counts + 1) / (counts + 1).sum()).log()
            return
        x = torch.cat([b.x for b in batches()])
        counts = torch.nn.functional.one_hot(x, self.form.levels).sum(dim=0) + 0.5
        self.odds = (counts / counts.sum(dim=-1, keepdim=True)).log()  # [c, h, w, levels]

    def symbol_log_prob(self, batch: Batch) -> Tensor:
        nats = self.odds[batch.x]
        return nats if batch.mask is None else nats * batch.mask

    def log_prob(self, batch: Batch) -> Tensor:
        if isinstance(self.form, Tokens):
            return self.symbol_log_prob(batch).sum(dim=1)
        picked = self.odds.expand(len(batch), *self.odds.shape).gather(-1, batch.x[..., None])
        return picked.flatten(1).sum(dim=1)

    def sample(self, n, options, noise, condition=None):
        if isinstance(self.form, Tokens):
            x = (self.odds + noise.gumbel("symbol", (self.form.length, self.form.vocabulary)).to(self.odds)).argmax(dim=-1)
            return torch.where(mask_after_end(x, self.form.end), x, self.form.end if self.form.end is not None else 0)
        return (self.odds + noise.gumbel("level", tuple(self.odds.shape)).to(self.odds)).argmax(dim=-1)


MODEL = Bits
