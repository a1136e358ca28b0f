"""Diffusion: noise is added to an item little by little until nothing of it is left, and a network learns to undo that.

At each time an item is ``x_t = alpha x + sigma noise``. The network sees ``x_t`` and how noisy it is, and says what it was
before, or what noise was added, or the direction between: all the same, since two of the three make the third. That is
least squares, at every level of noise: no game, no code that collapses. To draw, one begins with noise and takes steps
towards what the network says; early steps settle what it is, late ones how it looks. A **solver** says how to step.

It makes the best pictures of all families here, covers what is rare, can be steered by labels (guidance) and fills gaps. It
is slow: a sample takes as many passes as there are steps.

Papers: Sohl-Dickstein et al. 2015 (arXiv 1503.03585); Ho et al. 2020 (2006.11239, DDPM); Song et al. 2021 (2010.02502,
DDIM); Kingma et al. 2021 (2107.00630, the bound); Salimans & Ho 2022 (2202.00512, v); Karras et al. 2022 (2206.00364, EDM);
Lipman et al. 2023 (2210.02747) and Liu et al. 2023 (2209.03003, flow matching); Peebles & Xie 2023 (2212.09748, DiT); Ho &
Salimans 2022 (2207.12598, guidance); Lugmayr et al. 2022 (2201.09865, filling).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from pieria.data.batch import Batch, check
from pieria.errors import FormError, UsageError
from pieria.forms import Form, Grid, Label, Row
from pieria.layers import grids
from pieria.layers.dit import DiT
from pieria.layers.labels import Labels
from pieria.layers.normal_rows import NormalRows
from pieria.layers.precision import Precision, products
from pieria.layers.residual_mlp import ResidualMLP
from pieria.layers.unet import UNet
from pieria.losses.around import grid_around, row_around
from pieria.losses.chain import cost_of_chain, until_known
from pieria.models.contract import Likelihood, Losses, Model, Phase, Step, check_space
from pieria.noise import ItemNoise, Noise, StepNoise, by_content
from pieria.sampling import solvers
from pieria.sampling.noise_schedules import Discrete, Exploding, Schedule, Straight
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

AT_ONCE = 2**18  # numbers of items that a network reads at once outside training: what fits into a cache
FITTED = 20_000  # items that the middle and the spread of the data are taken from


class DiffusionSettings(AnySettings):
    """What a diffusion model is made of."""

    process: Literal["ddpm", "edm", "flow"] = Field(
        "ddpm", description="how noise is added: ddpm (a thousand small steps), edm (Karras et al.), flow (a straight line)"
    )
    noise_schedule: Literal["cosine", "linear"] = Field("cosine", description="ddpm: how the noise grows over time")
    prediction: Literal["v", "noise", "x"] = Field(
        "v", description="ddpm: what the network tells; v lies between the noise and the clean item"
    )
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
    precision: Precision = Field(
        "auto", description="of matrix products in training; auto is bfloat16 where the processor multiplies it natively"
    )


class DiffusionSampling(AnySettings):
    """How a diffusion model draws."""

    solver: Literal["dpm++", "ddim", "ddpm", "heun", "euler"] = Field(
        "dpm++",
        description="dpm++ (few steps), ddim, ddpm (fresh noise, many steps), heun (two passes a step), euler (flow)",
    )
    steps: int = Field(30, ge=1, le=1000, description="steps from noise to item; fewer are quicker and coarser")
    guidance: float = Field(
        1.0, ge=0, description="how strongly a label is followed: 1 as learned, above more typical and less varied, 0 not"
    )
    temperature: float = Field(1.0, ge=0, description="scale of the first noise; below 1 more typical and less varied")
    resample: int = Field(4, ge=1, description="fill: how often each step is made, so that both parts come to agree")


class Diffusion(Model):
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
    conditions = frozenset({Label})
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
        "fashion": {"channels": 32, "multiples": (1, 2), "patch": 2, "batch": 32},
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
    middle: Tensor
    spread: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, settings: DiffusionSettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        self.labels = Labels(condition)
        self.rows = NormalRows(form, settings.modes) if isinstance(form, Row) else None
        self.process: Schedule
        if settings.process == "ddpm":
            self.process = Discrete(settings.noise_schedule)
        else:
            # coded rows vary twice as much as the pictures for which these levels were chosen
            middle = -1.2 if isinstance(form, Grid) else -0.5
            self.process = Exploding(middle=middle) if settings.process == "edm" else Straight()
        self.shape: tuple[int, ...]
        if isinstance(form, Grid):
            self.shape = (grids.channels(form), form.height, form.width)
        else:
            assert self.rows is not None
            self.shape = (self.rows.width,)
        self.network = self._network(form)
        # what the data are like, taken from them before training: mean of each cell, common deviation, range
        self.register_buffer("middle", torch.zeros(self.shape))
        self.register_buffer("spread", torch.tensor(0.5 if isinstance(form, Grid) else 1.0))
        bounded = isinstance(form, Grid) and form.levels is not None
        edge = torch.full(self.shape if isinstance(form, Row) else (), 1.0 if bounded else math.inf)
        self.register_buffer("low", -edge)
        self.register_buffer("high", edge)

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
        patch = s.patch or (1 if side <= 16 else 2)
        least = patch * 2 ** max(0, len(s.multiples) - 1)
        if not s.multiples or side < least:
            raise FormError(
                f"a grid of {self.shape[1]} × {self.shape[2]}",
                f"at least {least} cells a side for {len(s.multiples)} sizes of patches of {patch}",
                "Set network = mlp, or fewer multiples",
            )
        cells, height, width = self.shape
        return UNet(
            cells,
            height,
            width,
            s.channels,
            s.multiples,
            blocks=s.blocks,
            attention=s.attention,
            dropout=s.dropout,
            classes=classes,
            patch=patch,
        )

    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Fit what is counted, not learned by gradient: rows' encoding, labels' shares, middle and spread of the data."""
        self.labels.fit(batches)
        if self.rows is not None:
            self.rows.rows.fit(batches)
        parts, seen = [], 0
        for batch in batches():
            parts.append(self.read(batch.x))
            seen += len(batch)
            if seen >= FITTED:
                break
        y = torch.cat(parts)
        self.middle.copy_(y.mean(dim=0))
        self.spread.copy_((y - self.middle).square().mean().sqrt().clamp(min=1e-3))
        if not (isinstance(self.form, Grid) and self.form.levels is not None):
            # held-out items may lie a little farther out
            self.low.copy_((y.amin(dim=0) if self.rows is not None else y.min()) - 3 * self.spread)
            self.high.copy_((y.amax(dim=0) if self.rows is not None else y.max()) + 3 * self.spread)

    # ---- what the network sees and tells -----------------------------------------------------------------------------

    def read(self, x: Tensor) -> Tensor:
        """The form's tensor as noise is added to it, ``[batch, *shape]``: levels in [-1, 1], symbols one-hot, rows coded."""
        if self.rows is not None:
            return self.rows.encode(x)
        assert isinstance(self.form, Grid)
        y = grids.read(self.form, x)
        return y if self.form.ordered or self.form.levels is None else 2 * y - 1

    def write(self, y: Tensor) -> Tensor:
        """What `read` gave, or something near it, in the form's tensor."""
        if self.rows is not None:
            return self.rows.decode(y)
        assert isinstance(self.form, Grid)
        return grids.write(self.form, y)

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

    def tell(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """What the network tells of noisy ``x [batch, *shape]`` at times ``t [batch]``; ``labels`` one-hot."""
        scale, level = torch.ones_like(t, dtype=torch.float32), t
        if self.settings.process == "edm":
            d = self.spread.to(t)
            scale, level = (t.square() + d.square()).rsqrt().float(), 250 * t.log()
        elif self.settings.process == "flow":
            level = 1000 * t
        told: Tensor = self.network(_over(scale, x) * x, level.float(), labels)
        return told

    def clean(self, x: Tensor, t: float, labels: Tensor, guidance: float = 1.0) -> Tensor:
        """The clean item that the network sees in ``x`` at one time, within the range of the data."""
        times = torch.full((len(x),), t, dtype=torch.float64, device=x.device)
        if guidance == 1:
            told = self.tell(x, times, labels)
        else:  # once with its label and once without
            two = torch.cat([labels, torch.zeros_like(labels)])
            with_it, without = self.tell(torch.cat([x, x]), torch.cat([times, times]), two).chunk(2)
            told = without + guidance * (with_it - without)
        return self._guess(x, told, times)

    def _guess(self, x: Tensor, told: Tensor, times: Tensor) -> Tensor:
        alpha, sigma = self.process.level(times)
        a, b = self.target(alpha, sigma)
        whole = a * sigma - b * alpha
        guess = _over(sigma / whole, x) * told - _over(b / whole, x) * x
        return guess.clamp(self.low, self.high)

    # ---- learning ----------------------------------------------------------------------------------------------------

    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """One optimiser."""
        return {"model": [{"params": list(self.parameters())}]}

    def phases(self) -> list[Phase]:
        """A game with one move."""
        return [Phase("denoising", "model", self.loss)]

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
        t = self.process.learned((noise.uniform("time").to(y.device) + torch.arange(first, first + len(y)).to(y)) / total)
        added = noise.normal("noise", self.shape).to(y)
        alpha, sigma = self.process.level(t)
        a, b = self.target(alpha, sigma)
        seen = _over(alpha, y) * y + _over(sigma, y) * added
        with products(self.settings.precision, y.device):
            told = self.tell(seen, t, labels).float()
        error = (told - (_over(a, y) * y + _over(b, y) * added)).square()
        return Losses(error.mean(), {}, count=len(batch))

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
            return self._guess(seen, self.tell(seen, times[place], told), times[place])

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

    # ---- the latent space: the noise that a deterministic solver starts from -----------------------------------------

    @property
    def latents(self) -> dict[str, tuple[int, ...]]:
        """One space: ``z``, standard Gaussian, in the shape of a coded item."""
        return {"z": self.shape}

    def prior(self, n: int, noise: Noise) -> Tensor:
        """``n`` codes ``[n, *shape]``: pure noise."""
        assert len(noise) == n
        return noise.normal("z", self.shape).to(self.middle)

    @torch.no_grad()
    def decode(
        self,
        z: Tensor,
        space: str = "z",
        options: AnySettings | None = None,
        noise: Noise | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """The items that a solver makes of noise ``[n, *shape]``; without ``noise`` a deterministic one.

        Without a condition, a model that learned with one takes the label drawn with ``noise``, or the most frequent.
        """
        check_space(self, space)
        options = options if isinstance(options, DiffusionSampling) else DiffusionSampling.of({})
        if noise is None and options.solver == "ddpm":
            options = options.changed(solver="ddim")
        labels = self.labels(self.labels.chosen(condition, noise, len(z)), len(z))
        made = []
        for part in self._parts(len(z)):
            here = noise.part(part.start, part.stop) if isinstance(noise, ItemNoise) else noise
            made.append(self.write(solvers.last(self._steps(z[part], options, here, labels[part]))))
        return torch.cat(made)

    @torch.no_grad()
    def encode(self, x: Tensor, space: str = "z", condition: Tensor | None = None) -> Tensor:
        """The noise ``[batch, *shape]`` from which deterministic steps come back to about ``x`` (DDIM backwards)."""
        check_space(self, space)
        check(self.form, x)
        labels = self.labels(self.labels.required(condition, len(x)), len(x))
        times, y = self.process.times(100), self.read(x)
        codes = [solvers.invert(self._denoiser(labels[part]), self.process, times, y[part]) for part in self._parts(len(x))]
        return torch.cat(codes) / self._top(times[0])

    def _size(self, copies: int = 1) -> int:
        """How many items are passed through the network together, each as many times as there are copies of it."""
        return max(1, AT_ONCE // (copies * max(16, math.prod(self.shape))))

    def _parts(self, n: int) -> list[slice]:
        return [slice(start, min(start + self._size(), n)) for start in range(0, n, self._size())]

    def _top(self, t: float) -> float:
        alpha, sigma = self.process.at(t)
        return math.hypot(alpha, sigma)

    def _denoiser(self, labels: Tensor, guidance: float = 1.0) -> solvers.Denoise:
        return lambda x, t: self.clean(x, t, labels, guidance)

    def _guided(self, options: DiffusionSampling) -> None:
        if options.guidance != 1 and not self.labels.width:
            raise UsageError(
                f"guidance = {options.guidance:g} of a model that learned without labels",
                "guidance = 1",
                "Fit it with --condition label, or leave guidance out",
            )

    def _steps(self, z: Tensor, options: DiffusionSampling, noise: Noise | None, labels: Tensor) -> solvers.Steps:
        self._guided(options)
        times = self.process.times(options.steps)
        solve = solvers.SOLVERS[options.solver]
        start = options.temperature * self._top(times[0]) * z
        return solve(self._denoiser(labels, options.guidance), self.process, times, start, noise)

    # ---- drawing -----------------------------------------------------------------------------------------------------

    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """Pure noise, and what the solver makes of it."""
        return self.decode(self.prior(n, noise), "z", options, noise, condition)

    @torch.no_grad()
    def fill(self, x: Tensor, mask: Tensor, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """``x`` with everything redrawn where ``mask`` (bool, as ``x``) is False, in agreement with what is given.

        Raises `FormError` for a mask of another size.
        """
        assert isinstance(options, DiffusionSampling)
        assert isinstance(noise, ItemNoise)
        check(self.form, x)
        if mask.shape != x.shape or mask.dtype != torch.bool:
            raise FormError(
                f"a mask of {mask.dtype} {list(mask.shape)}", f"bool {list(x.shape)}, as the items", "Make one value a cell"
            )
        self._guided(options)
        labels = self.labels(self.labels.chosen(condition, noise, len(x)), len(x))
        times, made = self.process.times(options.steps), []
        known, given = self.read(torch.where(mask, x, torch.zeros_like(x))), self._known(mask)
        for part in self._parts(len(x)):
            here, denoise = noise.part(part.start, part.stop), self._denoiser(labels[part], options.guidance)
            y = options.temperature * self._top(times[0]) * self.prior(len(here), here)
            steps = solvers.repaint(denoise, self.process, times, y, here, known[part], given[part], options.resample)
            made.append(self.write(solvers.last(steps)))
        return torch.where(mask, x, torch.cat(made))

    def _known(self, mask: Tensor) -> Tensor:
        """Which coded numbers follow from given cells, ``[batch, *shape]``."""
        if self.rows is not None:
            return self.rows.known(mask)
        return mask if mask.shape[1] == self.shape[0] else mask.repeat_interleave(self.shape[0] // mask.shape[1], dim=1)

    @torch.no_grad()
    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """The noise, then after each step what there is and what the network takes it for."""
        assert isinstance(options, DiffusionSampling)
        label = self.labels.chosen(condition, noise, 1)
        if label is not None and isinstance(self.condition, Label):
            yield Step("label", note=f"The class is {self.condition.classes[int(label)]!r}.", data={"label": label})
        z = self.prior(1, noise)
        yield Step("noise", self.write(z), "Pure noise: a standard Gaussian in every cell, knowing nothing of the data.")
        times = self.process.times(options.steps)
        for step, (x, guess) in enumerate(self._steps(z, options, noise, self.labels(label, 1))):
            alpha, sigma = self.process.at(times[step + 1])
            ratio = sigma / max(alpha, 1e-9)
            note = f"{ratio:.3g} parts of noise to one of the item, after step {step + 1} of {len(times) - 1}."
            yield Step(f"step {step + 1}", self.write(x), note, {"guess": guess})


def _over(values: Tensor, x: Tensor) -> Tensor:
    """A value for each item as a tensor beside ``x``, in its dtype."""
    return values.to(x.dtype).view(-1, *[1] * (x.dim() - 1))


MODEL = Diffusion
