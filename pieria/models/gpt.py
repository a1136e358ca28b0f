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
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self, cast

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional

from pieria.data.batch import Batch, check
from pieria.errors import FormError, UsageError
from pieria.forms import Form, Label, Tokens
from pieria.layers.attention import Attention, rotary_table
from pieria.layers.norms import norm
from pieria.layers.precision import Precision, products
from pieria.losses.symbols import cross_entropy, symbol_log_prob
from pieria.models.contract import Losses, Model, Phase, Step
from pieria.noise import Noise
from pieria.sampling.decoding import Decoding, generate, trace_symbols
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

# the share of training windows that are read as if nothing stood before them, so that a model of a stream can begin one
BEGINNINGS = 0.1


class GPTSettings(AnySettings):
    """The network."""

    layers: int = Field(4, ge=1, description="how many times the places look at each other")
    heads: int = Field(4, ge=1, description="different looks at once in a layer")
    key_heads: int | None = Field(
        None, ge=1, description="keys and values a layer, shared by groups of heads; heads if unset"
    )
    width: int = Field(256, ge=2, description="features of a symbol's vector")
    hidden: float = Field(4.0, gt=0, description="features inside a layer's small network, as a multiple of width")
    positions: Literal["learned", "rotary"] = Field("rotary", description="how a place is known: a vector each, or a turn")
    norm: Literal["layer", "rms"] = Field("layer", description="normalisation: centred and scaled, or scaled only")
    activation: Literal["gelu", "swiglu", "relu2"] = Field("gelu", description="what bends in the small network")
    unit_queries: bool = Field(True, description="normalise queries and keys, which bounds how sharply a place can look")
    bias: bool = Field(False, description="biases in linear layers and normalisations")
    tied: bool = Field(True, description="the input's vectors are also the output's")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of features left out at random in training")
    precision: Precision = Field(
        "auto", description="of matrix products in training; auto is bfloat16 where the processor multiplies it natively"
    )

    optimiser: Literal["orthogonal", "adamw"] = Field(
        "orthogonal", description="how matrices inside layers are moved: all directions alike, or each number by itself"
    )

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.heads % (self.key_heads or self.heads):
            raise ValueError(f"heads {self.heads} is not a multiple of key_heads {self.key_heads}")
        if self.positions == "rotary" and (self.width // self.heads) % 2:
            raise ValueError(f"rotary positions need an even number of features a head, not {self.width // self.heads}")
        return self


class Thought(nn.Module):
    """The small network of a layer, the same at every place."""

    def __init__(self, settings: GPTSettings) -> None:
        super().__init__()
        self.activation = settings.activation
        inner = round(settings.width * settings.hidden)
        self.enter = nn.Linear(settings.width, inner * (2 if self.activation == "swiglu" else 1), bias=settings.bias)
        self.leave = nn.Linear(inner, settings.width, bias=settings.bias)

    def bend(self, inner: Tensor) -> Tensor:
        """The non-linearity between the two matrices."""
        if self.activation == "gelu":
            return functional.gelu(inner)
        if self.activation == "relu2":
            return functional.relu(inner).square()
        gate, value = inner.chunk(2, dim=-1)
        return functional.silu(gate) * value

    def forward(self, x: Tensor) -> Tensor:
        """``[..., width]`` to the same shape."""
        return self.leave(self.bend(self.enter(x)))


class Layer(nn.Module):
    """x + look(norm(x)), then x + think(norm(x))."""

    def __init__(self, settings: GPTSettings) -> None:
        super().__init__()
        self.before_look = norm(settings.norm, settings.width, settings.bias)
        self.look = Attention(
            settings.width,
            settings.heads,
            settings.key_heads,
            bias=settings.bias,
            dropout=settings.dropout,
            unit_queries=settings.unit_queries,
        )
        self.before_thought = norm(settings.norm, settings.width, settings.bias)
        self.think = Thought(settings)
        self.drop = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor, table: Tensor | None) -> Tensor:
        """``[batch, time, width]`` to the same shape."""
        x = x + self.drop(self.look(self.before_look(x), table))
        return x + self.drop(self.think(self.before_thought(x)))

    def bound(self) -> tuple[Attention, Thought, tuple[Any, ...]]:
        """The parts and the weights as a decoder reads them, looked up once and not at every symbol."""
        look, think, one, two = self.look, self.think, self.before_look, self.before_thought
        linear = (look.project.weight, look.project.bias, look.output.weight.t(), look.output.bias)
        inner = (think.enter.weight, think.enter.bias, think.leave.weight.t(), think.leave.bias)
        return look, think, (*linear, *inner, one.weight, getattr(one, "bias", None), two.weight, getattr(two, "bias", None))


