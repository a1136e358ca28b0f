"""What a model is: a distribution over the tensors of one form, learned from examples and drawn from.

Learning is one of three protocols (`Estimates`, `Trains`, `Learns`); what else a trained model can do is an ability,
asked for by type: ``isinstance(model, Scores)``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from pieria.data.batch import Batch, check
from pieria.errors import FormError, UsageError
from pieria.forms import Form
from pieria.noise import Noise
from pieria.settings import Settings as AnySettings

Likelihood = Literal["exact", "bound", "estimate", "pseudo", "none"]


class NoOptions(AnySettings):
    """Drawing has no options."""


class Model(nn.Module, ABC):
    """A distribution over the tensors of one form.

    A family sets the class variables, and exactly one of `Estimates`, `Trains`, `Learns`:

    - ``Settings``, ``Sampling``: the hyperparameters, and the options of drawing.
    - ``consumes``: the forms that it learns from; ``conditions``: the forms of condition that it accepts.
    - ``requires_condition``: it cannot do without one.
    - ``pairing``: of a family whose condition is a picture: "paired", each item belongs to its condition, or "unpaired", the
      two are drawn apart from each other.
    - ``likelihood``: what its ``log_prob`` is, "none" without one.
    - ``holds_data``: its weights contain training examples.
    - ``reads_in_order``: it learns a stream in order, each row of a batch going on where it was left a step before
      (``batch.index`` says where a window stands).
    - ``presets``: name to settings that differ from the defaults; one of them is ``tiny``. A preset may also set
      what the training loop reads (batch, rate, …), as ``training_defaults`` does for all presets.
    - ``tuning``: where the weights of another run are the beginning, the learning rate is this share of the default one,
      unless a preset or the user says another: what was learned would be forgotten at the rate made for random weights.
    - ``paper``: where it comes from.
    """

    Settings: ClassVar[type[AnySettings]]
    Sampling: ClassVar[type[AnySettings]] = NoOptions
    consumes: ClassVar[frozenset[type[Form]]]
    conditions: ClassVar[frozenset[type[Form]]] = frozenset()
    requires_condition: ClassVar[bool] = False
    pairing: ClassVar[Literal["paired", "unpaired"]] = "paired"
    likelihood: ClassVar[Likelihood] = "none"
    holds_data: ClassVar[bool] = False
    reads_in_order: ClassVar[bool] = False
    presets: ClassVar[dict[str, dict[str, Any]]]
    training_defaults: ClassVar[dict[str, Any]] = {}
    tuning: ClassVar[float] = 0.1
    paper: ClassVar[str]

    def __init__(self, settings: AnySettings, form: Form, condition: Form | None = None) -> None:
        super().__init__()
        name = type(self).__name__
        if type(form) not in self.consumes:
            wanted = " or ".join(sorted(kind.kind for kind in self.consumes))
            raise FormError(
                f"{name} was given {form.kind}",
                f"it learns from {wanted}",
                "'pieria models --data DATA' lists the families that fit",
            )
        if condition is not None and type(condition) not in self.conditions:
            raise UsageError(
                f"{name} was given a condition ({condition.kind})",
                "it takes none of that kind",
                "Fit it without --condition, or choose a family that takes one",
            )
        if condition is None and self.requires_condition:
            raise UsageError(f"{name} was given no condition", "it cannot learn without one", "Name it with --condition")
        self.settings, self.form, self.condition = settings, form, condition

    @abstractmethod
    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """Draw ``n`` items of the form; ``len(noise) == n``, and item i uses row i of every draw."""


# ---- learning: a family has exactly one of these three ---------------------------------------------------------------


@runtime_checkable
class Estimates(Protocol):
    """Learns by counting, by EM, in closed form, or by an optimiser of its own."""

    def estimate(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Fit to every item that ``batches()`` yields; it may be called again for another pass over the same data.

        Streams come as contiguous windows, in order, each with up to ``self.reach`` symbols of context.
        """


@dataclass(frozen=True)
class Losses:
    """What a phase minimises.

    Attributes:
        loss: the scalar to step on, a mean over ``count`` things.
        parts: its named parts, for the log (detached).
        count: what the mean was taken over: the number of scored items or symbols in this batch.
        unit: what was counted.
    """

    loss: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    count: float = 1.0
    unit: Literal["items", "symbols"] = "items"


