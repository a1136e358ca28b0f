"""Transformer: an encoder reads one sequence, a decoder writes another one while looking at it.

Translation, summaries, questions and answers: whatever comes in pairs. The encoder turns every symbol of the source into a
vector that knows the whole source. The decoder writes symbol by symbol; each place looks at what is written so far, then at
the source (cross-attention), then thinks. The product of its odds is the exact probability of the completion *given* the
source, and drawing one symbol after the other draws from exactly that distribution.

It has no latent space, and it says nothing of how probable the source itself is. It needs pairs, some tens of thousands of
them: with fewer it learns the completions by heart. Where there is no source, `gpt` is the family to take.

Layers are pre-norm (normalise, then look or think, then add). Source and completion share one table of vectors where they
have one vocabulary, which is the output's too (Press & Wolf 2017, arXiv 1608.05859).

Papers: Vaswani et al. 2017, *Attention is all you need*, arXiv 1706.03762; pre-norm, Xiong et al. 2020, arXiv 2002.04745;
label smoothing, Szegedy et al. 2016, arXiv 1512.00567; rotary positions, Su et al. 2021, arXiv 2104.09864.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self, cast

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional

from pieria.data.batch import Batch, check, mask_after_end
from pieria.errors import FormError, UsageError
from pieria.forms import Form, Tokens
from pieria.layers.attention import Attention, check_heads, rotary_table
from pieria.layers.cross_attention import CrossAttention, among_real
from pieria.layers.dropout import Dropout
from pieria.layers.feed_forward import FeedForward
from pieria.layers.norms import NormName, norm
from pieria.layers.parameters import Optimiser, groups
from pieria.layers.precision import Precision, products
from pieria.losses.symbols import cross_entropy, symbol_log_prob
from pieria.models.contract import Losses, Model, Phase, Step
from pieria.noise import Noise
from pieria.sampling.decoding import Decoding, generate, trace_symbols
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

# in training, sequences are cut to a multiple of so many symbols, and scored symbols filled up to a multiple of so many
WIDTHS, TOGETHER = 4, 256


class TransformerSettings(AnySettings):
    """The network."""

    layers: int = Field(3, ge=1, description="layers of the encoder")
    decoder_layers: int | None = Field(None, ge=1, description="layers of the decoder; as many as the encoder's if unset")
    heads: int = Field(4, ge=1, description="different looks at once in a layer")
    width: int = Field(256, ge=2, description="features of a symbol's vector")
    hidden: float = Field(4.0, gt=0, description="features inside a layer's small network, as a multiple of width")
    positions: Literal["learned", "rotary", "sinusoidal"] = Field(
        "rotary", description="how a place is known: a vector each, a turn of queries and keys, or sines of many lengths"
    )
    norm: NormName = Field("layer", description="normalisation: centred and scaled, or scaled only")
    activation: Literal["relu", "gelu", "swiglu"] = Field("gelu", description="what bends in the small network")
    unit_queries: bool = Field(False, description="normalise queries and keys, which bounds how sharply a place can look")
    bias: bool = Field(False, description="biases in linear layers and normalisations")
    tied: bool = Field(
        True, description="the completion's vectors are also the output's and, of one vocabulary, the source's"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="share of features left out at random in training")
    smoothing: float = Field(
        0.1, ge=0, lt=1, description="label smoothing: the share of each symbol that is learned as any symbol"
    )
    precision: Precision = Field(
        "auto", description="of matrix products in training; auto is bfloat16 where the processor multiplies it natively"
    )
    optimiser: Optimiser = Field(
        "orthogonal", description="how matrices inside layers are moved: all directions alike, or each number by itself"
    )

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        check_heads(self.width, self.heads, rotary=self.positions == "rotary")
        if self.positions == "sinusoidal" and self.width % 2:
            raise ValueError(f"sinusoidal positions need an even width, not {self.width}")
        return self

    def look(self, *, causal: bool) -> Attention:
        """Attention within one sequence."""
        return Attention(self.width, self.heads, bias=self.bias, unit_queries=self.unit_queries, causal=causal)

    def think(self) -> FeedForward:
        """The small network."""
        return FeedForward(
            self.width, round(self.width * self.hidden), self.activation, bias=self.bias, dropout=self.dropout
        )

    def norms(self, count: int) -> nn.ModuleList:
        """So many normalisations."""
        return nn.ModuleList(norm(self.norm, self.width, self.bias) for _ in range(count))


class EncoderLayer(nn.Module):
    """x + look(norm(x)), then x + think(norm(x))."""

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__()
        self.norms, self.look, self.think = settings.norms(2), settings.look(causal=False), settings.think()
        self.drop = Dropout(settings.dropout)

    def forward(self, x: Tensor, real: Tensor, table: Tensor | None) -> Tensor:
        """``[batch, source, width]`` to the same shape; ``real`` ``[batch, source]``."""
        x = x + self.drop(among_real(self.look, self.norms[0](x), real, table))
        return x + self.drop(self.think(self.norms[1](x)))


class DecoderLayer(nn.Module):
    """x + look(norm(x)), then x + ask(norm(x), source), then x + think(norm(x))."""

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__()
        self.norms, self.look, self.think = settings.norms(3), settings.look(causal=True), settings.think()
        self.ask = CrossAttention(settings.width, settings.heads, bias=settings.bias, unit_queries=settings.unit_queries)
        self.drop = Dropout(settings.dropout)

    def forward(self, x: Tensor, pairs: tuple[Tensor, Tensor], real: Tensor, table: Tensor | None) -> Tensor:
        """``[batch, time, width]`` to the same shape; ``pairs`` are the source's keys and values."""
        return self.rest(x + self.drop(self.look(self.norms[0](x), table)), pairs, real)

    def rest(self, x: Tensor, pairs: tuple[Tensor, Tensor], real: Tensor) -> Tensor:
        """What follows the look at what is written."""
        x = x + self.drop(self.ask(self.norms[1](x), pairs, real))
        return x + self.drop(self.think(self.norms[2](x)))


