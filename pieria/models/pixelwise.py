"""What families share that write a picture pixel by pixel: the order, the likelihood, drawing, filling and explaining.

In reading order ``p(x) = Π p(pixel | all pixels above it and to its left)``, and within a pixel one channel after another
(van den Oord et al. 2016, arXiv 1601.06759). A family brings the network that says something of each pixel from those before
it, and a reader that says the same of one pixel after the other; a law (`losses.pixels`) makes odds of what is said.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from pieria.data.batch import Batch, check
from pieria.forms import Form, Grid, Label
from pieria.layers import grids
from pieria.layers.labels import Labels
from pieria.layers.masked import Entrance
from pieria.layers.precision import Precision, products
from pieria.losses.pixels import law_of
from pieria.models.contract import Losses, Model, Phase, Step
from pieria.noise import Noise
from pieria.sampling.raster import Anew, Raster, Reader, ReaderOf, blank, checked, drawn, filled, steps
from pieria.settings import Field
from pieria.settings import Settings as AnySettings


class PixelwiseSettings(AnySettings):
    """What is said of a pixel, and how."""

    features: int = Field(64, ge=1, description="features of a pixel in each layer")
    layers: int = Field(1, ge=1, description="layers after the first convolution")
    kernel: int = Field(3, ge=3, le=15, description="side of the window that a layer sees, before masking")
    first: int = Field(7, ge=3, le=15, description="side of the first layer's window")
    places: bool = Field(
        True, description="learn what is special about each place; leave it out where content may stand anywhere"
    )
    law: Literal["auto", "categorical", "logistic"] = Field(
        "auto", description="of a pixel's levels; auto: logistic mixture for more than 32 ordered levels, else categorical"
    )
    bumps: int = Field(10, ge=1, description="logistic: bumps in the mixture")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of features that training sets to zero in each layer")
    precision: Precision = Field(
        "auto", description="of products in training; auto is bfloat16 where the processor multiplies it natively"
    )


class Pixelwise(Model):
    """A product of the laws of single pixels, each given all pixels before it.

    A family calls `stacked` with its layers, then `conclude` once all its layers are made. ``at_once`` is how many features
    of one layer are computed at once while scoring.
    """

    at_once: ClassVar[int]
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

    settings: PixelwiseSettings
    form: Grid

    def __init__(self, settings: AnySettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        self.labels = Labels(condition)
        places = (self.form.height, self.form.width) if self.settings.places else None
        self.entrance = Entrance(grids.channels(self.form), self.settings.features, self.settings.first, places)

    def stacked(self, layers: Sequence[nn.Module]) -> nn.ModuleList:
        """The layers, begun so that the sum of what all add is about as large as what one of them would be."""
        for layer in layers:
            nn.init.normal_(layer.out.weight, std=(self.settings.features * len(layers)) ** -0.5)  # type: ignore[union-attr,arg-type]
        return nn.ModuleList(layers)

    def conclude(self) -> None:
        """Make the law, and what tells its numbers from the last layer."""
        features = self.settings.features
        self.law = law_of(self.form, self.settings.law, features=features, bumps=self.settings.bumps)
        self.head = nn.Conv2d(features, self.law.outputs, 1)

    @abstractmethod
    def network(self, x: Tensor, labels: Tensor) -> Tensor:
        """What is said of each pixel, ``[batch, outputs, height, width]``; ``labels`` is one-hot ``[batch, class]``."""

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
        pixels = self.form.height * self.form.width
        return Losses(nats, {"nats a pixel": nats.detach() / pixels}, count=len(batch))

    # ---- likelihood --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def log_prob(self, batch: Batch) -> Tensor:
        """Nats of each picture ``[batch]``."""
        check(self.form, batch.x)
        labels = self.labels(self.labels.required(batch.condition, len(batch)), len(batch))
        size = max(1, self.at_once // (self.form.height * self.form.width * self.settings.features))
        parts = zip(batch.x.split(size), labels.split(size), strict=True)
        return torch.cat([self.law.log_prob(self.network(x, label), x) for x, label in parts])

    # ---- drawing -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def reading(self, labels: Tensor) -> Reader:
        """Tells of one pixel after another what the network says, keeping what does not change; as `reader`."""

    def reader(self, labels: Tensor, cached: bool = True) -> Reader:
        """Tells of one pixel after another what the network says; ``labels`` is one-hot ``[n, class]``."""
        if cached:
            return self.reading(labels)
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
