"""The class of an item as a network reads it, and the law by which classes are drawn when none is asked for."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pieria.data.batch import Batch, check
from pieria.errors import UsageError
from pieria.forms import Form, Label
from pieria.noise import Noise


class Labels(nn.Module):
    """One-hot classes ``[batch, classes]`` (no columns without a condition) and how often each stood in training.

    Attributes:
        counts: items of each class in training, ``[classes]``; fitted state, ones before.
    """

    counts: Tensor

    def __init__(self, condition: Form | None) -> None:
        super().__init__()
        self.form = condition
        self.width = len(condition.classes) if isinstance(condition, Label) else 0
        self.register_buffer("counts", torch.ones(self.width))

    def fit(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Count the classes of the training items."""
        if self.form is None:
            return
        counts = torch.zeros(self.width)
        for batch in batches():
            if batch.condition is not None:
                counts += torch.bincount(batch.condition.cpu(), minlength=self.width)
        self.counts.copy_(counts)

    def chosen(self, condition: Tensor | None, noise: Noise | None, n: int) -> Tensor | None:
        """The classes asked for, checked; else drawn with ``noise`` as often as in training, or the most frequent one."""
        if self.form is None:
            if condition is not None:
                raise UsageError("a label was given", "this model learned without a condition", "Leave the label out")
            return None
        if condition is None:
            odds = self.counts.log().cpu().double()
            drawn = odds.expand(n, -1) if noise is None else odds + noise.gumbel("label", (self.width,)).cpu()
            return drawn.argmax(dim=1).to(self.counts.device)
        condition = condition.to(self.counts.device)
        check(self.form, condition, "the condition")
        if len(condition) != n:
            raise UsageError(f"{len(condition)} labels for {n} items", "one label for each item")
        return condition

    def required(self, condition: Tensor | None, n: int) -> Tensor | None:
        """The classes of given items; a model with a condition cannot score or encode without them."""
        if self.form is not None and condition is None:
            raise UsageError(
                "items without their labels", "this model learned with a condition", "Give the label of each item"
            )
        return self.chosen(condition, None, n)

    def forward(self, labels: Tensor | None, n: int) -> Tensor:
        """Long ``[batch]`` or None as float ``[n, classes]``; with no condition, no columns."""
        if labels is None:
            return self.counts.new_zeros(n, 0)
        return F.one_hot(labels, self.width).to(self.counts.dtype)
