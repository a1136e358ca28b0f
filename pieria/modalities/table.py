"""Tables: `.csv`, `.tsv` (also gzipped) and `.parquet` of numbers, categories, dates and missing values; form `Row`.

Artifacts are the rows: dictionaries that a `Rows` cuts from a data frame when asked, so that a million of them cost no more
than the frame. What a column holds, and how it comes back, is said in `columns`.
"""

import io
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import field_validator

from pieria.data.storage import write_atomically
from pieria.errors import DataError, FormError, UsageError, unknown
from pieria.forms import Row, from_json
from pieria.modalities import frames
from pieria.modalities.columns import ColumnKind
from pieria.modalities.contract import Collection, Modality, Sniff
from pieria.modalities.rows import Rows, plain
from pieria.modalities.schema import Reading, Wide, from_text, from_values
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

if TYPE_CHECKING:
    import pandas
    from torch import Tensor

    from pieria.data.examples import Examples

# a column with at most so many values divides the rows into groups that an audit can compare
GROUPS = 20


class TableSettings(AnySettings):
    """How a table becomes rows of numbers."""

    target: str = Field("", description="the column to be predicted: in train-on-synthetic-test-on-real, and for conditions")
    drop: tuple[str, ...] = Field((), description="columns to leave out: identifiers, names, free text")
    categories: tuple[str, ...] = Field((), description="columns of numbers to be read as categories")
    most_categories: int = Field(256, ge=2, le=100_000, description="more different words than this in a column are refused")
    missing: tuple[str, ...] = Field(
        ("", "?", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null"), description="words that mean a missing value"
    )
    unknown: Literal["refuse", "missing"] = Field(
        "refuse", description="a category that the training part does not know: an error, or a missing value (in any column)"
    )
    ragged: Literal["refuse", "skip"] = Field("refuse", description="rows with too few or too many fields")
    separator: str = Field(
        "auto", description="what stands between fields; auto: , ; | or tab, whichever the first line has most of"
    )
    header: bool = Field(True, description="the first line holds the names of the columns")
    encoding: str = Field("utf-8", description="how the characters of a text file are encoded")
    dayfirst: bool = Field(False, description="read 03/04/2020 as the third of April")

    @field_validator("separator", mode="before")
    @classmethod
    def _tab_is_a_word(cls, value: Any) -> Any:
        return {"tab": "\t", "\\t": "\t"}.get(value, value)

    @field_validator("separator")
    @classmethod
    def _one_character(cls, value: str) -> str:
        if value != "auto" and len(value) != 1:
            raise ValueError("wanted one character, tab or auto")
        return value


class Table(Modality):
    """Rows of a table to float32 ``[row, column]`` and back."""

    name: ClassVar[str] = "table"
    Settings = TableSettings
    forms: ClassVar[tuple[str, ...]] = ("row",)
    suffixes: ClassVar[tuple[str, ...]] = frames.SUFFIXES
    settings: TableSettings

    def __init__(self, settings: TableSettings) -> None:
        super().__init__(settings)
        self._form: Row | None = None
        self.kinds: tuple[ColumnKind, ...] = ()

    # ── files to artifacts ──────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def sniff(cls, path: Path, column: str | None = None) -> Sniff:
        """How sure: a delimited file with several columns, all rows equally long."""
        try:
            return _sniff(path, column)
        except Exception as error:  # sniffing answers "not mine", whatever is wrong with the file
            return Sniff(0.0, f"cannot be looked at ({error})")

    def read(self, path: Path, column: str | None = None) -> Collection:
        """All rows of a file; ``column`` (names separated by commas) keeps only these columns.

        Raises `DataError` that names line, row or column: ragged rows, doubled or empty names, infinities, text columns with
        too many different words; and says which setting helps.
        """
        import pandas as pd

        path, settings = Path(path), self.settings
        frames.require(path, "table")
        columns = (
            frames.read_parquet(path)
            if frames.kind_of(path) == "parquet"
            else frames.read_text(
                path,
                separator=settings.separator,
                encoding=settings.encoding,
                header=settings.header,
                ragged=settings.ragged,
            )
        )
        names = [str(name) for name in columns.table.column_names]
        wanted = names if column is None else [part.strip() for part in column.split(",")]
        for name in (*wanted, *settings.drop, *settings.categories, *([settings.target] if settings.target else [])):
            if name not in names and not (self.kinds and name in settings.drop):
                raise unknown("column", name, names)
        findings = list(columns.findings)
        kept = [name for name in names if name in wanted and name not in settings.drop]
        if settings.drop:
            findings.append(f"left out: {', '.join(name for name in settings.drop if name in names)}")
        reading = self._reading()
        kinds, series, wide = [], {}, []
        for name in kept:
            known = reading.settled(name)
            if self._form is not None and known is None:
                continue  # a restored modality knows its columns; others are not its business
            values = columns.table.column(name)
            try:
                read = from_values(name, _typed(values), reading) if columns.typed else from_text(name, values, reading)
            except Wide as error:
                wide.append(error)
                continue
            except DataError as error:
                raise DataError(f"{path}: {error.got}", error.wanted, error.do) from None
            kinds.append(read[0])
            series[name] = read[1]
            findings.extend(read[2])
        if wide:
            names_of = ",".join(error.do.partition("drop=")[2].partition(",")[0] for error in wide)
            raise DataError(
                f"{path}: " + "; ".join(error.got for error in wide),
                wide[0].wanted,
                f"Leave out with drop={names_of}, or allow more with most_categories=…",
            )
        if not self.kinds:
            self.kinds = tuple(kinds)  # a later part of the same data is read by the same schema
        frame = pd.DataFrame(series, copy=False)
        findings.insert(0, f"{len(frame):,} rows, {len(kinds)} columns: {_counted(kinds)}")
        return Collection(
            Rows(frame, tuple(kinds)),
            groups={kind.name: _group(frame[kind.name]) for kind in kinds if _divides(kind)},
            findings=findings,
        )

    def _reading(self) -> Reading:
        settings = self.settings
        return Reading(settings.missing, settings.categories, settings.most_categories, settings.dayfirst, self.kinds)

    # ── artifacts to tensors ────────────────────────────────────────────────────────────────────────────────────────

    def learn(self, collection: Collection, form: str | None = None) -> None:
        """Take the schema that the rows were read with, and learn shift and scale from them."""
        if form not in (None, "row"):
            raise UsageError(f"tables have no form {form!r}", "their form is row", "Leave --form out")
        if len(collection) == 0:
            raise DataError("no rows to learn from", "at least one", "Look at what was read with 'pieria data PATH'")
        rows = self.rows(collection.artifacts)
        kinds, frame = rows.kinds, rows.frame
        if self.settings.target:
            # a target of few whole numbers is a class, not a quantity
            kinds = tuple(_as_class(k, frame[k.name]) if k.name == self.settings.target else k for k in kinds)
        if self.settings.unknown == "missing":
            kinds = tuple(
                replace(k, missing="") if k.varies and k.missing is None and None not in k.values else k for k in kinds
            )
        self.kinds = tuple(kind.learn(frame[kind.name]) for kind in kinds)
        taken = {kind.name for kind in self.kinds}
        columns = tuple(column for kind in self.kinds if kind.varies for column in kind.columns(taken))
        if not columns:
            raise DataError("no column of the table varies", "at least one that does", "Look at it with 'pieria data PATH'")
        self._form = Row(columns)

    @property
    def form(self) -> Row:
        """``Row(columns)``: each column that varies, followed by where it is missing if it ever is."""
        if self._form is None:
            raise FormError("the table modality has not seen any rows", "learn() or restore() first")
        return self._form

    def rows(self, artifacts: Sequence[Any]) -> Rows:
        """Rows of any make (`Rows`, a data frame, a list of dictionaries) as `Rows` with a schema."""
        import pandas as pd

        if isinstance(artifacts, Rows) and artifacts.kinds:
            return artifacts
        frame = artifacts.frame if isinstance(artifacts, Rows) else artifacts
        if not isinstance(frame, pd.DataFrame):
            if not all(isinstance(row, dict) for row in frame):
                raise FormError("rows that are not dictionaries", "{column: value} for each row", "Name the columns")
            frame = pd.DataFrame(list(frame))
        frame = frame.reset_index(drop=True)
        if self._form is not None:
            return Rows(frame, self.kinds)
        frames.check_names([str(name) for name in frame.columns], Path("the data frame"))
        read = [from_values(str(name), frame[name], self._reading()) for name in frame.columns]
        return Rows(pd.DataFrame({kind.name: series for kind, series, _ in read}), tuple(kind for kind, _, _ in read))

    def encode(self, artifacts: Sequence[Any]) -> "Tensor":
        """Rows as float32 ``[row, column]``, never NaN.

        Raises `FormError` naming column and row for an unknown category, a missing value where none is known, a word among
        numbers, and for columns that are not there.
        """
        import torch

        if len(artifacts) == 0:
            raise FormError("no rows", "at least one", "Look at what was read with 'pieria data PATH'")
        frame = self.rows(artifacts).frame
        absent = [kind.name for kind in self.kinds if kind.varies and kind.name not in frame]
        if absent:
            raise FormError(
                f"the rows have no column {', '.join(map(repr, absent[:5]))}",
                f"the columns {', '.join(kind.name for kind in self.kinds if kind.varies)}",
                "Give the table the columns that the model was fitted with",
            )
        x = np.empty((len(frame), len(self.form.columns)), np.float32)
        place = 0
        for kind in self.kinds:
            if kind.varies:
                for values in kind.encode(frame[kind.name], self.settings.unknown):
                    x[:, place] = values
                    place += 1
        return torch.from_numpy(x)

    def examples(self, collection: Collection, *, training: bool = False) -> "Examples":
        """The rows encoded; nothing is augmented."""
        from pieria.data.examples import ItemExamples

        del training
        return ItemExamples(self.form, self.encode(collection.artifacts))

    # ── tensors to artifacts to files ───────────────────────────────────────────────────────────────────────────────

    def decode(self, x: "Tensor") -> Rows:
        """Float ``[row, column]`` as rows with every column of the data, in its order and its kind of value."""
        import pandas as pd

        if x.ndim != 2 or x.shape[1] != len(self.form.columns):
            raise FormError(f"a tensor of shape {list(x.shape)}", f"[row, {len(self.form.columns)}]")
        values = x.detach().cpu().double().numpy()
        series, place = {}, 0
        for kind in self.kinds:
            if not kind.varies:
                series[kind.name] = kind.decode(None, None, len(values))
                continue
            width = 1 if kind.missing is None else 2
            series[kind.name] = kind.decode(values[:, place], values[:, place + 1] if width == 2 else None, len(values))
            place += width
        return Rows(pd.DataFrame(series, copy=False), self.kinds)

    def write(self, artifacts: Sequence[Any], path: Path, metadata: dict[str, str] | None = None) -> list[Path]:
        """One file: `.csv`, `.tsv` (``.gz`` packs them) or `.parquet`, which alone has a place for the metadata.

        A directory gets a ``rows.csv``. Missing values are written as the data wrote them.
        """
        import gzip

        path = Path(path)
        if path.is_dir() or not path.suffix:
            path = path / "rows.csv"
        kind = frames.kind_of(path)
        if not kind:
            raise UsageError(
                f"a table cannot be written to {path.name}", f"one of {', '.join(frames.SUFFIXES)}", "Change --out"
            )
        rows = self.rows(artifacts)
        buffer = io.BytesIO()
        if kind == "parquet":
            import pyarrow as arrow
            from pyarrow import parquet

            table = arrow.Table.from_pandas(rows.frame, preserve_index=False)
            said = {str(key).encode(): str(value).encode() for key, value in (metadata or {}).items()}
            parquet.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), **said}), buffer)
            write_atomically(path, buffer.getvalue())
            return [path]
        import pandas as pd

        words = pd.DataFrame({k.name: k.words(rows.frame[k.name]) for k in rows.kinds if k.name in rows.frame}, dtype=object)
        separator = "\t" if path.name.lower().removesuffix(".gz").endswith((".tsv", ".tab")) else ","
        text = words.to_csv(index=False, sep=separator, lineterminator="\n").encode()
        # mtime=0: the same rows give the same bytes
        write_atomically(path, gzip.compress(text, mtime=0) if path.name.lower().endswith(".gz") else text)
        return [path]

    def preview(self, artifacts: Sequence[Any], path: Path, metadata: dict[str, str] | None = None) -> Path:
        """The first rows as a text table of aligned columns; wide tables in several blocks."""
        path = Path(path).with_suffix(".txt")
        rows = self.rows(artifacts[:20] if isinstance(artifacts, Rows) else list(artifacts)[:20])
        kinds = [kind for kind in rows.kinds if kind.name in rows.frame]
        columns = [[kind.name, *kind.words(rows.frame[kind.name])] for kind in kinds]
        lines = [f"# {key}: {value}" for key, value in (metadata or {}).items()]
        for block in _blocks([_aligned(column, kind.scaled) for column, kind in zip(columns, kinds, strict=True)]):
            lines += ["", *("  ".join(cells).rstrip() for cells in zip(*block, strict=True))]
        if len(artifacts) > len(rows):
            lines += ["", f"… and {len(artifacts) - len(rows):,} more rows"]
        write_atomically(path, "\n".join(lines).lstrip("\n") + "\n")
        return path

    def state(self) -> dict[str, Any]:
        """The schema with its scales, and the form."""
        return {"form": self.form.to_json(), "columns": [kind.to_json() for kind in self.kinds]}

    @classmethod
    def restore(cls, settings: AnySettings, state: dict[str, Any]) -> Self:
        """The modality that `state` was taken from."""
        assert isinstance(settings, TableSettings)
        table = cls(settings)
        form = from_json(state["form"])
        assert isinstance(form, Row)
        table._form, table.kinds = form, tuple(ColumnKind.restore(column) for column in state["columns"])
        return table


