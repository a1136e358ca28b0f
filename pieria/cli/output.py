"""What verbs print: tables for people on stdout, or one JSON value when asked."""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pieria.data.storage import finite
from pieria.errors import UsageError

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout, everything else on stderr.")]
Seed = Annotated[int, typer.Option("--seed", help="The same seed gives the same result.", min=0)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would be done; write nothing.")]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda or mps. Not given: the fastest for fitting, else cpu.")
]
As = Annotated[
    str | None, typer.Option("--as", help="What the data are: text, chat, image, table or series. Found when not given.")
]
Column = Annotated[str | None, typer.Option("--column", help="The column to read, where the data have several.")]
To = Annotated[
    str | None,
    typer.Option(
        "--to",
        help="The other side: a file whose line i belongs to line i of DATA, or of pictures what they are to become.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="A hyperparameter, as often as you like; 'pieria explain FAMILY' lists them."
    ),
]
Shots = Annotated[
    Path | None,
    typer.Option(
        "--shots",
        metavar="FILE",
        help="Examples to stand before the prompt: .jsonl, .csv or .tsv with prompt and completion.",
    ),
]
Time = Annotated[str | None, typer.Option("--time", help="A budget of training time: 60s, 10m, 1h.")]


def print_json(value: Any) -> None:
    """One JSON value on stdout; NaN and infinities, which JSON has no word for, are null."""
    text = json.dumps(finite(json.loads(json.dumps(value, default=str))), indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write(text + "\n")


def print_table(header: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
    """A table that fits the terminal."""
    from rich.console import Console
    from rich.table import Table

    texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
    table = Table(
        title=title or None,
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold",
        show_header=any(header),
    )
    for place, name in enumerate(header):
        cells = [row[place] for row in texts if row[place]]
        numbers = place > 0 and bool(cells) and all(_NUMBER.match(cell) for cell in cells)
        table.add_column(name, overflow="fold", justify="right" if numbers else "left")
    for row in texts:
        table.add_row(*row)
    Console(width=width(), soft_wrap=False, markup=False, highlight=False).print(table)


def print_wide_table(header: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """A table whose first column is said again below for the columns that the line has no room for."""
    rows = list(rows)
    widths = [max(len(row[place]) for row in [header, *rows]) + 2 for place in range(len(header))]
    parts: list[list[int]] = [[]]
    for place in range(1, len(header)):
        if parts[-1] and sum(widths[p] for p in [0, *parts[-1], place]) - 2 > width():
            parts.append([])
        parts[-1].append(place)
    for number, part in enumerate(parts):
        if number:
            print()
        chosen = [0, *part]
        print_table([header[p] for p in chosen], [[row[p] for p in chosen] for row in rows], "" if number else title)


def print_records(records: Sequence[Mapping[str, Any]]) -> None:
    """Rows of a person's table: a row a line where that fits, else side by side, a column a line."""
    names = list(records[0])
    widths = [max(len(str(name)), *(len(str(record[name])) for record in records)) for name in names]
    if sum(widths) + 2 * (len(names) - 1) <= width():
        print_table(names, [[record[name] for name in names] for record in records])
        return
    room = width() - max(map(len, names))
    each = max(1, room // (2 + max(len(str(value)) for record in records for value in record.values())))
    for start in range(0, len(records), each):
        part = records[start : start + each]
        if start:
            print()
        header = ["", *(str(start + place) for place in range(len(part)))]
        print_table(header, [[name, *(record[name] for record in part)] for name in names])


# a number, with what may stand around it: a sign, commas, a unit's percent sign, an interval, a note in brackets
_NUMBER = re.compile(r"^(–|[-+−]?[\d.,]+(e[-+]?\d+)?\s?%?(\s…\s.*|\s\(.*\))?)$")


def width() -> int:
    """How wide output may be: the terminal's own width; of a pipe 160, unless COLUMNS says otherwise."""
    if sys.stdout.isatty():
        return shutil.get_terminal_size((100, 24)).columns
    return int(os.environ["COLUMNS"]) if os.environ.get("COLUMNS", "").isdigit() else 160


def say(*lines: str) -> None:
    """Lines for people, on stderr."""
    for line in lines:
        print(line, file=sys.stderr)


def pairs(words: Sequence[str] | None) -> dict[str, str]:
    """``["width=64", "depth=2"]`` as a dictionary.

    >>> pairs(["width=64"])
    {'width': '64'}
    """
    read: dict[str, str] = {}
    for word in words or ():
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise UsageError(f"--set {word}", "KEY=VALUE, such as --set width=64")
        read[name.strip().replace("-", "_")] = value.strip()
    return read
