"""The law of one cell of a grid, channel after channel, given what an autoregressive network says of it.

A network says ``outputs`` numbers of each cell, knowing all cells before it. A law makes of them how the first channel is
distributed, the second given the first, and so on: probabilities that sum to one over the levels of each channel, or the
density of a number.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from pieria.errors import UsageError
from pieria.forms import Grid
from pieria.losses.observation import log_difference

# ordered levels beyond so many are better learned as numbers than as symbols
FEW = 32


class Law(nn.Module, ABC):
    """How a cell's channels are distributed; a network writes ``outputs`` numbers of each cell."""

    outputs: int

    @abstractmethod
    def log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        """Nats of each item ``[batch]``; ``raw [batch, outputs, height, width]``, ``x`` of the form."""

    @abstractmethod
    def nats(self, raw: Tensor, before: Tensor, x: Tensor) -> Tensor:
        """Log-probability ``[n]``, float64, of the next channel ``x [n]`` of a cell.

        ``raw`` is ``[n, outputs]``, ``before [n, c]`` the channels before it.
        """

    @abstractmethod
    def draw(self, raw: Tensor, before: Tensor, uniform: Tensor, temperature: float = 1.0) -> Tensor:
        """The next channel, ``[n]``, from two uniform numbers (float64 ``[n, 2]``); temperature 0 takes the likeliest."""

    def odds(self, raw: Tensor, before: Tensor, levels: int) -> Tensor:
        """Log-probabilities ``[n, levels]`` of every level of the next channel."""
        n, every = len(raw), torch.arange(levels, device=raw.device)
        raw, before = (part.repeat_interleave(levels, dim=0) for part in (raw, before))
        return self.nats(raw, before, every.repeat(n)).view(n, levels)


