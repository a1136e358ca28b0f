"""The caption of an item as a network reads it: a small encoder of its words, and one vector for all of them."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from pieria.data.batch import Batch, check, mask_after_end
from pieria.errors import UsageError
from pieria.forms import Tokens
from pieria.layers.encoder import Encoder, Packing
from pieria.noise import Noise


class Captions(nn.Module):
    """Captions as vectors ``[batch, width]``, all zeros for none; in the place of `layers.labels.Labels`.

    A transformer of a few layers (Vaswani et al. 2017, arXiv 1706.03762), whose mean over the words is the vector. What is
    told of a picture by a handful of words fits into one; long descriptions would want a look at each word.
    """

    def __init__(self, form: Tokens, width: int = 128, layers: int = 2) -> None:
        super().__init__()
        self.form, self.width = form, width
        self.words = nn.Embedding(form.vocabulary, width)
        self.places = nn.Embedding(form.length, width)
        self.encoder = Encoder(layers, width, 4, 2 * width, norm_first=True)
        nn.init.normal_(self.places.weight, std=0.1)

    def fit(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Nothing is counted."""

    def chosen(self, condition: Tensor | None, noise: Noise | None, n: int) -> Tensor | None:
        """The captions asked for, checked; without any, items are drawn as the model draws when it is told nothing."""
        if condition is None:
            return None
        condition = condition.to(self.words.weight.device)
        check(self.form, condition, "the condition")
        if len(condition) != n:
            raise UsageError(f"{len(condition)} captions for {n} items", "one caption for each item")
        return condition

    def required(self, condition: Tensor | None, n: int) -> Tensor | None:
        """The captions of given items; a model with a condition cannot score or encode without them."""
        if condition is None:
            raise UsageError(
                "items without their captions", "this model learned with a condition", "Give the caption of each item"
            )
        return self.chosen(condition, None, n)

    def forward(self, captions: Tensor | None, n: int) -> Tensor:
        """Long ``[batch, word]`` or None as float ``[n, width]``."""
        if captions is None:
            return self.words.weight.new_zeros(n, self.width)
        captions = captions[:, : self.form.length]
        packing = Packing(n, captions.shape[1], mask_after_end(captions, self.form.end))
        places = self.places(packing.positions(captions.device))
        read = self.encoder(self.words(packing.packed(captions)) + places, packing)
        real = packing.padded(torch.ones_like(read[:, :1])).sum(dim=1)
        mean: Tensor = packing.padded(read).sum(dim=1) / real
        return mean
