"""How texts lie in files: plain files, folders of them, JSON records, a column of a table. No torch."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from pieria.data.texts import AnyText, LargeText, opened, read_text
from pieria.errors import DataError, UsageError
from pieria.modalities.contract import Collection, Sniff

PLAIN = (".txt", ".text", ".md", ".rst")
RECORDS = (".jsonl", ".ndjson")
TABLES = (".csv", ".tsv")
PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp")
MANY = 20  # a file of so many short lines is a list
LONG = 1000  # characters of a record, from which on it is a document rather than an item
BETWEEN = "\n\n"  # stands between two items that are joined into one stream
Asked = Literal["auto", "stream", "lines"]
Pairs = Literal["joined", "apart"]


def suffix_of(path: Path) -> str:
    """The suffix that says what is inside: of ``a.txt.gz`` it is ``.txt``."""
    return Path(path.stem).suffix.lower() if path.suffix == ".gz" else path.suffix.lower()


def sniff_folder(path: Path) -> Sniff:
    """A folder is text if text files are most of what it holds and no pictures lie beside them (then they are captions)."""
    try:
        kinds = Counter(suffix_of(file) for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    except OSError:
        return Sniff(0.0, "cannot be read")
    texts, pictures = sum(kinds[kind] for kind in PLAIN), sum(kinds[kind] for kind in PICTURES)
    if not texts or pictures:
        return Sniff(0.0, "captions beside pictures" if texts else "no text files in it")
    return Sniff(0.8 if texts > kinds.total() / 2 else 0.3, f"a folder with {texts:,} text files")


def read(path: Path, column: str | None, asked: Asked, encoding: str, pairs: Pairs = "joined") -> Collection:
    """The texts at ``path`` as one stream or as items, with what was found and which rule decided.

    Records of a prompt and a completion are one text, or two that are kept ``apart``.

    Raises `DataError` that names the file, the line and the cure; `UsageError` for a column that is not there.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist", "a text file or a folder of them", "Check the path")
    suffix = suffix_of(path)
    if suffix in RECORDS:
        if pairs == "apart" and column is None and _hold_pairs(path, encoding):
            return _paired_records(path, asked, encoding)
        return _records(path, column, asked, encoding)
    if suffix in TABLES and column is not None:
        return _column(path, column, asked, encoding)
    if column is not None:
        raise UsageError(f"--column {column} with {path.name}", "a file with columns (.csv, .tsv, .jsonl)", "Leave it out")
    if path.is_dir():
        return _folder(path, asked, encoding)
    text, findings = read_text(path, encoding)
    if isinstance(text, LargeText):
        if asked == "lines":
            raise DataError(
                f"{path} has {len(text):,} bytes", "items that fit into memory", "Read it as one stream: --set items=stream"
            )
        return Collection([text], findings=[*findings, "read as one stream, since it is large"], stream=True)
    lines = text.splitlines() if asked != "stream" else []
    if asked == "auto":
        asked, why = _stream_or_lines(lines)
        findings.append(f"read as {'one item a line' if asked == 'lines' else 'one stream'}: {why}")
    if asked == "stream":
        findings.insert(
            0, f"{len(text):,} characters, {len(set(text)):,} different ones, {text.count(chr(10)):,} line breaks"
        )
        return Collection([text], findings=findings, stream=True)
    return _lines(lines, findings)


def read_two(path: Path, to: Path, asked: Asked, encoding: str, pairs: Pairs = "joined") -> Collection:
    """Two files, line i of one belonging to line i of the other: prompts from ``path``, completions from ``to``.

    Raises `DataError` for files that do not have the same number of lines.
    """
    sides = []
    for side in (path, to):
        if side.is_dir() or suffix_of(side) in RECORDS:
            raise UsageError(
                f"{side} beside another file", "two text files with one item a line", "Name the two files, one with --to"
            )
        text, _ = read_text(side, encoding)
        if isinstance(text, LargeText):
            raise DataError(f"{side} has {len(text):,} bytes", "pairs that fit into memory", "Cut both files into parts")
        sides.append(text.removesuffix("\n").split("\n"))
    if len(sides[0]) != len(sides[1]):
        raise DataError(
            f"{path} has {len(sides[0]):,} lines and {to} has {len(sides[1]):,}",
            "as many, since line i of each belong together",
            "Compare the two files around the first line that does not fit",
        )
    return _paired(path, [(a.strip(), b.strip()) for a, b in zip(*sides, strict=True)], asked, pairs, "lines")


