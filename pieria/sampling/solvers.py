"""Solvers: from noise to an item, step by step, by a denoiser that guesses the clean item from a noisy one.

Each is a plain generator over ``denoise(x_t, t)`` and a `Schedule`; it yields ``(x, guess)`` after every step, and the
last ``x`` is the item. ``times`` go from noise to data and end where sigma is 0. What is random is drawn from ``noise`` by
the number of the step; the others are deterministic, so that the noise they start from is a code of the item.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from pieria.noise import Noise
from pieria.sampling.noise_schedules import Schedule

Denoise = Callable[[Tensor, float], Tensor]
Steps = Iterator[tuple[Tensor, Tensor]]


def _between(schedule: Schedule, times: Sequence[float]) -> list[tuple[float, float, float, float, float]]:
    """``(t, alpha_t, sigma_t, alpha_s, sigma_s)`` of each step from a time to the next one."""
    levels = [schedule.at(t) for t in times]
    return [(t, *before, *after) for t, before, after in zip(times, levels, levels[1:], strict=False)]


def last(steps: Steps) -> Tensor:
    """The item that a solver ends with."""
    return deque(steps, maxlen=1).pop()[0]


def ddpm(denoise: Denoise, schedule: Schedule, times: Sequence[float], x: Tensor, noise: Noise | None) -> Steps:
    """Ancestral sampling: each step draws from ``q(x_s | x_t, guess)`` (Ho et al. 2020), with fresh noise.

    It wants many steps. The last one is the guess itself.
    """
    for step, (t, a, s, a_next, s_next) in enumerate(_between(schedule, times)):
        guess = denoise(x, t)
        kept = a / a_next  # of the item at the next level
        added = s * s - kept * kept * s_next * s_next  # variance that was added from there to here
        x = (kept * s_next * s_next / (s * s)) * x + (a_next * added / (s * s)) * guess
        if s_next > 0:
            assert noise is not None
            fresh = noise.normal("step", x.shape[1:], step=step).to(x)
            x = x + math.sqrt(added) * s_next / s * fresh
        yield x, guess


def ddim(denoise: Denoise, schedule: Schedule, times: Sequence[float], x: Tensor, noise: Noise | None = None) -> Steps:
    """The deterministic chain with the same marginals: keep the noise that is seen, make less of it (Song et al. 2021)."""
    for t, a, s, a_next, s_next in _between(schedule, times):
        guess = denoise(x, t)
        # a_next · guess + s_next · (x - a · guess) / s
        x = (s_next / s) * x + (a_next - a * s_next / s) * guess
        yield x, guess


def euler(denoise: Denoise, schedule: Schedule, times: Sequence[float], x: Tensor, noise: Noise | None = None) -> Steps:
    """Straight steps along the velocity of the flow: ``dx = dalpha · guess + dsigma · noise`` (Lipman et al. 2023).

    On a straight schedule this is Euler's rule for ``dx/dt = noise - guess``, and in exact numbers it is `ddim`.
    """
    for t, a, s, a_next, s_next in _between(schedule, times):
        guess = denoise(x, t)
        x = x + (a_next - a) * guess + (s_next - s) * (x - a * guess) / s
        yield x, guess


def heun(
    denoise: Denoise,
    schedule: Schedule,
    times: Sequence[float],
    x: Tensor,
    noise: Noise | None = None,
    *,
    churn: float = 0.0,
) -> Steps:
    """Heun's rule of second order on ``x / alpha`` over ``sigma / alpha`` (Karras et al. 2022): two guesses a step.

    The last step, and one from pure noise (alpha is 0), are those of `ddim`, with one guess. With ``churn`` each step first
    makes the item noisier, ``sigma / alpha`` by the share ``churn / steps`` (at most √2 - 1), with fresh noise (their
    algorithm 2): what earlier steps got wrong is forgotten a little.
    """
    share = min(churn / (len(times) - 1), math.sqrt(2) - 1)
    for step, (now, after) in enumerate(pairwise(times)):
        t, (a, s), (a_next, s_next) = now, schedule.at(now), schedule.at(after)
        if share and step and a > 1e-8:
            t = float(schedule.when(torch.tensor((1 + share) * s / a, dtype=torch.float64)))
            a_more, s_more = schedule.at(t)
            if (added := (s_more / a_more) ** 2 - (s / a) ** 2) > 0:
                assert noise is not None
                fresh = noise.normal("churn", x.shape[1:], step=step).to(x)
                x, a, s = a_more * (x / a + math.sqrt(added) * fresh), a_more, s_more
            else:
                t = now
        guess = denoise(x, t)
        ahead = (s_next / s) * x + (a_next - a * s_next / s) * guess
        if s_next > 0 and a > 1e-8:
            slope = (x - a * guess) / s
            slope = (slope + (ahead - a_next * denoise(ahead, after)) / s_next) / 2
            ahead = a_next * (x / a + (s_next / a_next - s / a) * slope)
        x = ahead
        yield x, guess


def dpm_solver(denoise: Denoise, schedule: Schedule, times: Sequence[float], x: Tensor, noise: Noise | None = None) -> Steps:
    """DPM-Solver++(2M): second order by the guess of the step before, one guess a step (Lu et al. 2022, arXiv 2211.01095).

    Exact in the part that is linear in ``x``; what is left is extrapolated in log-SNR. The first and the last step are of
    first order.
    """
    last: Tensor | None = None
    before = 0.0  # the width of the step before, in half log-SNR
    for t, a, s, a_next, s_next in _between(schedule, times):
        guess = denoise(x, t)
        # exp(-h) with h the half log-SNR gained; from pure noise or to a clean item h is infinite
        shrink = (a * s_next) / (s * a_next)
        width = -math.log(shrink) if shrink > 0 else math.inf
        towards = guess
        if last is not None and math.isfinite(width) and math.isfinite(before):
            towards = guess + (width / (2 * before)) * (guess - last)
        x = (s_next / s) * x + a_next * (1 - shrink) * towards
        last, before = guess, width
        yield x, guess


Solver = Callable[[Denoise, Schedule, Sequence[float], Tensor, Noise | None], Steps]
SOLVERS: dict[str, Solver] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "euler": euler,
    "heun": heun,
    "dpm++": dpm_solver,
    "consistency": ddim,  # of guesses at the path's end, in few steps that are even in angle (`Schedule.turns`)
}


def invert(denoise: Denoise, schedule: Schedule, times: Sequence[float], x: Tensor) -> Tensor:
    """`ddim` run backwards: the noise from which it would have made the clean item ``x``, up to the width of its steps."""
    upwards = list(times)[::-1][1:]
    a, s = schedule.at(upwards[0])
    x = a * x
    for t, after in pairwise(upwards):
        a, s = schedule.at(t)
        a_next, s_next = schedule.at(after)
        guess = denoise(x, t)
        x = a_next * guess + s_next * (x - a * guess) / s
    return x


def repaint(
    denoise: Denoise,
    schedule: Schedule,
    times: Sequence[float],
    x: Tensor,
    noise: Noise,
    known: Tensor,
    mask: Tensor,
    rounds: int = 1,
) -> Steps:
    """`ddpm` that puts the ``known`` item, made as noisy as the rest, back where ``mask`` after each step.

    Each step is made ``rounds`` times, with noise added again in between, so that what is filled in comes to agree with
    what is known (RePaint: Lugmayr et al. 2022, arXiv 2201.09865).
    """
    for step, (t, a, s, a_next, s_next) in enumerate(_between(schedule, times)):
        kept = a / a_next
        added = s * s - kept * kept * s_next * s_next
        for turn in range(rounds if s_next > 0 else 1):
            place = step * rounds + turn
            guess = denoise(x, t)
            lower = (kept * s_next * s_next / (s * s)) * x + (a_next * added / (s * s)) * guess
            there = a_next * known
            if s_next > 0:
                fresh = noise.normal("step", x.shape[1:], step=place).to(x)
                lower = lower + math.sqrt(added) * s_next / s * fresh
                there = there + s_next * noise.normal("known", x.shape[1:], step=place).to(x)
            lower = torch.where(mask, there, lower)
            if turn < rounds - 1 and s_next > 0:
                x = kept * lower + math.sqrt(added) * noise.normal("again", x.shape[1:], step=place).to(x)
        x = lower
        yield x, guess
