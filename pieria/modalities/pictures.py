"""Pictures in order, each decoded when it is asked for: from files, from a zip, from one array.

A picture that cannot be used is a `DataError` that names it: truncated, not a picture, a decompression bomb, a zip whose
names climb out of their folder. Nothing is unpickled.
"""

import io
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps, TiffImagePlugin

from pieria.data.fingerprint import of_item
from pieria.errors import DataError, PieriaError
from pieria.modalities.contract import Lazy

if TYPE_CHECKING:
    from pieria.modalities.stored import Stored

Decoded = TypeVar("Decoded")

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
# one picture file larger than this is a mistake or an attack
LARGEST_MEMBER = 512 * 1024**2
CHANNELS = {"grey": 1, "rgb": 3, "rgba": 4}
NATURAL = {"1": 1, "L": 1, "I;16": 1, "I;16B": 1, "I": 1, "LA": 4, "La": 4, "RGBA": 4, "RGBa": 4, "PA": 4}
# values of the EXIF orientation: those that turn or mirror a picture, and those that exchange its height and width
TURNED, SIDEWAYS = range(2, 9), range(5, 9)


def is_picture(name: str) -> bool:
    """Whether a file's name says that it is a picture."""
    return name.lower().endswith(SUFFIXES)


def hidden(name: str) -> bool:
    """Whether a path inside a folder or a zip belongs to the system, not to the data."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


@dataclass(frozen=True)
class Look:
    """What a picture's header says: size as it is seen (after EXIF rotation), natural channels, peculiarities."""

    height: int
    width: int
    channels: int
    mode: str
    deep: bool = False
    frames: int = 1
    rotated: bool = False


class PictureFiles(Lazy):
    """Pictures in files: ``names`` under a folder, or members of a zip.

    Those of a large set have a ``store``, where they are kept decoded or at least digested, and their rows in it.
    """

    def __init__(
        self, root: Path, names: Sequence[str], store: "Stored | None" = None, rows: np.ndarray | None = None
    ) -> None:
        self.root, self.names = root, list(names)
        self.store, self._rows = store, rows
        self._zip = zipfile.ZipFile(root) if root.is_file() and zipfile.is_zipfile(root) else None

    def __len__(self) -> int:
        return len(self.names)

    def take(self, places: Sequence[int]) -> "PictureFiles":
        """The pictures at these places."""
        rows = None if self._rows is None else self._rows[np.asarray(places, dtype=np.int64)]
        return PictureFiles(self.root, [self.names[place] for place in places], self.store, rows)

    def rows_of(self, places: np.ndarray) -> np.ndarray:
        """Where the pictures at these places stand in the store."""
        assert self._rows is not None
        return self._rows[places]

    def digests(self) -> Iterable[bytes]:
        """A digest of each picture as it is decoded, before anything is done to it."""
        if self.store is None or self._rows is None:
            return map(of_item, self)
        return (self.store.digests[row].tobytes() for row in self._rows)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return self.take(range(*place.indices(len(self))))
        name = self.names[place]
        return _guarded(lambda: _whole(self.bytes_of(name)), self.title(name))

    def title(self, name: str) -> str:
        """How messages call one of the pictures."""
        return f"{self.root}:{name}" if self._zip is not None else str(self.root / name)

    def look(self, place: int) -> Look:
        """What the header says; raises `DataError` for a file that is no whole picture, without decoding it."""
        name = self.names[place]
        raw = self.bytes_of(name)
        look = _guarded(lambda: _header(raw), self.title(name))
        # a PNG ends with IEND and a JPEG with FFD9; where the end is missing, decoding decides whether it is broken
        whole = b"IEND" in raw[-64:] if raw[:4] == b"\x89PNG" else raw[:2] != b"\xff\xd8" or b"\xff\xd9" in raw[-64:]
        if not whole:
            self[place]
        return look

    def bytes_of(self, name: str) -> bytes:
        """The bytes of one picture or of a caption beside it."""
        try:
            if self._zip is None:
                return (self.root / name).read_bytes()
            size = self._zip.getinfo(name).file_size
            if size > LARGEST_MEMBER:
                raise DataError(
                    f"{self.title(name)} unpacks to {size:,} bytes", f"at most {LARGEST_MEMBER:,}", "Take it out of the zip"
                )
            return self._zip.read(name)
        except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, NotImplementedError) as error:
            raise DataError(
                f"{self.title(name)} cannot be read ({getattr(error, 'strerror', None) or error})",
                "a readable picture",
                "Give permission, or leave it out (broken=skip)",
            ) from None


class PictureArray(Lazy):
    """Pictures in one array ``[picture, height, width, channel]`` of uint8 or uint16 (the artifacts are PIL images).

    ``levels`` says how many values there are: 17 for digits of 0 to 16. The images show them stretched over 0 to 255 and
    carry the number in ``info["levels"]``.
    """

    def __init__(self, array: np.ndarray, levels: int) -> None:
        self.array, self.levels = array, levels

    def __len__(self) -> int:
        return len(self.array)

    def take(self, places: Sequence[int]) -> "PictureArray":
        """The pictures at these places."""
        return PictureArray(self.array[np.asarray(places, dtype=np.int64)], self.levels)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return PictureArray(self.array[place], self.levels)
        return from_levels(self.array[place], self.levels)


