"""Pictures changed at random before a discriminator sees them, so that a few thousand of them are not learned by heart.

Real and made pictures are changed alike, and every change has a gradient, so that the generator learns through it.

``augment`` makes each kind of change with the probability ``strength``. As long as pictures are often left alone, the
generator does not learn the changes, since it has to match what the changed data look like, and only the unchanged data do
(Karras et al. 2020, *Training GANs with limited data*, arXiv 2006.06676). ``notice`` and ``adapt`` keep the strength where
the discriminator is neither sure of the data nor blind. Turned pictures are read by bilinear interpolation and mirrored
beyond their border; the paper's wavelets are left out, and the light of a grey picture is not turned over.

``differentiable`` changes every picture, a little: its colours, its place, a square cut out of it (Zhao et al. 2020,
*Differentiable augmentation for data-efficient GAN training*, arXiv 2006.10738).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pieria.noise import Noise

SHIFT, SCALE, ODD_SHIFT = 0.125, 0.2, 0.125  # of the side; of log 2; of the side
BRIGHTER, CONTRAST, SATURATION = 0.2, 0.5, 1.0
ADAPT_EVERY = 4  # steps
CUT = 0.5  # of the side


def augment(picture: Tensor, strength: float, noise: Noise, name: str, *, colours: bool = True) -> Tensor:
    """``[batch, channel, height, width]`` in [-1, 1], each kind of change made with the probability ``strength``.

    ``name`` tells the draws of one use in a step from those of another; ``colours`` are changed for one or three channels.
    """
    if strength <= 0:
        return picture
    draws = _Draws(noise, name, strength, picture)
    picture = _moved(picture, draws)
    return _coloured(picture, draws) if colours and picture.shape[1] in (1, 3) else picture


class _Draws:
    """Numbers for each item, or ``neutral`` where the change is not made."""

    def __init__(self, noise: Noise, name: str, strength: float, like: Tensor) -> None:
        self.noise, self.name, self.strength, self.like = noise, name, strength, like

    def uniform(self, kind: str) -> Tensor:
        return self.noise.uniform(f"{self.name} {kind}").to(self.like)

    def normal(self, kind: str) -> Tensor:
        return self.noise.normal(f"{self.name} {kind}").to(self.like)

    def where(self, kind: str, changed: Tensor, neutral: float, strength: float | None = None) -> Tensor:
        made = self.uniform(f"{kind}?") < (self.strength if strength is None else strength)
        return torch.where(made, changed, torch.full_like(changed, neutral))


def _moved(picture: Tensor, draws: _Draws) -> Tensor:
    height, width = picture.shape[-2:]
    n, one = len(picture), picture.new_ones(len(picture))
    matrix = torch.eye(2, dtype=picture.dtype, device=picture.device).expand(n, 2, 2)

    mirrored = draws.where("mirror", 1 - 2 * (draws.uniform("mirror") < 0.5).to(picture), 1.0)
    matrix = matrix @ _scaling(mirrored, one)
    quarter = (draws.uniform("quarter") * (4 if height == width else 2)).floor() * (1 if height == width else 2)
    matrix = matrix @ _turn(draws.where("quarter", quarter * (math.pi / 2), 0.0))
    matrix = matrix @ _scaling(*[draws.where("size", (draws.normal("size") * SCALE * math.log(2)).exp(), 1.0)] * 2)
    odds = 1 - (1 - draws.strength) ** 0.5  # turned before and after the stretch, so either with half the odds
    before, after = (
        draws.where(kind, (2 * draws.uniform(kind) - 1) * math.pi, 0.0, odds) for kind in ("turn before", "turn after")
    )
    stretch = draws.where("stretch", (draws.normal("stretch") * SCALE * math.log(2)).exp(), 1.0)
    matrix = matrix @ _turn(before) @ _scaling(stretch, 1 / stretch) @ _turn(after)

    moves = []
    for axis, side in (("across", width), ("down", height)):
        cells = draws.where("shift", ((2 * draws.uniform(f"shift {axis}") - 1) * SHIFT * side).round(), 0.0)
        odd = draws.where("odd shift", draws.normal(f"odd shift {axis}") * ODD_SHIFT * side, 0.0)
        moves.append(2 * (cells + odd) / side)
    # turns are of the picture, not of the square that its coordinates span
    aspect = picture.new_tensor([[1.0, height / width], [width / height, 1.0]])
    places = F.affine_grid(
        torch.cat([matrix * aspect, torch.stack(moves, dim=1)[:, :, None]], dim=2), list(picture.shape), align_corners=False
    )
    return F.grid_sample(picture, places, mode="bilinear", padding_mode="reflection", align_corners=False)


def _scaling(across: Tensor, down: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([across, down], dim=1))


def _turn(angle: Tensor) -> Tensor:
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cosine, -sine], dim=1), torch.stack([sine, cosine], dim=1)], dim=1)


def _coloured(picture: Tensor, draws: _Draws) -> Tensor:
    picture = picture + _each(draws.where("brightness", draws.normal("brightness") * BRIGHTER, 0.0))
    picture = picture * _each(draws.where("contrast", (draws.normal("contrast") * CONTRAST * math.log(2)).exp(), 1.0))
    if picture.shape[1] == 1:
        return picture
    grey = picture.mean(dim=1, keepdim=True)
    # the light of a picture turned over, its colours kept
    over = draws.where("light", (draws.uniform("light") < 0.5).to(picture), 0.0)
    picture = picture - 2 * _each(over) * grey
    picture = _hue(picture, draws.where("hue", (2 * draws.uniform("hue") - 1) * math.pi, 0.0))
    grey = picture.mean(dim=1, keepdim=True)
    saturation = draws.where("saturation", (draws.normal("saturation") * SATURATION * math.log(2)).exp(), 1.0)
    return grey + (picture - grey) * _each(saturation)


def _hue(picture: Tensor, angle: Tensor) -> Tensor:
    """Colours turned about the grey axis (Rodrigues' formula)."""
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    axis = picture.new_full((3,), 3**-0.5)
    across = picture.new_tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) * 3**-0.5
    turn = cosine * torch.eye(3, device=picture.device, dtype=picture.dtype) + sine * across
    turn = turn + (1 - cosine) * torch.outer(axis, axis)
    return torch.einsum("nij,njhw->nihw", turn, picture)


