"""BERT: a bidirectional encoder that learns to say what stands at a masked place, given everything before and behind it.

Some places of a text are masked; every place looks at every other one, and the last layer's vector at a masked place gives
the odds of what stood there. What it learns on the way, a vector for each symbol in its context, is what it is used for:
filling in, comparing and sorting texts. It has no latent space to draw from.

It is not a distribution over texts: it says p(x_t | all others) for each place, and such odds need not belong to any joint
distribution. Its score is therefore a *pseudo*-likelihood, the sum of log p(x_t | all others), each place masked in turn; it
ranks texts, and is not to be compared with an exact likelihood. To write, it fills a row of masks place by place. For that
it must have met texts that are mostly masked, which BERT's own recipe (15 % of the places) never shows: a share ``writing``
of the training items has any number of places masked. To write well, choose the GPT.

A mask's place is known, so how long a text is has a law of its own: the lengths met in training are counted.
``[CLS]`` is ``form.begin`` here, and the mask the symbol after it; neither is ever predicted.

Papers: Devlin et al. 2019, arXiv 1810.04805; pseudo-likelihood, Salazar et al. 2020, arXiv 1910.14659; writing with it, Wang
& Cho 2019, arXiv 1902.04094, and Ghazvininejad et al. 2019, arXiv 1904.09324; spans, Joshi et al. 2020, arXiv 1907.10529.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional

from pieria.data.batch import Batch, check, mask_after_end
from pieria.errors import FormError, UsageError
from pieria.forms import Form, Tokens
from pieria.layers.attention import check_heads, rotary_table
from pieria.layers.encoder import BENDS, Activation, Encoder, Packing
from pieria.layers.parameters import Optimiser, groups
from pieria.layers.precision import Precision, products
from pieria.models.contract import Losses, Model, Phase, Step
from pieria.noise import Noise
from pieria.sampling import lengths, masking
from pieria.sampling.filling import Filling, windowed
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

TOGETHER = 256  # rows that are read at once when each place is masked in turn


class BERTSettings(AnySettings):
    """The network, and what is masked. The preset ``base`` is the network of the paper."""

    layers: int = Field(4, ge=1, description="how many times the places look at each other")
    heads: int = Field(4, ge=1, description="different looks at once in a layer")
    width: int = Field(256, ge=2, description="features of a symbol's vector")
    hidden: float = Field(4.0, gt=0, description="features inside a layer's small network, as a multiple of width")
    positions: Literal["learned", "rotary"] = Field("learned", description="how a place is known: a vector each, or a turn")
    types: int = Field(0, ge=0, description="token types that the network knows; all symbols here are of the first")
    norm_first: bool = Field(True, description="normalise before each part, which trains easily, or after, as the paper did")
    eps: float = Field(1e-5, gt=0, description="added to the variance in normalisations")
    activation: Activation = Field("gelu", description="what bends in the small network and in the head")
    bias: bool = Field(True, description="biases in linear layers and normalisations")
    tied: bool = Field(True, description="the input's vectors are also the output's")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of features and looks left out at random in training")
    pooling: Literal["mean", "first"] = Field("mean", description="a text's vector: the mean of its symbols', or begin's")

    masked: float = Field(0.15, gt=0, le=1, description="share of an item's places that are masked in training")
    span: float = Field(1.0, ge=1, description="mean length of the runs that are masked together; 1 is place by place")
    whole_words: bool = Field(False, description="mask all symbols of a word together, where symbols tell where words begin")
    writing: float = Field(
        0.2, ge=0, le=1, description="share of items of which any number of places is masked, to learn to write; BERT has 0"
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
        return self


class Head(nn.Module):
    """From the vector of a masked place to the odds of its symbol: a layer, a norm, and the symbols' own vectors."""

    def __init__(self, settings: BERTSettings, vocabulary: int) -> None:
        super().__init__()
        self.bend = BENDS[settings.activation]
        self.transform = nn.Linear(settings.width, settings.width, bias=settings.bias)
        self.norm = nn.LayerNorm(settings.width, eps=settings.eps, bias=settings.bias)
        self.odds = None if settings.tied else nn.Linear(settings.width, vocabulary, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, x: Tensor, symbols: Tensor) -> Tensor:
        """``[asked, width]`` and the symbols' vectors ``[vocabulary, width]`` to ``[asked, vocabulary]``."""
        weight = symbols if self.odds is None else self.odds.weight
        return functional.linear(self.norm(self.bend(self.transform(x))), weight, self.bias)