def from_levels(levels: np.ndarray, count: int) -> Pillow.Image:
    """``[height, width, channel]`` of ``0 .. count - 1`` as a picture; exactly what `to_levels` turns back."""
    deep = count > 256
    top = 65535 if deep else 255
    values = np.round(levels.astype(np.float64) * (top / (count - 1))).astype(np.uint16 if deep else np.uint8)
    if values.shape[2] == 1:
        image = Pillow.fromarray(values[:, :, 0])
    elif deep:
        raise DataError(
            f"pictures of {count:,} levels in {values.shape[2]} channels", "16 bits in one channel", "Set levels=256"
        )
    else:
        image = Pillow.fromarray(values)
    image.info["levels"] = count
    return image


def to_levels(values: np.ndarray, count: int) -> np.ndarray:
    """Values of 0 to 255 (uint8) or 0 to 65535 (uint16) as the nearest of ``count`` levels, uint8 where they fit."""
    top = 255 if values.dtype == np.uint8 else 65535
    if count == top + 1:
        return values
    # a table is quicker than arithmetic on every pixel, and rounds the same way everywhere
    table = np.floor(np.arange(top + 1) * ((count - 1) / top) + 0.5)
    return table.astype(np.uint8 if count <= 256 else np.uint16)[values]


def halved(values: np.ndarray) -> np.ndarray:
    """Values of 16 bits rounded to 8."""
    return np.round(values.astype(np.float64) * (255 / 65535)).astype(np.uint8)


def natural(image: Pillow.Image) -> int:
    """How many channels a picture has by itself: 1 (grey), 3 (colour) or 4 (with transparency)."""
    if "transparency" in image.info:
        return 4
    return NATURAL.get(image.mode, 3)


def as_channels(image: Pillow.Image, channels: int, background: int) -> np.ndarray:
    """A picture as ``[height, width, channels]``; transparency is laid over a ``background`` of this grey."""
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip when it converts
        deep = np.asarray(image).astype(np.uint16)
        if channels == 1:
            return deep[:, :, None]
        image = Pillow.fromarray(halved(deep))
    if natural(image) == 4 and channels != 4:
        below = Pillow.new("RGBA", image.size, (background, background, background, 255))
        image = Pillow.alpha_composite(below, image.convert("RGBA")).convert("RGB")
    image = image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
    array = np.asarray(image)
    return array[:, :, None] if channels == 1 else array


def _header(raw: bytes) -> Look:
    with Pillow.open(io.BytesIO(raw)) as image:
        _usable(image)
        # Pillow decodes a PNG to look for EXIF behind its pixels; what matters stands before them
        exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
        orientation = exif.get(0x0112, 1)
        width, height = image.size[::-1] if orientation in SIDEWAYS else image.size
        return Look(
            height,
            width,
            natural(image),
            image.mode,
            _deep(image, raw),
            getattr(image, "n_frames", 1),
            orientation in TURNED,
        )


def _deep(image: Pillow.Image, raw: bytes) -> bool:
    """Whether the file has more than 8 bits a value, also where Pillow reads them as 8, as it does colours."""
    if image.format == "PNG":
        return raw[24] == 16
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return bool(np.max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, 8)) > 8)
    return image.mode.startswith("I")


def _whole(raw: bytes) -> Pillow.Image:
    with Pillow.open(io.BytesIO(raw)) as image:
        _usable(image)
        image.load()
        upright = ImageOps.exif_transpose(image) or image
        if upright.mode == "I":
            values = np.asarray(upright)
            if values.min() < 0 or values.max() > 65535:
                raise ValueError("32-bit values beyond 0 to 65535")
        # what came with the file (its EXIF block, its colour profile) is neither learned from nor passed on
        upright.info = {key: value for key, value in upright.info.items() if key == "transparency"}
        return upright if upright is not image else image.copy()


def _usable(image: Pillow.Image) -> None:
    if image.mode == "F":
        raise ValueError("32-bit floating-point pixels; convert it to 8 or 16 bits")
    if image.mode == "LAB":
        raise ValueError("CIELAB colours; convert it to RGB")


def _guarded(decode: Callable[[], Decoded], title: str) -> Decoded:
    """Run Pillow on bytes of unknown origin, with every way in which it fails told as one `DataError`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Pillow.DecompressionBombWarning)
        try:
            return decode()
        except PieriaError:  # told already: a file that cannot be read
            raise
        except (Pillow.DecompressionBombWarning, Pillow.DecompressionBombError):
            raise DataError(
                f"{title} declares more than {Pillow.MAX_IMAGE_PIXELS or 0:,} pixels (a decompression bomb?)",
                "a picture that fits into memory",
                "Make it smaller, or leave it out (broken=skip)",
            ) from None
        except Pillow.UnidentifiedImageError:
            raise DataError(
                f"{title} is not a picture", "PNG, JPEG, …", "Remove it, or leave it out (broken=skip)"
            ) from None
        except Exception as error:  # decoders raise nearly anything on damaged bytes
            raise DataError(
                f"{title} cannot be decoded ({error})", "a whole picture", "Replace it, or leave it out (broken=skip)"
            ) from None


def names_in(root: Path) -> list[str]:
    """The names of all files in a folder or a zip, sorted, without what the system put there.

    Raises `DataError` for a zip with a name that leaves its folder (``../``) or is absolute, and for a damaged one.
    """
    if root.is_dir():
        return sorted(name for p in root.rglob("*") if p.is_file() and not hidden(name := p.relative_to(root).as_posix()))
    try:
        with zipfile.ZipFile(root) as archive:
            names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise DataError(f"{root} cannot be opened as a zip ({error})", "a whole zip file", "Fetch it again") from None
    for name in names:
        parts = name.replace("\\", "/").split("/")
        if ".." in parts or name.startswith(("/", "\\")) or ":" in parts[0]:
            raise DataError(f"{root} holds the name {name!r}, which leaves its folder", "names inside it", "Do not trust it")
    return sorted(name for name in names if not hidden(name))
