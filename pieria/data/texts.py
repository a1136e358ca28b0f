"""Text files as strings; a file that is too large for memory as a `LargeText`, which is read piece by piece. No torch."""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from pieria.data import cache
from pieria.data.fingerprint import of_file, unreadable
from pieria.errors import DataError

IN_MEMORY = 64 * 1024**2  # bytes: larger files stay on the disk
PIECE = 4 * 1024**2
CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\r\x0c\x1b\x08\x1c\x1d\x1e\x1f")


@dataclass(frozen=True)
class LargeText:
    """The bytes ``start`` to ``stop`` of a UTF-8 file, as text that is never held whole.

    ``len`` counts bytes, and a slice is moved forward to the next whole character.
    """

    path: Path
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, part: slice) -> "LargeText":
        first, last, _ = part.indices(len(self))
        return LargeText(self.path, self._whole(self.start + first), self._whole(self.start + max(first, last)))

    def _whole(self, place: int) -> int:
        with self.path.open("rb") as file:
            file.seek(place)
            for byte in file.read(3):
                if byte & 0xC0 != 0x80:
                    break
                place += 1
        return min(place, self.stop)

    def pieces(self, size: int = PIECE) -> Iterator[str]:
        """The text in order, in strings of some ``size`` bytes, each of which ends at a line break where there is one.

        Raises `DataError` with the place of the first byte that is not UTF-8.
        """
        decoder = codecs.getincrementaldecoder("utf-8")()
        held, place = "", self.start
        with self.path.open("rb") as file:
            file.seek(self.start)
            while place < self.stop:
                raw = file.read(min(size, self.stop - place))
                if not raw:
                    break
                try:
                    held += decoder.decode(raw, final=place + len(raw) >= self.stop)
                except UnicodeDecodeError as error:
                    raise _not_utf8(self.path, f"at byte {place + error.start:,}", "utf-8") from None
                place += len(raw)
                cut = _last_break(held) if place < self.stop else len(held)
                if cut:
                    yield held[:cut].replace("\r\n", "\n")
                    held = held[cut:]
        if held:
            yield held.replace("\r\n", "\n")


def _last_break(text: str) -> int:
    """One past the last line break, else before the last space, else the end."""
    return text.rfind("\n") + 1 or max(text.rfind(" "), 0) or len(text)


AnyText = str | LargeText


def pieces_of(text: AnyText) -> Iterator[str]:
    """A string as itself, a `LargeText` piece by piece."""
    if isinstance(text, LargeText):
        yield from text.pieces()
    else:
        yield text


def read_text(path: Path, encoding: str = "utf-8") -> tuple[AnyText, list[str]]:
    """The text of a file (``.gz`` too), and what was found on the way.

    Raises `DataError` for an empty or binary file, and for one in another encoding.
    """
    findings: list[str] = []
    raw, large = _bytes_of(path)
    _refuse_binary(path, raw[:PIECE])
    if not raw.strip():
        raise DataError(f"{path} is empty", "a file with text", "Check that it was written")
    if large is not None:
        if codecs.lookup(encoding).name not in ("utf-8", "ascii"):
            raise DataError(
                f"{path} is too large to convert from {encoding} in memory", "UTF-8", f"iconv -f {encoding} -t utf-8"
            )
        mark = 3 if raw.startswith(codecs.BOM_UTF8) else 0
        size = large.stat().st_size
        findings.append(f"{size:,} bytes of text, read from the disk piece by piece")
        return LargeText(large, mark, size), findings
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _not_utf8(path, f"on line {line:,} (byte {error.start:,})", encoding) from None
    except LookupError:
        raise DataError(f"no encoding is called {encoding!r}", "one that Python knows", "utf-8, latin-1, utf-16 …") from None
    if text.startswith("\ufeff"):
        text = text[1:]
        findings.append("a byte-order mark at the beginning was left out")
    if "\r\n" in text:
        text = text.replace("\r\n", "\n")
        findings.append("line breaks of Windows (CR LF) were read as LF")
    return text, findings


def _bytes_of(path: Path) -> tuple[bytes, Path | None]:
    """The file's bytes; of a large one only the beginning, with the path of its unpacked content."""
    try:
        if path.suffix != ".gz":
            if path.stat().st_size <= IN_MEMORY:
                return path.read_bytes(), None
            with path.open("rb") as file:
                return file.read(PIECE), path
        with opened(path) as packed_file:
            raw = packed_file.read(IN_MEMORY + 1)
            if len(raw) <= IN_MEMORY:
                return raw, None

        def unpack(to: Path) -> None:
            with gzip.open(path, "rb") as packed, to.open("wb") as plain:
                while piece := packed.read(PIECE):
                    plain.write(piece)

        return raw[:PIECE], cache.made_once(cache.folder("unpacked", f"{of_file(path)[:32]}.txt"), unpack)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise DataError(f"{path} is not a whole gzip file", "one that gunzip can read", "Copy or pack it again") from None
    except OSError as error:
        raise unreadable(path, error) from None


def _refuse_binary(path: Path, raw: bytes) -> None:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return  # decoding says what to do about it
    odd = sum(raw.count(bytes([control])) for control in CONTROLS)
    if b"\0" in raw or odd > len(raw) // 100:
        raise DataError(
            f"{path} is a binary file ({'it holds zero bytes' if chr(0).encode() in raw else 'control characters'})",
            "plain text",
            "Name what it is with --as, or convert it to text",
        )


def opened(path: Path) -> IO[bytes]:
    """The bytes of a file, unpacked on the way if it is a ``.gz``."""
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def looks_like_text(path: Path) -> bool:
    """Whether the beginning of a file decodes as UTF-8 without control characters; never raises."""
    try:
        with opened(path) as file:
            raw = file.read(1 << 16)
        _refuse_binary(path, raw)
        codecs.getincrementaldecoder("utf-8")().decode(raw)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, DataError):
        return False
    return bool(raw.strip())


def looks_binary(path: Path) -> bool:
    """Whether the beginning of a file holds what no text does, in whatever encoding, or cannot be read; never raises."""
    try:
        with opened(path) as file:
            _refuse_binary(path, file.read(1 << 16))
    except (OSError, EOFError, zlib.error, DataError):
        return True
    return False


def _not_utf8(path: Path, where: str, encoding: str) -> DataError:
    return DataError(
        f"{path} is not {encoding} {where}",
        f"text in {encoding}",
        "Name its encoding with --set encoding=latin-1 (or cp1252, utf-16 …), or convert it to UTF-8",
    )
