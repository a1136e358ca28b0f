"""PixelRNN: a picture is written pixel by pixel, and an LSTM that runs over it remembers what stands before each one.

In reading order ``p(x) = Π p(pixel | all pixels above it and to its left)``, as in `pixelcnn`, but a pixel's context is a
state that is carried on, so that one layer already sees far. The **Row LSTM** carries it from row to row, each pixel taking
up the states of the three above it: fast, and blind to what lies outside that triangle. The **Diagonal BiLSTM** carries it
from the left and from above, a diagonal at a time (the picture is skewed, so that a diagonal is a column), and a second one
from the right and from above: it sees every pixel before, and takes almost twice as many steps.

It has an exact likelihood and no latent space. Choose it where far-away pixels decide and there is time: steps that wait for
each other make it slower to train than a `pixelcnn`. Drawing keeps what does not change, as there.

Paper: van den Oord, Kalchbrenner & Kavukcuoglu 2016 (arXiv 1601.06759).
"""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from pieria.forms import Form, Grid, Label
from pieria.layers import grids
from pieria.layers.dropout import dropout
from pieria.layers.grid_lstm import DiagonalBiLSTM, DiagonalReading, RowLSTM, RowReading
from pieria.layers.masked import EntranceReading, affine
from pieria.models.contract import Likelihood
from pieria.models.pixelwise import Pixelwise, PixelwiseSettings
from pieria.sampling.raster import Raster
from pieria.settings import Field


class PixelRNNSettings(PixelwiseSettings):
    """What a PixelRNN is made of."""

    network: Literal["row", "diagonal"] = Field(
        "row", description="row: Row LSTM; diagonal: Diagonal BiLSTM, which sees all"
    )
    features: int = Field(64, ge=1, description="numbers in the state of a pixel, and features of a pixel between layers")
    kernel: int = Field(3, ge=3, le=15, description="row: how wide a pixel looks at its row and at the states above it")


class PixelRNN(Pixelwise):
    """A product of the laws of single pixels, each given all pixels before it, through the state of an LSTM.

    ``log_prob`` is exact, in nats of the form's own tensors: probabilities for levels, densities for continuous cells.

    >>> from pieria.noise import ItemNoise
    >>> model = PixelRNN(PixelRNNSettings(features=8), Grid(1, 2, 2, levels=2))
    >>> model.sample(3, Raster(), ItemNoise(seed=0, size=3)).shape
    torch.Size([3, 1, 2, 2])
    """

    Settings = PixelRNNSettings
    Sampling = Raster
    consumes = frozenset({Grid})
    conditions = frozenset({Label})
    likelihood: ClassVar[Likelihood] = "exact"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"features": 16, "first": 3, "bumps": 4, "precision": "float32"},
        "row": {"network": "row", "features": 64, "batch": 32, "rate": 3e-3},
        "diagonal": {"network": "diagonal", "features": 48, "batch": 32, "rate": 3e-3},
    }
    paper = "van den Oord et al. 2016, Pixel Recurrent Neural Networks, arXiv:1601.06759"

    settings: PixelRNNSettings
    at_once = 2**22

    def __init__(self, settings: PixelRNNSettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        make = RowLSTM if settings.network == "row" else DiagonalBiLSTM
        of_each = (settings.features, settings.kernel, self.labels.width)
        self.layers = self.stacked([make(*of_each) for _ in range(settings.layers)])
        self.conclude()

    # ---- the network -------------------------------------------------------------------------------------------------

    def network(self, x: Tensor, labels: Tensor) -> Tensor:
        """What is said of each pixel, ``[batch, outputs, height, width]``; ``labels`` is one-hot ``[batch, class]``."""
        above, h = self.entrance(grids.read(self.form, x))
        share = self.settings.dropout if self.training else 0.0
        for layer in self.layers:
            assert isinstance(layer, RowLSTM | DiagonalBiLSTM)
            h = h + dropout(layer.out(layer(h, above, labels)), share)
        said: Tensor = self.head(functional.silu(h))
        return said

    def reading(self, labels: Tensor) -> "Reading":
        """Keeps what does not change from pixel to pixel."""
        return Reading(self, labels)


class Reading:
    """A `PixelRNN` read pixel by pixel: each state is computed once."""

    def __init__(self, model: PixelRNN, labels: Tensor) -> None:
        n, columns = len(labels), model.form.width
        self.form, self.entrance = model.form, EntranceReading(model.entrance, n, columns)
        self.layers: list[RowReading | DiagonalReading] = []
        for layer in model.layers:
            if isinstance(layer, RowLSTM):
                self.layers.append(RowReading(layer, labels, columns))
            elif isinstance(layer, DiagonalBiLSTM):
                self.layers.append(DiagonalReading(layer, labels, columns))
        self.head, self.head_bias = affine(model.head)

    def row(self, row: int) -> None:
        """What all layers know from the rows above."""
        above = self.entrance.row(row)
        for layer in self.layers:
            layer.row(above)

    def cell(self, row: int, column: int) -> Tensor:
        """What is said of the pixel, ``[n, outputs]``."""
        h = self.entrance.cell(column)
        for layer in self.layers:
            h = torch.addmm(h, layer.cell(column, h), layer.out)
        return torch.addmm(self.head_bias, functional.silu(h), self.head)

    def put(self, row: int, column: int, values: Tensor) -> None:
        """The pixel's channels, ``[n, channel]``."""
        self.entrance.put(column, grids.cells(self.form, values[:, :, None, None])[:, :, 0, 0])

    def take(self, items: Tensor) -> None:
        """Go on with these items."""
        self.entrance.take(items)
        for layer in self.layers:
            layer.take(items)


MODEL = PixelRNN
