"""Two sets of pictures, A and B, of which one is to be turned into the other: with partners, or without."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pieria.errors import DataError, UsageError
from pieria.forms import Grid
from pieria.modalities.contract import Collection
from pieria.modalities.pictures import CHANNELS, PictureFiles

FEWEST = 3  # different pictures, of which one is held back for each of validation and test


def same_form(first: Grid, second: Grid, path: str | Path, to: str | Path) -> None:
    """`DataError` with the cure unless the pictures at ``path`` and ``to`` are of one size, kind and number of levels."""
    cures = []
    if (first.height, first.width) != (second.height, second.width):
        cures.append(f"--set size={min(first.height, second.height)},{min(first.width, second.width)}")
    if first.channels != second.channels:
        wanted = max(first.channels, second.channels)
        cures.append(f"--set colour={next(word for word, number in CHANNELS.items() if number >= wanted)}")
    if first.levels != second.levels:
        cures.append(f"--set levels={max(first.levels or 256, second.levels or 256)}")
    if cures:
        raise DataError(
            f"the pictures of {path} are {_said(first)}, those of {to} {_said(second)}",
            "two sets of one size, kind and number of levels",
            f"Bring both to one with {' '.join(cures)}",
        )


def _said(form: Grid) -> str:
    return f"{form.height}×{form.width}, {form.channels} channel{'s' if form.channels > 1 else ''}, {form.levels} levels"


def unpaired(
    first: Mapping[str, Collection], second: Mapping[str, Collection], names: Sequence[str]
) -> dict[str, Collection]:
    """The parts of B, each with the same part of A as what it is to be made of; ``names`` are those of A and B.

    Raises `DataError` for a set of which nothing can be held back.
    """
    for name, parts in zip(names, (first, second), strict=True):
        if "test" not in parts or "train" not in parts:
            count = sum(len(part) for part in parts.values())
            raise DataError(
                f"{name} holds {count} picture{'s' if count > 1 else ''} that can be told apart too little",
                f"at least {FEWEST} different ones on each side, better some hundreds",
                "Add more pictures",
            )
    shared = [part for part in second if part in first]
    return {part: replace(_bare(second[part]), sources=_bare(first[part])) for part in shared}


def paired(given: Collection, made: Collection, how: str, path: Path, to: Path) -> Collection:
    """The pictures of ``made``, each with the one of ``given`` that it belongs to as its prompt.

    ``how`` is "names" (of the files, without their ending, or an array of names in both), "order", or "auto": by names where
    both sides have any. Raises `DataError` where a picture has no partner, `UsageError` for "names" without names.
    """
    keys = None if how == "order" else _names(given, made)
    if keys is None and how == "names":
        raise UsageError(f"partners=names, and the pictures of {path} and {to} have none", "files", "Set partners=order")
    if keys is None:
        if len(given) != len(made):
            raise DataError(
                f"{path} holds {len(given):,} pictures and {to} {len(made):,}",
                "as many in both, the first of one belonging to the first of the other",
                "Leave out what has no partner, or learn from unpaired pictures with --model cyclegan",
            )
        order = list(range(len(made)))
    else:
        first, second = keys
        place = {key: number for number, key in enumerate(first)}
        for here, there, mine, other in ((first, second, path, to), (second, first, to, path)):
            known = set(there)
            if lone := [key for key in here if key not in known]:
                raise DataError(
                    f"{len(lone):,} of the {len(here):,} pictures of {mine} have no partner of the same name in {other}, "
                    f"such as {lone[0]}",
                    "the same names in both",
                    "Rename them, say --set partners=order, or learn without pairs: --model cyclegan",
                )
        order = [place[key] for key in second]
    told = f"{len(made):,} pairs of pictures, by their {'order' if keys is None else 'names'}"
    findings = [told, *(f"A: {line}" for line in given.findings), *(f"B: {line}" for line in made.findings)]
    return replace(_bare(made), prompts=given.take(order).artifacts, findings=findings)


def _bare(collection: Collection) -> Collection:
    """Without classes: what an item is made of is its condition."""
    return replace(collection, labels=None, classes=())


def _names(given: Collection, made: Collection) -> tuple[list[Hashable], list[Hashable]] | None:
    """What the pictures of each side are called; None where they have no names of their own that could match."""
    if isinstance(given.artifacts, PictureFiles) and isinstance(made.artifacts, PictureFiles):
        sides: list[list[Hashable]] = []
        for files in (given.artifacts, made.artifacts):
            stems: list[Hashable] = [str(PurePosixPath(name).with_suffix("")) for name in files.names]
            if len(set(stems)) < len(stems):
                twice = next(stem for stem in stems if stems.count(stem) > 1)
                raise DataError(f"{files.root} holds two pictures called {twice}", "one of each name", "Rename one of them")
            sides.append(stems)
        return sides[0], sides[1]
    for name in given.groups:
        columns = [list(side.groups.get(name, ())) for side in (given, made)]
        if all(len(set(column)) == len(side) for column, side in zip(columns, (given, made), strict=True)):
            return columns[0], columns[1]
    return None
