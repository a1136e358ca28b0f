"""Filling masked places round by round, from any model that says what may stand at a masked place, given all others.

A round puts symbols at some of the places that are still masked, and the model then reads them. At the end, ``sweeps``
may mask one place after the other again and draw it anew (Gibbs sampling; Wang & Cho 2019, arXiv 1902.04094).

Item i's symbol at place t is a function of the model's odds and of one uniform number that belongs to (seed, i, t), so an
item does not depend on the batch around it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from pieria.noise import Noise
from pieria.sampling.decoding import chosen
from pieria.sampling.truncation import top_k, top_p
from pieria.settings import Field, Settings

# (symbols [rows, time], masked [rows, time], asked [rows, time]) to log-odds [asked, vocabulary], in the order of `asked`
Odds = Callable[[Tensor, Tensor, Tensor], Tensor]


class Filling(Settings):
    """How masked places are filled: in which order, how many at once, and how a symbol is chosen from the odds."""

    order: Literal["random", "confidence", "left"] = Field(
        "random", description="which places first: any, those that the model is surest of, or from the left"
    )
    rounds: int | None = Field(
        None, ge=1, description="fill all places in so many rounds; unset is one place a round, the best and slowest way"
    )
    sweeps: int = Field(0, ge=0, description="how many times every filled place is masked again and drawn anew (Gibbs)")
    temperature: float = Field(1.0, ge=0, description="odds are divided by it: below 1 safer, above 1 wilder, 0 is greedy")
    top_k: int | None = Field(None, ge=1, description="choose among the so many most probable symbols only")
    top_p: float = Field(1.0, gt=0, le=1, description="choose among the most probable symbols that together have this share")
    never: tuple[int, ...] = Field((), description="symbols that are never placed, by their numbers")
    length: int | None = Field(
        None,
        ge=1,
        description="symbols of an item with its end, or of a stream; unset is a length as in training, or a window",
    )


@dataclass
class Round:
    """What one round did.

    Attributes:
        name: "round 3" or "sweep 1".
        x: all symbols, ``[batch, time]``; what stands at masked places means nothing.
        masked: what is still to be filled, bool ``[batch, time]``.
        placed: the places that this round filled, bool ``[batch, time]``.
        odds: log-odds of what was asked, ``[asked, vocabulary]``; ``asked`` says of which places.
        asked: bool ``[batch, time]``.
    """

    name: str
    x: Tensor
    masked: Tensor
    placed: Tensor
    odds: Tensor
    asked: Tensor


def rounds(odds: Odds, x: Tensor, masked: Tensor, options: Filling, noise: Noise, part: int = 0) -> Iterator[Round]:
    """Fill ``x`` (long ``[batch, time]``) where ``masked``; yields after every round, the last one complete.

    ``part`` numbers the stretches of a long text, so that each has draws of its own.
    """
    x, masked = x.clone(), masked.clone()
    first, device = masked.clone(), x.device
    uniform = noise.uniform("symbol", x.shape[1:], step=part).double().to(device)
    keys = _keys(options.order, noise, x, part)
    total, number = masked.sum(dim=1), 0
    while bool(masked.any()):
        number += 1
        rows = masked.any(dim=1).nonzero()[:, 0]
        left = masked[rows].sum(dim=1)
        kept = torch.ones_like(left)
        if options.rounds is not None:  # by round r, the share r / rounds of an item's places
            kept = left - (total[rows] * max(0, options.rounds - number)) // options.rounds
        asked = masked[rows]
        if options.order != "confidence":
            asked = smallest(asked, keys[rows], kept)
        logits = _without(odds(x[rows], masked[rows], asked), options.never)
        symbols, sure = _drawn(logits, options, uniform[rows][asked])
        if options.order == "confidence":
            certainty = torch.full(asked.shape, -torch.inf, dtype=torch.float64, device=device)
            certainty[asked] = sure
            placed = smallest(asked, -certainty, kept)
        else:
            placed = asked
        candidates = x[rows]
        candidates[asked] = symbols
        x[rows] = torch.where(placed, candidates, x[rows])
        masked[rows] = masked[rows] & ~placed
        yield Round(f"round {number}", x.clone(), masked.clone(), _among(placed, rows, x), logits, _among(asked, rows, x))
    for sweep in range(options.sweeps):
        yield _swept(odds, x, first, options, noise, part, sweep)


def windowed(odds: Odds, x: Tensor, masked: Tensor, options: Filling, noise: Noise, window: int) -> Iterator[Round]:
    """`rounds`, window by window: a text longer than one goes on by half a window, which reads the other half."""
    time = x.shape[1]
    for part, start in enumerate(range(0, max(1, time - window // 2), max(1, window - window // 2))):
        here = slice(start, start + window)
        for made in rounds(odds, x[:, here], masked[:, here], options, noise, part):
            whole, left, placed, asked = x.clone(), masked.clone(), torch.zeros_like(masked), torch.zeros_like(masked)
            whole[:, here], left[:, here], placed[:, here], asked[:, here] = made.x, made.masked, made.placed, made.asked
            yield replace(made, x=whole, masked=left, placed=placed, asked=asked)
            x = whole
        masked = masked.clone()
        masked[:, here] = False


def _swept(odds: Odds, x: Tensor, first: Tensor, options: Filling, noise: Noise, part: int, sweep: int) -> Round:
    """Each place of ``first``, in random order, masked again and drawn anew; changes ``x``."""
    step = part * 100_000 + sweep
    uniform = noise.uniform("symbol again", x.shape[1:], step=step).double().to(x.device)
    keys = noise.uniform("order again", x.shape[1:], step=step).to(x.device)
    left = first.clone()
    logits, asked = torch.empty(0), left
    while bool(left.any()):
        rows = left.any(dim=1).nonzero()[:, 0]
        asked = smallest(left[rows], keys[rows], torch.ones_like(rows))
        logits = _without(odds(x[rows], asked, asked), options.never)
        symbols, _ = _drawn(logits, options, uniform[rows][asked])
        again = x[rows]
        again[asked] = symbols
        x[rows] = again
        left[rows] = left[rows] & ~asked
        asked = _among(asked, rows, x)
    return Round(f"sweep {sweep + 1}", x.clone(), torch.zeros_like(first), first, logits, asked)


def _keys(order: str, noise: Noise, x: Tensor, part: int) -> Tensor:
    """Places with small keys come first, ``[batch, time]``."""
    if order == "random":
        return noise.uniform("order", x.shape[1:], step=part).to(x.device)
    return torch.arange(x.shape[1], device=x.device).expand(x.shape)


def smallest(among: Tensor, keys: Tensor, count: Tensor) -> Tensor:
    """The ``count`` places of each row of ``among`` with the smallest keys (of equal ones the first), as bool."""
    ranked = keys.double().masked_fill(~among, torch.inf).argsort(dim=1, stable=True)
    rank = torch.empty_like(ranked).scatter_(1, ranked, torch.arange(keys.shape[1], device=keys.device).expand_as(ranked))
    return among & (rank < count[:, None])


def _among(part: Tensor, rows: Tensor, x: Tensor) -> Tensor:
    whole = torch.zeros(x.shape, dtype=torch.bool, device=x.device)
    whole[rows] = part
    return whole


def _without(logits: Tensor, never: tuple[int, ...]) -> Tensor:
    return logits.index_fill(1, torch.tensor(never, device=logits.device), -torch.inf) if never else logits


def _drawn(logits: Tensor, options: Filling, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """A symbol for each row of log-odds, and the probability that the model gave it."""
    believed = torch.softmax(logits, dim=-1, dtype=torch.float64)
    if options.temperature == 0:
        symbols = logits.argmax(dim=-1)
    else:
        kept = logits.double() / options.temperature
        if options.top_k is not None:
            kept = top_k(kept, options.top_k)
        symbols = chosen(top_p(kept, options.top_p), uniform[:, None])
    return symbols, believed.gather(1, symbols[:, None])[:, 0]
