"""Observation laws: how probable an item is, given what a decoder wrote about it.

Each law reads ``raw`` (what the decoder wrote) and says ``log_prob(raw, x)``, ``typical(raw)`` and ``draw(raw, noise)``.
``raw`` may have dimensions between the batch and the rest, ``[batch, sample, …]``: several guesses at one item.
Laws over discrete levels are probabilities that sum to one over the levels; laws over numbers are densities.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pieria.errors import UsageError
from pieria.forms import Grid, Row
from pieria.noise import Noise

HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


def log_difference(upper: Tensor, lower: Tensor, law: str) -> Tensor:
    """``log(F(upper) - F(lower))`` for ``upper > lower`` of a standard "logistic" or "normal" law, without cancellation.

    Logistic: ``F(a) - F(b) = F(a) F(-b) (1 - exp(b - a))``, exactly. Normal: in the tail where both are small.
    """
    if law == "logistic":
        return F.logsigmoid(upper) + F.logsigmoid(-lower) + _log1mexp(upper - lower)
    flip = upper + lower > 0
    upper, lower = torch.where(flip, -lower, upper), torch.where(flip, -upper, lower)
    top = log_normal(upper)
    return top + _log1mexp(top - log_normal(lower))


def log_normal(x: Tensor) -> Tensor:
    """``log Φ(x)``; far in the lower tail by its series, since there torch's gradient of it is lost."""
    far = x < -10
    tail = x.clamp(max=-10)
    inverse = tail.square().reciprocal()
    series = -0.5 * tail.square() - (-tail).log() - HALF_LOG_TAU + torch.log1p(inverse * (-1 + inverse * (3 - 15 * inverse)))
    return torch.where(far, series, torch.special.log_ndtr(x.clamp(min=-10)))


def _log1mexp(gap: Tensor) -> Tensor:
    """``log(1 - exp(-gap))`` for a positive gap."""
    gap = gap.clamp(min=1e-12)
    small = gap < 0.7
    return torch.where(
        small,
        (-torch.expm1(-torch.where(small, gap, torch.ones_like(gap)))).log(),
        torch.log1p(-torch.exp(-torch.where(small, torch.ones_like(gap), gap))),
    )


class Observation(nn.Module, ABC):
    """The law of an item given ``raw``, of which a decoder writes ``outputs`` channels (grids) or numbers (rows)."""

    outputs: int

    @abstractmethod
    def log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        """Nats of each item under each guess: ``raw [batch, …, *shape]``, ``x [batch, *item] → [batch, …]``."""

    @abstractmethod
    def typical(self, raw: Tensor) -> Tensor:
        """The most typical item for each ``raw`` ``[batch, *shape]``, in the form's tensor."""

    @abstractmethod
    def draw(self, raw: Tensor, noise: Noise) -> Tensor:
        """One item for each ``raw`` ``[batch, *shape]``, in the form's tensor."""


class OverGrid(Observation, ABC):
    """The law of a grid's cells."""

    @abstractmethod
    def expected(self, raw: Tensor) -> Tensor:
        """The mean item for each ``raw`` ``[batch, *shape]``, as ``layers.grids.read`` gives items; has a slope."""


def _between(x: Tensor, raw: Tensor) -> Tensor:
    """``x [batch, *item]`` with as many dimensions of one after the batch as ``raw`` has guesses."""
    return x.reshape(x.shape[0], *[1] * (raw.dim() - x.dim()), *x.shape[1:])


class Bernoulli(OverGrid):
    """Binary cells: ``raw`` are log-odds, ``log p = Σ x·raw - softplus(raw)``."""

    def __init__(self, form: Grid) -> None:
        super().__init__()
        self.form, self.outputs = form, form.channels

    def log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        """Nats ``[batch, …]``."""
        flat, ones = raw.flatten(-3).reshape(raw.shape[0], -1, x[0].numel()), x.flatten(1).to(raw.dtype)
        # many guesses at an item: one matrix product saves a pass over all of them; few: that pass is the quicker way
        hits = (flat @ ones[:, :, None])[:, :, 0] if flat.shape[1] > 8 else (flat * ones[:, None]).sum(dim=2)
        return (hits - F.softplus(flat).sum(dim=2)).reshape(raw.shape[:-3])

    def typical(self, raw: Tensor) -> Tensor:
        """One where that is likelier."""
        return (raw > 0).long()

    def expected(self, raw: Tensor) -> Tensor:
        """The probability of a one, stretched over [-1, 1]; of symbols without order that of each, side by side."""
        if self.form.ordered:
            return 2 * raw.sigmoid() - 1
        return torch.stack([(-raw).sigmoid(), raw.sigmoid()], dim=-3).flatten(-4, -3)

    def draw(self, raw: Tensor, noise: Noise) -> Tensor:
        """One with probability ``sigmoid(raw)``."""
        return (noise.uniform("observation", raw.shape[1:]).to(raw) < raw.sigmoid()).long()


