"""Recurrent networks: a state of fixed size that is made anew at each symbol out of itself and the symbol.

All that was read is in the state, as far as there is room for it; so drawing a symbol costs the same at any length. The
product of the odds of each next symbol is the item's exact probability.

Five cells. *vanilla*: h ← tanh(Wx + Uh), which forgets in some ten symbols. *lstm* and *gru* have gates that say what is
kept, and are trained step after step. *mingru* and *minlstm* read only the symbols at their gates, so that training
makes all steps of h_t = (1 - z_t) h_{t-1} + z_t v_t at once, by a scan (`layers.scan`); what such gates cannot see is made
up for by a short convolution before and a small network after each recurrence.

A stream is learned in order: each row of a batch is a column of the text, read window after window, and the state goes on
from one window to the next without a gradient (truncated backpropagation through time). It lies in buffers, so that a
resumed run goes on from it too. There is no latent space: the state sums up the past, and nothing is drawn from it.

Choose it for long streams, for drawing cheaply at any length, and for little text with strong dropout, where LSTMs are hard
to beat. Papers: Hochreiter & Schmidhuber 1997, *Long short-term memory*; Cho et al. 2014, arXiv 1406.1078 (GRU); Feng et al.
2024, *Were RNNs all we needed?*, arXiv 2410.01201; Merity et al. 2018, arXiv 1708.02182 (dropout of weights, of embeddings,
and the same at all steps; the two penalties); Press & Wolf 2017, arXiv 1608.05859 (tied weights).
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from pieria.data.batch import Batch, check
from pieria.errors import FormError, UsageError
from pieria.forms import Form, Label, Tokens
from pieria.layers.dropout import dropout
from pieria.layers.norms import norm
from pieria.layers.parameters import Optimiser, groups
from pieria.layers.precision import Precision, products
from pieria.layers.scan import gated_scan
from pieria.losses.symbols import cross_entropy_of_features, symbol_log_prob
from pieria.models.contract import Losses, Model, Phase, Step
from pieria.noise import Noise, StepNoise
from pieria.sampling.decoding import Decoding, generate, trace_symbols
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

# shares of the training windows of a stream that are read from an empty state: as if nothing stood before them, and from
# somewhere within the text, so that a model can begin a stream, and be dropped into one
BEGINNINGS, DROPPED_IN = 0.05, 0.05
# numbers in the largest tensor while scoring: what bounds its memory
AT_ONCE = 16_000_000


class RNNSettings(AnySettings):
    """The network."""

    cell: Literal["vanilla", "lstm", "gru", "mingru", "minlstm"] = Field("lstm", description="how the state is made anew")
    layers: int = Field(2, ge=1, description="recurrences on top of each other")
    width: int = Field(256, ge=1, description="features of a state")
    embedding: int | None = Field(None, ge=1, description="features of a symbol's vector; as width if unset")
    hidden: float = Field(4.0, gt=0, description="mingru, minlstm: features of the small network, as a multiple of width")
    convolution: int = Field(4, ge=1, description="mingru, minlstm: symbols that a gate sees; 1 is its own alone")
    tied: bool = Field(True, description="the input's vectors are also the output's")
    stateful: bool = Field(True, description="streams: learn in order, the state going on from window to window")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of a layer's features left out, the same at all steps")
    input_dropout: float | None = Field(None, ge=0, lt=1, description="of the symbols' vectors; as dropout if unset")
    output_dropout: float | None = Field(None, ge=0, lt=1, description="of the last layer; as dropout if unset")
    embedding_dropout: float = Field(0.0, ge=0, lt=1, description="share of the vocabulary left out of a whole batch")
    weight_dropout: float = Field(
        0.0, ge=0, lt=1, description="vanilla, lstm, gru: share of the weights from state to state left out"
    )
    activation_penalty: float = Field(0.0, ge=0, description="weight of the mean square of the last layer's features")
    change_penalty: float = Field(0.0, ge=0, description="weight of the mean square of their change from step to step")
    reach: int = Field(
        512, ge=1, description="streams: symbols read before what is scored or continued, where all would be too many"
    )
    precision: Precision = Field(
        "auto", description="of matrix products in training; auto is bfloat16 where the processor multiplies it natively"
    )
    optimiser: Optimiser = Field(
        "orthogonal", description="how matrices inside layers are moved: all directions alike, or each number by itself"
    )


def locked(x: Tensor, share: float, training: bool) -> Tensor:
    """Leave out the same features at every step of an item: ``[batch, time, width]``."""
    if not training or share == 0:
        return x
    return x * functional.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), share)


class Gated(nn.Module):
    """A vanilla, GRU or LSTM recurrence; one call of torch's fused kernel for all steps."""

    def __init__(self, settings: RNNSettings, inputs: int, width: int) -> None:
        super().__init__()
        self.cell, self.weight_dropout, self.width = settings.cell, settings.weight_dropout, width
        rows = {"vanilla": 1, "gru": 3, "lstm": 4}[settings.cell] * width
        self.enter, self.recur = nn.Parameter(torch.empty(rows, inputs)), nn.Parameter(torch.empty(rows, width))
        self.enter_bias, self.recur_bias = nn.Parameter(torch.zeros(rows)), nn.Parameter(torch.zeros(rows))
        self.outputs, self.size = width, width * (2 if settings.cell == "lstm" else 1)
        for matrix in (self.enter, self.recur):
            nn.init.uniform_(matrix, -(width**-0.5), width**-0.5)
        if settings.cell == "lstm":  # an open forget gate lets gradients through from the start
            self.enter_bias.data[width : 2 * width] = 1.0

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """``x`` ``[batch, time, inputs]``, ``state`` ``[batch, size]``; the outputs of every step, and the new state."""
        recur = dropout(self.recur, self.weight_dropout if self.training else 0.0)
        weights = (self.enter, recur, self.enter_bias, self.recur_bias)
        if x.shape[1] == 1 and not torch.is_grad_enabled():  # drawing: the fused kernel would sort its weights each time
            return self._one(x[:, 0], state, weights)
        how = (True, 1, 0.0, self.training, False, True)
        if self.cell == "lstm":
            h, c = (part.contiguous()[None] for part in state.chunk(2, dim=1))
            # a processor's LSTM kernel is as fast in float32 (150 GFLOP/s a core), and the sums of c are better there
            with torch.autocast("cpu", enabled=False) if x.device.type == "cpu" else nullcontext():
                out, h, c = torch.lstm(x.to(h.dtype), (h, c), weights, *how)
            return out, torch.cat([h[0], c[0]], dim=1)
        out, h = (torch.gru if self.cell == "gru" else torch.rnn_tanh)(x, state[None].contiguous(), weights, *how)
        return out, h[0]

    def _one(self, x: Tensor, state: Tensor, weights: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        if self.cell == "lstm":
            h, c = torch.lstm_cell(x, tuple(state.chunk(2, dim=1)), *weights)
            return h[:, None], torch.cat([h, c], dim=1)
        h = (torch.gru_cell if self.cell == "gru" else torch.rnn_tanh_cell)(x, state, *weights)
        return h[:, None], h


class Minimal(nn.Module):
    """x + recurrence(convolution(norm(x))), then x + think(norm(x)); the gates read the symbols and not the state."""

    def __init__(self, settings: RNNSettings) -> None:
        super().__init__()
        width = settings.width
        self.cell, self.dropout, self.width, self.taps = settings.cell, settings.dropout, width, settings.convolution
        self.before_recurrence, self.before_thought = norm("layer", width), norm("layer", width)
        self.convolution = nn.Parameter(torch.zeros(self.taps, width))
        self.convolution.data[-1] = 1.0  # at first each symbol as it is
        self.gates = nn.Linear(width, width * (2 if self.cell == "mingru" else 3))
        inner = round(width * settings.hidden)
        self.enter, self.leave = nn.Linear(width, inner), nn.Linear(inner, width)
        self.outputs, self.size = width, width * self.taps  # the state, and the last inputs of the convolution

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """``x`` ``[batch, time, width]``, ``state`` ``[batch, size]``; the outputs of every step, and the new state."""
        time = x.shape[1]
        seen = self.before_recurrence(x)
        if self.taps > 1:
            seen = torch.cat([state[:, self.width :].unflatten(1, (self.taps - 1, self.width)), seen], dim=1)
        mixed = sum((seen[:, tap : tap + time] * self.convolution[tap] for tap in range(1, self.taps)),
                    seen[:, :time] * self.convolution[0])  # fmt: skip
        h = self.recurrence(self.gates(mixed), state[:, : self.width].contiguous())
        x = x + locked(h, self.dropout, self.training)
        thought = self.leave(functional.gelu(self.enter(self.before_thought(x))))
        x = x + locked(thought, self.dropout, self.training)
        return x, torch.cat([h[:, -1], seen[:, time:].flatten(1)], dim=1)

    def recurrence(self, gates: Tensor, start: Tensor) -> Tensor:
        """h_t = (1 - z_t) h_{t-1} + z_t v_t for all t, ``[batch, time, width]``; never in bfloat16, which would forget."""
        *odds, value = (part.to(start.dtype) for part in gates.chunk(2 if self.cell == "mingru" else 3, dim=-1))
        drive = odds[0]
        if self.cell == "minlstm":  # i / (i + f) of the input and forget gates, which is σ(log i - log f)
            drive = functional.logsigmoid(odds[1]) - functional.logsigmoid(odds[0])
        return gated_scan(drive, value, start)


@dataclass
class State:
    """What a decoder keeps: the states of all layers ``[batch, size]``, and the label's vector ``[batch, 1, embedding]``."""

    layers: Tensor
    label: Tensor | None


class RNN(Model):
    """p(x) = Π p(x_t | h_{t-1}), h_t = f(h_{t-1}, x_t)."""

    Settings: ClassVar = RNNSettings
    Sampling: ClassVar = Decoding
    consumes: ClassVar = frozenset({Tokens})
    conditions: ClassVar = frozenset({Label})
    likelihood: ClassVar = "exact"
    paper: ClassVar = "Hochreiter and Schmidhuber 1997, Long short-term memory"
    training_defaults: ClassVar = {"batch": 32, "rate": 3e-3, "weight_decay": 0.01, "warmup": 100, "final": 0.0}
    presets: ClassVar = {
        "tiny": {"layers": 1, "width": 32, "precision": "float32", "batch": 16, "rate": 1e-2, "warmup": 20},
        "small": {},
        "shakespeare-lstm": {"width": 512, "dropout": 0.4, "input_dropout": 0.1, "weight_dropout": 0.2, "rate": 2e-3},
        "shakespeare-mingru": {"cell": "mingru", "layers": 4, "width": 384, "dropout": 0.3, "input_dropout": 0.1},
        "mingru": {"cell": "mingru", "layers": 4, "dropout": 0.1},
        "minlstm": {"cell": "minlstm", "layers": 4, "dropout": 0.1},
        "ptb": {
            "width": 500, "dropout": 0.4, "embedding_dropout": 0.1, "weight_dropout": 0.2, "optimiser": "adamw",
            "batch": 20, "rate": 3e-3,
        },
        "awd-lstm": {
            "layers": 3, "width": 1150, "embedding": 400, "dropout": 0.25, "input_dropout": 0.4, "output_dropout": 0.4,
            "embedding_dropout": 0.1, "weight_dropout": 0.5, "activation_penalty": 2.0, "change_penalty": 1.0,
            "optimiser": "adamw", "batch": 80, "rate": 3e-3,
        },
    }  # fmt: skip

    settings: RNNSettings
    form: Tokens
    carried: Tensor
    expected: Tensor

    def __init__(self, settings: RNNSettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        features = settings.embedding or settings.width
        minimal = settings.cell.startswith("min")
        if minimal and features != settings.width:
            raise UsageError(
                f"cell {settings.cell} with embedding {features} and width {settings.width}",
                "the same number: its layers add to the symbols' vectors",
                "Leave embedding out",
            )
        self.symbol = nn.Embedding(self.form.vocabulary + 1, features)  # one more row for `begin`
        self.label = nn.Embedding(len(condition.classes), features) if isinstance(condition, Label) else None
        # tied weights want as many features at the end as at the beginning
        widths = [settings.width] * (settings.layers - 1) + [features if settings.tied else settings.width]
        self.layers = nn.ModuleList(
            Minimal(settings) if minimal else Gated(settings, inputs, width)
            for inputs, width in pairwise([features, *widths])
        )
        self.last = norm("layer", settings.width) if minimal else nn.Identity()
        self.odds = None if settings.tied else nn.Linear(settings.width, self.form.vocabulary, bias=False)
        self.odds_bias = nn.Parameter(torch.zeros(self.form.vocabulary))
        self._initialise()
        self.sizes = [layer.size for layer in self.each_layer()]
        # streams are learned in order: the training loop asks for it
        self.reads_in_order = settings.stateful and self.form.end is None  # type: ignore[misc]
        self.register_buffer("carried", torch.empty(0, sum(self.sizes)))  # [row of a training batch, size]
        self.register_buffer("expected", torch.empty(0, dtype=torch.int64))  # the place in the stream where each goes on

    def _initialise(self) -> None:
        for table in (self.symbol, self.label, self.odds):
            if table is not None:
                nn.init.normal_(table.weight, std=0.05)
        for layer in self.each_layer():
            if isinstance(layer, Minimal):
                for linear in (layer.gates, layer.enter, layer.leave):
                    nn.init.normal_(linear.weight, std=0.02 if linear is not layer.gates else layer.width**-0.5)
                    nn.init.zeros_(linear.bias)

    # ---- the network

    @property
    def reach(self) -> int:
        """So many symbols are read to make a state where none is at hand; one that goes on has read everything."""
        return self.form.length if self.form.end is not None else max(self.settings.reach, self.form.length)

    def each_layer(self) -> Iterator[Gated | Minimal]:
        """The layers, in order."""
        return (cast(Gated | Minimal, layer) for layer in self.layers)

    def _label(self, condition: Tensor | None) -> Tensor | None:
        if self.label is None:
            return None
        if condition is None:
            raise UsageError("no label was given", "one for each item: this model was fitted with labels", "Use --label")
        assert self.condition is not None
        check(self.condition, condition, "the condition")
        label: Tensor = self.label(condition)
        return label[:, None]

    def _empty(self, n: int) -> Tensor:
        return self.symbol.weight.new_zeros(n, sum(self.sizes))

    def _embed(self, tokens: Tensor) -> Tensor:
        """The symbols' vectors ``[batch, time, features]``; in training without those of a share of the vocabulary."""
        x: Tensor = self.symbol(tokens)
        share = self.settings.embedding_dropout
        if self.training and share:
            kept = functional.dropout(x.new_ones(self.form.vocabulary + 1), share)
            x = x * kept[tokens][:, :, None]
        return x

    def _read(self, tokens: Tensor, state: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        """The last layer's features ``[batch, time, features]`` after each symbol, and the state after the last one."""
        s = self.settings
        x = self._embed(tokens)
        x = x if label is None else x + label
        x = locked(x, s.dropout if s.input_dropout is None else s.input_dropout, self.training)
        after = []
        for place, (layer, before) in enumerate(zip(self.each_layer(), state.split(self.sizes, dim=1), strict=True)):
            if place and isinstance(layer, Gated):
                x = locked(x, s.dropout, self.training)
            x, left = layer(x, before)
            after.append(left)
        return self.last(x), torch.cat(after, dim=1).to(state.dtype)

    def _output(self) -> tuple[Tensor, Tensor]:
        weight = self.symbol.weight[: self.form.vocabulary] if self.odds is None else self.odds.weight
        return weight, self.odds_bias

    def _head(self, x: Tensor) -> Tensor:
        return functional.linear(x, *self._output())

    def logits(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log-odds ``[batch, time, vocabulary]``; row t is of the symbol after ``tokens[:, : t + 1]``."""
        x, _ = self._read(tokens, self._empty(len(tokens)), self._label(condition))
        return self._head(x)

    # ---- learning

    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """Matrices inside layers take orthogonal steps, tables of vectors AdamW's; single vectors do not decay.

        On tinyshakespeare after 0.7 million symbols this gave an LSTM 1.64 nats on validation, AdamW 1.95; a minGRU 1.59,
        and AdamW 1.64 to 1.67: see `training.orthogonal`.
        """
        inside = [p for name, p in self.layers.named_parameters() if "convolution" not in name]
        return {"all": groups(self, inside, self.settings.optimiser)}

    def phases(self) -> list[Phase]:
        """One."""
        return [Phase("next symbol", "all", self.loss)]

    def loss(self, batch: Batch, noise: Noise) -> Losses:
        """Cross-entropy of the next symbol over the N symbols that are real, and what the settings penalise.

        -1/N Σ log p(x_t | h_{t-1}) + α mean(d_t²) + β mean((h_t - h_{t-1})²); d is h of the last layer after dropout.
        """
        s = self.settings
        before, state = self._before(batch)[:, -1:], self._left(batch, noise)
        if self.form.end is None:
            toss = noise.uniform("beginning").to(before.device)
            state = state.masked_fill((toss < BEGINNINGS + DROPPED_IN)[:, None], 0.0)
            before = before.masked_fill((toss < BEGINNINGS)[:, None], self.form.begin)
        with products(s.precision, batch.x.device):
            read = torch.cat([before, batch.x[:, :-1]], dim=1)
            features, state = self._read(read, state, self._label(batch.condition))
            dropped = locked(features, s.dropout if s.output_dropout is None else s.output_dropout, self.training)
            losses = cross_entropy_of_features(dropped, *self._output(), batch.x, batch.mask)
        self._leave(batch, noise, state)
        loss = losses.loss
        if s.activation_penalty:
            loss = loss + s.activation_penalty * dropped.float().square().mean()
        if s.change_penalty and features.shape[1] > 1:
            loss = loss + s.change_penalty * features.float().diff(dim=1).square().mean()
        return Losses(loss, losses.parts, losses.count, losses.unit)

    def _rows(self, batch: Batch, noise: Noise) -> slice:
        """Which rows of the whole batch these are: it may come in parts."""
        first, total = (noise.first, noise.total) if isinstance(noise, StepNoise) else (0, len(batch))
        if len(self.expected) != total:
            self.carried = self._empty(total)
            self.expected = torch.full((total,), -1, device=self.carried.device)
        return slice(first, first + len(batch))

    def _left(self, batch: Batch, noise: Noise) -> Tensor:
        """The state in which each row's last window ended, and an empty one where this window is not the next."""
        if not (self.reads_in_order and self.training) or batch.index is None:
            return self._empty(len(batch))
        rows = self._rows(batch, noise)
        goes_on = self.expected[rows] == batch.index
        return torch.where(goes_on[:, None], self.carried[rows], 0.0)

    def _leave(self, batch: Batch, noise: Noise, state: Tensor) -> None:
        if self.reads_in_order and self.training and batch.index is not None:
            rows = self._rows(batch, noise)
            self.carried[rows] = state.detach()
            self.expected[rows] = batch.index + batch.x.shape[1]

    # ---- scoring

    def _before(self, batch: Batch) -> Tensor:
        if batch.context is not None and batch.context.shape[1]:
            return batch.context
        return batch.x.new_full((len(batch), 1), self.form.begin)

    def symbol_log_prob(self, batch: Batch) -> Tensor:
        """Nats of each symbol ``[batch, time]``, zero where masked; reads ``batch.context``, or ``begin`` without one.

        Any length: it is read in pieces, the state going on, so that memory is bounded.
        """
        check(self.form, batch.x)
        n, time = batch.x.shape
        if self.form.end is not None and time > self.form.length:
            raise FormError(
                f"an item of {time} symbols",
                f"at most {self.form.length}, as the model was fitted with",
                "Shorten the item or fit with a larger length",
            )
        before = self._before(batch)
        read, context = torch.cat([before, batch.x[:, :-1]], dim=1), before.shape[1] - 1
        widest = max(self.form.vocabulary, 4 * self.settings.width)
        size = max(1, AT_ONCE // (n * widest))
        state, label, found = self._empty(n), self._label(batch.condition), []
        for start in range(0, read.shape[1], size):
            features, state = self._read(read[:, start : start + size], state, label)
            features = features[:, max(0, context - start) :]
            if features.shape[1]:
                first = max(0, start - context)
                part = slice(first, first + features.shape[1])
                mask = None if batch.mask is None else batch.mask[:, part]
                found.append(symbol_log_prob(self._head(features), batch.x[:, part], mask))
        return torch.cat(found, dim=1)

    def log_prob(self, batch: Batch) -> Tensor:
        """Nats of each item, ``[batch]``: the sum over its symbols."""
        return self.symbol_log_prob(batch).sum(dim=1, dtype=torch.float64)

    # ---- drawing

    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """Draw ``n`` items, symbol by symbol."""
        assert isinstance(options, Decoding)
        return generate(self, n, options, noise, condition=condition)

    def start(self, n: int, condition: Tensor | None = None) -> State:
        """Empty states for ``n`` items."""
        return State(self._empty(n), self._label(condition))

    @torch.no_grad()
    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read ``tokens`` ``[batch, k]``; the log-odds ``[batch, vocabulary]`` of what comes next, and the new state."""
        if not tokens.shape[1]:
            raise UsageError("no symbols to read", "at least one", "Give form.begin where nothing stands before")
        x, layers = self._read(tokens, state.layers, state.label)
        return self._head(x[:, -1]), State(layers, state.label)

    # ---- explaining

    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """Each symbol with its odds, and the state that they come from: ``hidden`` ``[layer, width]``."""
        assert isinstance(options, Decoding)

        def hidden(read: Tensor) -> dict[str, Tensor]:
            _, state = self._read(read, self._empty(len(read)), self._label(condition))
            pieces = state[0].split(self.sizes)
            states = [piece[: layer.width] for layer, piece in zip(self.each_layer(), pieces, strict=True)]
            return {"hidden": nn.utils.rnn.pad_sequence(states, batch_first=True)}

        yield from trace_symbols(self, options, noise, condition=condition, look=hidden)


MODEL = RNN
