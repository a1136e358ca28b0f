"""How probable is each of these, and how unusual beside held-out data: what ``Run.score`` answers."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pieria.data.batch import Batch
from pieria.data.examples import Examples
from pieria.errors import DataError, UsageError
from pieria.evaluation.rows import jacobian
from pieria.forms import Curve, Row, Tokens
from pieria.modalities.contract import Artifact, Collection, Modality
from pieria.modalities.messages import Conversation
from pieria.models.contract import Hides, Model, Predicts, Scores, ScoresSymbols, device_of

TOGETHER = 64  # items scored in one go
SHOWN = 60  # characters of an item in a table
COMPARED, FEWEST = 500, 10  # held-out items that unusualness is told from, at most and at least


@dataclass(frozen=True)
class ScoreCard:
    """The log-probability of each item.

    Attributes:
        kind: what the likelihood is: exact, bound, estimate or pseudo.
        unit: what ``nats_each`` is a mean over: symbol, point or item.
        items: each item in a few words.
        log_prob: natural-log probability (or density) of each item.
        nats_each: ``-log_prob`` divided by how many symbols (points) it has; lower is more probable.
        unusual: the share of held-out items that are more probable each symbol than this one; 1 is the most unusual. None
            without held-out data.
        symbols: for each item its symbols, and the log-probability of each; None if not asked for.
        compared: how many held-out items ``unusual`` was told from.
        words: all of it in sentences, and what reading and encoding the items found.
    """

    kind: str
    unit: str
    items: list[str]
    log_prob: list[float]
    nats_each: list[float]
    unusual: list[float | None]
    symbols: list[list[tuple[str, float]]] | None = None
    compared: int = 0
    words: list[str] = field(default_factory=list)

    def header(self) -> list[str]:
        """The headings of `rows`."""
        return ["item", f"log-probability, nats ({self.kind})", f"nats per {self.unit}", "unusual (0 … 1)"]

    def rows(self) -> list[list[str]]:
        """A row an item, for a terminal; with symbols, each symbol has a row of its own below its item."""
        found = []
        for place, item in enumerate(self.items):
            unusual = self.unusual[place]
            rank = "" if unusual is None else f"{unusual:.3f}"
            found.append([item, f"{self.log_prob[place]:.3f}", f"{self.nats_each[place]:.4f}", rank])
            for symbol, value in self.symbols[place] if self.symbols is not None else ():
                found.append([f"    {symbol!r}", f"{value:.3f}", "", ""])
        return found

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return asdict(self)


def score(
    model: Model, modality: Modality, collection: Collection, held_out: Examples | None, *, symbols: bool = False
) -> ScoreCard:
    """Score every item of ``collection``; a stream is scored in windows, each with what stands before it as context.

    Raises `UsageError` for a family without a likelihood, or a conditional one whose items have no labels.
    """
    if not isinstance(model, Scores) or model.likelihood == "none":
        raise UsageError(
            f"{type(model).__name__} has no likelihood", "a family that scores", "'pieria models' lists what each can do"
        )
    if symbols and not isinstance(model, ScoresSymbols):
        raise UsageError(f"{type(model).__name__} has no log-probability of a symbol", "a family of tokens that scores")
    examples = modality.examples(collection)
    stream = isinstance(examples.form, Tokens) and examples.form.end is None
    parts = stream or len(examples) != len(collection)  # what is scored is not what was read, but parts of it
    names: list[str] = []
    told: list[list[tuple[str, float]]] = []
    totals, counts = [], []
    for batch in _batches(model, examples):
        with torch.no_grad():
            if symbols and isinstance(model, ScoresSymbols):
                each = model.symbol_log_prob(batch).double().cpu()
                totals.append(each.sum(dim=1))
                told += [_symbols(modality, x, row) for x, row in zip(batch.x.cpu(), each, strict=True)]
            else:
                totals.append(-_nats(model, batch))
        counts.append(things(model, batch))
        artifacts = modality.decode(batch.x.cpu()) if parts else None
        for place in range(len(batch)):
            artifact = artifacts[place] if artifacts is not None else collection.artifacts[len(names)]
            names.append(_in_short(artifact, len(names)))
    total, count = torch.cat(totals).numpy(), torch.cat(counts).numpy()
    each_nats = -total / np.maximum(count, 1)
    reference = np.sort(_reference(model, held_out)) if held_out is not None else np.zeros(0)
    if len(reference) < FEWEST:
        reference = np.zeros(0)  # too few to rank among
    unusual = [float(np.searchsorted(reference, value) / len(reference)) if len(reference) else None for value in each_nats]
    unit = _unit(model)
    said = [f"{len(names)} item(s), {-total.sum() / count.sum():.4f} nats per {unit} ({model.likelihood})"]
    said.append(
        f"unusual: the share of {len(reference)} held-out items that are more probable; near 1, hardly any is as improbable"
        if len(reference)
        else f"there are fewer than {FEWEST} held-out items at hand, too few to tell how unusual one is"
    )
    said += collection.findings
    return ScoreCard(
        model.likelihood,
        unit,
        names,
        total.tolist(),
        each_nats.tolist(),
        unusual,
        told if symbols else None,
        len(reference),
        said,
    )


def collected(model: Model, modality: Modality, what: str | Path | Sequence[Artifact], column: str | None) -> Collection:
    """What is to be asked of: the artifacts in a file or a folder, or a list of them, of a model of pairs with prompts."""
    if isinstance(what, str | Path) and Path(what).expanduser().exists():
        return modality.read(Path(what).expanduser(), column)
    if isinstance(what, str | Path):
        raise DataError(f"{what} does not exist", "a file, a folder, or a list of artifacts", "Check the path")
    if isinstance(model.condition, Tokens):
        if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in what):
            raise UsageError(
                "texts without their prompts",
                "pairs: (prompt, completion)",
                "Score [(prompt, completion), …], or a file",
            )
        return Collection([pair[1] for pair in what], prompts=[pair[0] for pair in what])
    return Collection(list(what))


def hidden(model: Model, modality: Modality, collection: Collection, posterior: bool) -> list[list[int]] | list[Tensor]:
    """The hidden states behind each item, one a symbol or point: what ``Run.states`` answers."""
    assert isinstance(model, Hides)
    examples = modality.examples(collection)
    stream = isinstance(examples.form, Tokens) and examples.form.end is None
    context = model.reach if stream and isinstance(model, Predicts) else 0
    found: list[Tensor] = []
    with torch.inference_mode():
        for batch in examples.sweep(16, length=16 * context or None, context=context):
            there = batch.to(device_of(model))
            path = (model.posterior if posterior else model.states)(there).cpu()
            real = torch.ones(batch.x.shape[:2], dtype=torch.bool) if batch.mask is None else batch.mask
            if isinstance(examples.form, Tokens) and not stream:
                real = real & (batch.x != examples.form.end)
            found += [row[counts] for row, counts in zip(path, real, strict=True)]
    found = [torch.cat(found)] if stream else found
    return found if posterior else [path.tolist() for path in found]


def things(model: Model, batch: Batch) -> Tensor:
    """How many symbols (or points, else 1) of each item are scored, ``[batch]``."""
    if not isinstance(model.form, Tokens | Curve):
        return torch.ones(len(batch))
    if batch.mask is None:
        return torch.full((len(batch),), float(batch.x.shape[1]))
    return batch.mask.sum(dim=1).double().cpu()


def _unit(model: Model) -> str:
    return "symbol" if isinstance(model.form, Tokens) else "point" if isinstance(model.form, Curve) else "item"


def _batches(model: Model, examples: Examples) -> Iterator[Batch]:
    reach = model.reach if isinstance(model, Predicts) else 0
    device = device_of(model)
    for batch in examples.sweep(TOGETHER, context=reach):
        if model.condition is not None and batch.condition is None:
            asked = "prompt" if isinstance(model.condition, Tokens) else "label"
            raise UsageError(
                f"items without a {asked} for a conditional model", f"the {asked} of each item", f"Give a set with {asked}s"
            )
        given = batch if model.condition is not None else replace(batch, condition=None)
        yield given.to(device)


def _reference(model: Model, held_out: Examples) -> np.ndarray:
    """Nats each symbol of the first held-out items (windows)."""
    assert isinstance(model, Scores)
    found: list[np.ndarray] = []
    for batch in _batches(model, held_out):
        with torch.no_grad():
            nats = _nats(model, batch)
        found.append((nats / things(model, batch).clamp(min=1)).numpy())
        if sum(map(len, found)) >= COMPARED:
            break
    return np.concatenate(found)


def _nats(model: Model, batch: Batch) -> Tensor:
    """Minus the log-probability of each item; of rows in the table's own units, as a scorecard states it."""
    nats: Tensor = -model.log_prob(batch).double().cpu()  # type: ignore[operator]
    return nats + jacobian(model.form, batch.x.cpu()) if isinstance(model.form, Row) else nats


def _symbols(modality: Modality, x: Tensor, values: Tensor) -> list[tuple[str, float]]:
    strings = getattr(modality, "strings", None)
    known = strings() if callable(strings) else None
    end = getattr(modality.form, "end", None)
    told = []
    for symbol, value in zip(x.tolist(), values.tolist(), strict=True):
        told.append((known[symbol] if known is not None else str(symbol), value))
        if symbol == end:
            break
    return told


def _in_short(artifact: Any, place: int) -> str:
    if isinstance(artifact, str | Conversation):
        line = str(artifact).replace("\n", "⏎")
        return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"
    return f"item {place}"
