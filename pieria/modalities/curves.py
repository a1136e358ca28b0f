"""A measured curve: which columns it is in, in what order, how it looks in a file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pieria.errors import DataError, UsageError
from pieria.modalities import frames
from pieria.modalities.contract import Sniff
from pieria.modalities.dates import MONTHLY, said, years_of
from pieria.modalities.schema import Reading, from_text

if TYPE_CHECKING:
    from pieria.modalities.columns import ColumnKind


@dataclass(frozen=True)
class Measured:
    """A curve: ``y`` (float64) at ``x`` (float64, or datetime64 for dates), in order of ``x``.

    ``names`` are the two columns' names, ``format`` how the dates are written, ``decimals`` how the values are;
    ``observed`` tells data from draws.
    """

    x: np.ndarray
    y: np.ndarray
    name: str = ""
    names: tuple[str, str] = ("x", "y")
    format: str = ""
    decimals: int | None = None
    observed: bool = True

    def __len__(self) -> int:
        return len(self.x)

    def to_json(self) -> dict[str, list[str] | list[float]]:
        """Its two columns by name, dates as they are written."""
        x: list[str] | list[float] = self.x.tolist() if self.x.dtype.kind != "M" else [said(p, self.format) for p in self.x]
        return {self.names[0]: x, self.names[1]: self.y.tolist()}

    def points(self, places: slice) -> "Measured":
        """Some of the points."""
        return replace(self, x=self.x[places], y=self.y[places])


def choose_x(path: Path, names: list[str], kinds: "dict[str, ColumnKind]", column: str | None, wanted: str) -> str:
    """The column that says where or when: the wanted one, else the first with dates, else the first with numbers."""
    usable = [name for name in names if name in kinds and name != column]
    dates = [name for name in usable if is_date(kinds[name])]
    if wanted and wanted not in usable:
        raise DataError(f"{path}: column {wanted!r} holds words", "dates or numbers", "Name another with x=…")
    if not usable:
        raise DataError(
            f"{path} has no column of dates or numbers to measure over", "two columns", "Read it with --as table"
        )
    return wanted or (dates or usable)[0]


def in_order(path: Path, curve: Measured, duplicates: str) -> tuple[Measured, list[str]]:
    """Missing points left out, the rest sorted, doubled places refused or averaged; each told."""
    findings = []
    gone = np.isnan(curve.y) | (np.isnat(curve.x) if curve.x.dtype.kind == "M" else np.isnan(curve.x))
    if gone.any():
        findings.append(f"{int(gone.sum()):,} rows without a value were left out")
        curve = replace(curve, x=curve.x[~gone], y=curve.y[~gone])
    if len(curve) < 2:
        raise DataError(f"{path} holds {len(curve)} points", "at least 2", "Look at how it was made")
    if (np.diff(curve.x.astype(np.int64) if curve.x.dtype.kind == "M" else curve.x) < 0).any():
        findings.append("the rows were not in order: sorted")
        order = np.argsort(curve.x, kind="stable")
        curve = replace(curve, x=curve.x[order], y=curve.y[order])
    places, first, counts = np.unique(curve.x, return_index=True, return_counts=True)
    doubled = int((counts > 1).sum())
    if doubled:
        where = said(places[int((counts > 1).argmax())], curve.format)
        if duplicates == "refuse":
            raise DataError(
                f"{path}: {doubled:,} places have several values, the first {where}",
                "one value a place",
                "Set duplicates=mean, or correct the file",
            )
        findings.append(f"{doubled:,} places with several values, such as {where}: their mean is taken")
        curve = replace(curve, x=places, y=np.add.reduceat(curve.y, first) / counts)
    steps = np.diff(years_of(curve.x, curve.format == MONTHLY) if curve.x.dtype.kind == "M" else curve.x)
    gaps = int((steps > 1.5 * np.median(steps)).sum())
    if gaps:
        findings.append(f"{gaps:,} gaps (steps of more than one and a half times the usual one)")
    return curve, findings


def choose_y(
    path: Path, x: np.ndarray, values: dict[str, np.ndarray], names: list[str], column: str | None
) -> tuple[str, list[str]]:
    """The column that is measured, and what is said about the others."""
    numbers = [name for name in names if name in values and values[name].dtype.kind == "f"]
    if column is not None:
        if column not in numbers:
            raise DataError(
                f"{path}: column {column!r} does not hold numbers", f"one of {', '.join(numbers)}", "Name another"
            )
        return column, []
    repeats = []
    if x.dtype.kind == "M" and len(numbers) > 1:
        years = years_of(x, monthly=False)
        # a decimal date beside the date says the same again
        repeats = [name for name in numbers if np.nanmax(np.abs(values[name] - years), initial=0) < 0.2]
    candidates = [name for name in numbers if name not in repeats]
    if len(candidates) > 1:
        raise UsageError(
            f"{path} has {len(candidates)} columns that could be measured: {', '.join(candidates[:8])}",
            "one of them",
            f"Name it with --column {candidates[0]}, or read all with --as table",
        )
    if not candidates:
        raise DataError(f"{path} has no column of numbers beside {', '.join(names[:1])}", "two columns", "Check the file")
    return candidates[0], [f"column {name!r} repeats the dates and is left out" for name in repeats]


def is_date(kind: "ColumnKind") -> bool:
    """Whether a column holds dates."""
    return kind.kind == "date" or (kind.kind == "constant" and "%" in kind.format)


def is_numbers(kind: "ColumnKind") -> bool:
    """Whether a column holds numbers, even if only one or two different ones."""
    if kind.kind in ("number", "integer"):
        return True
    return kind.kind in ("category", "constant") and all(v is None or type(v) in (int, float) for v in kind.values)


def csv_of(curves: Sequence[Measured]) -> str:
    """The text of a `.csv`: several curves over the same places stand side by side."""
    import pandas as pd

    x_name, y_name = curves[0].names
    many = len(curves) > 1
    table = {x_name: [said(place, curves[0].format) for place in curves[0].x]}
    for place, curve in enumerate(curves, 1):
        table[f"{y_name}_{place}" if many else y_name] = [_value(value, curve.decimals) for value in curve.y.tolist()]
    return str(pd.DataFrame(table).to_csv(index=False, lineterminator="\n"))


def _value(value: float, decimals: int | None) -> str:
    # counts are written whole where they are whole; a function drawn between them is not rounded to one
    return f"{value:.{decimals}f}" if decimals else f"{value:.10g}"


def decimals_of(kind: "ColumnKind") -> int | None:
    """How many digits after the point the values have, or None where that varies."""
    return kind.decimals if kind.padded else None


def sniff(path: Path, column: str | None) -> Sniff:
    """How sure that a file holds one curve: dates or growing numbers, and one column of numbers beside them."""
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if not file.name.startswith(".")][:20]
        each = [sniff(file, column) for file in files if frames.kind_of(file)]
        if len(each) < 2 or len(each) < len(files) / 2:
            return Sniff(0.0, "no folder of series")
        least = min(found.confidence for found in each)
        return Sniff(least, f"a folder of files like {files[0].name}: {each[0].reason}")
    if not path.is_file() or frames.kind_of(path) != "csv":
        return Sniff(0.0, "not a .csv or .tsv")
    import pyarrow as arrow

    begin = frames.peek(path)
    if column is not None and column not in begin.names:
        return Sniff(0.0, f"no column {column!r}")
    rows = [row for row in begin.rows[:300] if len(row) == len(begin.names)]
    reading = Reading(("", "?", "NA", "N/A", "NaN", "nan", "null"), most=2**31)
    kinds, values = {}, {}
    for place, name in enumerate(begin.names):
        kind, series, _ = from_text(name, arrow.chunked_array([[row[place] for row in rows]], arrow.string()), reading)
        if is_date(kind) or is_numbers(kind):
            kinds[name], values[name] = kind, series.astype(object)
    dates = [name for name in kinds if is_date(kinds[name])]
    numbers = [name for name in kinds if name not in dates]
    if len(rows) < 2 or len(kinds) < len(begin.names) or not begin.names:
        return Sniff(0.1, "not all columns are dates or numbers")
    if len(dates) == 1:
        x = values[dates[0]].to_numpy("datetime64[us]")
        years = years_of(x, monthly=False)
        others = [
            n
            for n in numbers
            if not np.nanmax(np.abs(values[n].to_numpy(np.float64, na_value=np.nan) - years), initial=0) < 0.2
        ]
        if len(np.unique(x)) < len(x):
            return Sniff(0.3, f"the dates in {dates[0]!r} repeat")
        if len(others) == 1 or column in others:
            return Sniff(0.9, f"dates in {dates[0]!r} and numbers in {column or others[0]!r}")
        return (
            Sniff(0.5, f"dates in {dates[0]!r} and {len(others)} columns of numbers") if others else Sniff(0.0, "no numbers")
        )
    if len(numbers) == 2 and not dates:
        x = values[begin.names[0]].to_numpy(np.float64, na_value=np.nan)
        if len(x) >= 5 and (np.diff(x) > 0).all():
            return Sniff(0.7, f"growing numbers in {begin.names[0]!r} and numbers in {begin.names[1]!r}")
    return Sniff(0.2, "no column says where or when")
