"""Baum-Welch: how a hidden chain is learned, by making as probable as it was expected what each state did; in float64.

The chain is that of `chains`. Learning reads many sequences at once. Those that begin alike are the same until they part, so
`grown` joins them into a tree of beginnings, one level a place; `expected` goes once up and once down that tree (for a tree
the backward recursion is the derivative of the forward one: what flows back from the branches adds up where they part). One
long sequence has no others to be computed beside: `expected_along` cuts it into pieces, whose products of matrices join them
exactly.

Papers: Baum et al. (1970); Rabiner (1989), a tutorial on hidden Markov models; Särkkä and García-Fernández (2021), temporal
parallelisation of Bayesian smoothers.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from pieria.data.batch import Batch
from pieria.errors import TrainingError
from pieria.noise import Noise, StepNoise
from pieria.settings import Field, Settings

Array = np.ndarray
TRIAL = 15  # passes after which the most promising start is chosen


# ---- where it starts, and what a pass makes of what was expected -----------------------------------------------------


def any_law(noise: Noise, name: str, shape: tuple[int, ...]) -> Tensor:
    """Exponential numbers: divided by their sum, they are a law drawn evenly from all laws."""
    return -torch.log1p(-noise.uniform(name, shape)[0].double().clamp(1e-6, 1 - 1e-6))


def shares(counts: Tensor, before: Tensor) -> Tensor:
    """Each row of ``counts`` as a law; one that counts nothing keeps the law that it had ``before``."""
    total = counts.sum(dim=1, keepdim=True)
    return torch.where(total > 0, counts / total.clamp_min(1e-300), before)


# ---- many sequences: a tree of beginnings ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Level:
    """The different beginnings of one length; those that go on stand first.

    Attributes:
        parent: the place of each in the level before; None: the n beginnings go on the first n of the level before.
        parents: how many of the level before go on.
        seen: what is observed last in each, long ``[n]``.
        count: how many sequences begin so, float64 ``[n]``.
    """

    parent: Tensor | None
    parents: int
    seen: Tensor
    count: Tensor


def grown(flat: Array, lengths: Array, *, alike: bool = True) -> list[Level]:
    """The tree of sequences that stand one after the other in ``flat`` (integers ≥ 0), ``lengths`` each at least 1.

    With ``alike=False`` none are joined (where no two places observe the same, as with numbers).
    """
    begins = np.cumsum(lengths) - lengths
    order = np.argsort(-lengths, kind="stable")  # the long ones first, so that those still going on are the first n
    begins, lengths = begins[order], lengths[order]
    width = int(flat.max()) + 1
    found: list[tuple[Array | None, int, Array, Array]] = []
    place = np.zeros(len(lengths), np.int64)
    joined = alike  # whether some beginnings are still those of several sequences
    for t in range(int(lengths[0])):
        alive = int(np.searchsorted(-lengths, -t, side="left"))
        symbols = flat[begins[:alive] + t].astype(np.int64)
        if not joined:
            found.append((None, alive, symbols, np.ones(alive)))
            continue
        keys, inverse, many = np.unique(place[:alive] * width + symbols, return_inverse=True, return_counts=True)
        joined = len(keys) < alive
        parent, count = place[:alive], np.ones(alive)
        if joined:  # else from here on the beginnings are numbered as their sequences
            parent, symbols, count, place = keys // width, keys % width, many.astype(np.float64), inverse.reshape(-1)
        if found:
            parent, parents, found[-1] = _going_on_first(parent, *found[-1])
            found.append((parent, parents, symbols, count))
        else:
            found.append((None, 1, symbols, count))
    return [
        Level(None if parent is None else torch.from_numpy(parent), parents, torch.from_numpy(seen), torch.from_numpy(count))
        for parent, parents, seen, count in found
    ]


def _going_on_first(
    children: Array, parent: Array | None, parents: int, seen: Array, count: Array
) -> tuple[Array, int, tuple[Array | None, int, Array, Array]]:
    """The new parents of ``children``, how many there are, and the level of the parents, those with children first."""
    goes_on = np.zeros(len(seen), bool)
    goes_on[children] = True
    order = np.argsort(~goes_on, kind="stable")
    moved = np.empty(len(order), np.int64)
    moved[order] = np.arange(len(order))
    level = (None if parent is None else parent[order], parents, seen[order], count[order])
    return moved[children], int(goes_on.sum()), level


def expected(
    levels: list[Level], first: Tensor, move: Tensor, seen: Tensor, hear: Callable[[Level, Tensor], object]
) -> tuple[float, Tensor, Tensor]:
    """One E-step: the log-likelihood, how often each state is expected first, and how often each move.

    Args:
        levels: the tree.
        first: law of the first state.
        move: ``[state, state]``.
        seen: probability of each thing that can be observed, ``[thing, state]``, as `Level.seen` numbers them.
        hear: is given each level, and how many of its sequences are expected in each state there, ``[n, state]``.
    """
    nats = torch.zeros((), dtype=torch.float64)
    laws: list[Tensor] = []
    given = []
    for level in levels:
        scale = seen.index_select(0, level.seen)
        if not laws:
            law = first * scale
        else:  # the law of the next state after each beginning, before it is observed
            going = laws[-1][: level.parents] @ move
            law = (going if level.parent is None else going.index_select(0, level.parent)).mul_(scale)
        total = law.sum(dim=1, keepdim=True)
        law /= total
        scale /= total
        nats += level.count @ total[:, 0].log()
        laws.append(law)
        given.append(scale)
    moves, back = torch.zeros_like(move), None
    for depth in range(len(levels) - 1, -1, -1):
        level, law = levels[depth], laws.pop()
        # how much each state is worth: 1 for each sequence that ends here, and what its continuations say of it
        ending, going_on = level.count.clone(), 0
        if back is not None:
            going_on = len(back)
            ending[:going_on] -= _to_parents(levels[depth + 1], levels[depth + 1].count)
            moves.addmm_(law[:going_on].T, back)
        worth = ending[:, None].repeat(1, len(first))
        if back is not None:
            worth[:going_on].addmm_(back, move.T)
        law *= worth
        hear(level, law)
        if depth:
            back = _to_parents(level, worth.mul_(given.pop()))
    return float(nats), law.sum(dim=0), moves * move


def _to_parents(level: Level, values: Tensor) -> Tensor:
    """The sums over each parent's children."""
    if level.parent is None:
        return values
    return values.new_zeros(level.parents, *values.shape[1:]).index_add_(0, level.parent, values)


