"""From a name or a path to a `Dataset`: found, read, split, and the modality learned from the training part."""

import json
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from pieria.data import archives, catalogue, fingerprint, splits
from pieria.errors import DataError, UsageError, unknown
from pieria.forms import Form, Label
from pieria.modalities import finding
from pieria.modalities.contract import Artifact, Collection, Lazy, Modality

if TYPE_CHECKING:
    from pieria.data.examples import Examples

NOT_STATED = "not stated"


@runtime_checkable
class Foresees(Protocol):
    """A modality that must make room for what only held-out parts have (a character, a longer item)."""

    def foresee(self, others: Iterable[Collection]) -> list[str]:
        """Called once after ``learn``; returns what was done, each a line."""


@runtime_checkable
class Splits(Protocol):
    """A modality whose data are cut in a way of their own: one measured series along its points."""

    def split(self, collection: Collection) -> dict[str, Collection]:
        """The parts of a collection that has no published ones."""


@runtime_checkable
class Prompts(Protocol):
    """A modality whose artifacts may each answer to a prompt of their own, which is kept apart."""

    @property
    def prompt_form(self) -> Form | None:
        """The form of the prompts; None where there are none."""


@runtime_checkable
class ReadsTwo(Protocol):
    """A modality that can read pairs from two places: what is given, and what is to be made of it."""

    def read_two(self, path: Path, to: Path) -> Collection:
        """The artifacts at ``to``, each with its prompt from ``path``."""


@runtime_checkable
class Digests(Protocol):
    """Artifacts that can tell the content of all of them faster than one by one."""

    def digests(self) -> Iterable[bytes]:
        """A digest of each artifact's content, in order; equal content gives equal digests."""


@dataclass
class Dataset:
    """Data that are ready to be learned from.

    Attributes:
        name: the catalogue's, or the file's.
        path: what was read: a file or a folder.
        modality: learned on the training part, or given.
        parts: "train", and "validation" and "test" where there is enough for them.
        licence: as stated by its source; "not stated" for data of one's own that nothing says it of.
        consent: whether the people whom the data are about agreed, as far as stated.
        source: where the data come from.
        fingerprint: SHA-256 of the content.
        findings: what reading, splitting and learning found, each a line.
        reason: why it was read as this modality.
        settings: the settings of the modality that differ from its defaults.
    """

    name: str
    path: Path
    modality: Modality
    parts: dict[str, Collection]
    licence: str
    consent: str
    source: str
    fingerprint: str
    findings: list[str]
    reason: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def form(self) -> Form:
        """The form of every part."""
        return self.modality.form

    @property
    def condition(self) -> Form | None:
        """What an item may be conditioned on: its prompt, where that is kept apart, or its label, where there are classes."""
        train = self.parts["train"]
        if train.prompts is not None and isinstance(self.modality, Prompts):
            return self.modality.prompt_form
        return Label(tuple(train.classes)) if train.labels is not None else None

    def examples(self, part: str, training: bool = False) -> "Examples":
        """A part as a model is given it; "train+validation" is both, for a last fit after everything was chosen.

        Raises `UsageError` for an unknown part, `DataError` for one that the data are too few for.
        """
        names = part.split("+")
        for name in names:
            if name not in splits.PARTS:
                raise unknown("part", name, splits.PARTS)
            if name not in self.parts:
                raise DataError(
                    f"'{self.name}' has no {name} part",
                    "at least three different items, or a longer stream",
                    "Add more data",
                )
        collection = self.parts[names[0]]
        for name in names[1:]:
            collection = joined(collection, self.parts[name])
        before = len(collection.findings)
        examples = self.modality.examples(collection, training=training)
        self.findings += [
            line for found in collection.findings[before:] if (line := f"{part}: {found}") not in self.findings
        ]
        return examples


