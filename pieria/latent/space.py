"""One latent space of one model: its codes drawn, decoded, and found for given items. Codes are flat, ``[n, numbers]``."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from pieria import registry
from pieria.errors import UsageError, unknown
from pieria.forms import Label, Tokens
from pieria.models.contract import Decodes, Encodes, Lifts, Model, device_of
from pieria.noise import ItemNoise

AT_ONCE = 128  # items decoded together
DRAWS, NUMBERS = 4096, 2**23  # codes that the prior's mean and spread are told by, and numbers that these may have in all

Progress = Callable[[str, int, int], None]  # what is being done, how much of it, of how much


def silent(what: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""
    del what, done, total


class Space:
    """A latent space.

    Attributes:
        model: whose it is.
        name: one of ``model.latents``.
        shape, size: of one code; ``size`` numbers in all.
        encodes: whether the model finds codes by itself; else they are searched for.
        drawn: whether codes of this space can be drawn: those of "z", and those that the model makes of them.

    Raises `UsageError` for a model without a latent space (naming families that have one), for a space that it does not
    have, and for codes that are symbols, between which nothing lies.
    """

    def __init__(self, model: Model, name: str = "z", progress: Progress = silent) -> None:
        if not isinstance(model, Decodes):
            having = [family.name for family in registry.families() if "decodes" in family.abilities]
            raise UsageError(
                f"{registry.name_of(type(model))} has no latent space",
                f"a family that has one: {', '.join(having)}",
                "Fit one of them to the same data",
            )
        if isinstance(model.condition, Tokens):
            raise UsageError("a model that answers to prompts", "a model without a condition, or with labels")
        if name not in model.latents:
            raise unknown("latent space", name, model.latents)
        self.model, self.decoder, self.name, self.progress = model, model, name, progress
        self.shape = tuple(model.latents[name])
        self.size = math.prod(self.shape)
        self.device = device_of(model)
        self.encodes, self.drawn = isinstance(model, Encodes), name == "z" or isinstance(model, Lifts)
        with torch.no_grad():
            code = model.prior(1, ItemNoise(0, 1))
            if not self.drawn and isinstance(model, Encodes):  # what codes of this space are, an item has to say
                label = torch.zeros(1, dtype=torch.int64, device=self.device) if model.condition is not None else None
                code = model.encode(model.decode(code, condition=label), name, label)
        if not code.is_floating_point():
            cure = "Between symbols there is no path" + ("" if name == "z" else ": leave --space out")
            raise UsageError("codes that are symbols", "codes that are numbers", cure)

    # ---- the prior ---------------------------------------------------------------------------------------------------

    def draw(self, n: int, seed: int, *, first: int = 0, truncation: float = 1.0) -> Tensor:
        """``n`` codes of the prior; ``truncation`` below 1 moves them towards its mean (all of them to it at 0).

        Code i is that of item ``first + i`` of a sample with this seed, at temperature 1.
        """
        if not self.drawn:
            raise UsageError(f"codes of the space {self.name!r} are not drawn", "the space 'z'", "Leave --space out")
        if not 0 <= truncation <= 2:
            raise UsageError(f"truncation {truncation:g}", "0 (the mean of all codes) to 1 (as they are drawn), at most 2")
        codes = self._prior(n, ItemNoise(seed, n, first=first))
        return codes if truncation == 1 else self.centre + truncation * (codes - self.centre)

    def _prior(self, n: int, noise: ItemNoise) -> Tensor:
        with torch.no_grad():
            codes = self.decoder.prior(n, noise)
            return (codes if self.name == "z" else self._lifted(codes)).flatten(1)

    def _lifted(self, codes: Tensor) -> Tensor:
        assert isinstance(self.model, Lifts)
        return self.model.lift(codes, self.name)

    @cached_property
    def _measured(self) -> tuple[Tensor, Tensor]:
        if not self.drawn:
            raise UsageError(
                f"the space {self.name!r} has no prior, and so no centre",
                "the space 'z', or a straight path",
                "Use --path linear",
            )
        draws = max(256, min(DRAWS, NUMBERS // self.size))
        codes = self._prior(draws, ItemNoise(0, draws))
        centre, spread = codes.mean(dim=0), codes.std(dim=0)
        # what cannot be told from 0 and 1 by so many draws is taken for them: most priors are standard
        error = spread / math.sqrt(draws)
        centre = torch.where(centre.abs() < 5 * error, torch.zeros_like(centre), centre)
        spread = torch.where((spread - 1).abs() < 5 / math.sqrt(2 * draws), torch.ones_like(spread), spread)
        return centre, spread.clamp(min=1e-6)

    @property
    def centre(self) -> Tensor:
        """The mean of the prior, ``[numbers]``."""
        return self._measured[0]

    @property
    def spread(self) -> Tensor:
        """The standard deviation of each number under the prior, ``[numbers]``."""
        return self._measured[1]

    # ---- codes and items ---------------------------------------------------------------------------------------------

    def shaped(self, codes: Tensor) -> Tensor:
        """Flat codes in the shape that the model reads."""
        return codes.reshape(len(codes), *self.shape)

    def decode(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """The most typical item of each code, on the processor, in the form's tensor; ``labels`` one a code."""
        parts = []
        with torch.no_grad():
            for start in range(0, len(codes), AT_ONCE):
                part = slice(start, start + AT_ONCE)
                given = None if labels is None else labels[part]
                parts.append(self.decoder.decode(self.shaped(codes[part]), self.name, condition=given).cpu())
        return torch.cat(parts)

    def encode(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """The code that the model's encoder gives to each item."""
        assert isinstance(self.model, Encodes)
        parts = []
        with torch.no_grad():
            for start in range(0, len(x), AT_ONCE):
                part = slice(start, start + AT_ONCE)
                given = None if labels is None else labels[part]
                parts.append(self.model.encode(x[part].to(self.device), self.name, given).flatten(1))
                self.progress("encoding", min(start + AT_ONCE, len(x)), len(x))
        return torch.cat(parts)

    def codes(self, x: Tensor, labels: Tensor | None = None, *, seed: int = 0, steps: int = 150) -> Tensor:
        """The code of each item: the encoder's where there is one, else by a search of so many steps."""
        if self.encodes:
            return self.encode(x, labels)
        from pieria.latent.searching import PULL, search

        return search(self, x, labels, steps=steps, pull=PULL, seed=seed)

    def labels(self, wanted: Sequence[int | None], asked: str | int | None = None) -> Tensor | None:
        """One label a code for a model that learned with them: ``asked`` for all, or else each item's own.

        Where an item has none, the first of the others' is taken, and for none at all the model's own choice.
        """
        form = self.model.condition
        if not isinstance(form, Label):
            if asked is not None:
                raise UsageError(f"label {asked!r} for a model without classes", "no label", "Fit with --condition label")
            return None
        if asked is not None:
            return torch.full((len(wanted),), self.label(asked), device=self.device)
        known = next((label for label in wanted if label is not None), None)
        if known is None:
            return None
        return torch.tensor([known if label is None else label for label in wanted], device=self.device)

    def label(self, asked: str | int) -> int:
        """The number of a class, by its name or its number."""
        form = self.model.condition
        assert isinstance(form, Label)
        if str(asked) in form.classes:
            return form.classes.index(str(asked))
        if str(asked).isdigit() and int(asked) < len(form.classes):
            return int(asked)
        raise unknown("class", str(asked), form.classes)
