"""A diagonal Gaussian in closed form: an estimating family whose state has a learned size."""

import math
from typing import ClassVar

import torch

from pieria.forms import Row
from pieria.models.contract import Model, NoOptions


class Moments(Model):
    """Mean and variance of all that it sees, and the items themselves."""

    Settings: ClassVar = NoOptions
    Sampling: ClassVar = NoOptions
    consumes: ClassVar = frozenset({Row})
    likelihood: ClassVar = "exact"
    holds_data: ClassVar = True
    presets: ClassVar = {"tiny": {}}
    paper: ClassVar = ""

    def __init__(self, settings, form, condition=None):
        super().__init__(settings, form, condition)
        size = len(form.columns)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.register_buffer("seen", torch.empty(0, size))

    def estimate(self, batches):
        self.seen = torch.cat([batch.x for batch in batches()])
        self.mean, self.scale = self.seen.mean(dim=0), self.seen.std(dim=0)

    def log_prob(self, batch):
        z = (batch.x - self.mean) / self.scale
        return (-0.5 * z * z - self.scale.log() - 0.5 * math.log(2 * math.pi)).sum(dim=1)

    def sample(self, n, options, noise, condition=None):
        return self.mean + self.scale * noise.normal("z", self.mean.shape)


MODEL = Moments
