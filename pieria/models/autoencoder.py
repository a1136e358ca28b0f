"""Autoencoder: squeeze an item through a few numbers and write it back; a density of those numbers then makes new items.

An encoder turns an item into a short code ``z``, a decoder turns the code back into the item, and both learn by one error:
how far what is written lies from what was read. Nothing says how codes are spread, so a second stage fits a density to
the codes of the training items: a mixture of Gaussians, by expectation-maximisation. A new item is a code drawn from it,
decoded. Three ways to keep the code from being a mere copy, which may be combined:

- few numbers (``latent``): with linear networks and the squared error these span the space of the principal components;
- **denoising** (``noise``, ``masked``): the encoder reads a damaged item, and the whole one has to be written back;
- **contractive** (``contract``): a code must change little where the item does, ``‖∂z/∂x‖²`` being small.

It gives codes, sharp decisions and a cheap sampler; its code space has holes, which the density only goes round. It has no
likelihood: for one, and for a space without holes, take the variational autoencoder.

Papers: Hinton & Salakhutdinov 2006 (deep ones); Baldi & Hornik 1989 (linear ones and principal components); Vincent et al.
2008 and 2010 (denoising); Rifai et al. 2011 (contractive); Ghosh et al. 2020 (arXiv 1903.12436, a density of the codes).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from pieria.data.batch import Batch, check
from pieria.errors import UsageError
from pieria.forms import Column, Form, Grid, Row
from pieria.layers import grids
from pieria.layers.convolution import Decoder, Encoder
from pieria.layers.gaussians import Gaussians
from pieria.layers.mlp import MLP
from pieria.layers.precision import Precision, products
from pieria.layers.rows import RowEncoding
from pieria.losses.observation import Mixed, Observation, OverGrid, over_grid
from pieria.models.contract import Losses, Model, NoOptions, Phase, Stage, Step, check_space, device_of
from pieria.noise import Noise, StepNoise
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

CODES = 10_000  # codes that the density is fitted to, evenly spaced over the data
ROUNDS, GAIN = 50, 1e-3  # of EM at most, and the nats a code below whose gain it stops
NEAR = 0.1  # a Gaussian's extra point is spread like this share of all codes' variance
LEAST_SPREAD = 1e-4  # variance of a batch's codes below which contraction is not measured against it


class AutoencoderSettings(AnySettings):
    """What an autoencoder is made of."""

    network: Literal["auto", "linear", "mlp", "convolution"] = Field(
        "auto", description="auto (convolution for grids whose shorter side is at least 16), linear, mlp, convolution"
    )
    latent: int = Field(32, ge=1, description="numbers in a code")
    widths: tuple[int, ...] = Field((256, 256), description="hidden features of each layer of the mlp, and before the code")
    channels: int = Field(128, ge=1, description="convolution: features at the smallest size; halved at each doubling")
    loss: Literal["auto", "squared", "cross-entropy"] = Field(
        "auto", description="grids: the error of what is written back; auto is cross-entropy for two levels and for symbols"
    )
    noise: float = Field(0.0, ge=0, description="denoising: deviation of the noise on what is read, which lies in [-1, 1]")
    masked: float = Field(0.0, ge=0, lt=1, description="denoising: share of what is read that is set to 0")
    contract: float = Field(0.0, ge=0, description="contractive: weight of the code's slope, for codes of variance 1")
    components: int = Field(32, ge=1, description="Gaussians of the density that is fitted to the codes")
    modes: int = Field(16, ge=1, description="rows: bumps that the law of a number is made of; 1 is a single Gaussian")
    precision: Precision = Field(
        "auto", description="of matrix products in training; auto is bfloat16 where the processor multiplies it natively"
    )


class AutoencoderSampling(AnySettings):
    """How an autoencoder draws."""

    temperature: float = Field(1.0, ge=0, description="scale around the Gaussians' centres; below 1 more typical")
    inside: bool = Field(True, description="rows: move numbers beyond the range of the training rows to its end")


class Autoencoder(Model):
    """An encoder, a decoder and a density of the codes; without a likelihood.

    >>> from pieria.noise import ItemNoise
    >>> model = Autoencoder(AutoencoderSettings(latent=2, widths=(8,)), Grid(1, 2, 2, levels=2))
    >>> model.sample(3, AutoencoderSampling(), ItemNoise(seed=0, size=3)).shape
    torch.Size([3, 1, 2, 2])
    """

    Settings = AutoencoderSettings
    Sampling = AutoencoderSampling
    consumes = frozenset({Grid, Row})
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"network": "mlp", "latent": 4, "widths": (64,), "modes": 4, "precision": "float32"},
        "linear": {"network": "linear", "latent": 16, "loss": "squared", "precision": "float32"},
        "small": {"network": "mlp", "latent": 16},
        "denoising": {"noise": 0.5},
        "contractive": {"contract": 1.0},
        "fashion": {"network": "convolution", "latent": 32, "channels": 256, "noise": 0.1, "components": 64},
    }
    training_defaults: ClassVar[dict[str, Any]] = {
        "batch": 128,
        "rate": 1e-3,
        "schedule": "cosine",
        "warmup": 100,
        "weight_decay": 0.0,
        "beta2": 0.999,
        "clip": 0.0,
        "average": 0.995,
    }
    paper = "Hinton & Salakhutdinov 2006, Reducing the dimensionality of data with neural networks, Science 313"

    settings: AutoencoderSettings

    def __init__(self, settings: AutoencoderSettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        self.coder = Coder(settings, form)
        self.density = CodeDensity(settings, Row(tuple(Column(f"z{i}", "number") for i in range(settings.latent))))

    def stages(self) -> list[Stage]:
        """The two networks, with the whole budget; then the density of the codes, which takes seconds."""
        return [Stage("autoencoder", self.coder, _same, 1.0), Stage("density of the codes", self.density, self._codes, 0.0)]

    def _codes(self, batch: Batch) -> Batch:
        return Batch(self.encode(batch.x.to(device_of(self.coder))), index=batch.index)

    # ---- the latent space --------------------------------------------------------------------------------------------

    @property
    def latents(self) -> dict[str, tuple[int, ...]]:
        """One space: ``z``, as the encoder spreads it."""
        return {"z": (self.settings.latent,)}

    def prior(self, n: int, noise: Noise) -> Tensor:
        """``n`` codes ``[n, latent]`` from the density that was fitted to those of the training items."""
        return self.density.sample(n, NoOptions(), noise)

    @torch.no_grad()
    def encode(self, x: Tensor, space: str = "z", condition: Tensor | None = None) -> Tensor:
        """The code of each item, ``[batch, latent]``."""
        check_space(self, space)
        check(self.form, x)
        return self.coder.infer(self.coder.seen(x))

    @torch.no_grad()
    def decode(
        self,
        z: Tensor,
        space: str = "z",
        options: AnySettings | None = None,
        noise: Noise | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """The items that codes ``[n, latent]`` stand for; nothing about it is random."""
        check_space(self, space)
        x = self.coder.item(self.coder.generate(z))
        inside = options.inside if isinstance(options, AutoencoderSampling) else True
        return self.coder.rows.inside(x) if self.coder.rows is not None and inside else x

    def expected(self, z: Tensor, space: str = "z", condition: Tensor | None = None) -> Tensor:
        """What is written for each code, not rounded: ``[n, channel, height, width]``; it has a slope in ``z``."""
        del condition
        check_space(self, space)
        return self.coder.expected(self.coder.generate(z))

    # ---- drawing -----------------------------------------------------------------------------------------------------

    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """A code from the density, and the item that it stands for."""
        assert isinstance(options, AutoencoderSampling)
        return self.decode(self.density.drawn(noise, options.temperature)[1], "z", options)

    @torch.no_grad()
    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """A Gaussian of the density, its centre as an item, a code drawn around it, and the item."""
        assert isinstance(options, AutoencoderSampling)
        component, z = self.density.drawn(noise, options.temperature)
        k = int(component[0])
        centre = self.density.law.mean[:, k].to(z)
        note = f"One of {self.settings.components} Gaussians, which lie where the codes of training items do: its centre."
        yield Step(f"Gaussian {k} is chosen", self.decode(centre, "z", options), note, {"z": centre})
        yield Step("code", note="A code is drawn around that centre.", data={"z": z})
        yield Step("decoder", self.decode(z, "z", options), "The decoder writes the item that this code stands for.")


class Coder(Model):
    """The encoder and the decoder: what the first stage learns (it is not a family of its own)."""

    Settings = AutoencoderSettings
    consumes = Autoencoder.consumes
    presets: ClassVar = {"tiny": {}}
    paper = Autoencoder.paper
    validation_unit: ClassVar[str] = "error per item written back"

    settings: AutoencoderSettings
    centre: Tensor

    def __init__(self, settings: AutoencoderSettings, form: Form) -> None:
        super().__init__(settings, form)
        widths, latent = settings.widths or (256,), settings.latent
        self.law: Observation | None = None  # None is the squared error
        self.rows: RowEncoding | None = None
        self.convolves = self._convolves()
        read: MLP | Encoder
        if isinstance(form, Row):
            self.rows = RowEncoding(form, settings.modes)
            self.law = Mixed(self.rows)
            seen: tuple[int, ...] = (self.rows.inputs,)
            self.shape: tuple[int, ...] = (self.law.outputs,)
        else:
            assert isinstance(form, Grid)
            self.law = _law(form, settings.loss)
            seen = (grids.channels(form), form.height, form.width)
            self.shape = seen if self.law is None else (self.law.outputs, form.height, form.width)
        if self.convolves:
            channels, height, width = seen
            read = Encoder(channels, height, width, settings.channels, nonlinear="silu")
            decoder = Decoder(widths[-1], self.shape[0], height, width, settings.channels, nonlinear="silu")
            self.write: nn.Module = nn.Sequential(MLP(latent, widths[-1:], None), decoder)
        else:
            inside = () if settings.network == "linear" else widths
            read = MLP(math.prod(seen), inside, None)
            self.write = MLP(latent, inside[::-1], math.prod(self.shape))
        self.read, self.code = read, nn.Linear(read.outputs, latent)
        # the mean of what the encoder sees of the training items: around it, all directions are learned about as quickly
        self.register_buffer("centre", torch.zeros(seen))

    def _convolves(self) -> bool:
        form, network = self.form, self.settings.network
        if not isinstance(form, Grid) or network in ("mlp", "linear"):
            return False
        return network == "convolution" or min(form.height, form.width) >= 16

    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Fit what is counted, not learned by gradient: the encoding of rows, and the mean of what is seen."""
        if self.rows is not None:
            self.rows.fit(batches)
        total, items = torch.zeros_like(self.centre, dtype=torch.float64), 0
        for batch in batches():
            total += self._plain(batch.x.to(self.centre.device)).sum(dim=0, dtype=torch.float64)
            items += len(batch)
        self.centre.copy_(total / max(1, items))

    # ---- the two networks --------------------------------------------------------------------------------------------

    def _plain(self, x: Tensor) -> Tensor:
        if self.rows is not None:
            return self.rows.encode(x)
        assert isinstance(self.form, Grid)
        return grids.read(self.form, x)

    def seen(self, x: Tensor) -> Tensor:
        """The form's tensor as the encoder reads it, around the mean: ``[batch, feature]``, or a picture if it convolves."""
        seen = self._plain(x) - self.centre
        return seen if self.convolves else seen.flatten(1)

    def infer(self, seen: Tensor) -> Tensor:
        """The code of what was `seen`, ``[batch, latent]``."""
        z: Tensor = self.code(self.read(seen))
        return z

    def generate(self, z: Tensor) -> Tensor:
        """What the decoder writes, ``[batch, *shape]``: for each cell its value, or the odds of what it may be."""
        raw: Tensor = self.write(z)
        raw = raw.reshape(len(z), *self.shape)
        return raw + self.centre if self.law is None else raw

    def item(self, raw: Tensor) -> Tensor:
        """What was written, in the form's tensor."""
        if self.law is not None:
            return self.law.typical(raw)
        assert isinstance(self.form, Grid)
        return grids.write(self.form, raw)

    def expected(self, raw: Tensor) -> Tensor:
        """What was written, as `grids.read` gives items."""
        assert self.law is None or isinstance(self.law, OverGrid)
        return raw if self.law is None else self.law.expected(raw)

    def error(self, raw: Tensor, x: Tensor) -> Tensor:
        """How far it lies from the item, ``[batch]``: squared differences in [-1, 1], or nats, summed over the cells."""
        if self.law is not None:
            return -self.law.log_prob(raw, x)
        assert isinstance(self.form, Grid)
        return (raw - grids.read(self.form, x)).square().flatten(1).sum(dim=1)

    # ---- learning ----------------------------------------------------------------------------------------------------

    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """One optimiser for both networks."""
        return {"model": [{"params": list(self.parameters())}]}

    def phases(self) -> list[Phase]:
        """A game with one move."""
        return [Phase("writing back", "model", self.loss)]

    def loss(self, batch: Batch, noise: Noise) -> Losses:
        """The error of the whole item, written back from what was read of it; and the slope of the code, if wanted."""
        s = self.settings
        seen = self.seen(batch.x)
        if s.noise:
            seen = seen + s.noise * noise.normal("damage", seen.shape[1:]).to(seen)
        if s.masked:
            seen = seen * (noise.uniform("mask", seen.shape[1:]).to(seen) >= s.masked)
        if s.contract:
            seen = seen.detach().requires_grad_()
        # the slope is differentiated twice, which bfloat16 is too coarse for
        with products("float32" if s.contract else s.precision, batch.x.device):
            z = self.infer(seen)
            raw = self.generate(z).float()
        error = self.error(raw, batch.x).mean()
        if not s.contract:
            return Losses(error, count=len(batch))
        # ‖∂z/∂x‖² is the mean over random directions v of ‖∂(z·v)/∂x‖²; measured against the codes' own spread, since small
        # codes, which the decoder makes large again, would meet it else
        along = noise.normal("direction", (s.latent,)).to(z)
        (slope,) = torch.autograd.grad((z * along).sum(), seen, create_graph=True)
        spread = z.float().var(dim=0, correction=0).sum().clamp_min(LEAST_SPREAD)
        slope = s.latent * slope.float().square().flatten(1).sum(dim=1).mean() / spread
        return Losses(error + s.contract * slope, {"error": error.detach(), "slope": slope.detach()}, count=len(batch))

    @torch.no_grad()
    def validate(self, batch: Batch, noise: Noise) -> Losses:
        """The error of undamaged items."""
        return Losses(self.error(self.generate(self.infer(self.seen(batch.x))), batch.x).mean(), count=len(batch))

    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """Not drawn from by itself: `Autoencoder` draws."""
        raise UsageError("an encoder and a decoder were asked to draw", "a density of their codes", "Ask the Autoencoder")


