"""Normalizing flow: an invertible network bends a Gaussian into the shape of the data, so that each item has one code and
a likelihood that is known.

A chain of bijections takes an item ``x`` to a code ``z`` of as many numbers, and back. Each is made so that its determinant
is easily found: some numbers stay and tell how the others are changed (**coupling**), or each is told by those before it
(**autoregressive**). Since nothing is lost, ``log p(x) = log N(z) + log |det ∂z/∂x|``: learning is to raise that sum. What a
number does by itself is counted first (``layers.marginals``); the chain learns how numbers hang together.

Pictures of levels are first told grid by grid, from coarse to fine, as in an interlaced PNG. Then they are squeezed, and
channels put aside as code, scale by scale, with invertible 1 × 1 convolutions between couplings. Rows have their categories
and gaps told column by column first; their numbers are a flow given those, over whichever of them are there.

The likelihood is *exact* for continuous grids and for rows without integers. Levels and integers are intervals in which the
place is drawn (uniformly, or by a flow of its own: variational dequantisation), so theirs is a *bound* from below.

Papers: Dinh et al. 2017 (arXiv 1605.08803, RealNVP); Kingma & Dhariwal 2018 (1807.03039, Glow); Durkan et al. 2019
(1906.04032, splines); Papamakarios et al. 2017 (1705.07057, MAF); Ho et al. 2019 (1902.00275, Flow++).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from pieria.data.batch import Batch, check
from pieria.errors import FormError, UsageError
from pieria.forms import Form, Grid, Label, Row
from pieria.layers import grids
from pieria.layers.bijections import Chain, Scales
from pieria.layers.codes import Codes
from pieria.layers.flows import LEAST, Dequantiser, over_field, over_vector
from pieria.layers.interlaced import Interlaced
from pieria.layers.labels import Labels
from pieria.layers.marginals import FIT_ROWS, HALF_LOG_TAU, Columns, Levels
from pieria.layers.precision import Precision, products
from pieria.layers.splines import Affine, Elementwise, Spline
from pieria.models.contract import Likelihood, Losses, Model, Phase, Step, check_space
from pieria.noise import ItemNoise, Noise, by_content
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

START = 512  # items by which layers are set before training
MANY = 256  # numbers of a vector beyond which splines for each would be too large


class FlowSettings(AnySettings):
    """What a flow is made of."""

    network: Literal["auto", "mlp", "convolution"] = Field(
        "auto", description="auto (convolution for grids of even sides of at least 8), mlp, convolution"
    )
    structure: Literal["coupling", "autoregressive"] = Field(
        "coupling",
        description="coupling is as quick both ways; autoregressive (not with convolutions) draws number by number",
    )
    law: Literal["auto", "affine", "spline"] = Field(
        "auto",
        description="what a layer does to a number; auto is a spline, but affine with convolutions and over 256 numbers",
    )
    bins: int = Field(8, ge=2, le=64, description="pieces of a spline")
    layers: int = Field(8, ge=1, le=64, description="couplings in the chain; with convolutions at each scale but the finest")
    scales: int = Field(3, ge=1, description="convolution: how often a picture is halved at most")
    fine: int = Field(2, ge=0, description="convolution: couplings at the finest of several scales, where they are dear")
    interlaced: bool = Field(
        True, description="convolution, levels: first tell each cell by the levels of coarser grids, along splines"
    )
    widths: tuple[int, ...] = Field((128, 128), description="hidden features of each layer of a perceptron")
    channels: int = Field(96, ge=1, description="convolution: hidden features of each coupling")
    dequantisation: Literal["uniform", "variational"] = Field(
        "uniform", description="how the place of a level within its interval is drawn: anywhere, or as a flow learns to"
    )
    importance: int = Field(1, ge=1, description="levels and integers: draws in log_prob; more make the bound tighter")
    precision: Precision = Field(
        "auto", description="of matrix products in training; auto is bfloat16 with convolutions, where it is native"
    )


class FlowSampling(AnySettings):
    """How a flow draws."""

    temperature: float = Field(1.0, ge=0, description="scale of the code's Gaussian; below 1 more typical and less varied")
    inside: bool = Field(
        True,
        description="rows: move numbers beyond the training rows' range to its end, and to a common value a hair beside",
    )


class Flow(Model):
    """A chain of bijections between items and standard Gaussian codes.

    ``likelihood`` is "exact" for continuous grids and rows without integers, "bound" for levels and integers (and so for the
    family). Nats are of the form's own tensors: probabilities for levels, densities for numbers.

    >>> from pieria.noise import ItemNoise
    >>> model = Flow(FlowSettings(layers=2, channels=8), Grid(1, 8, 8, levels=2))
    >>> model.sample(3, FlowSampling(), ItemNoise(seed=0, size=3)).shape
    torch.Size([3, 1, 8, 8])
    """

    Settings = FlowSettings
    Sampling = FlowSampling
    consumes = frozenset({Grid, Row})
    conditions = frozenset({Label})
    likelihood: ClassVar[Likelihood] = "bound"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"layers": 4, "widths": (32, 32), "channels": 16, "importance": 50, "precision": "float32"},
        "small": {"layers": 4, "widths": (64, 64), "channels": 48},
        "mnist": {"layers": 8, "channels": 96, "batch": 64},
        "table": {"layers": 8, "widths": (128, 128), "batch": 256},
    }
    training_defaults: ClassVar[dict[str, Any]] = {
        "batch": 128,
        "rate": 1e-3,
        "schedule": "cosine",
        "warmup": 100,
        "weight_decay": 0.0,
        "beta2": 0.99,
        "clip": 1.0,
        "average": 0.995,
    }
    paper = "Papamakarios et al. 2021, Normalizing Flows for Probabilistic Modeling and Inference, arXiv:1912.02762"

    settings: FlowSettings

    def __init__(self, settings: FlowSettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        self.labels = Labels(condition)
        self.importance = settings.importance
        self.marginals: Columns | Levels | None = None
        self.codes: Codes | None = None
        self.places: list[int] = []  # the columns of numbers
        given = self.labels.width
        if isinstance(form, Row):
            self.places = [i for i, column in enumerate(form.columns) if column.kind in ("number", "integer")]
            self.codes = Codes(form, given, settings.widths)
            self.marginals = Columns([form.columns[i] for i in self.places])
            self.size, given = len(self.places), given + self.codes.features
        else:
            assert isinstance(form, Grid)
            self.size = form.channels * form.height * form.width
            if form.levels is not None:
                self.marginals = Levels(form)
        self.chain = self._chain(given)
        self.interlaced: Interlaced | None = None
        self.dequantiser: Dequantiser | None = None
        if isinstance(self.marginals, Levels):
            assert isinstance(form, Grid)
            laid, fields = (form.height, form.width, form.channels), isinstance(self.chain, Scales)
            if fields and settings.interlaced:
                self.interlaced = Interlaced(laid, grids.channels(form), given, settings.channels, settings.bins)
            if settings.dequantisation == "variational":
                self.dequantiser = Dequantiser(laid if fields else (self.size,), settings.widths, settings.channels)
        lattice = isinstance(self.marginals, Levels) or (isinstance(self.marginals, Columns) and self.marginals.lattice)
        if not lattice:
            self.likelihood = "exact"  # type: ignore[misc]  # of this form; the family's own is the weaker of the two

    # ---- the chain ---------------------------------------------------------------------------------------------------

    def _convolves(self) -> bool:
        form, network = self.form, self.settings.network
        if not isinstance(form, Grid) or network == "mlp":
            return False
        even = form.height % 2 == 0 and form.width % 2 == 0
        if network == "convolution" and (not even or min(form.height, form.width) < 4):
            height, width = (max(4, side + side % 2) for side in (form.height, form.width))
            raise FormError(
                f"pictures of {form.height} × {form.width}",
                "even sides of at least 4, since each scale halves them",
                f"Resize to {height} × {width}, or use network=mlp",
            )
        return network == "convolution" or (even and min(form.height, form.width) >= 8)

    def _law(self, usual: str) -> Elementwise:
        law = usual if self.settings.law == "auto" else self.settings.law
        return Spline(self.settings.bins) if law == "spline" else Affine()

    def _chain(self, given: int) -> Chain | Scales:
        settings, form = self.settings, self.form
        if not self._convolves():
            return over_vector(
                self.size,
                given,
                settings.widths,
                settings.layers,
                self._law("spline" if self.size <= MANY else "affine"),
                autoregressive=settings.structure == "autoregressive",
                standardise=self.marginals is None,
            )
        if settings.structure == "autoregressive":
            raise UsageError(
                "structure = autoregressive with convolutions", "coupling", "Use network = mlp, or structure = coupling"
            )
        assert isinstance(form, Grid)
        return over_field(
            (form.height, form.width, form.channels),
            given,
            settings.channels,
            self._law("affine"),
            layers=settings.layers,
            scales=settings.scales,
            fine=settings.fine,
        )

    def _laid(self, flat: Tensor) -> Tensor:
        """Cells ``[batch, cell]`` as the chain reads them: with convolutions ``[batch, height, width, channel]``."""
        if not isinstance(self.chain, Scales):
            return flat
        assert isinstance(self.form, Grid)
        return flat.unflatten(1, self.form.shape).permute(0, 2, 3, 1)

    def _flat(self, laid: Tensor) -> Tensor:
        return laid.permute(0, 3, 1, 2).flatten(1) if isinstance(self.chain, Scales) else laid

    # ---- learning ----------------------------------------------------------------------------------------------------

    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Fit what is counted, not learned by gradient; then set what the layers begin with by some items."""
        self.labels.fit(batches)
        if isinstance(self.marginals, Levels):
            self.marginals.fit(batches)
        device = self.labels.counts.device
        rows, conditions, seen = list[Tensor](), list[Tensor](), 0
        for batch in batches():
            rows.append(batch.x)
            conditions += [] if batch.condition is None else [batch.condition]
            seen += len(batch)
            if seen >= (START if self.codes is None else FIT_ROWS):
                break
        x = torch.cat(rows).to(device)
        if self.codes is not None:
            self.codes.fit(x)
            assert isinstance(self.marginals, Columns)
            self.marginals.fit(x[:, self.places], self._present(x))
            return
        x = x[:START]
        labels = self.labels(torch.cat(conditions)[:START].to(device) if conditions else None, len(x))
        with torch.no_grad():
            uniform = by_content(x).uniform("dequantise", (self.size,)).to(device)
            self.chain.start(self._read(x, uniform, labels)[0], labels)

    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """One optimiser for all."""
        return {"model": [{"params": list(self.parameters())}]}

    def phases(self) -> list[Phase]:
        """A game with one move."""
        return [Phase("likelihood", "model", self.loss)]

    def loss(self, batch: Batch, noise: Noise) -> Losses:
        """The negative log-likelihood; of levels and integers its bound, with one draw for each item."""
        labels = self.labels(batch.condition, len(batch))
        precision = self.settings.precision
        if precision == "auto" and not isinstance(self.chain, Scales):
            precision = "float32"  # small products gain nothing
        with products(precision, batch.x.device):
            nats = self._log_prob(batch.x, labels, None if self.likelihood == "exact" else noise)
        return Losses(-nats.mean(), {}, count=len(batch))

    # ---- likelihood --------------------------------------------------------------------------------------------------

    def _present(self, x: Tensor) -> Tensor:
        """Bool ``[batch, number]``: which numbers of a row are there."""
        assert isinstance(self.form, Row)
        flags = [self.form.missing_of(place) for place in self.places]
        there = [torch.ones_like(x[:, 0]) if flag is None else 1 - x[:, flag] for flag in flags]
        return torch.stack([*there, torch.ones_like(x[:, 0])], dim=1)[:, :-1] > 0.5

    def _shown(self, x: Tensor) -> Tensor:
        """Levels as a network reads them, ``[batch, height, width, channel]``."""
        assert isinstance(self.form, Grid)
        return grids.read(self.form, x).permute(0, 2, 3, 1)

    def _read(self, x: Tensor, uniform: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Grids as the chain is given them, and the sum of the logs of the slopes ``[batch]``."""
        if not isinstance(self.marginals, Levels):
            return self._laid(x.flatten(1)), x.new_zeros(len(x))
        flat, rises = self.marginals(x.flatten(1), uniform)
        laid, total = self._laid(flat), rises.sum(dim=1)
        if self.interlaced is not None:
            laid, rise = self.interlaced(laid, self._shown(x), labels)
            total = total + rise
        return laid, total

    def _numbers(self, x: Tensor, uniform: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The numbers of rows as the chain is given them, the sum of the logs of the slopes, and which are there."""
        assert isinstance(self.marginals, Columns)
        numbers, present = x[:, self.places], self._present(x)
        flat, rises = self.marginals(numbers if uniform is None else self.marginals.spread(numbers, uniform))
        zero = torch.zeros_like(flat)
        return torch.where(present, flat, zero), torch.where(present, rises, zero).sum(dim=1), present.float()

    def _place(self, x: Tensor, noise: Noise, step: int) -> tuple[Tensor, Tensor]:
        """Where in its interval each level or integer is thought, in (0, 1), and the log-density of having drawn that."""
        if self.dequantiser is None:
            drawn = noise.uniform("dequantise", (self.size,), step).to(x.device)
            return drawn * (1 - 2 * LEAST) + LEAST, drawn.new_zeros(len(x))
        assert isinstance(self.form, Grid)
        assert self.form.levels is not None
        away = noise.normal("dequantise", (self.size,), step).to(x.device)
        shown = x.flatten(1).float() * (2 / max(1, self.form.levels - 1)) - 1
        place, total = self.dequantiser(self._laid(shown), self._laid(away))
        return self._flat(place), total

    def _log_prob(self, x: Tensor, labels: Tensor, noise: Noise | None, step: int = 0) -> Tensor:
        """Nats of each item ``[batch]``: exact, or with ``noise`` one draw of the bound."""
        uniform, drawn = (None, 0.0) if noise is None else self._place(x, noise, step)
        if self.codes is None:
            flat, rises = self._read(x, x if uniform is None else uniform, labels)
            z, rise = self.chain(flat, labels)
            return rises + rise - drawn - (0.5 * z.square() + HALF_LOG_TAU).flatten(1).sum(dim=1)
        flat, rises, present = self._numbers(x, uniform)
        z, rise = self.chain(flat, torch.cat([self.codes.read(x), labels], dim=1), present)
        each = (0.5 * z.square() + HALF_LOG_TAU) * present
        return self.codes.log_prob(x, labels) + rises + rise - drawn - each.sum(dim=1)

    @torch.no_grad()
    def log_prob(self, batch: Batch) -> Tensor:
        """Nats ``[batch]``: exact, or a bound by ``self.importance`` draws whose noise follows from the item alone."""
        noise = ItemNoise(0, len(batch)) if self.likelihood == "exact" else by_content(batch.x)
        return self.bound(batch, self.importance, noise)

    @torch.no_grad()
    def bound(self, batch: Batch, samples: int, noise: Noise) -> Tensor:
        """``log 1/k Σ p(x, u_i) / q(u_i | x)`` with ``k = samples`` places ``u`` in the intervals, ``[batch]``.

        Where the likelihood is exact, that: nothing is drawn.
        """
        self._check(batch.x)
        labels = self.labels(self.labels.required(batch.condition, len(batch)), len(batch))
        if self.likelihood == "exact":
            return self._log_prob(batch.x, labels, None)
        draws = [self._log_prob(batch.x, labels, noise, step) for step in range(samples)]
        return torch.stack(draws).logsumexp(dim=0) - math.log(samples)

    def _check(self, x: Tensor) -> None:
        check(self.form, x)
        if isinstance(self.form, Grid) and tuple(x.shape[1:]) != self.form.shape:
            raise FormError(
                f"a grid of {x.shape[-2]} × {x.shape[-1]}",
                f"this model learned from {self.form.height} × {self.form.width}",
                "Resize or crop it to that size",
            )

    # ---- the latent space --------------------------------------------------------------------------------------------

    @property
    def latents(self) -> dict[str, tuple[int, ...]]:
        """One space: ``z``, standard Gaussian, with a number for each cell of a grid or column of a row."""
        return {"z": (len(self.form.columns) if isinstance(self.form, Row) else self.size,)}

    def prior(self, n: int, noise: Noise) -> Tensor:
        """``n`` codes ``[n, cells or columns]``."""
        assert len(noise) == n
        return noise.normal("z", self.latents["z"]).to(self.labels.counts)

    @torch.no_grad()
    def encode(self, x: Tensor, space: str = "z", condition: Tensor | None = None) -> Tensor:
        """The code of each item; of a level, an integer or a category that of the middle of its interval."""
        check_space(self, space)
        self._check(x)
        labels = self.labels(self.labels.required(condition, len(x)), len(x))
        if self.codes is None:
            flat, _ = self._read(x, x.new_full((len(x), self.size), 0.5, dtype=torch.float32), labels)
            return self.chain(flat, labels)[0].flatten(1)  # type: ignore[no-any-return]
        flat, _, present = self._numbers(x, None)
        z = torch.zeros_like(x)
        z[:, self.codes.places] = self.codes.encode(x, labels)
        z[:, self.places] = self.chain(flat, torch.cat([self.codes.read(x), labels], dim=1), present)[0]
        return z

    @torch.no_grad()
    def decode(
        self,
        z: Tensor,
        space: str = "z",
        options: AnySettings | None = None,
        noise: Noise | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """The items that codes ``[n, cells or columns]`` stand for; nothing is drawn but a label.

        Without a condition, a model that learned with one takes the label drawn with ``noise``, or the most frequent.
        """
        check_space(self, space)
        labels = self.labels(self.labels.chosen(condition, noise, len(z)), len(z))
        inside = options.inside if isinstance(options, FlowSampling) else True
        if self.codes is None:
            return self._written(self.chain.inverse(z, labels), labels)
        *_, (_, x) = self._told(z, labels, inside)
        return x

    def _written(self, laid: Tensor, labels: Tensor) -> Tensor:
        """What came out of the chain, as grids."""
        assert isinstance(self.form, Grid)
        shape = self.form.shape
        if not isinstance(self.marginals, Levels):
            return self._flat(laid).reshape(-1, *shape)
        levels = self.marginals
        if self.interlaced is not None:

            def read(field: Tensor) -> Tensor:
                return self._shown(levels.inverse(self._flat(field)).reshape(-1, *shape))

            laid = self.interlaced.inverse(laid, read, labels)
        return levels.inverse(self._flat(laid)).reshape(-1, *shape)

    def _told(self, z: Tensor, labels: Tensor, inside: bool) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows as they come to be: the odds of their codes, then after each link of the chain; ``(shown, rows)``."""
        assert self.codes is not None
        assert isinstance(self.marginals, Columns)
        assert isinstance(self.chain, Chain)
        rows, odds = self.codes.decode(z[:, self.codes.places], torch.zeros_like(z), labels)
        context = torch.cat([self.codes.read(rows), labels], dim=1)
        there = self._present(rows)
        numbers = z[:, self.places] * there
        shown = odds
        for place in range(len(self.chain.links), -1, -1):
            if place < len(self.chain.links):
                numbers = shown = self.chain.links[place].inverse(numbers, context, there.float())
            x = rows.clone()
            x[:, self.places] = self.marginals.on_lattice(self.marginals.inverse(numbers), inside) * there
            yield shown, x

    # ---- drawing -----------------------------------------------------------------------------------------------------

    def _cooled(self, z: Tensor, temperature: float) -> Tensor:
        """Codes nearer to 0; those of categories stay, since there the middle is not what is typical."""
        z = z.clone()
        z[:, self.places if self.codes is not None else slice(None)] *= temperature
        return z

    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """A code from the prior, and the item that it stands for."""
        assert isinstance(options, FlowSampling)
        return self.decode(self._cooled(self.prior(n, noise), options.temperature), "z", options, noise, condition)

    @torch.no_grad()
    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """A code from the prior; then rows link by link, pictures from the coarse scale to the fine."""
        assert isinstance(options, FlowSampling)
        label = self.labels.chosen(condition, noise, 1)
        if label is not None and isinstance(self.condition, Label):
            yield Step("label", note=f"The class is {self.condition.classes[int(label)]!r}.", data={"label": label})
        z = self._cooled(self.prior(1, noise), options.temperature)
        yield Step("prior", note="A code is drawn from a standard Gaussian, a number for each of the item's.", data={"z": z})
        labels = self.labels(label, 1)
        if self.codes is not None:
            for number, (shown, x) in enumerate(self._told(z, labels, options.inside)):
                if number == 0:
                    note = "Categories and gaps are told one after the other; numbers are still each for itself."
                    yield Step("categories", x, note, {"probability of each code": shown})
                else:
                    note = "Some numbers stay as they are, and tell how the others are changed."
                    yield Step(f"layer {number} on the way back", x, note, {"numbers": shown})
            return
        if isinstance(self.chain, Scales):
            for number, field in enumerate(self.chain.steps(z, labels), start=1):
                yield Step(
                    f"coupling {number} undone",
                    self._written(field, labels),
                    "Some channels tell how the others are changed.",
                )
        yield Step("item", self.decode(z, "z", options, noise, label), "The whole code, taken back through the chain.")


MODEL = Flow