def _stream_or_lines(lines: list[str]) -> tuple[Asked, str]:
    """A list of names or words is items; prose and verse are a stream."""
    body = lines[:10_000]
    if len(body) < MANY:
        return "stream", f"fewer than {MANY} lines"
    if any(not line.strip() for line in body[:-1]):
        return "stream", "blank lines stand between paragraphs"
    short = sum(len(line.split()) <= 3 and len(line) <= 80 for line in body) / len(body)
    if short >= 0.95:
        return (
            "lines",
            f"{short:.0%} of the lines have at most three words, and none is blank (items=stream reads it as prose)",
        )
    return "stream", f"only {short:.0%} of the lines have at most three words (items=lines makes each line an item)"


def _lines(lines: list[str], findings: list[str]) -> Collection:
    items = [line.strip() for line in lines]
    blank = sum(not item for item in items)
    items = [item for item in items if item]
    if not items:
        raise DataError("there is no line with text", "one item a line", "Check the file")
    lengths = sorted(len(item) for item in items)
    findings.insert(
        0,
        f"{len(items):,} items, {len(set(items)):,} different ones, {lengths[0]} to {lengths[-1]} characters "
        f"(median {lengths[len(lengths) // 2]})",
    )
    if blank:
        findings.append(f"{blank:,} blank lines were left out")
    return Collection(items, findings=findings)


def _folder(path: Path, asked: Asked, encoding: str) -> Collection:
    files = sorted(
        file for file in path.rglob("*") if file.is_file() and suffix_of(file) in PLAIN and not file.name.startswith(".")
    )
    if not files:
        raise DataError(f"{path} holds no text files", f"files that end with {', '.join(PLAIN)}", "Name another folder")
    if len(files) == 1:
        return read(files[0], None, asked, encoding)
    texts: list[AnyText] = []
    findings = []
    for file in files:
        text, found = read_text(file, encoding)
        # the last line of one file and the first of the next are two lines
        texts.append(text + "\n" if isinstance(text, str) and not text.endswith("\n") else text)
        findings += [f"{file.name}: {finding}" for finding in found]
    if asked == "lines":
        if any(isinstance(text, LargeText) for text in texts):
            raise DataError(
                f"{path} holds very large files", "items that fit into memory", "Read it with --set items=stream"
            )
        return _lines([line for text in texts if isinstance(text, str) for line in text.splitlines()], findings)
    findings.insert(0, f"{len(files):,} files, read in the order of their names as one stream")
    return Collection(texts, findings=findings, stream=True)


# ---- pairs -----------------------------------------------------------------------------------------------------------


def _hold_pairs(path: Path, encoding: str) -> bool:
    """Whether the first record has a prompt or a completion."""
    first = next((line for line in _lines_of(path, encoding) if line.strip()), "")
    try:
        record = json.loads(first)
    except ValueError:
        return False
    return isinstance(record, dict) and bool({"prompt", "completion"} & set(record)) and "text" not in record


def _paired_records(path: Path, asked: Asked, encoding: str) -> Collection:
    found: list[tuple[str, str]] = []
    for number, record in _each_record(path, encoding):
        sides = [record.get(name) if isinstance(record, dict) else None for name in ("prompt", "completion")]
        missing = [name for name, side in zip(("prompt", "completion"), sides, strict=True) if not isinstance(side, str)]
        if missing:
            raise DataError(
                f"{path}, line {number:,} has no {' and no '.join(missing)}",
                '{"prompt": "…", "completion": "…"}, both of them text',
                "Complete or remove the line",
            )
        found.append((str(sides[0]).strip(), str(sides[1]).strip()))
    return _paired(path, found, asked, "apart", "records")


def _paired(path: Path, found: list[tuple[str, str]], asked: Asked, pairs: Pairs, what: str) -> Collection:
    if asked == "stream" and pairs == "apart":
        raise UsageError(f"pairs ({path.name}) as one stream", "items, each with its prompt", "Leave out --set items=stream")
    whole = [pair for pair in found if all(pair)]
    if not whole:
        raise DataError(f"{path} holds no pair with text on both sides", "at least one", "Check that it was written")
    findings = [f"{len(whole):,} pairs of {what}, {len(set(whole)):,} different ones"]
    if len(whole) < len(found):
        first = next(number for number, pair in enumerate(found, 1) if not all(pair))
        findings.append(
            f"{len(found) - len(whole):,} pairs with an empty side were left out, the first of them number {first:,}"
        )
    if pairs == "joined":
        findings.append(_said("prompt"))
        texts = [joined(pair) for pair in whole]
        if asked == "stream":
            return _collected(path, texts, [], asked, findings)
        return Collection(texts, findings=findings)
    findings.append("each completion is learned given its prompt")
    return Collection([b for _, b in whole], prompts=[a for a, _ in whole], findings=findings)


