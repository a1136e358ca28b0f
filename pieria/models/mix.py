"""Several models of one form, mixed: each is believed in so far as it foretold the validation data.

    p(x) = Σ_k w_k · p_k(x)        for symbols at every step:  p(x_t | x_<t) = Σ_k w_k · p_k(x_t | x_<t)

A network and a counter fail in different places, so together they often beat both by far. The parts learn first, each in
its own way; what is learned here are only the weights, by expectation-maximisation on data that no part has learned from
(on the training data the part that remembers best would win). The parts, their settings and weights are kept inside.

Parts must have exact likelihoods over one form: a bound or an estimate cannot be added to a probability.

Paper: Jelinek and Mercer (1980), interpolated estimation of Markov source parameters from sparse data.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pieria import registry
from pieria.data.batch import Batch, mask_after_end
from pieria.errors import TrainingError, UsageError
from pieria.forms import Form, Grid, Row, Tokens
from pieria.models.contract import Explains, Model, Predicts, ScoresSymbols, Stage, Step
from pieria.models.parts import named
from pieria.models.weights import build, describe
from pieria.noise import Noise
from pieria.sampling.decoding import Decoding, generate, trace_symbols
from pieria.sampling.states import reordered
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

ROUNDS = 500  # of EM on the weights: the objective is concave, so this only bounds the time
CHEAP = {  # what is mixed where no parts are named, by form and preset
    ("tokens", ""): "ngram:words,ngram:tiny",
    ("tokens", "tiny"): "ngram:tiny,ngram:bigram",
    **{(form, ""): "mixture,mixture:independent" for form in ("grid", "row")},
    **{(form, "tiny"): "mixture:tiny,mixture:independent" for form in ("grid", "row")},
}
CLOSE = 1e-9  # change of a weight below which EM stops


class MixSettings(AnySettings):
    """Hyperparameters of `Mix`."""

    parts: str = Field(
        "",
        description="families to learn and mix, as ngram:words,ngram:tiny (family:preset); empty or tiny: cheap ones",
    )


class Mix(Model):
    """A weighted mixture of models with exact likelihoods over one form.

    Make one of fitted models with `Mix.of`; ``stages`` then has the weights alone left to learn. Made from names, it first
    learns each part on the training data. Over `Tokens` it is a `MixOfSymbols`, which can do all that predicting allows.
    """

    Settings = MixSettings
    consumes = frozenset({Tokens, Grid, Row})
    likelihood = "exact"
    presets: ClassVar = {"tiny": {"parts": "tiny"}, "default": {}}
    paper = "Jelinek and Mercer 1980, Interpolated estimation of Markov source parameters from sparse data"

    settings: MixSettings

    def __new__(cls, *given: Any, **named: Any) -> "Mix":
        """An ability is asked for by type, so what can predict symbols is a type of its own."""
        form = named.get("form", given[1] if len(given) > 1 else None)  # copying gives nothing, to the type that it has
        mix: Mix = super().__new__(MixOfSymbols if isinstance(form, Tokens) else cls)
        return mix

    def __init__(self, settings: MixSettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        said = settings.parts
        if said in ("", "tiny"):
            said = CHEAP[type(form).kind, said]
        self.given = said.lstrip().startswith("[")  # descriptions, of parts that are fitted and whose weights come along
        parts = [build(part) for part in json.loads(said)] if self.given else [named(name, form) for name in said.split(",")]
        self.blend = (BlendOfSymbols if isinstance(form, Tokens) else Blend)(parts, form)
        # as true of a mixture as of its parts; card and audit ask it of the model
        self.holds_data = any(part.holds_data for part in parts)  # type: ignore[misc]

    @classmethod
    def of(cls, parts: Sequence[Model]) -> "Mix":
        """A mixture of fitted models, equally weighted until its weights are learned.

        Parts of tokens may differ in the length that they were fitted at; the shortest is the mixture's.

        Raises `UsageError` for parts of different forms, without an exact likelihood, or fewer than two.
        """
        _check(parts)
        shortest = min(parts, key=lambda part: part.form.length if isinstance(part.form, Tokens) else 0)
        described = json.dumps([describe(part) for part in parts])
        mix = cls(MixSettings(parts=described), shortest.form, parts[0].condition)
        mix.blend.parts = nn.ModuleList(parts)
        return mix

    def stages(self) -> list[Stage]:
        """The parts that are not fitted yet, on the training data; then the weights, on the validation data."""
        unfitted = [] if self.given else self.blend.models()
        share = 1 / (len(unfitted) + 1)
        learned = [Stage(f"part {k + 1}", part, _same, share) for k, part in enumerate(unfitted)]
        return [*learned, Stage("weights", self.blend, _same, share, split="validation")]

    @property
    def weights(self) -> Tensor:
        """How much each part is believed, float64 ``[part]``."""
        return self.blend.weights

    def log_prob(self, batch: Batch) -> Tensor:
        """Nats of each item, float64 ``[batch]``."""
        return self.blend.log_prob(batch)

    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """A part is chosen for each item and draws it; over tokens, see `MixOfSymbols`."""
        del options
        chosen = self._chosen(noise)
        items: Tensor | None = None
        for k, part in enumerate(self.blend.models()):
            rows = (chosen == k).nonzero()[:, 0]
            if len(rows):
                given = None if condition is None else condition[rows]
                drawn = part.sample(len(rows), part.Sampling(), _Share(noise, k, rows), given)
                items = drawn.new_empty(n, *drawn.shape[1:]) if items is None else items
                items[rows] = drawn
        assert items is not None
        return items

    def _chosen(self, noise: Noise) -> Tensor:
        passed = self.weights.cpu().cumsum(dim=0)
        toss = noise.uniform("part of a mix").double()
        return torch.searchsorted(passed, toss, right=True).clamp(max=len(passed) - 1)

    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """Which part was chosen, and how it drew."""
        del options
        k = int(self._chosen(noise)[0])
        said = f"Its weight is {float(self.weights[k]):.3f}."
        yield Step(f"part {k + 1} is chosen", note=said, data={"weights": self.weights})
        part, share = self.blend.models()[k], _Share(noise, k, torch.zeros(1, dtype=torch.int64))
        own = part.Sampling()
        if isinstance(part, Explains):
            yield from part.trace(own, share, condition)
        else:
            yield Step("it draws an item", part.sample(1, own, share, condition))


class MixOfSymbols(Mix):
    """A mixture over `Tokens`: the laws of the next symbol are mixed at every step."""

    Sampling = Decoding
    consumes = frozenset({Tokens})

    blend: "BlendOfSymbols"

    @property
    def reach(self) -> int:
        """As far back as the part that reads furthest."""
        return self.blend.reach

    def symbol_log_prob(self, batch: Batch) -> Tensor:
        """Nats of each symbol, float64 ``[batch, time]``."""
        return self.blend.symbol_log_prob(batch)

    def logits(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log-probabilities of the mixed law, float64 ``[batch, time, vocabulary]``."""
        return self.blend.logits(tokens, condition)

    def start(self, n: int, condition: Tensor | None = None) -> list[Any]:
        """One state a part."""
        return self.blend.start(n, condition)

    def step(self, tokens: Tensor, state: list[Any]) -> tuple[Tensor, list[Any]]:
        """Let every part read ``tokens``; the mixed log-odds of what comes next."""
        return self.blend.step(tokens, state)

    def reorder(self, state: list[Any], rows: Tensor) -> list[Any]:
        """Each part's state of the items ``rows``."""
        return self.blend.reorder(state, rows)

    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """Symbols are drawn one by one from the mixed law."""
        assert isinstance(options, Decoding)
        return generate(self, n, options, noise, condition=condition)

    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """What each part would have said at each symbol, and what was drawn from both together."""
        assert isinstance(options, Decoding)
        yield from trace_symbols(self, options, noise, condition=condition, look=self._opinions)

    def _opinions(self, read: Tensor) -> dict[str, Tensor]:
        laws = [_law(part.logits(read[:, -max(1, part.reach) :]))[0, -1].exp() for part in self.blend.models()]
        return {"odds by part": torch.stack([law.double() for law in laws]), "weights": self.weights}


