"""Texts with a target: a table whose one column holds a text and another what it is, a class or a number.

The artifact is the target, a `Row` of one column; its text is what it is told from, kept apart as its prompt. Nothing is
read so unless ``--target COLUMN`` asks for it: a table with texts may be meant as texts.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pieria.data.storage import write_atomically
from pieria.errors import DataError, FormError, UsageError, unknown
from pieria.forms import Column, Row, Tokens
from pieria.modalities import documents
from pieria.modalities.contract import Collection, Modality, Sniff
from pieria.modalities.text import Text, TextSettings
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

if TYPE_CHECKING:
    from torch import Tensor

    from pieria.data.examples import Examples

TEXTS = ("text", "sentence", "review", "comment", "message", "body", "content", "title")  # columns that are looked for first
MOST_CLASSES = 1000
FEW = 20  # so many different numbers or fewer are classes, if nothing else is said


class LabelledSettings(TextSettings):
    """How texts are made into symbols, and which column is the target."""

    tokenizer: Literal["char", "byte", "word", "bpe"] = Field("word", description="what one symbol is")
    target: str = Field("", description="the column that is to be told from the text")
    kind: Literal["auto", "class", "number"] = Field(
        "auto", description="what the target is; auto: a number where there are more than 20 different ones"
    )


class Labelled(Modality):
    """A class or a number for each text, as a row of one column and back."""

    name = "labelled"
    Settings = LabelledSettings
    forms = ("row",)
    suffixes: ClassVar[tuple[str, ...]] = (*documents.TABLES, *documents.RECORDS)
    settings: LabelledSettings

    def __init__(self, settings: LabelledSettings) -> None:
        super().__init__(settings)
        shared = {name: getattr(settings, name) for name in TextSettings.model_fields}
        self._text = Text(TextSettings.of({**shared, "items": "lines"}))
        self._column: Column | None = None
        self._classes: tuple[str, ...] = ()
        self.given_symbols = False

    @classmethod
    def over(cls, text: Modality, settings: LabelledSettings) -> Self:
        """Texts encoded with the symbols of a text modality that has learned them; their targets are still to be learned."""
        if not isinstance(text, Text):
            raise UsageError(f"a run of {text.name}", "a run of text", "Name a bert that learned from texts")
        own = text.settings.model_dump()
        made = cls(LabelledSettings.of({**own, "items": "lines", "target": settings.target, "kind": settings.kind}))
        made._text = Text.restore(made._text.settings, {**text.state(), "stream": False})
        made.given_symbols = True
        return made

    @property
    def learned(self) -> bool:
        """Whether the targets are known."""
        return self._column is not None

    # ---- files to artifacts ------------------------------------------------------------------------------------------

    @classmethod
    def sniff(cls, path: Path, column: str | None = None) -> Sniff:
        """Never of itself: a table of texts has no target unless one is named."""
        return Sniff(0.0, "has a target only where --target names it")

    def read(self, path: Path, column: str | None = None) -> Collection:
        """The targets at ``path``, each with its text: from ``column``, or from the column that looks most like texts.

        Raises `UsageError` for a column that is not there, `DataError` for a table without whole rows.
        """
        rows, target = documents.rows_of(path, self.settings.encoding), self.settings.target
        names = list(rows[0]) if rows else []
        if not target:
            raise UsageError("no target was named", f"a column of {path.name}: {', '.join(names)}", "Use --target COLUMN")
        if target not in names:
            raise unknown("column", target, names)
        column = column or _text_column(rows, names, target)
        if column not in names:
            raise unknown("column", column, names)
        whole = [row for row in rows if _said(row.get(column)) and _said(row.get(target))]
        if not whole:
            raise DataError(f"{path} has no row with both {column!r} and {target!r}", "at least one", "Check the file")
        findings = [f"{len(whole):,} texts from column {column!r}, told to be {target!r}"]
        if len(whole) < len(rows):
            findings.append(f"{len(rows) - len(whole):,} rows that lack one of the two were left out")
        return Collection(
            [_plain(row[target]) for row in whole], prompts=[str(row[column]).strip() for row in whole], findings=findings
        )

    # ---- what is learned ---------------------------------------------------------------------------------------------

    def learn(self, collection: Collection, form: str | None = None) -> None:
        """Learn what the targets are, and the symbols of the texts, from the training part."""
        if form not in (None, "row"):
            raise UsageError(f"texts with a target have no form {form!r}", "row", "Leave --form out")
        texts = Collection(list(collection.prompts or ()))
        if not self.given_symbols:
            self._text.learn(texts)
        targets, name = collection.artifacts, self.settings.target
        counts = Counter(map(str, targets))
        numbers = [value for value in map(_number, targets) if value is not None]
        kind = self.settings.kind
        if kind == "auto":
            kind = "number" if len(numbers) == len(targets) and len(counts) > FEW else "class"
        if kind == "number":
            if len(numbers) < len(targets):
                odd = next(target for target in targets if _number(target) is None)
                raise DataError(
                    f"the target {odd!r} in {name!r} is not a number", "numbers", "Correct it, or set kind=class"
                )
            mean = math.fsum(numbers) / len(numbers)
            deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in numbers) / len(numbers))
            self._column = Column(name, "number", scale=deviation or 1.0, shift=mean)
            return
        if len(counts) < 2 or len(counts) > MOST_CLASSES:
            raise DataError(
                f"{name!r} has {len(counts):,} different value(s)",
                f"2 to {MOST_CLASSES:,} classes, or numbers",
                "Name another column with --target, or set kind=number",
            )
        self._classes = tuple(sorted(counts, key=_order))
        self._column = Column(name, "category", levels=len(self._classes))

    def foresee(self, others: Iterable[Collection]) -> list[str]:
        """Make room for classes, characters and lengths that only held-out parts have; a class so added is never told."""
        others, found = list(others), []
        new = sorted({str(target) for part in others for target in part.artifacts} - set(self._classes), key=_order)
        if self._classes and new:
            self._classes = tuple(sorted((*self._classes, *new), key=_order))
            assert self._column is not None
            self._column = replace(self._column, levels=len(self._classes))
            shown = ", ".join(new[:8]) + (" …" if len(new) > 8 else "")
            found.append(f"{len(new)} class(es) of held-out parts never occur in train ({shown}) and cannot be learned")
        if not self.given_symbols:
            found += self._text.foresee([Collection(list(part.prompts or ())) for part in others])
        return found

    @property
    def form(self) -> Row:
        """A row of one column."""
        if self._column is None:
            raise FormError("targets that are not known yet", "classes or a range", "Call learn or restore first")
        return Row((self._column,))

    @property
    def prompt_form(self) -> Tokens:
        """The form of the texts."""
        return self._text.form

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their codes; empty for a number."""
        return self._classes

    @property
    def text(self) -> Text:
        """How the texts are encoded."""
        return self._text

    # ---- artifacts to tensors and back -------------------------------------------------------------------------------

    def encode(self, artifacts: Sequence[Any]) -> "Tensor":
        """Targets as float32 ``[target, 1]``; `DataError` for a class that training did not have."""
        import torch

        column = self.form.columns[0]
        if column.kind == "category":
            for target in artifacts:
                if str(target) not in self._classes:
                    raise unknown("class", str(target), self._classes)
            values = [float(self._classes.index(str(target))) for target in artifacts]
        else:
            values = []
            for target in artifacts:
                number = _number(target)
                if number is None:
                    raise DataError(f"the target {target!r} is not a number", "a number", "Correct it")
                values.append((number - column.shift) / column.scale)
        return torch.tensor(values, dtype=torch.float32)[:, None]

    def prompts(self, texts: Sequence[str], *, cut: bool = False) -> "Tensor":
        """Texts as symbols, long ``[text, time]``; a text that is too long is refused, unless it may be ``cut``."""
        return self._text.examples(Collection(list(texts))).batch(range(len(texts))).x if cut else self._text.encode(texts)

    def examples(self, collection: Collection, *, training: bool = False) -> "Examples":
        """Targets with their texts; of a text that is too long only the beginning is read, and a finding says so."""
        from pieria.data.examples import ItemExamples

        texts = Collection(list(collection.prompts or ()))
        found = self._text.examples(texts)
        collection.findings += [line for line in texts.findings if line not in collection.findings]
        assert isinstance(found, ItemExamples)
        return ItemExamples(self.form, self.encode(collection.artifacts), condition=self.prompt_form, conditions=found.x)

    def decode(self, x: "Tensor") -> list[Any]:
        """Targets: the name of a class, or a number in its own unit; symbols (a long tensor) become the text they are of."""
        import torch

        if x.dtype == torch.int64:
            return list(self._text.decode(x))
        column = self.form.columns[0]
        if column.kind == "category":
            return [self._classes[int(code)] for code in x[:, 0].tolist()]
        return [value * column.scale + column.shift for value in x[:, 0].double().tolist()]

    def write(self, artifacts: Sequence[Any], path: Path, metadata: dict[str, str] | None = None) -> list[Path]:
        """One target a line; in a ``.jsonl`` one record, with the metadata."""
        path = path if path.suffix else path / "targets.txt"
        lines = [str(target) for target in artifacts]
        if path.suffix == ".jsonl":
            name = self.form.columns[0].name
            lines = [json.dumps({name: target, **(metadata or {})}, ensure_ascii=False) for target in artifacts]
        write_atomically(path, "\n".join(lines) + "\n")
        return [path]

    def preview(self, artifacts: Sequence[Any], path: Path, metadata: dict[str, str] | None = None) -> Path:
        """A ``.txt`` with one target a line."""
        return self.write(artifacts, path.with_suffix(".txt"), metadata)[0]

    def state(self) -> dict[str, Any]:
        """The symbols, and what the target is."""
        column = self.form.columns[0]
        return {
            "text": self._text.state(),
            "column": {"name": column.name, "kind": column.kind, "scale": column.scale, "shift": column.shift},
            "classes": list(self._classes),
        }

    @classmethod
    def restore(cls, settings: AnySettings, state: dict[str, Any]) -> Self:
        """The modality that `state` was taken from."""
        assert isinstance(settings, LabelledSettings)
        made = cls(settings)
        made._text = Text.restore(made._text.settings, state["text"])
        made._classes = tuple(state["classes"])
        made._column = Column(**state["column"], levels=len(made._classes) or None)
        made.given_symbols = True
        return made


def _said(value: Any) -> bool:
    return value is not None and bool(str(value).strip())


def _plain(value: Any) -> str | float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value).strip()


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _order(name: str) -> tuple[int, float, str]:
    """Classes that are numbers by their size, then the others by their names."""
    number = _number(name)
    return (1, 0.0, name) if number is None else (0, number, name)


def _text_column(rows: list[dict[str, Any]], names: list[str], target: str) -> str:
    others = [name for name in names if name != target]
    if not others:
        raise UsageError(f"the only column is the target {target!r}", "a column of texts beside it", "Name another target")
    known = [name for name in others if name.lower() in TEXTS]
    return known[0] if known else max(others, key=lambda name: sum(len(str(row.get(name) or "")) for row in rows[:1000]))


MODALITY = Labelled
