"""What a model is given: tensors of one form, with what conditions them and what counts."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from pieria.errors import FormError
from pieria.forms import Curve, Form, Grid, Label, Row, Tokens


@dataclass(frozen=True)
class Batch:
    """A number of items of one form.

    Attributes:
        x: the items, in the shape and dtype that the form states.
        condition: what the model is conditioned on, in the shape of the condition's own form; None without one.
        mask: bool; `Tokens` ``[batch, time]``, `Curve` ``[batch, point]``: what is real and counts in the loss.
            None means that everything does.
        context: `Tokens` only, long ``[batch, before]``: the symbols that stood right before ``x`` in the stream. They
            are read and never scored. None means that ``x`` begins the item (models then read ``form.begin``).
        index: long ``[batch]``: the place of each item in its split.
    """

    x: Tensor
    condition: Tensor | None = None
    mask: Tensor | None = None
    context: Tensor | None = None
    index: Tensor | None = None

    def __len__(self) -> int:
        return self.x.shape[0]

    def to(self, device: torch.device | str) -> Self:
        """The same batch on another device."""
        return self._each(lambda tensor: tensor.to(device))

    def rows(self, rows: slice | Tensor) -> Self:
        """Some of the items."""
        return self._each(lambda tensor: tensor[rows])

    def with_x(self, x: Tensor) -> Self:
        """The same batch with other items."""
        return replace(self, x=x)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: change(value) for name, value in values.items() if value is not None})


def mask_after_end(x: Tensor, end: int | None) -> Tensor:
    """True up to and including the first ``end`` of each row of ``x`` (long ``[batch, time]``); all True without one."""
    if end is None:
        return torch.ones_like(x, dtype=torch.bool)
    ended_before = (x == end).cumsum(dim=1) - (x == end).long()
    return ended_before == 0


def check(form: Form, x: Tensor, what: str = "the data") -> None:
    """Raise `FormError` unless ``x`` is a non-empty tensor of ``form`` that a model can learn from or score."""
    if x.shape[:1] == (0,):
        raise FormError(f"{what} holds no items", "at least one", "Look at what was read with 'pieria data PATH'")
    dtype, wanted_shape = _expected(form)
    shape = tuple(x.shape[1:])
    fits = len(shape) == len(wanted_shape) and all(w in (-1, s) for s, w in zip(shape, wanted_shape, strict=True))
    if not fits:
        wanted = " × ".join("any" if w == -1 else str(w) for w in wanted_shape) or "one number"
        raise FormError(
            f"an item of {what} has shape {list(shape)}",
            f"{form.kind} wants {wanted} an item",
            "Encode the data with the modality that the model was fitted with",
        )
    if x.dtype != dtype:
        raise FormError(f"{what} has dtype {x.dtype}", f"{form.kind} wants {dtype}", f"Convert it with x.to({dtype})")
    if x.is_floating_point() and not torch.isfinite(x).all():
        rows = (~torch.isfinite(x)).flatten(1).any(dim=1).nonzero()[:, 0]
        raise FormError(
            f"{what} holds NaN or infinity in item {int(rows[0])}" + (f" and {len(rows) - 1} more" if len(rows) > 1 else ""),
            "finite numbers",
            "Remove or fill these values",
        )
    levels = (
        form.vocabulary
        if isinstance(form, Tokens)
        else form.levels
        if isinstance(form, Grid)
        else (len(form.classes) if isinstance(form, Label) else None)
    )
    if levels is not None and x.numel() and (int(x.min()) < 0 or int(x.max()) >= levels):
        bad = int(x.max()) if int(x.max()) >= levels else int(x.min())
        raise FormError(
            f"{what} holds the symbol {bad}",
            f"symbols 0 to {levels - 1}",
            "Encode the data with the vocabulary that the model was fitted with",
        )
    if isinstance(form, Row):
        _check_codes(form, x, what)


def _expected(form: Form) -> tuple[torch.dtype, tuple[int, ...]]:
    if isinstance(form, Tokens):
        return torch.int64, (-1,)
    if isinstance(form, Grid):
        # a window may be scored or drawn beyond the size learned from, so only the channels are fixed
        return (torch.float32 if form.levels is None else torch.int64), (form.channels, -1, -1)
    if isinstance(form, Row):
        return torch.float32, (len(form.columns),)
    if isinstance(form, Curve):
        return torch.float64, (-1, form.inputs + form.outputs)
    return torch.int64, ()


def _check_codes(form: Row, x: Tensor, what: str) -> None:
    for place, column in enumerate(form.columns):
        levels = 2 if column.kind == "missing" else column.levels
        if column.kind in ("category", "missing") and levels is not None:
            values = x[:, place]
            if ((values < 0) | (values >= levels) | (values != values.round())).any():
                raise FormError(
                    f"{what} holds a code outside 0 to {levels - 1} in column {column.name!r}",
                    "the categories that the model was fitted with",
                    "Encode the table with the run's own modality",
                )
