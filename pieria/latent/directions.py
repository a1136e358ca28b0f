"""Directions of a latent space along which to slide: its coordinates, its principal components, those in closed form.

Coordinates mean something by themselves where training made them independent (a VAE); a GAN's styles are one cloud whose
axes are not, so that its main directions are asked for: the principal components of many styles (Härkönen et al. 2020,
GANSpace, arXiv 2004.02546), or what the weights that read a style react to most (Shen & Zhou 2021, SeFa, arXiv 2007.06600).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pieria.errors import UsageError, unknown
from pieria.latent.space import Space
from pieria.models.contract import Directs, Lifts

Kind = Literal["coordinates", "principal", "closed-form"]
KINDS: tuple[Kind, ...] = ("coordinates", "principal", "closed-form")
DRAWN = 2048  # codes whose principal components are taken


@dataclass(frozen=True)
class Directions:
    """Unit vectors ``along`` ``[n, numbers]``, the standard deviation of codes along each ``[n]``, and their names."""

    along: Tensor
    spread: Tensor
    names: list[str]

    def at(self, base: Tensor, centre: Tensor, row: int, steps: Tensor) -> Tensor:
        """Codes ``[*, step, numbers]`` that lie ``steps`` standard units along one of them, and as ``base`` otherwise."""
        direction = self.along[row]
        rest = base - ((base - centre) @ direction)[..., None] * direction
        return rest[..., None, :] + (steps * self.spread[row])[:, None] * direction


def directions(space: Space, kind: str, most: int, seed: int = 0) -> Directions:
    """The directions of a kind, at most ``most`` of those that are ordered by themselves, all coordinates.

    Raises `UsageError` for principal components of a space in which the prior spreads alike in all directions, and for
    directions in closed form of a model or a space that has none.
    """
    if kind not in KINDS:
        raise unknown("kind of direction", kind, KINDS)
    lifted = isinstance(space.model, Lifts)
    elsewhere = [name for name in space.decoder.latents if name != "z"]
    if kind == "coordinates":
        return Directions(torch.eye(space.size).to(space.centre), space.spread, [f"z{k}" for k in range(space.size)])
    if kind == "principal":
        if space.name == "z":
            cure = f"Add --space {elsewhere[0]}" if lifted else "Use --along coordinates"
            raise UsageError("principal directions of z, whose prior spreads alike in all", "styles, as stylegan2 has", cure)
        codes = space.draw(max(256, min(DRAWN, 2**23 // space.size)), seed).double()
        _, singular, found = torch.linalg.svd(codes - codes.mean(dim=0), full_matrices=False)
        along, spread = found[:most], singular[:most] / (len(codes) - 1) ** 0.5
    else:
        if not isinstance(space.model, Directs) or space.name == "z":
            cure = f"Add --space {elsewhere[0]}" if isinstance(space.model, Directs) else "Use --along coordinates"
            raise UsageError(f"directions in closed form of {space.name}", "styles, as stylegan2 has", cure)
        along = space.model.directions(most, space.name).flatten(1).double()
        spread = ((space.draw(256, seed).double() - space.centre.double()) @ along.T.to(space.device)).std(dim=0)
    # a direction and its opposite are the same: the largest number is positive, so that one model has one sheet
    signs = along.gather(1, along.abs().argmax(dim=1, keepdim=True)).sign()
    names = [f"{'pc' if kind == 'principal' else 'cf'}{k + 1}" for k in range(len(along))]
    return Directions((along * signs).to(space.centre), spread.to(space.centre), names)
