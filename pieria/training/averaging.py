"""The running average of the weights: often better than the weights of any single step.

Polyak & Juditsky 1992; as an exponential average with a decay that starts small, so that the first random weights are
soon forgotten: ``average += (1 - d) (weights - average)`` with ``d = min(decay, (1 + step) / (10 + step))``.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The running average of a model's parameters; its buffers are used as they are."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()} if decay else {}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after ``step``."""
        if not self.weights:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = dict(self.model.named_parameters())
        torch._foreach_lerp_(list(self.weights.values()), [parameters[name].detach() for name in self.weights], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the averaged weights (nothing happens without an average)."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def settle(self) -> None:
        """Make the averaged weights the model's own, for good."""
        self._swap()
        self.weights = {}

    def _swap(self) -> None:
        parameters: dict[str, Tensor] = dict(self.model.named_parameters())
        for name, average in self.weights.items():
            self.weights[name], parameters[name].data = parameters[name].data, average
