"""A grid as a network reads it: ordered levels scaled to [-1, 1], symbols without order one-hot."""

import torch.nn.functional as F
from torch import Tensor

from pieria.errors import FormError
from pieria.forms import Grid


def channels(form: Grid) -> int:
    """How many channels `read` gives."""
    return form.channels if form.ordered or form.levels is None else form.channels * form.levels


def read(form: Grid, x: Tensor) -> Tensor:
    """The form's tensor as float ``[batch, channels(form), height, width]``.

    Raises `FormError` for a grid that is not of the size that the form states.
    """
    if tuple(x.shape[-2:]) != (form.height, form.width):
        raise FormError(
            f"a grid of {x.shape[-2]} × {x.shape[-1]}",
            f"this model learned from {form.height} × {form.width}",
            "Resize or crop it to that size",
        )
    return cells(form, x)


def cells(form: Grid, x: Tensor) -> Tensor:
    """What `read` makes of cells ``[batch, channel, height, width]`` of any height and width."""
    if form.levels is None:
        return x
    if form.ordered:
        return x.float() * (2 / max(1, form.levels - 1)) - 1
    return F.one_hot(x, form.levels).movedim(-1, 2).flatten(1, 2).float()


def write(form: Grid, picture: Tensor) -> Tensor:
    """What `read` gave, or something near it, back in the form's tensor: the nearest level, the likeliest symbol."""
    if form.levels is None:
        return picture
    if form.ordered:
        return ((picture + 1) * ((form.levels - 1) / 2)).round().clamp(0, form.levels - 1).long()
    return picture.unflatten(1, (form.channels, form.levels)).argmax(dim=2)


def chosen(form: Grid, odds: Tensor, gumbel: Tensor | None = None) -> Tensor:
    """Log-odds of symbols as a hard choice, one-hot as `read` gives them, with the gradient of its soft odds.

    ``gumbel`` of the same shape makes the choice a draw; without it, it is the likeliest symbol (Jang et al. 2017,
    arXiv 1611.01144).
    """
    assert form.levels is not None
    odds = (odds if gumbel is None else odds + gumbel).unflatten(1, (form.channels, form.levels))
    soft = odds.softmax(dim=2)
    hard = F.one_hot(odds.argmax(dim=2), form.levels).movedim(-1, 2).to(soft.dtype)
    return (hard + soft - soft.detach()).flatten(1, 2)
