"""A mixture: each item comes from one of K simple laws, in which its values are independent (or jointly Gaussian).

    p(x) = Σ_k π_k · Π_d p(x_d | k)

A component is a kind of item: a digit in one hand, a kind of customer. Numbers are Gaussian, categories and few levels have
a table of odds, many ordered levels (8-bit pictures) are a Gaussian seen through its bins, whose outer ones take the tails,
with one draw in a thousand from anywhere. All of it is learned by expectation-maximisation: say how much each component
answers for each item, then fit each component to its share. Starts are spread by k-means++, first answers are blurred
(deterministic annealing), and of several starts the one with the best objective on the training data is kept.

Exact and quick, and the yardstick of rows and small pictures. It does not learn how parts combine: what no component has
seen in one piece it cannot make. With one component the columns are independent, which is the cheapest baseline of all.

Papers: Dempster, Laird and Rubin (1977), EM; Arthur and Vassilvitskii (2007), k-means++; Ueda and Nakano (1998), annealing.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, Literal

import numpy as np
import torch
from scipy.special import logsumexp, softmax
from torch import Tensor

from pieria.data.batch import Batch, check
from pieria.errors import FormError, TrainingError, UsageError
from pieria.forms import Form, Grid, Row
from pieria.layers import binned, columns, joint_gaussians
from pieria.layers.spreading import spread_out
from pieria.models.contract import Model, NoOptions, Step
from pieria.noise import Noise, StepNoise
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

Array = np.ndarray
MANY = 32  # ordered levels beyond which a table of odds would have too little data for each entry
MOST = 1 << 22  # values that EM learns from: bounds the time
AT_ONCE = 1 << 22  # numbers held while a block of columns is worked on: bounds memory
NARROW = 1e-6  # a column that never varies still has this variance: a density needs a width
STEPS_OF_ANNEALING = 15
MOST_BINS = 200_000_000  # in all passes that see them, after the rough ones: more would gain a thousandth
ROUGH = 64  # widths that levels are first told apart by, so that one odd pixel does not decide for a component


class MixtureSettings(AnySettings):
    """Hyperparameters of `Mixture`."""

    components: int = Field(50, ge=1, description="simple laws that are mixed; 1 makes all columns independent")
    covariance: Literal["diagonal", "full"] = Field(
        "diagonal",
        description="full: the numbers of a component vary together (rows without missing numbers, small pictures)",
    )
    smoothing: float = Field(
        1.0, gt=0, description="each component sees so many items more than it has, which look like the whole data's average"
    )
    restarts: int = Field(3, ge=1, description="starts, of which the one with the best training objective is kept")
    anneal: float = Field(
        0.3,
        gt=0,
        le=1,
        description="power to which a start first raises its odds, so that answers are blurred; 1 is plain EM",
    )
    iterations: int = Field(100, ge=1, description="passes of plain EM at most")
    tolerance: float = Field(1e-4, ge=0, description="gain in nats an item below which EM stops")
    items: int = Field(
        20_000,
        ge=1,
        description="EM learns from so many items at most, evenly spaced over the data; of wide ones from fewer, "
        "which hold four million values",
    )
    first_start: int = Field(0, ge=0, description="number of the first start; another number gives other starts")


class Mixture(Model):
    """A finite mixture over `Row` or `Grid`, with exact likelihood.

    Missing values count through their own column (a coin of each component); the value beside it does not count.

    >>> from pieria.noise import ItemNoise
    >>> model = Mixture(MixtureSettings(components=2), Grid(1, 2, 2, levels=2))
    >>> model.estimate(lambda: [Batch(torch.tensor([[[[0, 1], [1, 0]]], [[[1, 0], [0, 1]]]]))])
    >>> tuple(model.sample(5, NoOptions(), ItemNoise(0, 5)).shape)
    (5, 1, 2, 2)
    """

    Settings = MixtureSettings
    Sampling = NoOptions
    consumes = frozenset({Row, Grid})
    likelihood = "exact"
    holds_data = False
    presets: ClassVar = {
        "tiny": {"components": 4, "restarts": 2},
        "independent": {"components": 1, "restarts": 1, "anneal": 1.0},
        "default": {},
        "large": {"components": 100, "restarts": 5},
    }
    paper = "Dempster, Laird and Rubin 1977, Maximum likelihood from incomplete data via the EM algorithm"

    settings: MixtureSettings
    log_weights: Tensor
    mean: Tensor
    variance: Tensor
    odds: Tensor

    def __init__(self, settings: MixtureSettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        self.numbers, self.codes, self.levels = columns.kinds(form)
        self.depth = int(self.levels.max()) if len(self.levels) else 0
        self.few = self.depth <= 4  # levels, so that most cells are met often
        self.binned = isinstance(form, Grid) and form.ordered and self.depth > MANY
        self.flags = columns.flags(form)
        self.full = self.settings.covariance == "full"
        if self.full and (self.binned or not len(self.numbers) or any(place in self.flags for place in self.numbers)):
            raise UsageError(
                "covariance=full was asked for data without numbers, with levels, or with missing numbers",
                "numbers that are all there",
                "Leave covariance at diagonal",
            )
        k, wide = self.settings.components, len(self.codes) if self.binned else len(self.numbers)
        self.offsets = np.concatenate([[0], np.cumsum(self.levels)]).astype(np.int64)
        self.register_buffer("log_weights", torch.full((k,), -np.log(k), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(wide, k, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(*((k, wide, wide) if self.full else (wide, k)), dtype=torch.float64))
        if self.full:
            self.variance[:] = torch.eye(wide, dtype=torch.float64)
        cells = 0 if self.binned else int(self.offsets[-1])
        flat = -np.log(np.repeat(self.levels, self.levels))[:cells, None] * np.ones((1, k))
        self.register_buffer("odds", torch.from_numpy(flat))
        self.objective: list[float] = []

    # ---- expectation-maximisation ------------------------------------------------------------------------------------

    def estimate(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Fit by EM; ``self.objective`` is then the smoothed log-likelihood after each pass of the start that was kept."""
        items = self._collected(batches)
        values, seen, codes = self._split(items)
        count = seen.sum(axis=0) + NARROW
        centre = values.sum(axis=0) / count
        spread = np.maximum((values**2).sum(axis=0) / count - centre**2, NARROW)
        base = np.concatenate([columns.shares(codes[:, j], many) for j, many in enumerate(self.levels)] or [np.empty(0)])
        if self.binned:
            centre, spread = codes.mean(axis=0), np.maximum(codes.var(axis=0), 1 / 12)
        self._prior = (centre, spread, base)
        first: tuple[Array, Array, Array] = values, seen, codes
        if self.binned:  # levels are first taken for numbers, which is far quicker and finds the same components
            first = codes.astype(np.float64), np.ones(codes.shape), codes[:, :0]
        best: tuple[list[float], dict[str, Tensor]] | None = None
        for start in range(self.settings.first_start, self.settings.first_start + self.settings.restarts):
            history = self._climb(*first, self._spread_out(values, codes, start))
            if best is None or history[-1] > best[0][-1]:
                best = history, {name: buffer.clone() for name, buffer in self.named_buffers()}
        assert best is not None
        for name, buffer in self.named_buffers():
            buffer.copy_(best[1][name])
        self.objective = self._ascend(values, seen, codes) if self.binned else best[0]
        del self._prior

    def _collected(self, batches: Callable[[], Iterable[Batch]]) -> Array:
        total = sum(len(batch) for batch in batches())
        if not total:
            raise TrainingError("the mixture was given no items", "at least one", "Give it some data")
        width = len(self.numbers) + len(self.codes)
        most = min(total, self.settings.items, max(self.settings.components, MOST // width))
        keep = np.unique(np.linspace(0, total - 1, most).astype(np.int64))
        found, begun = [], 0
        for batch in batches():
            self._check(batch.x)
            here = keep[(keep >= begun) & (keep < begun + len(batch))] - begun
            rows = batch.x[torch.from_numpy(here)].cpu().flatten(1).numpy()
            small = isinstance(self.form, Grid) and 0 < self.depth <= 256
            found.append(rows.astype(np.uint8) if small else rows)
            begun += len(batch)
        return np.concatenate(found)

    def _climb(self, values: Array, seen: Array, codes: Array, answers: Array) -> list[float]:
        """Annealed and then plain EM from these first answers; the rest as in `_ascend`."""
        self._maximise(values, seen, codes, answers)
        for power in (
            np.geomspace(self.settings.anneal, 1, STEPS_OF_ANNEALING, endpoint=False) if self.settings.anneal < 1 else ()
        ):
            self._maximise(values, seen, codes, softmax(power * self._joint(values, seen, codes), axis=1))
        return self._ascend(values, seen, codes)

    def _ascend(self, values: Array, seen: Array, codes: Array) -> list[float]:
        """Plain EM; the smoothed objective before each pass, and after the last."""
        history: list[float] = []
        passes = self.settings.iterations
        if self.binned and codes.shape[1]:
            passes = min(passes, max(4, MOST_BINS // (codes.shape[1] * self.depth * self.settings.components)))
        for _ in range(passes + 1):
            joint = self._joint(values, seen, codes)
            history.append(float(logsumexp(joint, axis=1).sum()) + self._log_prior())
            if len(history) > 1 and history[-1] - history[-2] < self.settings.tolerance * len(joint):
                break
            if len(history) <= passes:
                self._maximise(values, seen, codes, softmax(joint, axis=1))
        return history

    def _spread_out(self, values: Array, codes: Array, start: int) -> Array:
        """Each item answered for by the nearest of some items that lie far apart, ``[item, k]``."""
        spread = self._prior[1]
        uniform = (
            StepNoise(self.settings.first_start, start, "start", 1)
            .uniform("centres", (self.settings.components,))[0]
            .double()
            .numpy()
        )

        def apart(item: int) -> Array:
            if self.binned:
                # levels are small whole numbers: their differences are taken in single precision to save memory
                away = (codes.astype(np.float32) - codes[item]) ** 2 / spread.astype(np.float32)
                return np.asarray(away.sum(axis=1))
            return np.asarray((codes != codes[item]).sum(axis=1) + ((values - values[item]) ** 2 / spread).sum(axis=1))

        return np.eye(self.settings.components)[spread_out(len(codes), uniform, apart)[1]]

    def _joint(self, values: Array, seen: Array, codes: Array) -> Array:
        """``log π_k + log p(x | k)``, ``[item, k]``; numbers count where ``seen``, codes where they are not -1."""
        joint = np.tile(self.log_weights.numpy(), (len(codes), 1))
        if self.full:
            joint += joint_gaussians.log_density(self.mean.numpy(), self.variance.numpy(), values, seen > 0)
        elif values.shape[1]:
            mean, precise = self.mean.numpy(), 1 / self.variance.numpy()
            joint -= 0.5 * (values**2 @ precise - 2 * values @ (mean * precise))
            joint -= 0.5 * seen @ (mean**2 * precise + np.log(2 * np.pi / precise))
        for block in self._blocks(codes):
            table = self._cells(block)
            joint += columns.indicator(codes[:, block], self.levels[block], dense=self.few) @ table
        return joint

    def _maximise(self, values: Array, seen: Array, codes: Array, answers: Array) -> None:
        """Fit each component to the items that it answers for (``[item, k]``) and to the average ones of smoothing."""
        extra = self.settings.smoothing
        centre, spread, base = self._prior
        # one lot of average items for all weights together, so that components that answer for nothing fade away
        share = (answers.sum(axis=0) + extra / self.settings.components) / (len(answers) + extra)
        self.log_weights.copy_(torch.from_numpy(np.log(share)))
        if values.shape[1]:
            count = seen.T @ answers + extra
            mean = (values.T @ answers + extra * centre[:, None]) / count
            self.mean.copy_(torch.from_numpy(mean))
            if self.full:
                for k in range(self.settings.components):
                    apart, away = values - mean[:, k], mean[:, k] - centre
                    scatter = (apart * answers[:, k, None]).T @ apart + extra * (np.outer(away, away) + np.diag(spread))
                    self.variance[k] = torch.from_numpy(scatter / count[0, k])
            else:
                scatter = (values**2).T @ answers - 2 * mean * (values.T @ answers) + mean**2 * (count - extra)
                scatter = np.maximum(scatter, 0) + extra * ((mean - centre[:, None]) ** 2 + spread[:, None])
                variance = np.maximum(scatter / count, (self.depth / ROUGH) ** 2 if self.binned else 0)
                self.variance.copy_(torch.from_numpy(variance))
        for block in self._blocks(codes):
            counts = columns.indicator(codes[:, block], self.levels[block], dense=self.few).T @ answers  # [cell, k]
            if self.binned:
                self._maximise_bins(block, counts.reshape(-1, self.depth, self.settings.components))
                continue
            place = slice(self.offsets[block.start], self.offsets[block.stop])
            counts = counts + extra * base[place, None]
            begins = (self.offsets[block] - self.offsets[block.start]).astype(np.int64)
            total = np.repeat(np.add.reduceat(counts, begins, axis=0), self.levels[block], axis=0)
            self.odds[place] = torch.from_numpy(np.log(counts / total))

    def _log_prior(self) -> float:
        """What smoothing adds to the log-likelihood: the average items' expected log-probability under each component."""
        centre, spread, base = self._prior
        prior = self.log_weights.mean().item()
        mean, variance = self.mean.numpy(), self.variance.numpy()
        if self.full:
            away = mean - centre[:, None]
            for k in range(self.settings.components):
                whole = np.outer(away[:, k], away[:, k]) + np.diag(spread)
                prior -= 0.5 * (np.linalg.slogdet(variance[k])[1] + np.trace(np.linalg.solve(variance[k], whole)))
        elif len(mean):
            away = (mean - centre[:, None]) ** 2 + spread[:, None]
            prior -= 0.5 * float((np.log(variance) + away / variance).sum())
        if len(self.odds):
            prior += float((base[:, None] * self.odds.numpy()).sum())
        return self.settings.smoothing * prior

    def _maximise_bins(self, block: slice, counts: Array) -> None:
        """Many ordered levels: the expected moments of the number hidden behind each stand in for it."""
        old, (centre, spread, _) = (self.mean.numpy()[block], self.variance.numpy()[block]), self._prior
        mean, variance = binned.refitted(counts, *old, centre[block], spread[block], self.settings.smoothing)
        self.mean[block], self.variance[block] = torch.from_numpy(mean), torch.from_numpy(variance)

    # ---- columns -----------------------------------------------------------------------------------------------------

    def _split(self, items: Array, known: Array | None = None) -> tuple[Array, Array, Array]:
        """Numbers (0 where missing or not ``known``), where they are seen, and codes (-1 where missing or not known)."""
        there = np.ones(items.shape, dtype=bool) if known is None else known.copy()
        for place, flag in self.flags.items():
            there[:, place] &= ~(there[:, flag] & (items[:, flag] == 1))
        seen = there[:, self.numbers].astype(np.float64)
        values = np.where(seen > 0, items[:, self.numbers], 0).astype(np.float64)
        if known is None and items.dtype == np.uint8:
            return values, seen, items
        return values, seen, np.where(there[:, self.codes], items[:, self.codes], -1).astype(np.int64)

    def _blocks(self, codes: Array) -> Iterator[slice]:
        """Runs of code columns small enough to be worked on at once."""
        count, wide = codes.shape
        if wide:
            cost = int(self.levels.max()) * (self.settings.components if self.binned else 1) + count
            width = max(1, AT_ONCE // cost)
            for begin in range(0, wide, width):
                yield slice(begin, min(begin + width, wide))

    def _cells(self, block: slice) -> Array:
        """Log-odds of each level of the columns of ``block``, ``[cell, k]``."""
        if self.binned:
            odds = binned.log_odds(self.mean.numpy()[block], self.variance.numpy()[block], self.depth)
            return odds.reshape(-1, self.settings.components)
        table: Array = self.odds.numpy()[self.offsets[block.start] : self.offsets[block.stop]]
        return table

    def _check(self, x: Tensor) -> None:
        check(self.form, x)
        if isinstance(self.form, Grid) and tuple(x.shape[1:]) != self.form.shape:
            raise FormError(
                f"pictures of {tuple(x.shape[1:])}",
                f"{self.form.shape}: a mixture knows each place by itself",
                "Cut or resize them, or fit again",
            )

    # ---- asking and drawing ------------------------------------------------------------------------------------------

    def log_prob(self, batch: Batch) -> Tensor:
        """Nats of each item, float64 ``[batch]``: a density for numbers, a probability for levels and categories."""
        self._check(batch.x)
        return torch.from_numpy(logsumexp(self._joint(*self._split(batch.x.cpu().flatten(1).numpy())), axis=1))

    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """Draw a component for each item, then its values."""
        return self._draw(self._component(np.tile(self.log_weights.numpy(), (n, 1)), noise), noise)

    def fill(self, x: Tensor, mask: Tensor, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """``x`` with everything redrawn where ``mask`` is False, from the law given what is there."""
        self._check(x)
        items, known = x.cpu().flatten(1).numpy(), mask.cpu().flatten(1).numpy().copy()
        for place, flag in self.flags.items():
            known[:, flag] |= known[:, place]  # a value that is given is not missing, and says so through its flag
        joint = self._joint(*self._split(items, known))
        return self._draw(self._component(joint, noise), noise, items, known)

    def _component(self, joint: Array, noise: Noise) -> Array:
        passed = np.cumsum(softmax(joint, axis=1), axis=1)
        toss = noise.uniform("component").double().numpy()
        return np.minimum((toss[:, None] >= passed).sum(axis=1), self.settings.components - 1)

    def _draw(self, component: Array, noise: Noise, items: Array | None = None, known: Array | None = None) -> Tensor:
        """Items of these components; what is ``known`` stays as it is."""
        width = len(self.numbers) + len(self.codes)
        drawn = np.zeros((len(component), width))
        if len(self.numbers):
            normal = noise.normal("number", (len(self.numbers),)).double().numpy()
            drawn[:, self.numbers] = self._numbers(component, normal, items, known)
        if self.binned:
            normal = noise.normal("number", (width,)).double().numpy()
            uniform = noise.uniform("stray", (width,)).double().numpy()
            mean, variance = self.mean.numpy()[:, component].T, self.variance.numpy()[:, component].T
            drawn = binned.drawn(mean, variance, normal, uniform, self.depth)
        elif len(self.codes):
            toss = noise.uniform("code", (len(self.codes),)).double().numpy()
            for j, place in enumerate(self.codes):
                passed = np.cumsum(np.exp(self._cells(slice(j, j + 1))), axis=0)[:, component]
                drawn[:, place] = np.minimum((toss[:, j] >= passed).sum(axis=0), self.levels[j] - 1)
        if items is not None and known is not None:
            drawn = np.where(known, items, drawn)
        for place, flag in self.flags.items():
            drawn[drawn[:, flag] == 1, place] = 0
        shape = self.form.shape if isinstance(self.form, Grid) else (width,)
        whole = isinstance(self.form, Grid) and self.form.levels is not None
        return torch.from_numpy(drawn).to(torch.int64 if whole else torch.float32).reshape(-1, *shape)

    def _numbers(self, component: Array, normal: Array, items: Array | None, known: Array | None) -> Array:
        mean = self.mean.numpy()[:, component].T
        if not self.full:
            drawn: Array = mean + np.sqrt(self.variance.numpy()[:, component].T) * normal
            return drawn
        drawn = np.empty_like(mean)
        for row, k in enumerate(component):
            given = () if items is None or known is None else (items[row, self.numbers], known[row, self.numbers])
            drawn[row] = joint_gaussians.drawn(mean[row], self.variance.numpy()[k], normal[row], *given)
        return drawn

    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """A component is chosen; what is typical of it; a draw from it."""
        weights = self.log_weights.exp()
        component = self._component(self.log_weights.numpy()[None, :], noise)
        k = int(component[0])
        yield Step(
            f"component {k} is chosen",
            note=f"It answers for {float(weights[k]):.1%} of the items.",
            data={"weights": weights, "component": torch.tensor(k)},
        )
        yield Step(f"what is typical of component {k}", self._typical(k), "Each value by itself at its mean or mode.")
        yield Step("a draw from it", self._draw(component, noise), "Each value varies around that, independently of others.")

    def _typical(self, k: int) -> Tensor:
        """A component's means and most probable codes, as one item."""
        item = np.zeros((1, len(self.numbers) + len(self.codes)))
        if self.binned:
            item[0] = np.clip(np.rint(self.mean.numpy()[:, k]), 0, self.depth - 1)
        else:
            item[0, self.numbers] = self.mean.numpy()[:, k]
            item[0, self.codes] = [self._cells(slice(j, j + 1))[:, k].argmax() for j in range(len(self.codes))]
        known = np.ones(item.shape, dtype=bool)
        return self._draw(np.array([k]), _Nothing(), item, known)


class _Nothing(Noise):
    """No noise: what draws from it gets zeros."""

    size = 1

    def normal(self, name: str, shape: tuple[int, ...] = (), step: int = 0) -> Tensor:  # type: ignore[override]
        return torch.zeros(1, *shape)

    uniform = normal  # type: ignore[assignment]


MODEL = Mixture