def open_data(
    data: str | Path,
    *,
    as_: str | None = None,
    column: str | None = None,
    form: str | None = None,
    to: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    modality: Modality | None = None,
    licence: str | None = None,
    consent: str | None = None,
) -> Dataset:
    """Open a data set by its catalogue name or its path.

    ``to`` is the other side of ``data``: two files, or two folders whose parts are files, with one item a line.
    ``settings`` are the modality's own. With ``modality`` (of a saved run) nothing is learned: the data are read and
    encoded as the run's were. What is not said by ``licence`` and ``consent`` is read from ``NAME.about.json`` beside a
    file, or ``about.json`` in a folder: ``{"licence": …, "consent": …, "source": …}``; so it can be stated after a fit, and
    is on the card of the next audit.

    Raises `UsageError` (unknown names with the nearest known, a path that two modalities fit equally) and `DataError`.
    """
    entry = catalogue.entries().get(str(data))
    if entry is not None:
        if to is not None:
            raise UsageError(f"--to {to} beside '{data}'", "the paths of two files", "Leave --to out, or name two files")
        dataset = _open_entry(entry, as_, column, form, settings or {}, modality)
        return replace(dataset, licence=licence or dataset.licence, consent=consent or dataset.consent)
    path = Path(data).expanduser()
    try:
        there = path.exists()
        empty = there and (path.stat().st_size == 0 if path.is_file() else not any(path.iterdir()))
        if path.is_file():
            path.open("rb").close()  # no permission is told as such, before each modality says that it is not its own
    except OSError as error:
        raise fingerprint.unreadable(path, error) from None
    if not there:
        raise finding.missing(path)
    if empty:
        raise DataError(f"{path} is empty", "a file or a folder with data", "Check that it was written")
    inside = _inside(path)
    named = _parts_by_name(inside)
    other = None if to is None else Path(to).expanduser()
    others = _other_side(named, other) if named and other is not None else {}
    if other is not None and not other.exists():
        raise finding.missing(other)
    if modality is not None:
        name, reason = modality.name, "as the run was fitted"
    else:
        name, reason = finding.find(named.get("train", inside), as_, column)
    about = _about(path)
    # a run from before they were stated says that they were not
    licence, consent = (None if said == NOT_STATED else said for said in (licence, consent))
    reader, given = _reader(name, settings or {}, modality)
    if named:
        parts, findings = _read_published(reader, named, column, others)
    else:
        whole = _read(reader, inside, column, other)
        if whole.stream and modality is None and sum(len(artifact) for artifact in whole.artifacts) < splits.FEWEST:
            raise DataError(f"{path} holds almost nothing", f"at least {splits.FEWEST} symbols or points", "Give more data")
        parts, said = _split(reader, whole)
        findings = [*whole.findings, *said]
    dataset = Dataset(
        name=path.name,
        path=path,
        modality=reader,
        parts=parts,
        licence=licence or about.get("licence", NOT_STATED),
        consent=consent or about.get("consent", NOT_STATED),
        source=about.get("source", str(path)),
        fingerprint=_of_both(path, other),
        findings=findings,
        reason=reason,
        settings=given,
    )
    return _learned(dataset, form, learn=modality is None)


def _open_entry(
    entry: catalogue.Entry,
    as_: str | None,
    column: str | None,
    form: str | None,
    settings: Mapping[str, Any],
    modality: Modality | None,
) -> Dataset:
    folder = entry.fetch()
    name = modality.name if modality is not None else as_ or entry.modality
    suited = entry.settings if name == entry.modality else {}
    reader, given = _reader(name, {**suited, **settings}, modality)
    column = column or entry.column
    if entry.parts:
        sides = [{part: folder / file for part, file in side.items()} for side in (entry.parts, entry.to)]
        parts, findings = _read_published(reader, sides[0], column, sides[1])
        files = [(part, file) for side in sides for part, file in sorted(side.items())]
        print_of = "".join(f"{part} {fingerprint.of_path(file)}\n" for part, file in files)
        whole_print = fingerprint.of_item(print_of).hex()
        path = folder
    else:
        path = folder / entry.read
        whole = _read(reader, _inside(path), column)
        parts, said = _split(reader, whole, entry.rule, path)
        findings, whole_print = [*whole.findings, *said], fingerprint.of_path(path)
    dataset = Dataset(
        name=entry.name,
        path=path,
        modality=reader,
        parts=parts,
        licence=entry.licence,
        consent="not stated here; the data are published by their source",
        source=entry.source,
        fingerprint=whole_print,
        findings=findings,
        reason="as the catalogue says" if name == entry.modality else "told",
        settings=given,
    )
    return _learned(dataset, form, learn=modality is None)


