"""Curves as a model meets them: their real points, those that share positions, and the positions that are asked for."""

from collections.abc import Iterator

import torch
from torch import Tensor

from pieria.data.batch import Batch, check
from pieria.errors import FormError
from pieria.forms import Curve


def real_points(form: Curve, batch: Batch) -> list[Tensor]:
    """The real points of each item, ``[point, inputs + outputs]``; `FormError` for a batch that is not of ``form``."""
    check(form, batch.x)
    return [x if batch.mask is None else x[batch.mask[row]] for row, x in enumerate(batch.x)]


def alike(batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
    """Items of one input that are measured at the same positions, and so share their law: their rows, and their real points.

    Both are long: the rows of ``batch.x``, and the places of their real points in order of the input.
    """
    groups: dict[bytes, list[int]] = {}
    for row, x in enumerate(batch.x):
        real = torch.ones(len(x), dtype=torch.bool) if batch.mask is None else batch.mask[row]
        groups.setdefault(x[:, 0].contiguous().numpy().tobytes() + real.numpy().tobytes(), []).append(row)
    for rows in groups.values():
        x = batch.x[rows[0], :, 0]
        real = torch.arange(len(x)) if batch.mask is None else batch.mask[rows[0]].nonzero()[:, 0]
        order = real[x[real].argsort(stable=True)]
        if len(order):
            yield torch.tensor(rows), order


def asked(positions: Tensor, inputs: int, n: int) -> Tensor:
    """Positions where ``n`` curves are wanted, float64 ``[1 or n, point, inputs]``; `FormError` for what are none."""
    places = positions if positions.ndim == 3 else positions[None]
    if places.ndim != 3 or places.shape[-1] != inputs or places.shape[0] not in (1, n) or not places.numel():
        raise FormError(f"positions of shape {list(positions.shape)}", f"[points, {inputs}]", "Give them so")
    if not torch.isfinite(places).all():
        raise FormError("positions with NaN or infinity", "finite numbers", "Remove them")
    return places.double()


def usual_gap(curves: list[Tensor]) -> Tensor | None:
    """How far apart points of one input usually are: the mean of the gaps that are no holes; None without a gap.

    ``curves`` are ``[point, …]``, the input first, each in order of it. At most a twentieth of all that they span lies
    between a point and the next: holes are not all of a curve.
    """
    gaps = torch.cat([curve[:, 0].diff() for curve in curves])
    gaps = gaps[gaps > 0]
    if not len(gaps):
        return None
    usual = gaps[gaps <= 1.5 * gaps.median()].mean()
    whole = sum((curve[-1, 0] - curve[0, 0] for curve in curves), torch.zeros(()))
    return torch.maximum(usual, whole / (20 * sum(map(len, curves))))
