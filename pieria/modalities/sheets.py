"""Pictures as files that people look at: one PNG that names its run, or a sheet of many side by side."""

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import PngImagePlugin

from pieria.modalities.pictures import as_channels, halved, natural

SQUARE = 8  # pixels of the page, of a square behind what is transparent


def sheet(images: Sequence[Pillow.Image], scale: int | None = None) -> Pillow.Image:
    """Pictures side by side on grey: each at least about 96 pixels, none more than 512, all together at most about 4,000."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    shown = [Pillow.fromarray(as_channels(image, 4 if natural(image) == 4 else 3, 255)) for image in images]
    longest = max(max(image.size) for image in shown)
    if scale is None:
        most = max(8, min(512, 4000 // columns))
        if longest > most:
            small = most / longest
            shown = [
                image.resize(
                    (max(1, round(image.width * small)), max(1, round(image.height * small))), Pillow.Resampling.LANCZOS
                )
                for image in shown
            ]
        scale = max(1, min(math.ceil(96 / longest), most // longest))
    if scale > 1:
        shown = [image.resize((image.width * scale, image.height * scale), Pillow.Resampling.NEAREST) for image in shown]
    shown = [_over_squares(image) if image.mode == "RGBA" else image for image in shown]
    width, height = max(image.width for image in shown), max(image.height for image in shown)
    gap = max(2, width // 48)
    page = Pillow.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), (128, 128, 128))
    for place, image in enumerate(shown):
        row, column = divmod(place, columns)
        page.paste(image, (gap + column * (width + gap), gap + row * (height + gap)))
    return page


def _over_squares(image: Pillow.Image) -> Pillow.Image:
    """A picture over two greys in squares, as picture editors show what is transparent."""
    row, column = np.mgrid[: image.height, : image.width] // SQUARE
    below = Pillow.fromarray(np.where((row + column) % 2, 204, 255).astype(np.uint8)).convert("RGBA")
    return Pillow.alpha_composite(below, image).convert("RGB")


def file_of(image: Pillow.Image, path: Path, metadata: dict[str, str] | None) -> bytes:
    """The bytes of a picture file, with the metadata as PNG text chunks (as an EXIF description in JPEG, WebP, TIFF)."""
    buffer = io.BytesIO()
    format_name = Pillow.registered_extensions().get(path.suffix.lower(), "PNG")
    image = image.copy()
    # nothing but what is said here goes into the file
    image.info = {key: value for key, value in image.info.items() if key == "transparency"}
    options: dict[str, Any] = {}
    said = {str(key): str(value) for key, value in (metadata or {}).items()}
    if format_name == "PNG":
        text = PngImagePlugin.PngInfo()
        for key, value in said.items():
            # keywords are Latin-1 of 1 to 79 characters; values may be anything
            text.add_itxt(key.encode("latin-1", "replace").decode("latin-1")[:79] or "metadata", value)
        options["pnginfo"] = text
    elif format_name in ("JPEG", "WEBP", "TIFF") and said:
        exif = Pillow.Exif()
        exif[0x010E] = json.dumps(said)  # ImageDescription
        options["exif"] = exif
    if image.mode.startswith("I") and format_name not in ("PNG", "TIFF", "PPM"):  # the others have 8 bits
        image = Pillow.fromarray(halved(np.asarray(image)))
    if format_name == "JPEG" and image.mode not in ("L", "RGB"):
        image = Pillow.fromarray(as_channels(image, 3, 255))
    image.save(buffer, format_name, **options)
    return buffer.getvalue()
