"""What a hidden chain says of sequences: their probability, the law of each state, the best path; in float64.

A chain is ``first`` (``[state]``, the law of the first state) and ``moves`` (``[state, state]``, row to column, or one such
matrix for each step, ``[time - 1, state, state]``). ``odds`` are the log-probabilities (or densities) of what was observed
at each place under each state, ``[batch, time, state]``: 0 where nothing was observed. `baum_welch` learns one.

Papers: Rabiner (1989), a tutorial on hidden Markov models; Viterbi (1967).
"""

import torch
from torch import Tensor


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


def foretold(first: Tensor, moves: Tensor, seen: Tensor, law: Tensor, begins: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Read on from ``law`` (``[batch, state]``, of the state at the first place): what is to be expected after each place.

    ``seen`` (``[batch, time, state]``) is the probability of what was observed under each state. Returns the law of the
    *next* state after each place, ``[batch, time, state]``, and the probability of each observation, ``[batch, time]``.
    Where ``begins`` (bool ``[batch, time]``), nothing was observed and the chain begins anew. After what no state can show,
    every state is as likely as any other.
    """
    laws, sums = [], []
    for t in range(seen.shape[1]):
        law = law * seen[:, t]
        total = law.sum(dim=1, keepdim=True)
        law = torch.where(total > 0, law / total.clamp_min(1e-300), 1 / law.shape[1]) @ moves
        if begins is not None:
            law = torch.where(begins[:, t, None], first, law)
        laws.append(law)
        sums.append(total[:, 0])
    if not sums:
        return law[:, None], law.new_zeros(len(law), 0)
    return torch.stack(laws, dim=1), torch.stack(sums, dim=1)


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


def apart(moves: Tensor, steps: Tensor) -> Tensor:
    """The moves between places that lie so many ``steps`` (long ``[time - 1]``) apart: one matrix, or one for each.

    What lies between them was not observed, so the move over n steps is the n-th power.
    """
    many, which = steps.unique(return_inverse=True)
    powers = [torch.linalg.matrix_power(moves, int(n)) for n in many]
    return powers[0] if len(powers) == 1 else torch.stack([*powers, moves])[which]
