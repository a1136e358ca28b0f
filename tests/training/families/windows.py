"""A bigram table learned by gradient from a stream of symbols."""

from typing import ClassVar

import torch
from torch import nn

from pieria.forms import Tokens
from pieria.models.contract import Losses, Model, NoOptions, Phase


class Windows(Model):
    """The odds of a symbol given the one before it."""

    Settings: ClassVar = NoOptions
    Sampling: ClassVar = NoOptions
    consumes: ClassVar = frozenset({Tokens})
    likelihood: ClassVar = "exact"
    presets: ClassVar = {"tiny": {}}
    paper: ClassVar = ""

    def __init__(self, settings, form, condition=None):
        super().__init__(settings, form, condition)
        self.table = nn.Embedding(form.vocabulary + 1, form.vocabulary)

    def _nats(self, batch):
        begin = batch.x.new_full((len(batch), 1), self.form.begin)
        before = begin if batch.context is None else batch.context[:, -1:]
        odds = self.table(torch.cat([before, batch.x[:, :-1]], dim=1)).log_softmax(dim=-1)
        return odds.gather(2, batch.x[:, :, None])[:, :, 0]

    def log_prob(self, batch):
        return self._nats(batch).sum(dim=1)

    def groups(self):
        return {"all": [{"params": list(self.parameters())}]}

    def phases(self):
        return [Phase("next symbol", "all", self.loss)]

    def loss(self, batch, noise):
        return Losses(-self._nats(batch).mean(), count=batch.x.numel(), unit="symbols")

    def sample(self, n, options, noise, condition=None):
        return torch.zeros(n, self.form.length, dtype=torch.int64)


MODEL = Windows
