"""One picture brought to the size and the channels that are learned from; no torch, so that workers begin quickly."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from pieria.errors import FormError
from pieria.modalities.pictures import as_channels, halved, natural, to_levels


@dataclass(frozen=True)
class Shape:
    """What every picture of a set is brought to.

    Attributes:
        channels, height, width: of the array that a picture becomes.
        deep: 16 bits a value instead of 8.
        fit: how another size is brought to this one; "" refuses it.
        converts: pictures of other channels are converted, and not refused.
        background: the grey behind transparent pixels and in padding.
    """

    channels: int
    height: int
    width: int
    deep: bool
    fit: Literal["", "crop", "resize", "pad"]
    converts: bool
    background: int

    @property
    def kind(self) -> np.dtype[Any]:
        """The type of a value."""
        return np.dtype(np.uint16 if self.deep else np.uint8)

    @property
    def array(self) -> tuple[int, int, int]:
        """``(channels, height, width)``."""
        return self.channels, self.height, self.width

    @property
    def bytes(self) -> int:
        """What one decoded picture takes."""
        return self.channels * self.height * self.width * self.kind.itemsize


def shaped(image: Any, title: str, shape: Shape) -> np.ndarray:
    """One picture as ``[channel, height, width]`` in the full range of uint8 or uint16.

    Raises `FormError`, which calls it ``title``, for a picture of another size or kind that nothing says how to change.
    """
    if not isinstance(image, Pillow.Image):
        raise FormError(f"{title} is a {type(image).__name__}", "a PIL image", "Open it with PIL.Image.open")
    if not shape.converts and natural(image) != shape.channels:
        raise FormError(
            f"{title} has {natural(image)} channels",
            f"{shape.channels} as learned",
            "Convert it, or fit with colour=grey, rgb or rgba",
        )
    array = as_channels(image, shape.channels, shape.background)
    if array.shape[:2] != (shape.height, shape.width):
        if not shape.fit:
            raise FormError(
                f"{title} is {array.shape[0]}×{array.shape[1]} (height × width)",
                f"{shape.height}×{shape.width} as learned",
                f"Resize it, or fit with size={shape.height},{shape.width}",
            )
        array = _resized(array, shape)
    if shape.deep and array.dtype == np.uint8:
        array = array.astype(np.uint16) * 257
    elif array.dtype != shape.kind:
        array = halved(array)
    return to_levels(array, 65536 if shape.deep else 256).transpose(2, 0, 1)


def _resized(array: np.ndarray, shape: Shape) -> np.ndarray:
    """``[h, w, channel]`` brought to ``[height, width, channel]``, deep pictures in floating point."""
    size, background = (shape.width, shape.height), shape.background
    deep = array.dtype != np.uint8
    image = Pillow.fromarray(array[:, :, 0].astype(np.float32) if deep else array[:, :, 0] if array.shape[2] == 1 else array)
    fill: int | tuple[int, ...] = (
        background * 257
        if deep
        else background
        if array.shape[2] == 1
        else (background,) * 3 + (255,) * (array.shape[2] - 3)
    )
    if shape.fit == "resize":
        image = image.resize(size, Pillow.Resampling.LANCZOS)
    elif shape.fit == "crop":
        image = ImageOps.fit(image, size, Pillow.Resampling.LANCZOS)
    else:
        image = ImageOps.pad(image, size, Pillow.Resampling.LANCZOS, color=fill)
    values = np.asarray(image)
    if deep:
        values = np.clip(np.round(values), 0, 65535).astype(np.uint16)
    return values[:, :, None] if values.ndim == 2 else values
