"""``pieria embed``: texts as vectors."""

import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pieria.cli.draw import RunPath
from pieria.cli.fill import What, texts_of
from pieria.cli.output import AsJson, Column, Device, DryRun, print_json, say
from pieria.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np


def embed(
    run: RunPath,
    what: What,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A .csv (each text before its numbers) or a .npy (numbers alone).")
    ] = None,
    column: Column = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="How many are read together.")] = 64,
    device: Device = None,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Turn texts into vectors, one a row: near to each other where texts are alike; of a long text its beginning is read.

    Blank lines are left out. Without --out the rows go to stdout.

    Examples:  pieria embed runs/0001-bert-sst2 texts.txt --out vectors.npy  ·
    pieria embed runs/0001-bert-sst2 reviews.csv --column review --out vectors.csv
    """
    if out is not None and out.suffix.lower() not in (".csv", ".npy"):
        raise UsageError(f"--out {out}", "a file that ends with .csv or .npy", "Name it so")
    import numpy as np
    from rich.console import Console
    from rich.progress import track

    import pieria
    from pieria.data.storage import write_atomically

    texts = _texts(what, column)
    loaded = pieria.load(run, device=device)
    parts = [loaded.embed(texts[:1])]  # a family without vectors says so before anything else is read
    features = parts[0].shape[1]
    if dry_run:
        say(f"would write {len(texts):,} vectors of {features:,} numbers" + (f" to {out}" if out is not None else ""))
        return
    starts = range(1, len(texts), batch)
    screen = Console(stderr=True)
    for start in track(starts, "embedding", console=screen, transient=True, disable=not screen.is_terminal):
        parts.append(loaded.embed(texts[start : start + batch], batch=batch))
    vectors = np.concatenate(parts)
    if out is not None:
        write_atomically(out, _npy(vectors) if out.suffix.lower() == ".npy" else _csv(texts, vectors))
        say(f"{len(vectors):,} vectors of {features:,} numbers")
    if json:
        rows = [{"text": text, "vector": row} for text, row in zip(texts, vectors.tolist(), strict=True)]
        said = {"run": str(run), "count": len(vectors), "features": features, "files": [] if out is None else [str(out)]}
        print_json(said if out is not None else {**said, "items": rows})
    elif out is not None:
        print(out)
    else:
        sys.stdout.write(_csv(texts, vectors))


def _texts(what: str, column: str | None) -> list[str]:
    """The texts of a column, or what `texts_of` finds."""
    from pieria.modalities.documents import TABLES, rows_of, suffix_of

    path = Path(what).expanduser()
    if column is None and not (suffix_of(path) in TABLES and path.is_file()):
        return texts_of(what)
    rows = rows_of(path)
    if column is None or not rows or column not in rows[0]:
        known = ", ".join(rows[0]) if rows else "none"
        got = f"{path.name} without --column" if column is None else f"{path.name} has no column {column!r}"
        raise UsageError(got, f"its columns are: {known}", "Name one of them")
    texts = [str(row[column]) for row in rows if str(row.get(column) or "").strip()]
    if not texts:
        raise DataError(f"{path.name} has no text in {column!r}", "at least one", "Check the file")
    if len(texts) < len(rows):
        say(f"{len(rows) - len(texts):,} rows without text in {column!r} were left out")
    return texts


def _csv(texts: list[str], vectors: "np.ndarray") -> str:
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(["text", *(f"v{place}" for place in range(1, vectors.shape[1] + 1))])
    # nine digits give a float32 back exactly
    rows.writerows([text, *(f"{value:.9g}" for value in row)] for text, row in zip(texts, vectors.tolist(), strict=True))
    return written.getvalue()


def _npy(vectors: "np.ndarray") -> bytes:
    import numpy as np

    written = io.BytesIO()
    np.save(written, vectors, allow_pickle=False)
    return written.getvalue()
