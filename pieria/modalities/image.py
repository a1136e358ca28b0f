"""Pictures: a folder (sub-folders are classes), a zip of one, an `.npz`, an idx file, or a single picture; form `Grid`.

Artifacts are PIL images, decoded when they are asked for. Nothing about them changes silently: pictures of several sizes
or kinds are refused unless a setting says what to do, and what is done is told in the findings.
"""

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from PIL import Image as Pillow
from pydantic import field_validator

from pieria.data.storage import write_atomically
from pieria.errors import DataError, FormError, UsageError
from pieria.forms import Form, Grid, Label, Tokens, from_json
from pieria.modalities import arrays, domains, idx
from pieria.modalities.captions import CaptionWords
from pieria.modalities.contract import Collection, Modality, Sniff
from pieria.modalities.folders import read_files, read_folder, sniff, tell
from pieria.modalities.pictures import (
    CHANNELS,
    SUFFIXES,
    Look,
    PictureArray,
    PictureFiles,
    from_levels,
    is_picture,
    natural,
    to_levels,
)
from pieria.modalities.shaping import Shape, shaped
from pieria.modalities.sheets import file_of, sheet
from pieria.modalities.stored import pixels_of
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

if TYPE_CHECKING:
    from torch import Tensor

    from pieria.data.examples import Examples
    from pieria.noise import Noise

# held-out pictures are binarised once, from this seed, so that every model is scored on the same bits
HELD_OUT_SEED = 20080612


