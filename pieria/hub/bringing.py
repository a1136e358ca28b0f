"""A run from a model that was made elsewhere: an ARPA file of n-grams, or a checkpoint in the model hub's format.

Nothing that is brought in is executed: numbers and JSON are read, whatever else a checkpoint holds is refused.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pieria import keeping
from pieria.errors import DataError, UsageError
from pieria.forms import Tokens
from pieria.hub import arpa
from pieria.modalities.contract import Modality
from pieria.modalities.opening import NOT_STATED, open_data
from pieria.modalities.text import LONGEST, Text, TextSettings
from pieria.models import weights
from pieria.models.contract import Model
from pieria.models.ngram import Ngram, NgramSettings
from pieria.training.plan import Plan
from pieria.training.workspace import Workspace, now

UNEVEN = 1e-3  # by how much the probabilities after a history may miss a sum of 1 without a word being said


@dataclass
class Brought:
    """A model from elsewhere with the modality that its symbols mean something in.

    Attributes:
        name: what its run is called.
        origin: what it was: its place, its format, its licence.
        findings: what was found and what was done about it, each a line.
    """

    name: str
    model: Model
    modality: Modality
    origin: dict[str, Any]
    findings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Wishes:
    """What a file leaves open. ``tokenizer``: what an ARPA's words are; ``length``: symbols in a window or an item."""

    tokenizer: str = "auto"
    items: str = "auto"
    length: int = 0
    revision: str | None = None


def bring(source: str, wishes: Wishes) -> Brought:
    """The model at ``source``, a path or the id of a hub's model."""
    path = Path(source).expanduser()
    if path.is_file():
        return from_arpa(path, wishes)
    raise DataError(f"{source} does not exist", "an ARPA file, or the directory or the hub's id of a checkpoint")


def settle(
    brought: Brought, *, out: Path | None, data: str | Path | None, column: str | None, command: list[str]
) -> Path:
    """Write the run directory; ``data`` names what it is to be judged on, encoded as the imported model has it."""
    facts: dict[str, Any] = {
        "name": NOT_STATED, "asked": None, "modality": brought.modality.name, "fingerprint": None,
        "licence": NOT_STATED, "consent": NOT_STATED, "source": NOT_STATED, "counts": {}, "reason": "imported",
    }  # fmt: skip
    if data is not None:
        facts = keeping.facts(data, None, column, None, open_data(data, column=column, modality=brought.modality))
    facts["findings"] = [*brought.findings, *facts.get("findings", [])]
    record = keeping.beginning(brought.model, Plan(), facts, command=shlex.join(command), device="cpu", preset=None)
    record |= {"imported": brought.origin}
    space = Workspace.create(out, brought.name, record, keeping.modality_file(brought.modality))
    with space:
        weights.save(brought.model, space.path / "model.safetensors")
        space.note(state="done", finished=now())
    return space.path


# ---- n-grams ---------------------------------------------------------------------------------------------------------


def from_arpa(path: Path, wishes: Wishes) -> Brought:
    """The n-gram of an ARPA file."""
    law = arpa.read(path)
    words = law.words[:-1] if law.ends else law.words
    kind = wishes.tokenizer
    findings = []
    if kind == "auto":
        kind = "char" if all(map(_is_character, words)) else "word"
        if kind == "char":
            findings.append("every entry is one character, so a symbol is a character; --tokenizer word reads words")
    state = {"kind": kind, "length": wishes.length or LONGEST, "stream": not law.ends, **_symbols(path, words, kind)}
    modality = Text.restore(TextSettings.of({"tokenizer": kind}), state)
    model = Ngram(NgramSettings.of({"order": len(law.orders), "smoothing": "given"}), modality.form)
    model.give(law.orders)
    uneven = np.abs(model.excess())
    if (uneven > UNEVEN).any():
        findings.append(
            f"after {(uneven > UNEVEN).sum():,} of {len(uneven):,} histories the probabilities miss a sum of 1 by up to "
            f"{uneven.max():.2g}: scores are the file's own, and samples are drawn from them as if they did"
        )
    origin = {"from": str(path.resolve()), "format": "ARPA", "licence": NOT_STATED}
    return Brought(path.name.split(".")[0], model.eval(), modality, origin, findings)


def _is_character(word: str) -> bool:
    return len(word) == 1 or word in (arpa.UNKNOWN, *arpa.NAMES.values())


def _symbols(path: Path, words: list[str], kind: str) -> dict[str, Any]:
    """What a tokenisation of these entries restores from."""
    spaces = {name: character for character, name in arpa.NAMES.items()}
    plain = [spaces.get(word, word) for word in words]
    if kind == "word":
        return {"words": plain, "closed": False}
    if kind != "char":
        raise UsageError(f"--tokenizer {kind}", "word or char: what an entry of an ARPA file can be")
    unknown = plain[-1] == arpa.UNKNOWN
    alphabet = plain[: len(plain) - unknown]
    if long := [word for word in alphabet if len(word) > 1]:
        raise DataError(f"{path} lists {long[0]!r}", "single characters", "Import it with --tokenizer word")
    return {"alphabet": "".join(alphabet), "unknown": unknown}