@dataclass(frozen=True)
class Phase:
    """One move of the training game."""

    name: str
    group: str
    loss: Callable[[Batch, Noise], Losses]
    every: int = 1
    after: Callable[[], None] | None = None


@runtime_checkable
class Trains(Protocol):
    """Learns by gradient: one optimiser for each group, one or more phases a step."""

    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """Torch parameter groups by name; a group may set ``lr_scale``, ``weight_decay``, ``betas`` of its own.

        A group without betas of its own may set ``beta_power``, which the plan's are raised to.
        """

    def phases(self) -> list[Phase]:
        """The moves of one training step, in order."""


@dataclass(frozen=True)
class Stage:
    """One part of a model that learns in stages: ``part`` learns from ``view`` of the examples of ``split``.

    It has this ``share`` of the budget, and ``rate`` times the plan's learning rate: parts of other families have theirs.
    """

    name: str
    part: Model
    view: Callable[[Batch], Batch]
    share: float
    split: Literal["train", "validation"] = "train"
    rate: float = 1.0


@runtime_checkable
class Validates(Protocol):
    """Is looked at while it trains by a figure of its own: where a likelihood would cost too much, or there is none.

    ``validation_unit`` says what the figure is a mean of.
    """

    validation_unit: ClassVar[str]

    def validate(self, batch: Batch, noise: Noise) -> Losses:
        """A mean over held-out items, lower is better; item i is given the same noise at every look.

        Its named parts stand beside it in the log.
        """


@runtime_checkable
class Compares(Validates, Protocol):
    """Is looked at by comparing all held-out items with as many of its own: both are made small first, part by part."""

    def compared(self, batch: Batch, noise: Noise) -> tuple[Tensor, Tensor]:
        """These held-out items, and as many made of this noise, as points ``[batch, number]``."""

    def comparison(self, real: Tensor, made: Tensor) -> Losses:
        """What `validate` says, of the points of all parts."""


@runtime_checkable
class Learns(Protocol):
    """Learns in stages, one after the other."""

    def stages(self) -> list[Stage]:
        """The stages in order; their shares of the budget add up to 1."""


@runtime_checkable
class Adopts(Protocol):
    """Can begin with the weights of a model of another family; ``starts_from`` names those families."""

    starts_from: ClassVar[frozenset[str]]

    def adopt(self, other: Model) -> None:
        """Take over what ``other`` has learned, and leave it as it is."""


@runtime_checkable
class Spells(Protocol):
    """Learns better when it is told what its symbols look like."""

    def spell(self, strings: list[str]) -> None:
        """``strings[i]`` is symbol i as a reader sees it."""


# ---- abilities -------------------------------------------------------------------------------------------------------


@runtime_checkable
class Scores(Protocol):
    """Says how probable an item is; ``likelihood`` says in what sense."""

    def log_prob(self, batch: Batch) -> Tensor:
        """Natural-log probability (or density) of each item's scored part, ``[batch]``, in the form's own tensors."""


@runtime_checkable
class ScoresSymbols(Scores, Protocol):
    """Says how probable each symbol is, given what stands before it."""

    def symbol_log_prob(self, batch: Batch) -> Tensor:
        """Nats of each symbol of ``batch.x``, ``[batch, time]``; zero where ``batch.mask`` is False.

        Its row sums are ``log_prob``. ``batch.context`` is read; without it the model reads ``form.begin``.
        """