class Categorical(Law):
    """Each channel one of ``levels`` symbols (van den Oord et al. 2016): ``W silu(raw + Σ E[earlier channel])``."""

    def __init__(self, form: Grid, features: int) -> None:
        super().__init__()
        assert form.levels is not None
        self.channels, self.levels, self.features = form.channels, form.levels, features
        self.outputs = form.channels * features
        bound = 1 / math.sqrt(features)
        self.weight = nn.Parameter(torch.empty(form.channels, features, form.levels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(form.channels, form.levels))
        pairs = form.channels * (form.channels - 1) // 2
        self.earlier = nn.Parameter(0.1 * torch.randn(pairs, form.levels, features)) if pairs else None

    def _logits(self, raw: Tensor, before: Tensor, channel: int) -> Tensor:
        """``[…, levels]`` of ``raw [… , outputs]`` and the channels before, long ``[…, ≥ channel]``."""
        hidden = raw[..., channel * self.features : (channel + 1) * self.features]
        for other in range(channel):
            assert self.earlier is not None
            hidden = hidden + self.earlier[channel * (channel - 1) // 2 + other][before[..., other]]
        return functional.silu(hidden) @ self.weight[channel] + self.bias[channel]

    def log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        """Nats ``[batch]``."""
        raw, x = raw.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1)
        total = raw.new_zeros(len(raw))
        for channel in range(self.channels):
            logits = self._logits(raw, x, channel).flatten(0, 2)
            nats = functional.cross_entropy(logits, x[..., channel].flatten(), reduction="none")
            total = total - nats.view(len(raw), -1).sum(dim=1)
        return total

    def nats(self, raw: Tensor, before: Tensor, x: Tensor) -> Tensor:
        """Log-probability ``[n]``."""
        odds = self._logits(raw, before, before.shape[1]).log_softmax(dim=1, dtype=torch.float64)
        return odds.gather(1, x[:, None])[:, 0]

    def draw(self, raw: Tensor, before: Tensor, uniform: Tensor, temperature: float = 1.0) -> Tensor:
        """Where the cumulative distribution passes the first of the uniform numbers."""
        return _drawn(self._logits(raw, before, before.shape[1]), uniform[:, :1], temperature)


class LogisticMixture(Law):
    """A few discretised logistic bumps a cell (Salimans et al. 2017): ``Σ π_k Π_c [σ(upper) - σ(lower)]``.

    In [-1, 1] a level is an interval; the first and the last have the whole tails. Continuous cells have the density of the
    same bumps. A bump's mean in a channel moves with the channels before it; which bump it is, is the same for all channels
    of a cell.
    """

    def __init__(self, form: Grid, bumps: int) -> None:
        super().__init__()
        self.channels, self.levels, self.bumps = form.channels, form.levels, bumps
        pairs = form.channels * (form.channels - 1) // 2
        self.parts = [bumps, bumps * form.channels, bumps * form.channels, bumps * pairs]
        self.outputs = sum(self.parts)
        # bumps begin side by side over the range, each about as wide as their distance
        centres = torch.linspace(-1, 1, 2 * bumps + 1)[1::2]
        self.centre = nn.Parameter(centres[:, None].expand(-1, form.channels).clone())
        self.width = nn.Parameter(torch.full((bumps, form.channels), math.log(0.5 / bumps)))

    def _bumps(self, raw: Tensor, before: Tensor, channel: int) -> tuple[Tensor, Tensor]:
        """Mean and log scale ``[…, bump]`` in a channel; ``before`` is ``[…, ≥ channel]`` in [-1, 1]."""
        _, means, scales, moves = raw.split(self.parts, dim=-1)
        mean = means.unflatten(-1, (self.bumps, self.channels))[..., channel] + self.centre[:, channel]
        scale = scales.unflatten(-1, (self.bumps, self.channels))[..., channel] + self.width[:, channel]
        for other in range(channel):
            move = moves.unflatten(-1, (self.bumps, -1))[..., channel * (channel - 1) // 2 + other]
            mean = mean + move.tanh() * before[..., other : other + 1]
        return mean, scale.clamp(-8, 4)

    def _scaled(self, x: Tensor, to: Tensor) -> Tensor:
        return x if self.levels is None else x.to(to.dtype) * (2 / (self.levels - 1)) - 1

    def _nats(self, mean: Tensor, scale: Tensor, x: Tensor) -> Tensor:
        """Log-probability of the level ``x […]`` under each bump, ``[…, bump]``."""
        level, narrow = x[..., None], (-scale).exp()
        away = self._scaled(level, mean) - mean
        if self.levels is None:
            away = away * narrow
            return functional.logsigmoid(away) + functional.logsigmoid(-away) - scale
        half = 1 / (self.levels - 1)
        upper, lower = (away + half) * narrow, (away - half) * narrow
        inside = log_difference(upper, lower, "logistic")
        first, last = functional.logsigmoid(upper), functional.logsigmoid(-lower)
        return torch.where(level == 0, first, torch.where(level == self.levels - 1, last, inside))

    def log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        """Nats ``[batch]``."""
        raw, x = raw.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1)
        total, scaled = raw[..., : self.bumps].log_softmax(dim=-1), self._scaled(x, raw)
        for channel in range(self.channels):
            total = total + self._nats(*self._bumps(raw, scaled, channel), x[..., channel])
        return total.logsumexp(dim=-1).sum(dim=(1, 2))

    def _posterior(self, raw: Tensor, before: Tensor, scaled: Tensor) -> Tensor:
        """Log-odds ``[n, bump]`` given the channels before, float64."""
        odds = raw[:, : self.bumps].double()
        for channel in range(before.shape[1]):
            odds = odds + self._nats(*self._bumps(raw, scaled, channel), before[:, channel]).double()
        return odds

    def nats(self, raw: Tensor, before: Tensor, x: Tensor) -> Tensor:
        """Log-probability ``[n]``."""
        scaled = self._scaled(before, raw)
        each = self._nats(*self._bumps(raw, scaled, before.shape[1]), x).double()
        return (each + self._posterior(raw, before, scaled).log_softmax(dim=1)).logsumexp(dim=1)

    def draw(self, raw: Tensor, before: Tensor, uniform: Tensor, temperature: float = 1.0) -> Tensor:
        """A bump by the first uniform number, given the channels before, and a number from it by the second."""
        scaled = self._scaled(before, raw)
        bump = _drawn(self._posterior(raw, before, scaled), uniform[:, :1], temperature)[:, None]
        mean, scale = (part.gather(1, bump)[:, 0].double() for part in self._bumps(raw, scaled, before.shape[1]))
        away = torch.logit(uniform[:, 1].clamp(1e-12, 1 - 1e-12))
        value = mean + temperature * scale.exp() * away
        if self.levels is None:
            return value.float()
        return ((value + 1) * ((self.levels - 1) / 2)).round().clamp(0, self.levels - 1).long()


def _drawn(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """The symbol ``[n]`` at which the cumulative distribution passes ``uniform`` (float64 ``[n, 1]``)."""
    if temperature == 0:
        return logits.argmax(dim=1)
    passed = torch.softmax(logits.double() / temperature, dim=1).cumsum(dim=1)
    return torch.searchsorted(passed, uniform * passed[:, -1:], right=True)[:, 0]


def law_of(form: Grid, law: str, *, features: int, bumps: int) -> Law:
    """The law called ``law``: auto, categorical or logistic.

    ``auto``: categorical for symbols without order and for up to 32 levels, else logistic. Raises `UsageError` where law
    and levels do not fit.
    """
    if law == "auto":
        law = "logistic" if form.ordered and (form.levels is None or form.levels > FEW) else "categorical"
    if law == "categorical":
        if form.levels is None:
            raise UsageError("law = categorical over continuous cells", "levels", "Use law = auto")
        return Categorical(form, features)
    if not form.ordered:
        raise UsageError("law = logistic over symbols without order", "categorical", "Use law = auto")
    return LogisticMixture(form, bumps)