# ---- how strongly --------------------------------------------------------------------------------------------------------


def notice(signs: Tensor, scores: Tensor) -> None:
    """Add the signs of the scores of real items to ``signs``, ``[3]``: their sum, how many, and steps since `adapt`.

    A score above 0 is to mean that the discriminator takes the item for real.
    """
    signs[0] += scores.detach().sign().sum()
    signs[1] += len(scores)


def adapt(strength: Tensor, signs: Tensor, *, target: float, items: int) -> None:
    """Every few calls move ``strength``, a number in [0, 1], and begin ``signs`` anew.

    It rises while the mean sign is above ``target`` (the discriminator is too sure of the data) and falls otherwise, as fast
    as would lead from 0 to 1 in ``items`` items.
    """
    signs[2] += 1
    if int(signs[2]) >= ADAPT_EVERY:
        sure = float(signs[0] / signs[1]) > target
        step = float(signs[1]) / items
        strength.add_(step if sure else -step).clamp_(0.0, 1.0)
        signs.zero_()


# ---- every picture, a little ---------------------------------------------------------------------------------------------


def differentiable(picture: Tensor, strength: float, noise: Noise, name: str, *, colours: bool = True) -> Tensor:
    """``[batch, channel, height, width]`` in [-1, 1], each picture changed by up to ``strength`` times the paper's amounts.

    Brightness by up to 0.5, saturation times 0 to 2, contrast times 0.5 to 1.5, moved by up to an eighth of the side (what
    comes in is 0), and a rectangle of half the sides set to 0. ``name`` and ``colours`` are those of `augment`.
    """
    if strength <= 0:
        return picture
    draws = _Draws(noise, name, 1.0, picture)
    if colours and picture.shape[1] in (1, 3):
        picture = picture + _each(strength * (draws.uniform("brightness") - 0.5))
        grey = picture.mean(dim=1, keepdim=True)
        picture = grey + (picture - grey) * _each(1 + strength * (2 * draws.uniform("saturation") - 1))
        level = picture.mean(dim=(1, 2, 3), keepdim=True)
        picture = level + (picture - level) * _each(1 + strength * (draws.uniform("contrast") - 0.5))
    return _without_square(_shifted(picture, strength, draws), strength, draws)


def _shifted(picture: Tensor, strength: float, draws: _Draws) -> Tensor:
    places = []
    for axis, side in (("down", picture.shape[-2]), ("across", picture.shape[-1])):
        most = _nearest(side * SHIFT * strength)
        moved = ((2 * most + 1) * draws.uniform(f"shift {axis}")).floor().long().clamp(max=2 * most) - most
        places.append(torch.arange(side, device=picture.device) + moved[:, None])
    (rows, columns), (height, width) = places, picture.shape[-2:]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None]
    item = torch.arange(len(picture), device=picture.device)[:, None, None]
    # [batch, height, width, channel], since what is indexed comes in front
    there = picture.movedim(1, -1)[item, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None]]
    return there.movedim(-1, 1) * inside[:, None].to(picture)


def _without_square(picture: Tensor, strength: float, draws: _Draws) -> Tensor:
    cut = torch.ones((), dtype=torch.bool, device=picture.device)
    for axis, side in (("down", picture.shape[-2]), ("across", picture.shape[-1])):
        size = _nearest(side * CUT * strength)
        # its middle lies anywhere, so that squares at the border are smaller
        middle = (draws.uniform(f"cut {axis}") * (side + 1 - size % 2)).floor()
        away = torch.arange(side, device=picture.device) - (middle - size // 2)[:, None]
        within = (away >= 0) & (away < size)
        cut = cut & (within[:, :, None] if axis == "down" else within[:, None])
    return picture * (~cut)[:, None].to(picture)


def _nearest(cells: float) -> int:
    """The nearest whole number, halves upwards as in the paper: ``round`` would move a picture of 4 cells nowhere."""
    return math.floor(cells + 0.5)


def _each(x: Tensor) -> Tensor:
    return x[:, None, None, None]