class Blend(Model):
    """The parts and their weights: what the last stage of `Mix` learns (it is not a family of its own)."""

    Settings = MixSettings
    consumes = Mix.consumes
    likelihood = "exact"
    presets: ClassVar = {"tiny": {}}
    paper = Mix.paper

    weights: Tensor

    def __init__(self, parts: Sequence[Model], form: Form) -> None:
        super().__init__(MixSettings(), form)
        _check(parts)
        self.parts = nn.ModuleList(parts)
        self.register_buffer("weights", torch.full((len(parts),), 1 / len(parts), dtype=torch.float64))

    def models(self) -> list[Any]:
        """The parts as what they are (a module list forgets it)."""
        return list(self.parts)

    @torch.no_grad()
    def estimate(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """EM for the weights: each part's is its mean share in having foretold a symbol (or an item); never goes down."""
        found: list[Tensor] = []
        for part in self.parts:
            part.eval()
        for batch in batches():
            log = torch.stack([each.cpu() for each in self.by_part(batch)])  # [part, batch(, time)]
            if isinstance(self.form, Tokens):
                mask = mask_after_end(batch.x, self.form.end) if batch.mask is None else batch.mask
                log = log[:, mask.cpu()]
            found.append(log)
        if not found:
            raise TrainingError("the mixture was given no data for its weights", "validation data", "Keep a validation part")
        log = torch.cat(found, dim=1)
        if torch.isneginf(log).all(dim=0).any():
            raise TrainingError("a symbol or item that no part thinks possible", "one part that is smoothed", "Add one")
        weights = self.weights.cpu()
        for _ in range(ROUNDS):
            better = torch.softmax(log + weights.log()[:, None], dim=0).mean(dim=1)
            done = bool((better - weights).abs().max() < CLOSE)
            weights = better
            if done:
                break
        self.weights.copy_(weights / weights.sum())

    def by_part(self, batch: Batch) -> list[Tensor]:
        """The log-probabilities of each part, float64: of each symbol for `Tokens`, of each item else."""
        found = []
        for part in self.models():
            given = batch
            if batch.context is not None and batch.context.shape[1] > part.reach > 0:
                given = replace(batch, context=batch.context[:, -part.reach :])
            log = part.symbol_log_prob(given) if isinstance(part, ScoresSymbols) else part.log_prob(given)
            found.append(log.double())
        return found

    def mixed(self, parts: list[Tensor]) -> Tensor:
        """``log Σ_k w_k exp(parts_k)``, and exactly 0 where all parts say 0 (symbols that do not count)."""
        weights = self.weights.to(parts[0].device).log()
        stacked = torch.stack(parts)
        log = torch.logsumexp(stacked + weights.reshape(-1, *[1] * parts[0].dim()), dim=0)
        return torch.where((stacked == 0).all(dim=0), torch.zeros_like(log), log)

    def log_prob(self, batch: Batch) -> Tensor:
        """Nats of each item, float64 ``[batch]``."""
        log = self.mixed(self.by_part(batch))
        return log.sum(dim=1) if isinstance(self.form, Tokens) else log

    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """Not drawn from by itself: `Mix` draws."""
        raise UsageError("the parts of a mixture were asked to draw", "the mixture itself", "Call sample of the Mix")


class BlendOfSymbols(Blend):
    """Parts over `Tokens`; the loop gives what `Predicts` as much context as it can use, in learning the weights too."""

    @property
    def reach(self) -> int:
        """As far back as the part that reads furthest."""
        return max(part.reach for part in self.models())

    def symbol_log_prob(self, batch: Batch) -> Tensor:
        """Nats of each symbol, float64 ``[batch, time]``."""
        return self.mixed(self.by_part(batch))

    def logits(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log-probabilities of the mixed law, float64 ``[batch, time, vocabulary]``."""
        return self.mixed([_law(part.logits(tokens, condition)) for part in self.models()])

    def start(self, n: int, condition: Tensor | None = None) -> list[Any]:
        """One state a part."""
        return [part.start(n, condition) for part in self.models()]

    def step(self, tokens: Tensor, state: list[Any]) -> tuple[Tensor, list[Any]]:
        """Let every part read ``tokens``; the mixed log-odds of what comes next."""
        read = [part.step(tokens, kept) for part, kept in zip(self.models(), state, strict=True)]
        return self.mixed([_law(logits) for logits, _ in read]), [kept for _, kept in read]

    def reorder(self, state: list[Any], rows: Tensor) -> list[Any]:
        """Each part's state of the items ``rows``."""
        return [reordered(part, kept, rows) for part, kept in zip(self.models(), state, strict=True)]


class _Share(Noise):
    """The noise of some items, under names of part k's own, so that parts and their choice never share a draw."""

    def __init__(self, noise: Noise, k: int, rows: Tensor) -> None:
        self.noise, self.k, self.rows, self.size = noise, k, rows, len(rows)

    def normal(self, name: str, shape: Sequence[int] = (), step: int = 0) -> Tensor:
        return self.noise.normal(f"part {self.k}: {name}", shape, step)[self.rows]

    def uniform(self, name: str, shape: Sequence[int] = (), step: int = 0) -> Tensor:
        return self.noise.uniform(f"part {self.k}: {name}", shape, step)[self.rows]


def _same(batch: Batch) -> Batch:
    return batch


def _law(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits.double(), dim=-1)


def _check(parts: Sequence[Model]) -> None:
    if len(parts) < 2:
        raise UsageError(f"a mixture of {len(parts)} models", "two or more", "Name several runs")
    for part in parts:
        name = registry.name_of(type(part))
        if part.likelihood != "exact":
            raise UsageError(
                f"{name} has a likelihood of the kind '{part.likelihood}'",
                "exact likelihoods: others cannot be added to a probability",
                "Leave it out",
            )
        if isinstance(part.form, Tokens) and not isinstance(part, Predicts):
            raise UsageError(f"{name} does not say what comes next", "parts of tokens that predict symbol by symbol")
        if _comparable(part.form) != _comparable(parts[0].form):
            raise UsageError(
                f"{name} was fitted to {_comparable(part.form)}",
                f"the form of the first part, {_comparable(parts[0].form)}",
                "Mix runs that were fitted to the same data in the same encoding",
            )
        if part.condition != parts[0].condition:
            raise UsageError(f"{name} has another condition than the first part", "one condition, or none, for all")


def _comparable(form: Form) -> Form:
    return replace(form, length=0) if isinstance(form, Tokens) else form


MODEL = Mix
