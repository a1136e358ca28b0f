"""Delimited text and parquet as named columns: what can be wrong with such files is found here, and named by line.

Text is read by Arrow as strings, whole columns at a time (a million rows in seconds); what they mean is decided in
`columns`. Nothing is guessed silently: short and long rows, doubled and empty names are errors or findings.
"""

import csv
import gzip
import io
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pieria.errors import DataError

if TYPE_CHECKING:
    import pyarrow

TEXT_SUFFIXES = (".csv", ".tsv", ".tab")
SUFFIXES = (*TEXT_SUFFIXES, *(suffix + ".gz" for suffix in TEXT_SUFFIXES), ".parquet")
PEEK = 1 << 16


@dataclass
class Peek:
    """The beginning of a delimited file: the names, up to a few hundred rows, what separates them."""

    names: list[str]
    rows: list[list[str]]
    separator: str
    whole: bool


@dataclass
class Columns:
    """The columns of a file: Arrow strings (text) or typed Arrow arrays (parquet), with what was found."""

    table: "pyarrow.Table"
    typed: bool
    findings: list[str] = field(default_factory=list)


def kind_of(path: Path) -> str:
    """``csv``, ``parquet`` or nothing, by the name."""
    name = path.name.lower()
    return "parquet" if name.endswith(".parquet") else "csv" if name.removesuffix(".gz").endswith(TEXT_SUFFIXES) else ""


def require(path: Path, what: str) -> None:
    """Raise `DataError` unless ``path`` is a file with one of our suffixes."""
    try:
        got = f"{path} is a folder" if path.is_dir() else f"{path} does not exist" if not path.exists() else ""
    except OSError as error:
        got = f"{path} cannot be reached ({error.strerror})"
    if not got and not kind_of(path):
        got = f"{path} is no {what}"
    if got:
        raise DataError(got, f"a file that ends with {', '.join(SUFFIXES)}", "Check the path")


def raw(path: Path, limit: int = -1) -> bytes:
    """The bytes of a file, unpacked if it is gzipped; `DataError` if it cannot be read or ends too early."""
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if zipped else path.open("rb") as file:
            return file.read(limit)
    except (OSError, EOFError, zlib.error) as error:
        said = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read ({said})", "a whole, readable file", "Check it, or fetch it again") from None


def peek(path: Path, separator: str = "auto", encoding: str = "utf-8") -> Peek:
    """The beginning of a delimited file. Raises `DataError` for an empty file, for bytes, for another encoding."""
    start = raw(path, PEEK)
    whole = len(start) < PEEK
    if not start.strip():
        raise DataError(f"{path} is empty", "a header and rows", "Look at how it was made")
    if b"\x00" in start and not encoding.lower().startswith("utf-16"):
        raise DataError(f"{path} holds bytes, not text", "comma-separated text", "Say what it is with --as")
    try:
        # the cut may fall inside a character
        text = start.decode(encoding) if whole else start.decode(encoding, "ignore")
        if not whole:
            start[: PEEK - 8].decode(encoding)
    except (UnicodeDecodeError, LookupError) as error:
        if not whole and getattr(error, "end", 0) >= PEEK - 12:
            text = start.decode(encoding, "ignore")
        else:
            raise DataError(
                f"{path} is not {encoding} ({error})",
                "text in the stated encoding",
                "Set encoding=latin-1, cp1252 or another",
            ) from None
    text = text.removeprefix("\ufeff")
    if separator == "auto":
        first = text.partition("\n")[0]
        separator = max((",", "\t", ";", "|"), key=first.count)
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    rows = [row for row in (rows if whole else rows[:-1] or rows) if row]
    if not rows:
        raise DataError(f"{path} holds no rows", "a header and rows", "Look at how it was made")
    return Peek([name.strip() for name in rows[0]], rows[1:], separator, whole)


def count_lines(path: Path) -> int | None:
    """How many lines a file has, or None where counting would take long."""
    return None if path.stat().st_size > 64 * 1024**2 else raw(path).rstrip(b"\n").count(b"\n") + 1


