"""How good is it on data that it does not learn from: mean nats a symbol (or an item) on held-out examples."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch

from pieria.data.batch import Batch
from pieria.data.examples import Examples
from pieria.forms import Curve, Tokens
from pieria.models.contract import Compares, Estimates, Losses, Model, Predicts, Scores, Validates
from pieria.noise import ItemNoise, seeded
from pieria.training import low_rank
from pieria.training.processes import Processes


def counted(model: Model, batch: Batch) -> float:
    """How many things ``log_prob`` of this batch speaks of: symbols of `Tokens`, points of a `Curve`, else items."""
    if isinstance(model.form, Tokens | Curve):
        return float(batch.x.shape[0] * batch.x.shape[1] if batch.mask is None else batch.mask.sum())
    return float(len(batch))


def unit(model: Model) -> str:
    """The unit of `HeldOut.look`: what its figure is a mean over."""
    if isinstance(model, Validates):
        return model.validation_unit
    what = "symbol" if isinstance(model.form, Tokens) else "point" if isinstance(model.form, Curve) else "item"
    return f"nats per {what} ({model.likelihood})"


@dataclass
class HeldOut:
    """Looks at held-out examples: the same places, the same noise, at every look, so that looks can be compared.

    Attributes:
        said: the named parts of the newest look, where the family's own figure has any.
    """

    model: Model
    examples: Examples
    count: int
    batch: int
    processes: Processes
    said: dict[str, float] = field(init=False, default_factory=dict)
    _places: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        there = len(self.examples)
        form = self.examples.form
        if isinstance(form, Tokens) and form.end is None:
            # windows of a stream overlap; no more of them than lie side by side
            there = max(1, self.examples.scored() // form.length)
        count = min(self.count, there)
        self._places = np.unique(np.linspace(0, len(self.examples) - 1, count).round().astype(np.int64))

    @staticmethod
    def possible(model: Model, examples: Examples | None) -> bool:
        """Whether there is a likelihood, or a figure of its own, and something to measure it on."""
        scores = isinstance(model, Scores) and model.likelihood != "none"
        return examples is not None and (scores or isinstance(model, Validates))

    def _batches(self) -> Iterable[Batch]:
        # counting models read far back, and are cheap: they are scored as they will be, and so are those that carry a state
        # along; others as they are trained
        if isinstance(self.model, Predicts) and (isinstance(self.model, Estimates) or self.model.reads_in_order):
            form, chosen = self.examples.form, list[Batch]()
            assert isinstance(form, Tokens)
            length = max(form.length, self.model.reach) if self.model.reads_in_order else form.length
            for batch in self.examples.sweep(self.batch, length=length, context=self.model.reach):
                chosen.append(batch)
                if sum(b.x.numel() for b in chosen) >= self.count * form.length:
                    break
            return chosen
        starts = range(0, len(self._places), self.batch)
        return (self.examples.batch(self._places[start : start + self.batch]) for start in starts)

    @torch.no_grad()
    def look(self) -> float:
        """Mean negative log-likelihood in nats, or the family's own figure: lower is better."""
        before = self.model.training
        self.model.eval()
        total = things = 0.0
        parts: dict[str, float] = {}
        try:
            with seeded("held-out"), low_rank.merged(self.model):
                if isinstance(self.model, Compares) and self.processes.rank == 0:
                    total, things = self._comparison(self.model, parts)
                for place, batch in enumerate(() if isinstance(self.model, Compares) else self._batches()):
                    if place % self.processes.world == self.processes.rank:
                        there = batch.to(self.processes.device)
                        nats, count = self._figure(there, parts)
                        total += nats
                        things += count
        finally:
            self.model.train(before)
        names = self.processes.agree(sorted(parts))  # the first process has always looked at something
        total, things, *sums = self.processes.sums([total, things, *[parts.get(name, 0.0) for name in names]])
        self.said = {name: value / things for name, value in zip(names, sums, strict=True)} if things else {}
        return total / things if things else math.nan

    def _comparison(self, model: Compares, parts: dict[str, float]) -> tuple[float, float]:
        """As `_figure`, of all items at once: only their points are held together."""
        pieces = [model.compared(there, _noise(there)) for there in (b.to(self.processes.device) for b in self._batches())]
        return _summed(model.comparison(*(torch.cat(side) for side in zip(*pieces, strict=True))), parts)

    def _figure(self, batch: Batch, parts: dict[str, float]) -> tuple[float, float]:
        """The sum over these items of what is looked at, and over how many things it is; adds its parts to ``parts``."""
        if isinstance(self.model, Validates):
            return _summed(self.model.validate(batch, _noise(batch)), parts)
        assert isinstance(self.model, Scores)
        return -float(self.model.log_prob(batch).double().sum()), counted(self.model, batch)


def _noise(batch: Batch) -> ItemNoise:
    items = range(len(batch)) if batch.index is None else batch.index.tolist()
    return ItemNoise(0, 0, items=list(items))


def _summed(losses: Losses, parts: dict[str, float]) -> tuple[float, float]:
    for name, value in losses.parts.items():
        parts[name] = parts.get(name, 0.0) + float(value) * losses.count
    return float(losses.loss) * losses.count, losses.count
