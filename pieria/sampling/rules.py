"""Wishes about what is drawn that one symbol's own odds do not tell: no repeats, a bias, a least length, a grammar.

A `Rule` says what is wished; ``start`` puts it to work on a batch of items as a `Following`, which changes the log-odds
before every symbol and is told what was drawn. `sampling.decoding` and `sampling.beams` follow the same rules.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from pieria.errors import UsageError

# added to the log-odds of what is not wished yet: overrides any model, and leaves a way out where a grammar has no other
UNWISHED = -1e4


class Following(Protocol):
    """A rule at work in a batch; it goes along with the items, symbol by symbol."""

    @property
    def done(self) -> Tensor | None:
        """Bool ``[n]``: after what was drawn nothing may follow. None for rules that end nothing."""
        ...

    def change(self, logits: Tensor) -> Tensor:
        """The log-odds of the next symbol ``[n, vocabulary]`` as the rule has them; minus infinity is never."""

    def read(self, symbols: Tensor) -> None:
        """Hear what was drawn, long ``[n]``."""

    def reorder(self, rows: Tensor) -> None:
        """Go on with the items ``rows`` (long ``[m]``), some of them left out or taken several times."""


class Rule(Protocol):
    """A wish, for any number of items."""

    def start(self, given: Tensor) -> Following:
        """Begin with items of which ``given`` (long ``[n, time]``, the whole prompt) stands there already."""


class Bias:
    """Adds nats to the log-odds of some symbols: ``{symbol: nats}``, between -100 (as good as never) and 100."""

    def __init__(self, nats: Mapping[int, float], vocabulary: int) -> None:
        self.added = torch.zeros(vocabulary, dtype=torch.float64)
        for symbol, value in nats.items():
            if not -100 <= value <= 100:
                raise UsageError(f"a bias of {value:g}", "nats between -100 and 100", "-100 is as good as never")
            self.added[symbol] = value

    def start(self, given: Tensor) -> Following:
        """The same for every item."""
        return _Added(self.added.to(given.device))


class _Added:
    done = None

    def __init__(self, added: Tensor) -> None:
        self.added = added

    def change(self, logits: Tensor) -> Tensor:
        return logits + self.added

    def read(self, symbols: Tensor) -> None:
        pass

    def reorder(self, rows: Tensor) -> None:
        pass


class Least:
    """No end before ``length`` new symbols."""

    def __init__(self, length: int, end: int) -> None:
        self.length, self.end = length, end

    def start(self, given: Tensor) -> Following:
        """Counts what is drawn; the prompt does not count."""
        del given
        return _Least(self.length, self.end)


class _Least:
    done = None

    def __init__(self, length: int, end: int) -> None:
        self.left, self.end = length, end

    def change(self, logits: Tensor) -> Tensor:
        if self.left <= 0:
            return logits
        changed = logits.clone()
        changed[:, self.end] += UNWISHED
        return changed

    def read(self, symbols: Tensor) -> None:
        del symbols
        self.left -= 1

    def reorder(self, rows: Tensor) -> None:
        pass


class NoRepeat:
    """Makes it dear to say again what stands there already, so that a text does not run in circles.

    A symbol that would make a run of ``longest + k`` symbols stand twice in an item (prompt included) loses ``k · cost``
    nats: names and turns of phrase may come back, a loop becomes dearer with every symbol and is left where another symbol
    is nearly as good, mostly between words. A dear cost forbids as blocking n-grams does (Paulus et al. 2018, arXiv
    1705.04304).
    """

    def __init__(self, longest: int, cost: float) -> None:
        self.longest, self.cost = longest, cost

    def start(self, given: Tensor) -> Following:
        """Looks through the whole prompt, also where it is longer than what the model reads."""
        return Repeats(self.longest, self.cost, given)


class Repeats:
    """`NoRepeat` at work. ``runs[i, j]``: how many symbols up to and with place j are also the last ones of item i."""

    done = None

    def __init__(self, longest: int, cost: float, given: Tensor) -> None:
        self.longest, self.cost = longest, cost
        n, self.used = given.shape
        self.symbols = given.new_zeros(n, max(64, 2 * self.used))
        self.symbols[:, : self.used] = given
        self.runs = torch.zeros_like(self.symbols)
        alike = torch.ones(n, max(0, self.used - 1), dtype=torch.bool, device=given.device)
        for back in range(self.used - 1):  # as far as anything is alike: few rounds, unless the prompt runs in circles
            places = slice(0, self.used - 1 - back)
            alike = alike[:, -places.stop :] & (given[:, places] == given[:, -1 - back, None])
            if not bool(alike.any()):
                break
            self.runs[:, back : self.used - 1] += alike

    def repeated(self) -> Tensor:
        """How many of the last symbols stand in the item once more, long ``[n]``."""
        before = self.runs[:, : max(0, self.used - 1)]
        return before.amax(dim=1) if before.shape[1] else before.new_zeros(len(before))

    def change(self, logits: Tensor) -> Tensor:
        """Dearer is what would go on with a run that stands there."""
        if self.used < 2:
            return logits
        before = slice(0, self.used - 1)
        over = (self.runs[:, before] + 1 - self.longest).clamp_(min=0)
        if not bool(over.any()):
            return logits
        worst = torch.zeros(logits.shape, dtype=torch.int64, device=logits.device)
        worst.scatter_reduce_(1, self.symbols[:, 1 : self.used], over, "amax")
        return logits - self.cost * worst

    def read(self, symbols: Tensor) -> None:
        """Hear what was drawn."""
        if self.used == self.symbols.shape[1]:
            self.symbols = torch.cat([self.symbols, torch.zeros_like(self.symbols)], dim=1)
            self.runs = torch.cat([self.runs, torch.zeros_like(self.runs)], dim=1)
        last = symbols[:, None]
        if self.used:
            self.runs[:, 1 : self.used] = (self.runs[:, : self.used - 1] + 1) * (self.symbols[:, 1 : self.used] == last)
            self.runs[:, :1] = self.symbols[:, :1] == last
        self.symbols[:, self.used] = symbols
        self.used += 1

    def reorder(self, rows: Tensor) -> None:
        """Go on with other rows."""
        self.symbols, self.runs = self.symbols.index_select(0, rows), self.runs.index_select(0, rows)
