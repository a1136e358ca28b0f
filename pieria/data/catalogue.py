"""The data sets that Pieria knows by name: embedded ones, made from what a dependency carries, and fetched ones.

How a set's files are fetched and checked is in `pieria.data.fetched`. Listing imports no torch and opens no file.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pieria.data.fetched import File
from pieria.errors import unknown


@dataclass(frozen=True)
class Entry:
    """A data set by name.

    Attributes:
        name: what the command line calls it.
        modality: which modality reads it.
        description: one line.
        licence: what its source states.
        source: where it comes from, as a person would look for it.
        items: how much there is, in words.
        files: what is fetched; empty for an embedded set.
        make: the function in `pieria.data.embedded` that makes an embedded set, or in `pieria.data.derived` one ``made_of``
            another set of the catalogue.
        needs: the package whose content that is.
        read: the file in the set's folder that is read ("" is the whole folder), where one file holds everything.
        parts: published parts: part to file.
        to: the other side of a parallel set: part to file, line i of which belongs to line i of that part.
        rule: how the rest is split: "" by content, a name in `pieria.data.splits`, or "marked ARRAY" for an array of
            an ``.npz`` that says 0 (train) or 1 (test).
        settings: settings of the modality that suit it.
        column: the column that holds the items.
    """

    name: str
    modality: str
    description: str
    licence: str
    source: str
    items: str = ""
    files: tuple[File, ...] = ()
    make: str = ""
    made_of: str = ""
    needs: str = ""
    read: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    to: Mapping[str, str] = field(default_factory=dict)
    rule: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    column: str | None = None

    @property
    def embedded(self) -> bool:
        """It comes with a dependency; nothing is downloaded."""
        return bool(self.make) and not self.made_of

    def fetch(self) -> Path:
        """The folder that holds the set, made or fetched if need be, and checked.

        Raises `DataError` when a checksum does not match, when the network does not answer, or when the package that
        carries an embedded set is not installed; the message says what to do.
        """
        if self.embedded:
            from pieria.data import embedded

            return embedded.made(self.make, self.needs)
        if self.made_of:
            from pieria.data import derived

            return derived.made(self.make, find(self.made_of).fetch())
        return {file.fetch(self.name, self.source).parent for file in self.files}.pop()


@cache
def entries() -> dict[str, Entry]:
    """Every set by name, as ``sets.json`` states them."""
    listed = json.loads((Path(__file__).parent / "sets.json").read_text(encoding="utf-8"))
    return {
        name: Entry(name=name, **{**said, "files": tuple(File(**file) for file in said.get("files", ()))})
        for name, said in listed.items()
    }


def names() -> dict[str, str]:
    """Every data set with its one-line description; no torch, nothing fetched."""
    return {name: entry.description for name, entry in sorted(entries().items())}


def find(name: str) -> Entry:
    """The set of this name; `UsageError` with the nearest names if there is none."""
    if name not in entries():
        raise unknown("data set", name, entries(), "A path of your own works too")
    return entries()[name]
