"""``run.latent``: a map of the latent space, paths through it, directions in it, and the way back from an item to its code.

Every verb returns a `View`: what was decoded, its codes, a table, sentences, and with ``out`` the files that show it. Items
are named by their place in the data (``12`` in the split, ``"train:12"``), as a file, as a seed (``"seed:7"`` is the first
item of a sample with this seed, ``"seed:7:3"`` the fourth), or given as artifacts.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from pieria.errors import UsageError
from pieria.latent import mapping, moving, pictures
from pieria.latent.directions import directions
from pieria.latent.distances import apart, unit
from pieria.latent.ground import ENCODED, SEARCHED, Ground, done, in_rows
from pieria.latent.neighbours import nearest
from pieria.latent.searching import search
from pieria.latent.view import View, codes_table, table, written
from pieria.modalities.contract import Artifact

SIDE = 11  # codes along each side of the decoded grid of a map


class Latent(Ground):
    """The latent space of a run. See the module for how items are named."""

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
        rows = [{"step": place} for place in range(steps)]
        view = View("walk", self._decoded(way, under), way, rows, self._under(under))
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
        words = [f"The attribute is {plus_words} minus {minus_words}.", *self._found_by(known)]
        if self.space.drawn:
            length, usual = float((attribute / self.space.spread).norm()), self.space.size**0.5
            words[0] = words[0][:-1] + f"; it is {length:.3g} long, where a code drawn from the prior is about {usual:.3g}."
        view = View("arithmetic", shown, moved, rows, words)
        heads = ["given", *(f"{s:+g}" if s else "decoded" for s in strengths)]
        grid = [[self._artifact(item), *row] for item, row in zip(known, in_rows(shown, len(scale)), strict=True)]
        return self._sheet(view, grid, [item.name for item in known], heads, (0,), out, seed)

    def traverse(
        self,
        item: Any = None,
        *,
        along: str = "coordinates",
        coordinates: int = 10,
        steps: int = 9,
        reach: float = 2.5,
        label: str | int | None = None,
        split: str = "test",
        truncation: float = 1.0,
        seed: int = 0,
        out: str | Path | None = None,
    ) -> View:
        """One direction at a time, from ``-reach`` to ``reach`` standard units, the rest of the code as it is.

        ``along`` the ``coordinates`` of the code, of which those come first that change the item most, on average over some
        codes of the prior; or, in the styles of a GAN, along their ``principal`` components or those in ``closed-form``, in
        their own order. It starts from the mean of the prior, or from the code of ``item``.
        """
        if min(coordinates, steps - 1) < 1 or reach <= 0:
            raise UsageError(f"{coordinates} directions, {steps} steps, reach {reach:g}", "1, 2 and more than 0 at least")
        space = self.space
        ways = directions(space, along, coordinates, seed)
        known = [] if item is None else self._items((item,), split, truncation)
        if known:
            base, labels = self._finder(split).codes(known, seed, label)
        else:
            base, labels = space.centre[None].clone(), space.labels([None], label)
        change = self._change(ways, labels, reach, seed)
        order = list(range(len(change)))
        if along == "coordinates":
            order = change.argsort(descending=True, stable=True)[:coordinates].tolist()
        at = torch.linspace(-reach, reach, steps, device=base.device).to(base)
        codes = torch.cat([ways.at(base[0], space.centre, row, at) for row in order])
        shown = self._decoded(codes, None if labels is None else labels.expand(len(codes)))
        rows = [{"direction": ways.names[row], "change": float(change[row])} for row in order]
        idle = int((change <= 0.05 * change.max()).sum())
        words = [
            f"Of {len(change)} directions {len(change) - idle} change the item more than a twentieth as much as the "
            f"strongest. Change: {unit(self.space.model.form)} is 1.",
            *self._found_by(known),
            *self._under(labels),
        ]
        view = View("traverse", shown, codes, rows, words)
        sides = [f"{ways.names[row]}  {float(change[row]):.3f}" for row in order]
        return self._sheet(view, in_rows(shown, steps), sides, [f"{float(s):+.1f}" for s in at], (), out, seed)

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
        under = self._for_all(len(grid), label)
        shown = self._decoded(grid, under)
        view = View("map", shown, codes, rows, [*words, *self._under(under)])
        decoded = pictures.tiled(in_rows(shown, SIDE), cell=40, gap=1) if pictures.is_picture(shown[0]) else None
        about = f"±{reach:g} standard deviations of the codes along each direction"
        said = self._said(seed)
        view.parts["map.png"] = lambda: mapping.drawn(panels, names, decoded, about, said)
        view.parts["map.csv"] = lambda: table(rows)
        if decoded is None:
            view.parts |= written(self.modality, shown, said)
        return done(view, out)

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
        rows: list[dict[str, Any]] = [{"item": item.name, "distance": d} for item, d in zip(known, after, strict=True)]
        columns: list[Sequence[Artifact]] = [[self._artifact(item) for item in known]]
        heads = ["given"]
        if begun is not None:
            first = space.decode(begun, labels)
            for row, d in zip(rows, apart(form, first, x).tolist(), strict=True):
                row["encoder"] = d
            columns, heads = [*columns, self.modality.decode(first)], [*heads, "encoder"]
        words = [f"Distance: root-mean-square difference ({unit(form)} is 1)."]
        if space.drawn:
            lengths = ((codes - space.centre) / space.spread).norm(dim=1).tolist()
            for row, length in zip(rows, lengths, strict=True):
                row["length of the code"] = length
            words[0] += f" Codes of the prior are about {space.size**0.5:.3g} long."
        shown = list(self.modality.decode(made))
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
