"""Two stages: moments in closed form, then a density by gradient over the standardised items, with a fitted encoding."""

from typing import ClassVar

import torch

from pieria.models.contract import Model, NoOptions, Stage
from tests.training.families.affine import Affine
from tests.training.families.moments import Moments


class Prepared(Affine):
    """An affine density that looks at the data once before it learns."""

    presets: ClassVar = {"tiny": {}}

    def __init__(self, settings, form, condition=None):
        super().__init__(settings, form, condition)
        self.register_buffer("largest", torch.zeros(len(form.columns)))

    def prepare(self, batches):
        self.largest.copy_(torch.cat([batch.x for batch in batches()]).amax(dim=0))


class Staged(Model):
    """Standardise, then learn."""

    Settings: ClassVar = NoOptions
    Sampling: ClassVar = NoOptions
    consumes: ClassVar = Affine.consumes
    likelihood: ClassVar = "exact"
    presets: ClassVar = {"tiny": {}}
    paper: ClassVar = ""

    def __init__(self, settings, form, condition=None):
        super().__init__(settings, form, condition)
        self.first = Moments(NoOptions(), form)
        self.second = Prepared(Affine.Settings(dropout=0.1, jitter=0.1), form)

    def stages(self):
        return [
            Stage("moments", self.first, lambda batch: batch, 0.0),
            Stage("density", self.second, self.standardised, 1.0),
        ]

    def standardised(self, batch):
        return batch.with_x((batch.x - self.first.mean) / self.first.scale)

    def log_prob(self, batch):
        return self.second.log_prob(self.standardised(batch)) - self.first.scale.log().sum()

    def sample(self, n, options, noise, condition=None):
        return self.first.mean + self.first.scale * self.second.sample(n, options, noise)


MODEL = Staged
