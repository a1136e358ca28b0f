"""GPT: a decoder-only transformer that predicts the next symbol from all symbols before it.

Every symbol becomes a vector; in each layer every place looks at the places before it (attention) and then thinks about
what it found (a small network). The last layer's vector gives the odds of the next symbol. The product of these odds over
an item is its exact probability, and drawing one symbol after the other draws from exactly that distribution.

It has no latent space and does not count: for little data or short contexts the n-gram is the one to beat.

A window holds at most ``form.length`` symbols. When it is full and another symbol comes, the older half is forgotten and
the rest is read anew; ``logits`` and ``step`` follow the same rule, so that what is streamed is what is scored.

Papers: Radford et al. 2019, *Language models are unsupervised multitask learners*; Vaswani et al. 2017, arXiv 1706.03762;
rotary positions, Su et al. 2021, arXiv 2104.09864; grouped queries, Ainslie et al. 2023, arXiv 2305.13245; SwiGLU, Shazeer
2020, arXiv 2002.05202.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from pieria.data.batch import Batch, check
from pieria.data.packing import Packed, rows_of
from pieria.errors import FormError, UsageError
from pieria.forms import Form, Label, Tokens
from pieria.layers.attention import rotary_table
from pieria.layers.decoder import DecoderSettings, Layer
from pieria.layers.dropout import Dropout
from pieria.layers.norms import norm
from pieria.layers.parameters import Optimiser, groups
from pieria.layers.precision import Precision, products
from pieria.layers.reading import Cache, Map, normaliser, product
from pieria.losses.symbols import cross_entropy, symbol_log_prob
from pieria.models.contract import Losses, Model, Phase, Step
from pieria.noise import Noise
from pieria.sampling.decoding import Decoding, generate, trace_symbols
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

# the share of training windows that are read as if nothing stood before them, so that a model of a stream can begin one
BEGINNINGS = 0.1


class GPTSettings(DecoderSettings):
    """The network."""

    tied: bool = Field(True, description="the input's vectors are also the output's")
    precision: Precision = Field(
        "auto", description="of matrix products in training; auto is bfloat16 where the processor multiplies it natively"
    )
    gradient_checkpointing: bool = Field(
        False, description="keep only what enters each layer and compute the rest again backwards: less memory, slower"
    )
    packed: Packed = Field(
        "auto", description="items of different lengths share rows in training; auto where that leaves enough less padding"
    )
    optimiser: Optimiser = Field(
        "orthogonal", description="how matrices inside layers are moved: all directions alike, or each number by itself"
    )


@dataclass
class State:
    """What streaming keeps: the window, and the last steps of the network as functions."""

    cache: Cache
    last: Map
    head: Map


class GPT(Model):
    """p(x) = Π p(x_t | x_1 … x_{t-1}), each factor a softmax over the vocabulary."""

    Settings: ClassVar = GPTSettings
    Sampling: ClassVar = Decoding
    consumes: ClassVar = frozenset({Tokens})
    conditions: ClassVar = frozenset({Label})
    likelihood: ClassVar = "exact"
    paper: ClassVar = "Radford et al. 2019, Language models are unsupervised multitask learners"
    training_defaults: ClassVar = {
        "batch": 32,
        "rate": 3e-3,
        "weight_decay": 0.1,
        "beta2": 0.99,
        "warmup": 100,
        "final": 0.0,
    }
    presets: ClassVar = {
        "tiny": {"layers": 2, "heads": 2, "width": 32, "precision": "float32", "batch": 16, "rate": 5e-3, "warmup": 20},
        "nano": {
            "layers": 4, "heads": 4, "width": 128, "positions": "learned", "unit_queries": False,
            "optimiser": "adamw", "batch": 12, "rate": 1e-3, "final": 0.1, "steps": 2000,
        },
        "small": {"layers": 4, "heads": 4, "width": 256},
        "gpt2": {
            "layers": 12, "heads": 12, "width": 768, "positions": "learned", "unit_queries": False, "bias": True,
            "activation": "gelu-tanh", "optimiser": "adamw", "rate": 6e-4, "beta2": 0.95,
        },
        "gpt3-small": {  # Brown et al. 2020: as GPT-2, every second layer banded
            "layers": 12, "heads": 12, "width": 768, "positions": "learned", "unit_queries": False, "bias": True,
            "activation": "gelu-tanh", "window": 256, "windowed": "alternate", "optimiser": "adamw", "rate": 6e-4,
            "beta2": 0.95,
        },
        "llama": {
            "layers": 8, "heads": 8, "key_heads": 4, "width": 512, "hidden": 2.6875, "norm": "rms", "activation": "swiglu",
            "unit_queries": False, "tied": False, "optimiser": "adamw", "rate": 1e-3, "beta2": 0.95,
        },
        "baby": {
            "layers": 6, "heads": 6, "width": 384, "positions": "learned", "unit_queries": False, "dropout": 0.2,
            "optimiser": "adamw", "batch": 64, "rate": 1e-3, "final": 0.1, "steps": 5000,
        },
    }  # fmt: skip

    settings: GPTSettings
    form: Tokens
    table: Tensor | None

    def __init__(self, settings: GPTSettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        self.symbol = nn.Embedding(self.form.vocabulary + 1, settings.width)  # one more row for `begin`
        self.place = nn.Embedding(self.form.length, settings.width) if settings.positions == "learned" else None
        self.label = nn.Embedding(len(condition.classes), settings.width) if isinstance(condition, Label) else None
        self.drop = Dropout(settings.dropout)
        self.layers = nn.ModuleList(Layer(settings, place) for place in range(settings.layers))
        self.last = norm(settings.norm, settings.width, settings.bias, settings.norm_epsilon)
        self.odds = None if settings.tied else nn.Linear(settings.width, self.form.vocabulary, bias=False)
        turns = settings.positions == "rotary"
        table = rotary_table(self.form.length, settings.size, settings.rotary_base) if turns else None
        self.register_buffer("table", table, persistent=False)  # a function of the settings, so not saved
        self._initialise()

    def _initialise(self) -> None:
        """Small normal weights; those that write into the sum over layers smaller with depth (Radford et al. 2019)."""
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                writes = name.endswith(("output.weight", "leave.weight"))
                nn.init.normal_(parameter, std=0.02 / (math.sqrt(2 * self.settings.layers) if writes else 1))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    # ---- the network

    @property
    def reach(self) -> int:
        """The window: at most so many symbols before the next one are used."""
        return self.form.length

    def each_layer(self) -> Iterator[Layer]:
        """The layers, in order."""
        return (cast(Layer, layer) for layer in self.layers)

    def _embed(self, tokens: Tensor, label: Tensor | None, first: int = 0, places: Tensor | None = None) -> Tensor:
        """Vectors ``[batch, time, width]`` of symbols that stand at the window's places ``first …``, or at ``places``."""
        x = functional.embedding(tokens, self.symbol.weight)
        if self.place is not None:
            x = x + (self.place.weight[first : first + tokens.shape[1]] if places is None else self.place(places))
        return x if label is None else x + label

    def _label(self, condition: Tensor | None) -> Tensor | None:
        if self.label is None:
            return None
        if condition is None:
            raise UsageError("no label was given", "one for each item: this model was fitted with labels", "Use --label")
        if not self.training:  # on a GPU the check waits for the device, which every step of training would notice
            assert self.condition is not None
            check(self.condition, condition, "the condition")
        label: Tensor = self.label(condition)
        return label[:, None]

    def _window(
        self, tokens: Tensor, label: Tensor | None, places: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """The last layer's normalised vectors ``[batch, time, width]`` for one window, time ≤ ``reach``.

        Of rows that hold several items, ``places`` are the symbols' places in their items, and ``mask`` what each may see.
        """
        x = self.drop(self._embed(tokens, label, places=places))
        table = self.table
        if table is not None:
            table = table[:, : tokens.shape[1]] if places is None else table[:, places]
        for layer in self.each_layer():
            if self.training and self.settings.gradient_checkpointing:
                x = checkpoint(layer, x, table, mask, use_reentrant=False)
            else:
                x = layer(x, table, mask)
        return self.last(x)

    def _head_weight(self) -> Tensor:
        return self.symbol.weight[: self.form.vocabulary] if self.odds is None else self.odds.weight

    def logits(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log-odds ``[batch, time, vocabulary]``; row t is of the symbol after ``tokens[:, : t + 1]``."""
        time, window = tokens.shape[1], self.reach
        label = self._label(condition)
        rows = [self._window(tokens[:, :window], label)]
        forgotten = window - window // 2
        start, done = 0, window
        while done < time:  # the rule of the module's docstring
            start += forgotten
            stop = min(start + window, time)
            rows.append(self._window(tokens[:, start:stop], label)[:, done - start :])
            done = stop
        return functional.linear(torch.cat(rows, dim=1) if len(rows) > 1 else rows[0], self._head_weight())

    # ---- learning

    def blocks(self) -> Iterator[Layer]:
        """What `training.compiling` compiles."""
        return self.each_layer()

    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """Matrices inside layers take orthogonal steps, tables of vectors AdamW's; single vectors do not decay.

        On tinyshakespeare after half a million symbols this gave 1.76 nats, AdamW 2.11: see `training.orthogonal`.
        """
        return {"all": groups(self, self.layers.parameters(), self.settings.optimiser)}

    def phases(self) -> list[Phase]:
        """One."""
        return [Phase("next symbol", "all", self.loss)]

    def loss(self, batch: Batch, noise: Noise) -> Losses:
        """Cross-entropy of the next symbol, -1/N Σ log p(x_t | x_1 … x_{t-1}), over the N symbols that are real."""
        before, x, mask = self._before(batch)[:, -1:], batch.x, batch.mask
        with products(self.settings.precision, x.device):
            if self.form.end is None or x.shape[1] > self.reach:
                if self.form.end is None:
                    starts = noise.uniform("beginning").to(x.device) < BEGINNINGS
                    before = before.masked_fill(starts[:, None], self.form.begin)
                logits = self.logits(torch.cat([before, x[:, :-1]], dim=1), batch.condition)
            else:
                rows = rows_of(x, mask, self.settings.packed, self.settings.width)
                x, mask, label = rows.x, rows.mask, self._label(batch.condition)
                label = None if label is None else label[:, 0][rows.items]
                found = self._window(rows.read(before[:, 0]), label, rows.places if rows.several else None, rows.seen())
                logits = functional.linear(found, self._head_weight())
        return cross_entropy(logits.float(), x, mask)

    # ---- scoring

    def _before(self, batch: Batch) -> Tensor:
        if batch.context is not None and batch.context.shape[1]:
            return batch.context
        return batch.x.new_full((len(batch), 1), self.form.begin)

    def symbol_log_prob(self, batch: Batch) -> Tensor:
        """Nats of each symbol ``[batch, time]``, zero where masked; reads ``batch.context``, or ``begin`` without one."""
        check(self.form, batch.x)
        if self.form.end is not None and batch.x.shape[1] > self.form.length:
            raise FormError(
                f"an item of {batch.x.shape[1]} symbols",
                f"at most {self.form.length}, as the model was fitted with",
                "Shorten the item or fit with a larger length",
            )
        read = torch.cat([self._before(batch), batch.x[:, :-1]], dim=1)
        logits = self.logits(read, batch.condition)[:, -batch.x.shape[1] :]
        return symbol_log_prob(logits, batch.x, batch.mask)

    def log_prob(self, batch: Batch) -> Tensor:
        """Nats of each item, ``[batch]``: the sum over its symbols."""
        return self.symbol_log_prob(batch).sum(dim=1, dtype=torch.float64)

    # ---- drawing

    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """Draw ``n`` items, symbol by symbol."""
        assert isinstance(options, Decoding)
        return generate(self, n, options, noise, condition=condition)

    def start(self, n: int, condition: Tensor | None = None) -> State:
        """An empty window for ``n`` items."""
        cache = Cache.empty(self.each_layer(), n, self.reach, self._label(condition))
        return State(cache, normaliser(self.last), product(self._head_weight(), None, n))

    def reorder(self, state: State, rows: Tensor) -> State:
        """The window of the items ``rows``; what is bound to a number of items is kept where that is the same."""
        if len(rows) != state.cache.keys.shape[1]:
            fresh = Cache.empty(self.each_layer(), len(rows), self.reach)
            fresh.take(state.cache, rows)
            return State(fresh, state.last, product(self._head_weight(), None, len(rows)))
        state.cache.take(state.cache, rows)
        return state

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read ``tokens`` ``[batch, k]``; the log-odds ``[batch, vocabulary]`` of what comes next. ``state`` is used up."""
        if torch.is_grad_enabled():
            with torch.no_grad():
                return self.step(tokens, state)
        x, cache = None, state.cache
        while tokens.shape[1]:
            if cache.used == self.reach:
                kept = torch.cat(cache.symbols, dim=1)[:, self.reach - self.reach // 2 :]
                tokens = torch.cat([kept, tokens], dim=1)
                cache.symbols, cache.used = [], 0
            room = self.reach - cache.used
            new = tokens if tokens.shape[1] <= room else tokens[:, :room]
            x = cache.read(new, self._embed(new, cache.label, cache.used), self.table)
            tokens = tokens[:, room:]
        if x is None:
            raise UsageError("no symbols to read", "at least one", "Give form.begin where nothing stands before")
        return state.head(state.last(x)), state

    # ---- explaining

    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """Each symbol with its odds, and where every head looked: ``attention`` ``[layer, head, places read]``."""
        assert isinstance(options, Decoding)

        def attention(read: Tensor) -> dict[str, Tensor]:
            read = read[:, -self.reach :]
            x = self._embed(read, self._label(condition))
            table = None if self.table is None else self.table[:, : read.shape[1]]
            maps = []
            for layer in self.each_layer():
                maps.append(layer.look.maps(layer.before_look(x), table)[0, :, -1])
                x = layer(x, table)
            return {"attention": torch.stack(maps), "read": read[0]}

        yield from trace_symbols(self, options, noise, condition=condition, look=attention)


MODEL = GPT
