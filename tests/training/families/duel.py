"""A tiny adversarial game: two phases, and a lazy penalty that acts every fourth step."""

from typing import ClassVar

import torch
from torch import nn

from pieria.forms import Row
from pieria.models.contract import Losses, Model, NoOptions, Phase
from pieria.settings import Field, Settings


class DuelSettings(Settings):
    """The networks."""

    width: int = Field(8, ge=1, description="hidden features")


class Duel(Model):
    """A generator against a discriminator."""

    Settings: ClassVar = DuelSettings
    Sampling: ClassVar = NoOptions
    consumes: ClassVar = frozenset({Row})
    presets: ClassVar = {"tiny": {}}
    paper: ClassVar = ""

    def __init__(self, settings, form, condition=None):
        super().__init__(settings, form, condition)
        size = len(form.columns)
        self.make = nn.Sequential(nn.Linear(2, settings.width), nn.ReLU(), nn.Linear(settings.width, size))
        self.judge = nn.Sequential(nn.Linear(size, settings.width), nn.ReLU(), nn.Linear(settings.width, 1))
        self.register_buffer("penalties", torch.zeros((), dtype=torch.int64))
        self.seen_gradients: set[str] = set()

    def groups(self):
        return {
            "generator": [{"params": list(self.make.parameters()), "betas": (0.0, 0.99)}],
            "discriminator": [{"params": list(self.judge.parameters()), "weight_decay": 0.0}],
        }

    def phases(self):
        return [
            Phase("discriminator", "discriminator", self.judged),
            Phase("penalty", "discriminator", self.penalty, every=4, after=self.count),
            Phase("generator", "generator", self.made),
        ]

    def count(self):
        self.penalties += 1

    def judged(self, batch, noise):
        assert not any(p.requires_grad for p in self.make.parameters())
        made = self.make(noise.normal("z", (2,)))
        loss = nn.functional.softplus(-self.judge(batch.x)) + nn.functional.softplus(self.judge(made))
        return Losses(loss.mean(), count=len(batch))

    def penalty(self, batch, noise):
        x = batch.x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(self.judge(x).sum(), x, create_graph=True)
        return Losses(slope.square().sum(dim=1).mean(), count=len(batch))

    def made(self, batch, noise):
        assert not any(p.requires_grad for p in self.judge.parameters())
        made = self.make(noise.normal("z", (2,)))
        return Losses(nn.functional.softplus(-self.judge(made)).mean(), count=len(batch))

    def sample(self, n, options, noise, condition=None):
        return self.make(noise.normal("z", (2,))).detach()


MODEL = Duel
