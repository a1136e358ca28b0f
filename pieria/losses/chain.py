"""What it costs to describe an item by a chain of ever less noise: all of a diffusion's variational bound but its end.

``KL(q(x_T | x) ‖ p(x_T)) + Σ_t ½ (SNR(t-1) - SNR(t)) E ‖x - guess(x_t)‖²`` for ``x_t = alpha_t x + sigma_t noise``
(Ho et al. 2020, arXiv 2006.11239; in this form Kingma et al. 2021, arXiv 2107.00630).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Guess = Callable[[Tensor, Tensor], Tensor]  # noisy items [batch · term, …] and their places in the chain, to clean ones
EVERYWHERE = 0.02  # the share of looks that goes to levels where nothing is expected to be paid


def cost_of_chain(
    y: Tensor,
    guess: Guess,
    alpha: Tensor,
    sigma: Tensor,
    uniform: Tensor,
    added: Tensor,
    middle: Tensor | float = 0.0,
    spread: float = 1.0,
) -> Tensor:
    """An unbiased estimate of the cost of items ``y [batch, …]`` in nats, float64 ``[batch]``, by some guesses at each.

    ``alpha`` and ``sigma`` are the levels of the chain, float64 ``[level]``, the least noise first. What is random:
    ``uniform [batch]`` says which levels are looked at, ``added [batch, term, …]`` is the standard noise put in there.
    ``middle`` and ``spread`` are about the mean of the data and their deviation: the straight-line denoiser of such a
    Gaussian, whose error is known, says where to look and takes most of the chance out of the estimate, none of the truth.
    """
    n, terms = added.shape[:2]
    snr = 2 * (alpha.log() - sigma.log())
    gaps = snr[:-1] - snr[1:]  # of log-SNR, one for each level but the first
    share = gaps * (torch.sigmoid(snr[1:] + 2 * math.log(spread)) + EVERYWHERE)
    share = share / share.sum()
    u = (uniform.to(gaps)[:, None] + torch.arange(terms, device=gaps.device)) / terms
    place = torch.searchsorted(share.cumsum(0), u.flatten()).clamp(max=len(gaps) - 1) + 1  # [batch · term]
    a, s, added = alpha[place], sigma[place], added.flatten(0, 1)
    clean = y.repeat_interleave(terms, dim=0)
    beside = (-1, *[1] * (y.dim() - 1))
    wrong = guess(a.view(beside).to(y) * clean + s.view(beside).to(y) * added, place) - clean
    wrong = (a / s)[:, None] * wrong.double().flatten(1)  # the error as one of noise
    error = wrong.square().sum(dim=1) - _chance((clean - middle).flatten(1), added.flatten(1), a, s, spread)
    # a level costs ½ expm1(gap) of the squared error
    cost = (0.5 * torch.expm1(gaps[place - 1]) / share[place - 1] * error).view(n, terms).mean(dim=1)
    # what is left of the item under the most noise, against noise of the same variance
    whole = alpha[-1].square() + sigma[-1].square()
    left = sigma[-1].square() / whole
    ends = alpha[-1].square() / whole * y.double().square() + left - 1 - left.log()
    return cost + 0.5 * ends.flatten(1).sum(dim=1)


def _chance(off: Tensor, added: Tensor, alpha: Tensor, sigma: Tensor, spread: float) -> Tensor:
    """The squared error of the straight-line denoiser minus its mean over noise, ``[row]``: 0 in the mean."""
    off, added, variance = off.double(), added.double(), spread**2
    whole = alpha.square() * variance + sigma.square()
    by_noise, by_item = (alpha.square() * variance / whole)[:, None], (alpha * sigma / whole)[:, None]
    mean = by_noise[:, 0].square() * added.shape[1] + (by_item * off).square().sum(dim=1)
    return (by_noise * added - by_item * off).square().sum(dim=1) - mean


def until_known(look: Callable[[Tensor, range], Tensor], n: int, fewest: int = 4, most: int = 256) -> Tensor:
    """The mean of as many looks at each of ``n`` items as it takes to know it, float64 ``[n]``.

    ``look(rows, looks)`` gives float64 ``[look, row]`` of some items. An item is known when the error of its mean is below
    0.15 nats or a twentieth of the mean; else twice as many looks are taken, at most ``most``.
    """
    rows, done = torch.arange(n), fewest
    found = look(rows, range(fewest))
    total, squares, count = found.sum(dim=0), found.square().sum(dim=0), torch.full((n,), float(fewest)).to(found)
    while done < most:
        mean = total / count
        error = ((squares / count - mean.square()).clamp(min=0) / (count - 1)).sqrt()
        rows = ((error > (0.05 * mean.abs()).clamp(min=0.15)) & (count == done)).nonzero()[:, 0]
        if not len(rows):
            break
        found = look(rows, range(done, 2 * done))
        done *= 2
        total[rows] += found.sum(dim=0)
        squares[rows] += found.square().sum(dim=0)
        count[rows] = done
    return total / count