class BERT(Model):
    """p(x_t | all other places) for every place that is masked."""

    Settings: ClassVar = BERTSettings
    Sampling: ClassVar = Filling
    consumes: ClassVar = frozenset({Tokens})
    likelihood: ClassVar = "pseudo"
    paper: ClassVar = "Devlin et al. 2019, BERT: pre-training of deep bidirectional transformers"
    validation_unit: ClassVar = "nats per masked symbol (pseudo)"
    training_defaults: ClassVar = {
        "batch": 64, "rate": 2e-3, "weight_decay": 0.05, "beta2": 0.98, "warmup": 100, "final": 0.0,
    }  # fmt: skip
    presets: ClassVar = {
        "tiny": {
            "layers": 2, "heads": 2, "width": 64, "dropout": 0.0, "precision": "float32", "batch": 64, "rate": 3e-3,
            "warmup": 20,
        },
        "mini": {"layers": 4, "heads": 4, "width": 256},
        "small": {"layers": 4, "heads": 8, "width": 512},
        "base": {
            "layers": 12, "heads": 12, "width": 768, "types": 2, "norm_first": False, "eps": 1e-12, "writing": 0.0,
            "optimiser": "adamw", "batch": 256, "rate": 1e-4, "weight_decay": 0.01, "beta2": 0.999, "warmup": 10_000,
        },
    }  # fmt: skip

    settings: BERTSettings
    form: Tokens
    table: Tensor | None
    lengths: Tensor
    starts: Tensor

    def __init__(self, settings: BERTSettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        width, size, vocabulary = settings.width, settings.width // settings.heads, self.form.vocabulary
        places = self.form.length + 1  # begin has a place of its own
        self.symbol = nn.Embedding(vocabulary + 2, width)  # the symbols, begin, the mask
        self.place = nn.Embedding(places, width) if settings.positions == "learned" else None
        self.kind = nn.Embedding(settings.types, width) if settings.types else None
        self.first = None if settings.norm_first else nn.LayerNorm(width, eps=settings.eps, bias=settings.bias)
        self.drop = nn.Dropout(settings.dropout)
        self.encoder = Encoder(
            settings.layers,
            width,
            settings.heads,
            round(width * settings.hidden),
            norm_first=settings.norm_first,
            activation=settings.activation,
            bias=settings.bias,
            eps=settings.eps,
            dropout=settings.dropout,
        )
        self.head = Head(settings, vocabulary)
        table = rotary_table(places, size) if settings.positions == "rotary" else None
        self.register_buffer("table", table, persistent=False)  # a function of the settings, so not saved
        # how many items had 1, 2, … symbols with their end, and last, how many were cut before it
        self.register_buffer("lengths", torch.zeros(self.form.length + 1))
        self.register_buffer("starts", torch.ones(vocabulary, dtype=torch.bool))  # which symbols begin a word
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    @property
    def mask_symbol(self) -> int:
        """What is read at a masked place: one past ``form.begin``."""
        return self.form.begin + 1

    # ---- the network

    def _read(self, tokens: Tensor, real: Tensor | None) -> tuple[Tensor, Packing]:
        """The embeddings ``[real, width]`` of ``begin`` and of ``tokens`` (long ``[batch, time]``) behind it."""
        if tokens.shape[1] > self.form.length:
            raise FormError(
                f"{tokens.shape[1]} symbols at once",
                f"at most {self.form.length}, as the model was fitted with",
                "Shorten the text or fit with a larger length",
            )
        tokens = functional.pad(tokens, (1, 0), value=self.form.begin)
        if real is not None:
            real = functional.pad(real, (1, 0), value=True)
            longest = int(real.any(dim=0).nonzero()[-1]) + 1
            tokens, real = tokens[:, :longest], real[:, :longest]
            real = None if bool(real.all()) else real
        packing = Packing(tokens.shape[0], tokens.shape[1], real)
        x = self.symbol(packing.packed(tokens))
        if self.place is not None:
            x = x + self.place(packing.positions(tokens.device))
        if self.kind is not None:
            x = x + self.kind.weight[0]
        return self.drop(x if self.first is None else self.first(x)), packing

    def hidden(self, tokens: Tensor, real: Tensor | None = None) -> Tensor:
        """The last layer's vectors ``[batch, 1 + time, width]``: of ``begin``, then of each place; zero where not ``real``.

        Args:
            tokens: symbols, ``begin`` or the mask, long ``[batch, time]``.
            real: bool ``[batch, time]``; what is not real is not read. None means that everything is.
        """
        x, packing = self._read(tokens, real)
        found = packing.padded(self.encoder(x, packing, self.table))
        return functional.pad(found, (0, 0, 0, 1 + tokens.shape[1] - found.shape[1]))

    def real(self, tokens: Tensor) -> Tensor | None:
        """Which places of ``[batch, time]`` are read: up to the end of each item; None where there is no end."""
        return None if self.form.end is None else mask_after_end(tokens, self.form.end)

    def odds(self, x: Tensor, masked: Tensor, asked: Tensor) -> Tensor:
        """Log-odds ``[asked, vocabulary]`` of the places where ``asked`` (bool ``[batch, time]``) of an ``x`` with masks."""
        tokens = x.masked_fill(masked, self.mask_symbol)
        return self.symbol_odds(self.hidden(tokens, self.real(tokens))[:, 1:][asked])

    def symbol_odds(self, x: Tensor) -> Tensor:
        """The head: vectors ``[asked, width]`` to log-odds ``[asked, vocabulary]``."""
        odds: Tensor = self.head(x, self.symbol.weight[: self.form.vocabulary])
        return odds

    # ---- learning

    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Count how long the training items are."""
        if self.form.end is not None:
            for batch in batches():
                length = lengths.lengths_of(batch.x, self.form.end, self.form.length)
                self.lengths += torch.bincount(length - 1, minlength=len(self.lengths)).to(self.lengths)

    def spell(self, strings: list[str]) -> None:
        """Be told what the symbols look like, and so which of them begin a word."""
        self.starts.copy_(torch.tensor(masking.word_starts(strings)))

    def adopt(self, other: Model) -> None:
        """Begin with the weights of another `bert` of the same symbols: one of a stream has no end, which is new here.

        Places beyond those that it knew are new too.
        """
        assert isinstance(other, BERT)
        rows = list(range(other.form.vocabulary))
        new = self.form.vocabulary - len(rows)
        if new not in (0, 1) or (new == 1 and other.form.end is not None):
            raise FormError(
                f"a model of {other.form.vocabulary} symbols, for data of {self.form.vocabulary}",
                "the same symbols",
                "Encode the data as the run did",
            )
        rows += [other.form.begin] * new + [other.form.begin, other.mask_symbol]  # the end begins as a copy of begin
        own, theirs = self.state_dict(), other.state_dict()
        for name, value in own.items():
            if name in ("lengths", "starts") or name not in theirs:
                continue
            taken = theirs[name]
            if name == "symbol.weight":
                taken = taken[rows]
            if taken.shape[1:] != value.shape[1:] or (name != "place.weight" and len(taken) > len(value)):
                raise FormError(f"{name} of shape {list(taken.shape)}", f"{list(value.shape)}", "Give the same settings")
            value[: len(taken)] = taken[: len(value)]
        self.starts[: len(other.starts)] = other.starts

    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """Matrices inside layers take orthogonal steps, tables of vectors AdamW's; single vectors do not decay."""
        return {"all": groups(self, self.encoder.parameters(), self.settings.optimiser)}

    def phases(self) -> list[Phase]:
        """One."""
        return [Phase("masked symbols", "all", self.loss)]

    def corrupted(self, x: Tensor, noise: Noise, hide: float | None = None) -> tuple[Tensor, Tensor]:
        """What the network reads instead of ``x``, and which places it must tell (bool); an item's end stays as it is.

        With ``hide``, that share of the places is masked, perhaps none of an item, and nothing else is changed.
        """
        s = self.settings
        among = mask_after_end(x, self.form.end)
        if self.form.end is not None:
            among &= x != self.form.end
        begins = self.starts[x] if s.whole_words else 1 / s.span
        if hide is not None:
            told, _ = masking.places(among, noise, hide, begins=begins)
            return x.masked_fill(told, self.mask_symbol), told
        told, whole = masking.places(among, noise, s.masked, writing=s.writing, least=1, begins=begins)
        read = masking.disguised(x, told, whole, noise, vocabulary=self.form.vocabulary, mask=self.mask_symbol)
        return read, told

    def loss(self, batch: Batch, noise: Noise) -> Losses:
        """Cross-entropy of the masked symbols, -1/N Σ log p(x_t | what was left), over the N places that were masked."""
        read, told = self.corrupted(batch.x, noise)
        real = None if self.form.end is None else mask_after_end(batch.x, self.form.end)
        with products(self.settings.precision, batch.x.device):
            logits = self.symbol_odds(self.hidden(read, real)[:, 1:][told])
        count = len(logits)
        nats = functional.cross_entropy(logits.float(), batch.x[told], reduction="sum") / max(1, count)
        return Losses(nats, {"nats": nats.detach()}, count=float(count), unit="symbols")

    def validate(self, batch: Batch, noise: Noise) -> Losses:
        """The loss on held-out items, always with the same masks: the likelihood would read an item once for each place."""
        return self.loss(batch, noise)

    # ---- scoring

    def log_prob(self, batch: Batch) -> Tensor:
        """The pseudo-likelihood, nats ``[batch]``: Σ log p(x_t | all others) over the places that count.

        Of an item, its end costs what the law of lengths says. ``batch.context`` is read as far as there is room.
        """
        check(self.form, batch.x)
        if batch.x.shape[1] > self.form.length:
            self._read(batch.x, None)  # refuses, in words
        room = self.form.length - batch.x.shape[1]
        context = batch.x[:, :0] if batch.context is None else batch.context[:, max(0, batch.context.shape[1] - room) :]
        context = context if room else context[:, :0]
        x = torch.cat([context.clamp(max=self.mask_symbol), batch.x], dim=1)
        scored = mask_after_end(batch.x, self.form.end) if batch.mask is None else batch.mask
        if self.form.end is not None:
            scored = scored & (batch.x != self.form.end)
        total = torch.zeros(len(batch), dtype=torch.float64, device=x.device)
        rows, places = functional.pad(scored, (context.shape[1], 0)).nonzero().unbind(dim=1)
        for start in range(0, len(rows), TOGETHER):
            row, place = rows[start : start + TOGETHER], places[start : start + TOGETHER]
            masked = torch.zeros(len(row), x.shape[1], dtype=torch.bool, device=x.device)
            masked[torch.arange(len(row), device=x.device), place] = True
            found = self.odds(x[row], masked, masked).double().log_softmax(dim=-1)
            total.index_add_(0, row, found.gather(1, x[row, place][:, None])[:, 0])
        if self.form.end is not None:
            length = lengths.lengths_of(batch.x, self.form.end, self.form.length)
            total += lengths.law_of(self.lengths).log()[length - 1]
        return total

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """A vector for each text, ``[batch, width]``: the mean over ``begin`` and its symbols, or ``begin``'s alone."""
        check(self.form, batch.x)
        return self.pooled(batch.x)

    def pooled(self, x: Tensor) -> Tensor:
        """What `embed` gives, with gradients."""
        real = self.real(x)
        return self.pool(self.hidden(x, real), real)

    def pool(self, hidden: Tensor, real: Tensor | None) -> Tensor:
        """One vector ``[batch, width]`` of what `hidden` gave."""
        if self.settings.pooling == "first":
            return hidden[:, 0]
        count = hidden.shape[1] - 1 if real is None else real.sum(dim=1, keepdim=True)
        return hidden.sum(dim=1) / (1 + count)

    # ---- drawing

    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """``n`` rows of masks, filled; the length of an item is drawn from the lengths met in training."""
        assert isinstance(options, Filling)
        x, masked = self._empty(n, options)
        return self._filled(x, masked, options, noise)

    def fill(self, x: Tensor, mask: Tensor, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """``x`` with everything redrawn where ``mask`` is False; an item whose end is not given gets a length that fits."""
        assert isinstance(options, Filling)
        check(self.form, x)
        return self._filled(x, ~mask, options, noise)

    def _filled(self, x: Tensor, masked: Tensor, options: Filling, noise: Noise) -> Tensor:
        if len(noise) != len(x):
            raise UsageError(f"noise for {len(noise)} items", f"noise for {len(x)}", "Make it with ItemNoise(seed, n)")
        training = self.training
        self.eval()
        with torch.inference_mode():
            x, masked = self._ended(x, masked, noise)
            for made in windowed(self._choices, x, masked, options, noise, self.form.length):
                x = made.x
        self.train(training)
        return x.clone()  # made in inference mode, which autograd would refuse to use later

    def _empty(self, n: int, options: Filling) -> tuple[Tensor, Tensor]:
        """``n`` items of which nothing is known, but their length if ``options`` say it."""
        length = options.length or self.form.length
        if self.form.end is None:
            x = self.symbol.weight.new_zeros(n, length, dtype=torch.int64)
            return x, torch.ones_like(x, dtype=torch.bool)
        if length > self.form.length:
            raise UsageError(
                f"length {length}", f"an item of this form has at most {self.form.length} symbols", "Ask for less"
            )
        x = self.symbol.weight.new_full((n, self.form.length), self.form.end, dtype=torch.int64)
        masked = torch.ones_like(x, dtype=torch.bool)
        if options.length is not None:
            masked[:, length - 1 :] = False
        return x, masked

    def _ended(self, x: Tensor, masked: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Where an item ends is settled first: it is given, or drawn from the lengths that agree with what is given."""
        if self.form.end is None:
            return x, masked
        return lengths.ended(x, masked, lengths.law_of(self.lengths), self.form.end, noise.uniform("length"))

    def _choices(self, x: Tensor, masked: Tensor, asked: Tensor) -> Tensor:
        """The odds of places inside an item: there is no end."""
        odds = self.odds(x, masked, asked)
        if self.form.end is not None:
            odds[:, self.form.end] = -torch.inf
        return odds

    # ---- explaining

    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """A row of masks, and after each round what was placed, with its odds and where each head looked to find it."""
        assert isinstance(options, Filling)
        training = self.training
        self.eval()
        with torch.no_grad():
            x, masked = self._ended(*self._empty(1, options), noise)
            count = int(masked.sum())
            length = f"The text shall have {count} symbols, a length drawn as often as it came in training; all are masked."
            yield Step("masks", x.clone(), length, {"masked": masked[0]})
            before = masked
            for made in windowed(self._choices, x, masked, options, noise, self.form.length):
                placed = made.placed[0].nonzero()[:, 0]
                data = {"masked": made.masked[0], "placed": made.placed[0]}
                note = f"{len(placed)} places were filled." if len(placed) != 1 else "One place was filled."
                if len(placed) == 1 and len(made.odds) and bool(before.any()):
                    symbol = made.x[0, placed]
                    row = int(made.asked[0, : int(placed)].sum())
                    data |= {"odds": made.odds[row].softmax(dim=-1, dtype=torch.float64), "symbol": symbol}
                    data |= self._looks(x, before, int(placed))
                    probability = float(data["odds"][int(symbol)])
                    note = f"The model gave the symbol drawn for place {int(placed) + 1} a probability of {probability:.2g}."
                yield Step(made.name, made.x.clone(), note, data)
                x, before = made.x, made.masked
        self.train(training)

    def _looks(self, x: Tensor, masked: Tensor, place: int) -> dict[str, Tensor]:
        """Where each head looked from ``place``, ``[layer, head, places read]``, and the symbols that were read."""
        start = max(0, min(place - self.form.length // 2, x.shape[1] - self.form.length))
        tokens = x.masked_fill(masked, self.mask_symbol)[:, start : start + self.form.length]
        embedded, packing = self._read(tokens, self.real(tokens))
        maps = self.encoder.maps(embedded, packing, self.table)[:, 0, :, 1 + place - start]
        read = functional.pad(tokens, (1, 0), value=self.form.begin)[0, : maps.shape[-1]]
        return {"attention": maps, "read": read}


MODEL = BERT
