"""What a verb of the latent space found, and the files that show it."""

import csv
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from pieria.data.storage import write_atomically
from pieria.errors import UsageError
from pieria.modalities.contract import Artifact, Modality

Content = Callable[[], bytes | str]


@dataclass
class View:
    """What one verb found.

    Attributes:
        verb: its name.
        artifacts: what was decoded, in order: pictures, rows, curves.
        codes: of each of them, ``[n, numbers]``.
        rows: a table, a dictionary a line.
        words: what a person should know of it, in sentences.
        parts: the files that show it: name to what makes their content.
        files: those that were written.
    """

    verb: str
    artifacts: Sequence[Artifact]
    codes: Tensor
    rows: list[dict[str, Any]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    parts: dict[str, Content] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)

    def write(self, out: str | Path) -> list[Path]:
        """Write all files into a directory, or with a suffix (``morph.gif``) the one that has this suffix.

        Raises `UsageError` for a suffix that none of them has.
        """
        out = Path(out)
        if out.suffix and not out.is_dir():
            name = next((name for name in self.parts if Path(name).suffix == out.suffix.lower()), None)
            if name is None:
                known = ", ".join(dict.fromkeys(Path(name).suffix for name in self.parts))
                raise UsageError(f"{self.verb} writes no {out.suffix}", f"{known}, or a directory", "Change --out")
            asked = {out: self.parts[name]}
        else:
            asked = {out / name: content for name, content in self.parts.items()}
        made = {path: content() for path, content in asked.items()}  # all of them before one is written: some may fail
        for path, content in made.items():
            write_atomically(path, content)
        self.files = list(made)
        return self.files

    def to_json(self) -> dict[str, Any]:
        """For ``--json``; codes stand in ``codes.csv``."""
        plain = [artifact for artifact in self.artifacts if isinstance(artifact, str | dict)]
        return {
            "verb": self.verb,
            "rows": self.rows,
            "words": self.words,
            "items": plain,
            "files": [str(path) for path in self.files],
        }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV; numbers with six digits that count."""
    buffer = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{v:.6g}" if isinstance(v, float) else v for name, v in row.items()} for row in rows)
    return buffer.getvalue()


def codes_table(names: Sequence[str], codes: Tensor) -> str:
    """Codes as CSV, a code a line, every digit kept."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["item", *(f"z{place}" for place in range(codes.shape[1]))])
    for name, code in zip(names, codes.tolist(), strict=True):
        writer.writerow([name, *map(repr, code)])
    return buffer.getvalue()


def written(modality: Modality, artifacts: Sequence[Artifact], said: dict[str, str]) -> dict[str, Content]:
    """What shows artifacts that are no pictures: the modality's own file of them, and its preview."""

    def own(suffix: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            [path] = modality.write(artifacts, Path(folder) / f"items{suffix}", said)
            return path.read_bytes()

    def shown(folder: str) -> Path:
        return modality.preview(artifacts, Path(folder) / "items", said)

    with tempfile.TemporaryDirectory() as folder:
        suffix = shown(folder).suffix
    own_suffix = next((s for s in modality.suffixes if s.startswith(".") and s.count(".") == 1), ".txt")

    def preview() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            return shown(folder).read_bytes()

    parts: dict[str, Content] = {f"items{own_suffix}": lambda: own(own_suffix)}
    return {**parts, f"preview{suffix}": preview}
