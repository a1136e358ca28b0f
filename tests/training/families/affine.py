"""A diagonal Gaussian learned by gradient, with dropout, so that every source of chance is used."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from pieria.forms import Row
from pieria.models.contract import Losses, Model, NoOptions, Phase
from pieria.settings import Field, Settings


class AffineSettings(Settings):
    """The density."""

    dropout: float = Field(0.0, ge=0, lt=1, description="share of the numbers left out in training")
    jitter: float = Field(0.0, ge=0, description="noise added to the items in training")
    break_at: int = Field(-1, description="the step whose loss is not a number")


class Affine(Model):
    """x = mean + scale · z."""

    Settings: ClassVar = AffineSettings
    Sampling: ClassVar = NoOptions
    consumes: ClassVar = frozenset({Row})
    likelihood: ClassVar = "exact"
    presets: ClassVar = {"tiny": {}}
    paper: ClassVar = ""

    def __init__(self, settings, form, condition=None):
        super().__init__(settings, form, condition)
        size = len(form.columns)
        self.mean = nn.Parameter(torch.randn(size) * 0.1)
        self.log_scale = nn.Parameter(torch.zeros(size))
        self.register_buffer("played", torch.zeros((), dtype=torch.int64))

    def log_prob(self, batch):
        z = (batch.x - self.mean) / self.log_scale.exp()
        return (-0.5 * z * z - self.log_scale - 0.5 * math.log(2 * math.pi)).sum(dim=1)

    def groups(self):
        return {"all": [{"params": [self.mean]}, {"params": [self.log_scale], "lr_scale": 0.5, "weight_decay": 0.0}]}

    def phases(self):
        return [Phase("density", "all", self.density, after=self.count)]

    def count(self):
        self.played += 1

    def density(self, batch, noise):
        x = nn.functional.dropout(batch.x, self.settings.dropout, self.training)
        x = x + self.settings.jitter * noise.normal("jitter", x.shape[1:])
        loss = -self.log_prob(batch.with_x(x)).mean()
        if int(self.played) == self.settings.break_at:
            loss = loss * math.nan
        return Losses(loss, {"scale": self.log_scale.detach().mean()}, count=len(batch))

    def sample(self, n, options, noise, condition=None) -> Tensor:
        return (self.mean + self.log_scale.exp() * noise.normal("z", self.mean.shape)).detach()


MODEL = Affine
