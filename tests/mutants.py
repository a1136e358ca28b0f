"""Families that are wrong in one small way each, built around the table of ``families/outside.py``.

A conformance suite is worth what it catches; `test_mutants` names the check that must catch each of these.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pieria import registry
from pieria.data.batch import Batch

OUTSIDE = Path(__file__).parent / "families" / "outside.py"
Table: Any = registry.find(str(OUTSIDE))


class Hot(Table):
    """Draws at temperature 1.05, and says 1."""

    def odds(self, logits: Tensor, options: Any) -> Tensor:
        return super().odds(logits, options) / 1.05


class Leaking(Table):
    """Top-k keeps one symbol more than it was asked for, in one item of a hundred."""

    def odds(self, logits: Tensor, options: Any) -> Tensor:
        odds = super().odds(logits, options)
        if options.top_k is not None and odds.ndim == 2 and len(odds) >= 100:
            odds[::100] = super().odds(logits[::100], options.changed(top_k=options.top_k + 1))
        return odds


class Late(Table):
    """Scoring reads the symbol before the one before."""

    def _before(self, batch: Batch) -> tuple[Tensor, Tensor]:
        read, mask = super()._before(batch)
        return torch.cat([read[:, :1], read[:, :-1]], dim=1), mask


class LateStream(Table):
    """Reading symbol by symbol answers with the odds of one symbol earlier."""

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        before = tokens[:, -2] if tokens.shape[1] > 1 else state
        return self.law()[before], tokens[:, -1]


class Rough(Table):
    """What is read step by step is rounded to four digits."""

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        logits, state = super().step(tokens, state)
        return (logits * 1e4).round() / 1e4, state


class Heavy(Table):
    """Probabilities sum to 1.01."""

    def law(self) -> Tensor:
        return super().law() + torch.tensor(1.01).log()


class HeavyEnd(Table):
    """Only the end symbol has 1 % too much."""

    def symbol_log_prob(self, batch: Batch) -> Tensor:
        ends = (batch.x == self.form.end) if self.form.end is not None else (batch.x == 0)
        mask = self._before(batch)[1]
        return super().symbol_log_prob(batch) + (ends & mask) * torch.tensor(1.01).log()


class Mirage(Table):
    """The trace shows an item of its own."""

    def trace(self, options: Any, noise: Any, condition: Tensor | None = None) -> Any:
        for step in super().trace(options, noise, condition):
            yield type(step)(step.name, step.x.flip(1), step.note, step.data)


class Careless(Table):
    """Draws from torch's global state."""

    def sample(self, n: int, options: Any, noise: Any, condition: Tensor | None = None) -> Tensor:
        made = super().sample(n, options, noise, condition)
        return made if torch.rand(()) < 0.5 else made.roll(1, dims=0)


class Crowd(Table):
    """An item depends on the batch around it."""

    def sample(self, n: int, options: Any, noise: Any, condition: Tensor | None = None) -> Tensor:
        made = super().sample(n, options, noise, condition)
        return made.flip(0) if n == 8 else made


class Trusting(Table):
    """Takes any symbol for the nearest one that it knows."""

    def log_prob(self, batch: Batch) -> Tensor:
        return super().log_prob(batch.with_x(batch.x.long().clamp(0, self.form.vocabulary - 1)))


class Lazy(Table):
    """Learns nothing."""

    def estimate(self, batches: Any) -> None:
        super().estimate(batches)
        self.counts.zero_()


class Forgetful(Table):
    """What it learned is not saved."""

    def estimate(self, batches: Any) -> None:
        super().estimate(batches)
        self.kept = self.counts.clone()
        self.counts.zero_()

    def law(self) -> Tensor:
        counts = getattr(self, "kept", self.counts)
        return (counts + self.settings.added).log().log_softmax(-1)
