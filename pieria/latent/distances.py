"""How far two items of one form are apart, and an item as the numbers that this is measured in."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pieria.forms import Curve, Form, Grid, Row, Tokens
from pieria.layers import grids


def scaled(form: Grid, picture: Tensor) -> Tensor:
    """A grid as `layers.grids.read` gives it, flat: the whole range of a value is 1, and a wrong symbol counts 1."""
    ordered = form.ordered or form.levels is None
    return (picture / (2.0 if ordered else math.sqrt(2.0))).flatten(1)


def reading(form: Form, x: Tensor) -> Tensor:
    """Items as float rows ``[n, numbers]``: their squared distance, over `cells`, is the mean squared difference."""
    if isinstance(form, Grid):
        return scaled(form, grids.read(form, x))
    if isinstance(form, Row):
        return torch.cat([_column(x[:, place], column.levels) for place, column in enumerate(form.columns)], dim=1)
    if isinstance(form, Curve):
        return x[..., form.inputs :].flatten(1).float()
    assert isinstance(form, Tokens)
    return F.one_hot(x, form.vocabulary).flatten(1).float() / math.sqrt(2.0)


def _column(values: Tensor, levels: int | None) -> Tensor:
    if levels is None:
        return values[:, None]
    return F.one_hot(values.long(), levels).to(values.dtype) / math.sqrt(2.0)


def cells(form: Form, x: Tensor) -> int:
    """How many cells one item of ``x`` has: what squared distances are divided by."""
    if isinstance(form, Curve):
        return x.shape[1] * form.outputs
    return math.prod(x.shape[1:])


def apart(form: Form, first: Tensor, second: Tensor) -> Tensor:
    """The root-mean-square difference of items, one by one, ``[n]``; `unit` says in what."""
    away = reading(form, first) - reading(form, second)
    return (away.double().square().sum(dim=1) / cells(form, first)).sqrt()


def unit(form: Form) -> str:
    """What a distance of 1 is, in words."""
    if isinstance(form, Grid):
        return "the whole range of a pixel" if form.ordered or form.levels is None else "every cell another symbol"
    if isinstance(form, Row):
        return "one standard unit in every number, or every category another"
    return "one unit of the values" if isinstance(form, Curve) else "every symbol another"
