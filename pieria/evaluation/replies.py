"""Data of which only some stretches are learned, such as a chat's replies: each stretch as an item, and what led to it.

Whole conversations are not what such a model draws. It is compared by what it makes of the same beginnings: a reply of its
own beside the real one.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pieria.data.examples import Examples, ItemExamples
from pieria.evaluation.comparison import Drawn, spread
from pieria.forms import Tokens
from pieria.models.contract import Model, Predicts
from pieria.noise import ItemNoise
from pieria.sampling.decoding import Decoding, generate

LONGEST = 128  # symbols of a reply that are compared


@dataclass(frozen=True)
class Replies:
    """The learned stretches of some examples.

    Attributes:
        examples: each stretch as an item that ends with the form's end.
        rows, starts: of which item of the source each is, and where it begins there.
        source: the symbols of all items, ``[item, time]``.
        last: the symbol that most stretches end with.
    """

    examples: ItemExamples
    rows: np.ndarray
    starts: np.ndarray
    source: Tensor
    last: int

    def lead(self, place: int) -> Tensor:
        """What stands before a stretch, long ``[time]``."""
        return self.source[self.rows[place], : self.starts[place]].long()


def replies_of(examples: Examples) -> Replies | None:
    """The stretches that count, where what counts begins behind something that does not; None for other data."""
    form = examples.form
    if not isinstance(form, Tokens) or not isinstance(examples, ItemExamples) or examples.masks is None:
        return None
    counts = examples.masks.numpy()
    before = np.pad(counts[:, :-1], ((0, 0), (1, 0)))
    begins = counts & ~before
    if not begins[:, 1:].any():
        return None
    after = np.pad(counts[:, 1:], ((0, 0), (0, 1)))
    rows, starts = np.nonzero(begins)
    _, stops = np.nonzero(counts & ~after)
    x = examples.x
    end = form.vocabulary if form.end is None else form.end
    width = min(LONGEST, int((stops - starts).max()) + 1) + 1
    items = np.full((len(rows), width), end, dtype=np.int64)
    tokens = x.numpy()
    for place, (row, start, stop) in enumerate(zip(rows, starts, stops, strict=True)):
        reply = tokens[row, start : min(stop + 1, start + width - 1)]
        items[place, : len(reply)] = reply
    held = Tokens(max(form.vocabulary, end + 1), width, end)
    last = int(np.bincount(tokens[rows, stops]).argmax())
    return Replies(ItemExamples(held, torch.from_numpy(items)), rows, starts, x, last)


def answer(model: Model, lead: Tensor, width: int, last: int, noise: ItemNoise, options: Decoding | None = None) -> Tensor:
    """What the model goes on with after ``lead``, up to and with the symbol ``last``, long ``[at most width]``."""
    assert isinstance(model, Predicts)
    form = model.form
    assert isinstance(form, Tokens)
    room = width if form.end is None else min(width, form.length - len(lead))
    chosen = (options or Decoding()).changed(length=room)

    def over(made: Tensor) -> Tensor:
        return made[:, -1] == last

    made = generate(model, 1, chosen, noise, prompt=lead, stop=over)[0].cpu()
    ended = (made == last).nonzero()
    return made[: int(ended[0]) + 1] if len(ended) else made


def draw(model: Model, held: Replies, count: int, seed: int) -> tuple[Drawn, Tensor]:
    """A reply of the model's own to ``count`` held-out beginnings, spread evenly, and the real ones."""
    from time import perf_counter

    form = held.examples.form
    assert isinstance(form, Tokens)
    assert form.end is not None
    places = spread(len(held.examples), count)
    made = torch.full((len(places), form.length), form.end, dtype=torch.int64)
    begun = perf_counter()
    for row, place in enumerate(places.tolist()):
        said = answer(model, held.lead(place), form.length - 1, held.last, ItemNoise(seed, 1, first=row))
        made[row, : len(said)] = said
    return Drawn(made, perf_counter() - begun), held.examples.batch(places).x
