"""Beam search: the most probable items, looked for among the few best beginnings and not among all.

At each step every kept beginning (a hypothesis) is continued by every symbol, and the ``beams`` best continuations are
kept. What ends is set aside, scored per length (Wu et al. 2016, arXiv 1609.08144, section 7):

    score(x) = log p(x) / lp(x)        lp(x) = ((5 + |x|) / 6) ^ length_penalty

where |x| counts the new symbols with the end. Without the penalty, longer items always lose, since each symbol costs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pieria.errors import UsageError
from pieria.models.contract import device_of
from pieria.sampling.decoding import TOGETHER, Decoding, PredictsTokens, at_rest, choices, first_read, prompt_rows, tokens_of
from pieria.sampling.decoding import room as room_of
from pieria.sampling.states import reordered

NEVER = -torch.inf


@dataclass(frozen=True)
class Found:
    """What a search found for each item, the best first.

    Attributes:
        symbols: the new symbols (without the prompt), long ``[n, beams, time]``, padded with ``end``.
        scores: float64 ``[n, beams]``: nats per length penalty; minus infinity where fewer were found.
        log_prob: float64 ``[n, beams]``: nats of the new symbols.
    """

    symbols: Tensor
    scores: Tensor
    log_prob: Tensor

    @property
    def best(self) -> Tensor:
        """The best of each item, long ``[n, time]``."""
        return self.symbols[:, 0]


def length_penalty_of(length: int, strength: float) -> float:
    """Wu et al.'s lp: what the nats of ``length`` symbols are divided by."""
    return float(((5 + length) / 6) ** strength)


