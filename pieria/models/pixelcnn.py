"""PixelCNN: a picture is written pixel by pixel, and masked convolutions tell how each one follows from all before it.

In reading order ``p(x) = Π p(pixel | all pixels above it and to its left)``, and within a pixel one channel after another. A
convolution whose later half is masked reads the neighbours that are already there; many of them stacked see far. One stack
of such **masked** convolutions never sees a part of what stands above to the right (its blind spot); the **gated** network
has two stacks, a vertical one for whole rows above and a horizontal one for the row itself, and sees everything in reach.
Some layers may also look back at *any* earlier pixel by **attention**. The odds of a pixel are categorical, or a mixture of
discretised logistic bumps where there are many ordered levels.

It has an exact likelihood, one of the best there is for pictures, and no latent space. Drawing takes one step a pixel; what
does not change from one to the next is kept, so that a whole picture costs about as much as scoring it.

Papers: van den Oord et al. 2016a (arXiv 1601.06759, masked) and 2016b (1606.05328, gated); Salimans et al. 2017 (1701.05517,
logistic mixtures); Chen et al. 2018 (1712.09763, attention); Ramachandran et al. 2017 (1704.06001, what does not change).
"""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pieria.forms import Form, Grid, Label
from pieria.layers import grids
from pieria.layers.gated import GatedLayer, LookBack, LookReading, MaskedLayer
from pieria.layers.masked import Cells, EntranceReading, Rows, affine, matrix
from pieria.models.contract import Likelihood
from pieria.models.pixelwise import Pixelwise, PixelwiseSettings
from pieria.sampling.raster import Raster
from pieria.settings import Field


class PixelCNNSettings(PixelwiseSettings):
    """What a PixelCNN is made of."""

    network: Literal["gated", "masked"] = Field(
        "gated", description="gated: two stacks, no blind spot; masked: one stack of masked convolutions, as first published"
    )
    layers: int = Field(8, ge=1, description="gated or masked layers after the first convolution")
    attention: int = Field(
        0, ge=0, description="look at all earlier pixels after every so many layers (PixelSNAIL); 0 is never"
    )
    heads: int = Field(4, ge=1, description="attention: how many looks at once")


