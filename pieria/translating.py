"""Translating pictures: one kind becomes the other, one file or ten thousand, each at its own size, under its own name."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from pieria.data import catalogue
from pieria.data.storage import write_atomically
from pieria.errors import DataError, UsageError
from pieria.modalities import idx
from pieria.modalities.contract import Modality
from pieria.modalities.image import Image
from pieria.modalities.pictures import PictureFiles, is_picture, names_in
from pieria.modalities.sheets import file_of
from pieria.models.contract import Model, Translates, device_of
from pieria.noise import ItemNoise
from pieria.settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

MOST_PIXELS = 2**24  # of one picture: features of all of it are in memory at once
TOGETHER = 2**20  # pixels that are translated together


class Found(NamedTuple):
    """A picture: the folder or zip that it is in, and its name there; or the file of an array, a name, and its place."""

    root: Path
    name: str
    place: int | None = None


def pictures_in(paths: Iterable[str | Path]) -> list[Found]:
    """Every picture at ``paths``: files, folders with all that is in them, zips, arrays, and sets of the catalogue.

    Raises `DataError` for a path that does not exist, a file that is no picture, a folder or zip that holds none.
    """
    found: list[Found] = []
    for path in chain.from_iterable(map(_files_of, paths)):
        if not path.exists():
            wanted = "a picture, a folder, a zip or an array of pictures, or a name that 'pieria data' lists"
            raise DataError(f"{path} does not exist", wanted, "Check the path")
        if path.is_file() and (path.suffix.lower() == ".npz" or idx.sizes(path) is not None):
            stem = path.name.partition(".")[0]
            found += [Found(path, f"{stem}-{place:05}.png", place) for place in range(len(_array(path)))]
            continue
        if path.is_file() and path.suffix.lower() != ".zip":
            found.append(Found(path.parent, path.name))  # whatever its name says: decoding tells
            continue
        names = [name for name in names_in(path) if is_picture(name)]
        if not names:
            raise DataError(f"{path} holds no pictures", "PNG, JPEG, …", "Check the path")
        found += [Found(path, name) for name in names]
    if not found:
        raise UsageError("no pictures to translate", "files, folders or zips")
    return found


def _files_of(said: str | Path) -> list[Path]:
    """The path, or where the pictures of this set of the catalogue lie."""
    entry = catalogue.entries().get(str(said))
    if entry is None:
        return [Path(said).expanduser()]
    if entry.modality != Image.name:
        raise UsageError(f"'{said}' is {entry.modality}", "pictures", "'pieria data' lists the sets")
    folder = entry.fetch()
    return [folder / file for file in entry.parts.values()] or [folder / entry.read]


def _array(path: Path) -> "Sequence[Picture]":
    return Image(Image.Settings()).read(path).artifacts


def opened(found: Sequence[Found]) -> "Iterator[Picture]":
    """The pictures one after the other, each decoded when it is its turn."""
    sources: dict[Path, PictureFiles] = {}
    arrays: dict[Path, Sequence[Picture]] = {}
    for root, name, place in found:
        if place is not None:
            if root not in arrays:
                arrays = {root: _array(root)}  # one at a time is in memory
            yield arrays[root][place]
            continue
        if root not in sources:
            sources = {root: PictureFiles(root, [])}  # a zip stays open while it is read
        files = sources[root]
        files.names = [name]
        yield files[0]


def translated(
    model: Model,
    modality: Modality,
    pictures: "Iterable[Picture]",
    options: Settings,
    *,
    to: str = "b",
    seed: int = 0,
    batch: int = 16,
    resize: bool = False,
) -> "Iterator[Picture]":
    """Each picture turned into the kind ``to``, at its own size, in order; only those translated together are in memory.

    Args:
        model: one that `Translates`.
        modality: of pictures.
        pictures: PIL images of the kind learned from, of any size.
        options: of the family's drawing.
        to: "b", what the run was fitted --to, or back to "a".
        seed: picture i depends on ``(seed, i)`` alone.
        batch: how many of one size are translated together, if they are small.
        resize: bring each to the size learned from first.

    Raises `UsageError` for a model that does not translate pictures and for a direction that it did not learn, `FormError`
    for a picture with other channels, `DataError` for one that is too large.
    """
    if not isinstance(modality, Image) or not isinstance(model, Translates):
        raise UsageError(
            f"{type(model).__name__} of {modality.name} does not turn pictures into others",
            "a model that learned from two sets of pictures",
            "Fit one: pieria fit A --to B --model cyclegan",
        )
    # a generator would refuse nothing before the first picture is asked for
    return _made(model, modality, pictures, options, to=to, seed=seed, batch=batch, resize=resize)


def _made(
    model: Translates,
    modality: Image,
    pictures: "Iterable[Picture]",
    options: Settings,
    *,
    to: str,
    seed: int,
    batch: int,
    resize: bool,
) -> "Iterator[Picture]":
    waiting: list[Tensor] = []
    done = 0

    def made() -> "Iterator[Picture]":
        x = torch.cat(waiting).to(device_of(model))  # type: ignore[arg-type]  # it is a model as well
        with torch.inference_mode():
            y = model.translate(x, to, options, ItemNoise(seed, len(x), first=done))
        yield from modality.decode(y.cpu())

    for place, picture in enumerate(pictures):
        if picture.width * picture.height > MOST_PIXELS and not resize:
            raise DataError(
                f"picture {place + 1} is {picture.height:,}×{picture.width:,} (height × width)",
                f"at most {MOST_PIXELS:,} pixels, which are in memory with all their features at once",
                "Make it smaller, or give --resize",
            )
        x = modality.encode_whole(picture, resize=resize)
        full = waiting and (len(waiting) == batch or (len(waiting) + 1) * x[0, 0].numel() > TOGETHER)
        if waiting and (full or waiting[0].shape != x.shape):
            yield from made()
            done += len(waiting)
            waiting = []
        waiting.append(x)
    if waiting:
        yield from made()


def places_for(found: Sequence[Found], out: Path) -> list[Path]:
    """Where each translation is written: under ``out``, by the name that the picture had.

    Raises `UsageError` for two of one name, or where a picture would be written over.
    """
    places = [out / (name if is_picture(name) else f"{name}.png") for _, name, _ in found]
    seen: dict[Path, Found] = {}
    for place, one in zip(places, found, strict=True):
        if place in seen:
            first = seen[place]
            raise UsageError(
                f"two pictures would be written to {place}: {first.root / first.name} and {one.root / one.name}",
                "one of each name",
                "Translate them into folders of their own",
            )
        seen[place] = one
        if place.resolve() == (one.root / one.name).resolve():
            raise UsageError(f"{place} would be written over", "another folder", "Give another --out")
    return places


def written(pictures: "Iterable[Picture]", places: Iterable[Path], metadata: dict[str, str]) -> Iterator[Path]:
    """Each picture in its place, as soon as it is made; each file is whole or not there."""
    for picture, place in zip(pictures, places, strict=False):  # numbered places go on for ever
        write_atomically(place, file_of(picture, place, metadata))
        yield place