def _sniff(path: Path, column: str | None) -> Sniff:
    kind = frames.kind_of(path)
    if not path.is_file() or not kind:
        return Sniff(0.0, "not a .csv, .tsv or .parquet")
    if kind == "parquet":
        from pyarrow import parquet

        found = parquet.ParquetFile(path).metadata
        return Sniff(0.7, f"{found.num_columns} columns, {found.num_rows:,} rows")
    begin = frames.peek(path)
    wanted = column.split(",") if column else []
    if any(name not in begin.names for name in wanted):
        return Sniff(0.1, f"no column {column!r}")
    lines = frames.count_lines(path)
    rows = f"{lines - 1:,} rows" if lines is not None else "many rows"
    numbers = sum(all(_is_number(row[i]) for row in begin.rows[:50] if len(row) > i) for i in range(len(begin.names)))
    kinds = "of numbers" if numbers == len(begin.names) else "of mixed kinds" if numbers else "of words"
    if len(begin.names) == 1:
        return Sniff(0.3, f"one column, {rows}")
    return Sniff(0.6, f"{len(begin.names)} columns, {rows} {kinds}")


def _is_number(word: str) -> bool:
    return word.strip() in ("", "?", "NA") or word.strip().lstrip("+-").replace(".", "", 1).replace("e-", "").isdigit()


