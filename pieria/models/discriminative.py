"""Discriminative model: p(y | x), a class or a number that belongs to a text; it says what a text is and cannot write one.

Every other family here is generative: a distribution over things, that new ones can be drawn from. This one is a
distribution over the *target* alone, given the text, and so has nothing to say of how probable a text is. A bidirectional
encoder (the one of `bert`, its part) turns the text into a vector; one linear layer makes of it the odds of each class,
or the mean and the deviation of a normal law. Learned from scratch, or (``--start-from RUN``) from a `bert` that has
learned from texts without targets, of which there are usually many more: pre-training and fine-tuning.

In the contract's words the form is a row of one column, the target, and the text is the condition. "Drawing" draws a
target. For few labels, or where words decide, a support vector machine on counts of words is the one to beat; the
scorecard shows it.

Papers: Devlin et al. 2019, arXiv 1810.04805; words left out in training, Iyyer et al. 2015, *Deep unordered composition
rivals syntactic methods for text classification*; the choice, Ng & Jordan 2001, *On discriminative vs. generative
classifiers*.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from pieria.data.batch import Batch, check, mask_after_end
from pieria.errors import FormError, UsageError
from pieria.forms import Form, Row, Tokens
from pieria.layers.precision import products
from pieria.models.bert import BERT, BERTSettings
from pieria.models.contract import Losses, Model, NoOptions, Phase, Step
from pieria.noise import Noise
from pieria.sampling.decoding import chosen
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
NARROWEST = -7.0  # the smallest log deviation of a number, so that data without noise have a finite density


class DiscriminativeSettings(BERTSettings):
    """The encoder's settings, and how it learns from targets."""

    layers: int = Field(2, ge=1, description="how many times the places look at each other")
    hide: float = Field(
        0.15, ge=0, lt=1, description="share of a text's symbols that are masked in training, which regularises"
    )
    also_masked: float = Field(0.0, ge=0, description="weight of the masked-symbol loss beside that of the target")
    smoothing: float = Field(0.0, ge=0, lt=1, description="share of certainty that is spread over all classes in training")
    head_dropout: float = Field(0.3, ge=0, lt=1, description="share of the text's vector left out at random in training")


