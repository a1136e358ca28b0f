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
from pieria.errors import DataError, UsageError, unknown
from pieria.hub import arpa, bert, fetching, gpt2, llama, reading, tokenizer
from pieria.modalities.contract import Modality
from pieria.modalities.opening import NOT_STATED, open_data
from pieria.modalities.text import LONGEST, WINDOW, Text, TextSettings
from pieria.models import weights
from pieria.models.bert import BERT
from pieria.models.contract import Model
from pieria.models.ngram import Ngram, NgramSettings
from pieria.noise import seeded
from pieria.training.plan import Plan
from pieria.training.workspace import Workspace, now

CONTEXT = 2048  # symbols of a window that is read at once, if nothing else is said: some checkpoints could read a million
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
    """What a model from elsewhere leaves open.

    Attributes:
        length: symbols in a window or an item; 0 chooses.
        tokenizer: what an entry of an ARPA file is, "word" or "char"; "auto" looks.
        items: of a checkpoint: "stream" or "lines", items that end; "auto" takes items for a model that chats.
        revision: of a hub's model: a branch, a tag or a commit.
    """

    length: int = 0
    tokenizer: str = "auto"
    items: str = "auto"
    revision: str | None = None


def bring(source: str, wishes: Wishes) -> Brought:
    """The model at ``source``: an ARPA file, a directory in the hub's format, or the id of a model on the hub."""
    path = Path(source).expanduser()
    if (path / "run.json").is_file():
        raise UsageError(f"{source} is a run of Pieria already", "a model from elsewhere", f"Use it: pieria sample {source}")
    if path.is_dir():
        return from_checkpoint(path, wishes, path.resolve().name, str(path.resolve()))
    if path.is_file():
        if path.suffix in reading.PICKLED:
            raise reading.pickled_refused(str(path))
        if path.suffix == ".safetensors" or path.name == reading.CONFIG:
            raise UsageError(f"{source}, one file of a checkpoint", "its directory", f"Import {path.parent}")
        return from_arpa(path, wishes)
    if not fetching.is_id(source):
        raise DataError(f"{source} does not exist", "an ARPA file, or the directory or the hub's id of a checkpoint")
    found = fetching.fetch(source, wishes.revision, check=_known)
    brought = from_checkpoint(found.path, wishes, source.rpartition("/")[2], source)
    brought.origin |= {"revision": found.revision, "licence": found.licence or brought.origin["licence"]}
    return brought


def settle(brought: Brought, *, out: Path | None, data: str | Path | None, column: str | None, command: list[str]) -> Path:
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
    state = {
        "kind": kind,
        "length": wishes.length or (LONGEST if law.ends else WINDOW),
        "stream": not law.ends,
        **_symbols(path, words, kind),
    }
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


# ---- checkpoints -----------------------------------------------------------------------------------------------------

KNOWN: dict[str, Any] = {gpt2.TYPE: gpt2, **dict.fromkeys(llama.CLASSES, llama), bert.TYPE: bert}


def _known(config: Mapping[str, Any]) -> None:
    """Raise `DataError` for an architecture that cannot be imported."""
    kind = config.get("model_type")
    if kind not in KNOWN:
        raise DataError(
            f"{reading.CONFIG} has model_type = {kind!r}, an architecture that Pieria does not know",
            f"one of {', '.join(sorted(KNOWN))}",
            "Choose another checkpoint",
        )


def from_checkpoint(path: Path, wishes: Wishes, name: str, where: str) -> Brought:
    """The model of a directory in the hub's format."""
    config = reading.json_of(path / reading.CONFIG)
    _known(config)
    found = reading.Checkpoint(path)
    architecture = KNOWN[found.architecture]
    try:
        settings = architecture.settings(config)
    except UsageError as error:  # what our settings say of values that no user gave
        raise DataError(
            f"{path / reading.CONFIG} describes no network ({error.got.rpartition(': ')[2]})",
            "sizes that fit together",
            "Fetch it again",
        ) from None
    rows = reading.number(config, "vocab_size")
    symbols = tokenizer.read(path, rows, config, architecture.ROLES)
    findings = []
    most = architecture.longest(config)
    if wishes.length > most:
        raise UsageError(f"--length {wishes.length}", f"at most {most}, the window of {name}", "Ask for less")
    length = wishes.length or min(most, CONTEXT)
    if length < most and not wishes.length:
        findings.append(f"windows of {length:,} symbols, of the {most:,} that it could read; --length says otherwise")
    stream = _is_stream("lines" if architecture is bert and wishes.items == "auto" else wishes.items, symbols, findings)
    modality = Text.restore(
        TextSettings.of({"tokenizer": "imported"}), {"kind": "imported", "length": length, "stream": stream, **symbols}
    )
    with seeded(0, "initial weights"):
        model = architecture.build(settings, modality.form)
    weights.restore(model, architecture.state(found, model, symbols, findings))
    if isinstance(model, BERT):
        model.spell(modality.strings())
    origin = {"from": where, "format": "transformers", "architecture": found.architecture, "licence": licence_of(path)}
    return Brought(name, model.eval(), modality, origin, findings)


def _is_stream(asked: str, symbols: Mapping[str, Any], findings: list[str]) -> bool:
    """Whether texts are one stream, or items that end."""
    if asked not in ("auto", "stream", "lines"):
        raise unknown("way to read items", asked, ("auto", "stream", "lines"))
    if asked == "lines" and symbols["end"] is None:
        raise UsageError("--items lines for a tokenizer without an end of text", "--items stream")
    chats = symbols["config"].get("chat_template") is not None and symbols["end"] is not None
    if asked == "auto" and chats:
        findings.append("its tokenizer has a chat template, so that items end; --items stream reads one stream")
    return asked == "stream" or (asked == "auto" and not chats)


def licence_of(path: Path) -> str:
    """The licence that a checkpoint's card (README.md) states in its head, or "not stated"."""
    from huggingface_hub import ModelCard

    card = path / "README.md"
    try:
        said = ModelCard(card.read_text(encoding="utf-8"), ignore_metadata_errors=True).data.to_dict()
    except (OSError, ValueError, TypeError):
        return NOT_STATED
    return str(said.get("license_name") or said.get("license") or NOT_STATED)
