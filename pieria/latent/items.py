"""What a person names in a latent space: places in the data, files, seeds, artifacts at hand."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pieria.errors import DataError, UsageError, unknown
from pieria.forms import Label
from pieria.latent.space import Space
from pieria.modalities.contract import Modality

if TYPE_CHECKING:
    from pieria.modalities.opening import Dataset

PARTS = ("train", "validation", "test")
WANTED = "a place in the data (12, train:12), a file, or a seed (seed:7, seed:7:3)"


@dataclass(frozen=True)
class Item:
    """One item that was named.

    Attributes:
        name: how tables and pictures call it.
        x: ``[1, …]`` in the form's tensor; None for a seed, which is a code.
        code: ``[1, numbers]`` of a seed; None for the others, whose codes are found.
        label: its class, as a number, where it is known.
    """

    name: str
    x: Tensor | None = None
    code: Tensor | None = None
    label: int | None = None


class Finder:
    """Finds what a person names; the data are opened only when a place in them is named."""

    def __init__(self, space: Space, modality: Modality, dataset: "Callable[[], Dataset]", split: str = "test") -> None:
        if split not in PARTS:
            raise unknown("part", split, PARTS)
        self.space, self.modality, self.dataset, self.split = space, modality, dataset, split

    def __call__(self, what: Any, truncation: float = 1.0) -> Item:
        """The item that is named; `UsageError` for what names none."""
        if isinstance(what, Item):
            return what
        if isinstance(what, bool) or what is None:
            raise UsageError(f"{what!r} names no item", WANTED)
        if isinstance(what, Integral):
            return self.place(self.split, int(what))
        if not isinstance(what, str | Path):
            return Item("given", self.modality.encode([what]))
        text = str(what)
        if found := re.fullmatch(r"seed:(\d+)(?::(\d+))?", text):
            seed, item = int(found[1]), int(found[2] or 0)
            # a sample is of each class in turn
            form = self.space.model.condition
            label = item % len(form.classes) if isinstance(form, Label) else None
            return Item(text, code=self.space.draw(1, seed, first=item, truncation=truncation), label=label)
        found = re.fullmatch(rf"(?:({'|'.join(PARTS)}):)?(-?\d+)", text)
        if found and (found[1] or not Path(text).exists()):
            return self.place(found[1] or self.split, int(found[2]))
        return self._file(Path(text).expanduser())

    def place(self, part: str, place: int) -> Item:
        """The item at a place of a part of the data."""
        dataset = self.dataset()
        examples = dataset.examples(part)
        if not 0 <= place < len(examples):
            raise UsageError(f"place {place} of the {part} part", f"0 to {len(examples) - 1:,}")
        labels, classes = dataset.parts[part].labels, dataset.parts[part].classes
        label = None if labels is None else int(labels[place])
        said = f"{part}:{place}" + (f" ({classes[label]})" if label is not None else "")
        return Item(said, examples.batch([place]).x, label=label)

    def _file(self, path: Path) -> Item:
        if not path.exists():
            raise UsageError(f"{path} is no file and names no item", WANTED, "'pieria data NAME' says what a data set holds")
        collection = self.modality.read(path)
        if len(collection) != 1:
            raise DataError(
                f"{path} holds {len(collection):,} items", "one", "Name a file with one item, or a place in the data"
            )
        return Item(path.name, self.modality.examples(_bare(collection)).batch([0]).x)

    # ---- codes -------------------------------------------------------------------------------------------------------

    def codes(self, items: Sequence[Item], seed: int = 0, label: str | int | None = None) -> tuple[Tensor, Tensor | None]:
        """The code of each item ``[n, numbers]``, and the labels under which they stand, for a model that has them."""
        labels = self.space.labels([item.label for item in items], label)
        given = [place for place, item in enumerate(items) if item.x is not None]
        codes = torch.zeros(len(items), self.space.size, device=self.space.device)
        if given:
            x = torch.cat([x for item in items if (x := item.x) is not None])
            codes[given] = self.space.codes(x, None if labels is None else labels[given], seed=seed)
        for place, item in enumerate(items):
            if item.code is not None:
                codes[place] = item.code[0]
        return codes, labels

    def some(self, part: str, count: int, label: str | None = None) -> tuple[Tensor, list[int | None], list[int]]:
        """At most ``count`` items, spread evenly over a part or over one class of it; their labels, their places."""
        from pieria.evaluation.comparison import spread

        dataset = self.dataset()
        examples = dataset.examples(part)
        labels, classes = dataset.parts[part].labels, dataset.parts[part].classes
        if label is None:
            places = spread(len(examples), count)
        else:
            if labels is None:
                raise UsageError(f"{label!r}: {dataset.name} has no labels", "a list of items", "Name items: --add 1,2,3")
            if label not in classes:
                raise unknown("class", label, classes)
            where = [place for place, found in enumerate(labels) if found == classes.index(label)]
            if not where:
                raise DataError(
                    f"the {part} part holds no item of the class {label!r}", "at least one", "Name another class"
                )
            places = torch.tensor(where)[spread(len(where), count)].numpy()
        known = [None if labels is None else int(labels[place]) for place in places]
        return examples.batch(places).x, known, [int(place) for place in places]

    def classes(self) -> tuple[str, ...]:
        """The names of the classes of the data; none where they have no labels."""
        train = self.dataset().parts["train"]
        return tuple(train.classes) if train.labels is not None else ()


def _bare(collection: Any) -> Any:
    """A collection without its labels, which a file of its own does not have."""
    from dataclasses import replace

    return replace(collection, labels=None, classes=())
