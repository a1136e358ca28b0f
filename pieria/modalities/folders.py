"""A folder or a zip of pictures: which files are pictures, what their sub-folders and captions say, what must be settled."""

import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as Pillow

from pieria.errors import DataError
from pieria.modalities import arrays, idx
from pieria.modalities.contract import Collection, Sniff
from pieria.modalities.decoding import Broken
from pieria.modalities.pictures import SUFFIXES, Look, PictureFiles, hidden, is_picture, names_in
from pieria.modalities.shaping import Shape
from pieria.modalities.stored import MANY, looks_of, stored, where

if TYPE_CHECKING:
    from pieria.modalities.image import ImageSettings

KINDS = {1: "grey", 3: "colour", 4: "with transparency"}
# modes that need no word: what is seen is what is stored
PLAIN = ("1", "L", "LA", "RGB", "RGBA", "I;16", "I;16B", "I", "P", "PA", "array")


def read_folder(root: Path, settings: "ImageSettings") -> Collection | Path:
    """The pictures in a folder or zip; or the one array file that a folder without pictures holds.

    Raises `DataError` for a folder without pictures, naming the array files to choose from.
    """
    names = names_in(root)
    pictures = [name for name in names if is_picture(name)]
    if not pictures:
        whole = [name for name in names if root.is_dir() and _is_array(root / name)]
        if len(whole) == 1:
            return root / whole[0]
        raise DataError(
            f"{root} holds no pictures" + (f" but {len(names):,} other files" if names else ""),
            f"files that end with {', '.join(SUFFIXES)}",
            f"Name one of {', '.join(whole)}" if whole else "Check the path",
        )
    texts = {name for name in names if name.endswith(".txt")}
    others = [name for name in names if name not in texts and not is_picture(name) and name != "about.json"]
    collection = read_files(PictureFiles(root, pictures), settings, texts)
    if others:
        collection.findings.append(f"{len(others):,} files that are not pictures were left out, such as {others[0]}")
    return collection


def read_files(files: PictureFiles, settings: "ImageSettings", texts: frozenset[str] | set[str] = frozenset()) -> Collection:
    """Pictures in files, each looked at (its header and its end), none decoded unless ``broken=skip`` asks for it."""
    looks, kept, skipped = _looked(files, settings)
    if not kept:
        raise DataError(f"{files.root} holds no picture that can be decoded", "at least one", "Check the files")
    files = files.take(kept)
    findings = tell(looks, settings, files.names)
    shape = shape_of(looks[0], settings)
    held = where(files, shape, settings.held)
    if held != "memory":
        store, broken = stored(files, shape, held, settings.decoders, skip=settings.broken == "skip")
        lost = {place for place, _ in broken}
        whole = [place for place in range(len(files)) if place not in lost]
        if not whole:
            raise DataError(f"{files.root} holds no picture that can be decoded", "at least one", "Check the files")
        files = PictureFiles(files.root, [files.names[place] for place in whole], store, np.asarray(whole))
        if broken:
            findings = tell([looks[place] for place in whole], settings, files.names)
            skipped += [got for _, got in broken]
        total = len(files) * shape.bytes
        size = f"{f'{total / 1e9:.1f} GB' if total >= 1e9 else f'{total / 1e6:.1f} MB'} of decoded pictures are"
        findings.append(
            f"{size} read from a file in the cache, not held in memory ({store.file.parent})"
            if store.file is not None
            else f"{size} not held: each batch is decoded anew by {store.decoders} processes"
        )
    if skipped:
        findings.append(f"{len(skipped):,} broken pictures were left out: {skipped[0]}")
    labels, classes = _classes(files.names, findings)
    return Collection(files, labels, classes, _captions(files, texts, findings), findings=findings)


