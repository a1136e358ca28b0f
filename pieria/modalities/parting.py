"""The parts of a data set: cut by place or by item, taken as they were published, or joined again."""

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from pieria.data import fingerprint, splits
from pieria.errors import DataError, UsageError
from pieria.modalities.contract import Artifact, Collection, Lazy, Modality

NAMES_OF = {"train": ("train", "training"), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}


@runtime_checkable
class Splits(Protocol):
    """A modality whose data are cut in a way of their own: one measured series along its points."""

    def split(self, collection: Collection) -> dict[str, Collection]:
        """The parts of a collection that has no published ones."""


@runtime_checkable
class Digests(Protocol):
    """Artifacts that can tell the content of all of them faster than one by one."""

    def digests(self) -> Iterable[bytes]:
        """A digest of each artifact's content, in order; equal content gives equal digests."""


def by_name(path: Path) -> dict[str, Path]:
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


def split(
    modality: Modality, whole: Collection, rule: str = "", path: Path | None = None
) -> tuple[dict[str, Collection], list[str]]:
    """The parts of a collection, and a line that says how they were cut.

    ``rule`` is the catalogue's: a name of `data.splits`, or "marked NAME", an array in the file at ``path`` that says
    where each item belongs. Without one a stream is cut by place, and items by their content.
    """
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


def published(parts: dict[str, Collection]) -> tuple[dict[str, Collection], list[str]]:
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


def lengths(parts: Mapping[str, Collection]) -> dict[str, int]:
    """Items in each part; symbols or points where there is one stream or one curve."""
    whole = all(c.stream or (len(c) == 1 and isinstance(c.artifacts[0], Sized)) for c in parts.values())
    return {part: sum(map(len, c.artifacts)) if whole else len(c) for part, c in parts.items()}


def _sizes(parts: Mapping[str, Collection]) -> str:
    return _counted(lengths(parts))


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
    return replace(
        first,
        artifacts=_behind(first.artifacts, second.artifacts),
        labels=None if first.labels is None or second.labels is None else [*first.labels, *second.labels],
        captions=None if first.captions is None or second.captions is None else [*first.captions, *second.captions],
        prompts=None if first.prompts is None or second.prompts is None else _behind(first.prompts, second.prompts),
        sources=None if first.sources is None or second.sources is None else joined(first.sources, second.sources),
        groups={name: [*first.groups[name], *second.groups[name]] for name in first.groups if name in second.groups},
        findings=[],
    )


def _behind(first: Sequence[Artifact], second: Sequence[Artifact]) -> Sequence[Artifact]:
    if isinstance(first, list) and isinstance(second, list):
        return [*first, *second]
    return Joined(first, second)


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
