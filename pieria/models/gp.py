"""A Gaussian process: a distribution over functions, conditioned exactly on the measured points.

Any finite number of values ``f(x)`` is jointly normal, with a covariance that the kernel states: how much two values
have to do with each other, given where they are. Fitting chooses the kernel's lengths, periods and variances (the
hyperparameters) by the marginal likelihood ``log N(y; 0, K + σ²I)``, which rewards fit and punishes needless freedom.
Drawing gives whole functions: from the prior (what the kernel thinks plausible) or from the posterior (what is left of
it after the data were seen); the posterior's width is the uncertainty.

One training item is one measured function: later items are further points of it, scored given the training points. With
several, each is a function of its own: they share the hyperparameters, and later items are scored from the prior.
Several outputs are independent given the kernel, which they share. Memory is n², time n³ in the points.

It has no latent code: what it draws is the function itself. It is not a neural process, nor an approximation by
inducing points.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.signal import lombscargle
from torch import Tensor

from pieria.data.batch import Batch
from pieria.errors import DataError, FormError, UsageError
from pieria.forms import Curve, Form
from pieria.layers import curves
from pieria.layers.kernels import Expression
from pieria.models.contract import Model, Step
from pieria.noise import ItemNoise, Noise
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

SCREENED = 160  # points on which random starts are tried: enough to tell good ones from bad ones
ONE_THREAD = 1500  # points below which one thread is quicker than several


class GpSettings(AnySettings):
    """Hyperparameters of a Gaussian process; the kernel's own are learned."""

    kernel: str = Field(
        "linear + matern52(length=span/2) + matern52(length=span)*periodic(period=season) + matern12(length=5*gap) + noise",
        description="covariance as a sum of products of rbf, matern12, matern32, matern52, rational, periodic, linear, "
        "polynomial, constant, noise; 'rbf(length=50)' says where learning starts, fixed(1) what stays",
    )
    restarts: int = Field(3, ge=0, le=100, description="random starts besides the kernel's own, tried on a few points")
    learn_on: int = Field(800, ge=16, description="hyperparameters are learned on at most so many points, drawn evenly")
    most_points: int = Field(5000, ge=2, description="refuse to fit more points than this: memory is n², time n³")
    iterations: int = Field(150, ge=1, description="most steps of L-BFGS")


class GpSampling(AnySettings):
    """Options of drawing functions."""

    points: int = Field(200, ge=1, le=5000, description="how many positions a function is drawn at")
    start: float | None = Field(None, description="the first position; without it where the data begin")
    stop: float | None = Field(None, description="the last position; without it where the data end")
    posterior: bool = Field(True, description="given the training points, rather than from the prior")
    noise: bool = Field(False, description="with the error of measurement, as data would be")