class PixelCNN(Pixelwise):
    """A product of the laws of single pixels, each given all pixels before it.

    ``log_prob`` is exact, in nats of the form's own tensors: probabilities for levels, densities for continuous cells.

    >>> from pieria.noise import ItemNoise
    >>> model = PixelCNN(PixelCNNSettings(features=8, layers=1), Grid(1, 2, 2, levels=2))
    >>> model.sample(3, Raster(), ItemNoise(seed=0, size=3)).shape
    torch.Size([3, 1, 2, 2])
    """

    Settings = PixelCNNSettings
    Sampling = Raster
    consumes = frozenset({Grid})
    conditions = frozenset({Label})
    likelihood: ClassVar[Likelihood] = "exact"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"features": 16, "layers": 2, "first": 3, "bumps": 4, "precision": "float32"},
        "small": {"features": 32, "layers": 5},
        "mnist": {"features": 64, "layers": 6, "batch": 32, "rate": 3e-3},
        "digits": {
            "features": 64,
            "layers": 2,
            "kernel": 7,
            "dropout": 0.7,
            "weight_decay": 0.1,
            "beta2": 0.99,
            "average": 0.998,
        },
    }
    paper = "van den Oord et al. 2016, Conditional Image Generation with PixelCNN Decoders, arXiv:1606.05328"

    settings: PixelCNNSettings
    at_once = 2**24

    def __init__(self, settings: PixelCNNSettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        inputs, features, classes = grids.channels(self.form), settings.features, self.labels.width
        make = GatedLayer if settings.network == "gated" else MaskedLayer
        self.layers = self.stacked(
            [make(features, settings.kernel, classes, settings.dropout) for _ in range(settings.layers)]
        )
        every = settings.attention
        self.looks = nn.ModuleDict(
            {
                str(number): LookBack(features, inputs, settings.heads)
                for number in range(settings.layers)
                if every and (number + 1) % every == 0
            }
        )
        self.conclude()

    # ---- the network -------------------------------------------------------------------------------------------------

    def network(self, x: Tensor, labels: Tensor) -> Tensor:
        """What is said of each pixel, ``[batch, outputs, height, width]``; ``labels`` is one-hot ``[batch, class]``."""
        picture = grids.read(self.form, x)
        v, h = self.entrance(picture)
        for number, layer in enumerate(self.layers):
            v, h = layer(v, h, labels)
            if str(number) in self.looks:
                h = self.looks[str(number)](h, picture)
        said: Tensor = self.head(functional.silu(h))
        return said

    def reading(self, labels: Tensor) -> "Reading":
        """Keeps what does not change from pixel to pixel."""
        return Reading(self, labels)


class Reading:
    """A `PixelCNN` read pixel by pixel: the vertical stack a row at once, the horizontal one a pixel at once."""

    def __init__(self, model: PixelCNN, labels: Tensor) -> None:
        n, columns = len(labels), model.form.width
        self.columns = columns
        self.model, self.gated = model, model.settings.network == "gated"
        self.entrance = EntranceReading(model.entrance, n, columns)
        self.layers: list[GatedLayer | MaskedLayer] = list(model.layers)  # type: ignore[arg-type]
        self.rows = [Rows(layer.above, n, columns) for layer in self.layers]
        self.cells = [Cells(layer.beside, n, columns) for layer in self.layers]
        self.outs = [matrix(layer.out) for layer in self.layers]
        self.downs = [affine(layer.down) for layer in self.layers if isinstance(layer, GatedLayer)]
        self.adds = [layer.said(labels) for layer in self.layers]
        self.head, self.head_bias = affine(model.head)
        size = (n, model.form.height * columns + 1)
        self.looks = {int(number): LookReading(look, *size) for number, look in model.looks.items()}  # type: ignore[arg-type]
        self.bend = GatedLayer.bend if self.gated else MaskedLayer.bend
        self.rest: list[Tensor] = []  # what the rows above say in each layer, [column, n, …]

    def row(self, row: int) -> None:
        """All that follows from the rows above: in each layer, for every column."""
        v, self.rest = self.entrance.row(row), []  # v is [n, column, features]
        for number, (rows, (add_v, add_h)) in enumerate(zip(self.rows, self.adds, strict=True)):
            if self.gated:
                rows.push(v)
                made = rows.compute() + _wide(add_v)
                v = v + self.bend(made.flatten(0, 1)).view_as(v)
                weight, bias = self.downs[number]
                said = v @ weight + bias
            else:
                if row:
                    rows.push(self.cells[number].row())
                said = rows.compute()
            self.rest.append((said + _wide(add_h)).transpose(0, 1).contiguous())

    def cell(self, row: int, column: int) -> Tensor:
        """What is said of the pixel, ``[n, outputs]``."""
        h = self.entrance.cell(column)
        for number, (cells, rest, out) in enumerate(zip(self.cells, self.rest, self.outs, strict=True)):
            cells.put(column, h)
            h = torch.addmm(h, self.bend(cells.added(rest[column], column)), out)
            if number in self.looks:
                h = self.looks[number].look(h, row * self.columns + column)
        return torch.addmm(self.head_bias, functional.silu(h), self.head)

    def put(self, row: int, column: int, values: Tensor) -> None:
        """The pixel's channels, ``[n, channel]``."""
        features = grids.cells(self.model.form, values[:, :, None, None])[:, :, 0, 0]
        self.entrance.put(column, features)
        for look in self.looks.values():
            look.put(features, row * self.columns + column)

    def take(self, items: Tensor) -> None:
        """Go on with these items."""
        self.entrance.take(items)
        for rows, cells in zip(self.rows, self.cells, strict=True):
            rows.take(items)
            cells.take(items)
        for look in self.looks.values():
            look.take(items)
        self.adds = [(_of(v, items), _of(h, items)) for v, h in self.adds]


def _wide(add: Tensor | float) -> Tensor | float:
    """What is added to every column."""
    return add if isinstance(add, float) else add[:, None]


def _of(add: Tensor | float, items: Tensor) -> Tensor | float:
    return add if isinstance(add, float) else add[items]


MODEL = PixelCNN