@dataclass
class Cache:
    """What a decoder keeps: keys and values of every place read, in tensors as large as the window from the start.

    Attributes:
        keys: ``[layer, batch, key_heads, window, size]``.
        values: the same shape.
        label: the condition's vector ``[batch, 1, width]`` or None.
        layers: each layer's parts and weights, as `Layer.bound` gives them.
        symbols: what the window holds, as pieces of ``[batch, k]``.
        used: how many places of the window are filled.
    """

    keys: Tensor
    values: Tensor
    label: Tensor | None
    layers: list[tuple[Attention, Thought, tuple[Any, ...]]]
    symbols: list[Tensor] = field(default_factory=list)
    used: int = 0

    def __deepcopy__(self, memo: object) -> "Cache":
        """What was read is copied; the label and the weights, which reading does not change, are shared."""
        return replace(self, keys=self.keys.clone(), values=self.values.clone(), symbols=list(self.symbols))


def _onto(x: Tensor, h: Tensor, turned: Tensor, bias: Tensor | None) -> Tensor:
    """x + h W + b in one product; ``turned`` is the transposed weight of a linear layer."""
    return torch.addmm(x if bias is None else x + bias, h, turned)


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
        size = settings.width // settings.heads
        self.symbol = nn.Embedding(self.form.vocabulary + 1, settings.width)  # one more row for `begin`
        self.place = nn.Embedding(self.form.length, settings.width) if settings.positions == "learned" else None
        self.label = nn.Embedding(len(condition.classes), settings.width) if isinstance(condition, Label) else None
        self.drop = nn.Dropout(settings.dropout)
        self.layers = nn.ModuleList(Layer(settings) for _ in range(settings.layers))
        self.last = norm(settings.norm, settings.width, settings.bias)
        self.odds = None if settings.tied else nn.Linear(settings.width, self.form.vocabulary, bias=False)
        table = rotary_table(self.form.length, size) if settings.positions == "rotary" else None
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

    def _embed(self, tokens: Tensor, label: Tensor | None, first: int = 0) -> Tensor:
        """Vectors ``[batch, time, width]`` of symbols that stand at the window's places ``first …``."""
        x = self.symbol(tokens)
        if self.place is not None:
            x = x + self.place.weight[first : first + tokens.shape[1]]
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

    def _window(self, tokens: Tensor, label: Tensor | None) -> Tensor:
        """The last layer's normalised vectors ``[batch, time, width]`` for one window, time ≤ ``reach``."""
        x = self.drop(self._embed(tokens, label))
        table = None if self.table is None else self.table[:, : tokens.shape[1]]
        for layer in self.each_layer():
            x = layer(x, table)
        return self.last(x)

    def _head(self, x: Tensor) -> Tensor:
        weight = self.symbol.weight[: self.form.vocabulary] if self.odds is None else self.odds.weight
        return functional.linear(x, weight)

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
        return self._head(torch.cat(rows, dim=1) if len(rows) > 1 else rows[0])

    # ---- learning

    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """Matrices inside layers take orthogonal steps, tables of vectors AdamW's; single vectors do not decay.

        On tinyshakespeare after half a million symbols this gave 1.76 nats, AdamW 2.11: see `training.orthogonal`.
        """
        inside = [p for p in self.layers.parameters() if p.dim() >= 2]
        chosen = {id(p) for p in inside}
        tables = [p for p in self.parameters() if p.dim() >= 2 and id(p) not in chosen]
        vectors = [p for p in self.parameters() if p.dim() < 2]
        entry = {"params": inside, "orthogonal": 2.0} if self.settings.optimiser == "orthogonal" else {"params": inside}
        return {"all": [entry, {"params": tables}, {"params": vectors, "weight_decay": 0.0}]}

    def phases(self) -> list[Phase]:
        """One."""
        return [Phase("next symbol", "all", self.loss)]

    def loss(self, batch: Batch, noise: Noise) -> Losses:
        """Cross-entropy of the next symbol, -1/N Σ log p(x_t | x_1 … x_{t-1}), over the N symbols that are real."""
        before = self._before(batch)[:, -1:]
        if self.form.end is None:
            starts = noise.uniform("beginning").to(before.device) < BEGINNINGS
            before = before.masked_fill(starts[:, None], self.form.begin)
        with products(self.settings.precision, batch.x.device):
            logits = self.logits(torch.cat([before, batch.x[:, :-1]], dim=1), batch.condition)
        return cross_entropy(logits.float(), batch.x, batch.mask)

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

    def start(self, n: int, condition: Tensor | None = None) -> Cache:
        """An empty window for ``n`` items."""
        first = next(self.each_layer()).look
        shape = (len(self.layers), n, first.key_heads, self.reach, first.size)
        empty = self.symbol.weight.new_empty
        return Cache(empty(shape), empty(shape), self._label(condition), [layer.bound() for layer in self.each_layer()])

    @torch.no_grad()
    def step(self, tokens: Tensor, state: Cache) -> tuple[Tensor, Cache]:
        """Read ``tokens`` ``[batch, k]``; the log-odds ``[batch, vocabulary]`` of what comes next. ``state`` is used up."""
        x = None
        while tokens.shape[1]:
            if state.used == self.reach:
                kept = torch.cat(state.symbols, dim=1)[:, self.reach - self.reach // 2 :]
                tokens = torch.cat([kept, tokens], dim=1)
                state.symbols, state.used = [], 0
            room = self.reach - state.used
            x = self._read(tokens[:, :room], state)
            tokens = tokens[:, room:]
        if x is None:
            raise UsageError("no symbols to read", "at least one", "Give form.begin where nothing stands before")
        return self._head(x), state

    def _read(self, tokens: Tensor, state: Cache) -> Tensor:
        """Put ``tokens`` into the window; the last one's final vector ``[batch, width]``.

        The network once more, on the weights themselves: calling modules would take most of the time of one symbol.
        """
        n, k = tokens.shape
        first, stop = state.used, state.used + k
        table = None if self.table is None else self.table[:, first:stop]
        mask = None
        if first and k > 1:  # places already read are seen by all, the new ones by those after them
            mask = torch.ones(k, stop, dtype=torch.bool, device=tokens.device).tril(first)
        keys, values = state.keys[:, :, :, :stop].unbind(0), state.values[:, :, :, :stop].unbind(0)
        new_keys = state.keys[:, :, :, first:stop].transpose(2, 3).unbind(0)  # a layer: [batch, k, key_heads, size]
        new_values = state.values[:, :, :, first:stop].transpose(2, 3).unbind(0)
        x = self._embed(tokens, state.label, first).reshape(n * k, -1)
        for place, (look, think, weights) in enumerate(state.layers):
            project, project_bias, output, output_bias, enter, enter_bias, leave, leave_bias, *norms = weights
            projected = functional.linear(self._norm(x, norms[0], norms[1]), project, project_bias)
            queries, *pair = look.heads_of(projected.view(n, k, -1), table)
            new_keys[place].copy_(pair[0])
            new_values[place].copy_(pair[1])
            found = functional.scaled_dot_product_attention(
                queries.transpose(1, 2),
                keys[place],
                values[place],
                attn_mask=mask,
                is_causal=mask is None and k > 1,
                enable_gqa=look.key_heads != look.heads,
            )
            if k > 1:
                found = found.transpose(1, 2)
            x = _onto(x, found.reshape(n * k, -1), output, output_bias)
            inner = functional.linear(self._norm(x, norms[2], norms[3]), enter, enter_bias)
            x = _onto(x, think.bend(inner), leave, leave_bias)
        state.symbols.append(tokens)
        state.used = stop
        return self.last(x if k == 1 else x.view(n, k, -1)[:, -1])

    def _norm(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.settings.norm == "layer":
            return functional.layer_norm(x, weight.shape, weight, bias, 1e-5)
        return functional.rms_norm(x, weight.shape, weight, 1e-5)

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
