"""Pictures side by side with words beside them, and films: what people look at."""

import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pieria.errors import UsageError
from pieria.modalities.pictures import as_channels

CELL = 96  # pixels that a small picture is enlarged to, in whole steps
WIDEST = 4000
PAPER, INK = (255, 255, 255), (40, 40, 40)


def is_picture(artifact: object) -> bool:
    """Whether an artifact can be shown as it is."""
    return isinstance(artifact, Image.Image)


def enlarged(images: Sequence[Image.Image], columns: int, cell: int = CELL) -> list[Image.Image]:
    """The pictures in colour, small ones enlarged in whole steps, large ones shrunk so that ``columns`` of them fit."""
    shown = [Image.fromarray(as_channels(image, 3, 255)) for image in images]
    longest = max(max(image.size) for image in shown)
    most = max(8, min(512, WIDEST // max(1, columns)))
    if longest > most:
        size = [(max(1, round(i.width * most / longest)), max(1, round(i.height * most / longest))) for i in shown]
        return [image.resize(each, Image.Resampling.LANCZOS) for image, each in zip(shown, size, strict=True)]
    scale = max(1, min(-(-cell // longest), most // longest))
    return [image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST) for image in shown]


def tiled(
    rows: Sequence[Sequence[Image.Image | None]],
    *,
    sides: Sequence[str] = (),
    heads: Sequence[str] = (),
    after: Sequence[int] = (),
    cell: int = CELL,
    gap: int = 3,
) -> Image.Image:
    """Rows of pictures on white; words at the left of a row, above a column, and a wide gap ``after`` some columns."""
    columns = max(map(len, rows))
    there = [image for row in rows for image in row if image is not None]
    fitting = iter(enlarged(there, columns, cell))
    grid = [[None if image is None else next(fitting) for image in row] for row in rows]
    width = max(image.width for row in grid for image in row if image is not None)
    height = max(image.height for row in grid for image in row if image is not None)
    font = ImageFont.load_default(size=14)
    left = max((round(font.getlength(side)) + 12 for side in sides), default=gap)
    top = 22 if any(heads) else gap
    x_of = [left + column * (width + gap) + 14 * sum(place < column for place in after) for column in range(columns)]
    page = Image.new("RGB", (x_of[-1] + width + gap, top + len(grid) * (height + gap)), PAPER)
    draw = ImageDraw.Draw(page)
    for column, head in enumerate(heads):
        room = width if column + 1 < columns and heads[column + 1] else page.width - x_of[column]
        draw.text((x_of[column] + 2, 3), _cut(head, font, room), INK, font)
    for number, row in enumerate(grid):
        y = top + number * (height + gap)
        if number < len(sides):
            draw.text((6, y + height // 2 - 8), sides[number], INK, font)
        for column, image in enumerate(row):
            if image is not None:
                page.paste(image, (x_of[column] + (width - image.width) // 2, y + (height - image.height) // 2))
    return page


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: float) -> str:
    while text and font.getlength(text) > room:
        text = text[:-2] + "…" if len(text) > 2 else ""
    return text


def png(image: Image.Image, said: dict[str, str]) -> bytes:
    """The bytes of a PNG file that names its run."""
    from pieria.modalities.sheets import file_of

    return file_of(image, Path("picture.png"), said)


def gif(images: Sequence[Image.Image], said: dict[str, str], rate: int) -> bytes:
    """A film that goes round, ``rate`` pictures a second; grey ones keep all their shades."""
    frames = enlarged(images, 1, cell=224)
    if all(image.mode in ("L", "1") or image.mode.startswith("I") for image in images):
        frames = [frame.convert("L") for frame in frames]
    buffer = io.BytesIO()
    # the format counts in hundredths of a second
    frames[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=10 * max(2, round(100 / rate)),
        loop=0,
        comment=json.dumps(said).encode(),
    )
    return buffer.getvalue()


def mp4(images: Sequence[Image.Image], rate: int) -> bytes:
    """The same film as H.264 in MP4, by ffmpeg.

    Raises `UsageError` where ``imageio-ffmpeg`` is not installed.
    """
    try:
        import imageio_ffmpeg
    except ImportError:
        raise UsageError(
            "an MP4 without imageio-ffmpeg", "it comes with an extra", 'pip install "pieria[latent]", or take the GIF'
        ) from None
    frames = enlarged(images, 1, cell=224)
    # the codec wants even sides
    width, height = (-(-side // 2) * 2 for side in frames[0].size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        options = ["-map_metadata", "-1", "-fflags", "+bitexact", "-movflags", "+faststart", "-threads", "1"]
        writer = imageio_ffmpeg.write_frames(
            str(path), (width, height), fps=rate, codec="libx264", quality=8, macro_block_size=2, output_params=options
        )
        writer.send(None)
        for frame in frames:
            page = Image.new("RGB", (width, height))
            page.paste(frame)
            writer.send(np.ascontiguousarray(page).tobytes())
        writer.close()
        return path.read_bytes()
