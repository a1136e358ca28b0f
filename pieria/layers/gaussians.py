"""Several mixtures of Gaussians over the same numbers, fitted to shares of points: what hidden states show, in float64.

Estimates are those of largest posterior density. Each Gaussian counts ``extra`` points more than it has, whose spread
``near`` the caller states: with few points a Gaussian would else close around two or three of them, and its likelihood grow
without bound.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from pieria.layers.spreading import spread_out
from pieria.noise import Noise

NARROW = 1e-9  # least variance of a Gaussian, as a share of ``near``


class Gaussians(nn.Module):
    """``states`` mixtures of ``components`` Gaussians each, over ``outputs`` numbers.

    Attributes:
        weights: ``[state, component]``; mean: ``[state, component, output]``.
        root: Cholesky factors of the covariances, ``[state, component, output, output]``.
    """

    weights: Tensor
    mean: Tensor
    root: Tensor

    def __init__(self, states: int, components: int, outputs: int, covariance: Literal["diagonal", "full"]) -> None:
        super().__init__()
        self.full = covariance == "full"
        shape = (states, components, outputs)
        self.register_buffer("weights", torch.full(shape[:2], 1 / components, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("root", torch.eye(outputs, dtype=torch.float64).expand(*shape, outputs).clone())

    def log_density(self, values: Tensor) -> Tensor:
        """``log w + log N(y; mean, root rootᵀ)``, ``[…, state, component]``, of ``values`` ``[…, output]``."""
        inverse = torch.linalg.inv(self.root)
        white = torch.einsum("kmed,...kmd->...kme", inverse, values[..., None, None, :] - self.mean)
        size = self.root.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1) + 0.5 * values.shape[-1] * math.log(2 * math.pi)
        return self.weights.log() - size - 0.5 * white.square().sum(dim=-1)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of each mixture, ``[state, output]``."""
        weights = self.weights[..., None]
        mean = (weights * self.mean).sum(dim=1)
        return mean, (weights * (self.root.square().sum(dim=-1) + self.mean.square())).sum(dim=1) - mean.square()

    def draw(self, states: Tensor, toss: Tensor, white: Tensor) -> Tensor:
        """Values ``[…, output]`` of ``states`` ``[…]``, from uniform ``toss`` ``[…]``, normal ``white`` ``[…, output]``."""
        passed = self.weights[states].cumsum(dim=-1)
        chosen = (toss[..., None] * passed[..., -1:] >= passed).sum(dim=-1).clamp(max=passed.shape[-1] - 1)
        return self.mean[states, chosen] + torch.einsum("...de,...e->...d", self.root[states, chosen], white)

    # ---- fitting -----------------------------------------------------------------------------------------------------

    def begin(self, values: Tensor, near: Tensor, noise: Noise) -> None:
        """Centres at points that lie far apart (`spreading`), each of which then takes the points nearest to it."""
        k, m = self.weights.shape
        spread = values.var(dim=0, correction=0)
        scaled = values / torch.where(spread > 0, spread, 1.0).sqrt()
        toss = noise.uniform("centres", (k * m,))[0].double().numpy()
        centres, nearest = spread_out(len(scaled), toss, lambda point: (scaled - scaled[point]).square().sum(dim=1).numpy())
        self.mean.copy_(values[centres].view(k, m, -1))
        share = nn.functional.one_hot(torch.from_numpy(nearest), k * m).double().view(-1, k, m)
        self.fit(share + 1e-3 / (k * m), values, near, extra=1.0, smoothing=1.0)

    def fit(self, share: Tensor, values: Tensor, near: Tensor, *, extra: float, smoothing: float) -> None:
        """Fit to ``values`` ``[point, output]`` of which each has its ``share`` ``[point, state, component]``.

        ``near`` ``[output]`` is the variance of the ``extra`` points; ``smoothing`` points go to each mixture's weights.
        """
        count = share.sum(dim=0)
        some = count.clamp_min(1e-12)[..., None]
        weights = count + smoothing / count.shape[1]
        total = weights.sum(dim=1, keepdim=True)
        self.weights.copy_(torch.where(total > 0, weights / total.clamp_min(1e-300), self.weights))
        away = values[:, None, None] - self.mean  # around the old mean: sums of small numbers
        moved = torch.einsum("pkm,pkmd->kmd", share, away) / some
        if self.full:
            scatter = torch.einsum("pkm,pkmd,pkme->kmde", share, away, away)
            scatter = scatter - some[..., None] * moved[..., :, None] * moved[..., None, :]
        else:
            squares = torch.einsum("pkm,pkmd->kmd", share, away.square()) - some * moved.square()
            scatter = torch.diag_embed(squares.clamp_min(0))
        covariance = (scatter + extra * torch.diag(near)) / (count + extra).clamp_min(1e-12)[..., None, None]
        factor, failed = torch.linalg.cholesky_ex(covariance + torch.diag(NARROW * near))
        fits = (failed == 0)[..., None]
        self.mean.copy_(torch.where(fits, self.mean + moved, self.mean))
        self.root.copy_(torch.where(fits[..., None], factor, self.root))

    def log_prior(self, near: Tensor, *, extra: float, smoothing: float) -> Tensor:
        """What the extra points add to the log-likelihood."""
        inverse, diagonal = torch.linalg.inv(self.root), self.root.diagonal(dim1=-2, dim2=-1)
        width = torch.einsum("kmed,d->", inverse.square(), near)
        shares = smoothing * self.weights.log().mean(dim=1).sum() if smoothing else torch.zeros(())
        return shares - extra * (diagonal.log().sum() + 0.5 * width)


def between_neighbours(curves: list[Tensor]) -> Tensor:
    """The variance of each output around a level that moves slowly, ``[output]``, never 0.

    The difference of two neighbours has twice that variance; the median keeps jumps between levels out of it.
    """
    values, steps = torch.cat(curves), torch.cat([curve.diff(dim=0) for curve in curves]).abs()
    usual = values.var(dim=0, correction=0)
    if len(steps):
        middle = steps.median(dim=0).values
        robust = torch.where(middle > 0, 1.4826 * middle, steps.square().mean(dim=0).sqrt()).square() / 2
        usual = torch.minimum(usual, robust).clamp_min(1e-6 * usual)
    return torch.where(usual > 0, usual, 1.0)
