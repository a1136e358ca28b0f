"""Variational autoencoder: an encoder finds the code of an item, a decoder writes the item back, and codes drawn at
random become new items.

An item ``x`` is thought to come from a hidden code ``z``: first ``z`` is drawn from a standard Gaussian, the **prior**;
then the decoder says how each cell of ``x`` is distributed, the **observation law**. Which codes could have made a given
item is what the encoder guesses: ``q(z | x)``, a Gaussian for each item. Both learn together by raising the evidence
lower bound, ``E_q[log p(x | z)] - β KL(q(z | x) ‖ p(z))``: write the item back well, with codes that say no more than
they must. With several draws a bound that is tighter (IWAE): ``log 1/k Σ p(x, z_i) / q(z_i | x)``. The prior may be learned
too, as the guesses for made-up items (``prior=vamp``), or stand on a second code (``top``).

It gives a latent space that is smooth (near codes, similar items) and a likelihood from below. It is not sharp: what
the code does not say is drawn cell by cell.

Papers: Kingma & Welling 2014 (arXiv 1312.6114); Rezende et al. 2014 (1401.4082); Higgins et al. 2017 (β); Burda et al.
2016 (1509.00519, importance weights); Kingma et al. 2016 (1606.04934, free bits); Sønderby et al. 2016 (1602.02282, ladder);
Tomczak & Welling 2018 (1705.07120, VampPrior); Tucker et al. 2019 (1810.04152, DReG).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from pieria.data.batch import Batch, check
from pieria.errors import UsageError
from pieria.forms import Form, Grid, Label, Row
from pieria.layers import grids
from pieria.layers.convolution import Decoder, Encoder
from pieria.layers.labels import Labels
from pieria.layers.latents import Ladder, Vamp, gaussian, standard
from pieria.layers.mlp import MLP
from pieria.layers.parameters import Optimiser, groups
from pieria.layers.precision import Precision, products
from pieria.layers.rows import RowEncoding
from pieria.losses.importance import doubly, weighted
from pieria.losses.observation import Mixed, Observation, OverGrid, over_grid
from pieria.models.contract import Display, Likelihood, Losses, Model, Phase, Step, check_space
from pieria.noise import Noise, by_content
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

AT_ONCE = 2**21  # numbers that a decoder writes at once while it scores: what fits into a cache
DRAW = 250  # importance samples drawn at once


class VAESettings(AnySettings):
    """What a VAE is made of."""

    network: Literal["auto", "mlp", "convolution"] = Field(
        "auto", description="auto (convolution for grids whose shorter side is at least 16), mlp, convolution"
    )
    latent: int = Field(32, ge=1, description="numbers in a code")
    widths: tuple[int, ...] = Field((256, 256), description="hidden features of each layer of the mlp, and before the code")
    channels: int = Field(128, ge=1, description="convolution: features at the smallest size; halved at each doubling")
    observation: Literal["auto", "bernoulli", "gaussian", "logistic", "categorical"] = Field(
        "auto", description="the law of a grid's cells; auto goes by the levels. Rows have a mixed law of their own"
    )
    beta: float = Field(1.0, ge=0, description="weight of the KL term; above 1 codes say less and are more independent")
    draws: int = Field(1, ge=1, description="codes drawn for each item in training; more than 1 is the IWAE bound")
    gradient: Literal["whole", "path"] = Field("whole", description="path: the encoder's without what averages to 0 (DReG)")
    kl_warmup: int = Field(0, ge=0, description="steps in which the KL term's weight rises from 0 to beta")
    free_bits: float = Field(0.0, ge=0, description="nats that each number of a code may say, on average, before they cost")
    prior: Literal["gaussian", "vamp"] = Field("gaussian", description="or vamp: the mean guess for items that are learned")
    made_up: int = Field(200, ge=1, description="vamp: how many made-up items")
    top: int = Field(0, ge=0, description="numbers in a second code, from which the first is drawn (ladder); 0 is none")
    importance: int = Field(16, ge=1, description="importance samples in log_prob; 1 is the evidence lower bound")
    optimiser: Optimiser = Field("adamw", description="how matrices are moved: adamw, or orthogonal (all directions alike)")
    modes: int = Field(16, ge=1, description="rows: bumps that the law of a number is made of; 1 is a single Gaussian")
    precision: Precision = Field("auto", description="of products in training; auto is bfloat16 where the processor has it")


class VAESampling(AnySettings):
    """How a VAE draws."""

    temperature: float = Field(1.0, ge=0, description="scale of the code's Gaussian; below 1 more typical and less varied")
    observation: Literal["draw", "typical"] = Field(
        "draw", description="draw each cell from its law (what the model says), or take the most typical (cleaner)"
    )
    inside: bool = Field(True, description="rows: move numbers beyond the range of the training rows to its end")


class VAE(Model):
    """A latent-variable model with an amortised Gaussian posterior.

    ``log_prob`` is a lower bound in nats of the form's own tensors: probabilities for levels, densities for numbers.

    >>> from pieria.noise import ItemNoise
    >>> model = VAE(VAESettings(latent=2, widths=(8,)), Grid(1, 2, 2, levels=2))
    >>> model.sample(3, VAESampling(), ItemNoise(seed=0, size=3)).shape
    torch.Size([3, 1, 2, 2])
    """

    Settings = VAESettings
    Sampling = VAESampling
    consumes = frozenset({Grid, Row})
    conditions = frozenset({Label})
    likelihood: ClassVar[Likelihood] = "bound"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"network": "mlp", "latent": 2, "widths": (32,), "modes": 4, "precision": "float32"},
        "mlp": {"network": "mlp", "latent": 50, "widths": (500, 500)},
        "convolution": {"network": "convolution", "latent": 64, "channels": 256},
        "disentangled": {"latent": 10, "beta": 4.0},
        "vamp": {"prior": "vamp", "kl_warmup": 500},
        "ladder": {"latent": 64, "top": 16, "kl_warmup": 500},
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
    paper = "Kingma & Welling 2014, Auto-Encoding Variational Bayes, arXiv:1312.6114"

    settings: VAESettings

    def __init__(self, settings: VAESettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        self.labels = Labels(condition)
        # how many importance samples log_prob takes; a benchmark may set it without fitting again
        self.importance = settings.importance
        widths, latent, given = settings.widths or (256,), settings.latent, self.labels.width
        self.observation: Observation
        self.read: nn.Module
        self.write: nn.Module
        if isinstance(form, Row):
            encoding = RowEncoding(form, settings.modes)
            self.observation = Mixed(encoding)
            self.shape: tuple[int, ...] = (self.observation.outputs,)
            seen: tuple[int, ...] = (encoding.inputs,)
            self.read = MLP(encoding.inputs + given, widths, None)
            self.write = MLP(latent + given, widths[::-1], self.observation.outputs)
            features = widths[-1]
        else:
            assert isinstance(form, Grid)
            self.observation = over_grid(form, settings.observation)
            self.shape = (self.observation.outputs, form.height, form.width)
            seen = (grids.channels(form), form.height, form.width)
            if self._convolves():
                self.read = Encoder(grids.channels(form), form.height, form.width, settings.channels, nonlinear="silu")
                wide = widths[-1]
                self.write = nn.Sequential(
                    MLP(latent + given, (wide,), None),
                    Decoder(wide, self.observation.outputs, form.height, form.width, settings.channels, nonlinear="silu"),
                )
                features = self.read.outputs + given
            else:
                self.read = MLP(grids.channels(form) * form.height * form.width + given, widths, None)
                self.write = MLP(latent + given, widths[::-1], math.prod(self.shape))
                features = widths[-1]
        self.posterior = nn.Linear(features, 2 * latent)
        self.ladder = Ladder(features, latent, settings.top) if settings.top else None
        self.vamp = Vamp(settings.made_up, seen) if settings.prior == "vamp" else None
        self.numbers = latent + settings.top
        self.plain = self.ladder is None and self.vamp is None and settings.draws == 1 and settings.gradient == "whole"
        self._combined()
        if settings.kl_warmup:
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def _combined(self) -> None:
        s = self.settings
        if self.vamp is not None and (s.top or self.condition is not None):
            got = f"prior=vamp with {f'top={s.top}' if s.top else 'labels'}"
            raise UsageError(got, "one Gaussian code above the items, or made-up items for all", "Use prior=gaussian")
        if s.free_bits and not self.plain:
            got = f"free_bits={s.free_bits} where the KL term is not known number by number"
            raise UsageError(got, "draws=1, gradient=whole, prior=gaussian, top=0", "Use kl_warmup")
        if s.gradient == "path" and (s.top or s.beta != 1 or s.kl_warmup):
            raise UsageError("gradient=path for another bound", "top=0, beta=1, kl_warmup=0", "Use gradient=whole")

    def _convolves(self) -> bool:
        form, network = self.form, self.settings.network
        if not isinstance(form, Grid) or network == "mlp":
            return False
        return network == "convolution" or min(form.height, form.width) >= 16

    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Fit what is counted, not learned by gradient: the encoding of rows, how frequent each label is."""
        self.labels.fit(batches)
        if isinstance(self.observation, Mixed):
            self.observation.encoding.fit(batches)
        if self.vamp is not None:
            self.vamp.begin(self._seen(batch.x.to(self.vamp.items.device)) for batch in batches())

    # ---- the two networks --------------------------------------------------------------------------------------------

    def _seen(self, x: Tensor) -> Tensor:
        if isinstance(self.observation, Mixed):
            return self.observation.encoding.encode(x)
        assert isinstance(self.form, Grid)
        return grids.read(self.form, x)

    def infer(self, seen: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and deviation of ``q(z | x)``, each ``[batch, latent]``, and the features that they come from.

        ``seen`` are items as the encoder reads them, ``labels`` is one-hot ``[batch, class]``.
        """
        if self._convolves():
            features = torch.cat([self.read(seen), labels], dim=1)
        else:
            features = self.read(torch.cat([seen.flatten(1), labels], dim=1))
        mean, deviation = gaussian(self.posterior(features))
        return mean.float(), deviation.float(), features.float()

    def _made_up(self) -> tuple[Tensor, Tensor]:
        """The guesses for the made-up items."""
        assert self.vamp is not None
        return self.infer(self.vamp.items, self.vamp.items.new_zeros(len(self.vamp.items), 0))[:2]

    def codes(self, guess: tuple[Tensor, Tensor, Tensor], away: Tensor) -> tuple[Tensor, Tensor]:
        """Codes ``[batch, draw, number]`` by standard draws ``away``, and ``log p(z) - log q(z | x)`` ``[batch, draw]``."""
        (mean, deviation, features), path = guess, self.settings.gradient == "path"
        if self.ladder is not None:
            return self.ladder.infer(features, mean, deviation, away)
        if self.vamp is not None:
            return self.vamp.infer(mean, deviation, away, *self._made_up(), path)
        return standard(mean, deviation, away, path)

    def generate(self, z: Tensor, labels: Tensor) -> Tensor:
        """What the observation law reads: codes ``[batch, …, number]`` to ``[batch, …, *shape]``."""
        z = z[..., : self.settings.latent]  # what a second code says, it says through the first
        if labels.shape[1]:
            between = labels.reshape(labels.shape[0], *[1] * (z.dim() - 2), labels.shape[1])
            z = torch.cat([z, between.expand(*z.shape[:-1], -1)], dim=-1)
        raw: Tensor = self.write(z.flatten(0, -2))
        return raw.reshape(*z.shape[:-1], *self.shape)

    # ---- learning ----------------------------------------------------------------------------------------------------

    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """One optimiser for both networks; on MNIST orthogonal steps of their matrices save half of the time."""
        if self.settings.optimiser == "adamw":
            return {"model": [{"params": list(self.parameters())}]}
        networks = (p for name, p in self.named_parameters() if not name.startswith(("vamp", "observation")))
        return {"model": groups(self, networks, "orthogonal")}

    def phases(self) -> list[Phase]:
        """A game with one move."""
        return [Phase("bound", "model", self.loss, after=self._warmer if self.settings.kl_warmup else None)]

    def _warmer(self) -> None:
        self.get_buffer("steps").add_(1)

    def loss(self, batch: Batch, noise: Noise) -> Losses:
        """The negative evidence lower bound: nats to write the item back, plus β times the nats that its code says."""
        labels = self.labels(batch.condition, len(batch))
        beta, precise = self.settings.beta, self.settings.precision
        if self.settings.kl_warmup:
            beta *= min(1.0, float(self.get_buffer("steps") + 1) / self.settings.kl_warmup)
        with products(precise, batch.x.device):
            guess = self.infer(self._seen(batch.x), labels)
        z, told = self.codes(guess, noise.normal("z", (self.settings.draws, self.numbers)).to(guess[0]))  # [batch, draw, …]
        with products(precise, batch.x.device):
            raw = self.generate(z, labels).float()
        written = self.observation.log_prob(raw, batch.x)  # [batch, draw]
        kl = -told.mean(dim=1)
        if self.plain:
            mean, deviation, _ = guess
            each = 0.5 * (mean.square() + deviation.square() - 1 - 2 * deviation.log())
            kl = each.sum(dim=1)
            cost = each.mean(dim=0).clamp_min(self.settings.free_bits).sum() if self.settings.free_bits else kl
            loss = (beta * cost - written[:, 0]).mean()
        else:
            weights = written + beta * told
            loss = (doubly(weights, z) if self.settings.gradient == "path" else weighted(weights)).mean()
        parts = {"reconstruction": -written.mean().detach(), "kl": kl.mean().detach()}
        return Losses(loss, parts, count=len(batch))

    # ---- likelihood --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def log_prob(self, batch: Batch) -> Tensor:
        """A lower bound in nats ``[batch]``, by ``self.importance`` samples whose noise follows from the item alone.

        The same item always has the same score, whatever stands around it; on average over noise it is a lower bound.
        """
        return self.bound(batch, self.importance, by_content(batch.x))

    @torch.no_grad()
    def bound(self, batch: Batch, samples: int, noise: Noise) -> Tensor:
        """``log 1/k Σ p(x, z_i) / q(z_i | x)`` with ``k = samples`` codes from ``noise``, ``[batch]``.

        ``samples=1`` is the evidence lower bound; its mean rises with ``samples`` towards the likelihood.
        """
        check(self.form, batch.x)
        n = len(batch)
        labels = self.labels(self.labels.required(batch.condition, n), n)
        guess = self.infer(self._seen(batch.x), labels)
        total = guess[0].new_full((n,), -math.inf)
        for start in range(0, samples, DRAW):
            away = noise.normal("z", (min(DRAW, samples - start), self.numbers), step=start // DRAW).to(total)
            z, weight = self.codes(guess, away)
            step = max(1, AT_ONCE // (away.shape[1] * math.prod(self.shape)))
            for first in range(0, n, step):
                part = slice(first, first + step)
                weight[part] += self.observation.log_prob(self.generate(z[part], labels[part]), batch.x[part])
            total = torch.logaddexp(total, weight.logsumexp(dim=1))
        return total - math.log(samples)

    # ---- the latent space --------------------------------------------------------------------------------------------

    @property
    def latents(self) -> dict[str, tuple[int, ...]]:
        """One space: ``z``, spread as the prior says; with a second code both, the first one in front."""
        return {"z": (self.numbers,)}

    def prior(self, n: int, noise: Noise) -> Tensor:
        """``n`` codes ``[n, number]``."""
        assert len(noise) == n
        return self._prior(noise, 1.0)

    @torch.no_grad()
    def _prior(self, noise: Noise, temperature: float) -> Tensor:
        white = temperature * noise.normal("z", (self.numbers,)).to(self.posterior.weight)
        if self.ladder is not None:
            return self.ladder.prior(white)
        return white if self.vamp is None else self.vamp.prior(white, noise, *self._made_up())

    @torch.no_grad()
    def encode(self, x: Tensor, space: str = "z", condition: Tensor | None = None) -> Tensor:
        """The mean of ``q(z | x)``, ``[batch, number]``."""
        check_space(self, space)
        check(self.form, x)
        labels = self.labels(self.labels.required(condition, len(x)), len(x))
        guess = self.infer(self._seen(x), labels)
        return self.codes(guess, guess[0].new_zeros(len(x), 1, self.numbers))[0][:, 0]

    @torch.no_grad()
    def decode(
        self,
        z: Tensor,
        space: str = "z",
        options: AnySettings | None = None,
        noise: Noise | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """The items that codes ``[n, latent]`` stand for; without ``noise`` the most typical ones.

        Without a condition, a model that learned with one takes the label drawn with ``noise``, or the most frequent.
        """
        check_space(self, space)
        raw = self.generate(z, self.labels(self.labels.chosen(condition, noise, len(z)), len(z)))
        options = options if isinstance(options, VAESampling) else VAESampling.of({})
        typical = noise is None or options.observation == "typical"
        x = self.observation.typical(raw) if typical or noise is None else self.observation.draw(raw, noise)
        return self.observation.encoding.inside(x) if isinstance(self.observation, Mixed) and options.inside else x

    def expected(self, z: Tensor, space: str = "z", condition: Tensor | None = None) -> Tensor:
        """The mean of the law that each code's cells follow, ``[n, channel, height, width]``; it has a slope in ``z``."""
        check_space(self, space)
        assert isinstance(self.observation, OverGrid)
        return self.observation.expected(self.generate(z, self.labels(self.labels.chosen(condition, None, len(z)), len(z))))

    def display(self, options: AnySettings) -> Display:
        """Pictures are shown without the grain of their law; rows as they are drawn."""
        draws = isinstance(options, VAESampling) and options.observation == "draw"
        if not draws or not isinstance(self.observation, OverGrid):
            return Display(options)
        return Display(
            options.changed(observation="typical"),
            "Shown is the most typical picture of each code. The model itself, and every figure, draws each pixel from its "
            "law, which adds grain (observation=draw).",
        )

    # ---- drawing -----------------------------------------------------------------------------------------------------

    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """A code from the prior, what the decoder says of it, and an item drawn from that law."""
        assert isinstance(options, VAESampling)
        assert len(noise) == n
        return self.decode(self._prior(noise, options.temperature), "z", options, noise, condition)

    @torch.no_grad()
    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """A code from the prior, what the decoder says of it, and an item drawn from that law."""
        assert isinstance(options, VAESampling)
        label = self.labels.chosen(condition, noise, 1)
        if label is not None and isinstance(self.condition, Label):
            yield Step("label", note=f"The class is {self.condition.classes[int(label)]!r}.", data={"label": label})
        z = self._prior(noise, options.temperature)
        law = "the guess for a made-up item" if self.vamp is not None else "a standard Gaussian, knowing nothing of the data"
        yield Step("prior", note=f"A code is drawn from {law}.", data={"z": z})
        raw = self.generate(z, self.labels(label, 1))
        typical = self.observation.typical(raw)
        yield Step(
            "decoder", typical, "The decoder says how each cell is distributed; here its most typical item.", {"raw": raw}
        )
        x = self.decode(z, "z", options, noise, label)
        note = "Each cell is drawn from its law." if options.observation == "draw" else "The most typical item is taken."
        yield Step("observation", x, note)


MODEL = VAE