class Gp(Model):
    """Exact Gaussian-process regression, ``p(y* | x*, X, y) = N(K*ᵀ(K+σ²I)⁻¹y, K** - K*ᵀ(K+σ²I)⁻¹K* + σ²I)``.

    Items are ``Curve`` tensors ``[batch, point, inputs + outputs]``, float64, in the form's own units, on the CPU. Outputs
    are standardised inside (their mean stays fixed) and figures given back in the original unit.
    """

    Settings: ClassVar = GpSettings
    Sampling: ClassVar = GpSampling
    consumes = frozenset({Curve})
    likelihood = "exact"
    holds_data = True
    presets: ClassVar = {
        "tiny": {"kernel": "rbf(length=span/5) + noise", "restarts": 0, "learn_on": 128},
        "default": {},
        "co2": {
            "kernel": "2500*rbf(length=50) + 4*rbf(length=100)*periodic(length=1, period=fixed(1))"
            " + 0.25*rational(length=1, alpha=1) + 0.01*rbf(length=0.1) + 0.01*noise",
            "restarts": 0,
        },
    }
    paper = "Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, chapters 2, 4 and 5 (MIT Press)"

    settings: GpSettings
    x: Tensor
    y: Tensor

    def __init__(self, settings: GpSettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        assert isinstance(form, Curve)
        self.inputs, self.outputs = form.inputs, form.outputs
        self.kernel = Expression(settings.kernel, form.inputs)
        self.kernel.begin({"span": 1.0, "gap": 0.01, "season": 0.25}, 1.0)
        # sized by the data: registered empty, replaced by loading
        self.register_buffer("x", torch.zeros(0, form.inputs, dtype=torch.float64))
        self.register_buffer("y", torch.zeros(0, form.outputs, dtype=torch.float64))  # standardised
        self.register_buffer("low", torch.zeros(form.inputs, dtype=torch.float64))
        self.register_buffer("high", torch.ones(form.inputs, dtype=torch.float64))
        self.register_buffer("shift", torch.zeros(form.outputs, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(form.outputs, dtype=torch.float64))
        self.factor: tuple[Tensor, Tensor] | None = None  # Cholesky factor and weights, computed when first needed
        self.register_load_state_dict_post_hook(_forget)

    # ---- learning: the marginal likelihood ----

    def estimate(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Choose the hyperparameters by marginal likelihood and keep the points; an earlier fit is forgotten."""
        functions = [pair for batch in batches() for pair in self._functions(batch)]
        count = sum(len(x) for x, _ in functions)
        if count < 2:
            raise FormError(f"the data hold {count} points", "at least 2", "Give more points")
        if count > self.settings.most_points:
            raise DataError(
                f"the data hold {count:,} points",
                f"at most {self.settings.most_points:,}: an exact Gaussian process needs n² memory and n³ time",
                "Thin the series, or raise it with --set most_points=…",
            )
        x, y = (torch.cat(side) for side in zip(*functions, strict=True))
        self.factor = None
        self.low, self.high = x.amin(0), x.amax(0)
        self.shift, spread = y.mean(0), y.std(0, correction=0)
        self.scale = torch.where(spread > 0, spread, torch.ones_like(spread))
        with few_threads(count):
            self._climb([(x, (y - self.shift) / self.scale) for x, y in functions], facts(x, y))
        one = len(functions) == 1
        self.x, self.y = (x, (y - self.shift) / self.scale) if one else (x[:0], y[:0])

    def _climb(self, functions: list[tuple[Tensor, Tensor]], known: dict[str, float]) -> None:
        """L-BFGS from the kernel's own start and from random ones on a few points; the best goes on with many."""
        variance = float(self.scale.square().mean())
        limits = self.kernel.begin(known, variance)
        places = list(limits)
        bounds = [bound for parameter, bound in limits.items() for _ in range(parameter.numel())]
        low, high = np.asarray(bounds).T
        own = np.concatenate([p.detach().numpy().reshape(-1) for p in places])
        # random starts lie within a factor of e² of the kernel's own; the noise is addressed, so a fit repeats
        drawn = ItemNoise(0, self.settings.restarts).normal("starts", (len(own),)).numpy().astype(float)
        starts = [own, *(np.clip(own + drawn, low, high))]

        def climb(start: np.ndarray, points: int, steps: int, near: float) -> tuple[float, np.ndarray]:
            some = _some(functions, points)

            def downhill(vector: np.ndarray) -> tuple[float, np.ndarray]:
                _write(places, vector)
                return self._loss(some, places)

            found = minimize(
                downhill, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps, "ftol": near}
            )
            return float(found.fun), found.x

        best = own
        if len(starts) > 1:
            best = min((climb(start, SCREENED, 30, 1e-6) for start in starts), key=lambda pair: pair[0])[1]
        _write(places, climb(best, self.settings.learn_on, self.settings.iterations, 1e-10)[1])

    @torch.enable_grad()  # a caller may have turned gradients off
    def _loss(self, functions: list[tuple[Tensor, Tensor]], places: list[Any]) -> tuple[float, np.ndarray]:
        """Negative log marginal likelihood and its gradient, ``½ tr((K⁻¹ - ααᵀ) ∂K)`` (Rasmussen and Williams, 5.9).

        The factor in front of ∂K is computed once, and autograd only has to walk through the kernel's functions.
        """
        total, gradient = 0.0, np.zeros(sum(p.numel() for p in places))
        for x, y in functions:
            covariance = self._covariance(x, x) + self.kernel.noise * torch.eye(len(x), dtype=torch.float64)
            factor, failed = torch.linalg.cholesky_ex(covariance.detach())
            if int(failed):  # the line search went where K is singular in double precision: tell it to step back
                return 1e25, np.zeros_like(gradient)
            weights = torch.cholesky_solve(y, factor)  # [n, k]
            total -= float(_log_normal(y, factor).sum())
            slope = 0.5 * (self.outputs * torch.cholesky_inverse(factor) - weights @ weights.T)
            parts = torch.autograd.grad(covariance, places, slope, allow_unused=True)
            gradient += np.concatenate(
                [(torch.zeros_like(p) if g is None else g).numpy().reshape(-1) for p, g in zip(places, parts, strict=True)]
            )
        return total, gradient

    def log_marginal_likelihood(self) -> float:
        """``log p(y | X)`` of the training points, in nats, in the outputs' original unit; 0 where none are held."""
        if not len(self.x):
            return 0.0
        factor, _ = self._factored()
        return float((_log_normal(self.y, factor).sum() - len(self.x) * self.scale.log().sum()).detach())

    # ---- what the points say ----

    def _covariance(self, x1: Tensor, x2: Tensor) -> Tensor:
        middle, span = (self.low + self.high) / 2, (self.high - self.low).clamp_min(1e-12)
        covariance: Tensor = self.kernel(x1, x2, (x1 - middle) / span, (x2 - middle) / span)
        return covariance

    def _factored(self) -> tuple[Tensor, Tensor]:
        """The Cholesky factor of ``K + σ²I`` and the weights ``(K + σ²I)⁻¹ y``."""
        if self.factor is None:
            noise = self.kernel.noise * torch.eye(len(self.x), dtype=torch.float64)
            factor = _root(self._covariance(self.x, self.x) + noise)
            self.factor = factor, torch.cholesky_solve(self.y, factor)
        return self.factor

    def _posterior(self, x: Tensor, given: bool = True) -> tuple[Tensor, Tensor]:
        """Mean ``[m, k]`` and covariance ``[m, m]`` of the standardised function at ``x`` (``[m, d]``)."""
        prior = self._covariance(x, x)
        if not given or not len(self.x):
            return torch.zeros(len(x), self.outputs, dtype=torch.float64), prior
        factor, weights = self._factored()
        across = self._covariance(self.x, x)  # [n, m]
        explained = torch.linalg.solve_triangular(factor, across, upper=False)
        return across.T @ weights, prior - explained.T @ explained

    @torch.no_grad()
    def predict(self, x: Tensor, *, noise: bool = True) -> tuple[Tensor, Tensor]:
        """Mean and variance ``[m, k]`` at ``x`` (float64 ``[m, d]``), in the original unit.

        ``mean ± 1.96 √variance`` holds 95 % of new measurements (of the function itself, with ``noise=False``).
        """
        mean, covariance = self._posterior(self._positions(x)[0])
        variance = covariance.diagonal().clamp_min(0) + (self.kernel.noise if noise else 0.0)
        return self.shift + self.scale * mean, variance[:, None] * self.scale.square()

    @torch.no_grad()
    def log_prob(self, batch: Batch) -> Tensor:
        """Joint density of each item's points, given the training points: nats in the original unit, ``[batch]``."""
        functions = self._functions(batch)
        together: dict[bytes, list[int]] = {}  # curves measured at the same positions share their law
        for row, (x, _) in enumerate(functions):
            together.setdefault(x.contiguous().numpy().tobytes(), []).append(row)
        scores = torch.empty(len(functions), dtype=torch.float64)
        for rows in together.values():
            x = functions[rows[0]][0]
            mean, covariance = self._posterior(x)
            factor = _root(covariance + self.kernel.noise * torch.eye(len(x), dtype=torch.float64))
            y = (torch.stack([functions[row][1] for row in rows]) - self.shift) / self.scale - mean  # [row, m, k]
            density = _log_normal(y.transpose(0, 1).flatten(1), factor).view(len(rows), -1).sum(1)
            scores[rows] = density - len(x) * self.scale.log().sum()
        return scores

    def _functions(self, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        """The real points of each item: positions ``[n, d]`` and values ``[n, k]``."""
        assert isinstance(self.form, Curve)
        return [(x[:, : self.inputs], x[:, self.inputs :]) for x in curves.real_points(self.form, batch)]

    # ---- drawing functions ----

    @torch.no_grad()
    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """``n`` functions ``[n, m, d + k]``; ``condition`` says where (``[m, d]``, or ``[n, m, d]``)."""
        assert isinstance(options, GpSampling)
        places = self._positions(condition, options, n)
        white = noise.normal("function", (places.shape[1], self.outputs)).double()
        error = noise.normal("error", (places.shape[1], self.outputs)).double()
        if places.shape[0] == 1:  # functions at the same positions share one factor
            values = self._draw(places[0], white, error, options)
        else:
            values = torch.stack([self._draw(*own, options) for own in zip(places, white, error, strict=True)])
        return torch.cat([places.expand(n, -1, -1), values], dim=-1)

    def _draw(self, x: Tensor, white: Tensor, error: Tensor, options: GpSampling) -> Tensor:
        """Functions at ``x`` from standard normals ``[..., m, k]``: mean + Lz, with LLᵀ the covariance."""
        mean, covariance = self._posterior(x, options.posterior)
        values = mean + _root(covariance) @ white
        if options.noise:
            values = values + self.kernel.noise.sqrt() * error
        return self.shift + self.scale * values

    def _positions(self, asked: Tensor | None, options: GpSampling | None = None, n: int = 1) -> Tensor:
        """Where a function is wanted, ``[1 or n, m, d]``."""
        if asked is not None:
            return curves.asked(asked, self.inputs, n)
        assert options is not None
        if self.inputs > 1 and len(self.x):
            return self.x[torch.linspace(0, len(self.x) - 1, options.points).round().long()][None]
        start = self.low if options.start is None else torch.full_like(self.low, options.start)
        stop = self.high if options.stop is None else torch.full_like(self.high, options.stop)
        if not bool((start <= stop).all()):
            raise UsageError(f"start {start.tolist()} lies after stop {stop.tolist()}", "start before stop", "Swap them")
        share = torch.linspace(0, 1, options.points, dtype=torch.float64)[:, None]
        return (start + share * (stop - start))[None]

    @torch.no_grad()
    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """White noise, the prior function that the kernel makes of it, and what the data leave of that."""
        assert isinstance(options, GpSampling)
        x = self._positions(condition, options)[0]
        white = noise.normal("function", (len(x), self.outputs)).double()
        error = noise.normal("error", (len(x), self.outputs)).double()

        def item(values: Tensor) -> Tensor:
            return torch.cat([x, self.shift + self.scale * values], dim=-1)[None]

        yield Step("white noise", item(white[0]), "One standard normal number a point: no value knows its neighbours.")
        prior = self._covariance(x, x)
        function = item(_root(prior) @ white[0])
        note = f"The kernel says which points go together: {self.kernel.learned(float(self.scale.square().mean()))}."
        yield Step("prior function", function, note, {"covariance": prior})
        if options.posterior and len(self.x):
            mean, covariance = self._posterior(x)
            width = covariance.diagonal().clamp_min(0).sqrt()[:, None] * self.scale
            data = {
                "mean": item(mean)[0],
                "deviation": width,
                "points": torch.cat([self.x, self.shift + self.scale * self.y], 1),
            }
            yield Step(
                "posterior mean", item(mean), "Given the data: where the function must be, and how sure that is.", data
            )
        drawn = torch.cat([x, self._draw(x, white, error, options)[0]], dim=-1)[None]
        name = "posterior function" if options.posterior else "function"
        yield Step(name, drawn, "The same noise, bent to what the data allow.")


def facts(x: Tensor, y: Tensor) -> dict[str, float]:
    """What starting values may be computed from: the inputs' ``span``, their median ``gap``, the dominant ``season``.

    The season is the highest peak of the Lomb-Scargle periodogram after a parabola was taken away (Lomb 1976), between
    two points and a third of the span; inputs of more than one dimension have none, and a quarter of the span stands in.
    """
    span = max(float((x.amax(0) - x.amin(0)).max()), 1e-9)
    places = x[:, 0].unique()
    gap = float(places.diff().median()) if len(places) > 1 else span
    season = span / 4
    if x.shape[1] == 1 and len(places) >= 16:
        t = (x[:, 0].numpy() - float(x.mean())) / span
        v = y[:, 0].numpy()
        rest = v - np.polyval(np.polyfit(t, v, 2), t)
        if rest.std() > 1e-12:
            cycles = np.linspace(3, max(4.0, min(len(places) / 2, span / (2 * gap))), 8 * min(len(places), 2000))
            power = lombscargle(t, rest, 2 * math.pi * cycles)
            season = span / float(cycles[int(power.argmax())])
    return {"span": span, "gap": gap, "season": season}


def _log_normal(y: Tensor, factor: Tensor) -> Tensor:
    """``log N(y; 0, LLᵀ)`` of each column of ``y`` (``[n, k]``)."""
    white = torch.linalg.solve_triangular(factor, y, upper=False)
    return -0.5 * white.square().sum(0) - factor.diagonal().log().sum() - 0.5 * len(y) * math.log(2 * math.pi)


def _root(covariance: Tensor) -> Tensor:
    """A Cholesky factor; where rounding made the matrix indefinite, of the matrix with the least jitter that helps."""
    size = covariance.diagonal().mean().clamp_min(1e-300)
    for jitter in (0.0, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4):
        factor, failed = torch.linalg.cholesky_ex(
            covariance + jitter * size * torch.eye(len(covariance), dtype=torch.float64)
        )
        if not int(failed):
            return factor
    raise DataError("the kernel's matrix is not positive definite", "points that are not all the same", "Change the kernel")


def _some(functions: list[tuple[Tensor, Tensor]], points: int) -> list[tuple[Tensor, Tensor]]:
    """At most so many points, drawn evenly over all: near and far pairs keep their shares."""
    total = sum(len(x) for x, _ in functions)
    if total <= points:
        return functions
    chosen = []
    for number, (x, y) in enumerate(functions):
        kept = max(1, round(points * len(x) / total))
        order = ItemNoise(0, 1, first=number).uniform("some points", (len(x),))[0].argsort()[:kept].sort().values
        chosen.append((x[order], y[order]))
    return chosen


def _write(places: list[Any], vector: np.ndarray) -> None:
    start = 0
    with torch.no_grad():
        for place in places:
            place.copy_(torch.from_numpy(vector[start : start + place.numel()]).view_as(place))
            start += place.numel()


def _forget(model: Gp, _: Any) -> None:
    model.factor = None


@contextmanager
def few_threads(points: int) -> Iterator[None]:
    """One thread for matrices so small that threads wait for each other longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if points < ONE_THREAD else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


MODEL = Gp
