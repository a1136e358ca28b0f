"""From a name or a path to a `Dataset`: found, read, split, and the modality learned from the training part."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pieria.data import archives, catalogue, fingerprint, splits
from pieria.errors import DataError, UsageError, unknown
from pieria.forms import Form, Label
from pieria.modalities import domains, finding, parting
from pieria.modalities.contract import Collection, Modality

if TYPE_CHECKING:
    from pieria.data.examples import Examples

NOT_STATED = "not stated"


@runtime_checkable
class Foresees(Protocol):
    """A modality that must make room for what only held-out parts have (a character, a longer item)."""

    def foresee(self, others: Iterable[Collection]) -> list[str]:
        """Called once after ``learn``; returns what was done, each a line."""


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
        """What an item may be conditioned on: what it is made of, its caption where that is kept, or else its label."""
        train = self.parts["train"]
        if train.sources is not None:
            return self.modality.form
        if isinstance(self.modality, Prompts) and (train.prompts is not None or self.modality.prompt_form is not None):
            return self.modality.prompt_form or self.modality.form  # pictures are made of pictures of the same form
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
            collection = parting.joined(collection, self.parts[name])
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

    ``to`` is the other side of ``data``: two files, or two folders whose parts are files, with one item a line; or of
    pictures what they are to become, another name or path, with partners or without as the setting ``partners`` says.
    ``settings`` are the modality's own. With ``modality`` (of a saved run) nothing is learned: the data are read and
    encoded as the run's were. What is not said by ``licence`` and ``consent`` is read from ``NAME.about.json`` beside a
    file, or ``about.json`` in a folder: ``{"licence": …, "consent": …, "source": …}``; so it can be stated after a fit, and
    is on the card of the next audit.

    Raises `UsageError` (unknown names with the nearest known, a path that two modalities fit equally) and `DataError`.
    """
    how: dict[str, Any] = {"as_": as_, "form": form, "settings": settings or {}, "modality": modality}
    entry = catalogue.entries().get(str(data))
    if entry is not None:
        if to is not None and (modality.name if modality is not None else as_ or entry.modality) == "image":
            return _open_two(data, to, **how, licence=licence, consent=consent)
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
    named = parting.by_name(inside)
    if modality is not None:
        name, reason = modality.name, "as the run was fitted"
    else:
        name, reason = finding.find(named.get("train", inside), as_, column)
    if to is not None and name == "image":
        return _open_two(data, to, **how, licence=licence, consent=consent)
    other = None if to is None else Path(to).expanduser()
    others = _other_side(named, other) if named and other is not None else {}
    if other is not None and not other.exists():
        raise finding.missing(other)
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
        parts, said = parting.split(reader, whole)
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
        parts, said = parting.split(reader, whole, entry.rule, path)
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


def _open_two(
    data: str | Path,
    to: str | Path,
    *,
    as_: str | None,
    form: str | None,
    settings: Mapping[str, Any],
    modality: Modality | None,
    licence: str | None,
    consent: str | None,
) -> Dataset:
    """Two sets of pictures, each a name or a path: those at ``to``, which are to be made of those at ``data``."""
    kind = "image" if modality is not None else finding.forms_of(str(to), as_)[0]
    if kind != "image":
        raise UsageError(f"--to {to}, which is {kind}, beside pictures", "pictures on both sides", "Name other pictures")
    entries = [catalogue.entries().get(str(side)) for side in (data, to)]
    given = dict(settings)
    for entry in entries if modality is None else ():
        for name, value in (entry.settings if entry is not None else {}).items():
            given.setdefault(name, value)
    reader, given = _reader("image", given, modality)
    alone = [open_data(side, as_=as_ or "image", form=form, settings=given, modality=modality) for side in (data, to)]
    first, second = alone
    names = [str(side.path if entry is None else side.name) for side, entry in zip(alone, entries, strict=True)]
    if getattr(reader.settings, "partners", "no") == "no":
        if modality is None:
            domains.same_form(first.form, second.form, *names)  # type: ignore[arg-type]  # pictures are grids
        parts = domains.unpaired(first.parts, second.parts, names)
        findings = [f"{side}: {line}" for side, found in zip("AB", alone, strict=True) for line in found.findings]
    else:
        parts, findings = _paired(reader, alone, entries)
    licences, sources = (list(dict.fromkeys(getattr(side, what) for side in alone)) for what in ("licence", "source"))
    dataset = Dataset(
        name=f"{first.name} to {second.name}",
        path=second.path,
        modality=reader,
        parts=parts,
        licence=licence if licence not in (None, NOT_STATED) else "; ".join(licences),
        consent=consent if consent not in (None, NOT_STATED) else second.consent,
        source="; ".join(sources),
        fingerprint=fingerprint.of_item([side.fingerprint for side in alone]).hex(),
        findings=findings,
        reason=f"two sets of pictures, to turn {first.name} into {second.name}",
        settings=given,
    )
    return _learned(dataset, form, learn=modality is None)