@runtime_checkable
class Predicts(ScoresSymbols, Protocol):
    """Says what comes next: everything in ``sampling.decoding`` works for it.

    ``reach`` is how many symbols before the next one the model can use (an n-gram's order - 1, a transformer's context).
    Symbols given to ``logits`` and ``step`` may be ``form.begin``, which stands before the first one.
    """

    @property
    def reach(self) -> int:
        """How many symbols before the next one are used."""
        ...

    def logits(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """Unnormalised log-odds ``[batch, time, vocabulary]``; row t is of the symbol after ``tokens[:, : t + 1]``."""

    def start(self, n: int, condition: Tensor | None = None) -> Any:
        """The state before anything was read, for ``n`` items."""

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read ``tokens`` (long ``[batch, k]``); return the log-odds ``[batch, vocabulary]`` of what comes next, and the
        new state. Equal to ``logits`` of everything read so far, at its last row.

        The given ``state`` is used up: its memory may be part of the new one. A caller that needs it again makes a
        ``copy.deepcopy`` of it first; one that goes on with some items, or some of them twice, such as a beam search, asks
        ``sampling.states.reordered``, which reads states whose tensors have the items in front (see `Reorders`).
        """


@runtime_checkable
class Reorders(Predicts, Protocol):
    """Predicts with a state whose items only the family can find, since they are not in front of every tensor."""

    def reorder(self, state: Any, rows: Tensor) -> Any:
        """The state of the items ``rows`` (long ``[m]``; an item may be left out, or taken several times).

        The given ``state`` is used up, as in ``step``.
        """


@runtime_checkable
class Decodes(Protocol):
    """Has a latent space."""

    @property
    def latents(self) -> dict[str, tuple[int, ...]]:
        """The spaces and the shape of one code in each, such as ``{"z": (16,)}``."""

    def prior(self, n: int, noise: Noise) -> Tensor:
        """``n`` codes from the prior, in the space "z"."""

    def decode(
        self,
        z: Tensor,
        space: str = "z",
        options: AnySettings | None = None,
        noise: Noise | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """The items that these codes stand for; without ``noise`` the most typical ones."""


@runtime_checkable
class Encodes(Decodes, Protocol):
    """Has a latent space, and finds the code of an item."""

    def encode(self, x: Tensor, space: str = "z", condition: Tensor | None = None) -> Tensor:
        """The code of each item."""


@runtime_checkable
class Expects(Decodes, Protocol):
    """Decodes without rounding, so that a search for the code of a given item can follow the slope."""

    def expected(self, z: Tensor, space: str = "z", condition: Tensor | None = None) -> Tensor:
        """What is expected of the item of each code, as ``layers.grids.read`` gives items: differentiable in ``z``.

        It is asked of models of a `Grid` alone: levels in [-1, 1], symbols without order as their probabilities.
        """


@runtime_checkable
class Lifts(Decodes, Protocol):
    """Has spaces between "z" and the item, whose codes are made of those of "z": in them too can be drawn and searched."""

    def lift(self, z: Tensor, space: str, condition: Tensor | None = None) -> Tensor:
        """The codes in ``space`` that stand for the same items as these of "z"."""


@runtime_checkable
class Directs(Lifts, Protocol):
    """Knows from its weights alone in which directions of a space its items change most."""

    def directions(self, count: int, space: str) -> Tensor:
        """At most ``count`` unit vectors ``[direction, *latents[space]]``, those that matter most first."""


@runtime_checkable
class Fills(Protocol):
    """Completes what is missing."""

    def fill(self, x: Tensor, mask: Tensor, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """``x`` with everything redrawn where ``mask`` is False."""


@runtime_checkable
class Translates(Protocol):
    """Turns what is of one kind into what is of another: pictures of A into pictures of B."""

    def translate(self, x: Tensor, to: str, options: AnySettings, noise: Noise) -> Tensor:
        """``x`` ``[batch, channel, height, width]`` of any size as the kind ``to``, "b" or "a"; item i uses row i of draws.

        Raises `UsageError` for a direction that was not learned.
        """


@runtime_checkable
class FillsSymbols(Fills, Protocol):
    """Says what may stand at a masked place, given all the others."""

    def odds(self, x: Tensor, masked: Tensor, asked: Tensor) -> Tensor:
        """Log-odds ``[asked, vocabulary]`` of the places where ``asked``, in order; what is ``masked`` is not read.

        All three are ``[batch, time]``: symbols, and two bool masks.
        """


@runtime_checkable
class Embeds(Protocol):
    """Turns an item into one vector, near to those of items that mean the same."""

    def embed(self, batch: Batch) -> Tensor:
        """Float ``[batch, features]``; padding and what ``batch.mask`` leaves out have no part in it."""


@runtime_checkable
class Hides(Protocol):
    """Explains each place of an item by one of a few hidden states."""

    def states(self, batch: Batch) -> Tensor:
        """The most probable path of hidden states (Viterbi), long ``[batch, time]``; 0 where ``batch.mask`` is False."""

    def posterior(self, batch: Batch) -> Tensor:
        """The probability of each state at each place given the whole item, ``[batch, time, state]``."""


@runtime_checkable
class Discriminates(Protocol):
    """Tells what something is: a law of the target alone, given the condition."""

    def tell(self, condition: Tensor) -> Tensor:
        """Float64 ``[batch, class]``, the probability of each class; or ``[batch, 2]``, mean and deviation of a number."""


@dataclass(frozen=True)
class Step:
    """One step between noise and artifact.

    Attributes:
        name: what happened, in a few words of the field.
        x: the item as far as it is made, ``[1, ...]`` in the form's tensor; None while there is none.
        note: one sentence for a newcomer.
        data: named tensors to draw: odds, attention, latent codes, hidden paths.
    """

    name: str
    x: Tensor | None = None
    note: str = ""
    data: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Display:
    """How items are drawn that a person is to look at: the options, and what they change, in a sentence."""

    options: AnySettings
    words: str = ""


@runtime_checkable
class Displays(Protocol):
    """Is looked at otherwise than it draws: a picture whose every pixel is drawn by itself shows mostly noise."""

    def display(self, options: AnySettings) -> Display:
        """How to draw for a person's eyes who asked for ``options``."""


@runtime_checkable
class Explains(Protocol):
    """Shows what happens between noise and artifact."""

    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """The steps of one sample; ``len(noise) == 1``. The last step's ``x`` equals ``sample`` with the same noise."""


def abilities(model: Model | type[Model]) -> list[str]:
    """The names of what a model (or a family) can do."""
    owner = model if isinstance(model, type) else type(model)
    methods = {
        "scores": "log_prob",
        "predicts": "step",
        "decodes": "decode",
        "encodes": "encode",
        "fills": "fill",
        "translates": "translate",
        "embeds": "embed",
        "discriminates": "tell",
        "hides": "states",
        "explains": "trace",
    }
    return [name for name, method in methods.items() if callable(getattr(owner, method, None))]


def display_of(model: Model, **options: Any) -> Display:
    """How ``model`` draws what a person is to look at: previews, pages, pictures of the latent space.

    Nothing that is measured, audited or checked is drawn so: that follows the model's own law.
    """
    chosen = model.Sampling.of(options)
    return model.display(chosen) if isinstance(model, Displays) else Display(chosen)


def check_space(model: Decodes, space: str) -> None:
    """Raise `UsageError`, naming those that there are, unless the model has a latent space of this name."""
    if space not in model.latents:
        raise UsageError(f"no latent space is called {space!r}", f"this model has {', '.join(model.latents)}")


def picture_given(model: Model, condition: Tensor | None, n: int) -> Tensor:
    """The pictures that ``n`` items are to be made of, checked: a model that turns pictures has none to begin with."""
    if condition is None:
        raise UsageError(
            f"no picture for {type(model).__name__}, which turns pictures into others",
            "one picture for each item",
            "Use 'pieria translate RUN FILE'",
        )
    assert model.condition is not None
    check(model.condition, condition, "the condition")
    if len(condition) != n:
        raise UsageError(f"{len(condition)} pictures for {n} items", "one picture for each item")
    return condition


def device_of(model: nn.Module) -> torch.device:
    """Where the numbers of a model are; the processor for one that has none."""
    return next((tensor.device for tensor in [*model.parameters(), *model.buffers()]), torch.device("cpu"))


def learned_numbers(model: Model) -> tuple[int, str]:
    """How many numbers were learned, and how: by gradient, or in the tables of a family that counts or is estimated.

    A part of a model that has no parameters adds its tables: their real numbers, or where there are none (counts) all.
    """
    whole = sum(p.numel() for p in model.parameters())
    parts = [part for part in model.modules() if isinstance(part, Model) and not any(True for _ in part.parameters())]
    tables = {id(b): b for part in parts for b in part.buffers()}
    real = sum(b.numel() for b in tables.values() if b.is_floating_point())
    counted = [part for part in parts if not any(b.is_floating_point() for b in part.buffers())]
    real += sum(b.numel() for b in {id(b): b for part in counted for b in part.buffers()}.values())
    how = ["learned by gradient"] if whole else []
    return whole + real, " and ".join([*how, *(["numbers in tables that were estimated or counted"] if real else [])])
