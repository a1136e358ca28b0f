"""Which data these are: a SHA-256 over the content of a file or a folder, whatever its name or date. No torch."""

import gzip
import hashlib
import json
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from pieria.data import progress
from pieria.errors import DataError

PIECE = 1 << 20
MANY = 20_000  # files, from which on reading them is shown

# the newest state of each folder that was asked for, and its fingerprint: an unchanged one is not read again
_folders: dict[Path, tuple[bytes, str]] = {}


def of_path(path: Path) -> str:
    """The hexadecimal SHA-256 of a file, or of the names and contents of all files in a folder.

    Hidden files are left out, and so is ``about.json``: data whose licence is stated later are the same data.

    Raises `DataError` for a path that does not exist or cannot be read.
    """
    try:
        if path.is_file():
            return _of_content(path)
        if not path.is_dir():
            raise DataError(f"{path} does not exist", "a file or a folder", "Check the path")
        return _of_folder(path)
    except OSError as error:
        raise unreadable(path, error) from None


def _of_folder(path: Path) -> str:
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    names = [name for name in names if name != "about.json" and not any(part.startswith(".") for part in name.split("/"))]
    stats = hashlib.sha256()
    for name in names:
        stat = (path / name).stat()
        stats.update(f"{name}\0{stat.st_size} {stat.st_mtime_ns}\n".encode("utf-8", "surrogatepass"))
    known = _folders.get(path)
    if known is None or known[0] != stats.digest():
        total = hashlib.sha256()
        many = progress.quietly(len(names) < MANY)
        with many, progress.shown("reading files", len(names)) as told:
            for place, name in enumerate(names):
                total.update(f"{name}\0{_of_content(path / name)}\n".encode())
                told(place + 1)
        known = _folders[path] = (stats.digest(), total.hexdigest())
    return known[1]


def of_file(path: Path) -> str:
    """The hexadecimal SHA-256 of one file's bytes; asked again of an unchanged file, it is not read again."""
    stat = path.stat()
    return _of_file(str(path.resolve()), stat.st_size, stat.st_mtime_ns)


def _of_content(path: Path) -> str:
    # the same data gzipped elsewhere are the same data; a damaged archive is reported by whoever reads it
    if path.suffix != ".gz":
        return of_file(path)
    total = hashlib.sha256()
    try:
        with gzip.open(path, "rb") as file:
            while piece := file.read(PIECE):
                total.update(piece)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return of_file(path)
    return total.hexdigest()


@lru_cache(maxsize=4096)
def _of_file(path: str, size: int, modified: int) -> str:
    del size, modified  # they tell one state of the file from another
    total = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(PIECE):
            total.update(piece)
    return total.hexdigest()


def of_item(artifact: Any) -> bytes:
    """A 16-byte digest of one artifact's content: equal content gives equal digests, in any process and order.

    Strings, bytes, numbers, arrays, pictures (mode, size and pixels) and mappings, lists and tuples of these.
    """
    total = hashlib.blake2b(digest_size=16)
    _feed(total, artifact)
    return total.digest()


def _feed(total: Any, value: Any) -> None:
    if isinstance(value, str):
        total.update(b"s" + value.encode("utf-8", "surrogatepass"))
    elif isinstance(value, bytes):
        total.update(b"b" + value)
    elif value is None or isinstance(value, bool | int | float):
        total.update(b"j" + json.dumps(value).encode())
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            total.update(b"k" + str(key).encode() + b"\0")
            _feed(total, value[key])
            total.update(b"\0")
    elif isinstance(value, list | tuple):
        for part in value:
            _feed(total, part)
            total.update(b"\0")
    elif hasattr(value, "tobytes"):  # an array, or a picture
        shape = getattr(value, "shape", getattr(value, "size", ""))
        total.update(f"a{shape}{getattr(value, 'dtype', getattr(value, 'mode', ''))}".encode())
        total.update(value.tobytes())
    else:
        total.update(b"r" + repr(value).encode())


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file that the operating system does not let us read."""
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path} does not exist", "a file or a folder", "Check the path")
    return DataError(
        f"{path} cannot be read ({error.strerror or error})",
        "a file that you may read",
        "Change its permissions, or copy it",
    )