def _other_side(named: Mapping[str, Path], other: Path) -> dict[str, Path]:
    """The parts of the second of two folders; `DataError` if they are not those of the first."""
    found = _parts_by_name(_inside(other)) if other.is_dir() else {}
    if set(found) != set(named):
        raise DataError(
            f"{other} holds {', '.join(found) or 'no parts'}", f"{', '.join(named)}, as the other side", "Name two folders alike"
        )
    return found


def _of_both(path: Path, other: Path | None) -> str:
    if other is None:
        return fingerprint.of_path(path)
    return fingerprint.of_item([fingerprint.of_path(path), fingerprint.of_path(other)]).hex()


def look(
    data: str | Path, *, as_: str | None = None, column: str | None = None, to: str | Path | None = None
) -> dict[str, Any]:
    """What a name or a path holds, as plain words and numbers: what ``pieria data`` prints."""
    dataset = open_data(data, as_=as_, column=column, to=to)
    kind = dataset.modality.name
    form = dataset.form.to_json()
    return {
        "name": dataset.name,
        "path": str(dataset.path),
        "read as": f"{kind} ({dataset.reason})",
        "form": _form_in_words(form),
        "parts": _lengths(dataset.parts),
        "classes": list(dataset.condition.classes) if isinstance(dataset.condition, Label) else [],
        "found": dataset.findings,
        "licence": dataset.licence,
        "consent": dataset.consent,
        "source": dataset.source,
        "fingerprint": dataset.fingerprint,
    }


def _form_in_words(form: Mapping[str, Any]) -> str:
    """``tokens: vocabulary 65, length 128``: a form's kind and what is plain of it."""
    plain = {k: v for k, v in form.items() if k != "kind" and isinstance(v, str | int) and not isinstance(v, bool)}
    said = [f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}" for name, value in plain.items()]
    if "columns" in form:
        said.append(f"{len(form['columns'])} encoded columns")
    return f"{form['kind']}: {', '.join(said)}"


def _learned(dataset: Dataset, form: str | None, learn: bool) -> Dataset:
    if learn:
        modality, parts = dataset.modality, dataset.parts
        modality.learn(parts["train"], form)
        if isinstance(modality, Foresees):
            dataset.findings += modality.foresee([parts[part] for part in parts if part != "train"])
    return dataset


def _reader(name: str, settings: Mapping[str, Any], modality: Modality | None) -> tuple[Modality, dict[str, Any]]:
    if modality is not None:
        return modality, {}
    kind = finding.load(name)
    return kind(kind.Settings.of(settings)), dict(settings)


def _inside(path: Path) -> Path:
    """A zip's content; any other path as it is."""
    return archives.unpacked(path) if path.suffix.lower() == ".zip" and path.is_file() else path


def _read(modality: Modality, path: Path, column: str | None, to: Path | None = None) -> Collection:
    if to is None:
        collection = modality.read(path, column)
    elif isinstance(modality, ReadsTwo) and column is None:
        collection = modality.read_two(path, to)
    else:
        what = f"{modality.name} data" if column is None else f"--column {column}"
        raise UsageError(f"--to {to} with {what}", "two text files, line by line", "Leave it out")
    if len(collection) == 0:
        raise DataError(f"{path} holds no items", f"something that reads as {modality.name}", "Check what it holds, or --as")
    return collection


NAMES_OF = {"train": ("train", "training"), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}


def _parts_by_name(path: Path) -> dict[str, Path]:
    """The parts of a folder that holds nothing but ``train``, ``test`` and perhaps ``validation`` (files or folders)."""
    if not path.is_dir():
        return {}
    inside = [file for file in path.iterdir() if not file.name.startswith(".") and file.name != "about.json"]
    found: dict[str, Path] = {}
    for file in inside:
        part = next((part for part, names in NAMES_OF.items() if file.name.split(".")[0].lower() in names), None)
        if part is None or part in found:
            return {}
        found[part] = file
    return {part: found[part] for part in splits.PARTS if part in found} if {"train", "test"} <= set(found) else {}