def _paired(
    reader: Modality, alone: Sequence[Dataset], entries: Sequence[catalogue.Entry | None]
) -> tuple[dict[str, Collection], list[str]]:
    """The parts of pairs of pictures: published ones where both sides have them, else cut as the second one is."""
    folders = [entry.fetch() if entry is not None else None for entry in entries]
    named = [
        {part: folder / file for part, file in entry.parts.items()}
        if entry and folder
        else parting.by_name(_inside(side.path))
        for side, entry, folder in zip(alone, entries, folders, strict=True)
    ]
    places = [_inside(side.path) for side in alone]
    if set(named[0]) != set(named[1]):
        raise DataError(
            f"{places[0]} holds {', '.join(named[0]) or 'no parts'}, and {places[1]} {', '.join(named[1]) or 'none'}",
            "the same parts in both",
            "Name their folders alike",
        )
    if named[0]:
        return _read_published(reader, named[0], None, named[1])
    whole = _read(reader, places[0], None, places[1])
    rules = {entry.rule if entry is not None else "" for entry in entries}
    parts, said = parting.split(reader, whole, rules.pop() if len(rules) == 1 else "", places[1])
    return parts, [*whole.findings, *said]


def _other_side(named: Mapping[str, Path], other: Path) -> dict[str, Path]:
    """The parts of the second of two folders; `DataError` if they are not those of the first."""
    found = parting.by_name(_inside(other)) if other.is_dir() else {}
    if set(found) != set(named):
        raise DataError(
            f"{other} holds {', '.join(found) or 'no parts'}",
            f"{', '.join(named)}, as the other side",
            "Name two folders alike",
        )
    return found


def _of_both(path: Path, other: Path | None) -> str:
    if other is None:
        return fingerprint.of_path(path)
    return fingerprint.of_item([fingerprint.of_path(path), fingerprint.of_path(other)]).hex()


def look(
    data: str | Path,
    *,
    as_: str | None = None,
    column: str | None = None,
    to: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a name or a path holds, as plain words and numbers: what ``pieria data`` prints."""
    dataset = open_data(data, as_=as_, column=column, to=to, settings=settings or {})
    kind = dataset.modality.name
    form = dataset.form.to_json()
    return {
        "name": dataset.name,
        "path": str(dataset.path),
        "read as": f"{kind} ({dataset.reason})",
        "form": _form_in_words(form),
        "parts": parting.lengths(dataset.parts),
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
    if learn or not getattr(dataset.modality, "learned", True):  # given symbols may still lack what the targets are
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


def _read_published(
    reader: Modality, places: Mapping[str, Path], column: str | None, to: Mapping[str, Path]
) -> tuple[dict[str, Collection], list[str]]:
    """Parts that lie in files or folders of their own, and what was found in each."""
    parts = {part: _read(reader, _inside(place), column, to.get(part)) for part, place in places.items()}
    findings = [f"{part}: {line}" for part, collection in parts.items() for line in collection.findings]
    if len({collection.stream for collection in parts.values()}) > 1:
        how = ", ".join(f"{part} as {'a stream' if c.stream else 'items'}" for part, c in parts.items())
        raise DataError(f"{places['train'].parent} was read in two ways ({how})", "one way", "Say which with --set items=…")
    parts, said = parting.published(parts)
    return parts, [*findings, *said]


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