def _looked(files: PictureFiles, settings: "ImageSettings") -> tuple[list[Look], list[int], list[str]]:
    """What the headers of the pictures say, at which places whole ones are, and what is wrong with those left out."""
    skip = settings.broken == "skip"  # only decoding a picture whole shows that it is not broken
    looks, kept, skipped = list[Look](), list[int](), list[str]()
    same: dict[Look, Look] = {}  # millions of pictures look alike
    for place, look in enumerate(_each_look(files, settings)):
        if isinstance(look, Look):
            kept.append(place)
            looks.append(same.setdefault(look, look))
        elif skip:
            skipped.append(look.got)
        else:
            raise look.error()
    return looks, kept, skipped


def _each_look(files: PictureFiles, settings: "ImageSettings") -> Iterator[Look | Broken]:
    skip = settings.broken == "skip"
    if len(files) >= MANY:
        yield from looks_of(files, settings.decoders, whole=skip)
        return
    for place in range(len(files)):
        try:
            look = files.look(place)
            if skip:
                files[place]
        except DataError as error:
            yield Broken(place, error.got, error.wanted, error.do)
        else:
            yield look


def shape_of(look: Look, settings: "ImageSettings") -> Shape:
    """What pictures that look like this one are brought to."""
    height, width = settings.size or (look.height, look.width)
    channels = settings.channels or look.channels
    return Shape(
        channels=channels,
        height=height,
        width=width,
        deep=settings.binarize == "none" and (settings.levels or 0) > 256,
        fit=settings.fit if settings.size else "",
        converts=settings.channels is not None,
        background=settings.background,
    )


def tell(looks: Sequence[Look], settings: "ImageSettings", names: Sequence[str] = ()) -> list[str]:
    """What was found and what the settings do about it; refuses what only a setting can decide."""
    sizes = Counter((look.height, look.width) for look in looks)
    if len(sizes) > 1 and not settings.size:
        some = ", ".join(f"{number:,} of {h}×{w}" for (h, w), number in sizes.most_common(3))
        raise DataError(
            f"the pictures have {len(sizes)} sizes (height × width): {some}",
            "one size",
            "Set size=height,width and fit=crop, resize or pad",
        )
    kinds = Counter(look.channels for look in looks)
    if len(kinds) > 1 and settings.channels is None:
        first = {look.channels: name for look, name in zip(reversed(looks), reversed(names))}
        some = ", ".join(f"{number:,} {KINDS[kind]} ({first[kind]})" for kind, number in kinds.most_common())
        raise DataError(f"the pictures are of several kinds: {some}", "one kind", "Set colour=grey, rgb or rgba")
    channels = settings.channels or next(iter(kinds))
    (height, width), _ = sizes.most_common(1)[0]
    findings = [
        f"{len(looks):,} pictures of {f'{height}×{width}' if len(sizes) == 1 else f'{len(sizes)} sizes'}, "
        f"{channels} {'channel' if channels == 1 else 'channels'}"
    ]
    others = sum(number for size, number in sizes.items() if settings.size and size != settings.size)
    if others:
        how = {"crop": "scaled and cropped", "resize": "stretched", "pad": "scaled and padded"}[settings.fit]
        findings.append(f"{others:,} pictures are {how} to {settings.size[0]}×{settings.size[1]}")
    for kind, number in kinds.items():
        if kind == 4 and channels != 4:
            findings.append(f"{number:,} pictures with transparency are laid over grey {settings.background}")
        elif kind != channels:
            findings.append(f"{number:,} pictures are turned from {kind} to {channels} channels")
    deep = sum(look.deep for look in looks)
    wanted = 2 if settings.binarize != "none" else settings.levels or 256
    for number, what in (
        (sum(look.mode in ("P", "PA") for look in looks), "pictures with a palette are decoded to plain colour"),
        (sum(look.mode not in PLAIN for look in looks), "pictures in CMYK or another space are decoded to plain colour"),
        (sum(look.rotated for look in looks), "pictures are turned as their EXIF orientation says"),
        (sum(look.frames > 1 for look in looks), "files hold several frames; the first is read"),
        (deep if wanted <= 256 else 0, f"pictures of 16 bits are rounded to {wanted} levels"),
    ):
        if number:
            findings.append(f"{number:,} {what}")
    return findings