def _about(path: Path) -> dict[str, str]:
    side = path / "about.json" if path.is_dir() else path.with_name(f"{path.name.split('.')[0]}.about.json")
    if not side.is_file():
        return {}
    try:
        said = json.loads(side.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{side} cannot be read ({error})", '{"licence": "…", "consent": "…", "source": "…"}') from None
    if not isinstance(said, dict):
        raise DataError(f"{side} is not a record", '{"licence": "…", "consent": "…", "source": "…"}')
    for name in said:
        if name not in ("licence", "consent", "source"):
            raise unknown("entry", name, ("licence", "consent", "source"), f"Correct {side}")
    return {name: str(value) for name, value in said.items()}


# ---- parts -----------------------------------------------------------------------------------------------------------


def _split(
    modality: Modality, whole: Collection, rule: str = "", path: Path | None = None
) -> tuple[dict[str, Collection], list[str]]:
    """The parts of a collection, and a line that says how they were cut."""
    if isinstance(modality, Splits):
        parts = {part: replace(collection, findings=[]) for part, collection in modality.split(whole).items()}
        return parts, [f"split {'along its points' if len(whole) == 1 else 'by item'}: {_sizes(parts)}"]
    if whole.stream:
        total = sum(len(artifact) for artifact in whole.artifacts)
        cuts = splits.STREAM_RULES.get(rule, splits.by_place)(total)
        parts = {part: _cut(whole, start, stop) for part, (start, stop) in cuts.items()}
        if len(parts) == 1:
            return parts, ["too short to hold anything back: all of it trains, and nothing can be measured on held-out data"]
        return parts, [f"split by place: {_counted({part: stop - start for part, (start, stop) in cuts.items()})}"]
    if rule.startswith("marked "):
        assert path is not None
        with np.load(path, allow_pickle=False) as stored:
            places = splits.marked(stored[rule.removeprefix("marked ")])
        how = "as published, validation from the end of train"
    elif rule in splits.ITEM_RULES:
        places, how = splits.places_of(rule, len(whole)), "as published, validation from the end of train"
    else:
        artifacts = whole.artifacts
        # answers are often alike ("yes"), so pairs are told apart by their prompts
        told = artifacts if whole.prompts is None else whole.prompts
        digests = artifacts.digests() if isinstance(artifacts, Digests) else map(fingerprint.of_item, told)
        places, how = splits.by_content(digests), "by the content of each item, so that duplicates stay together"
    parts = {part: _select(whole, chosen) for part, chosen in places.items() if len(chosen)}
    if len(parts) == 1:
        return parts, [f"{len(whole)} item(s), fewer than three different ones: all train, and nothing is held back"]
    return parts, [f"split {how}: {_counted({part: len(collection) for part, collection in parts.items()})}"]


def _counted(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{part} {size:,}" for part, size in sizes.items())


def _select(whole: Collection, places: np.ndarray) -> Collection:
    return replace(whole.take(places.tolist()), findings=[])


def _cut(whole: Collection, start: int, stop: int) -> Collection:
    """The symbols or points ``start`` to ``stop`` of a stream that may lie in several artifacts."""
    kept, place = [], 0
    for artifact in whole.artifacts:
        first, last = max(start - place, 0), min(stop - place, len(artifact))
        if first < last:
            kept.append(artifact if (first, last) == (0, len(artifact)) else artifact[first:last])
        place += len(artifact)
    return replace(whole, artifacts=kept, findings=[])


def _read_published(
    reader: Modality, places: Mapping[str, Path], column: str | None, to: Mapping[str, Path]
) -> tuple[dict[str, Collection], list[str]]:
    """Parts that lie in files or folders of their own, and what was found in each."""
    parts = {part: _read(reader, _inside(place), column, to.get(part)) for part, place in places.items()}
    findings = [f"{part}: {line}" for part, collection in parts.items() for line in collection.findings]
    if len({collection.stream for collection in parts.values()}) > 1:
        how = ", ".join(f"{part} as {'a stream' if c.stream else 'items'}" for part, c in parts.items())
        raise DataError(f"{places['train'].parent} was read in two ways ({how})", "one way", "Say which with --set items=…")
    parts, said = _published(parts)
    return parts, [*findings, *said]


def _published(parts: dict[str, Collection]) -> tuple[dict[str, Collection], list[str]]:
    """Published parts under one list of classes, with validation cut from the end of train where there is none."""
    train = parts["train"]
    for part, other in parts.items():
        if tuple(other.classes) != tuple(train.classes):
            parts[part] = _relabelled(other, train.classes)
    if "validation" in parts or "test" not in parts:
        return parts, [f"split as published: {_sizes(parts)}"]
    if train.stream:
        total = sum(len(artifact) for artifact in train.artifacts)
        cut = total - min(sum(len(artifact) for artifact in parts["test"].artifacts), total // 10)
        kept, held = _cut(train, 0, cut), _cut(train, cut, total)
    else:
        first, last = splits.validation_from(np.arange(len(train)), len(parts["test"]))
        kept, held = _select(train, first), _select(train, last)
    ordered = {"train": kept, "validation": held, "test": parts["test"]}
    return ordered, [f"split as published, validation from the end of train: {_sizes(ordered)}"]


def _lengths(parts: Mapping[str, Collection]) -> dict[str, int]:
    """Items in each part; symbols or points where there is one stream or one curve."""
    whole = all(c.stream or (len(c) == 1 and isinstance(c.artifacts[0], Sized)) for c in parts.values())
    return {part: sum(map(len, c.artifacts)) if whole else len(c) for part, c in parts.items()}


def _sizes(parts: Mapping[str, Collection]) -> str:
    return _counted(_lengths(parts))


def _relabelled(collection: Collection, classes: tuple[str, ...]) -> Collection:
    unseen = sorted(set(collection.classes) - set(classes))
    if unseen or collection.labels is None:
        raise DataError(
            f"a held-out part has the classes {', '.join(unseen) or 'none'}",
            f"those of train: {', '.join(classes)}",
            "Check it",
        )
    place = [classes.index(name) for name in collection.classes]
    return replace(collection, classes=classes, labels=[place[label] for label in collection.labels])


def joined(first: Collection, second: Collection) -> Collection:
    """Two parts of the same data as one, the second behind the first."""
    if first.classes != second.classes:
        raise UsageError("two collections with different classes", "parts of one data set")
    if isinstance(first.artifacts, list) and isinstance(second.artifacts, list):
        artifacts: Sequence[Artifact] = [*first.artifacts, *second.artifacts]
    else:
        artifacts = Joined(first.artifacts, second.artifacts)
    return replace(
        first,
        artifacts=artifacts,
        labels=None if first.labels is None or second.labels is None else [*first.labels, *second.labels],
        captions=None if first.captions is None or second.captions is None else [*first.captions, *second.captions],
        prompts=None if first.prompts is None or second.prompts is None else [*first.prompts, *second.prompts],
        groups={name: [*first.groups[name], *second.groups[name]] for name in first.groups if name in second.groups},
        findings=[],
    )


class Joined(Lazy):
    """Two sequences one behind the other, looked up when asked for."""

    def __init__(self, first: Sequence[Artifact], second: Sequence[Artifact]) -> None:
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return self.take(range(*place.indices(len(self))))
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        place %= len(self)
        return self.first[place] if place < len(self.first) else self.second[place - len(self.first)]

    def take(self, places: Sequence[int]) -> "Joined":
        """Those at ``places``: the ones of the first sequence, then the ones of the second, so in order only."""
        border = len(self.first)
        if any(left > right for left, right in pairwise(places)):
            raise UsageError("places in another order", "ascending places")
        first, second = [p for p in places if p < border], [p - border for p in places if p >= border]
        return Joined(_taken(self.first, first), _taken(self.second, second))


def _taken(artifacts: Sequence[Artifact], places: Sequence[int]) -> Sequence[Artifact]:
    return artifacts.take(places) if isinstance(artifacts, Lazy) else [artifacts[place] for place in places]