def joined(pair: tuple[str, str]) -> str:
    """A prompt and its completion as one text."""
    return f"{pair[0]}\n{pair[1]}"


def pairs_in(path: Path, encoding: str = "utf-8") -> list[tuple[str, str]]:
    """Prompts and completions from the records of a ``.jsonl``, or the columns of these names of a ``.csv`` or ``.tsv``.

    Raises `DataError` that names the file, the record and the side that is missing or empty.
    """
    wanted = '"prompt" and "completion", both of them text'
    if not path.is_file() or suffix_of(path) not in (*TABLES, *RECORDS):
        raise DataError(f"{path} holds no pairs", f"a {', '.join((*RECORDS, *TABLES))} with {wanted}", "Check the path")
    records = suffix_of(path) in RECORDS
    rows = list(_each_record(path, encoding)) if records else list(enumerate(rows_of(path, encoding), 1))
    if not rows:
        raise DataError(f"{path} is empty", "at least one pair", "Check that it was written")
    if not records and (missing := {"prompt", "completion"} - set(rows[0][1])):
        known = ", ".join(map(str, rows[0][1]))
        raise DataError(f"{path.name} has no column {min(missing)!r}", f"its columns are: {known}", "Rename two of them")
    found = []
    for number, record in rows:
        sides = [record.get(name) if isinstance(record, dict) else None for name in ("prompt", "completion")]
        lacking = [
            name
            for name, side in zip(("prompt", "completion"), sides, strict=True)
            if not isinstance(side, str) or not side.strip()
        ]
        if lacking:
            where = f"line {number:,}" if records else f"row {number:,}"
            raise DataError(f"{path}, {where} has no {' and no '.join(lacking)}", wanted, "Complete or remove it")
        found.append((str(sides[0]).strip(), str(sides[1]).strip()))
    return found


def prompts_in(path: Path | None, piped: IO[str], encoding: str = "utf-8") -> list[str]:
    """One prompt a line of a file, or of what is ``piped`` in without one; of ``.jsonl`` each record's prompt, or text."""
    if path is None:
        return [line.strip() for line in piped.read().removesuffix("\n").split("\n")]
    if not path.is_file():
        raise DataError(f"{path} is not a file", "a file with one text a line, or - for standard input", "Check the path")
    if suffix_of(path) not in RECORDS:
        text, _ = read_text(path, encoding)
        if isinstance(text, LargeText):
            raise DataError(f"{path} has {len(text):,} bytes", "texts that fit into memory", "Cut it into parts")
        return [line.strip() for line in text.removesuffix("\n").split("\n")]
    found = []
    for number, record in _each_record(path, encoding):
        fields = record if isinstance(record, dict) else {}
        said = record if isinstance(record, str) else fields.get("prompt", fields.get("text"))
        if not isinstance(said, str):
            wanted = '{"prompt": "…"}, {"text": "…"}, or a string'
            raise DataError(f"{path}, line {number:,} has no prompt", wanted, "Complete the line")
        found.append(said.strip())
    return found


# ---- records ---------------------------------------------------------------------------------------------------------


def _records(path: Path, column: str | None, asked: Asked, encoding: str) -> Collection:
    texts: list[str] = []
    fields: list[dict[str, Any]] = []
    kinds: Counter[str] = Counter()
    for number, record in _each_record(path, encoding):
        text, kind = _text_of(record, column, path, number)
        texts.append(text)
        fields.append(record if isinstance(record, dict) else {})
        kinds[kind] += 1
    return _collected(path, texts, fields, asked, [f"{len(texts):,} records", *[_said(kind) for kind in kinds]])


