"""A family on one case: trained once, then asked many questions."""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pieria import registry
from pieria.data.batch import Batch
from pieria.data.examples import Examples
from pieria.forms import Form
from pieria.models.contract import Estimates, Model, Scores
from pieria.noise import ItemNoise
from pieria.settings import Settings
from pieria.testing.cases import CASES, Case, case
from pieria.training.loop import learn
from pieria.training.plan import Plan

# what a gradient family may use: enough for these forms, at a rate that suits a small network (a preset's own goes first)
STEPS = {"exact": 600, "bound": 1000, "estimate": 1000, "pseudo": 1000, "none": 1000}
USUAL = {"rate": 4e-3, "warmup": 20}
FIXED = {"batch": 64, "evaluate_every": 0, "seed": 0, "device": "cpu"}


@dataclass(eq=False)
class Subject:
    """A family, a case, and (when first asked for) the model that learned it with the preset ``tiny``."""

    family: type[Model]
    case: Case

    def untrained(self, form: Form | None = None) -> Model:
        """A new model with the preset ``tiny``, for this form or another one."""
        mine, _ = preset(self.family, "tiny")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.family(self.family.Settings.of(mine), form or self.case.form, self.case.condition)

    def learned_from(self, train: Examples, steps: int | None = None, validation: Examples | None = None) -> Model:
        """A new model that learned from ``train``; the caller's random state is as it was."""
        _, training = preset(self.family, "tiny")
        budget = {"steps": steps or STEPS[self.family.likelihood]}
        plan = Plan.layered(self.family.training_defaults, USUAL, training, FIXED, budget)
        model = self.untrained()
        learn(model, train, validation, plan)
        return model.eval()

    @cached_property
    def likelihood(self) -> str:
        """What the likelihood is on this form: a family's is the weakest of those of its forms."""
        return self.untrained().likelihood

    @cached_property
    def model(self) -> Model:
        """The trained model. Do not change it."""
        return self.learned_from(self.case.train, validation=self.case.validation)

    @cached_property
    def options(self) -> Settings:
        """The options under which drawing follows the likelihood: the defaults; curves with the error of measurement."""
        options = self.model.Sampling.of({})
        return options.changed(noise=True) if "noise" in self.model.Sampling.model_fields else options

    def draw(
        self, n: int, seed: int = 0, *, model: Model | None = None, noise: ItemNoise | None = None, **options: Any
    ) -> Tensor:
        """``n`` items; labels, where the case has them, go round."""
        noise = noise or ItemNoise(seed, n)
        chosen = self.options.changed(**options) if options else self.options
        return (model or self.model).sample(n, chosen, noise, self.condition(noise))

    def condition(self, noise: ItemNoise) -> Tensor | None:
        """What these items are conditioned on: a label or a prompt by the item's number, or where a curve is wanted."""
        if self.case.where is not None:
            return self.case.where
        labels = self.case.labels(max(noise.items, default=0) + 1)
        return None if labels is None else labels[torch.tensor(noise.items)]

    def log_prob(self, batch: Batch, model: Model | None = None) -> Tensor:
        """The model's ``log_prob``, in parts, without gradients."""
        size, asked = 8192, model or self.model
        assert isinstance(asked, Scores)
        with torch.no_grad():
            parts = [asked.log_prob(batch.rows(slice(start, start + size))) for start in range(0, len(batch), size)]
        return torch.cat(parts)

    @cached_property
    def believed(self) -> Tensor:
        """What the model gives to each cell, float64."""
        return self.case.probabilities(self.log_prob(self.case.points))

    @cached_property
    def drawn(self) -> Tensor:
        """How many of 20,000 draws fell into each cell, float64."""
        count = 20_000
        x = self.draw(count, seed=1)
        cells = self.case.cells_of(x, self.case.labels(count))
        return torch.bincount(cells, minlength=len(self.case.truth)).double()

    @cached_property
    def folder(self) -> Path:
        """A place for files, removed with the subject."""
        path = Path(tempfile.mkdtemp(prefix="pieria-"))
        weakref.finalize(self, shutil.rmtree, path, ignore_errors=True)
        return path

    @property
    def estimates(self) -> bool:
        """It learns in closed form, so that steps do not matter."""
        return isinstance(self.model, Estimates)

    def some(self, n: int = 12) -> Batch:
        """A few training items, as a model meets them."""
        return self.case.train.batch(range(min(n, len(self.case.train))))


def preset(family: type[Model], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A preset's values: those of the family's settings, and those of the training loop."""
    values = family.presets[name]
    mine = {key: value for key, value in values.items() if key in family.Settings.model_fields}
    return mine, {key: value for key, value in values.items() if key not in mine}


def subjects(family: type[Model] | str, names: list[str] | None = None) -> Iterator[Subject]:
    """The family on every case whose form it consumes (labelled ones if it takes labels), or on those named."""
    kind = registry.find(family) if isinstance(family, str) else family
    for name in names or fitting(kind):
        yield Subject(kind, case(name))


def fitting(family: type[Model]) -> list[str]:
    """The names of the cases that fit a family."""
    return [
        name
        for name, (form, condition, _) in CASES.items()
        if form in family.consumes
        and (not family.requires_condition if condition is None else condition in family.conditions)
    ]


Check = Callable[[Subject], None]