@dataclass
class Source:
    """What the encoder made of a source: keys and values for each layer of the decoder, and which places are real."""

    pairs: list[tuple[Tensor, Tensor]]
    real: Tensor


@dataclass
class Cache:
    """What a decoder keeps: its source, and keys and values of every place written, with room for a whole item.

    Attributes:
        source: what is looked at.
        keys, values: ``[layer, batch, head, length, size]``.
        used: how many places are filled.
    """

    source: Source
    keys: Tensor
    values: Tensor
    used: int = 0

    def __deepcopy__(self, memo: object) -> "Cache":
        """What was written is copied; the source, which reading does not change, is shared."""
        return replace(self, keys=self.keys.clone(), values=self.values.clone())


class Transformer(Model):
    """p(x | s) = Π p(x_t | x_1 … x_{t-1}, s), each factor a softmax over the vocabulary."""

    Settings: ClassVar = TransformerSettings
    Sampling: ClassVar = Decoding
    consumes: ClassVar = frozenset({Tokens})
    conditions: ClassVar = frozenset({Tokens})
    requires_condition: ClassVar = True
    likelihood: ClassVar = "exact"
    paper: ClassVar = "Vaswani et al. 2017, Attention is all you need, arXiv 1706.03762"
    training_defaults: ClassVar = {
        "batch": 64,
        "rate": 2e-3,
        "weight_decay": 0.05,
        "beta2": 0.98,
        "warmup": 200,
        "final": 0.0,
    }
    presets: ClassVar = {
        "tiny": {
            "layers": 2, "heads": 2, "width": 32, "dropout": 0.0, "smoothing": 0.0, "precision": "float32",
            "batch": 16, "rate": 5e-3, "warmup": 20,
        },
        "small": {"layers": 3, "heads": 4, "width": 256},
        "multi30k": {"layers": 3, "heads": 4, "width": 256, "dropout": 0.3},
        "base": {
            "layers": 6, "heads": 8, "width": 512, "positions": "sinusoidal", "activation": "relu", "bias": True,
            "optimiser": "adamw", "rate": 7e-4, "warmup": 4000,
        },
    }  # fmt: skip

    settings: TransformerSettings
    form: Tokens
    condition: Tokens
    table: Tensor | None
    waves: Tensor | None

    def __init__(self, settings: TransformerSettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        if self.form.end is None:
            raise FormError("a stream of symbols", "items that end, each with its prompt", "Read the data with items=lines")
        width, source = settings.width, self.condition
        longest = max(self.form.length, source.length)
        self.symbol = nn.Embedding(self.form.vocabulary + 1, width)  # one more row for `begin`
        one = settings.tied and (source.vocabulary, source.end) == (self.form.vocabulary, self.form.end)
        self.source_symbol = None if one else nn.Embedding(source.vocabulary, width)
        learned = settings.positions == "learned"
        self.place = nn.Embedding(self.form.length, width) if learned else None
        self.source_place = nn.Embedding(source.length, width) if learned else None
        self.drop = Dropout(settings.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(settings) for _ in range(settings.layers))
        self.decoder = nn.ModuleList(DecoderLayer(settings) for _ in range(settings.decoder_layers or settings.layers))
        self.read, self.last = settings.norms(2)
        self.odds = None if settings.tied else nn.Linear(width, self.form.vocabulary, bias=False)
        # functions of the settings, so not saved
        rotary = settings.positions == "rotary"
        self.register_buffer("table", rotary_table(longest, width // settings.heads) if rotary else None, persistent=False)
        waves = sinusoids(longest, width) if settings.positions == "sinusoidal" else None
        self.register_buffer("waves", waves, persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        """Variances that keep what flows through a layer as large as it came; vectors of length 1 (Vaswani et al. 2017)."""
        for name, parameter in self.named_parameters():
            if name.startswith(("symbol", "source_symbol", "place", "source_place")):
                nn.init.normal_(parameter, std=self.settings.width**-0.5)
            elif parameter.dim() == 2:
                depth = 2 * len(self.decoder) if name.endswith(("output.weight", "leave.weight")) else 1
                nn.init.normal_(parameter, std=(parameter.shape[1] * depth) ** -0.5)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    # ---- the network

    @property
    def reach(self) -> int:
        """A whole item: everything that is written is looked at."""
        return self.form.length

    def _embed(self, tokens: Tensor, symbol: nn.Embedding, place: nn.Embedding | None, first: int = 0) -> Tensor:
        x = symbol(tokens) * math.sqrt(self.settings.width)
        span = slice(first, first + tokens.shape[1])
        if place is not None:
            x = x + place.weight[span] * math.sqrt(self.settings.width)
        if self.waves is not None:
            x = x + self.waves[span]
        return self.drop(x)

    def _turns(self, first: int, stop: int) -> Tensor | None:
        return None if self.table is None else self.table[:, first:stop]

    def encode_source(self, condition: Tensor | None) -> Source:
        """Read the sources (long ``[batch, source]``) once: what the decoder looks at, without padding that all share."""
        if condition is None:
            raise UsageError(
                "no prompt was given", "one for each item: this model writes what answers to it", "Use --prompt"
            )
        if not self.training:  # on a GPU the check waits for the device, which every step of training would notice
            check(self.condition, condition, "the prompts")
        if condition.shape[1] > self.condition.length:
            raise FormError(
                f"a prompt of {condition.shape[1]} symbols",
                f"at most {self.condition.length}, as the model was fitted with",
                "Shorten it, or fit with a larger prompt_length",
            )
        real = mask_after_end(condition, self.condition.end)
        longest = self._rounded(int(real.sum(dim=1).max()), condition.shape[1])
        tokens, real = condition[:, :longest], real[:, :longest]
        x = self._embed(tokens, self.source_symbol or self.symbol, self.source_place)
        table = self._turns(0, longest)
        for layer in self.encoder:
            x = layer(x, real, table)
        x = self.read(x)
        return Source([layer.ask.pairs(x) for layer in self._decoders()], real)

    def _decoders(self) -> Iterator[DecoderLayer]:
        return (cast(DecoderLayer, layer) for layer in self.decoder)

    def _decode(self, tokens: Tensor, source: Source) -> Tensor:
        """The last layer's normalised vectors ``[batch, time, width]`` of what was read, ``begin`` first."""
        if tokens.shape[1] > self.form.length:
            raise self._too_long(tokens.shape[1])
        x = self._embed(tokens, self.symbol, self.place)
        table = self._turns(0, tokens.shape[1])
        for layer, pairs in zip(self._decoders(), source.pairs, strict=True):
            x = layer(x, pairs, source.real, table)
        out: Tensor = self.last(x)
        return out

    def _too_long(self, symbols: int) -> FormError:
        return FormError(
            f"an item of {symbols} symbols", f"at most {self.form.length}", "Shorten it, or fit with a larger length"
        )

    def _head(self, x: Tensor) -> Tensor:
        weight = self.symbol.weight[: self.form.vocabulary] if self.odds is None else self.odds.weight
        return functional.linear(x, weight)

    def logits(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log-odds ``[batch, time, vocabulary]``; row t is of the symbol after ``tokens[:, : t + 1]``, given the prompt."""
        return self._head(self._decode(tokens, self.encode_source(condition)))

    # ---- learning

    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """Matrices inside layers take orthogonal steps, tables of vectors AdamW's; single vectors do not decay."""
        return {"all": groups(self, [*self.encoder.parameters(), *self.decoder.parameters()], self.settings.optimiser)}

    def phases(self) -> list[Phase]:
        """One."""
        return [Phase("completion", "all", self.loss)]

    def loss(self, batch: Batch, noise: Noise) -> Losses:
        """Cross-entropy of the completion's next symbol given the prompt and what stands before it, with label smoothing."""
        del noise
        mask = mask_after_end(batch.x, self.form.end) if batch.mask is None else batch.mask
        longest = self._rounded(int(mask.sum(dim=1).max()), batch.x.shape[1])  # the rest is padding in all of them
        x, mask = batch.x[:, :longest], mask[:, :longest]
        # the largest product is over what counts alone, and some more to fill up
        places = mask.flatten().nonzero()[:, 0]
        kept = torch.arange(-(-len(places) // TOGETHER) * TOGETHER, device=x.device) < len(places)
        places = functional.pad(places, (0, len(kept) - len(places)))
        with products(self.settings.precision, x.device):
            written = self._decode(self._before(x), self.encode_source(batch.condition))
            logits = self._head(written.flatten(0, 1)[places])
        wanted = x.flatten()[places]
        return cross_entropy(logits.float()[None], wanted[None], kept[None], smoothing=self.settings.smoothing)

    def _rounded(self, length: int, most: int) -> int:
        """A width that holds ``length``: in training one of few, since each new shape of a product costs a new kernel."""
        return min(most, -(-length // WIDTHS) * WIDTHS) if self.training else length

    def _before(self, x: Tensor) -> Tensor:
        return torch.cat([torch.full_like(x[:, :1], self.form.begin), x[:, :-1]], dim=1)

    # ---- scoring

    def symbol_log_prob(self, batch: Batch) -> Tensor:
        """Nats of each symbol of the completions ``[batch, time]``, zero where masked, given ``batch.condition``."""
        check(self.form, batch.x)
        if batch.x.shape[1] > self.form.length:
            raise self._too_long(batch.x.shape[1])
        mask = torch.ones_like(batch.x, dtype=torch.bool) if batch.mask is None else batch.mask
        longest = int(mask.any(dim=0).nonzero().max()) + 1 if bool(mask.any()) else 1
        x, real = batch.x[:, :longest], mask[:, :longest]
        written = self._decode(self._before(x), self.encode_source(batch.condition))
        scores = written.new_zeros(batch.x.shape)
        scores[mask] = symbol_log_prob(self._head(written[real])[None], x[real][None])[0]
        return scores

    def log_prob(self, batch: Batch) -> Tensor:
        """Nats of each completion given its prompt, ``[batch]``: the sum over its symbols."""
        return self.symbol_log_prob(batch).sum(dim=1, dtype=torch.float64)

    # ---- drawing

    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """Draw ``n`` completions, one for each prompt, symbol by symbol."""
        assert isinstance(options, Decoding)
        return generate(self, n, options, noise, condition=condition)

    def start(self, n: int, condition: Tensor | None = None) -> Cache:
        """Read the prompts; nothing is written yet."""
        source = self.encode_source(condition)
        if len(source.real) != n:
            raise UsageError(f"{len(source.real)} prompts for {n} items", "one for each item", "Repeat or leave out some")
        heads, size = self.settings.heads, self.settings.width // self.settings.heads
        shape = (len(self.decoder), n, heads, self.form.length, size)
        empty = self.symbol.weight.new_empty
        return Cache(source, empty(shape), empty(shape))

    def reorder(self, state: Cache, rows: Tensor) -> Cache:
        """The state of the items ``rows`` (long ``[m]``), which may be left out or taken several times."""
        source = Source([(keys[rows], values[rows]) for keys, values in state.source.pairs], state.source.real[rows])
        kept = []
        for whole in (state.keys, state.values):
            room = whole.new_empty(whole.shape[0], len(rows), *whole.shape[2:])
            room[:, :, :, : state.used] = whole[:, rows, :, : state.used]
            kept.append(room)
        return Cache(source, kept[0], kept[1], state.used)

    @torch.no_grad()
    def step(self, tokens: Tensor, state: Cache) -> tuple[Tensor, Cache]:
        """Read ``tokens`` ``[batch, k]``; the log-odds ``[batch, vocabulary]`` of what comes next. ``state`` is used up."""
        k = tokens.shape[1]
        first, stop = state.used, state.used + k
        if not k:
            raise UsageError("no symbols to read", "at least one", "Give form.begin where nothing stands before")
        if stop > self.form.length:
            raise self._too_long(stop)
        x = self._embed(tokens, self.symbol, self.place, first)
        later = None
        if k > 1:  # places already read are seen by all, the new ones by those after them
            later = torch.ones(k, stop, dtype=torch.bool, device=tokens.device).tril(first)
        for place, (layer, pairs) in enumerate(zip(self._decoders(), state.source.pairs, strict=True)):
            look = layer.look
            heads = look.heads_of(look.project(layer.norms[0](x)), self._turns(first, stop))
            queries, keys, values = (each.transpose(1, 2) for each in heads)
            state.keys[place, :, :, first:stop] = keys
            state.values[place, :, :, first:stop] = values
            found = functional.scaled_dot_product_attention(
                queries, state.keys[place, :, :, :stop], state.values[place, :, :, :stop], attn_mask=later
            )
            x = layer.rest(x + layer.drop(look.output(found.transpose(1, 2).flatten(2))), pairs, state.source.real)
        state.used = stop
        return self._head(self.last(x[:, -1])), state

    # ---- explaining

    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """Each symbol with its odds, and where in the source every head looked: ``attention`` ``[layer, head, source]``."""
        assert isinstance(options, Decoding)

        def attention(read: Tensor) -> dict[str, Tensor]:
            source = self.encode_source(condition)
            x, maps = self._embed(read, self.symbol, self.place), []
            for layer, pairs in zip(self._decoders(), source.pairs, strict=True):
                x = x + layer.look(layer.norms[0](x), self._turns(0, read.shape[1]))
                maps.append(layer.ask.maps(layer.norms[1](x[:, -1:]), pairs, source.real)[0, :, 0])
                x = layer.rest(x, pairs, source.real)
            assert condition is not None
            return {"attention": torch.stack(maps), "read": condition[0, : source.real.shape[1]]}

        yield from trace_symbols(self, options, noise, condition=condition, look=attention)


def sinusoids(length: int, width: int) -> Tensor:
    """Sines and cosines ``[length, width]`` of wavelengths from 2π to 20,000π symbols (Vaswani et al. 2017, section 3.5)."""
    frequency = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).float()


MODEL = Transformer