def _each_record(path: Path, encoding: str) -> Iterator[tuple[int, Any]]:
    """The number of each line that is not blank, and what it holds."""
    for number, line in enumerate(_lines_of(path, encoding), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except ValueError as error:
            raise DataError(
                f"{path}, line {number:,} is not JSON ({error})",
                'a record such as {"text": "…"}',
                "Correct or remove the line",
            ) from None


def _lines_of(path: Path, encoding: str) -> Iterator[str]:
    text, _ = read_text(path, encoding)
    if isinstance(text, LargeText):
        for piece in text.pieces():
            yield from piece.split("\n")
    else:
        yield from text.split("\n")


def _text_of(record: Any, column: str | None, path: Path, number: int) -> tuple[str, str]:
    wanted = 'a string, or a record with "text", "prompt" and "completion", or "messages"'
    if isinstance(record, str):
        return record, "strings"
    if not isinstance(record, dict):
        raise DataError(f"{path}, line {number:,} is a {type(record).__name__}", wanted, "Correct or remove the line")
    if column is not None:
        if not isinstance(record.get(column), str):
            raise DataError(
                f"{path}, line {number:,} has no text under {column!r}", f"one of {', '.join(record)}", "Check it"
            )
        return record[column], "column"
    if isinstance(record.get("text"), str):
        return record["text"], "text"
    if isinstance(record.get("prompt"), str) and isinstance(record.get("completion"), str):
        return joined((record["prompt"], record["completion"])), "prompt"
    messages = record.get("messages")
    if isinstance(messages, list) and all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in messages
    ):
        return "\n".join(f"{message['role']}: {message['content']}" for message in messages), "messages"
    raise DataError(
        f"{path}, line {number:,} has the fields {', '.join(map(str, record)) or 'none'}",
        wanted,
        "Name the field with --column",
    )


def _said(kind: str) -> str:
    return {
        "strings": "each record is a string",
        "text": 'each text is the field "text"',
        "column": "each text is the field named by --column",
        "prompt": "prompt and completion were joined with a line break between them into one text (a family that is "
        "conditioned on texts reads them apart)",
        "messages": 'conversations were flattened to text, one "role: content" line a message',
    }[kind]


def rows_of(path: Path, encoding: str = "utf-8") -> list[dict[str, Any]]:
    """Every row of a ``.csv`` or ``.tsv`` (all strings) or record of a ``.jsonl``, by the names of its columns.

    Raises `DataError` for a file that is not there, is no such table, or is damaged.
    """
    if not path.is_file() or suffix_of(path) not in (*TABLES, *RECORDS):
        raise DataError(
            f"{path} is not a table", f"a file that ends with {', '.join((*TABLES, *RECORDS))}", "Check the path"
        )
    if suffix_of(path) in RECORDS:
        return [record for _, record in _each_record(path, encoding) if isinstance(record, dict)]
    try:
        with opened(path) as raw:
            # quotes are left alone in tab-separated files, where they are part of the text
            tabs = suffix_of(path) == ".tsv"
            lines = io.TextIOWrapper(raw, encoding=encoding, newline="")
            quoting: Literal[0, 3] = csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
            return list(csv.DictReader(lines, delimiter="\t" if tabs else ",", quoting=quoting, restval=""))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table ({error})", f"text in {encoding}", "Check the file") from None


def _column(path: Path, column: str, asked: Asked, encoding: str) -> Collection:
    rows = rows_of(path, encoding)
    if not rows or column not in rows[0]:
        known = ", ".join(rows[0]) if rows else "none"
        raise UsageError(f"{path.name} has no column {column!r}", f"its columns are: {known}", "Name one of them")
    whole = [row for row in rows if isinstance(row[column], str) and row[column].strip()]
    findings = [f"{len(whole):,} texts from column {column!r}"]
    if len(whole) < len(rows):
        findings.append(f"{len(rows) - len(whole):,} rows without text in it were left out")
    return _collected(path, [row[column] for row in whole], [{**row, column: None} for row in whole], asked, findings)


def _collected(
    path: Path, texts: list[str], fields: Sequence[dict[str, Any]], asked: Asked, findings: list[str]
) -> Collection:
    if not any(texts):
        raise DataError(f"{path} holds no text", "at least one record", "Check that it was written")
    middle = sorted(map(len, texts))[len(texts) // 2]
    if asked == "auto" and middle > LONG:
        asked = "stream"
        findings.append(f"half of them have more than {middle:,} characters (items=lines keeps them apart)")
    if asked == "stream":
        findings.append("joined into one stream, a blank line between two of them")
        return Collection([BETWEEN.join(texts) + "\n"], findings=findings, stream=True)
    collection = Collection(texts, findings=findings)
    for name in {name: None for record in fields[:1000] for name in record}:
        values = [record.get(name) for record in fields]
        few = {value for value in values if isinstance(value, str | int | float | None) and len(str(value)) <= 60}
        if not all(isinstance(value, str | int | float) for value in values) or not 1 < len(few) <= 50 or set(values) != few:
            continue
        collection.groups[str(name)] = values
        if name in ("label", "class"):
            collection.classes = tuple(sorted({str(value) for value in values}))
            place = {value: code for code, value in enumerate(collection.classes)}
            collection.labels = [place[str(value)] for value in values]
            findings.append(f"{len(collection.classes)} classes from {name!r}")
    return collection
