"""A table of odds: each symbol depends on the one before it, counted with one added to every count.

The smallest family there is, written outside the package as a user would: settings, model, law, drawing. It is a Markov
chain of order one with Laplace's rule.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from pieria.data.batch import Batch, check, mask_after_end
from pieria.forms import Form, Tokens
from pieria.models.contract import Model, Step
from pieria.noise import Noise
from pieria.settings import Field, Settings


class TableSettings(Settings):
    """How much is believed before anything was counted."""

    added: float = Field(1.0, gt=0, le=1e6, description="what is added to every count")


class TableSampling(Settings):
    """How the next symbol is chosen."""

    temperature: float = Field(1.0, ge=0, description="odds are divided by it; 0 takes the likeliest symbol")
    top_k: int | None = Field(None, ge=1, description="choose among so many of the likeliest symbols")


class Table(Model):
    """p(x) = Π (count(x_{t-1}, x_t) + a) / (count(x_{t-1}) + a · vocabulary)."""

    Settings = TableSettings
    Sampling = TableSampling
    consumes = frozenset({Tokens})
    likelihood = "exact"
    presets: ClassVar = {"tiny": {}, "sure": {"added": 0.01}}
    paper = "Laplace 1814, Essai philosophique sur les probabilités"
    reach = 1

    def __init__(self, settings: TableSettings, form: Tokens, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        # one row more than symbols: the last is `form.begin`
        self.register_buffer("counts", torch.zeros(form.vocabulary + 1, form.vocabulary, dtype=torch.float64))

    def estimate(self, batches: Callable[[], Iterable[Batch]]) -> None:
        self.counts.zero_()
        for batch in batches():
            check(self.form, batch.x)
            read, mask = self._before(batch)
            pairs = (read * self.form.vocabulary + batch.x)[mask]
            self.counts += torch.bincount(pairs, minlength=self.counts.numel()).view_as(self.counts)
        if self.form.end is None:  # a stream begins but once: begin it anywhere
            self.counts[-1] = self.counts[:-1].sum(0)

    def _before(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The symbol before each symbol ``[batch, time]``, and which symbols count."""
        begin = torch.full_like(batch.x[:, :1], self.form.begin)
        first = begin if batch.context is None else batch.context[:, -1:]
        mask = mask_after_end(batch.x, self.form.end) if batch.mask is None else batch.mask
        return torch.cat([first, batch.x[:, :-1]], dim=1), mask

    def law(self) -> Tensor:
        """Log-odds ``[vocabulary + 1, vocabulary]`` of the next symbol."""
        return (self.counts + self.settings.added).log().log_softmax(-1)

    def symbol_log_prob(self, batch: Batch) -> Tensor:
        check(self.form, batch.x)
        read, mask = self._before(batch)
        return self.law()[read, batch.x] * mask

    def log_prob(self, batch: Batch) -> Tensor:
        return self.symbol_log_prob(batch).sum(1)

    def logits(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.law()[tokens]

    def start(self, n: int, condition: Tensor | None = None) -> Any:
        return torch.full((n,), self.form.begin)

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.law()[tokens[:, -1]], tokens[:, -1]

    def odds(self, logits: Tensor, options: TableSampling) -> Tensor:
        """What the options make of log-odds."""
        if options.temperature == 0:
            options = TableSampling(top_k=1)
        odds = logits / options.temperature
        if options.top_k is not None and options.top_k < odds.shape[-1]:
            odds = odds.masked_fill(odds < odds.topk(options.top_k).values[..., -1:], -torch.inf)
        return odds

    def sample(self, n: int, options: TableSampling, noise: Noise, condition: Tensor | None = None) -> Tensor:
        uniform = noise.uniform("symbol", (self.form.length,)).double()
        state, last = self.start(n), torch.full((n, 1), self.form.begin)
        made, done = [], torch.zeros(n, dtype=torch.bool)
        for place in range(self.form.length):
            logits, state = self.step(last, state)
            passed = self.odds(logits, options).softmax(-1).cumsum(-1)
            symbol = (passed <= uniform[:, place, None] * passed[:, -1:]).sum(-1)
            if self.form.end is not None:
                symbol = symbol.masked_fill(done, self.form.end)
                done = done | (symbol == self.form.end)
            made.append(symbol)
            last = symbol[:, None]
        return torch.stack(made, dim=1)

    def trace(self, options: TableSampling, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        item = self.sample(1, options, noise)
        for place in range(self.form.length):
            before = self.form.begin if place == 0 else int(item[0, place - 1])
            odds = self.odds(self.law()[before], options).softmax(-1)
            shown = item[:, : place + 1] if place + 1 < self.form.length else item
            yield Step(
                f"symbol {place + 1}", shown, "The row of the symbol before it says how likely each one is.", {"odds": odds}
            )


MODEL = Table