def _typed(values: Any) -> "pandas.Series":
    """An Arrow column as pandas: whole numbers stay whole where some are missing."""
    import pandas as pd
    import pyarrow as arrow

    if arrow.types.is_decimal(values.type):
        values = values.cast(arrow.float64())
    if arrow.types.is_integer(values.type) and values.null_count:
        return pd.Series(
            values.to_pandas(types_mapper={arrow.int64(): pd.Int64Dtype()}.get, integer_object_nulls=True)
        ).astype("Int64")
    return values.to_pandas()


def _as_class(kind: ColumnKind, series: "pandas.Series") -> ColumnKind:
    if kind.kind != "integer" or series.nunique() > GROUPS:
        return kind
    return replace(kind, kind="category", values=tuple(sorted(plain(value) for value in series.dropna().unique())))


def _divides(kind: ColumnKind) -> bool:
    return kind.kind in ("category", "boolean") and 2 <= len(kind.values) <= GROUPS


def _group(series: "pandas.Series") -> list[Any]:
    return [("(missing)" if away else value) for value, away in zip(series.tolist(), series.isna().tolist(), strict=True)]


def _counted(kinds: Sequence[ColumnKind]) -> str:
    words = {
        "number": "of numbers",
        "integer": "of whole numbers",
        "date": "of dates",
        "category": "of categories",
        "boolean": "of truth values",
        "constant": "constant",
        "empty": "empty",
    }
    counts = {kind: sum(k.kind == kind for k in kinds) for kind in words}
    return ", ".join(f"{count} {words[kind]}" for kind, count in counts.items() if count)


def _aligned(cells: list[str], right: bool) -> list[str]:
    short = [cell if len(cell) <= 24 else cell[:23] + "…" for cell in (c.replace("\n", " ") for c in cells)]
    # wide (East Asian) letters take two places
    widths = [sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in cell) for cell in short]
    most = max(widths)
    return [(" " * (most - w) + cell if right else cell + " " * (most - w)) for cell, w in zip(short, widths, strict=True)]


def _blocks(columns: list[list[str]], width: int = 120) -> list[list[list[str]]]:
    blocks: list[list[list[str]]] = []
    used = width
    for column in columns:
        wide = len(column[0]) + 2
        if used + wide > width:
            blocks.append([])
            used = 0
        blocks[-1].append(column)
        used += wide
    return blocks


MODALITY = Table
