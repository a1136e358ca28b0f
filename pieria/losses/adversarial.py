"""The two sides of the adversarial game, and the penalties that keep it smooth.

A discriminator gives each item a score, higher for real. ``real`` and ``fake`` are scores ``[batch]``.

| game | discriminator minimises | generator minimises | paper |
|---|---|---|---|
| saturated never ("non-saturating") | ``softplus(-real) + softplus(fake)`` | ``softplus(-fake)`` | Goodfellow et al. 2014 |
| least squares | ``(real - 1)² + fake²`` (halved) | ``(fake - 1)²`` (halved) | Mao et al. 2017 |
| hinge | ``relu(1 - real) + relu(1 + fake)`` | ``-fake`` | Lim & Ye 2017 |
| Wasserstein | ``fake - real`` | ``-fake`` | Arjovsky et al. 2017 |
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Game = Literal["non-saturating", "least-squares", "hinge", "wasserstein"]


def discriminator_loss(game: Game, real: Tensor, fake: Tensor) -> Tensor:
    """What the discriminator minimises, a mean over the batch."""
    if game == "non-saturating":
        return F.softplus(-real).mean() + F.softplus(fake).mean()
    if game == "least-squares":
        return 0.5 * ((real - 1).square().mean() + fake.square().mean())
    if game == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return fake.mean() - real.mean()


def generator_loss(game: Game, fake: Tensor) -> Tensor:
    """What the generator minimises, a mean over the batch."""
    if game == "non-saturating":
        return F.softplus(-fake).mean()
    if game == "least-squares":
        return 0.5 * (fake - 1).square().mean()
    return -fake.mean()


def boundary(game: Game, real: Tensor, fake: Tensor) -> Tensor:
    """The score of what the discriminator takes as likely for real as for fake, a number.

    The Wasserstein game leaves it open, since it rewards differences alone: there it is halfway between the mean scores.
    """
    if game == "wasserstein":
        return 0.5 * (real.mean() + fake.mean())
    return real.new_tensor(0.5 if game == "least-squares" else 0.0)


def r1(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """``½ E |∇ D(real)|²``: the discriminator is flat where the data are (Mescheder et al. 2018)."""
    real = real.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return 0.5 * slope.square().flatten(1).sum(dim=1).mean()


def gradient_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """``½ E (|∇ D| - 1)²`` at random points between real and fake (Gulrajani et al. 2017).

    ``share`` ``[batch]`` in [0, 1) says how far each point lies towards the fake.
    """
    share = share.reshape(-1, *[1] * (real.dim() - 1))
    between = torch.lerp(real.detach(), fake.detach(), share).requires_grad_(True)
    (slope,) = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)
    length = (slope.square().flatten(1).sum(dim=1) + 1e-12).sqrt()
    return 0.5 * (length - 1).square().mean()
