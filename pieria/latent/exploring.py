"""``run.latent``: a map of the latent space, paths through it, directions in it, and the way back from an item to its code.

Every verb returns a `View`: what was decoded, its codes, a table, sentences, and with ``out`` the files that show it. Items
are named by their place in the data (``12`` in the split, ``"train:12"``), as a file, as a seed (``"seed:7"`` is the first
item of a sample with this seed, ``"seed:7:3"`` the fourth), or given as artifacts.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from pieria.errors import UsageError
from pieria.forms import Label
from pieria.latent import mapping, moving, pictures
from pieria.latent.distances import apart, unit
from pieria.latent.items import Finder, Item
from pieria.latent.neighbours import nearest
from pieria.latent.searching import search
from pieria.latent.space import Progress, Space, silent
from pieria.latent.view import View, codes_table, table, written
from pieria.modalities.contract import Artifact, Modality
from pieria.models.contract import Model, display_of
from pieria.noise import ItemNoise

if TYPE_CHECKING:
    from pieria.modalities.opening import Dataset

RATE = 25  # pictures a second of a film
SIDE = 11  # codes along each side of the decoded grid of a map
BASES = 8  # codes at which it is measured how much a coordinate matters; fewer in very large spaces
ENCODED, SEARCHED = 2000, 200  # items of a map, and of the mean of a class, if not told: with an encoder, without one


class Latent:
    """The latent space of a run. See the module for how items are named."""

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

    # ---- paths -------------------------------------------------------------------------------------------------------

    def interpolate(
        self,
        first: Any,
        second: Any,
        *,
        steps: int = 10,
        path: Literal["spherical", "linear"] = "spherical",
        frames: int = 60,
        split: str = "test",
        label: str | int | None = None,
        truncation: float = 1.0,
        seed: int = 0,
        mp4: bool = False,
        out: str | Path | None = None,
    ) -> View:
        """The way from one item to another: ``steps`` codes on a spherical or a linear path, both ends included.

        The film has ``frames`` and goes there and back. A conditional model keeps each half of the way under the label of
        its end, unless ``label`` names one for all.
        """
        if path not in ("spherical", "linear"):
            raise UsageError(f"a path called {path!r}", "spherical or linear")
        if steps < 2 or frames < 2:
            raise UsageError(f"{steps} steps and {frames} frames", "at least 2 of each")
        items = self._items((first, second), split, truncation)
        codes, labels = self._finder(split).codes(items, seed, label)

        def along(count: int) -> tuple[Tensor, Tensor | None]:
            ends = codes[0], codes[1]
            around = (self.space.centre, self.space.spread) if path == "spherical" else ()
            way = moving.spherical(*ends, count, *around) if around else moving.linear(*ends, count)
            return way, None if labels is None else labels[(torch.arange(count) * 2 >= count).long()]

        way, under = along(steps)
        shown = self._decoded(way, under)
        words = self._found_by(items)
        rows = [{"step": place, "share": place / (steps - 1)} for place in range(steps)]
        view = View("interpolate", shown, way, rows, words)
        strip = [self._artifact(items[0]), *shown, self._artifact(items[1])]
        return self._film(view, strip, (0, steps), along, frames, back=True, mp4=mp4, out=out, seed=seed)

    def walk(
        self,
        *,
        frames: int = 150,
        harmonics: int = 3,
        steps: int = 12,
        label: str | int | None = None,
        truncation: float = 1.0,
        seed: int = 0,
        mp4: bool = False,
        out: str | Path | None = None,
    ) -> View:
        """A smooth random walk that ends where it began; more ``harmonics`` turn more often.

        At every moment the code is distributed as the prior's own draws are (see `moving.loop`).
        """
        if min(frames, harmonics, steps) < 1:
            raise UsageError(f"{frames} frames, {harmonics} harmonics, {steps} steps", "at least 1 of each")
        draws = self.space.draw(2 * harmonics, seed, truncation=truncation)
        fixed = self.space.labels([None], label)

        def along(count: int) -> tuple[Tensor, Tensor | None]:
            way = moving.loop(draws, count, self.space.centre)
            return way, None if fixed is None else fixed.expand(count)

        way, under = along(steps)
        view = View("walk", self._decoded(way, under), way, [{"step": place} for place in range(steps)])
        return self._film(view, list(view.artifacts), (), along, frames, back=False, mp4=mp4, out=out, seed=seed)

    # ---- directions --------------------------------------------------------------------------------------------------

    def arithmetic(
        self,
        items: Sequence[Any],
        *,
        add: str | Sequence[Any],
        subtract: str | Sequence[Any] | None = None,
        strengths: Sequence[float] = (-1, -0.5, 0, 0.5, 1, 1.5),
        count: int | None = None,
        split: str = "test",
        truncation: float = 1.0,
        seed: int = 0,
        out: str | Path | None = None,
    ) -> View:
        """Each item with an attribute added, in several strengths (negative ones take it away).

        The attribute is the difference of two means of codes: of the class ``add`` (or of a list of items) and of
        ``subtract``; without ``subtract``, of all training items. Means of classes are over ``count`` training items.
        """
        if not items or not strengths:
            raise UsageError(f"{len(items)} items, {len(strengths)} strengths", "at least one of each")
        known = self._items(items, split, truncation)
        codes, labels = self._finder(split).codes(known, seed)
        plus, plus_words = self._mean(add, count, split, seed)
        minus, minus_words = self._mean(subtract, count, split, seed)
        attribute = plus - minus
        scale = torch.tensor(list(map(float, strengths)), device=codes.device).to(codes)
        moved = (codes[:, None] + scale[None, :, None] * attribute).flatten(0, 1)
        under = None if labels is None else labels.repeat_interleave(len(scale))
        shown = self._decoded(moved, under)
        rows = [{"item": item.name, "strength": float(s)} for item in known for s in strengths]
        length = float((attribute / self.space.spread if self.space.name == "z" else attribute).norm())
        words = [
            f"The attribute is {plus_words} minus {minus_words}; it is {length:.3g} long, where a code drawn from the prior "
            f"is about {self.space.size**0.5:.3g}.",
            *self._found_by(known),
        ]
        view = View("arithmetic", shown, moved, rows, words)
        heads = ["given", *(f"{s:+g}" if s else "decoded" for s in strengths)]
        grid = [[self._artifact(item), *row] for item, row in zip(known, _rows(shown, len(scale)), strict=True)]
        return self._sheet(view, grid, [item.name for item in known], heads, (0,), out, seed)

    def traverse(
        self,
        item: Any = None,
        *,
        coordinates: int = 10,
        steps: int = 9,
        reach: float = 2.5,
        label: str | int | None = None,
        split: str = "test",
        truncation: float = 1.0,
        seed: int = 0,
        out: str | Path | None = None,
    ) -> View:
        """One coordinate of the code at a time, from ``-reach`` to ``reach`` standard units, the others as they are.

        Those that matter most come first: by how much the item changes, on average over some codes of the prior. It
        starts from the mean of the prior, or from the code of ``item``.
        """
        if min(coordinates, steps - 1) < 1 or reach <= 0:
            raise UsageError(f"{coordinates} coordinates, {steps} steps, reach {reach:g}", "1, 2 and more than 0 at least")
        space = self.space
        known = [] if item is None else self._items((item,), split, truncation)
        if known:
            base, labels = self._finder(split).codes(known, seed, label)
        else:
            base, labels = space.centre[None].clone(), space.labels([None], label)
        change = self._change(labels, reach, seed)
        order = change.argsort(descending=True, stable=True)[:coordinates].tolist()
        at = torch.linspace(-reach, reach, steps, device=base.device).to(base)
        codes = base.repeat(len(order) * steps, 1)
        for row, place in enumerate(order):
            codes[row * steps : (row + 1) * steps, place] = space.centre[place] + at * space.spread[place]
        shown = self._decoded(codes, None if labels is None else labels.expand(len(codes)))
        rows = [{"coordinate": f"z{place}", "change": float(change[place])} for place in order]
        idle = int((change < 0.05 * change.max()).sum())
        words = [
            f"Of {space.size} coordinates {space.size - idle} change the item by at least a twentieth of what the first one "
            f"does. Change: {unit(self.space.model.form)} is 1.",
            *self._found_by(known),
        ]
        view = View("traverse", shown, codes, rows, words)
        sides = [f"z{place}  {float(change[place]):.3f}" for place in order]
        return self._sheet(view, _rows(shown, steps), sides, [f"{float(s):+.1f}" for s in at], (), out, seed)

    # ---- maps --------------------------------------------------------------------------------------------------------

    def map(
        self,
        *,
        split: str = "test",
        count: int | None = None,
        umap: bool = True,
        label: str | int | None = None,
        seed: int = 0,
        out: str | Path | None = None,
    ) -> View:
        """A picture of the whole space: the codes of ``count`` items by label, and what their two main directions decode to.

        Coordinates are principal components and, where umap-learn is installed, UMAP's. Where the model does not encode,
        codes are searched for, which takes longer: fewer items are shown if ``count`` is not given.
        """
        space, finder = self.space, self._finder(split)
        count = count or (ENCODED if space.encodes else SEARCHED)
        x, known, places = finder.some(split, count)
        if len(x) < mapping.LEAST:
            raise UsageError(f"a map of {len(x)} item(s)", f"at least {mapping.LEAST}", "Take another --split, or more data")
        own = space.labels(known)
        codes = space.codes(x, own, seed=seed)
        points = codes.cpu().double().numpy()
        mean, directions, variances = mapping.components(points)
        directions, variances = directions[:2], variances / max(float(variances.sum()), 1e-12)
        flat = (points - mean) @ directions.T
        shares = [f"direction {place + 1}: {share:.0%} of the variance" for place, share in enumerate(variances[:2])]
        if len(directions) < 2:  # a code of one number: the second coordinate is the same for all
            flat, shares = torch.nn.functional.pad(torch.from_numpy(flat), (0, 1)).numpy(), [*shares, ""]
        panels = [("Principal components", flat, (shares[0], shares[1]))]
        names = None if known[0] is None else [finder.classes()[label] for label in known if label is not None]
        rows: list[dict[str, Any]] = [
            {"place": place, "label": name, "pca1": float(a), "pca2": float(b)}
            for place, name, (a, b) in zip(places, names or [""] * len(places), flat, strict=True)
        ]
        words = [
            f"{len(x):,} items of the {split} part. The two main directions hold {variances[:2].sum():.0%} of the variance."
        ]
        bent = None
        if umap:
            space.progress("UMAP", 0, 1)
            bent = mapping.umap_of(points, seed)
            space.progress("UMAP", 1, 1)
            if bent is None:
                words.append('Without UMAP, which comes with pip install "pieria[latent]": principal components alone.')
            else:
                panels.append(("UMAP", bent, ("who is near to whom; far distances mean little", "")))
                rows = [{**row, "umap1": float(a), "umap2": float(b)} for row, (a, b) in zip(rows, bent, strict=True)]
        if not space.encodes:
            error = apart(space.model.form, space.decode(codes, own), x)
            words.append(
                f"The model does not encode: codes were searched for, and their items lie {float(error.median()):.3f} from "
                f"those given in the median ({unit(space.model.form)} is 1)."
            )
        reach = 2.5
        at = torch.linspace(-reach, reach, SIDE, dtype=torch.float64)
        spans = torch.from_numpy(directions * flat.std(axis=0)[: len(directions), None])
        second = spans[1] if len(spans) > 1 else torch.zeros_like(spans[0])
        grid = torch.stack([torch.from_numpy(mean) + a * spans[0] + b * second for b in at.flip(0) for a in at]).to(codes)
        shown = self._decoded(grid, self._for_all(len(grid), label))
        view = View("map", shown, codes, rows, words)
        decoded = pictures.tiled(_rows(shown, SIDE), cell=40, gap=1) if pictures.is_picture(shown[0]) else None
        about = f"±{reach:g} standard deviations of the codes along each direction"
        said = self._said(seed)
        view.parts["map.png"] = lambda: mapping.drawn(panels, names, decoded, about, said)
        view.parts["map.csv"] = lambda: table(rows)
        if decoded is None:
            view.parts |= written(self.modality, shown, said)
        return _done(view, out)

    # ---- back from items to codes ------------------------------------------------------------------------------------

    def invert(
        self,
        items: Sequence[Any],
        *,
        steps: int = 300,
        pull: float = 0.0,
        label: str | int | None = None,
        split: str = "test",
        seed: int = 0,
        out: str | Path | None = None,
    ) -> View:
        """The code whose item is nearest to each given one, by ``steps`` of a search from the encoder's code or the prior's.

        ``pull`` is what it costs, in mean squared error, that a code lies one standard unit from the prior's mean in every
        number; without any, the nearest item wins, however unusual its code.
        """
        space, form = self.space, self.space.model.form
        known = self._items(items, split, 1.0)
        if not known or any(item.x is None for item in known):
            raise UsageError("a seed, whose code is known" if known else "no items", "places in the data, or files")
        x = torch.cat([item.x for item in known if item.x is not None])
        labels = space.labels([item.label for item in known], label)
        begun = space.encode(x, labels) if space.encodes else None
        codes = search(space, x, labels, begin=begun, steps=steps, pull=pull, seed=seed)
        made = space.decode(codes, labels)
        after = apart(form, made, x).tolist()
        usual = space.size**0.5
        rows: list[dict[str, Any]] = [{"item": item.name, "distance": d} for item, d in zip(known, after, strict=True)]
        columns: list[Sequence[Artifact]] = [[self._artifact(item) for item in known]]
        heads = ["given"]
        if begun is not None:
            first = space.decode(begun, labels)
            for row, d in zip(rows, apart(form, first, x).tolist(), strict=True):
                row["encoder"] = d
            columns, heads = [*columns, self.modality.decode(first)], [*heads, "encoder"]
        if space.name == "z":
            lengths = ((codes - space.centre) / space.spread).norm(dim=1).tolist()
            for row, length in zip(rows, lengths, strict=True):
                row["length of the code"] = length
        shown = list(self.modality.decode(made))
        words = [
            f"Distance: root-mean-square difference ({unit(form)} is 1). Codes of the prior are about {usual:.3g} long."
        ]
        view = View("invert", shown, codes, rows, words)
        view.parts["codes.csv"] = lambda: codes_table([item.name for item in known], codes)
        sides = [f"{item.name}  {d:.3f}" for item, d in zip(known, after, strict=True)]
        grid = [list(row) for row in zip(*columns, shown, strict=True)]
        return self._sheet(view, grid, sides, [*heads, "nearest"], (0,), out, seed)

    def neighbours(
        self,
        items: Sequence[Any] = (),
        *,
        n: int = 8,
        k: int = 5,
        split: str = "test",
        label: str | int | None = None,
        truncation: float = 1.0,
        seed: int = 0,
        out: str | Path | None = None,
    ) -> View:
        """The ``k`` training items nearest to each of ``n`` samples (or of ``items``): are they new?

        Nearest by pixels (or values), and for pictures by features of a frozen network. All training items are looked at.
        """
        if n < 1 or k < 1:
            raise UsageError(f"{n} samples, {k} neighbours", "at least 1 of each")
        form = self.space.model.form
        if items:
            known = self._items(items, split, truncation)
            x = torch.cat([self._x(item, label) for item in known])
            names = [item.name for item in known]
        else:
            x, names = self._samples(n, seed, label, truncation), [f"sample {place}" for place in range(n)]
        training = self.dataset().examples("train")
        found = nearest(form, x, training, min(k, len(training)), self.space.progress)
        train = self.dataset().parts["train"]
        rows: list[dict[str, Any]] = []
        grid: list[list[Artifact]] = [[artifact] for artifact in self.modality.decode(x)]
        for near in found:
            for number, name in enumerate(names):
                places = near.places[number].tolist()
                grid[number] += list(self.modality.decode(training.batch(places).x))
                for rank, (place, away) in enumerate(zip(places, near.distances[number].tolist(), strict=True), 1):
                    row = {"item": name, "measure": near.measure, "rank": rank, "place": f"train:{place}", "distance": away}
                    rows.append(row if train.labels is None else {**row, "label": train.classes[int(train.labels[place])]})
        k = found[0].places.shape[1]
        words = [f"Of {len(training):,} training items. By {found[0].measure}: {unit(form)} is 1."]
        if len(found) > 1:
            words.append("By features: standard units of the frozen network that the scorecard compares pictures with.")
        view = View("neighbours", [row[0] for row in grid], torch.zeros(0, self.space.size), rows, words)
        heads = ["item", *(word for near in found for word in [f"nearest by {near.measure}", *[""] * (k - 1)])]
        return self._sheet(view, grid, names, heads, (0, k), out, seed, items=[a for row in grid for a in row])

    # ---- what they share ---------------------------------------------------------------------------------------------

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

    def _change(self, labels: Tensor | None, reach: float, seed: int) -> Tensor:
        """How much the item changes from end to end of each coordinate, a mean over codes of the prior, ``[numbers]``."""
        space = self.space
        count = max(1, min(BASES, 1024 // space.size))
        bases = space.draw(count, seed)
        change = torch.zeros(space.size, dtype=torch.float64)
        chunk = 16
        for start in range(0, space.size, chunk):
            places = range(start, min(start + chunk, space.size))
            ends = []
            for side in (-reach, reach):
                codes = bases.repeat(len(places), 1)
                for number, place in enumerate(places):
                    rows = slice(number * count, (number + 1) * count)
                    codes[rows, place] = space.centre[place] + side * space.spread[place]
                ends.append(space.decode(codes, None if labels is None else labels[:1].expand(len(codes))))
            moved = apart(space.model.form, ends[0], ends[1]).reshape(len(places), count).mean(dim=1)
            change[start : start + len(places)] = moved
            space.progress("measuring coordinates", start + len(places), space.size)
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
        return _done(view, out)

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
            reel = _Reel(lambda: self._decoded(*along(frames)), back)
            view.parts[f"{view.verb}.gif"] = lambda: pictures.gif(reel.frames, said, RATE)
            if mp4 or (out is not None and Path(out).suffix.lower() == ".mp4"):
                view.parts[f"{view.verb}.mp4"] = lambda: pictures.mp4(reel.frames, RATE)
        else:
            if mp4:
                raise UsageError(f"a film of {self.modality.name} data", "pictures", "Leave --mp4 out")
            view.parts |= written(self.modality, view.artifacts, said)
        names = [str(place) for place in range(len(view.codes))]
        view.parts["codes.csv"] = lambda: codes_table(names, view.codes)
        return _done(view, out)


class _Reel:
    """The frames of a film, decoded when they are first asked for; there and ``back`` where the ends differ."""

    def __init__(self, decoded: Callable[[], list[Artifact]], back: bool) -> None:
        self._decoded, self._back = decoded, back

    @cached_property
    def frames(self) -> list[Any]:
        made = self._decoded()
        return [*made, *made[-2:0:-1]] if self._back else made


def _rows(flat: Sequence[Artifact], columns: int) -> list[list[Artifact]]:
    return [list(flat[start : start + columns]) for start in range(0, len(flat), columns)]


def _done(view: View, out: str | Path | None) -> View:
    if out is not None:
        view.write(out)
    return view
