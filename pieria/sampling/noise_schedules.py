"""How much of an item is left at each time of a diffusion: ``x_t = alpha(t) x + sigma(t) noise``.

Three ways to go from data to noise: a chain of a thousand small steps that keeps the variance (Ho et al. 2020, arXiv
2006.11239; cosine: Nichol & Dhariwal 2021, 2102.09672), noise added to data that stay as they are (Karras et al. 2022,
2206.00364), and a straight line from data to noise (Lipman et al. 2023, 2210.02747; Liu et al. 2023, 2209.03003). All
that a solver or a likelihood needs of them is alpha and sigma; they agree on the scale of log-SNR, ``2 log(alpha / sigma)``.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

CHAIN = 1000  # levels of the chain whose likelihood is bounded, and of a discrete schedule unless it says otherwise


class Schedule(ABC):
    """The levels of noise over time."""

    @abstractmethod
    def level(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """``(alpha, sigma)`` at each time, float64 in the shape of ``t``."""

    @abstractmethod
    def learned(self, uniform: Tensor) -> Tensor:
        """The times that training looks at, as the law of uniform numbers in [0, 1)."""

    @abstractmethod
    def times(self, steps: int) -> list[float]:
        """``steps + 1`` times from pure noise to a clean item (where sigma is 0)."""

    @abstractmethod
    def chain(self) -> Tensor:
        """Times of ever more noise, float64: a chain of small steps, from hardly any noise to almost nothing else."""

    @abstractmethod
    def when(self, ratio: Tensor) -> Tensor:
        """The times at which ``sigma / alpha`` is about this (at most what the most noise is), float64."""

    def turns(self, steps: int) -> list[float]:
        """``steps + 1`` times from pure noise to a clean item, even in the angle whose tangent is ``sigma / alpha``."""
        first, *_, last = self.times(max(2, steps))
        angle = torch.linspace(0.5, 0, steps + 1, dtype=torch.float64, device="cpu")[1:-1] * math.pi
        between: list[float] = self.when(angle.tan()).tolist()
        return [first, *between, last]

    def at(self, t: float) -> tuple[float, float]:
        """``(alpha, sigma)`` at one time."""
        alpha, sigma = self.level(torch.tensor(t, dtype=torch.float64))
        return float(alpha), float(sigma)


class Discrete(Schedule):
    """``steps`` small steps that keep the variance, numbered from 0 (little noise); the time -1 is the clean item.

    ``linear``: the variance added by a step grows from 1e-4 to 0.02 (at a thousand steps). ``cosine``: the share of the item
    that is left falls as a squared cosine, which spends less time where nothing is left.
    """

    def __init__(self, shape: Literal["cosine", "linear"], steps: int = CHAIN) -> None:
        self.steps = steps
        place = torch.arange(steps + 1, dtype=torch.float64, device="cpu") / steps
        if shape == "linear":
            scale = CHAIN / steps
            betas = torch.linspace(1e-4 * scale, 0.02 * scale, steps, dtype=torch.float64, device="cpu").clamp(max=0.999)
        else:
            left = ((place + 0.008) / 1.008 * math.pi / 2).cos().square()
            betas = (1 - left[1:] / left[:-1]).clamp(max=0.999)
        # the clean item first
        self.left = torch.cat([torch.ones(1, dtype=torch.float64, device="cpu"), (1 - betas).cumprod(0)])

    def level(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """By table; ``t`` is rounded to a whole step."""
        left = self.left.to(t.device)[(t.round().long() + 1).clamp(0, self.steps)]
        return left.sqrt(), (1 - left).sqrt()

    def when(self, ratio: Tensor) -> Tensor:
        """The nearest whole step, never the clean item."""
        levels = ((1 - self.left) / self.left).sqrt()[1:].to(ratio.device)
        place = torch.searchsorted(levels, ratio.double()).clamp(1, self.steps - 1)
        lower = (ratio - levels[place - 1]) < (levels[place] - ratio)
        return (place - lower.long()).double()

    def learned(self, uniform: Tensor) -> Tensor:
        """Every step as often as every other."""
        return (uniform.double() * self.steps).floor().clamp(max=self.steps - 1)

    def times(self, steps: int) -> list[float]:
        """Even steps that begin at the last level (Lin et al. 2024, arXiv 2305.08891) and end at the clean item."""
        places = torch.linspace(self.steps, 0, min(steps, self.steps) + 1, dtype=torch.float64, device="cpu").round() - 1
        found: list[float] = places.tolist()
        return found

    def chain(self) -> Tensor:
        """Every step."""
        return torch.arange(self.steps, dtype=torch.float64, device="cpu")


class Exploding(Schedule):
    """Noise of deviation ``t`` beside an item that stays as it is; the time is the deviation itself.

    Training looks at log-normal deviations around ``exp(middle)``; a solver's steps are even in ``t^(1/7)``.
    """

    def __init__(self, least: float = 0.002, most: float = 80.0, middle: float = -1.2, spread: float = 1.2) -> None:
        self.least, self.most, self.middle, self.spread = least, most, middle, spread

    def level(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """``(1, t)``."""
        return torch.ones_like(t, dtype=torch.float64), t.double()

    def when(self, ratio: Tensor) -> Tensor:
        """The ratio itself."""
        return ratio.double().clamp(self.least, self.most)

    def learned(self, uniform: Tensor) -> Tensor:
        """Log-normal."""
        normal = torch.special.ndtri(uniform.double().clamp(1e-6, 1 - 1e-6))
        return (self.middle + self.spread * normal).exp()

    def times(self, steps: int) -> list[float]:
        """From the most to the least noise by the seventh root, then none."""
        root = torch.linspace(self.most ** (1 / 7), self.least ** (1 / 7), steps, dtype=torch.float64, device="cpu")
        return [*(root**7).tolist(), 0.0]

    def chain(self) -> Tensor:
        """Even in log deviation."""
        return torch.logspace(math.log10(self.least), math.log10(self.most), CHAIN, dtype=torch.float64, device="cpu")


class Straight(Schedule):
    """A straight line from the item (time 0) to noise (time 1): ``x_t = (1 - t) x + t noise``."""

    def __init__(self, least: float = 0.002) -> None:
        self.least = least

    def level(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """``(1 - t, t)``."""
        return 1 - t.double(), t.double()

    def when(self, ratio: Tensor) -> Tensor:
        """``ratio / (1 + ratio)``."""
        return ratio.double() / (1 + ratio.double())

    def learned(self, uniform: Tensor) -> Tensor:
        """Every time as often as every other."""
        return uniform.double().clamp(min=1e-4)

    def times(self, steps: int) -> list[float]:
        """Even steps."""
        found: list[float] = torch.linspace(1, 0, steps + 1, dtype=torch.float64, device="cpu").tolist()
        return found

    def chain(self) -> Tensor:
        """Even in log-SNR, from ``least`` to as near to pure noise."""
        odds = math.log(self.least / (1 - self.least))
        return torch.linspace(odds, -odds, CHAIN, dtype=torch.float64, device="cpu").sigmoid()
