"""Inpainting: where a mask is white, or in a box, a person's own picture is drawn anew to fit the rest."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pieria.errors import FormError, UsageError
from pieria.forms import Grid
from pieria.modalities.contract import Modality
from pieria.modalities.image import Image
from pieria.modalities.pictures import PictureFiles, as_channels, to_levels
from pieria.models.contract import Fills, Model, device_of
from pieria.noise import ItemNoise
from pieria.settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

WHITE = 128  # from this grey on, a mask means: draw here


def opened(picture: "str | Path | Picture") -> "Picture":
    """A picture, or the file that holds it; `DataError` for one that cannot be read."""
    if not isinstance(picture, str | Path):
        return picture
    path = Path(picture).expanduser()
    found: Picture = PictureFiles(path.parent, [path.name])[0]
    return found


def inpainted(
    model: Model,
    modality: Modality,
    picture: "str | Path | Picture",
    options: Settings,
    *,
    mask: "str | Path | Picture | None" = None,
    box: Sequence[int] | None = None,
    n: int = 1,
    seed: int = 0,
    condition: Tensor | None = None,
) -> "list[Picture]":
    """``n`` completions of a picture, each as it is but for what was asked to be drawn.

    Args:
        model: one that `Fills`.
        modality: of pictures.
        picture: of the kind that the run learned from.
        options: of the family's drawing.
        mask: of the size learned from: white where something is to be drawn, black where the picture stays.
        box: top, left, height and width of what is to be drawn, in pixels; instead of a mask.
        n: how many.
        seed: the same seed gives the same completions.
        condition: the class, long ``[n]``.

    Raises `UsageError` for a model that does not fill pictures and for a mask of another size, `FormError` for a picture of
    another size or kind.
    """
    form = model.form
    if not isinstance(modality, Image) or not isinstance(form, Grid) or not isinstance(model, Fills):
        raise UsageError(
            f"{type(model).__name__} of {modality.name} does not fill pictures",
            "a model of pictures that can",
            "Fit one with --model pixelcnn, or mixture for small pictures",
        )
    redraw, image = _redrawn(form, mask, box), opened(picture)
    if image.size != (form.width, form.height):  # what is kept is not to be cropped or stretched, as data may be
        name = picture if isinstance(picture, str | Path) else "the picture"
        raise FormError(
            f"{name} is {image.height}×{image.width} (height × width)",
            f"{form.height}×{form.width} as learned",
            "Resize it, or cut out the part that is to be completed",
        )
    x = modality.encode([image]).to(device_of(model)).expand(n, -1, -1, -1)
    kept = ~redraw.to(x.device).expand(n, form.channels, -1, -1)
    with torch.no_grad():
        made = model.fill(x, kept, options, ItemNoise(seed, n), condition)
    return list(modality.decode(made))


def _redrawn(form: Grid, mask: "str | Path | Picture | None", box: Sequence[int] | None) -> Tensor:
    """What is to be drawn, bool ``[height, width]``."""
    if (mask is None) == (box is None):
        raise UsageError(
            "neither a mask nor a box" if mask is None else "a mask and a box",
            "one of them: what is to be drawn",
            "Give --mask PICTURE (white: draw here) or --box TOP,LEFT,HEIGHT,WIDTH",
        )
    if mask is not None:
        image = opened(mask)
        if image.size != (form.width, form.height):
            raise FormError(
                f"a mask of {image.height}×{image.width} (height × width)",
                f"{form.height}×{form.width}, the size of the pictures that the run learned from",
                "Make the mask of that size: white where something is to be drawn, black elsewhere",
            )
        redraw = torch.from_numpy(to_levels(as_channels(image, 1, 0), 256)[:, :, 0] >= WHITE)  # of 8 bits or of 16
    else:
        assert box is not None
        if len(box) != 4:
            raise UsageError(f"a box of {len(box)} numbers", "four: top, left, height and width")
        top, left, height, width = box
        if min(top, left) < 0 or min(height, width) < 1 or top + height > form.height or left + width > form.width:
            raise UsageError(
                f"a box from row {top}, column {left}, {height} high and {width} wide",
                f"one inside {form.height}×{form.width} (height × width)",
                "Rows and columns count from 0",
            )
        redraw = torch.zeros(form.height, form.width, dtype=torch.bool)
        redraw[top : top + height, left : left + width] = True
    if not bool(redraw.any()):
        raise UsageError("a mask that is black everywhere", "white where something is to be drawn", "Swap black and white")
    return redraw
