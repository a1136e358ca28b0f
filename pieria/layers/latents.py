"""Priors over codes beyond the standard Gaussian: guesses for made-up items (VampPrior), a second code above the first."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pieria.layers.mlp import MLP
from pieria.noise import Noise

NARROWEST, WIDEST = -14.0, 6.0  # log variance
WIDEST_HIDDEN = 512  # features between two codes at most


def gaussian(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation that a network wrote, ``[…, 2 · size]`` as two of ``[…, size]``."""
    mean, log_variance = raw.chunk(2, dim=-1)
    return mean, (0.5 * log_variance.clamp(NARROWEST, WIDEST)).exp()


def standard(mean: Tensor, deviation: Tensor, away: Tensor, path: bool = False) -> tuple[Tensor, Tensor]:
    """Codes ``[batch, draw, size]`` by standard draws ``away``, and ``log p(z) - log q(z | x)`` ``[batch, draw]``.

    ``q`` has this ``mean`` and ``deviation`` ``[batch, size]``, the prior is a standard Gaussian. ``path`` as in `guessed`.
    """
    z = mean[:, None] + deviation[:, None] * away
    if path:
        return z, -0.5 * (z.square() + math.log(2 * math.pi)).sum(dim=2) - guessed(z, mean, deviation, away, path)
    return z, 0.5 * (away.square() - z.square()).sum(dim=2) + deviation.log().sum(dim=1, keepdim=True)


def guessed(z: Tensor, mean: Tensor, deviation: Tensor, away: Tensor, path: bool) -> Tensor:
    """``log q(z | x)`` of codes ``[batch, draw, size]`` that standard draws ``away`` lead to: ``[batch, draw]``.

    With ``path`` its slope is taken through ``z`` alone, as if ``mean`` and ``deviation`` were given (Roeder et al. 2017).
    """
    if path:
        mean, deviation = mean.detach(), deviation.detach()
        away = (z - mean[:, None]) / deviation[:, None]
    return -0.5 * (away.square() + math.log(2 * math.pi)).sum(dim=2) - deviation.log().sum(dim=1, keepdim=True)


class Vamp(nn.Module):
    """``p(z) = 1/K Σ_k q(z | u_k)``: the guesses for K made-up items, which are learned (Tomczak and Welling 2018).

    It lies where the codes of items lie, so that codes may say more before they cost.
    """

    def __init__(self, count: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.items = nn.Parameter(torch.randn(count, *shape))

    @torch.no_grad()
    def begin(self, batches: Iterable[Tensor]) -> None:
        """Start at items ``[n, *shape]`` as the encoder sees them: the first, evenly spaced where fewer are needed."""
        found: list[Tensor] = []
        for seen in batches:
            found.append(seen)
            if sum(map(len, found)) >= len(self.items):
                break
        there = torch.cat(found)
        places = torch.linspace(0, len(there) - 1, len(self.items), device=there.device).round().long()
        self.items.copy_(there[places])

    def infer(
        self, mean: Tensor, deviation: Tensor, away: Tensor, means: Tensor, deviations: Tensor, path: bool = False
    ) -> tuple[Tensor, Tensor]:
        """As `standard`, but for the prior, which is that of the guesses ``means`` and ``deviations`` ``[K, size]``."""
        z = mean[:, None] + deviation[:, None] * away
        return z, self.log_prob(z, means, deviations) - guessed(z, mean, deviation, away, path)

    @staticmethod
    def log_prob(z: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        """Nats of codes ``[…, size]`` under the guesses ``[K, size]``: ``[…]``."""
        inside = deviation.square().reciprocal()
        # (z - μ)² / σ² summed over the size, multiplied out: three products instead of all differences
        away = z.square() @ inside.T - 2 * z @ (mean * inside).T + (mean.square() * inside).sum(dim=1)
        size = deviation.log().sum(dim=1) + 0.5 * z.shape[-1] * math.log(2 * math.pi)
        return (-0.5 * away - size).logsumexp(dim=-1) - math.log(len(mean))

    def prior(self, white: Tensor, noise: Noise, mean: Tensor, deviation: Tensor) -> Tensor:
        """Codes ``[n, size]``: one of the guesses each, and ``white`` of its width around its mean."""
        chosen = noise.integers("made-up item", len(mean)).to(mean.device)
        return mean[chosen] + deviation[chosen] * white


class Ladder(nn.Module):
    """A second code ``z₂`` above the first: ``z₂ ~ N(0, I)``, ``z₁ ~ N(μ(z₂), σ(z₂))`` (Sønderby et al. 2016).

    What the encoder guesses of ``z₁`` and what ``z₂`` says of it are put together by their precisions. A code is both,
    ``[…, first + second]``.
    """

    def __init__(self, features: int, first: int, second: int) -> None:
        super().__init__()
        self.first, self.second = first, second
        hidden = min(features, WIDEST_HIDDEN)
        self.up = MLP(features, (hidden,), 2 * second)
        self.down = MLP(second, (hidden,), 2 * first)

    def infer(self, features: Tensor, mean: Tensor, deviation: Tensor, away: Tensor) -> tuple[Tensor, Tensor]:
        """Codes ``[batch, draw, first + second]`` and ``log p(z) - log q(z | x)`` ``[batch, draw]``.

        ``features`` ``[batch, feature]``, the guess of the first code ``[batch, first]``, standard draws ``away``.
        """
        below, above = away.split([self.first, self.second], dim=-1)
        middle, width = (part.float()[:, None] for part in gaussian(self.up(features)))
        z2 = middle + width * above
        said, wide = (part.float() for part in gaussian(self.down(z2)))
        inside, outside = deviation[:, None].square().reciprocal(), wide.square().reciprocal()
        narrow = (inside + outside).rsqrt()
        z1 = narrow.square() * (mean[:, None] * inside + said * outside) + narrow * below
        first = 0.5 * (below.square() - ((z1 - said) / wide).square()) + narrow.log() - wide.log()
        second = 0.5 * (above.square() - z2.square()) + width.log()
        return torch.cat([z1, z2], dim=-1), first.sum(dim=-1) + second.sum(dim=-1)

    def prior(self, white: Tensor) -> Tensor:
        """Codes ``[n, first + second]`` from standard draws of the same shape."""
        below, above = white.split([self.first, self.second], dim=-1)
        said, wide = gaussian(self.down(above))
        return torch.cat([said + wide * below, above], dim=-1)
