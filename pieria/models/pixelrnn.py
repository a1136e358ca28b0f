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

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pieria.data.batch import Batch, check
from pieria.forms import Form, Grid, Label
from pieria.layers import grids
from pieria.layers.dropout import dropout
from pieria.layers.grid_lstm import DiagonalBiLSTM, DiagonalReading, RowLSTM, RowReading
from pieria.layers.labels import Labels
from pieria.layers.masked import Entrance, EntranceReading, affine
from pieria.layers.precision import Precision, products
from pieria.losses.pixels import law_of
from pieria.models.contract import Likelihood, Losses, Model, Phase, Step
from pieria.noise import Noise
from pieria.sampling.raster import Anew, Raster, ReaderOf, blank, checked, drawn, filled, steps
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

AT_ONCE = 2**22  # features of one layer that are computed at once while scoring


class PixelRNNSettings(AnySettings):
    """What a PixelRNN is made of."""

    network: Literal["row", "diagonal"] = Field(
        "row", description="row: Row LSTM; diagonal: Diagonal BiLSTM, which sees all"
    )
    features: int = Field(64, ge=1, description="numbers in the state of a pixel, and features of a pixel between layers")
    layers: int = Field(1, ge=1, description="LSTM layers after the first convolution")
    kernel: int = Field(3, ge=3, le=15, description="row: how wide a pixel looks at its row and at the states above it")
    first: int = Field(7, ge=3, le=15, description="side of the first layer's window")
    places: bool = Field(
        True, description="learn what is special about each place; leave it out where content may stand anywhere"
    )
    law: Literal["auto", "categorical", "logistic"] = Field(
        "auto", description="of a pixel's levels; auto: logistic mixture for more than 32 ordered levels, else categorical"
    )
    bumps: int = Field(10, ge=1, description="logistic: bumps in the mixture")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of each layer's outputs that training sets to zero")
    precision: Precision = Field(
        "auto", description="of products in training; auto is bfloat16 where the processor multiplies it natively"
    )


class PixelRNN(Model):
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
    training_defaults: ClassVar[dict[str, Any]] = {
        "batch": 64,
        "rate": 2e-3,
        "schedule": "cosine",
        "warmup": 100,
        "weight_decay": 0.0,
        "beta2": 0.999,
        "clip": 0.0,
        "final": 0.02,
        "average": 0.995,
    }
    paper = "van den Oord et al. 2016, Pixel Recurrent Neural Networks, arXiv:1601.06759"

    settings: PixelRNNSettings
    form: Grid

    def __init__(self, settings: PixelRNNSettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        assert isinstance(form, Grid)
        self.labels = Labels(condition)
        features = settings.features
        places = (form.height, form.width) if settings.places else None
        self.entrance = Entrance(grids.channels(form), features, settings.first, places)
        make = RowLSTM if settings.network == "row" else DiagonalBiLSTM
        layers = [make(features, settings.kernel, self.labels.width) for _ in range(settings.layers)]
        for layer in layers:  # so that the sum over all layers begins about as large as one of them
            nn.init.normal_(layer.out.weight, std=(features * settings.layers) ** -0.5)
        self.layers = nn.ModuleList(layers)
        self.law = law_of(form, settings.law, features=features, bumps=settings.bumps)
        self.head = nn.Conv2d(features, self.law.outputs, 1)

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

    def reader(self, labels: Tensor, cached: bool = True) -> "Reading | Anew":
        """Tells of one pixel after another what the network says; ``labels`` is one-hot ``[n, class]``."""
        if cached:
            return Reading(self, labels)
        return Anew(lambda x: self.network(x, labels), self._blank(len(labels)))

    def _readers(self, labels: Tensor | None, n: int, options: Raster) -> ReaderOf:
        given = self.labels(labels, n)
        return lambda items: self.reader(given[items], options.cached)

    def _blank(self, n: int) -> Tensor:
        return blank(self.form, n, self.head.weight.device)

    @torch.no_grad()
    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """Draw pixel after pixel, each from its law given those before it."""
        assert isinstance(options, Raster)
        assert len(noise) == n
        readers = self._readers(self.labels.chosen(condition, noise, n), n, options)
        return drawn(readers, self.law, self._blank(n), noise, options.temperature)

    @torch.no_grad()
    def fill(self, x: Tensor, mask: Tensor, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """``x`` with everything redrawn where ``mask`` is False, given what stands before and (by importance) after it."""
        assert isinstance(options, Raster)
        check(self.form, x)
        checked(self.form, x, mask)
        readers = self._readers(self.labels.chosen(condition, noise, len(x)), len(x), options)
        return filled(readers, self.law, x, mask, noise, options)

    @torch.no_grad()
    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """Pixel after pixel with the odds of each."""
        assert isinstance(options, Raster)
        label = self.labels.chosen(condition, noise, 1)
        if label is not None and isinstance(self.condition, Label):
            yield Step("label", note=f"The class is {self.condition.classes[int(label)]!r}.", data={"label": label})
        readers = self._readers(label, 1, options)
        yield from steps(readers, self.law, self.form, self._blank(1), noise, options.temperature)


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