def check_names(names: list[str], path: Path) -> None:
    """Raise `DataError` for empty and for doubled column names, naming them."""
    empty = [place for place, name in enumerate(names, 1) if not name]
    if empty:
        raise DataError(
            f"{path}: column {', '.join(map(str, empty[:5]))} has no name",
            "a name for every column",
            "Name it in the first line, or set header=false if there is no header",
        )
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise DataError(
            f"{path}: the column name{'s' if len(doubled) > 1 else ''} {', '.join(map(repr, doubled[:5]))} occur"
            f"{'' if len(doubled) > 1 else 's'} twice",
            "different names",
            "Rename one of them",
        )


def read_text(
    path: Path, *, separator: str = "auto", encoding: str = "utf-8", header: bool = True, ragged: Literal["refuse", "skip"]
) -> Columns:
    """All columns of a delimited file as strings.

    Raises `DataError` for rows with too few or too many fields, naming the line (or skips and counts them), for names
    that are empty or doubled, for a file without rows.
    """
    import pyarrow as arrow
    from pyarrow import csv as arrow_csv

    begin = peek(path, separator, encoding)
    if header and not begin.rows and begin.whole:
        raise DataError(f"{path} holds one line", "a header and rows", "Look at how it was made")
    names = begin.names
    if header:
        if all(_is_number(name) for name in names):
            raise DataError(
                f"{path} begins with numbers, not names", "a header", "Set header=false, or add a first line of names"
            )
        check_names(names, path)
    else:
        names = [f"column_{place}" for place in range(1, len(names) + 1)]
    bad: list[Any] = []

    def handle(row: Any) -> str:
        bad.append((row.text, row.actual_columns))
        return "skip" if ragged == "skip" else "error"

    content = raw(path)
    try:
        table = arrow_csv.read_csv(
            io.BytesIO(content),
            read_options=arrow_csv.ReadOptions(
                use_threads=False, encoding=encoding, column_names=names, skip_rows_after_names=0, skip_rows=0
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=begin.separator, newlines_in_values=True, invalid_row_handler=handle, ignore_empty_lines=True
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types={name: arrow.string() for name in names}, strings_can_be_null=False
            ),
        )
    except (arrow.ArrowInvalid, arrow.ArrowException, UnicodeDecodeError, LookupError) as error:
        if bad and ragged == "refuse":
            text, count = bad[0]
            raise DataError(
                f"{path}: line {_line(content, text, encoding)} has {count} fields: {text[:80]!r}",
                f"{len(names)}, as in the header",
                "Correct it, or leave such rows out with ragged=skip",
            ) from None
        if "UTF8" in str(error) or isinstance(error, UnicodeDecodeError):
            raise DataError(
                f"{path} is not {encoding}", "text in the stated encoding", "Set encoding=latin-1 or another"
            ) from None
        raise DataError(
            f"{path} cannot be parsed ({error})", "delimited text", "Look at its quotes and separators"
        ) from None
    if header:
        table = table.slice(1)  # names are given, so that the header line comes as the first row
    if table.num_rows == 0:
        raise DataError(f"{path} holds a header and no rows", "rows", "Look at how it was made")
    findings = []
    if bad:
        text, count = bad[0]
        findings.append(
            f"{len(bad):,} of {table.num_rows + len(bad):,} rows do not have {len(names)} fields and were left out, "
            f"the first in line {_line(content, text, encoding)}"
        )
    return Columns(table, typed=False, findings=findings)


def read_parquet(path: Path) -> Columns:
    """All columns of a parquet file, typed. Raises `DataError` for a damaged file or one without rows."""
    import pyarrow as arrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read ({error})", "a parquet file", "Fetch or write it again") from None
    check_names([str(name) for name in table.column_names], path)
    if table.num_rows == 0:
        raise DataError(f"{path} holds no rows", "rows", "Look at how it was made")
    return Columns(table, typed=True)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _line(content: bytes, text: str, encoding: str) -> int | str:
    """The number of the line that reads ``text``; Arrow counts rows, in which a quoted line break hides."""
    place = content.find(b"\n" + text.partition("\n")[0].encode(encoding, "replace"))
    return content.count(b"\n", 0, place + 1) + 1 if place >= 0 else "?"
