"""A public file that is fetched once: from a local mirror, from the cache, or from its address, and checked by its hash.

It is looked for in the mirror that ``PIERIA_DATA`` names, then in the cache, then at its public address, and checked by
SHA-256 before it is used. No torch.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pieria.data import cache
from pieria.data.fingerprint import of_file
from pieria.errors import DataError

VARIABLE = "PIERIA_DATA"
TIMEOUT = 10  # seconds without an answer after which a fetch gives up


@dataclass(frozen=True)
class File:
    """One public file.

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

    def fetch(self, name: str, source: str, how: str = "", room: str = "sets") -> Path:
        """Where the file lies, fetched into the ``room`` of the cache if need be, and checked.

        For messages: ``name`` is what it belongs to, ``source`` where that comes from, ``how`` one more way to give it.

        Raises `DataError` when a checksum does not match, or when the network does not answer; the message says what to do.
        """
        mirror = os.environ.get(VARIABLE)
        if mirror and (there := Path(mirror).expanduser() / self.path).is_file():
            found = of_file(there)
            # a mirror may hold the file as the address serves it
            if found != self.sha256 and not _matches(there, self.checksum):
                raise DataError(
                    f"{there} has the SHA-256 {found}",
                    f"the file of '{name}' has {self.sha256}",
                    "The copy is damaged or of another version: replace it, or unset PIERIA_DATA",
                )
            return there
        kept = cache.folder(room, self.path)
        if kept.is_file() and (of_file(kept) == self.sha256 or _matches(kept, self.checksum)):
            return kept
        return self._download(name, source, f"Point {VARIABLE}=DIR at a folder that holds {self.path}{how}", kept)

    def _download(self, name: str, source: str, how: str, kept: Path) -> Path:
        if not self.url:
            raise DataError(
                f"'{name}' is not here, and no public address serves {Path(self.path).name} in this form",
                f"a local mirror (it comes from {source})",
                how,
            )
        import logging

        import pooch
        import requests

        pooch.get_logger().setLevel(logging.WARNING)
        kept.unlink(missing_ok=True)
        with cache.unfinished(kept) as path:
            try:
                pooch.retrieve(
                    self.url,
                    self.checksum or f"sha256:{self.sha256}",
                    fname=path.name,
                    path=path.parent,
                    downloader=pooch.HTTPDownloader(timeout=TIMEOUT, progressbar=False),
                )
            except requests.RequestException as error:
                raise DataError(
                    f"{self.url} could not be fetched ({type(error).__name__})",
                    f"'{name}' is downloaded once, or read from a local mirror",
                    f"Connect to the network, or {how[0].lower()}{how[1:]}",
                ) from None
            except ValueError:  # what pooch raises when the checksum differs
                raise DataError(
                    f"what {self.url} serves is not the file that was published as '{name}'",
                    f"the checksum {self.checksum or self.sha256}",
                    f"Try again later, or {how[0].lower()}{how[1:]}",
                ) from None
        return kept


def _matches(path: Path, checksum: str) -> bool:
    if not checksum:
        return False
    kind, _, value = checksum.partition(":")
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest() == value
