"""The data sets that Pieria knows by name: embedded ones, made from what a dependency carries, and fetched ones.

A fetched set is looked for in the mirror that ``PIERIA_DATA`` names, then in the cache, then at its public address; every
file is checked by SHA-256 before it is used. Listing imports no torch and opens no file.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pieria.data import cache as cached
from pieria.data.fingerprint import of_file
from pieria.errors import DataError, unknown

VARIABLE = "PIERIA_DATA"
TIMEOUT = 10  # seconds without an answer after which a fetch gives up


@dataclass(frozen=True)
class File:
    """One file of a fetched set.

    Attributes:
        path: its place in a mirror and in the cache.
        sha256: of the file as a mirror has it.
        url: a public address that serves this content, or "" where none serves it in this form.
        checksum: of what the address serves, where it is packed differently ("md5:..." as its publisher states it).
    """

    path: str
    sha256: str
    url: str = ""
    checksum: str = ""


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
        mirror = os.environ.get(VARIABLE)
        return {self._one(file, Path(mirror).expanduser() if mirror else None).parent for file in self.files}.pop()

    def _one(self, file: File, mirror: Path | None) -> Path:
        if mirror is not None and (mirror / file.path).is_file():
            found = of_file(mirror / file.path)
            # a mirror may hold the file as the address serves it
            if found != file.sha256 and not _matches(mirror / file.path, file.checksum):
                raise DataError(
                    f"{mirror / file.path} has the SHA-256 {found}",
                    f"the file of '{self.name}' has {file.sha256}",
                    "The copy is damaged or of another version: replace it, or unset PIERIA_DATA",
                )
            return mirror / file.path
        kept = cached.folder("sets", file.path)
        if kept.is_file() and (of_file(kept) == file.sha256 or _matches(kept, file.checksum)):
            return kept
        return self._download(file, kept)

    def _download(self, file: File, kept: Path) -> Path:
        how = f"Point {VARIABLE}=DIR at a folder that holds {file.path}"
        if not file.url:
            raise DataError(
                f"'{self.name}' is not here, and no public address serves {Path(file.path).name} in this form",
                f"a local mirror (it comes from {self.source})",
                how,
            )
        import logging

        import pooch
        import requests

        pooch.get_logger().setLevel(logging.WARNING)
        kept.unlink(missing_ok=True)
        with cached.unfinished(kept) as path:
            try:
                pooch.retrieve(
                    file.url,
                    file.checksum or f"sha256:{file.sha256}",
                    fname=path.name,
                    path=path.parent,
                    downloader=pooch.HTTPDownloader(timeout=TIMEOUT, progressbar=False),
                )
            except requests.RequestException as error:
                raise DataError(
                    f"{file.url} could not be fetched ({type(error).__name__})",
                    f"'{self.name}' is downloaded once, or read from a local mirror",
                    f"Connect to the network, or {how[0].lower()}{how[1:]}",
                ) from None
            except ValueError:  # what pooch raises when the checksum differs
                raise DataError(
                    f"what {file.url} serves is not the file that was published as '{self.name}'",
                    f"the checksum {file.checksum or file.sha256}",
                    f"Try again later, or {how[0].lower()}{how[1:]}",
                ) from None
        return kept


def _matches(path: Path, checksum: str) -> bool:
    if not checksum:
        return False
    import hashlib

    kind, _, value = checksum.partition(":")
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest() == value


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
