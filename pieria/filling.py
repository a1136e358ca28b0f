"""What a model of texts says of a person's own texts: what fills a gap, written [MASK] or ___; a vector; a target."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from pieria.data.batch import Batch
from pieria.errors import UsageError
from pieria.forms import Row, Tokens
from pieria.modalities.contract import Modality
from pieria.models.contract import Discriminates, Embeds, FillsSymbols, Model, device_of
from pieria.noise import ItemNoise
from pieria.settings import Settings

# what stands for no text: a gap is never filled with it
EMPTY = (
    "<unk>",
    "\N{REPLACEMENT CHARACTER}",
    "[UNK]",
    "[PAD]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "<s>",
    "</s>",
    "<pad>",
    "<mask>",
)
GAP = re.compile(r"\[MASK\]|<mask>|_{3,}")
LETTERS = ("char", "byte")  # tokenisations of which a run of underscores is as many symbols


@runtime_checkable
class Writes(Protocol):
    """A modality whose artifacts are texts that can be encoded piece by piece."""

    def beginning(self, text: str) -> Tensor:
        """The symbols of a text without an end, long ``[time]``."""

    def strings(self) -> list[str]:
        """What each symbol looks like."""

    def decode(self, x: Tensor) -> Sequence[Any]:
        """Symbols to texts."""

    settings: Settings


@runtime_checkable
class Asks(Protocol):
    """A modality of targets, each told from a text."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes by their codes; empty for a number."""

    @property
    def form(self) -> Row:
        """A row of one column."""

    def prompts(self, texts: Sequence[str], *, cut: bool = False) -> Tensor:
        """Texts as symbols, long ``[text, time]``."""

    def decode(self, x: Tensor) -> Sequence[Any]:
        """Targets."""


@dataclass(frozen=True)
class Filled:
    """A text whose gaps are filled.

    Attributes:
        text: as it was given.
        filled: with all its gaps filled.
        gaps: for each masked symbol the most probable ones and their probabilities, every gap being still open.
    """

    text: str
    filled: str
    gaps: list[list[tuple[str, float]]]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return asdict(self)


def fill(
    model: Model, modality: Modality, texts: Sequence[str], options: Settings, *, top: int = 5, seed: int = 0
) -> list[Filled]:
    """Each text with its gaps filled as ``options`` say, and for each gap the ``top`` most probable symbols.

    A gap is one symbol; of letters or bytes, ___ is as many as it has underscores. Raises `UsageError` for a model that does
    not fill texts, and for a text without a gap.
    """
    if not isinstance(model, FillsSymbols) or not isinstance(modality, Writes):
        raise UsageError(
            f"{type(model).__name__} of {modality.name} does not fill texts",
            "a model that learned to tell masked symbols",
            "Fit one with --model bert",
        )
    strings = modality.strings()
    never = tuple(symbol for symbol, string in enumerate(strings) if string in EMPTY)
    options = options.changed(never=never) if "never" in type(options).model_fields else options
    return [_filled(model, modality, strings, text, options, top, ItemNoise(seed, 1, i)) for i, text in enumerate(texts)]


