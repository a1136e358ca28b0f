"""Diffusion: noise is added to an item little by little until nothing of it is left, and a network learns to undo that.

At each time an item is ``x_t = alpha x + sigma noise``. The network sees ``x_t`` and how noisy it is, and says what it was
before, or what noise was added, or the direction between: all the same, since two of the three make the third. That is
least squares, at every level of noise: no game, no code that collapses. To draw, one begins with noise and takes steps
towards what the network says; early steps settle what it is, late ones how it looks. A **solver** says how to step.

It makes the best pictures of all families here, covers what is rare, can be steered by labels or captions (guidance) and
fills gaps. It is slow: a sample takes as many passes as there are steps; `objective=consistency` learns to jump.

Papers: Sohl-Dickstein et al. 2015 (arXiv 1503.03585); Ho et al. 2020 (2006.11239, DDPM); Song et al. 2021 (2010.02502,
DDIM); Kingma et al. 2021 (2107.00630, the bound); Salimans & Ho 2022 (2202.00512, v); Karras et al. 2022 (2206.00364, EDM);
Lipman et al. 2023 (2210.02747) and Liu et al. 2023 (2209.03003, flow matching); Peebles & Xie 2023 (2212.09748, DiT); Ho &
Salimans 2022 (2207.12598, guidance); Luhman & Luhman 2021 (2101.02388) and Song et al. 2023 (2303.01469), few steps; Lugmayr
et al. 2022 (2201.09865, filling).
"""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from pieria.data.batch import Batch, check
from pieria.errors import FormError, UsageError
from pieria.forms import Form, Grid, Label, Row, Tokens
from pieria.layers.dit import DiT
from pieria.layers.parameters import Optimiser
from pieria.layers.precision import Precision, products
from pieria.layers.residual_mlp import ResidualMLP
from pieria.layers.unet import UNet
from pieria.losses.around import grid_around, row_around
from pieria.losses.chain import cost_of_chain, until_known
from pieria.losses.consistency import distance
from pieria.models.contract import Likelihood, Losses, Phase
from pieria.models.denoised import Denoised, DiffusionSampling
from pieria.noise import ItemNoise, Noise, StepNoise, by_content
from pieria.sampling import solvers
from pieria.sampling.noise_schedules import Discrete, Exploding, Schedule, Straight
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

MOST = 25  # how much more an error counts where little noise is left, of a network that tells the item itself


class DiffusionSettings(AnySettings):
    """What a diffusion model is made of."""

    process: Literal["ddpm", "edm", "flow"] = Field(
        "ddpm", description="how noise is added: ddpm (a thousand small steps), edm (Karras et al.), flow (a straight line)"
    )
    noise_schedule: Literal["cosine", "linear"] = Field("cosine", description="ddpm: how the noise grows over time")
    prediction: Literal["v", "noise", "x"] = Field(
        "v",
        description="ddpm: what the network tells; v lies between the noise and the clean item; x, the item, makes the best "
        "pictures after a short training, and a loose bound",
    )
    objective: Literal["denoise", "consistency"] = Field(
        "denoise",
        description="denoise: guess what the item was; consistency: where the path from the noise ends, for one to four "
        "steps, learned with --start-from a run that denoises",
    )
    jumps: int = Field(8, ge=2, description="consistency: steps of the paths learned from, made by what it was before")
    network: Literal["auto", "unet", "dit", "mlp"] = Field(
        "auto", description="auto (unet for grids whose shorter side is at least 8, else mlp), unet, dit, mlp"
    )
    channels: int = Field(32, ge=4, description="unet: features at the largest size")
    multiples: tuple[int, ...] = Field((1, 2, 2), description="unet: features at each size, as multiples of channels")
    blocks: int = Field(1, ge=1, description="unet: residual blocks at each size")
    attention: int = Field(8, ge=0, description="unet: sizes whose longer side is at most this have self-attention")
    patch: int = Field(0, ge=0, description="grids are read in squares of this side; 0 chooses by their size")
    width: int = Field(256, ge=8, description="mlp and dit: features, for dit a multiple of 32")
    depth: int = Field(4, ge=1, description="mlp and dit: blocks")
    dropout: float = Field(0.0, ge=0, lt=1, description="unet: share of features set to zero in training")
    unlabelled: float = Field(
        0.1, ge=0, lt=1, description="share of training items whose label is not told, so that samples can be guided"
    )
    modes: int = Field(16, ge=1, description="rows: bumps of the law by which a number is made Gaussian; 1 only scales it")
    terms: int = Field(8, ge=1, description="levels of noise in one look of log_prob, of which it takes at least four")
    optimiser: Optimiser = Field(
        "orthogonal", description="unet: orthogonal steps for the matrices inside, or AdamW's for all"
    )
    precision: Precision = Field(
        "auto", description="of matrix products in training; auto is bfloat16 where the processor multiplies it natively"
    )


