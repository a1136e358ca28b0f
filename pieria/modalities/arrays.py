"""Pictures kept as one array: `.npz` files (never unpickled) and idx files, with their labels, groups and captions."""

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from pieria.errors import DataError
from pieria.modalities import idx
from pieria.modalities.contract import Collection
from pieria.modalities.pictures import PictureArray

IMAGES = ("images", "x", "X", "data", "arr_0")
LABELS = ("labels", "label", "y", "classes", "class", "target", "subject", "character")
LARGEST = 16 * 1024**3


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each array in an `.npz`, from the headers alone; empty if it is none."""
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".npy"):
                    with archive.open(name) as file:
                        version = np.lib.format.read_magic(file)
                        read = (
                            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                        )
                        found[name.removesuffix(".npy")] = read(file)[0]
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, zlib.error, EOFError):
        return {}
    return found


def images_name(found: dict[str, tuple[int, ...]]) -> str | None:
    """Which array of an `.npz` holds the pictures: the one with a telling name, or the only one of 3 or 4 dimensions."""
    named = [name for name in IMAGES if len(found.get(name, ())) in (3, 4)]
    shaped = [name for name, shape in found.items() if len(shape) in (3, 4)]
    return named[0] if named else shaped[0] if len(shaped) == 1 else None


def read_npz(path: Path, column: str | None = None) -> Collection:
    """The pictures of an `.npz`; ``column`` names the array that holds their classes.

    Known names: ``images`` (N×H×W, N×H×W×C or N×C×H×W), ``labels``, ``levels`` (a scalar: how many values there are),
    ``labels_names``. Every other array of N values is a group by which an audit can tell the pictures apart.
    """
    arrays = _load(path)
    name = images_name({key: value.shape for key, value in arrays.items()})
    if name is None:
        kinds = ", ".join(f"{key} {list(value.shape)}" for key, value in arrays.items()) or "nothing"
        raise DataError(f"{path} holds {kinds}", "an array 'images' of N×H×W or N×H×W×C", "Rename the array that holds them")
    findings: list[str] = []
    images = arrays[name]
    images, levels = _as_levels(_as_nhwc(images, path, findings), arrays.get("levels"), path, findings)
    count = len(images)
    if count == 0:
        raise DataError(f"{path} holds no pictures", "at least one", "Look at how it was made")
    along = {key: value for key, value in arrays.items() if key != name and value.shape == (count,)}
    label = column if column is not None else next((key for key in LABELS if key in along), None)
    if label is not None and label not in along:
        raise DataError(f"{path} has no array {label!r} of {count:,} values", f"one of {', '.join(along) or 'none'}", "")
    labels, classes = (None, ()) if label is None else _classes(label, along[label], arrays)
    return Collection(
        PictureArray(images, levels),
        labels=labels,
        classes=classes,
        captions=_captions_beside(path, count, findings),
        groups={key: value.tolist() for key, value in along.items()},
        findings=findings,
    )


def read_idx(path: Path) -> Collection:
    """The pictures of an idx file, with the labels file that stands beside it."""
    images = idx.read(path)
    if images.ndim not in (3, 4):
        raise DataError(
            f"{path} holds {' × '.join(map(str, images.shape))} values",
            "pictures: N×H×W",
            "Name the images file; its labels are found beside it",
        )
    if len(images) == 0:
        raise DataError(f"{path} holds no pictures", "at least one", "Fetch it again")
    findings: list[str] = []
    images, levels = _as_levels(_as_nhwc(images, path, findings), None, path, findings)
    beside = idx.labels_beside(path)
    if beside is None:
        findings.append("no labels file beside it")
        return Collection(PictureArray(images, levels), findings=findings)
    values = idx.read(beside)
    if values.shape != (len(images),):
        raise DataError(
            f"{beside} holds {values.shape} labels for {len(images):,} pictures of {path.name}", "one each", "Check both"
        )
    labels, classes = _classes("labels", values, {})
    findings.append(f"labels from {beside.name}: {len(classes)} classes")
    return Collection(PictureArray(images, levels), labels=labels, classes=classes, findings=findings)


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > LARGEST:
            raise DataError(f"{path} unpacks to {size:,} bytes", f"at most {LARGEST:,}", "Cut it into smaller files")
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        said = "it holds Python objects, which are never unpickled" if "allow_pickle" in str(error) else str(error)
        raise DataError(
            f"{path} cannot be read ({said})", "an .npz of plain arrays", "Save it again with numpy.savez"
        ) from None


def _as_nhwc(images: np.ndarray, path: Path, findings: list[str]) -> np.ndarray:
    if images.ndim == 3:
        return images[:, :, :, None]
    if images.shape[3] not in (1, 3, 4) and images.shape[1] in (1, 3, 4):
        findings.append("the channels stand before height and width: moved to the end")
        return np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    if images.shape[3] not in (1, 3, 4):
        raise DataError(f"{path}: pictures of {images.shape[3]} channels", "1, 3 or 4", "Choose the channels to keep")
    return images


def _as_levels(images: np.ndarray, levels: Any, path: Path, findings: list[str]) -> tuple[np.ndarray, int]:
    """The pictures as unsigned integers, and how many levels these have."""
    if images.size == 0:
        return images.astype(np.uint8), 256
    if images.dtype == bool:
        return images.astype(np.uint8), 2
    if images.dtype.kind == "f":
        if not np.isfinite(images).all():
            raise DataError(f"{path} holds NaN or infinite pixels", "finite numbers", "Replace them")
        low, high = float(images.min()), float(images.max())
        if low >= 0 and high <= 1 and levels is None:
            findings.append("fractions of 0 to 1 were rounded to 256 levels")
            return np.round(images * 255).astype(np.uint8), 256
        if (images != np.round(images)).any():
            raise DataError(
                f"{path} holds fractions from {low:g} to {high:g}", "0 to 1, or whole numbers", "Scale them to 0 to 1"
            )
    elif images.dtype.kind not in "iu":
        raise DataError(f"{path} holds pixels of type {images.dtype}", "numbers", "Save them as uint8")
    low, high = int(images.min()), int(images.max())
    if low < 0 or high > 65535:
        raise DataError(f"{path} holds pixels from {low} to {high}", "0 to 255 (or 65535)", "Scale them")
    if levels is not None:
        count = int(np.asarray(levels).reshape(-1)[0])
        if not 2 <= count <= 65536 or high >= count:
            raise DataError(
                f"{path} says levels = {count} and holds the value {high}", "a value below it", "Correct 'levels'"
            )
    elif high == 1:
        findings.append("only the values 0 and 1 occur: read as 2 levels")
        count = 2
    else:
        count = 256 if high <= 255 else 65536
    if count > 256 and images.shape[3] != 1:
        findings.append(f"colours of {count:,} levels were rounded to 256: only grey pictures can have more")
        return np.round(images.astype(np.float64) * (255 / (count - 1))).astype(np.uint8), 256
    return images.astype(np.uint8 if count <= 256 else np.uint16), count


def _classes(name: str, values: np.ndarray, arrays: dict[str, np.ndarray]) -> tuple[list[int], tuple[str, ...]]:
    kinds, labels = np.unique(values, return_inverse=True)
    names = next((arrays[key] for key in (f"{name}_names", "class_names") if key in arrays), None)
    if names is not None and kinds.dtype.kind in "iu" and len(kinds) and kinds[0] >= 0 and kinds[-1] < len(names):
        return values.tolist(), tuple(str(n) for n in names)
    return labels.tolist(), tuple(str(kind) for kind in kinds.tolist())


def _captions_beside(path: Path, count: int, findings: list[str]) -> list[str] | None:
    """One caption a picture from a ``captions.json`` beside the file: a list of strings, or of {"caption"|"name": …}."""
    file = path.with_name("captions.json")
    if not file.is_file():
        return None
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read ({error})", "a list of captions in JSON", "Correct or remove it") from None
    if not isinstance(read, list) or len(read) != count:
        findings.append(f"{file.name} is no list of {count:,} captions, one a picture: left out")
        return None
    said = [c.get("caption", c.get("name")) if isinstance(c, dict) else c for c in read]
    captions = [c for c in said if isinstance(c, str)]
    if len(captions) != count:
        findings.append(f"{file.name} has no caption for {count - len(captions):,} of the pictures: left out")
        return None
    findings.append(f"captions from {file.name}, such as {captions[0]!r}")
    return captions