def _filled(
    model: Model, modality: Writes, strings: list[str], text: str, options: Settings, top: int, noise: ItemNoise
) -> Filled:
    form = model.form
    assert isinstance(form, Tokens)
    assert isinstance(model, FillsSymbols)
    x, masked, pieces, counts = _read(text, modality, form, strings)
    device = device_of(model)
    x, masked = x[None].to(device), masked[None].to(device)
    with torch.no_grad():
        made = model.fill(x, ~masked, options, noise)
        odds = _odds(model, form, x, masked)
    if form.end is not None:
        odds[:, form.end] = -torch.inf
    odds[:, [symbol for symbol, string in enumerate(strings) if string in EMPTY]] = -torch.inf
    law = odds.softmax(dim=1, dtype=torch.float64)
    best = law.topk(min(top, law.shape[1]), dim=1)
    gaps = [
        [(strings[symbol].strip() or strings[symbol], p) for p, symbol in zip(values, symbols, strict=True)]
        for values, symbols in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
    placed, written = made[masked].tolist(), pieces[0]
    for count, piece in zip(counts, pieces[1:], strict=True):
        symbols, placed = placed[:count], placed[count:]
        written += str(modality.decode(torch.tensor([symbols]))[0]) + piece
    return Filled(text, written, gaps)


def _read(text: str, modality: Writes, form: Tokens, strings: list[str]) -> tuple[Tensor, Tensor, list[str], list[int]]:
    """The symbols, which are masked, the pieces of text around the gaps, and of how many symbols each gap is."""
    gaps, pieces = GAP.findall(text), GAP.split(text)
    if not gaps:
        raise UsageError(f"there is no gap in {text[:60]!r}", "[MASK] or ___ where something is to be filled in", "Write it")
    letters = getattr(modality.settings, "tokenizer", "") in LETTERS
    counts = [len(gap) if letters and gap[0] == "_" else 1 for gap in gaps]
    if any(string.startswith(" ") and len(string) > 1 for string in strings):  # a space belongs to what stands behind it
        pieces = [piece.removesuffix(" ") if place < len(gaps) else piece for place, piece in enumerate(pieces)]
    symbols, masked = [], []
    for place, piece in enumerate(pieces):
        read = modality.beginning(piece)
        symbols += [read, torch.zeros(counts[place] if place < len(gaps) else 0, dtype=torch.int64)]
        masked += [torch.zeros(len(read), dtype=torch.bool), torch.ones(len(symbols[-1]), dtype=torch.bool)]
    x, where = torch.cat(symbols), torch.cat(masked)
    if form.end is not None:
        if len(x) >= form.length:
            raise UsageError(
                f"{text[:60]!r} … has {len(x)} symbols and an end", f"at most {form.length} together", "Shorten or divide it"
            )
        x = torch.nn.functional.pad(x, (0, 1), value=form.end)
        where = torch.nn.functional.pad(where, (0, 1), value=False)
    return x, where, pieces, counts


def _odds(model: FillsSymbols, form: Tokens, x: Tensor, masked: Tensor) -> Tensor:
    """The odds of every masked place; in a text longer than the model reads at once, from the window around it."""
    if x.shape[1] <= form.length:
        return model.odds(x, masked, masked)
    rows = []
    for place in masked[0].nonzero()[:, 0].tolist():
        start = max(0, min(place - form.length // 2, x.shape[1] - form.length))
        here = slice(start, start + form.length)
        asked = torch.zeros_like(masked)
        asked[:, place] = True
        rows.append(model.odds(x[:, here], masked[:, here], asked[:, here]))
    return torch.cat(rows)


# ---- what texts are --------------------------------------------------------------------------------------------------


def embedded(model: Model, modality: Modality, texts: Sequence[str], batch: int = 64) -> np.ndarray:
    """A vector for each text, float32 ``[text, features]``. Raises `UsageError` for a model that has none."""
    if not isinstance(model, Embeds) or not isinstance(modality, Writes | Asks):
        raise UsageError(
            f"{type(model).__name__} of {modality.name} has no vectors of texts",
            "a model that reads a whole text at once",
            "Fit one with --model bert",
        )
    found = [np.zeros((0, 0), dtype=np.float32)] if not texts else []
    for start in range(0, len(texts), batch):
        for part in _batches(model, modality, texts[start : start + batch]):
            found.append(model.embed(part.to(device_of(model))).float().cpu().numpy())
    return np.concatenate(found)


def _batches(model: Model, modality: Modality, texts: Sequence[str]) -> Iterator[Batch]:
    form = model.condition if isinstance(model.condition, Tokens) else model.form
    assert isinstance(form, Tokens)
    if isinstance(model.condition, Tokens) and isinstance(modality, Asks):
        yield Batch(torch.zeros(len(texts), 1), condition=modality.prompts(texts, cut=True))
        return
    assert isinstance(modality, Writes)
    rows = [modality.beginning(text)[: form.length] for text in texts]
    if form.end is None:  # a stream has no padding
        yield from (Batch(row[None]) for row in rows)
        return
    x = torch.full((len(rows), form.length), form.end)
    for place, row in enumerate(rows):
        x[place, : len(row)] = row
    yield Batch(x)


def predicted(model: Model, modality: Modality, texts: Sequence[str], batch: int = 64) -> list[dict[str, Any]]:
    """What a discriminative model says of each text; `UsageError` for any other model."""
    if not isinstance(model, Discriminates) or not isinstance(modality, Asks):
        raise UsageError(
            f"{type(model).__name__} does not tell what a text is", "a discriminative model", "Fit one with --target COLUMN"
        )
    told: list[dict[str, Any]] = []
    for start in range(0, len(texts), batch):
        part = modality.prompts(texts[start : start + batch], cut=True).to(device_of(model))
        with torch.no_grad():
            law = model.tell(part).cpu()
        classes = modality.classes
        if classes:
            for row in law.tolist():
                best = max(range(len(classes)), key=row.__getitem__)
                told.append({"target": classes[best], "probabilities": dict(zip(classes, row, strict=True))})
        else:
            scale = modality.form.columns[0].scale
            means = modality.decode(law[:, :1])
            told += [
                {"target": mean, "deviation": width * scale} for mean, width in zip(means, law[:, 1].tolist(), strict=True)
            ]
    return told
