"""What a family shares that draws by taking noise away: what the data are like, the steps from noise to items, filling.

The family brings a schedule of noise, and a network that guesses the clean item from a noisy one (`Denoised.clean`). A
solver (`sampling.solvers`) makes steps of such guesses. The latent space is the noise that deterministic ones begin with.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch
from torch import Tensor

from pieria.data.batch import Batch, check
from pieria.errors import FormError, UsageError
from pieria.forms import Form, Grid, Label, Row, Tokens
from pieria.layers import grids
from pieria.layers.captions import Captions
from pieria.layers.labels import Labels
from pieria.layers.normal_rows import NormalRows
from pieria.models.contract import Model, Step, check_space
from pieria.noise import ItemNoise, Noise
from pieria.sampling import solvers
from pieria.sampling.noise_schedules import Schedule
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

AT_ONCE = 2**18  # numbers of items that a network reads at once outside training: what fits into a cache
FITTED = 20_000  # items that the middle and the spread of the data are taken from
STEPS, JUMPS = 30, 2  # of a solver unless another number is asked for; of a network that guesses where the path ends


class DiffusionSampling(AnySettings):
    """How noise is made into an item."""

    solver: Literal["auto", "dpm++", "ddim", "ddpm", "heun", "euler", "consistency"] = Field(
        "auto",
        description="dpm++ (few steps), ddim, ddpm (fresh noise, many steps), heun (two passes a step), euler (flow), "
        "consistency (one to four steps, after learning with objective=consistency); auto: dpm++ or consistency",
    )
    steps: int = Field(
        0, ge=0, le=1000, description="steps from noise to item; fewer are quicker and coarser; 0: 30, 2 with consistency"
    )
    guidance: float = Field(
        1.0, ge=0, description="how strongly a label or caption is followed: 1 as learned, above more typical, 0 not"
    )
    churn: float = Field(0.0, ge=0, description="heun: fresh noise on the way, in all steps together; mends small errors")
    temperature: float = Field(1.0, ge=0, description="scale of the first noise; below 1 more typical and less varied")
    resample: int = Field(4, ge=1, description="fill: how often each step is made, so that both parts come to agree")


class Denoised(Model):
    """Items drawn by a solver from a network that guesses what a noisy item was.

    A family sets ``process`` and says `clean`; ``shape`` is that of an item as noise is added. ``consistent`` says that
    the guesses are where the path of the noisy item ends, not the mean of what it may have been; ``guided`` that it also
    learned without labels.
    """

    process: Schedule
    shape: tuple[int, ...]
    consistent: bool = False
    guided: bool = True
    middle: Tensor
    spread: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, settings: AnySettings, form: Form, condition: Form | None = None, modes: int = 1) -> None:
        super().__init__(settings, form, condition)
        self.labels = Captions(condition) if isinstance(condition, Tokens) else Labels(condition)
        self.rows = NormalRows(form, modes) if isinstance(form, Row) else None
        if self.rows is not None:
            self.shape = (self.rows.width,)
        else:
            assert isinstance(form, Grid)
            self.shape = (grids.channels(form), form.height, form.width)
        # what the data are like, taken from them before training: mean of each cell, common deviation, range
        self.register_buffer("middle", torch.zeros(self.shape))
        self.register_buffer("spread", torch.tensor(0.5 if isinstance(form, Grid) else 1.0))
        bounded = isinstance(form, Grid) and form.levels is not None
        edge = torch.full(self.shape if isinstance(form, Row) else (), 1.0 if bounded else math.inf)
        self.register_buffer("low", -edge)
        self.register_buffer("high", edge)

    @abstractmethod
    def clean(self, x: Tensor, t: float, labels: Tensor, guidance: float = 1.0) -> Tensor:
        """The guess at the clean items of noisy ``x [batch, *shape]`` at time ``t``; ``labels`` as the condition is read."""

    @abstractmethod
    def leading(self, labels: Tensor) -> solvers.Denoise:
        """The guesses that many small steps follow from noise to items, and back: means, also where `clean` jumps."""

    def count(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Fit what is counted, not learned by gradient: rows' encoding, labels' shares, middle and spread of the data."""
        self.labels.fit(batches)
        if self.rows is not None:
            self.rows.rows.fit(batches)
        total = torch.zeros(self.shape, dtype=torch.float64, device="cpu")
        squares, seen = torch.zeros_like(total), 0
        least, most = torch.full_like(total, math.inf), torch.full_like(total, -math.inf)
        for batch in batches():  # sums, since thousands of large pictures are too many to be held at once
            y = self.read(batch.x).to(total)
            total, squares, seen = total + y.sum(dim=0), squares + y.square().sum(dim=0), seen + len(batch)
            least, most = torch.minimum(least, y.amin(dim=0)), torch.maximum(most, y.amax(dim=0))
            if seen >= FITTED:
                break
        middle = total / seen
        self.middle.copy_(middle)
        spread = (squares / seen - middle.square()).mean().clamp(min=1e-6).sqrt()
        self.spread.copy_(spread)
        if not (isinstance(self.form, Grid) and self.form.levels is not None):
            # held-out items may lie a little farther out
            self.low.copy_((least if self.rows is not None else least.min()) - 3 * spread)
            self.high.copy_((most if self.rows is not None else most.max()) + 3 * spread)

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
        options = self._settled(options)
        if noise is None:  # what is random becomes its deterministic kind
            options = options.changed(churn=0.0, solver="ddim" if options.solver == "ddpm" else options.solver)
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
        codes = [solvers.invert(self.leading(labels[part]), self.process, times, y[part]) for part in self._parts(len(x))]
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

    def _settled(self, options: AnySettings | None) -> DiffusionSampling:
        """The options with nothing left to choose; `UsageError` for what this model cannot do."""
        options = options if isinstance(options, DiffusionSampling) else DiffusionSampling.of({})
        solver = ("consistency" if self.consistent else "dpm++") if options.solver == "auto" else options.solver
        if options.guidance != 1 and not self.labels.width:
            raise UsageError(
                f"guidance = {options.guidance:g} of a model that learned without labels or captions",
                "guidance = 1",
                "Fit it with --condition label or --condition caption, or leave guidance out",
            )
        if options.guidance != 1 and not self.guided:
            raise UsageError(
                f"guidance = {options.guidance:g} of a model that always learned with a label or caption",
                "guidance = 1",
                "Fit it with --set unlabelled=0.1, or leave guidance out",
            )
        if solver == "consistency" and not self.consistent:
            raise UsageError(
                "solver = consistency of a model that learned to denoise",
                "another solver",
                "Fit with --start-from this run and --set objective=consistency, or leave solver out",
            )
        if options.churn and solver != "heun":
            raise UsageError(f"churn = {options.churn:g} with solver = {solver}", "solver = heun", "Set solver=heun")
        return options.changed(solver=solver, steps=options.steps or (JUMPS if solver == "consistency" else STEPS))

    def _steps(self, z: Tensor, options: DiffusionSampling, noise: Noise | None, labels: Tensor) -> solvers.Steps:
        times = self._times(options)
        start, denoise = options.temperature * self._top(times[0]) * z, self._denoiser(labels, options.guidance)
        if options.churn:
            return solvers.heun(denoise, self.process, times, start, noise, churn=options.churn)
        return solvers.SOLVERS[options.solver](denoise, self.process, times, start, noise)

    def _times(self, options: DiffusionSampling) -> list[float]:
        """Settled options' steps."""
        return self.process.turns(options.steps) if options.solver == "consistency" else self.process.times(options.steps)

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
        self._settled(options)
        labels = self.labels(self.labels.chosen(condition, noise, len(x)), len(x))
        times, made = self.process.times(options.steps or STEPS), []  # agreement takes its steps, however a guess is made
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
        options = self._settled(options)
        times = self._times(options)
        for step, (x, guess) in enumerate(self._steps(z, options, noise, self.labels(label, 1))):
            alpha, sigma = self.process.at(times[step + 1])
            ratio = sigma / max(alpha, 1e-9)
            note = f"{ratio:.3g} parts of noise to one of the item, after step {step + 1} of {len(times) - 1}."
            yield Step(f"step {step + 1}", self.write(x), note, {"guess": guess})