class Discriminative(Model):
    """p(y | x): a categorical law over classes, or a normal law of a number, given a text."""

    Settings: ClassVar = DiscriminativeSettings
    Sampling: ClassVar = NoOptions
    consumes: ClassVar = frozenset({Row})
    conditions: ClassVar = frozenset({Tokens})
    requires_condition: ClassVar = True
    likelihood: ClassVar = "exact"
    paper: ClassVar = "Devlin et al. 2019, BERT: pre-training of deep bidirectional transformers"
    starts_from: ClassVar = frozenset({"bert"})
    training_defaults: ClassVar = {
        "batch": 64, "rate": 1e-3, "weight_decay": 0.1, "beta2": 0.98, "warmup": 100, "final": 0.0,
    }  # fmt: skip
    tuning: ClassVar = 0.2
    presets: ClassVar = {
        "tiny": {"layers": 1, "heads": 2, "width": 32, "precision": "float32", "rate": 3e-3, "warmup": 20},
        "mini": {"layers": 2, "heads": 4, "width": 256},
        "finetune": {"rate": 2e-4, "hide": 0.05, "head_dropout": 0.1, "epochs": 3.0},
    }  # fmt: skip

    settings: DiscriminativeSettings
    form: Row
    condition: Tokens

    def __init__(self, settings: DiscriminativeSettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        columns = self.form.columns
        if len(columns) != 1 or columns[0].kind == "missing":
            raise FormError(
                f"{len(columns)} columns of targets ({', '.join(column.name for column in columns)})",
                "one: a class or a number",
                "Name one column with --target, without missing values",
            )
        self.classes = columns[0].levels if columns[0].kind == "category" else None
        own = {name: value for name, value in settings.model_dump().items() if name in BERTSettings.model_fields}
        self.encoder = BERT(BERTSettings.of(own), self.condition)
        if not settings.also_masked:
            self.encoder.head.requires_grad_(requires_grad=False)  # kept, so that the encoder stays a whole `bert`
        self.drop = nn.Dropout(settings.head_dropout)
        self.read_out = nn.Linear(settings.width, self.classes or 2)
        nn.init.zeros_(self.read_out.weight)
        nn.init.zeros_(self.read_out.bias)

    def adopt(self, other: Model) -> None:
        """Begin with the encoder of a `bert` of the same symbols; one of a stream lacks the end, which is new here."""
        assert isinstance(other, BERT)
        self.encoder.adopt(other)

    # ---- the network

    def _raw(self, texts: Tensor) -> Tensor:
        """The log-odds of the classes, or the mean and the log deviation of a number: ``[batch, outputs]``."""
        return self.read_out(self.drop(self.encoder.pooled(texts))).float()

    def _texts(self, condition: Tensor | None, n: int) -> Tensor:
        if condition is None:
            raise UsageError("no text was given", "one for each target: this model says what a text is", "Use --prompt TEXT")
        check(self.condition, condition, "the texts")
        if len(condition) != n:
            raise UsageError(f"{len(condition)} texts for {n} targets", "one each", "Repeat or leave out some")
        return condition

    def tell(self, condition: Tensor) -> Tensor:
        """For each text the probability of each class, or mean and deviation of the number in the form's units, float64."""
        raw = self._raw(self._texts(condition, len(condition))).double()
        if self.classes is not None:
            return raw.softmax(dim=1)
        return torch.stack([raw[:, 0], raw[:, 1].clamp(min=NARROWEST).exp()], dim=1)

    def embed(self, batch: Batch) -> Tensor:
        """The vector of each text that the decision is made from, ``[batch, width]``."""
        with torch.no_grad():
            return self.encoder.pooled(self._texts(batch.condition, len(batch)))

    # ---- learning

    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Count how long texts are, as the encoder does."""
        self.encoder.prepare(lambda: (Batch(cast(Tensor, batch.condition)) for batch in batches()))

    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """The encoder's, and the last layer with AdamW's steps."""
        inside = [
            {**group, "params": [p for p in group["params"] if p.requires_grad]} for group in self.encoder.groups()["all"]
        ]
        return {"all": [*inside, {"params": [self.read_out.weight]}, {"params": [self.read_out.bias], "weight_decay": 0.0}]}

    def phases(self) -> list[Phase]:
        """One."""
        return [Phase("target", "all", self.loss)]

    def loss(self, batch: Batch, noise: Noise) -> Losses:
        """-1/N Σ log p(y | x) of texts some of whose symbols are masked; with ``also_masked`` the loss of those too."""
        s, texts = self.settings, self._given(batch)
        read, told = texts, None
        if s.hide:
            read, told = self.encoder.corrupted(texts, noise, s.hide)
        with products(s.precision, texts.device):
            hidden, real = self.encoder.hidden(read, self.encoder.real(texts)), self.encoder.real(texts)
            raw = self.read_out(self.drop(self.encoder.pool(hidden, real))).float()
            logits = self.encoder.symbol_odds(hidden[:, 1:][told]).float() if told is not None and s.also_masked else None
        nats = -self._nats(raw, batch.x)
        total = nats.mean()
        if s.smoothing and self.classes is not None:
            total = (1 - s.smoothing) * total - s.smoothing * raw.log_softmax(dim=1).mean()
        parts = {"target": nats.mean().detach()}
        if logits is not None and len(logits):
            masked = functional.cross_entropy(logits, texts[told])
            parts["masked"] = masked.detach()
            total = total + s.also_masked * masked
        return Losses(total, parts, count=float(len(batch)))

    def _given(self, batch: Batch) -> Tensor:
        if batch.condition is None:
            return self._texts(None, len(batch))
        return batch.condition

    # ---- scoring and drawing

    def _nats(self, raw: Tensor, x: Tensor) -> Tensor:
        """log p(y | x), ``[batch]``."""
        if self.classes is not None:
            return raw.log_softmax(dim=1).gather(1, x.long())[:, 0]
        width = raw[:, 1].clamp(min=NARROWEST)
        return -0.5 * ((x[:, 0] - raw[:, 0]) / width.exp()).square() - width - HALF_LOG_TAU

    def log_prob(self, batch: Batch) -> Tensor:
        """log p(y | x), nats ``[batch]``: of the target given its text, never of the text."""
        check(self.form, batch.x)
        return self._nats(self._raw(self._texts(batch.condition, len(batch))).double(), batch.x)

    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """A target for each text, as probable as the model says."""
        training = self.training
        self.eval()
        with torch.no_grad():
            law = self.tell(self._texts(condition, n))
        self.train(training)
        return self._drawn(law, noise)

    def _drawn(self, law: Tensor, noise: Noise) -> Tensor:
        if self.classes is not None:
            return chosen(law.log(), noise.uniform("class").double().to(law.device)[:, None])[:, None].float()
        return (law[:, :1] + law[:, 1:] * noise.normal("number", (1,)).to(law)).float()

    # ---- explaining

    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """The text's vector, the odds that the last layer makes of it, and the target drawn."""
        training = self.training
        self.eval()
        with torch.no_grad():
            texts = self._texts(condition, 1)
            vector = self.encoder.pooled(texts)
            count = int(mask_after_end(texts, self.condition.end).sum())
            yield Step(
                "vector", None, f"The encoder reads {count} symbols and makes one vector of them.", {"vector": vector}
            )
            law = self.tell(texts)
            what = "probability of each class" if self.classes is not None else "mean and deviation of the number"
            yield Step("law", None, f"One linear layer makes of the vector the {what}.", {what: law[0]})
        self.train(training)
        yield Step("target", self._drawn(law, noise), "One target, drawn as probable as the model finds it.")


MODEL = Discriminative
