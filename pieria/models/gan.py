"""Generative adversarial network: a generator turns noise into items, a discriminator tells them from real ones, and
each learns from the other.

No likelihood is written down. The **generator** maps a code ``z``, drawn from a standard Gaussian, to an item; the
**discriminator** gives each item a score, high for real ones. They move in turn: the discriminator learns to tell data
from what the generator makes now, the generator learns to make what the discriminator takes for data. Where the
discriminator is kept smooth (a penalty on its slope), the game settles; the weights that are kept are an average over
the end of the game.

It makes sharp items quickly. It cannot say how probable an item is, and it may leave out what is rare: at each look at
held-out data, clusters of them are counted that samples do not reach.

Papers: Goodfellow et al. 2014 (arXiv 1406.2661); Radford et al. 2016 (1511.06434, convolutions); Gulrajani et al. 2017
(1704.00028, gradient penalty); Heusel et al. 2017 (1706.08500, two time scales); Mescheder et al. 2018 (1801.04406, R1);
Miyato et al. 2018 (1802.05957, spectral norm); Miyato & Koyama 2018 (1802.05637, projection); Karras et al. 2020
(1912.04958, lazy penalties; 2006.06676, adaptive augmentation); Zhao et al. 2020 (2006.10738, differentiable augmentation).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from pieria.data.batch import Batch
from pieria.errors import UsageError
from pieria.forms import Form, Grid, Label, Row
from pieria.layers import grids
from pieria.layers.adversaries import Discriminator, PictureGenerator, PictureReader, makes, reads
from pieria.layers.augmentation import adapt, augment, differentiable, notice
from pieria.layers.labels import Labels
from pieria.layers.mlp import MLP
from pieria.layers.modes import left_out, small_pictures
from pieria.layers.precision import Precision, products
from pieria.layers.rows import RowEncoding
from pieria.losses import adversarial
from pieria.models.contract import Losses, Model, Phase, Step, check_space
from pieria.noise import Noise
from pieria.settings import Field
from pieria.settings import Settings as AnySettings


class GANSettings(AnySettings):
    """What a GAN is made of."""

    network: Literal["auto", "mlp", "convolution", "dcgan", "resnet"] = Field(
        "auto",
        description="dcgan (Radford 2016: a generator normalised over the batch); convolution (normalised by itself); "
        "resnet (Miyato 2018); mlp; auto is dcgan for grids whose shorter side is at least 4, else mlp",
    )
    latent: int = Field(64, ge=1, description="numbers in a code")
    widths: tuple[int, ...] = Field((256, 256), description="mlp: hidden features of each layer")
    channels: int = Field(128, ge=1, description="grids: features at the smallest size; halved at each doubling")
    loss: Literal["non-saturating", "least-squares", "hinge", "wasserstein"] = Field(
        "non-saturating", description="the game that is played"
    )
    penalty: Literal["auto", "r1", "gradient", "none"] = Field(
        "auto",
        description="what keeps the discriminator smooth: r1 (flat at the data), gradient (slope 1 between data "
        "and samples), none; auto is gradient for wasserstein, else r1",
    )
    penalty_weight: float = Field(0.0, ge=0, description="weight of the penalty; 0 chooses 1 for r1 and 20 for gradient")
    penalty_every: int = Field(
        0,
        ge=0,
        description="steps between lazy penalties, each weighted as many times; 0 chooses 16 for r1 and 1 for gradient",
    )
    critic_steps: int = Field(1, ge=1, description="discriminator steps for each generator step; 3 to 5 suit wasserstein")
    discriminator_rate: float = Field(
        1.0, gt=0, description="learning rate of the discriminator, as a multiple of the generator's (which is rate)"
    )
    spectral: bool = Field(False, description="divide each weight of the discriminator by its largest singular value")
    labels: Literal["projection", "concatenation"] = Field(
        "projection", description="how the discriminator reads a label: inner product with its features, or beside them"
    )
    augment: Literal["none", "differentiable", "adaptive"] = Field(
        "none",
        description="grids: how what the discriminator sees is changed, for small sets: differentiable (every picture, a "
        "little), adaptive (many kinds of change, as often as it takes)",
    )
    augment_strength: float = Field(1.0, ge=0, le=2, description="differentiable: amounts, as multiples of the paper's")
    augment_target: float = Field(0.6, gt=0, lt=1, description="adaptive: mean sign of the scores of data that is kept to")
    augment_items: int = Field(100_000, ge=1, description="adaptive: items in which the strength can go from 0 to 1")
    modes: int = Field(10, ge=1, description="rows: bumps that a number is read as and made of; 1 is a single Gaussian")
    precision: Precision = Field("auto", description="grids: of products in training; auto is bfloat16 where it is native")


class GANSampling(AnySettings):
    """How a GAN draws."""

    temperature: float = Field(1.0, ge=0, description="scale of the code's Gaussian; below 1 more typical and less varied")


class GAN(Model):
    """A generator and its discriminator; without a likelihood.

    >>> from pieria.noise import ItemNoise
    >>> model = GAN(GANSettings(latent=4, channels=4), Grid(1, 6, 9, levels=2))
    >>> model.sample(3, GANSampling(), ItemNoise(seed=0, size=3)).shape
    torch.Size([3, 1, 6, 9])
    """

    Settings = GANSettings
    Sampling = GANSampling
    consumes = frozenset({Grid, Row})
    conditions = frozenset({Label})
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"latent": 4, "widths": (32, 32), "channels": 16, "modes": 4, "precision": "float32"},
        "wasserstein": {"loss": "wasserstein", "critic_steps": 3, "rate": 1e-3},
        "spectral": {"loss": "hinge", "penalty": "none", "spectral": True, "rate": 1e-3},
        "dcgan": {
            "latent": 100, "channels": 256, "penalty": "none", "precision": "float32", "batch": 128,
            "rate": 2e-4, "schedule": "constant", "warmup": 1, "beta1": 0.5, "beta2": 0.999, "average": 0.0,
        },
        "resnet": {
            "network": "resnet", "loss": "hinge", "penalty": "none", "spectral": True, "latent": 128, "channels": 256,
            "rate": 2e-4, "discriminator_rate": 2.0,
        },
        "few": {"augment": "adaptive"},
        "large": {"latent": 128, "channels": 256, "widths": (512, 512, 512)},
    }  # fmt: skip
    training_defaults: ClassVar[dict[str, Any]] = {
        "batch": 64,
        "rate": 2e-3,
        "schedule": "cosine",
        "warmup": 50,
        "weight_decay": 0.0,
        "beta1": 0.0,
        "beta2": 0.99,
        "clip": 0.0,
        "average": 0.995,
        "patience": 0,  # the figure that is looked at tells of variety alone
    }
    validation_unit: ClassVar[str] = "share of held-out items in clusters that samples leave out"
    paper = "Goodfellow et al. 2014, Generative Adversarial Nets, arXiv:1406.2661"

    settings: GANSettings
    strength: Tensor
    signs: Tensor

    def __init__(self, settings: GANSettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        self.labels = Labels(condition)
        self.rows: RowEncoding | None = None
        self.generator: MLP | PictureGenerator
        if isinstance(form, Row):
            if settings.augment != "none":
                raise UsageError(
                    f"augment={settings.augment} for rows", "augment=none: it is pictures that it changes", "Leave it out"
                )
            if settings.network not in ("auto", "mlp"):
                raise UsageError(
                    f"network={settings.network} for rows", "network=mlp: the others make and read pictures", "Leave it out"
                )
            self.rows = RowEncoding(form, settings.modes)
            self.shape: tuple[int, ...] = (self.rows.outputs,)
            self.network = "mlp"
        else:
            assert isinstance(form, Grid)
            self.shape = (grids.channels(form), form.height, form.width)
            fits = "dcgan" if min(form.height, form.width) >= 4 else "mlp"
            self.network = fits if settings.network == "auto" else settings.network
        kind = settings.penalty
        self.penalty_kind = ("gradient" if settings.loss == "wasserstein" else "r1") if kind == "auto" else kind
        self._build(settings)
        self.penalty_every = settings.penalty_every or (1 if self.penalty_kind == "gradient" else 16)
        self.penalty_weight = settings.penalty_weight or (20.0 if self.penalty_kind == "gradient" else 1.0)
        self.precision: Precision = "float32" if self.rows is not None else settings.precision
        if settings.augment == "adaptive":
            self.register_buffer("strength", torch.zeros(()))  # the probability of each change
            self.register_buffer("signs", torch.zeros(3))

    def _build(self, settings: GANSettings) -> None:
        """The two players."""
        classes, spectral = self.labels.width, settings.spectral
        inputs, widths = settings.latent + classes, settings.widths or (256,)
        self.apart = False  # whether real and made items must not share a batch, which they are normalised by
        body: MLP | PictureReader
        if self.network == "mlp":
            cells = math.prod(self.shape)
            self.generator = MLP(inputs, widths, cells, nonlinear="relu")
            body = MLP(cells, widths, None, nonlinear="leaky", spectral=spectral)
        else:
            assert isinstance(self.form, Grid)
            size, channels = (grids.channels(self.form), self.form.height, self.form.width), settings.channels
            self.apart = self.network == "dcgan" and self.penalty_kind == "none" and not spectral
            self.generator = makes(self.network, inputs, classes, size, channels)
            body = reads(self.network, size, channels, spectral=spectral, norm=self.apart)
        self.discriminator = Discriminator(body, body.outputs, classes, settings.labels, spectral)

    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Fit what is counted, not learned by gradient: the encoding of rows, how frequent each label is."""
        self.labels.fit(batches)
        if self.rows is not None:
            self.rows.fit(batches)

    # ---- what the two players see ------------------------------------------------------------------------------------

    def real(self, x: Tensor) -> Tensor:
        """The form's tensor as the discriminator reads it: levels in [-1, 1], symbols one-hot, rows as codes."""
        if self.rows is not None:
            return self.rows.code(x)
        assert isinstance(self.form, Grid)
        return grids.read(self.form, x).flatten(1) if self.network == "mlp" else grids.read(self.form, x)

    def fake(self, z: Tensor, labels: Tensor, noise: Noise | None) -> Tensor:
        """What the generator makes of codes ``[batch, latent]``, as the discriminator reads it; choices use ``noise``."""
        return self._finish(self.generator(torch.cat([z, labels], dim=1)).float(), noise)

    def _finish(self, raw: Tensor, noise: Noise | None) -> Tensor:
        if self._continuous:
            return raw.tanh()
        gumbel = None if noise is None else noise.gumbel("choice", raw.shape[1:]).to(raw)
        if self.rows is not None:
            return self.rows.soften(raw, gumbel)
        assert isinstance(self.form, Grid)
        shaped = raw.reshape(len(raw), *self.shape)
        odds = None if gumbel is None else gumbel.reshape(shaped.shape)
        return grids.chosen(self.form, shaped, odds).reshape(raw.shape)

    @property
    def _continuous(self) -> bool:
        return isinstance(self.form, Grid) and (self.form.ordered or self.form.levels is None)

    def _seen(self, item: Tensor, noise: Noise, name: str) -> Tensor:
        """As the discriminator sees it: augmented."""
        if self.settings.augment == "none":
            return item
        adaptive = self.settings.augment == "adaptive"
        change, strength = (augment, float(self.strength)) if adaptive else (differentiable, self.settings.augment_strength)
        picture = item.reshape(len(item), *self.shape)
        return change(picture, strength, noise, name, colours=self._continuous).reshape(item.shape)

    def _scores(self, item: Tensor, labels: Tensor) -> Tensor:
        with products(self.precision, item.device):
            scored: Tensor = self.discriminator(item, labels)
        return scored.float()

    def _item(self, fake: Tensor) -> Tensor:
        if self.rows is not None:
            return self.rows.decode(fake)
        assert isinstance(self.form, Grid)
        return grids.write(self.form, fake.reshape(len(fake), *self.shape))

    # ---- learning ----------------------------------------------------------------------------------------------------

    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """An optimiser for each player; the discriminator's may go at a pace of its own."""
        pace = self.settings.discriminator_rate
        return {
            "generator": [{"params": list(self.generator.parameters())}],
            "discriminator": [{"params": list(self.discriminator.parameters()), "lr_scale": pace}],
        }

    def phases(self) -> list[Phase]:
        """The discriminator moves, now and then it is smoothed, the generator moves."""
        adapts = self.adapt if self.settings.augment == "adaptive" else None
        moves = [Phase("discriminator", "discriminator", self.judge, after=adapts)]
        if self.penalty_kind != "none" and self.penalty_every > 1:
            moves.append(Phase("penalty", "discriminator", self.smooth, every=self.penalty_every))
        moves.append(Phase("generator", "generator", self.fool, every=self.settings.critic_steps))
        return moves

    def _made(self, batch: Batch, noise: Noise) -> tuple[Tensor, Tensor]:
        """A fake for each item of the batch, with the same label; and the labels, one-hot."""
        labels = self.labels(batch.condition, len(batch))
        z = noise.normal("z", (self.settings.latent,)).to(batch.x.device)
        with products(self.precision, batch.x.device):
            made = self.fake(z, labels, noise)
        return self._seen(made, noise, "made"), labels

    def judge(self, batch: Batch, noise: Noise) -> Losses:
        """The discriminator learns to score data higher than what the generator makes now."""
        with torch.no_grad():
            fake, labels = self._made(batch, noise)
        real = self._seen(self.real(batch.x), noise, "real")
        if self.apart:
            on_real, on_fake = self._scores(real, labels), self._scores(fake, labels)
        else:
            on_real, on_fake = self._scores(torch.cat([real, fake]), torch.cat([labels, labels])).chunk(2)
        loss = adversarial.discriminator_loss(self.settings.loss, on_real, on_fake)
        parts = {"real": on_real.mean().detach(), "fake": on_fake.mean().detach()}
        if self.settings.augment == "adaptive":
            notice(self.signs, on_real - adversarial.boundary(self.settings.loss, on_real, on_fake))
            parts["augmentation"] = self.strength.clone()
        if self.penalty_kind != "none" and self.penalty_every == 1:
            penalty = self._penalty(real, fake, labels, noise)
            loss, parts["slope"] = loss + self.penalty_weight * penalty, penalty.detach()
        return Losses(loss, parts, count=len(batch))

    def adapt(self) -> None:
        """More augmentation while the discriminator is too sure of the data, less otherwise."""
        adapt(self.strength, self.signs, target=self.settings.augment_target, items=self.settings.augment_items)

    def smooth(self, batch: Batch, noise: Noise) -> Losses:
        """The discriminator's slope is kept small, every few steps with as many times the weight."""
        with torch.no_grad():
            fake, labels = self._made(batch, noise)
        penalty = self._penalty(self._seen(self.real(batch.x), noise, "real"), fake, labels, noise)
        return Losses(self.penalty_weight * self.penalty_every * penalty, {"slope": penalty.detach()}, count=len(batch))

    def _penalty(self, real: Tensor, fake: Tensor, labels: Tensor, noise: Noise) -> Tensor:
        def score(item: Tensor) -> Tensor:
            return self._scores(item, labels)

        if self.penalty_kind == "r1":
            return adversarial.r1(score, real)
        return adversarial.gradient_penalty(score, real, fake, noise.uniform("between").to(real))

    def fool(self, batch: Batch, noise: Noise) -> Losses:
        """The generator learns to make what the discriminator takes for data."""
        fake, labels = self._made(batch, noise)
        scores = self._scores(fake, labels)
        return Losses(adversarial.generator_loss(self.settings.loss, scores), {}, count=len(batch))

    @torch.no_grad()
    def validate(self, batch: Batch, noise: Noise) -> Losses:
        """The share of held-out items that lie in clusters which samples leave out: 0 where all kinds are made."""
        return self.comparison(*self.compared(batch, noise))

    @torch.no_grad()
    def compared(self, batch: Batch, noise: Noise) -> tuple[Tensor, Tensor]:
        """Held-out items and as many made, as points ``[batch, number]`` whose distances tell kinds apart."""
        drawn = self.sample(len(batch), GANSampling(), noise, batch.condition)
        return self._points(batch.x), self._points(drawn)

    def comparison(self, real: Tensor, made: Tensor) -> Losses:
        """What `validate` says, of these points."""
        share, clusters, covered = left_out(real, made)
        parts = {"clusters": torch.tensor(float(clusters)), "covered": torch.tensor(float(covered))}
        return Losses(torch.tensor(share), parts, count=len(real))

    def _points(self, x: Tensor) -> Tensor:
        """Codes of rows, small pictures."""
        if self.rows is not None:
            return self.rows.code(x)
        assert isinstance(self.form, Grid)
        return small_pictures(grids.read(self.form, x))

    # ---- the latent space --------------------------------------------------------------------------------------------

    @property
    def latents(self) -> dict[str, tuple[int, ...]]:
        """One space: ``z``, standard Gaussian."""
        return {"z": (self.settings.latent,)}

    def prior(self, n: int, noise: Noise) -> Tensor:
        """``n`` codes ``[n, latent]``."""
        assert len(noise) == n
        return noise.normal("z", (self.settings.latent,)).to(next(self.parameters()))

    @torch.no_grad()
    def decode(
        self,
        z: Tensor,
        space: str = "z",
        options: AnySettings | None = None,
        noise: Noise | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """The items that codes ``[n, latent]`` stand for; choices (categories, symbols) are drawn with ``noise``.

        Without a condition, a model that learned with one takes the label drawn with ``noise``, or the most frequent.
        """
        del options
        check_space(self, space)
        labels = self.labels(self.labels.chosen(condition, noise, len(z)), len(z))
        return self._item(self.fake(z, labels, noise))

    def expected(self, z: Tensor, space: str = "z", condition: Tensor | None = None) -> Tensor:
        """What the generator makes of each code, ``[n, channel, height, width]``; it has a slope in ``z``."""
        check_space(self, space)
        labels = self.labels(self.labels.chosen(condition, None, len(z)), len(z))
        return self.fake(z, labels, None).reshape(len(z), *self.shape)

    # ---- drawing -----------------------------------------------------------------------------------------------------

    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """A code from the prior, and what the generator makes of it."""
        assert isinstance(options, GANSampling)
        return self.decode(options.temperature * self.prior(n, noise), "z", options, noise, condition)

    @torch.no_grad()
    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """A code from the prior, the feature maps on the way, and the item."""
        assert isinstance(options, GANSampling)
        label = self.labels.chosen(condition, noise, 1)
        if label is not None and isinstance(self.condition, Label):
            yield Step("label", note=f"The class is {self.condition.classes[int(label)]!r}.", data={"label": label})
        z = options.temperature * self.prior(1, noise)
        yield Step("prior", note="A code is drawn from a standard Gaussian, knowing nothing of the data.", data={"z": z})
        labels = self.labels(label, 1)
        if not isinstance(self.generator, MLP):
            *maps, raw = self.generator.steps(torch.cat([z, labels], dim=1))
            for features in maps:
                size = f"{features.shape[2]} × {features.shape[3]}"
                note = f"Features on a field of {size}; each next layer doubles it and fills in detail."
                yield Step(f"features {size}", note=note, data={"features": features})
        else:
            raw = self.generator(torch.cat([z, labels], dim=1))
        fake = self._finish(raw, noise)
        score = self.discriminator(fake, labels)
        note = "The generator's last layer, put into the form of the data. The score is what the discriminator says of it."
        yield Step("item", self._item(fake), note, {"score": score})


MODEL = GAN