class CodeDensity(Model):
    """A mixture of Gaussians over the codes: what the second stage estimates (it is not a family of its own)."""

    Settings = AutoencoderSettings
    consumes = frozenset({Row})
    presets: ClassVar = {"tiny": {}}
    paper = "Dempster, Laird and Rubin 1977, Maximum likelihood from incomplete data via the EM algorithm"

    settings: AutoencoderSettings

    def __init__(self, settings: AutoencoderSettings, form: Form) -> None:
        super().__init__(settings, form)
        self.law = Gaussians(1, settings.components, settings.latent, "full")

    @torch.no_grad()
    def estimate(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Expectation-maximisation from a k-means++ start, in float64 on the processor."""
        home = self.law.mean.device
        codes = torch.cat([batch.x.cpu() for batch in batches()]).double()
        codes = codes[:: max(1, -(-len(codes) // CODES))]
        check(self.form, codes.float(), "the codes of the training items")
        law = self.law.to("cpu")
        near = (NEAR * codes.var(dim=0, correction=0)).clamp_min(1e-8)
        law.begin(codes, near, StepNoise(0, 0, "density", 1))
        before = -math.inf
        for _ in range(ROUNDS):
            log = law.log_density(codes)  # [code, 1, component]
            reached = float(log.logsumexp(dim=2).mean())
            if reached - before < GAIN:
                break
            before = reached
            law.fit(log.softmax(dim=2), codes, near, extra=1.0, smoothing=1.0)
        law.to(home)

    def drawn(self, noise: Noise, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """The Gaussian of each item, long ``[n]``, and its code, float32 ``[n, latent]``."""
        home = self.law.mean.device
        passed = self.law.weights[0].cumsum(dim=0)
        toss = noise.uniform("Gaussian").to(home).double() * passed[-1]
        component = torch.searchsorted(passed, toss, right=True).clamp(max=len(passed) - 1)
        white = temperature * noise.normal("code", (self.settings.latent,)).to(home).double()
        # one number at a time, so that a code does not depend on how many are drawn beside it
        away = (self.law.root[0, component] * white[:, None]).sum(dim=2)
        return component, (self.law.mean[0, component] + away).float()

    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """Codes ``[n, latent]``."""
        assert len(noise) == n
        return self.drawn(noise)[1]


def _law(form: Grid, loss: str) -> Observation | None:
    """The law whose nats are the error; None for squared differences."""
    numbers = form.levels is None or (form.ordered and form.levels > 2)
    if loss == "squared" or (loss == "auto" and numbers):
        return None
    return over_grid(form, "bernoulli" if form.levels == 2 and form.ordered else "categorical")


def _same(batch: Batch) -> Batch:
    return batch


MODEL = Autoencoder
