"""Zip archives, unpacked into the cache once, never outside it."""

import lzma
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from pieria.data import cache
from pieria.data.fingerprint import of_file, unreadable
from pieria.errors import DataError

MOST = 50 * 1024**3  # bytes that an archive may hold unpacked


def unpacked(path: Path) -> Path:
    """The folder with the content of a zip; where that is a single folder, this one.

    Raises `DataError` for a damaged archive, for one with a name that leads outside (``../``, ``/``, a link), and for
    one that unpacks to more than fits.
    """
    try:
        target = cache.folder("unpacked", of_file(path)[:32])
        if not target.exists():
            with zipfile.ZipFile(path) as archive, cache.unfinished(target) as folder:
                _extract(path, archive, folder)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError):
        raise DataError(f"{path} is not a zip archive, or is damaged", "a whole one", "Pack or copy it again") from None
    except NotImplementedError as error:
        raise DataError(f"{path} cannot be unpacked ({error})", "a usual zip archive", "Pack the files again") from None
    except OSError as error:
        raise unreadable(path, error) from None
    return _innermost(target)


def _extract(path: Path, archive: zipfile.ZipFile, folder: Path) -> None:
    members = [member for member in archive.infolist() if not member.is_dir()]
    for member in members:
        parts = PurePosixPath(member.filename.replace("\\", "/"))
        if not parts.parts or parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0]:
            raise DataError(
                f"{path} holds the name {member.filename!r}, which leads outside the archive",
                "names without '..', '/' in front or a drive",
                "Do not trust this archive; pack the files again yourself",
            )
        if stat.S_ISLNK(member.external_attr >> 16):
            raise DataError(f"{path} holds a link ({member.filename!r})", "plain files", "Pack the files themselves")
        if member.flag_bits & 1:
            raise DataError(f"{path} is encrypted", "an archive without a password", "Unpack it first")
    size = sum(member.file_size for member in members)
    folder.mkdir()
    room = min(MOST, shutil.disk_usage(folder).free // 2)
    if size > room:
        raise DataError(f"{path} unpacks to {size:,} bytes", f"at most {room:,} (half of what is free)", "Free some space")
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        if name.parts[0] == "__MACOSX" or name.name == ".DS_Store":
            continue
        place = folder.joinpath(*name.parts)
        place.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, place.open("wb") as sink:
            shutil.copyfileobj(source, sink)


def _innermost(folder: Path) -> Path:
    inside = list(folder.iterdir())
    while len(inside) == 1 and inside[0].is_dir():
        folder = inside[0]
        inside = list(folder.iterdir())
    return folder