# ---- one long sequence -----------------------------------------------------------------------------------------------


def expected_along(first: Tensor, move: Tensor, odds: Tensor) -> tuple[float, Tensor, Tensor]:
    """One E-step over one sequence, ``odds`` ``[time, state]``: nats, the law of each state ``[time, state]``, and moves.

    The places after the first are cut into about √time pieces. Each piece's product of ``move · diag(seen)`` says what it
    does to any law, so the laws at all cuts are known after one short pass; then all pieces are worked on side by side.
    """
    top = odds.amax(dim=1)
    seen = (odds - top[:, None]).exp()
    states, rest = len(first), len(odds) - 1
    law = first * seen[0]
    total = law.sum()
    law = law / total
    nats = total.log() + top.sum()
    if not rest:
        return float(nats), law[None], torch.zeros_like(move)
    length = max(1, round(rest**0.5))
    pieces = -(-rest // length)
    cut = torch.ones(pieces * length, states, dtype=seen.dtype)  # what follows the end is not observed: it says nothing
    cut[:rest] = seen[1:]
    cut = cut.view(pieces, length, states)
    product = torch.eye(states, dtype=seen.dtype).expand(pieces, -1, -1)
    for t in range(length):
        product = (product @ move) * cut[:, t, None]
        product = product / product.amax(dim=(1, 2), keepdim=True)
    before, after = [law], [torch.ones_like(law)]
    for piece in range(pieces - 1):
        going = before[-1] @ product[piece]
        before.append(going / going.sum())
        coming = product[pieces - 1 - piece] @ after[-1]
        after.append(coming / coming.sum())
    laws = torch.empty_like(cut)
    going, sums = torch.stack(before), torch.empty(pieces, length, dtype=seen.dtype)
    for t in range(length):
        going = (going @ move) * cut[:, t]
        total = going.sum(dim=1, keepdim=True)
        going = going / total
        laws[:, t], sums[:, t] = going, total[:, 0]
    worth = torch.empty_like(cut)  # what follows each place says of its states, in any unit
    coming = torch.stack(after[::-1])
    for t in range(length - 1, -1, -1):
        worth[:, t] = coming
        coming = (coming * cut[:, t]) @ move.T
        coming = coming / coming.sum(dim=1, keepdim=True)
    flat = torch.cat([law[None], laws.view(-1, states)[:rest]])
    coming = (worth * cut).view(-1, states)[:rest]
    joint = flat[:-1] * (coming @ move.T)  # of a state and all that follows it, but for a factor
    weighted = flat[:-1] / joint.sum(dim=1, keepdim=True)
    answers = torch.cat([weighted * (coming @ move.T), flat[-1:]])
    return float(nats + sums.view(-1)[:rest].log().sum()), answers, (weighted.T @ coming) * move


# ---- all of the data -------------------------------------------------------------------------------------------------


@dataclass
class Sequences:
    """What is learned from: ``lengths`` of sequences that stand one after the other, and how they are read.

    Attributes:
        lengths: long ``[sequence]``.
        blocks: trees of beginnings; empty where there is one long sequence of numbers.
        total: symbols, or points.
        usual: odds of the symbols over all data, ``[vocabulary]``; of numbers the variance between neighbours, ``[output]``.
        values: float64 ``[point, output]``; ``row``: the step that each stands at. Both for numbers only.
    """

    lengths: Array
    blocks: list[list[Level]]
    total: int
    usual: Tensor
    values: Tensor
    row: Tensor


def of_symbols(flat: Array, lengths: Array, vocabulary: int, *, most: int, room: int) -> Sequences:
    """The sequences of ``lengths`` in ``flat``, evenly spaced ones with about ``most`` symbols in all.

    They are worked on in blocks of about ``room`` symbols, which bounds memory.
    """
    if len(flat) > most:
        keep = np.zeros(len(lengths), bool)
        few = max(1, int(len(lengths) * most / len(flat)))
        keep[np.unique(np.linspace(0, len(lengths) - 1, few).astype(np.int64))] = True
        flat, lengths = flat[np.repeat(keep, lengths)], lengths[keep]
    usual = np.bincount(flat, minlength=vocabulary) + 0.5
    ends, begins = np.cumsum(lengths), np.cumsum(lengths) - lengths
    block = begins // room
    blocks = [
        grown(flat[begins[rows[0]] : ends[rows[-1]]], lengths[rows])
        for rows in (np.flatnonzero(block == number) for number in np.unique(block))
    ]
    empty = torch.empty(0)
    return Sequences(lengths, blocks, len(flat), torch.from_numpy(usual / usual.sum()), empty, empty)


# ---- a chain that learns ---------------------------------------------------------------------------------------------


class ChainSettings(Settings):
    """How many states there are, and how the chain is learned."""

    states: int = Field(16, ge=1, le=2048, description="hidden states")
    initial: Literal["random", "sticky"] = Field(
        "random", description="moves that learning starts from: any to any, or nine in ten stay (regimes that last)"
    )
    smoothing: float = Field(
        0.1, ge=0, description="each state has so many observations and moves more than it has, which look like the average"
    )
    restarts: int = Field(5, ge=1, description="random starts, of which the most probable after 15 passes goes on")
    first_start: int = Field(0, ge=0, description="number of the first start; another number gives other starts")
    iterations: int = Field(200, ge=1, description="passes of Baum-Welch at most")
    tolerance: float = Field(1e-5, ge=0, description="gain in nats a symbol (or point) below which learning stops")


class Chain(nn.Module, ABC):
    """A hidden chain with some way of showing its states, which a subclass says.

    Attributes:
        first: the law of the first state, ``[state]``; moves: from row to column, ``[state, state]``.
        history: the objective after each pass of the start that was kept: log-likelihood and what smoothing adds to it,
            in nats.
    """

    settings: ChainSettings
    first: Tensor
    moves: Tensor

    def _begin_chain(self, states: int) -> None:
        self.register_buffer("first", torch.full((states,), 1 / states, dtype=torch.float64))
        self.register_buffer("moves", torch.full((states, states), 1 / states, dtype=torch.float64))
        self.history: list[float] = []

    @abstractmethod
    def gathered(self, batches: Callable[[], Iterable[Batch]]) -> Sequences:
        """All sequences, ready to be learned from."""

    @abstractmethod
    def improve(self, data: Sequences) -> float:
        """One pass of Baum-Welch; the log-likelihood before it, in nats."""

    @abstractmethod
    def _log_prior_of_emission(self, data: Sequences) -> float:
        """What smoothing adds to the log-likelihood for what the states show."""

    @abstractmethod
    def _begin_emission(self, data: Sequences, noise: StepNoise) -> None:
        """What the states show at a random start."""

    @torch.no_grad()
    def fit_chain(self, data: Sequences) -> None:
        """From several random starts, of which the most promising goes on; an earlier fit is forgotten."""
        best: tuple[list[float], dict[str, Tensor]] | None = None
        starts = self.settings.restarts
        for start in range(self.settings.first_start, self.settings.first_start + starts):
            self.begin(data, start)
            self.history = []
            self._climb(data, min(TRIAL, self.settings.iterations) if starts > 1 else self.settings.iterations)
            if best is None or self.history[-1] > best[0][-1]:
                best = self.history, {name: buffer.clone() for name, buffer in self.named_buffers()}
        assert best is not None
        self.history = best[0]
        for name, buffer in self.named_buffers():
            buffer.copy_(best[1][name])
        self._climb(data, self.settings.iterations)

    def _climb(self, data: Sequences, passes: int) -> None:
        """Go on until there have been so many passes, or the last one gained too little."""
        while len(self.history) < passes:
            prior = self._log_prior(data)
            self.history.append(self.improve(data) + prior)
            if not math.isfinite(self.history[-1]):
                raise TrainingError(
                    f"a log-likelihood of {self.history[-1]} after {len(self.history)} passes",
                    "data that some path of states explains",
                    "Raise smoothing above 0",
                )
            if len(self.history) > 1 and self.history[-1] - self.history[-2] < self.settings.tolerance * data.total:
                break

    def _move(self, first: Tensor, moves: Tensor) -> None:
        """Make the first states and moves as probable as they were expected."""
        extra = self.settings.smoothing / self.settings.states
        self.first.copy_((first + extra) / (first + extra).sum())
        self.moves.copy_(shares(moves + extra, self.moves))  # a state that was never left keeps its moves

    def _log_prior(self, data: Sequences) -> float:
        """What smoothing adds to the log-likelihood: the average observations' and moves' log-probability in each state."""
        prior = self._log_prior_of_emission(data)
        if self.settings.smoothing:
            moved = self.first.log().mean() + self.moves.log().mean(dim=1).sum()
            prior += self.settings.smoothing * float(moved)
        return prior

    def begin(self, data: Sequences, start: int) -> None:
        """The random start of this number."""
        k = self.settings.states
        noise = StepNoise(self.settings.first_start, start, "start", 1)
        moves = any_law(noise, "moves", (k, k))
        moves = moves / moves.sum(dim=1, keepdim=True)
        if self.settings.initial == "sticky":
            moves = 0.9 * torch.eye(k, dtype=torch.float64) + 0.1 * moves
        first = any_law(noise, "first", (k,))
        self.first.copy_(first / first.sum())
        self.moves.copy_(moves)
        self._begin_emission(data, noise)