class Diffusion(Denoised):
    """A network that takes noise away, and the steps from noise to items.

    ``log_prob`` estimates a lower bound in nats of the form's own tensors: the variational bound of the chain of a thousand
    levels (Ho et al. 2020), whose sum over levels is sampled.

    >>> model = Diffusion(DiffusionSettings(width=16, depth=1), Grid(1, 2, 2, levels=2))
    >>> model.sample(3, DiffusionSampling(steps=5), ItemNoise(seed=0, size=3)).shape
    torch.Size([3, 1, 2, 2])
    """

    Settings = DiffusionSettings
    Sampling = DiffusionSampling
    consumes = frozenset({Grid, Row})
    conditions = frozenset({Label, Tokens})
    likelihood: ClassVar[Likelihood] = "bound"
    validation_unit: ClassVar[str] = "squared error of what the network tells"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {
            "channels": 16,
            "multiples": (1, 2),
            "width": 32,
            "depth": 2,
            "modes": 4,
            "patch": 1,
            "precision": "float32",
        },
        "small": {"channels": 16, "width": 128, "depth": 3},
        "fashion": {"channels": 32, "multiples": (1, 2), "patch": 2, "batch": 32, "prediction": "x"},
        "consistency": {"objective": "consistency", "rate": 5e-4},
        "edm": {"process": "edm"},
        "flow-matching": {"process": "flow"},
        "dit": {"network": "dit", "width": 192, "depth": 6},
        "ddpm": {"noise_schedule": "linear", "prediction": "noise", "multiples": (1, 2, 2, 2), "channels": 128, "blocks": 2},
    }
    training_defaults: ClassVar[dict[str, Any]] = {
        "batch": 64,
        "rate": 1e-3,
        "schedule": "cosine",
        "warmup": 100,
        "weight_decay": 0.0,
        "beta2": 0.99,
        "clip": 1.0,
        "average": 0.998,
        "final": 0.05,
    }
    paper = "Ho, Jain & Abbeel 2020, Denoising Diffusion Probabilistic Models, arXiv:2006.11239"

    settings: DiffusionSettings

    def __init__(self, settings: DiffusionSettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition, settings.modes)
        self.consistent, self.guided = settings.objective == "consistency", settings.unlabelled > 0
        self.process: Schedule
        if settings.process == "ddpm":
            self.process = Discrete(settings.noise_schedule)
        else:
            # coded rows vary twice as much as the pictures for which these levels were chosen
            middle = -1.2 if isinstance(form, Grid) else -0.5
            self.process = Exploding(middle=middle) if settings.process == "edm" else Straight()
        self.network = self._network(form)
        self.teacher: nn.Module | None = None
        self.begun = False  # whether a consistency model has a teacher that has learned something
        if self.consistent:
            self.teacher = self._network(form).requires_grad_(requires_grad=False)
            self.register_load_state_dict_pre_hook(_taught_by_what_it_was)

    def _network(self, form: Form) -> nn.Module:
        s, classes, kind = self.settings, self.labels.width, self.settings.network
        if isinstance(form, Row) and kind not in ("auto", "mlp"):
            raise UsageError(f"network = {kind} for rows", "a network for rows", "Use network = auto")
        if kind == "auto":
            kind = "unet" if isinstance(form, Grid) and min(form.height, form.width) >= 8 else "mlp"
        if kind == "mlp":
            return ResidualMLP(self.shape, s.width, s.depth, classes=classes)
        side = max(self.shape[1:])
        if kind == "dit":
            if s.width % 32:
                raise UsageError(f"width = {s.width} for a dit", "a multiple of 32", "Set width = 192, for example")
            patch = s.patch or (1 if side <= 8 else 2 if side <= 16 else 4)  # attention looks at a few dozen patches
            heads = s.width // 32
            return DiT(*self.shape, patch=patch, features=s.width, depth=s.depth, heads=heads, classes=classes)
        if not s.multiples or min(s.multiples) < 1:
            raise UsageError(
                f"multiples = {','.join(map(str, s.multiples))}", "one or more numbers from 1 on", "Set multiples=1,2,2"
            )
        patch = s.patch or (1 if side <= 16 else 2)
        least = patch * 2 ** (len(s.multiples) - 1)
        if side < least:
            raise FormError(
                f"a grid of {self.shape[1]} × {self.shape[2]}",
                f"at least {least} cells a side for {len(s.multiples)} sizes of patches of {patch}",
                "Set network = mlp, or fewer multiples",
            )
        cells, height, width = self.shape
        return UNet(
            cells, height, width, s.channels, s.multiples,
            blocks=s.blocks, attention=s.attention, dropout=s.dropout, classes=classes, patch=patch,
        )  # fmt: skip

    # ---- what the network sees and tells -----------------------------------------------------------------------------

    def target(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """``(a, b)`` such that the network is to tell ``a x + b noise`` at this level."""
        none = torch.zeros_like(alpha)
        if self.settings.process == "flow":
            return none - 1, none + 1  # the velocity from the item to noise
        if self.settings.process == "edm":  # what makes input and target of unit variance, whatever the level
            d = self.spread.to(alpha)
            both = (sigma.square() + d.square()).sqrt()
            return sigma / (d * both), -d / both
        if self.settings.prediction == "v":
            return -sigma, alpha
        return (none + 1, none) if self.settings.prediction == "x" else (none, none + 1)

    def output_of(self, x: Tensor, t: Tensor, labels: Tensor, network: nn.Module | None = None) -> Tensor:
        """What the network (or another one) tells of noisy ``x [batch, *shape]`` at times ``t [batch]``."""
        scale, level = torch.ones_like(t, dtype=torch.float32), t
        if self.settings.process == "edm":
            d = self.spread.to(t)
            scale, level = (t.square() + d.square()).rsqrt().float(), 250 * t.log()
        elif self.settings.process == "flow":
            level = 1000 * t
        told: Tensor = (network or self.network)(_over(scale, x) * x, level.float(), labels)
        return told

    def clean(self, x: Tensor, t: float, labels: Tensor, guidance: float = 1.0) -> Tensor:
        """The clean item that the network sees in ``x`` at one time, within the range of the data."""
        times = torch.full((len(x),), t, dtype=torch.float64, device=x.device)
        if guidance == 1:
            told = self.output_of(x, times, labels)
        else:  # once with its label and once without
            two = torch.cat([labels, torch.zeros_like(labels)])
            with_it, without = self.output_of(torch.cat([x, x]), torch.cat([times, times]), two).chunk(2)
            told = without + guidance * (with_it - without)
        return self._guess(x, told, times)

    def _guess(self, x: Tensor, told: Tensor, times: Tensor) -> Tensor:
        return self._unbounded(x, told, times).clamp(self.low, self.high)

    def _unbounded(self, x: Tensor, told: Tensor, times: Tensor) -> Tensor:
        alpha, sigma = self.process.level(times)
        a, b = self.target(alpha, sigma)
        whole = a * sigma - b * alpha
        return _over(sigma / whole, x) * told - _over(b / whole, x) * x

    # ---- learning ----------------------------------------------------------------------------------------------------

    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Fit what is counted, not learned by gradient (see `Denoised.count`)."""
        if self.consistent and not self.begun:
            raise UsageError(
                "objective = consistency of a model that has learned nothing yet",
                "a run that denoises, to be learned from",
                "Give --start-from RUN, or leave objective out",
            )
        self.count(batches)

    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """Matrices inside a U-Net take orthogonal steps: C-FID 9.0 after 800 of 32 pictures (Fashion-MNIST), AdamW's 19.1.

        Of a consistency model the network alone learns, since the teacher goes on reading labels as it did.
        """
        learning = list((self.network if self.consistent else self).parameters())
        if self.settings.optimiser == "adamw" or not isinstance(self.network, UNet):
            return {"model": [{"params": learning}]}
        inside = {id(p) for p in self.network.parameters() if p.dim() >= 2} - {id(self.network.last.weight)}
        matrices, others = ([p for p in learning if (id(p) in inside) == wanted] for wanted in (True, False))
        return {"model": [{"params": matrices, "orthogonal": 4.0}, {"params": others}]}

    def phases(self) -> list[Phase]:
        """A game with one move."""
        return [Phase("consistency", "model", self.loss)] if self.consistent else [Phase("denoising", "model", self.loss)]

    def loss(self, batch: Batch, noise: Noise) -> Losses:
        """The mean squared error of what the network tells, at a level of noise drawn for each item."""
        labels = self.labels(batch.condition, len(batch))
        if self.labels.width and self.settings.unlabelled:
            told = noise.uniform("unlabelled").to(labels) >= self.settings.unlabelled
            labels = labels * told[:, None]
        return self._error(batch, labels, noise)

    @torch.no_grad()
    def validate(self, batch: Batch, noise: Noise) -> Losses:
        """The same of held-out items, their labels told; the same noise at every look."""
        return self._error(batch, self.labels(batch.condition, len(batch)), noise)

    def _error(self, batch: Batch, labels: Tensor, noise: Noise) -> Losses:
        y = self.read(batch.x)
        # one time from each of as many equal parts as there are items: the levels of a batch are well spread
        first, total = (noise.first, noise.total) if isinstance(noise, StepNoise) else (0, len(noise))
        u = (noise.uniform("time").to(y.device) + torch.arange(first, first + len(y)).to(y)) / total
        added = noise.normal("noise", self.shape).to(y)
        with products(self.settings.precision, y.device):
            error = self._missed(labels, added) if self.consistent else self._wrong(y, labels, u, added)
        return Losses(error.mean(), {}, count=len(batch))

    def _seen(self, y: Tensor, added: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.process.level(t)
        return _over(alpha, y) * y + _over(sigma, y) * added

    def _wrong(self, y: Tensor, labels: Tensor, u: Tensor, added: Tensor) -> Tensor:
        """The squared error of what the network tells."""
        t = self.process.learned(u)
        alpha, sigma = self.process.level(t)
        a, b = self.target(alpha, sigma)
        told = self.output_of(self._seen(y, added, t), t, labels).float()
        wrong = (told - (_over(a, y) * y + _over(b, y) * added)).square()
        if self.settings.process == "ddpm" and self.settings.prediction == "x":
            # as the same error of v would count (1 / sigma²), but where hardly any noise is left (Li & He 2025, 2511.13720)
            wrong = wrong * _over(sigma.square().clamp(min=1 / MOST).reciprocal(), y)
        return wrong

    def _missed(self, labels: Tensor, z: Tensor) -> Tensor:
        """How far the guess at each level of paths from noise ``z`` is from where the teacher's steps end."""
        times, parts = self.process.turns(self.settings.jumps), -(-len(z) // self.settings.jumps)
        x, labels = self._top(times[0]) * z[:parts], labels[:parts]  # a few paths, each learned from at all of its levels
        with torch.no_grad():
            path = [x, *(x for x, _ in solvers.dpm_solver(self.leading(labels), self.process, times, x))]
        seen, levels = torch.cat(path[:-1]), len(times) - 1
        t = torch.tensor(times[:-1], dtype=torch.float64, device=z.device).repeat_interleave(parts)
        told = self.output_of(seen, t, labels.repeat(levels, 1)).float()
        ends = path[-1].clamp(self.low, self.high)
        return distance(self._unbounded(seen, told, t), ends.repeat(levels, *[1] * (z.dim() - 1)))

    def leading(self, labels: Tensor) -> solvers.Denoise:
        """The guesses that lead along a path: of a consistency model those of its teacher."""
        return partial(self._taught, labels)

    def _taught(self, labels: Tensor, x: Tensor, t: float) -> Tensor:
        times = torch.full((len(x),), t, dtype=torch.float64, device=x.device)
        return self._guess(x, self.output_of(x, times, labels, self.teacher).float(), times)

    # ---- likelihood --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def log_prob(self, batch: Batch) -> Tensor:
        """An estimate of the lower bound in nats ``[batch]``, with noise that follows from the item alone.

        Looks are taken until their mean is known to about 0.15 nats or a twentieth of it, each at ``terms`` levels.
        """
        items = by_content(batch.x).items

        def look(rows: Tensor, looks: range) -> Tensor:
            return self._looks(batch.rows(rows), ItemNoise(0, 0, items=[items[row] for row in rows.tolist()]), looks)

        return until_known(look, len(batch)).float()

    @torch.no_grad()
    def bound(self, batch: Batch, samples: int, noise: ItemNoise) -> Tensor:
        """The mean of ``samples`` looks at the variational bound, ``[batch]``; each is right in the mean over noise.

        ``log p(x) ≥ E log p(x | x_0) - KL(q(x_T | x) ‖ p(x_T)) - Σ_t ½ (SNR(t-1) - SNR(t)) E ‖x - guess(x_t)‖²``.
        """
        return self._looks(batch, noise, range(samples)).mean(dim=0).float()

    def _looks(self, batch: Batch, noise: ItemNoise, looks: range) -> Tensor:
        """Float64 ``[look, batch]``."""
        check(self.form, batch.x)
        n = len(batch)
        labels = self.labels(self.labels.required(batch.condition, n), n)
        terms, numbers = self.settings.terms, 1 + (1 + self.settings.terms) * math.prod(self.shape)
        found, size = [], self._size(terms)
        for start in range(0, n, size):
            x, here = batch.x[start : start + size], noise.part(start, start + size)
            y, told, together, each = self.read(x), labels[start : start + size], max(1, size // len(x)), []
            for first in range(0, len(looks), together):
                some = looks[first : first + together]
                drawn = torch.cat([here.normal("look", (numbers,), look) for look in some]).to(y)
                again = torch.arange(len(x), device=y.device).repeat(len(some))
                each.append(self._look(x[again], y[again], told[again], drawn).view(len(some), -1))
            found.append(torch.cat(each))
        return torch.cat(found, dim=1)

    def _look(self, x: Tensor, y: Tensor, labels: Tensor, drawn: Tensor) -> Tensor:
        """Float64 ``[batch]``; ``drawn`` is standard noise, ``[batch, 1 + (1 + terms) cells]``."""
        terms, cells = self.settings.terms, math.prod(self.shape)
        times = self.process.chain().to(y.device)
        alpha, sigma = self.process.level(times)
        # below this noise every level, symbol or value can be told from its neighbours, and nothing is left to say
        seen_through = int((sigma / alpha >= self._finest()).long().argmax())
        times, alpha, sigma = times[seen_through:], alpha[seen_through:], sigma[seen_through:]
        added = drawn[:, 1 + cells :].reshape(len(y), terms, *self.shape)
        told = labels.repeat_interleave(terms, dim=0)

        def guess(seen: Tensor, place: Tensor) -> Tensor:
            return self._guess(seen, self.output_of(seen, times[place], told), times[place])

        where = torch.special.ndtr(drawn[:, 0].double())
        cost = cost_of_chain(y, guess, alpha, sigma, where, added, self.middle, float(self.spread))
        # the least noise: the item itself, around the guess at it
        a, s, added = float(alpha[0]), float(sigma[0]), drawn[:, 1 : 1 + cells].reshape(y.shape)
        it = self.clean(a * y + s * added, float(times[0]), labels)
        if self.rows is not None:
            return row_around(self.rows, it, s / a, x, added) - cost
        assert isinstance(self.form, Grid)
        return grid_around(self.form, it, s / a, x, added) - cost

    def _finest(self) -> float:
        """The noise, as a share of the item, at which the chain of the bound ends."""
        if isinstance(self.form, Grid) and self.form.levels is not None:
            return 1 / (4 * max(1, self.form.levels - 1)) if self.form.ordered else 0.25
        return 0.02 if self.rows is None or self.rows.numbers else 0.25


def _taught_by_what_it_was(model: nn.Module, state: dict[str, Tensor], *_: Any) -> None:
    """Weights without a teacher are those of a model that denoises: it becomes the teacher."""
    assert isinstance(model, Diffusion)
    model.begun = True
    for name in [name for name in state if name.startswith("network.")]:
        state.setdefault("teacher." + name.removeprefix("network."), state[name])


def _over(values: Tensor, x: Tensor) -> Tensor:
    """A value for each item as a tensor beside ``x``, in its dtype."""
    return values.to(x.dtype).view(-1, *[1] * (x.dim() - 1))


MODEL = Diffusion