class Symmetric(OverGrid):
    """Each cell a logistic or a normal law around a mean, in [-1, 1]; ``raw`` is the mean, and a log scale.

    Continuous cells have its density. A level ``v`` of ``L`` ordered ones has the probability of the interval around
    ``2 v / (L - 1) - 1``, half a level to each side; the first and the last level have the whole tails (Salimans et al.
    2017), so that the levels sum to one. The logistic scale is written cell by cell; the normal one is learned for each
    channel (σ-VAE, Rybkin et al. 2021).
    """

    def __init__(self, form: Grid, law: str, floor: float = 0.01) -> None:
        super().__init__()
        self.form, self.law, self.floor = form, law, floor
        self.outputs = 2 * form.channels if law == "logistic" else form.channels
        self.scale = nn.Parameter(torch.full((form.channels, 1, 1), -1.5))

    def _mean_and_scale(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        scale: Tensor = self.scale
        if self.law == "logistic":
            raw, own = raw.chunk(2, dim=-3)
            scale = scale + own
        return raw, scale.clamp(max=3).exp() + self.floor

    def log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        """Nats ``[batch, …]`` of levels (probability) or of continuous cells (density)."""
        mean, scale = self._mean_and_scale(raw)
        levels = self.form.levels
        x = _between(x, raw)
        if levels is None:
            away = (x - mean) / scale
            if self.law == "logistic":
                cell = F.logsigmoid(away) + F.logsigmoid(-away) - scale.log()
            else:
                cell = -0.5 * away.square() - scale.log() - HALF_LOG_TAU
            return cell.sum(dim=(-3, -2, -1))
        centre, half = 2 * x.to(raw.dtype) / (levels - 1) - 1, 1 / (levels - 1)
        upper, lower = (centre + half - mean) / scale, (centre - half - mean) / scale
        below = F.logsigmoid if self.law == "logistic" else log_normal
        inside = log_difference(upper, lower, self.law)
        cell = torch.where(x == 0, below(upper), torch.where(x == levels - 1, below(-lower), inside))
        return cell.sum(dim=(-3, -2, -1))

    def _on_levels(self, value: Tensor) -> Tensor:
        levels = self.form.levels
        if levels is None:
            return value
        return ((value + 1) * (levels - 1) / 2).round().clamp(0, levels - 1).long()

    def typical(self, raw: Tensor) -> Tensor:
        """The mean."""
        return self._on_levels(self._mean_and_scale(raw)[0])

    def expected(self, raw: Tensor) -> Tensor:
        """The mean, within the range of the levels."""
        mean = self._mean_and_scale(raw)[0]
        # not cut off beyond the range: there the slope would be lost
        return mean if self.form.levels is None else mean.clamp(-1, 1) + 0.01 * (mean - mean.clamp(-1, 1))

    def draw(self, raw: Tensor, noise: Noise) -> Tensor:
        """The mean plus the scale times a standard draw; rounded to a level where there are levels."""
        mean, scale = self._mean_and_scale(raw)
        if self.law == "logistic":
            # the difference of two Gumbel draws is logistic
            shape = mean.shape[1:]
            away = noise.gumbel("observation", shape, step=0) - noise.gumbel("observation", shape, step=1)
        else:
            away = noise.normal("observation", mean.shape[1:])
        return self._on_levels(mean + scale * away.to(mean))


class Categorical(OverGrid):
    """Each cell one of ``levels`` symbols: ``raw`` are log-odds, ``levels`` channels for each channel.

    It takes levels that have an order for symbols that have none.
    """

    def __init__(self, form: Grid) -> None:
        super().__init__()
        assert form.levels is not None
        self.form, self.channels, self.levels = form, form.channels, form.levels
        self.outputs = form.channels * form.levels

    def _odds(self, raw: Tensor) -> Tensor:
        """``[…, channel, level, height, width]``."""
        return raw.unflatten(-3, (self.channels, self.levels))

    def log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        """Nats ``[batch, …]``."""
        odds = self._odds(raw).log_softmax(dim=-3)
        place = _between(x.unsqueeze(2), odds).expand(*odds.shape[:-3], 1, *odds.shape[-2:])
        return odds.gather(-3, place).sum(dim=(-4, -3, -2, -1))

    def typical(self, raw: Tensor) -> Tensor:
        """The likeliest symbol."""
        return self._odds(raw).argmax(dim=-3)

    def expected(self, raw: Tensor) -> Tensor:
        """The probability of each symbol, in a channel of its own; of levels that have an order their mean."""
        shares = self._odds(raw).softmax(dim=-3)
        if not self.form.ordered:
            return shares.flatten(-4, -3)
        levels = torch.linspace(-1, 1, self.levels, dtype=raw.dtype, device=raw.device)
        return (shares * levels[:, None, None]).sum(dim=-3)

    def draw(self, raw: Tensor, noise: Noise) -> Tensor:
        """A symbol with the probability that it has."""
        odds = self._odds(raw)
        return (odds.double() + noise.gumbel("observation", odds.shape[1:]).to(odds.device)).argmax(dim=-3)


class Encoding(Protocol):
    """What `Mixed` needs of a fitted row encoding (see ``layers.rows``)."""

    form: Row
    modes: int
    categories: list[int]
    levels: list[int]
    missing: list[int]
    numbers: Tensor
    steps: Tensor
    centres: Tensor
    widths: Tensor
    shares: Tensor
    floors: Tensor
    fit: Callable[..., None]
    encode: Callable[[Tensor], Tensor]
    present: Callable[[Tensor], Tensor]
    on_lattice: Callable[[Tensor], Tensor]
    inside: Callable[[Tensor], Tensor]
    without_missing: Callable[[Tensor], Tensor]


class Mixed(Observation):
    """A row: each number a mixture of Gaussian bumps, each category its odds, each missing flag a coin.

    For a number, ``raw`` holds the log-odds of its bumps (added to those of the training rows) and a shift of each in
    widths; widths are learned for each bump and never below the column's floor. Densities are in the form's units. An
    integer has the density of its rounding interval, ``(F(v + ½) - F(v - ½)) / 1`` in steps of the original unit. What a
    flag says is missing does not count.
    """

    def __init__(self, encoding: nn.Module) -> None:
        super().__init__()
        self.encoding: Encoding = encoding  # type: ignore[assignment]  # a module that keeps this protocol
        e = self.encoding
        count = len(e.numbers)
        self.sizes = [count * e.modes, count * e.modes, sum(e.levels), len(e.missing)]
        self.outputs = sum(self.sizes)
        self.scale = nn.Parameter(torch.zeros(count, e.modes))

    def _split(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Log-odds, means and widths of the bumps ``[…, number, modes]``, log-odds of categories, of flags."""
        e = self.encoding
        odds, shift, categories, flags = raw.split(self.sizes, dim=-1)
        shape = (len(e.numbers), e.modes)
        odds = (
            (odds.unflatten(-1, shape) + e.shares.log()).log_softmax(dim=-1) if len(e.numbers) else odds.unflatten(-1, shape)
        )
        mean = e.centres + e.widths * shift.unflatten(-1, shape)
        width = torch.maximum(e.widths * self.scale.clamp(-5, 3).exp(), e.floors[:, None])
        return odds, mean, width, categories, flags

    def log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        """Nats ``[batch, …]`` of rows ``[batch, column]``, a density in the numbers."""
        e = self.encoding
        odds, mean, width, categories, flags = self._split(raw)
        present = _between(e.present(x), raw)
        wide = _between(x, raw)
        value = wide[..., e.numbers][..., None]
        smooth = -0.5 * ((value - mean) / width).square() - width.log() - HALF_LOG_TAU
        if (e.steps > 0).any():
            step = torch.where(e.steps > 0, e.steps, torch.ones_like(e.steps))[:, None]
            mass = log_difference((value + step / 2 - mean) / width, (value - step / 2 - mean) / width, "normal")
            # under a bump many steps wide the density is constant over a step, and the difference would be lost in rounding
            narrow = (e.steps[:, None] > 0) & (step / width > 0.02)
            smooth = torch.where(narrow, mass - step.log(), smooth)
        numbers = (odds + smooth).logsumexp(dim=-1)
        total = torch.where(present[..., e.numbers], numbers, torch.zeros_like(numbers)).sum(dim=-1)
        for place, part in zip(e.categories, categories.split(e.levels, dim=-1), strict=True) if e.levels else ():
            code = wide[..., place : place + 1].long().expand(*part.shape[:-1], 1)
            nats = part.log_softmax(dim=-1).gather(-1, code)[..., 0]
            total = total + torch.where(present[..., place], nats, torch.zeros_like(nats))
        said = wide[..., e.missing]
        return total + (said * flags - F.softplus(flags)).sum(dim=-1)

    def _row(self, raw: Tensor, values: Tensor, symbols: list[Tensor], flags: Tensor) -> Tensor:
        e = self.encoding
        x = raw.new_zeros(len(raw), len(e.form.columns))
        x[:, e.numbers] = e.on_lattice(values)
        for place, symbol in zip(e.categories, symbols, strict=True):
            x[:, place] = symbol.to(x.dtype)
        x[:, e.missing] = flags.to(x.dtype)
        return e.without_missing(x)

    def typical(self, raw: Tensor) -> Tensor:
        """The centre of the likeliest bump, the likeliest category, a value where one is likelier than none."""
        odds, mean, _, categories, flags = self._split(raw)
        values = mean.gather(-1, odds.argmax(dim=-1, keepdim=True))[..., 0]
        symbols = [part.argmax(dim=-1) for part in self._parts(categories)]
        return self._row(raw, values, symbols, flags > 0)

    def draw(self, raw: Tensor, noise: Noise) -> Tensor:
        """A bump and a number from it, a category and a flag, each as probable as the law says."""
        odds, mean, width, categories, flags = self._split(raw)
        bump = (odds.double() + noise.gumbel("bump", odds.shape[1:]).to(raw.device)).argmax(dim=-1, keepdim=True)
        away = noise.normal("number", (odds.shape[1],)).to(raw)
        chosen = width.expand_as(mean).gather(-1, bump)[..., 0]
        values = mean.gather(-1, bump)[..., 0] + chosen * away
        chances = categories.double() + noise.gumbel("category", categories.shape[1:]).to(raw.device)
        symbols = [part.argmax(dim=-1) for part in self._parts(chances)]
        gone = noise.uniform("missing", flags.shape[1:]).to(raw) < flags.sigmoid()
        return self._row(raw, values, symbols, gone)

    def _parts(self, categories: Tensor) -> tuple[Tensor, ...]:
        levels = self.encoding.levels
        return categories.split(levels, dim=-1) if levels else ()


def over_grid(form: Grid, law: str) -> OverGrid:
    """The law called ``law`` over a grid: auto, bernoulli, gaussian, logistic or categorical.

    ``auto``: Bernoulli for two ordered levels, discretised logistic for more, categorical for symbols without order,
    Gaussian for continuous cells. Raises `UsageError` where law and levels do not fit.
    """
    levels = form.levels
    if law == "auto":
        law = (
            "gaussian"
            if levels is None
            else "categorical"
            if not form.ordered
            else "bernoulli"
            if levels == 2
            else "logistic"
        )
    if law == "bernoulli":
        if levels != 2:
            raise UsageError(
                f"observation = bernoulli over {levels or 'continuous'} levels", "two levels", "Use observation = auto"
            )
        return Bernoulli(form)
    if law == "categorical":
        if levels is None:
            raise UsageError("observation = categorical over continuous cells", "levels", "Use observation = auto")
        return Categorical(form)
    if not form.ordered:
        raise UsageError(f"observation = {law} over symbols without order", "categorical", "Use observation = auto")
    return Symmetric(form, "normal" if law == "gaussian" else "logistic")
