"""Sums over all paths of a hidden chain, and its best path: the recursions of hidden Markov models, in float64.

A chain is ``first`` (``[state]``, the law of the first state) and ``moves`` (``[state, state]``, row to column, or one such
matrix for each step, ``[time - 1, state, state]``). ``odds`` are the log-probabilities (or densities) of what was observed
at each place under each state, ``[batch, time, state]``: 0 where nothing was observed.

Learning reads many sequences at once. Those that begin alike are the same until they part, so `grown` joins them into a
tree of beginnings, one level a place; `expected` goes once up and once down that tree (for a tree the backward recursion is
the derivative of the forward one: what flows back from the branches adds up where they part). One long sequence has no
others to be computed beside: `expected_along` cuts it into pieces, whose products of matrices join them exactly.

Papers: Rabiner (1989), a tutorial on hidden Markov models; Baum et al. (1970); Viterbi (1967); Särkkä and García-Fernández
(2021), temporal parallelisation of Bayesian smoothers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray


# ---- a few sequences side by side ------------------------------------------------------------------------------------


def filtered(first: Tensor, moves: Tensor, odds: Tensor) -> tuple[Tensor, Tensor]:
    """The law of the state at each place given all up to it, ``[batch, time, state]``; its nats, ``[batch, time]``.

    A place that no state explains has minus infinity; after it every state is as likely as any other.
    """
    top = odds.amax(dim=2)
    top = torch.where(torch.isfinite(top), top, 0.0)  # an impossible place has no odds to take out
    seen = (odds - top[..., None]).exp()
    laws, sums = torch.empty_like(seen), torch.empty_like(top)
    law = first.expand(len(odds), -1)
    for t in range(odds.shape[1]):
        if t:
            law = law @ (moves if moves.ndim == 2 else moves[t - 1])
        law = law * seen[:, t]
        total = law.sum(dim=1, keepdim=True)
        law = torch.where(total > 0, law / total.clamp_min(1e-300), 1 / law.shape[1])
        laws[:, t], sums[:, t] = law, total[:, 0]
    return laws, sums.log() + top


def smoothed(first: Tensor, moves: Tensor, odds: Tensor) -> Tensor:
    """The law of the state at each place given the whole sequence, ``[batch, time, state]``."""
    laws, _ = filtered(first, moves, odds)
    for t in range(odds.shape[1] - 2, -1, -1):
        move = moves if moves.ndim == 2 else moves[t]
        foretold = laws[:, t] @ move
        ratio = torch.where(foretold > 0, laws[:, t + 1] / foretold.clamp_min(1e-300), 0.0)
        laws[:, t] *= ratio @ move.T
    return laws / laws.sum(dim=2, keepdim=True)


def best_paths(first: Tensor, moves: Tensor, odds: Tensor, mask: Tensor | None = None) -> Tensor:
    """The most probable states of each sequence (Viterbi), long ``[batch, time]``; 0 where ``mask`` is False."""
    steps = moves.log()
    score = first.log() + odds[:, 0]
    came = []
    stay = torch.arange(moves.shape[-1]).expand(len(odds), -1)
    for t in range(1, odds.shape[1]):
        best, where = (score[:, :, None] + (steps if steps.ndim == 2 else steps[t - 1])).max(dim=1)
        best = best + odds[:, t]
        if mask is not None:  # after its end a sequence stands still
            real = mask[:, t, None]
            best, where = torch.where(real, best, score), torch.where(real, where, stay)
        score = best
        came.append(where)
    path = [score.argmax(dim=1)]
    for where in reversed(came):
        path.append(where.gather(1, path[-1][:, None])[:, 0])
    states = torch.stack(path[::-1], dim=1)
    return states if mask is None else states.masked_fill(~mask, 0)


def drawn_paths(first: Tensor, moves: Tensor, uniform: Tensor) -> Tensor:
    """States, long ``[batch, time]``, by inverting the cumulative laws at ``uniform`` (float64 ``[batch, time]``)."""
    law = first.expand(len(uniform), -1)
    path: list[Tensor] = []
    for t in range(uniform.shape[1]):
        if t:
            law = (moves if moves.ndim == 2 else moves[t - 1])[path[-1]]
        passed = law.cumsum(dim=1)
        path.append(torch.searchsorted(passed, uniform[:, t, None] * passed[:, -1:], right=True)[:, 0])
    return torch.stack(path, dim=1)


def conditioned(first: Tensor, move: Tensor, seen: Tensor, asked: list[int]) -> tuple[Tensor, Tensor]:
    """The chain over the steps ``asked`` (ascending), given what was ``seen`` (``[time, state]``) on the steps 0, 1, 2 …

    Given observations the states are still a chain, whose moves differ from place to place: from state i to j by what leads
    there past the steps between, times what all later steps say of j. Returns the law of the first state and the moves
    ``[len(asked) - 1, state, state]``. ``first`` is the law at step 0, or at the first step asked for if that is earlier.
    """

    def past(law: Tensor, after: int, until: int) -> Tensor:
        for t in range(after + 1, until + 1):
            law = law @ move
            law = law * seen[t] if 0 <= t < len(seen) else law
            law = law / law.sum()
        return law

    low = min(0, asked[0])
    law = past(first * seen[0] if low == 0 else first, low, asked[0])
    one = torch.eye(len(first), dtype=first.dtype)
    worth = past(one, asked[-1], max(asked[-1], len(seen) - 1)).sum(dim=1)
    moves = []
    for before, here in zip(asked[-2::-1], asked[:0:-1], strict=True):
        there = past(one, before, here) * worth
        worth = there.sum(dim=1)
        # where a state can lead nowhere that was seen, it is never stood in
        moves.append(torch.where(worth[:, None] > 0, there / worth[:, None].clamp_min(1e-300), 1 / len(worth)))
        worth = worth / worth.sum()
    law = law * worth
    return law / law.sum(), torch.stack(moves[::-1]) if moves else move.new_zeros(0, *move.shape)


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