def sniff(path: Path) -> Sniff:
    """How sure that pictures are there: by names in a folder or zip, by the first bytes of a file."""
    if path.is_dir() or (path.suffix.lower() == ".zip" and zipfile.is_zipfile(path)):
        return _sniff_folder(path)
    if path.suffix.lower() == ".npz":
        shapes = arrays.shapes(path)
        name = arrays.images_name(shapes)
        return Sniff(0.9, f"array {name!r} of {_by(shapes[name])}") if name else Sniff(0.0, "no array of pictures")
    sizes = idx.sizes(path)
    if sizes is not None and len(sizes) >= 3:
        return Sniff(0.95, f"an idx file of {_by(sizes)} bytes")
    if is_picture(path.name):
        with Pillow.open(path) as image:
            return Sniff(0.95, f"one {image.format} picture of {image.height}×{image.width}")
    return Sniff(0.0, "not a picture")


def _sniff_folder(path: Path) -> Sniff:
    names, more = [], ""
    if path.is_dir():
        for place, file in enumerate(path.rglob("*")):
            if place == 2000:  # enough to judge by
                more = " or more"
                break
            if file.is_file():
                names.append(file.relative_to(path).as_posix())
    else:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
    names = [name for name in names if not hidden(name) and not name.endswith(".txt")]
    pictures = [name for name in names if is_picture(name)]
    if pictures:
        share = len(pictures) / len(names)
        folders = len({PurePosixPath(name).parent for name in pictures})
        where = f" in {folders} folders" if folders > 1 else ""
        return Sniff(0.95 if share > 0.5 else 0.4 * share, f"{len(pictures):,}{more} pictures{where}")
    found = [name for name in names[:200] if path.is_dir() and _is_array(path / name)]
    return Sniff(0.9, f"holds {found[0]}") if found else Sniff(0.0, "no pictures in it")


def _is_array(path: Path) -> bool:
    if path.suffix.lower() == ".npz":
        return arrays.images_name(arrays.shapes(path)) is not None
    return len(idx.sizes(path) or ()) in (3, 4)


def _by(shape: Sequence[int]) -> str:
    return " × ".join(f"{side:,}" for side in shape)


def _classes(names: Sequence[str], findings: list[str]) -> tuple[list[int] | None, tuple[str, ...]]:
    """Sub-folders as classes, below the folder that all pictures share."""
    parents = [name.rpartition("/")[0] for name in names]
    parts = {parent: parent.split("/") if parent else [] for parent in set(parents)}
    first = parts[parents[0]]
    shared = 0
    while all(len(some) > shared and some[shared] == first[shared] for some in parts.values()):
        shared += 1
    folder = {parent: "/".join(some[shared:]) for parent, some in parts.items()}
    folders = [folder[parent] for parent in parents]
    classes = sorted(set(folders))
    if len(classes) == 1:
        return None, ()
    if "" in classes:
        loose = folders.count("")
        findings.append(f"{loose:,} pictures lie in no sub-folder, so that the sub-folders are not taken as classes")
        return None, ()
    code = {name: place for place, name in enumerate(classes)}
    findings.append(f"{len(classes)} sub-folders as classes: {', '.join(classes[:5])}{' …' if len(classes) > 5 else ''}")
    return [code[folder] for folder in folders], tuple(classes)


def _captions(files: PictureFiles, texts: frozenset[str] | set[str], findings: list[str]) -> list[str] | None:
    if not texts:
        return None
    beside = [str(PurePosixPath(name).with_suffix(".txt")) for name in files.names]
    found = sum(name in texts for name in beside)
    if not found:
        return None
    findings.append(f"{found:,} of {len(beside):,} pictures have a caption beside them")

    def read(name: str) -> Any:
        try:
            return files.bytes_of(name).decode("utf-8").strip() if name in texts else ""
        except UnicodeDecodeError as error:
            raise DataError(f"{files.title(name)} is not UTF-8 ({error})", "UTF-8 text", "Save it as UTF-8") from None

    return [read(name) for name in beside]
