"""PixelCNN: a picture is written pixel by pixel, and a masked convolution tells of each one how it follows from all before it.

In reading order ``p(x) = Π p(pixel | all pixels above it and to its left)``, and within a pixel one channel after another. A
convolution whose later half is masked reads the neighbours that are already there; many of them stacked see far. One stack of
such **masked** convolutions never sees a part of what stands above to the right (its blind spot); the **gated** network has two
stacks, a vertical one for whole rows above and a horizontal one for the row itself, and sees everything in reach. Some layers may
also look back at *any* earlier pixel by **attention**. The odds of a pixel are categorical, or a mixture of discretised
logistic bumps where there are many ordered levels.

It has an exact likelihood, one of the best there is for pictures, and no latent space. Drawing takes one step a pixel; what does
not change from one to the next is kept, so that a whole picture costs about as much as scoring it.

Papers: van den Oord et al. 2016a (arXiv 1601.06759, masked) and 2016b (1606.05328, gated); Salimans et al. 2017 (1701.05517,
logistic mixtures); Chen et al. 2018 (1712.09763, attention); Ramachandran et al. 2017 (1704.06001, keeping what does not change).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pieria.data.batch import Batch, check
from pieria.errors import FormError
from pieria.forms import Form, Grid, Label
from pieria.layers import grids
from pieria.layers.dropout import dropout
from pieria.layers.labels import Labels
from pieria.layers.masked import Cells, Rows, above, beside
from pieria.layers.precision import Precision, products
from pieria.losses.pixels import law_of
from pieria.models.contract import Likelihood, Losses, Model, Phase, Step
from pieria.noise import Noise
from pieria.sampling.raster import TOGETHER, Anew, Cell, filled, scan
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

AT_ONCE = 2**24  # features of one layer that are computed at once while scoring


class PixelCNNSettings(AnySettings):
    """What a PixelCNN is made of."""

    network: Literal["gated", "masked"] = Field(
        "gated", description="gated: two stacks, no blind spot; masked: one stack of masked convolutions, as first published"
    )
    features: int = Field(64, ge=1, description="features of a pixel in each layer")
    layers: int = Field(8, ge=1, description="gated or masked layers after the first convolution")
    kernel: int = Field(3, ge=3, le=15, description="side of the window that a layer sees, before masking")
    first: int = Field(7, ge=3, le=15, description="side of the first layer's window")
    attention: int = Field(0, ge=0, description="after every so many layers, look at all earlier pixels (PixelSNAIL); 0: never")
    heads: int = Field(4, ge=1, description="attention: how many looks at once")
    places: bool = Field(
        True, description="learn what is special about each place; leave it out where content may stand anywhere"
    )
    law: Literal["auto", "categorical", "logistic"] = Field(
        "auto", description="of a pixel's levels; auto: logistic mixture for more than 32 ordered levels, else categorical"
    )
    bumps: int = Field(10, ge=1, description="logistic: bumps in the mixture")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of features that training sets to zero in each layer")
    precision: Precision = Field(
        "auto", description="of convolutions in training; auto is bfloat16 where the processor multiplies it natively"
    )


class PixelCNNSampling(AnySettings):
    """How a PixelCNN draws."""

    temperature: float = Field(1.0, ge=0, description="below 1 more typical pixels, above 1 wilder ones, 0 the likeliest")
    particles: int = Field(16, ge=1, description="filling: completions drawn side by side, to fit what is given after them")
    cached: bool = Field(True, description="keep what does not change from pixel to pixel; off: compute everything anew (slow)")


class GatedLayer(nn.Module):
    """One layer of both stacks: ``v' = v + gate(above v)``, ``h' = h + out gate(beside h + down v')``.

    ``gate(a, b) = tanh(a) σ(b)``. Maps are ``[batch, features, height, width]``, ``label`` ``[batch, classes]``.
    """

    def __init__(self, features: int, size: int, classes: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.above = above(features, 2 * features, size, own=True)
        self.beside = beside(features, 2 * features, size, own=True)
        self.down = nn.Conv2d(features, 2 * features, 1)
        self.out = nn.Conv2d(features, features, 1, bias=False)
        self.label = nn.Linear(classes, 4 * features, bias=False) if classes else None

    def said(self, label: Tensor) -> tuple[Tensor, Tensor] | tuple[float, float]:
        """What the label adds to the two stacks, ``[batch, 2 · features]`` each."""
        if self.label is None:
            return 0.0, 0.0
        first, second = self.label(label).chunk(2, dim=1)
        return first, second

    def forward(self, v: Tensor, h: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Both stacks, one layer on."""
        add_v, add_h = (add if isinstance(add, float) else add[:, :, None, None] for add in self.said(label))
        share = self.share if self.training else 0.0
        v = v + dropout(self.bend(self.above(v) + add_v), share)
        h = h + self.out(dropout(self.bend(self.beside(h) + self.down(v) + add_h), share))
        return v, h

    @staticmethod
    def bend(x: Tensor) -> Tensor:
        """``tanh(a) σ(b)`` of the two halves of the features."""
        a, b = x.chunk(2, dim=1)
        return a.tanh() * b.sigmoid()


class MaskedLayer(nn.Module):
    """One layer of a single stack: ``h' = h + out relu(above h + beside h)``, a convolution masked after the pixel."""

    def __init__(self, features: int, size: int, classes: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.above = above(features, features, size, own=False)
        self.beside = beside(features, features, size, own=True)
        self.out = nn.Conv2d(features, features, 1, bias=False)
        self.label = nn.Linear(classes, features, bias=False) if classes else None

    def said(self, label: Tensor) -> tuple[float, Tensor | float]:
        """What the label adds, ``[batch, features]``."""
        return 0.0, 0.0 if self.label is None else self.label(label)

    def forward(self, v: Tensor, h: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """The stack, one layer on."""
        add = self.said(label)[1]
        add = add if isinstance(add, float) else add[:, :, None, None]
        bent = self.bend(self.above(h) + self.beside(h) + add)
        return v, h + self.out(dropout(bent, self.share if self.training else 0.0))

    @staticmethod
    def bend(x: Tensor) -> Tensor:
        """Rectified."""
        return x.relu()


class LookBack(nn.Module):
    """Attention to all pixels before each one: ``h' = h + gate(out Σ softmax(q k) v)``; keys and values also know the pixel.

    The first of the keys is nothing (zeros), for a pixel that finds nothing of interest.
    """

    def __init__(self, features: int, inputs: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, max(4, features // (2 * heads))
        self.ask = nn.Conv2d(features, heads * self.size, 1)
        self.tell = nn.Conv2d(features + inputs, 2 * heads * self.size, 1)
        self.out = nn.Conv2d(heads * self.size, 2 * features, 1)

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        """``h [batch, features, height, width]``, ``x [batch, inputs, height, width]``."""
        queries = self.ask(h).flatten(2).unflatten(1, (self.heads, self.size)).mT  # [batch, head, place, size]
        told = self.tell(torch.cat([h, x.to(h)], dim=1)).flatten(2).unflatten(1, (2 * self.heads, self.size)).mT
        # one place on: what is found by a pixel comes from those before it
        keys, values = functional.pad(told[:, :, :-1], (0, 0, 1, 0)).chunk(2, dim=1)
        found = functional.scaled_dot_product_attention(queries.contiguous(), keys, values, is_causal=True)
        made = self.out(found.mT.flatten(1, 2).unflatten(2, h.shape[2:]))
        return h + GatedLayer.bend(made)


class PixelCNN(Model):
    """A product of the laws of single pixels, each given all pixels before it.

    ``log_prob`` is exact, in nats of the form's own tensors: probabilities for levels, densities for continuous cells.

    >>> from pieria.noise import ItemNoise
    >>> model = PixelCNN(PixelCNNSettings(features=8, layers=1), Grid(1, 2, 2, levels=2))
    >>> model.sample(3, PixelCNNSampling(), ItemNoise(seed=0, size=3)).shape
    torch.Size([3, 1, 2, 2])
    """

    Settings = PixelCNNSettings
    Sampling = PixelCNNSampling
    consumes = frozenset({Grid})
    conditions = frozenset({Label})
    likelihood: ClassVar[Likelihood] = "exact"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"features": 16, "layers": 2, "first": 3, "bumps": 4, "precision": "float32"},
        "small": {"features": 32, "layers": 5},
        "mnist": {"features": 48, "layers": 8, "batch": 32, "rate": 2e-3},
        "digits": {"features": 64, "layers": 4, "first": 5, "dropout": 0.5, "average": 0.998},
    }
    training_defaults: ClassVar[dict[str, Any]] = {
        "batch": 64,
        "rate": 2e-3,
        "schedule": "cosine",
        "warmup": 100,
        "weight_decay": 0.0,
        "beta2": 0.999,
        "final": 0.02,
        "average": 0.995,
    }
    paper = "van den Oord et al. 2016, Conditional Image Generation with PixelCNN Decoders, arXiv:1606.05328"

    settings: PixelCNNSettings
    form: Grid

    def __init__(self, settings: PixelCNNSettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        assert isinstance(form, Grid)
        self.labels = Labels(condition)
        inputs, features, classes = grids.channels(form), settings.features, self.labels.width
        self.above = above(inputs, features, settings.first, own=False)
        self.beside = beside(inputs, features, settings.first, own=False, bias=True)
        places = torch.zeros(2, features, form.height, form.width)
        self.places = nn.Parameter(places) if settings.places else None
        make = GatedLayer if settings.network == "gated" else MaskedLayer
        self.layers = nn.ModuleList(
            make(features, settings.kernel, classes, settings.dropout) for _ in range(settings.layers)
        )
        every = settings.attention
        self.looks = nn.ModuleDict(
            {
                str(number): LookBack(features, inputs, settings.heads)
                for number in range(settings.layers)
                if every and (number + 1) % every == 0
            }
        )
        self.law = law_of(form, settings.law, features=features, bumps=settings.bumps)
        self.head = nn.Conv2d(features, self.law.outputs, 1)
        with torch.no_grad():
            for layer in self.layers:  # so that the sum over all layers begins about as large as one of them
                layer.out.weight /= math.sqrt(settings.layers)

    # ---- the network -------------------------------------------------------------------------------------------------

    def network(self, x: Tensor, labels: Tensor) -> Tensor:
        """What is said of each pixel, ``[batch, outputs, height, width]``; ``labels`` is one-hot ``[batch, class]``."""
        picture = grids.read(self.form, x)
        v = self.above(picture)
        h = self.beside(picture) + v
        if self.places is not None:
            v, h = v + self.places[0], h + self.places[1]
        for number, layer in enumerate(self.layers):
            v, h = layer(v, h, labels)
            if str(number) in self.looks:
                h = self.looks[str(number)](h, picture)
        said: Tensor = self.head(functional.silu(h))
        return said

    # ---- learning ----------------------------------------------------------------------------------------------------

    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Count how frequent each label is."""
        self.labels.fit(batches)

    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """One optimiser for everything."""
        return {"model": [{"params": list(self.parameters())}]}

    def phases(self) -> list[Phase]:
        """A game with one move."""
        return [Phase("likelihood", "model", self.loss)]

    def loss(self, batch: Batch, noise: Noise) -> Losses:
        """The negative log-likelihood of a picture, in nats."""
        labels = self.labels(batch.condition, len(batch))
        with products(self.settings.precision, batch.x.device):
            said = self.network(batch.x, labels)
        nats = -self.law.log_prob(said.float(), batch.x).mean()
        cells = self.form.height * self.form.width * self.form.channels
        return Losses(nats, {"nats a pixel": nats.detach() / cells}, count=len(batch))

    # ---- likelihood --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def log_prob(self, batch: Batch) -> Tensor:
        """Nats of each picture ``[batch]``."""
        check(self.form, batch.x)
        labels = self.labels(self.labels.required(batch.condition, len(batch)), len(batch))
        size = max(1, AT_ONCE // (self.form.height * self.form.width * self.settings.features))
        parts = zip(batch.x.split(size), labels.split(size), strict=True)
        return torch.cat([self.law.log_prob(self.network(x, label), x) for x, label in parts])

    # ---- drawing -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """Draw pixel after pixel, each from its law given those before it."""
        assert isinstance(options, PixelCNNSampling)
        assert len(noise) == n
        labels = self.labels(self.labels.chosen(condition, noise, n), n)
        uniform, x = noise.uniform("pixel", (*self.form.shape, 2)), self._blank(n)
        for start in range(0, n, TOGETHER):
            part = slice(start, start + TOGETHER)
            for _ in self._scan(x[part], labels[part], uniform[part], options):
                pass
        return x

    @torch.no_grad()
    def fill(self, x: Tensor, mask: Tensor, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """``x`` with everything redrawn where ``mask`` is False, given what stands before and (by importance) after it."""
        assert isinstance(options, PixelCNNSampling)
        check(self.form, x)
        if mask.shape != x.shape or tuple(x.shape[1:]) != self.form.shape:
            raise FormError(
                f"a mask of {list(mask.shape)} for pictures of {list(x.shape)}",
                f"both [picture, {', '.join(map(str, self.form.shape))}]",
                "Resize the picture, and make a mask of its size",
            )
        labels = self.labels(self.labels.chosen(condition, noise, len(x)), len(x))
        given = torch.where(mask, x, self._blank(len(x)))
        reader = self.reader(labels.repeat_interleave(options.particles, dim=0), options.cached)
        return filled(reader, self.law, given, mask, noise, options.particles, options.temperature)

    def _blank(self, n: int) -> Tensor:
        kind = torch.float32 if self.form.levels is None else torch.int64
        return torch.zeros(n, *self.form.shape, dtype=kind, device=self.head.weight.device)

    def _scan(self, x: Tensor, labels: Tensor, uniform: Tensor, options: PixelCNNSampling) -> Iterator[Cell]:
        return scan(self.reader(labels, options.cached), self.law, x, uniform, options.temperature)

    def reader(self, labels: Tensor, cached: bool = True) -> "Reading | Anew":
        """Tells of one pixel after another what the network says; ``labels`` is one-hot ``[n, class]``."""
        if cached:
            return Reading(self, labels)
        return Anew(lambda x: self.network(x, labels), self._blank(len(labels)))

    @torch.no_grad()
    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """Pixel after pixel with the odds of each."""
        assert isinstance(options, PixelCNNSampling)
        label = self.labels.chosen(condition, noise, 1)
        if label is not None and isinstance(self.condition, Label):
            yield Step("label", note=f"The class is {self.condition.classes[int(label)]!r}.", data={"label": label})
        x, levels = self._blank(1), self.form.levels
        surprise = torch.zeros(self.form.height, self.form.width)
        uniform = noise.uniform("pixel", (*self.form.shape, 2))
        for cell in self._scan(x, self.labels(label, 1), uniform, options):
            row, column, values = cell.row, cell.column, cell.x[:, :, cell.row, cell.column]
            each = [self.law.nats(cell.raw, values[:, :c], values[:, c]) for c in range(self.form.channels)]
            surprise[row, column] = -float(sum(each))
            data = {} if levels is None else {"odds": self.law.odds(cell.raw, values[:, :0], levels)[0].exp().float()}
            note = f"Row {row + 1}, column {column + 1}, given all pixels above it and to its left."
            yield Step(f"pixel {row * self.form.width + column + 1}", x.clone(), note, data)
        yield Step("surprise", x, "How surprising each pixel was, in nats: little where it follows from the others.",
                   {"surprise": surprise})  # fmt: skip


class Reading:
    """A `PixelCNN` read pixel by pixel: the vertical stack a row at once, the horizontal one a pixel at once."""

    def __init__(self, model: PixelCNN, labels: Tensor) -> None:
        n, columns = len(labels), model.form.width
        self.model, self.gated = model, model.settings.network == "gated"
        self.above, self.beside = Rows(model.above, n, columns), Cells(model.beside, n, columns)
        self.layers: list[GatedLayer | MaskedLayer] = list(model.layers)  # type: ignore[arg-type]
        features = model.settings.features
        self.rows = [Rows(layer.above, n, columns) for layer in self.layers]
        self.cells = [Cells(layer.beside, n, columns) for layer in self.layers]
        self.outs = [_matrix(layer.out) for layer in self.layers]
        self.downs = [(_matrix(layer.down), layer.down.bias) for layer in self.layers if isinstance(layer, GatedLayer)]
        self.adds = [layer.said(labels) for layer in self.layers]
        self.head, self.head_bias = _matrix(model.head), model.head.bias
        size = (n, model.form.height * columns + 1)
        self.looks = {int(number): _Look(look, *size) for number, look in model.looks.items()}  # type: ignore[arg-type]
        self.bend = GatedLayer.bend if self.gated else MaskedLayer.bend
        self.rest: list[Tensor] = []  # what the rows above say in each layer, [column, n, …]
        self.start = self.head.new_zeros(columns, n, features)

    def row(self, row: int) -> None:
        """All that follows from the rows above: in each layer, for every column."""
        if row:
            self.above.push(self.beside.row())
        v = self.above.compute()  # [n, column, features]
        start, places = v + self.model.beside.bias, self.model.places
        if places is not None:
            v, start = v + places[0, :, row].t(), start + places[1, :, row].t()
        self.start, self.rest = start.transpose(0, 1).contiguous(), []
        for number, (rows, (add_v, add_h)) in enumerate(zip(self.rows, self.adds, strict=True)):
            if self.gated:
                rows.push(v)
                made = rows.compute() + (add_v if isinstance(add_v, float) else add_v[:, None])
                v = v + self.bend(made.flatten(0, 1)).view_as(v)
                matrix, bias = self.downs[number]
                said = v @ matrix + bias
            else:
                if row:
                    rows.push(self.cells[number].row())
                said = rows.compute()
            said = said + (add_h if isinstance(add_h, float) else add_h[:, None])
            self.rest.append(said.transpose(0, 1).contiguous())

    def cell(self, row: int, column: int) -> Tensor:
        """What is said of the pixel, ``[n, outputs]``."""
        h = self.beside.added(self.start[column], column)
        for number, (cells, rest, out) in enumerate(zip(self.cells, self.rest, self.outs, strict=True)):
            cells.put(column, h)
            h = torch.addmm(h, self.bend(cells.added(rest[column], column)), out)
            if number in self.looks:
                h = self.looks[number].look(h, row * len(self.start) + column)
        return torch.addmm(self.head_bias, functional.silu(h), self.head)

    def put(self, row: int, column: int, values: Tensor) -> None:
        """The pixel's channels, ``[n, channel]``."""
        features = grids.cells(self.model.form, values[:, :, None, None])[:, :, 0, 0]
        self.beside.put(column, features)
        for look in self.looks.values():
            look.put(features, row * len(self.start) + column)

    def take(self, items: Tensor) -> None:
        """Go on with these items."""
        for part in (self.above, self.beside, *self.rows, *self.cells, *self.looks.values()):
            part.take(items)
        self.adds = [tuple(a if isinstance(a, float) else a[items] for a in add) for add in self.adds]  # type: ignore[misc]


class _Look:
    """A `LookBack` read pixel by pixel: keys and values of all pixels so far, ``[n, head, place, size]``."""

    def __init__(self, look: LookBack, items: int, places: int) -> None:
        self.parts = [(_matrix(part), part.bias) for part in (look.ask, look.tell, look.out)]
        self.shape = (items, look.heads, look.size)
        self.keys = look.ask.weight.new_zeros(items, look.heads, places, look.size)
        self.values = torch.zeros_like(self.keys)
        self.h = torch.empty(0)

    def look(self, h: Tensor, place: int) -> Tensor:
        """``h [n, features]`` with what it finds in the places before."""
        (ask, ask_bias), _, (out, out_bias) = self.parts
        self.h = h
        queries = torch.addmm(ask_bias, h, ask).view(*self.shape[:2], 1, self.shape[2])
        odds = queries @ self.keys[:, :, : place + 1].mT * self.shape[2] ** -0.5
        found = odds.softmax(dim=-1) @ self.values[:, :, : place + 1]
        return h + GatedLayer.bend(torch.addmm(out_bias, found.flatten(1), out))

    def put(self, features: Tensor, place: int) -> None:
        """The place is known: its key and value, for those that come after."""
        tell, bias = self.parts[1]
        told = torch.addmm(bias, torch.cat([self.h, features], dim=1), tell).view(len(features), -1, self.shape[2])
        self.keys[:, :, place + 1], self.values[:, :, place + 1] = told.chunk(2, dim=1)

    def take(self, items: Tensor) -> None:
        """Go on with these items."""
        self.keys, self.values = self.keys[items], self.values[items]


def _matrix(layer: nn.Conv2d) -> Tensor:
    """A convolution of single cells as ``[inputs, outputs]``."""
    return layer.weight.detach()[:, :, 0, 0].t()


MODEL = PixelCNN
