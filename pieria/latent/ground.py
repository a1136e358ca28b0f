"""What every verb of the latent space stands on: items and their codes, what is decoded, sheets and films."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pieria.errors import UsageError
from pieria.forms import Label
from pieria.latent import pictures
from pieria.latent.directions import Directions
from pieria.latent.distances import apart
from pieria.latent.items import Finder, Item
from pieria.latent.space import Progress, Space, silent
from pieria.latent.view import View, codes_table, table, written
from pieria.modalities.contract import Artifact, Modality
from pieria.models.contract import Model, display_of
from pieria.noise import ItemNoise

if TYPE_CHECKING:
    from pieria.modalities.opening import Dataset

RATE = 25  # pictures a second of a film
BASES = 8  # codes at which it is measured how much a coordinate matters; fewer in very large spaces
ENCODED, SEARCHED = 2000, 200  # items of a map, and of the mean of a class, if not told: with an encoder, without one


class Ground:
    """A latent space with the data beside it."""

    def __init__(
        self,
        model: Model,
        modality: Modality,
        dataset: "Callable[[], Dataset]",
        said: dict[str, str],
        *,
        space: str = "z",
        progress: Progress = silent,
    ) -> None:
        self.space, self.modality, self.dataset, self.said = Space(model, space, progress), modality, dataset, said

    def _finder(self, split: str) -> Finder:
        return Finder(self.space, self.modality, self.dataset, split)

    def _items(self, named: Sequence[Any], split: str, truncation: float) -> list[Item]:
        find = self._finder(split)
        return [find(what, truncation) for what in named]

    def _x(self, item: Item, label: str | int | None = None) -> Tensor:
        if item.x is not None:
            return item.x
        assert item.code is not None
        return self.space.decode(item.code, self.space.labels([item.label], label))

    def _artifact(self, item: Item) -> Artifact:
        return self.modality.decode(self._x(item))[0]

    def _decoded(self, codes: Tensor, labels: Tensor | None) -> list[Artifact]:
        return list(self.modality.decode(self.space.decode(codes, labels)))

    def _for_all(self, n: int, label: str | int | None) -> Tensor | None:
        one = self.space.labels([None], label)
        return None if one is None else one.expand(n)

    def _under(self, labels: Tensor | None) -> list[str]:
        form = self.space.model.condition
        if not isinstance(form, Label):
            return []
        chosen = "the class that the model takes if none is named" if labels is None else repr(form.classes[int(labels[0])])
        return [f"Decoded under {chosen}; another one: --label, of {', '.join(form.classes[:10])}."]

    def _found_by(self, items: Sequence[Item]) -> list[str]:
        if self.space.encodes or all(item.x is None for item in items):
            return []
        return ["The model does not encode: the codes of given items were searched for, and decode to the nearest found."]

    def _mean(self, what: str | Sequence[Any] | None, count: int | None, split: str, seed: int) -> tuple[Tensor, str]:
        """The mean code of a class, of a list of items, or of the training items, and what it is of, in words."""
        finder = self._finder(split)
        many = count or (ENCODED if self.space.encodes else SEARCHED)
        if what is None or (isinstance(what, str) and what in finder.classes()):
            x, known, _ = finder.some("train", many, what)
            codes = self.space.codes(x, self.space.labels(known), seed=seed)
            of = "training items" if what is None else repr(what)
            return codes.mean(dim=0), f"the mean of {len(x):,} {of}"
        # a word that is no class of data with classes is a mistyped one, unless it names items
        listed = what.split(",") if isinstance(what, str) else list(what)
        if isinstance(what, str) and not any(":" in word or word.isdigit() or Path(word).exists() for word in listed):
            finder.some("train", 1, what)
        items = self._items(listed, split, 1.0)
        if not items:
            raise UsageError("an empty list of items", "a class, or at least one item")
        codes, _ = finder.codes(items, seed)
        return codes.mean(dim=0), items[0].name if len(items) == 1 else f"the mean of {len(items)} items"

    def _change(self, ways: Directions, labels: Tensor | None, reach: float, seed: int) -> Tensor:
        """How much the item changes from end to end of each direction, a mean over codes of the prior, ``[direction]``."""
        space = self.space
        count = max(1, min(BASES, 1024 // space.size))
        bases, ends = space.draw(count, seed), space.centre.new_tensor([-reach, reach])
        change = torch.zeros(len(ways.along), dtype=torch.float64)
        chunk = 16
        for start in range(0, len(change), chunk):
            places = range(start, min(start + chunk, len(change)))
            codes = torch.stack([ways.at(bases, space.centre, place, ends) for place in places])
            first, last = (codes[:, :, end].flatten(0, 1) for end in range(2))
            under = None if labels is None else labels[:1].expand(len(first))
            moved = apart(space.model.form, space.decode(first, under), space.decode(last, under))
            change[start : start + len(places)] = moved.reshape(len(places), count).mean(dim=1)
            space.progress("measuring directions", start + len(places), len(change))
        return change

    def _samples(self, n: int, seed: int, label: str | int | None, truncation: float) -> Tensor:
        """``n`` samples as a person is shown them; truncated ones are decoded from truncated codes."""
        form, space = self.space.model.condition, self.space
        if isinstance(form, Label) and label is None:
            labels: Tensor | None = torch.arange(n, device=space.device) % len(form.classes)
        else:
            labels = self._for_all(n, label)
        if truncation != 1:
            return space.decode(space.draw(n, seed, truncation=truncation), labels)
        with torch.no_grad():
            return space.model.sample(n, display_of(space.model).options, ItemNoise(seed, n), labels).cpu()

    def _said(self, seed: int) -> dict[str, str]:
        return {**self.said, "seed": str(seed)}

    def _sheet(
        self,
        view: View,
        grid: Sequence[Sequence[Artifact]],
        sides: Sequence[str],
        heads: Sequence[str],
        after: Sequence[int],
        out: str | Path | None,
        seed: int,
        items: Sequence[Artifact] | None = None,
    ) -> View:
        """The view with its sheet of pictures (or the modality's own files of other artifacts) and its table."""
        said = self._said(seed)
        if pictures.is_picture(view.artifacts[0]):
            view.parts[f"{view.verb}.png"] = lambda: pictures.png(
                pictures.tiled(grid, sides=sides, heads=heads, after=after), said
            )
        else:
            view.parts |= written(self.modality, view.artifacts if items is None else items, said)
        view.parts[f"{view.verb}.csv"] = lambda: table(view.rows)
        return done(view, out)

    def _film(
        self,
        view: View,
        strip: Sequence[Artifact],
        after: Sequence[int],
        along: Callable[[int], tuple[Tensor, Tensor | None]],
        frames: int,
        *,
        back: bool,
        mp4: bool,
        out: str | Path | None,
        seed: int,
    ) -> View:
        """The view with its strip, its film and its table of codes."""
        said = self._said(seed)
        if pictures.is_picture(view.artifacts[0]):
            heads = ["given", *[""] * (len(strip) - 2), "given"] if after else []
            view.parts[f"{view.verb}.png"] = lambda: pictures.png(pictures.tiled([strip], heads=heads, after=after), said)
            reel = Reel(lambda: self._decoded(*along(frames)), back)
            view.parts[f"{view.verb}.gif"] = lambda: pictures.gif(reel.frames, said, RATE)
            if mp4 or (out is not None and Path(out).suffix.lower() == ".mp4"):
                view.parts[f"{view.verb}.mp4"] = lambda: pictures.mp4(reel.frames, RATE)
        else:
            if mp4:
                raise UsageError(f"a film of {self.modality.name} data", "pictures", "Leave --mp4 out")
            view.parts |= written(self.modality, view.artifacts, said)
        names = [str(place) for place in range(len(view.codes))]
        view.parts["codes.csv"] = lambda: codes_table(names, view.codes)
        return done(view, out)


class Reel:
    """The frames of a film, decoded when they are first asked for; there and ``back`` where the ends differ."""

    def __init__(self, decoded: Callable[[], list[Artifact]], back: bool) -> None:
        self._decoded, self._back = decoded, back

    @cached_property
    def frames(self) -> list[Any]:
        """All of them, in order."""
        made = self._decoded()
        return [*made, *made[-2:0:-1]] if self._back else made


def in_rows(flat: Sequence[Artifact], columns: int) -> list[list[Artifact]]:
    """Artifacts in rows of so many."""
    return [list(flat[start : start + columns]) for start in range(0, len(flat), columns)]


def done(view: View, out: str | Path | None) -> View:
    """The view, written where it is wanted."""
    if out is not None:
        view.write(out)
    return view
