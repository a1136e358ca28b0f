"""Which part of a model learns from what, in which order: a flat list of stages for every kind of family."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from pieria.data.batch import Batch
from pieria.data.examples import Examples, Fetches, StreamExamples
from pieria.data.lengths import ByLength, lengths_of
from pieria.data.order import Columns, Order, RandomWindows
from pieria.errors import TrainingError
from pieria.forms import Form
from pieria.models.contract import Learns, Model, Stage
from pieria.noise import Noise

View = Callable[[Batch], Batch]


@runtime_checkable
class Prepares(Protocol):
    """Has encodings to fit (kept in buffers) before its first training step."""

    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Look through the training data; ``batches()`` may be called several times."""


class Viewed(Examples):
    """Examples as one stage, or one purpose, sees them: another's, each batch changed by ``view``."""

    def __init__(self, source: Examples, view: View, form: Form, condition: Form | None) -> None:
        self.source, self.view, self.form, self.condition = source, view, form, condition

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, places: Sequence[int] | np.ndarray | Tensor, noise: Noise | None = None) -> Batch:
        """The items at these places, as they are seen."""
        return self.view(self.source.batch(places, noise))

    @property
    def fetches(self) -> bool:
        """Whether the source does."""
        return isinstance(self.source, Fetches) and self.source.fetches

    def ahead(self, places: np.ndarray) -> None:
        """Say which places will be asked for soon."""
        if isinstance(self.source, Fetches):
            self.source.ahead(places)

    def sweep(self, size: int, *, length: int | None = None, context: int = 0) -> Iterator[Batch]:
        """Everything once, as it is seen."""
        yield from map(self.view, self.source.sweep(size, length=length, context=context))

    def scored(self) -> int:
        """As many as the source's."""
        return self.source.scored()


def course(model: Model) -> list[Stage]:
    """The stages of a model in order, stages within stages laid out; one nameless stage for a family without any."""
    if not isinstance(model, Learns):
        split: Literal["train", "validation"] = getattr(model, "learns_from", "train")
        return [Stage("", model, _whole, 1.0, split)]
    flat = []
    for stage in model.stages():
        inner = course(stage.part)
        for part in inner:
            name = f"{stage.name}/{part.name}" if part.name else stage.name
            split = part.split if stage.split == "train" else stage.split
            view = _after(stage.view, part.view)
            flat.append(Stage(name, part.part, view, stage.share * part.share, split, stage.rate * part.rate))
    if not flat:
        raise TrainingError(f"{type(model).__name__} has no stages", "at least one")
    return flat


def chosen(stage: Stage, train: Examples, validation: Examples | None) -> tuple[Examples, Examples | None]:
    """What a stage learns from and what it is looked at with; one that learns from validation has nothing held out."""
    if stage.split == "validation":
        if validation is None:
            raise TrainingError(
                f"stage {stage.name or type(stage.part).__name__!r} learns from held-out data, and there is none",
                "a validation part",
                "Give more data, so that a part of it can be held out",
            )
        return _seen(validation, stage), None
    return _seen(train, stage), None if validation is None else _seen(validation, stage)


def order_of(
    examples: Examples, batch: int, seed: int, *, in_order: bool = False
) -> tuple[Order | RandomWindows | ByLength | Columns, float]:
    """In which order they are met, and how many items make an epoch; ``in_order`` reads a stream from left to right."""
    source = examples
    while isinstance(source, Viewed):
        source = source.source
    if isinstance(source, StreamExamples):
        windows = source.scored() / source.form.length
        if in_order and Columns.fit(len(source), batch, source.form.length):
            return Columns(len(source), batch, seed, source.form.length), windows
        return RandomWindows(len(source), batch, seed), windows
    lengths = lengths_of(source)
    if lengths is not None:
        return ByLength(lengths, batch, seed), float(len(source))
    return Order(len(source), batch, seed), float(len(source))


def _seen(examples: Examples, stage: Stage) -> Examples:
    if stage.view is _whole:
        return examples
    return Viewed(examples, stage.view, stage.part.form, stage.part.condition)


def _whole(batch: Batch) -> Batch:
    return batch


def _after(first: View, second: View) -> View:
    if first is _whole:
        return second
    if second is _whole:
        return first
    return lambda batch: second(first(batch))