def beam_search(
    model: PredictsTokens,
    n: int,
    options: Decoding,
    *,
    beams: int = 4,
    length_penalty: float = 0.6,
    prompt: Tensor | None = None,
    condition: Tensor | None = None,
) -> Found:
    """The best items that ``beams`` hypotheses an item find; with one beam, what greedy decoding gives.

    A hypothesis that ends among the ``beams`` best continuations is finished; an item is done when ``beams`` of its
    hypotheses are, or at the longest length, where those that go on count as they stand. With as many beams as there are
    beginnings the search is exhaustive. Nothing is random, so there is no noise.

    Args:
        model: what predicts the next symbol.
        n: how many items, each with its own prompt or condition.
        options: the law that is searched is the model's after these (temperature, truncation, penalty); ``length`` is the
            most new symbols.
        beams: hypotheses kept an item.
        length_penalty: 0 searches the most probable item, larger ones prefer longer items.
        prompt: long ``[time]`` or ``[n, time]``, as in `generate`.
        condition: one a row.

    Raises `UsageError` for no beams, a negative penalty, or temperature 0, which leaves nothing to search.
    """
    if beams < 1 or length_penalty < 0:
        raise UsageError(f"{beams} beams with length penalty {length_penalty:g}", "at least 1 beam, and a penalty from 0")
    if options.temperature == 0:
        raise UsageError("temperature 0 in a beam search", "a law to search", "Leave it out; one beam is greedy")
    together = max(1, TOGETHER // beams)
    parts = []
    for first in range(0, n, together):
        rows = slice(first, min(first + together, n))
        lead = prompt[rows] if prompt is not None and prompt.dim() == 2 else prompt
        given = None if condition is None else condition[rows]
        with at_rest(model), torch.inference_mode():
            search = _Search(model, rows.stop - first, options, beams, length_penalty, lead, given)
            parts.append(search.run())
    whole = [torch.cat([part[place] for part in parts]) for place in range(3)]
    return Found(*(tensor.clone() for tensor in whole))  # made in inference mode, which autograd would refuse to use later


class _Search:
    """The hypotheses of the items that are not done yet: ``active`` items with ``beams`` rows each."""

    def __init__(
        self,
        model: PredictsTokens,
        n: int,
        options: Decoding,
        beams: int,
        penalty: float,
        prompt: Tensor | None,
        condition: Tensor | None,
    ) -> None:
        self.model, self.options, self.beams, self.penalty = model, options, beams, penalty
        form = tokens_of(model)
        self.vocabulary, self.end = form.vocabulary, form.end
        given = prompt_rows(form, prompt, n)
        self.length = room_of(form, given.shape[1], options.length)
        self.device = device_of(model) if isinstance(model, nn.Module) else given.device
        given = given.to(self.device)
        self.seen: Tensor | None = None
        if options.repetition_penalty != 1:
            self.seen = torch.zeros(n, form.vocabulary, dtype=torch.bool, device=self.device).scatter_(1, given, True)
        self.logits, self.state = model.step(first_read(model, given), model.start(n, condition))
        self.active = torch.arange(n, device=self.device)
        self.width = 1  # rows an item: the prompt is read once, and after the first symbol there are `beams`
        self.log = torch.zeros(n, 1, dtype=torch.float64, device=self.device)
        pad = 0 if self.end is None else self.end
        self.made = torch.full((n, 1, self.length), pad, device=self.device)  # [active, width, length]
        self.finished = torch.full((n, beams, self.length), pad, device=self.device)
        self.scores = torch.full((n, beams), NEVER, dtype=torch.float64, device=self.device)
        self.nats = self.scores.clone()

    def run(self) -> tuple[Tensor, Tensor, Tensor]:
        """Symbols, scores and nats of the finished, ``[n, beams, …]``."""
        for place in range(self.length):
            total, parent, symbol = self._continued()
            going = self._finish(place, total, parent, symbol)
            if place + 1 == self.length or not bool(going.any()):
                break
            self._go_on(place, total, parent, symbol, going)
        return self.finished, self.scores, self.nats

    def _continued(self) -> tuple[Tensor, Tensor, Tensor]:
        """Nats of the best continuations ``[active, k]``, the rows they continue (within the item), and their symbols.

        Twice as many as beams: at most one in a row ends, so enough are left to go on.
        """
        law = torch.log_softmax(choices(self.logits, self.options, self.seen), dim=-1)
        total = (self.log[:, :, None] + law.view(len(self.active), self.width, -1)).flatten(1)
        top, place = total.topk(min(2 * self.beams, total.shape[1]), dim=1)
        return top, place // self.vocabulary, place % self.vocabulary

    def _finish(self, place: int, total: Tensor, parent: Tensor, symbol: Tensor) -> Tensor:
        """Set aside what ends among the best; True (bool ``[active, k]``) for what may go on. Items that are done leave."""
        ends = torch.zeros_like(symbol, dtype=torch.bool) if self.end is None else symbol == self.end
        best = torch.arange(total.shape[1], device=self.device) < self.beams
        whole = (ends | (place + 1 == self.length)) & best & (total > NEVER)
        if bool(whole.any()):
            items = self.made.gather(1, parent[:, :, None].expand(-1, -1, self.length))
            items[:, :, place] = symbol
            nats = torch.where(whole, total, NEVER)
            scores = torch.cat([self.scores[self.active], nats / length_penalty_of(place + 1, self.penalty)], dim=1)
            kept, order = scores.topk(self.beams, dim=1)
            self.scores[self.active] = kept
            self.nats[self.active] = torch.cat([self.nats[self.active], nats], dim=1).gather(1, order)
            both = torch.cat([self.finished[self.active], items], dim=1)
            self.finished[self.active] = both.gather(1, order[:, :, None].expand(-1, -1, self.length))
        going = ~ends & (total > NEVER)
        done = (self.scores[self.active] > NEVER).all(dim=1) | ~going.any(dim=1)
        return going & ~done[:, None]

    def _go_on(self, place: int, total: Tensor, parent: Tensor, symbol: Tensor, going: Tensor) -> None:
        """Let the model read the best continuations that have not ended, of the items that are not done."""
        left = going.any(dim=1).nonzero()[:, 0]
        log, order = torch.where(going, total, NEVER)[left].topk(min(self.beams, total.shape[1]), dim=1)
        parent, symbol = parent[left].gather(1, order), symbol[left].gather(1, order)
        self.made = self.made[left].gather(1, parent[:, :, None].expand(-1, -1, self.length))
        self.made[:, :, place] = symbol
        rows = (left[:, None] * self.width + parent).flatten()
        self.active, self.log, self.width = self.active[left], log, log.shape[1]
        read = symbol.reshape(-1, 1)
        if self.seen is not None:
            self.seen = self.seen[rows].scatter_(1, read, True)
        self.state = reordered(self.model, self.state, rows)
        self.logits, self.state = self.model.step(read, self.state)