class ImageSettings(AnySettings):
    """How pictures become grids of levels."""

    size: tuple[int, ...] = Field(
        (), description="height,width to bring every picture to (one number: square); empty: as they come"
    )
    fit: Literal["crop", "resize", "pad"] = Field(
        "crop", description="how to reach that size: scale and crop the middle, stretch, or scale and pad"
    )
    colour: Literal["auto", "grey", "rgb", "rgba"] = Field(
        "auto", description="grey, colour, colour with transparency (1, 3 or 4 channels); auto: as they come"
    )
    levels: int | None = Field(
        None,
        ge=2,
        le=65536,
        description="values a pixel can have (fewer quantise); none: as they come, 256 for 16-bit pictures",
    )
    binarize: Literal["none", "threshold", "dynamic"] = Field(
        "none", description="black or white by half the range, or drawn with the intensity as its odds, anew each epoch"
    )
    background: int = Field(255, ge=0, le=255, description="the grey behind transparent pixels and in padding")
    flip: bool = Field(False, description="in training, mirror half of the pictures left to right")
    partners: Literal["no", "auto", "names", "order"] = Field(
        "no",
        description="with --to, which picture of A belongs to which of B: no (they are not paired), names (of files, or an "
        "array of names), order, auto (names where both have any, else order)",
    )
    captions: bool = Field(False, description="what a picture may be conditioned on is its caption, not its class")
    broken: Literal["refuse", "skip"] = Field("refuse", description="what to do with a picture that cannot be decoded")
    held: Literal["auto", "memory", "disk", "files"] = Field(
        "auto",
        description="decoded pictures of a folder: in memory, in a file in the cache, or decoded anew for each batch; "
        "auto: the first with room (a quarter of the free memory); learned is the same",
    )
    decoders: int | None = Field(
        None, ge=1, le=64, description="processes that decode pictures not held in memory; none: one a processor, at most 16"
    )

    @field_validator("size", mode="before")
    @classmethod
    def _one_number_is_square(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return (value, value)
        return tuple(value) * 2 if isinstance(value, list | tuple) and len(value) == 1 else value

    @field_validator("size")
    @classmethod
    def _two_positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(value) not in (0, 2) or any(not 1 <= side <= 16384 for side in value):
            raise ValueError("wanted height,width of 1 to 16384 pixels")
        return value

    @field_validator("colour", mode="before")
    @classmethod
    def _channels_are_words(cls, value: Any) -> Any:
        return {str(number): word for word, number in CHANNELS.items()}.get(str(value), value)

    @field_validator("levels", "decoders", mode="before")
    @classmethod
    def _none_is_a_word(cls, value: Any) -> Any:
        return None if value in ("none", "auto", "") else value

    @property
    def channels(self) -> int | None:
        """How many channels every picture is to have; None as they come."""
        return CHANNELS.get(self.colour)


class Image(Modality):
    """PIL images to long ``[picture, channel, height, width]`` levels and back."""

    name: ClassVar[str] = "image"
    Settings = ImageSettings
    forms: ClassVar[tuple[str, ...]] = ("grid",)
    suffixes: ClassVar[tuple[str, ...]] = (*SUFFIXES, ".npz", ".zip", "-ubyte", "-ubyte.gz")
    settings: ImageSettings

    def __init__(self, settings: ImageSettings) -> None:
        super().__init__(settings)
        self._form: Grid | None = None
        self.classes: tuple[str, ...] = ()
        self.captions: CaptionWords | None = None

    # ── files to artifacts ──────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def sniff(cls, path: Path, column: str | None = None) -> Sniff:
        """How sure: by names in a folder or zip, by the first bytes of a file."""
        del column
        try:
            return sniff(path)
        except Exception as error:  # sniffing answers "not mine", whatever is wrong with the file
            return Sniff(0.0, f"cannot be looked at ({error})")

    def read(self, path: Path, column: str | None = None) -> Collection:
        """All pictures at ``path``; ``column`` names the array of classes in an `.npz`.

        Raises `DataError` for an empty folder, a broken picture, mixed sizes or kinds, and says which setting helps.
        """
        path = Path(path)
        wanted = "a folder of pictures, .npz, idx, .zip or a picture"
        try:
            if not path.exists():
                raise DataError(f"{path} does not exist", wanted, "Check the path")
            if path.is_file() and path.stat().st_size == 0:
                raise DataError(f"{path} is empty", wanted, "Fetch it again")
            if column is not None and path.is_file() and path.suffix.lower() != ".npz":
                raise UsageError(
                    f"{path} has no column {column!r}", "pictures have none but in an .npz", "Leave --column out"
                )
            if path.suffix.lower() == ".npz":
                collection = arrays.read_npz(path, column)
            elif path.is_file() and idx.sizes(path) is not None:
                collection = arrays.read_idx(path)
            elif path.is_file() and is_picture(path.name):
                return read_files(PictureFiles(path.parent, [path.name]), self.settings.changed(held="memory"))
            elif path.is_dir() or zipfile.is_zipfile(path) or path.suffix.lower() == ".zip":
                found = read_folder(path, self.settings)
                return found if isinstance(found, Collection) else self.read(found, column)
            else:
                raise DataError(f"{path} is not a picture", wanted, "Check the path, or say what it is with --as")
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror or error})", "a readable path", "Check it") from None
        pictures = collection.artifacts
        assert isinstance(pictures, PictureArray)
        _, height, width, channels = pictures.array.shape
        look = Look(height, width, channels, "array", pictures.levels > 256)
        collection.findings[:0] = tell([look] * len(pictures), self.settings)
        return collection

    def read_two(self, path: Path, to: Path) -> Collection:
        """The pictures at ``to``, each with its partner at ``path`` as its prompt; `DataError` where one has none."""
        given, made = self.read(path), self.read(to)
        self.agree(given, made, path, to)
        return domains.paired(given, made, self.settings.partners, path, to)

    def agree(self, given: Collection, made: Collection, path: str | Path, to: str | Path) -> None:
        """`DataError` that names the cure, unless both collections are of one size, kind and number of levels."""
        readers = [type(self)(self.settings) for _ in (given, made)]
        for reader, collection in zip(readers, (given, made), strict=True):
            reader.learn(collection)
        domains.same_form(readers[0].form, readers[1].form, path, to)

    # ── artifacts to tensors ────────────────────────────────────────────────────────────────────────────────────────

    def learn(self, collection: Collection, form: str | None = None) -> None:
        """Take the size, the channels, the levels and the classes from the training pictures."""
        if form not in (None, "grid"):
            raise UsageError(f"pictures have no form {form!r}", "their form is grid", "Leave --form out")
        pictures, settings = collection.artifacts, self.settings
        if len(pictures) == 0:
            raise DataError("no pictures to learn from", "at least one", "Look at what was read with 'pieria data PATH'")
        if isinstance(pictures, PictureArray):
            height, width, channels = pictures.array.shape[1:]
            found = pictures.levels
        else:
            first = pictures[0]
            (width, height), channels, found = first.size, natural(first), first.info.get("levels", 256)
        if settings.size:
            height, width = settings.size
        if settings.channels is not None:
            channels = settings.channels
        # 65,536 levels are learned only when asked for: no family copes with so many by default
        levels = 2 if settings.binarize != "none" else settings.levels or (found if found <= 256 else 256)
        if levels > 256 and channels != 1:
            raise UsageError(
                f"levels = {levels:,} with {channels} channels", "more than 256 in grey pictures only", "Set levels=256"
            )
        self._form = Grid(channels, height, width, levels)
        self.classes = collection.classes
        if settings.captions:
            if collection.captions is None:
                raise DataError(
                    "pictures without captions",
                    "a .txt of the same name beside each, or a captions.json beside an .npz",
                    "Fit with --condition label, or without a condition",
                )
            self.captions = CaptionWords.learn(collection.captions)

    @property
    def prompt_form(self) -> Tokens | None:
        """The form of captions; None unless they are the condition."""
        return None if self.captions is None else self.captions.form

    def prompts(self, texts: Sequence[str]) -> "Tensor":
        """Descriptions of pictures that are asked for, in words that captions have; long ``[text, word]``."""
        if self.captions is None:
            raise UsageError("a prompt for a model of pictures", "one that learned their captions", "Leave it out")
        return self.captions.encode(texts, strict=True)

    def told(self, prompts: "Tensor") -> list[str]:
        """What `prompts` were made of."""
        assert self.captions is not None
        return self.captions.decode(prompts)

    @property
    def form(self) -> Grid:
        """``Grid(channels, height, width, levels)``."""
        if self._form is None:
            raise FormError("the image modality has not seen any pictures", "learn() or restore() first")
        return self._form

    def encode_whole(self, image: Pillow.Image, *, resize: bool = False) -> "Tensor":
        """One picture as long ``[1, channel, height, width]`` at its own size, whatever the size learned from.

        With ``resize`` it is brought to that size, even if none of the data had to be.
        """
        import torch

        shape = self._shape
        if resize:
            shape = replace(shape, fit=self.settings.fit)
        elif isinstance(image, Pillow.Image):
            shape = replace(shape, height=image.height, width=image.width, fit="")
        return torch.from_numpy(self._levels(np.stack([shaped(image, "the picture", shape)]), np.zeros(1, np.int64))).long()

    def encode(self, artifacts: Sequence[Pillow.Image]) -> "Tensor":
        """PIL images as long ``[picture, channel, height, width]``.

        Raises `FormError` for a picture of another size or kind when no setting says how to change it. With
        ``binarize=dynamic`` the bits are drawn once, from a fixed seed.
        """
        import torch

        intensities = self._intensities(artifacts)
        return torch.from_numpy(self._levels(intensities, np.arange(len(intensities)))).long()

    def examples(self, collection: Collection, *, training: bool = False) -> "Examples":
        """The pictures with their classes; in training redrawn (``binarize=dynamic``) and mirrored (``flip``).

        Where they are to be made of others, with these instead: each with its partner, or with any.
        """
        from pieria.data.examples import Fetched, ItemExamples, UnpairedExamples, as_tensor

        if collection.sources is not None:
            alone = self.examples(replace(collection, sources=None), training=training)
            return UnpairedExamples(alone, self.examples(collection.sources, training=training))
        dynamic = self.settings.binarize == "dynamic"
        change = training and (dynamic or self.settings.flip)
        top = 255 if self._shape.kind == np.uint8 else 65535
        x: Tensor | Fetched
        source: Tensor | Fetched | None
        if (pixels := pixels_of(collection.artifacts, self._shape)) is not None:
            x = Fetched(pixels, self._levels)
            source = Fetched(pixels, lambda values, places: values) if dynamic and change else None
        else:
            intensities = self._intensities(collection.artifacts)
            x = as_tensor(self._levels(intensities, np.arange(len(intensities))))
            source = as_tensor(intensities) if dynamic and change else None
        condition, told = self._told(collection)
        if collection.prompts is not None:
            if dynamic:
                raise UsageError("binarize=dynamic with pairs of pictures", "bits that stay", "Set binarize=threshold")
            given = self._intensities(collection.prompts)
            condition, told = self.form, as_tensor(self._levels(given, np.arange(len(given))))
        return ItemExamples(
            self.form,
            x,
            condition=condition,
            conditions=told,
            augment=partial(_augment, top=top if dynamic else None, flip=self.settings.flip) if change else None,
            source=source,
        )

    def _told(self, collection: Collection) -> "tuple[Form | None, Tensor | None]":
        """What pictures are conditioned on, captions or classes, and its form."""
        if self.captions is None:
            labels = self._labels(collection)
            return None if labels is None else Label(self.classes), labels
        return self.captions.form, self.captions.encode(collection.captions or [""] * len(collection))

    def _labels(self, collection: Collection) -> "Tensor | None":
        import torch

        if collection.labels is None or not self.classes:
            return None
        code = {name: place for place, name in enumerate(self.classes)}
        strange = set(collection.classes) - set(code)
        if strange:
            raise FormError(
                f"the class {sorted(strange)[0]!r} does not occur in the training part",
                f"one of {', '.join(self.classes[:20])}",
                "Rename the class, or fit on data that has it",
            )
        here = [code[name] for name in collection.classes]
        return torch.tensor([here[label] for label in collection.labels], dtype=torch.int64)

    @property
    def _shape(self) -> Shape:
        """What a picture is brought to: 16 bits deep where more levels are wanted than 8 bits have."""
        settings, form = self.settings, self.form
        return Shape(
            channels=form.channels,
            height=form.height,
            width=form.width,
            deep=(form.levels or 256) > 256,
            fit=settings.fit if settings.size else "",
            converts=settings.channels is not None,
            background=settings.background,
        )

    def _intensities(self, artifacts: Sequence[Pillow.Image]) -> np.ndarray:
        """``[picture, channel, height, width]`` in the full range of uint8, or of uint16 where more levels are wanted."""
        shape = self._shape
        channels, height, width = shape.array
        if len(artifacts) == 0:
            raise FormError("no pictures", "at least one", "Look at what was read with 'pieria data PATH'")
        if isinstance(artifacts, PictureArray) and artifacts.array.shape[1:] == (height, width, channels):
            top, table = (65535 if shape.deep else 255), np.arange(artifacts.levels)
            table = np.round(table * (top / (artifacts.levels - 1))).astype(shape.kind)
            return np.ascontiguousarray(table[artifacts.array].transpose(0, 3, 1, 2))
        grids = np.empty((len(artifacts), *shape.array), shape.kind)
        names = [artifacts.title(name) for name in artifacts.names] if isinstance(artifacts, PictureFiles) else None
        for place, image in enumerate(artifacts):
            grids[place] = shaped(image, f"picture {place}" if names is None else names[place], shape)
        return grids

    def _levels(self, intensities: np.ndarray, places: np.ndarray) -> np.ndarray:
        """The levels of pictures that stand at these places of their part."""
        if self.settings.binarize == "none":
            return to_levels(intensities, self.form.levels or 256)
        top = 255 if intensities.dtype == np.uint8 else 65535
        if self.settings.binarize == "threshold":
            return (intensities > top // 2).astype(np.uint8)
        bits = np.empty(intensities.shape, np.uint8)
        for picture, values, place in zip(bits, intensities, places, strict=True):  # no floats for the whole set
            np.less(_held_out_odds(int(place), values.size).reshape(values.shape) * top, values, out=picture.view(bool))
        return bits

    # ── tensors to artifacts to files ───────────────────────────────────────────────────────────────────────────────

    def decode(self, x: "Tensor") -> list[Pillow.Image]:
        """Long ``[picture, channel, height, width]`` as PIL images; sizes other than the learned one are welcome."""
        levels = self.form.levels or 256
        if x.ndim != 4 or x.shape[1] != self.form.channels:
            raise FormError(f"a tensor of shape {list(x.shape)}", f"[picture, {self.form.channels}, height, width]")
        values = x.detach().cpu().numpy()
        if values.size and (values.min() < 0 or values.max() >= levels):
            raise FormError(f"levels from {values.min()} to {values.max()}", f"0 to {levels - 1}")
        return [from_levels(grid.transpose(1, 2, 0), levels) for grid in values]

    def write(self, artifacts: Sequence[Pillow.Image], path: Path, metadata: dict[str, str] | None = None) -> list[Path]:
        """PNG files ``0000.png …`` in a directory, or one file: a picture (several: a sheet) or an `.npz` of all."""
        path = Path(path)
        if len(artifacts) == 0:
            raise UsageError("no pictures to write", "at least one")
        if path.suffix.lower() == ".npz":
            stacked = [np.asarray(image) for image in artifacts]
            if len({array.shape for array in stacked}) > 1:
                raise UsageError(f"{path} cannot hold pictures of several sizes", "one size", "Write into a directory")
            buffer = io.BytesIO()
            np.savez_compressed(buffer, images=np.stack(stacked), metadata=np.array(json.dumps(metadata or {})))
            write_atomically(path, buffer.getvalue())
            return [path]
        if is_picture(path.name):
            image = artifacts[0] if len(artifacts) == 1 else sheet(artifacts)
            write_atomically(path, file_of(image, path, metadata))
            return [path]
        if path.suffix and not path.is_dir():
            raise UsageError(
                f"pictures cannot be written to {path.name}", ".png, .jpg, .npz … or a directory", "Change --out"
            )
        digits = max(4, len(str(len(artifacts) - 1)))
        written = []
        for place, image in enumerate(artifacts):
            file = path / f"{place:0{digits}}.png"
            write_atomically(file, file_of(image, file, metadata))
            written.append(file)
        return written

    def preview(self, artifacts: Sequence[Pillow.Image], path: Path, metadata: dict[str, str] | None = None) -> Path:
        """A PNG sheet of the pictures, small ones enlarged in whole steps so that each pixel can be seen."""
        path = Path(path).with_suffix(".png")
        if len(artifacts) == 0:
            raise UsageError("no pictures to show", "at least one")
        write_atomically(path, file_of(sheet(artifacts), path, metadata))
        return path

    def state(self) -> dict[str, Any]:
        """The form, the names of the classes, and the words of captions where they are the condition."""
        words = {} if self.captions is None else {"captions": self.captions.state()}
        return {"form": self.form.to_json(), "classes": list(self.classes), **words}

    @classmethod
    def restore(cls, settings: AnySettings, state: dict[str, Any]) -> Self:
        """The modality that `state` was taken from."""
        assert isinstance(settings, ImageSettings)
        modality = cls(settings)
        form = from_json(state["form"])
        assert isinstance(form, Grid)
        modality._form, modality.classes = form, tuple(state["classes"])
        modality.captions = CaptionWords.restore(state["captions"]) if "captions" in state else None
        return modality


def _held_out_odds(place: int, values: int) -> np.ndarray:
    """The part of one stream of uniform numbers that belongs to the picture at this place, so that none needs the others."""
    block, rest = divmod(place * values, 8)  # Philox makes eight of these numbers at a time
    stream = np.random.Philox(key=HELD_OUT_SEED)
    stream.advance(block)
    return np.random.Generator(stream).random(rest + values, dtype=np.float32)[rest:]


def _augment(x: "Tensor", noise: "Noise", *, top: int | None, flip: bool) -> "Tensor":
    """Draw black and white from intensities of 0 to ``top``, and mirror half of the pictures; a function of the noise."""
    if top is not None:
        x = (noise.uniform("binarize", x.shape[1:]).to(x.device) * top < x).to(x.dtype)
    if flip:
        turned = noise.uniform("flip").to(x.device) < 0.5
        x = x.flip(-1).where(turned[:, None, None, None], x)
    return x if x.dtype.itemsize in (1, 8) else x.long()


MODALITY = Image
