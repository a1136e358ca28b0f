"""A hidden Markov model: an unseen state walks from place to place, and each state has its own way of showing itself.

    p(x) = Σ over all paths z of  π(z_1) · b(x_1 | z_1) · Π_t  A(z_t | z_t-1) · b(x_t | z_t)

What it learns of text are kinds of symbols and how they follow each other (vowels and consonants, beginnings and ends); of
measured series, regimes, each with its level and spread. It has no latent code to walk through: what is latent is the path.
All sums over paths are exact. Learning is Baum-Welch: say how often each state and each move is expected, then make them
as probable as that. Several random starts are tried for a few passes, and the most promising one goes on.

Symbols have a table of odds for each state. Numbers (a `Curve` over one input) have a Gaussian or a mixture of them; the
chain takes one step each usual gap of the input, so gaps in a series are steps on which nothing was seen, and a point
between two steps belongs to the nearer one. As with a Gaussian process, where one series was learned later points are
further points of it, given those that were learned (that is what a forecast is); where several were, each is on its own.

Choose it where a few states explain the data, and you want to know them. As a writer it is weak: all that it knows of
the past is which state it is in, log2(states) bits; an n-gram that reads four symbols back beats it.

Papers: Baum et al. (1970), the estimation; Rabiner (1989), a tutorial; Viterbi (1967), the best path; Arthur and
Vassilvitskii (2007), k-means++; Biernacki, Celeux and Govaert (2003), short runs from many starts.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from pieria.data.batch import Batch, check, mask_after_end
from pieria.errors import FormError, TrainingError, UsageError
from pieria.forms import Curve, Form, Tokens
from pieria.layers import baum_welch, chains, curves
from pieria.layers.baum_welch import Chain, ChainSettings, Sequences, any_law, shares
from pieria.layers.gaussians import Gaussians, between_neighbours
from pieria.models.contract import Model, Step
from pieria.noise import Noise, StepNoise
from pieria.sampling.decoding import Decoding, generate, trace_symbols
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

Array = np.ndarray
AT_ONCE = 1 << 23  # numbers held for one block of sequences while learning: bounds memory
SHOWN = 64  # symbols up to which a trace shows the path
FARTHEST = 1_000_000  # steps of a chain of numbers


class HmmSettings(ChainSettings):
    """Hyperparameters of `Hmm`."""

    emission: Literal["auto", "categorical", "gaussian", "mixture"] = Field(
        "auto", description="how a state shows itself; auto: categorical for symbols, gaussian for numbers"
    )
    components: int = Field(3, ge=1, description="Gaussians in each state (emission=mixture only)")
    covariance: Literal["diagonal", "full"] = Field(
        "diagonal", description="full: the outputs of a curve vary together within a state"
    )
    extra: float = Field(
        5.0,
        ge=0,
        description="each Gaussian counts so many points more than it has, as far apart as neighbours usually are",
    )
    window: int = Field(
        512, ge=2, description="a stream is learned from in pieces of so many symbols, and read so far back where it is cut"
    )
    most: int = Field(5_000_000, ge=2, description="learn from so many symbols or points at most, evenly spaced sequences")


class Hmm(Chain, Model):
    """A hidden Markov model over `Tokens`, with exact likelihood; over a `Curve` it is a `HmmOfNumbers`.

    Float64 on the processor. Learning is `layers.baum_welch.Chain`'s; here is what the states show.

    >>> from pieria.noise import ItemNoise
    >>> model = Hmm(HmmSettings(states=2), Tokens(vocabulary=3, length=4, end=0))
    >>> model.estimate(lambda: [Batch(torch.tensor([[1, 2, 1, 0], [2, 1, 0, 0]]))])
    >>> tuple(model.sample(5, Decoding(), ItemNoise(0, 5)).shape)
    (5, 4)
    """

    Settings: ClassVar = HmmSettings
    Sampling: ClassVar[type[AnySettings]] = Decoding
    consumes = frozenset({Tokens, Curve})
    likelihood = "exact"
    holds_data = False
    presets: ClassVar = {
        "tiny": {"states": 12, "smoothing": 0.02, "extra": 20.0, "restarts": 4, "iterations": 80},
        "default": {},
        "large": {"states": 64},
        "regimes": {"states": 4, "initial": "sticky"},
        "mixtures": {"states": 4, "emission": "mixture", "initial": "sticky"},
    }
    paper = "Rabiner 1989, A tutorial on hidden Markov models and selected applications in speech recognition"

    settings: HmmSettings
    emission: Tensor

    def __new__(cls, *given: Any, **named: Any) -> "Hmm":
        """An ability is asked for by type: numbers have no next symbol, so what models them is a type of its own."""
        form = named.get("form", given[1] if len(given) > 1 else None)  # copying gives nothing, to the type that it has
        model: Hmm = super().__new__(HmmOfNumbers if isinstance(form, Curve) else cls)
        return model

    def __init__(self, settings: HmmSettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        self._begin_chain(settings.states)
        self._begin_form()

    def _begin_form(self) -> None:
        """The buffers of this form."""
        if self.settings.emission not in ("auto", "categorical"):
            raise UsageError(f"emission={self.settings.emission} for symbols", "categorical", "Leave it at auto")
        assert isinstance(self.form, Tokens)
        v = self.form.vocabulary
        self.register_buffer("emission", torch.full((self.settings.states, v), 1 / v, dtype=torch.float64))

    # ---- learning: Baum-Welch ----------------------------------------------------------------------------------------

    def estimate(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Fit by Baum-Welch; an earlier fit is forgotten."""
        self.fit_chain(self.gathered(batches))

    @torch.no_grad()
    def improve(self, data: Sequences) -> float:
        """One pass of Baum-Welch; the log-likelihood before it, in nats."""
        heard = torch.zeros_like(self.emission).T.contiguous()  # [vocabulary, state]
        seen = self.emission.T.contiguous()
        nats, first, moves = 0.0, torch.zeros_like(self.first), torch.zeros_like(self.moves)
        for levels in data.blocks:
            some = baum_welch.expected(
                levels, self.first, self.moves, seen, lambda level, counts: heard.index_add_(0, level.seen, counts)
            )
            nats, first, moves = nats + some[0], first + some[1], moves + some[2]
        assert isinstance(self.form, Tokens)
        # a stream may be entered anywhere: what begins a piece of it is no law of beginnings
        self._move(heard.sum(dim=0) if self.form.end is None else first, moves)
        self.emission.copy_(shares(heard.T + self.settings.smoothing * data.usual, self.emission))
        return nats

    def _log_prior_of_emission(self, data: Sequences) -> float:
        smoothing = self.settings.smoothing
        return smoothing * float((data.usual * self.emission.log()).sum()) if smoothing else 0.0

    def _begin_emission(self, data: Sequences, noise: StepNoise) -> None:
        odds = data.usual * any_law(noise, "emission", tuple(self.emission.shape))
        self.emission.copy_(odds / odds.sum(dim=1, keepdim=True))

    def gathered(self, batches: Callable[[], Iterable[Batch]]) -> Sequences:
        """All sequences, ready to be learned from: those that begin alike are joined."""
        assert isinstance(self.form, Tokens)
        found, lengths = [], []
        for batch in batches():
            self._check(batch)
            x = batch.x.cpu()
            mask = mask_after_end(x, self.form.end) if batch.mask is None else batch.mask.cpu()
            real = mask.flip(1).cumsum(dim=1).flip(1) > 0
            found.append(x[real].numpy().astype(np.int32))
            lengths.append(real.sum(dim=1).numpy())
        flat = np.concatenate(found) if found else np.empty(0, np.int32)
        if not len(flat):
            raise TrainingError("the model was given no symbols", "at least one", "Give it some data")
        if self.form.end is None:  # windows of one stream, in order; of a short one many short pieces, worked on together
            piece = min(self.settings.window, max(64, math.isqrt(len(flat))))
            cuts = np.arange(0, len(flat), piece)
            each = np.diff(np.append(cuts, len(flat)))
        else:
            each = np.concatenate(lengths)
            each = each[each > 0]
        room = max(1, AT_ONCE // self.settings.states)
        return baum_welch.of_symbols(flat, each, self.form.vocabulary, most=self.settings.most, room=room)

    def _check(self, batch: Batch) -> None:
        check(self.form, batch.x)
        if isinstance(self.form, Tokens) and self.form.end is not None and batch.x.shape[1] > self.form.length:
            raise FormError(
                f"items of {batch.x.shape[1]} symbols",
                f"at most {self.form.length}",
                "Cut them, or fit to a form with longer items",
            )

    # ---- asking ------------------------------------------------------------------------------------------------------

    def log_prob(self, batch: Batch) -> Tensor:
        """Nats of each item, float64 ``[batch]``."""
        return self.symbol_log_prob(batch).sum(dim=1)

    @torch.no_grad()
    def symbol_log_prob(self, batch: Batch) -> Tensor:
        """Nats of each symbol, float64 ``[batch, time]``."""
        self._check(batch)
        assert isinstance(self.form, Tokens)
        mask = mask_after_end(batch.x, self.form.end) if batch.mask is None else batch.mask
        _, odds = self._read(batch.x, self._before(batch))
        return torch.where(mask, odds, 0.0)

    @property
    def reach(self) -> int:
        """The belief about the state reaches back without bound; it is begun anew so many symbols before a cut."""
        assert isinstance(self.form, Tokens)
        return self.settings.window if self.form.end is None else self.form.length

    def _before(self, batch: Batch) -> Tensor:
        """The law of the state at the first symbol of ``batch.x``, ``[batch, state]``."""
        law = self.start(len(batch))
        return law if batch.context is None else self._read(batch.context, law)[0][:, -1]

    def _read(self, tokens: Tensor, law: Tensor) -> tuple[Tensor, Tensor]:
        """Read symbols from a law of the state at the first: the laws at the next one after each, ``[batch, time, state]``,
        and the nats of each symbol, ``[batch, time]``; `form.begin` has none, and sets the law back to that of a beginning.
        """
        assert isinstance(self.form, Tokens)
        begins = tokens == self.form.begin
        shown = self.emission.T[tokens.masked_fill(begins, 0)]  # [batch, time, state]
        laws, odds = chains.foretold(self.first, self.moves, shown, law, begins)
        return laws, odds.log().masked_fill(begins, 0.0)

    @torch.no_grad()
    def logits(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log-probabilities, float64 ``[batch, time, vocabulary]``; row t is of what follows ``tokens[:, : t + 1]``."""
        del condition
        laws, _ = self._read(tokens, self.start(len(tokens)))
        return (laws @ self.emission).log()

    def start(self, n: int, condition: Tensor | None = None) -> Tensor:
        """The law of the first state, ``[n, state]``: all that is known before anything was read."""
        del condition
        return self.first.expand(n, -1)

    @torch.no_grad()
    def step(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Read ``tokens`` ``[batch, k]``; the log-odds ``[batch, vocabulary]`` of what comes next, and the new law."""
        law = self._read(tokens, state)[0][:, -1]
        return (law @ self.emission).log(), law

    @torch.no_grad()
    def states(self, batch: Batch) -> Tensor:
        """The most probable path (Viterbi), long ``[batch, time]``; 0 where the mask is False."""
        odds, mask = self._observed(batch)
        return chains.best_paths(self._before(batch), self.moves, odds, mask)

    @torch.no_grad()
    def posterior(self, batch: Batch) -> Tensor:
        """The probability of each state given the whole item, ``[batch, time, state]``; 0 where the mask is False."""
        odds, mask = self._observed(batch)
        return chains.smoothed(self._before(batch), self.moves, odds) * mask[..., None]

    def _observed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        self._check(batch)
        assert isinstance(self.form, Tokens)
        mask = mask_after_end(batch.x, self.form.end) if batch.mask is None else batch.mask
        return self.emission.log().T[batch.x].masked_fill(~mask[..., None], 0.0), mask

    # ---- drawing -----------------------------------------------------------------------------------------------------

    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """Draw ``n`` items, symbol by symbol, long ``[n, length]``."""
        assert isinstance(options, Decoding)
        return generate(self, n, options, noise)

    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """Each symbol with its odds, the law of the state that it comes from, and the best path so far."""
        assert isinstance(options, Decoding)
        assert isinstance(self.form, Tokens)
        steps = trace_symbols(self, options, noise, look=lambda read: {"state": self._read(read, self.start(1))[0][0, -1]})
        for step in steps:
            assert step.x is not None
            made = int(mask_after_end(step.x, self.form.end).sum())
            if made > SHOWN:  # each path is a walk through the whole text
                yield step
            else:
                yield replace(step, data={**step.data, "path": self.states(Batch(step.x))[0, :made]})


class NumbersSampling(AnySettings):
    """Options of drawing curves."""

    points: int | None = Field(None, ge=1, le=100_000, description="how many points; without it one each step of the chain")
    start: float | None = Field(None, description="the first position; without it where the data begin")
    stop: float | None = Field(None, description="the last position; without it where the data end")
    posterior: bool = Field(True, description="given the points of the one series learned, rather than a new series")


class HmmOfNumbers(Hmm):
    """The same chain over curves of one input, whose outputs are Gaussian in each state, or a mixture of Gaussians.

    Items are float64 ``[batch, point, 1 + outputs]`` in the form's own units; so are densities. ``log_prob`` is the joint
    density of an item's points: where one series was learned, given its points; else of a series of its own.
    """

    Sampling: ClassVar[type[AnySettings]] = NumbersSampling
    consumes = frozenset({Curve})
    holds_data = True  # the points of a single series
    symbol_log_prob = logits = start = step = reach = None  # type: ignore[assignment]  # there are no symbols to predict

    gap: Tensor
    low: Tensor
    high: Tensor
    points: Tensor

    def _begin_form(self) -> None:
        assert isinstance(self.form, Curve)
        if self.settings.emission == "categorical":
            raise UsageError("emission=categorical for numbers", "gaussian or mixture", "Leave it at auto")
        if self.form.inputs != 1:
            raise FormError(f"a curve over {self.form.inputs} inputs", "one: a chain has one direction", "Choose gp")
        k, d = self.settings.states, self.form.outputs
        m = self.settings.components if self.settings.emission == "mixture" else 1
        self.gaussians = Gaussians(k, m, d, self.settings.covariance)
        self.register_buffer("gap", torch.ones((), dtype=torch.float64))
        self.register_buffer("low", torch.zeros((), dtype=torch.float64))
        self.register_buffer("high", torch.ones((), dtype=torch.float64))
        # sized by the data: registered empty, replaced by loading
        self.register_buffer("points", torch.zeros(0, 1 + d, dtype=torch.float64))

    def _odds(self, values: Tensor) -> Tensor:
        """Log-density of ``values`` ``[…, output]`` in each state, ``[…, state]``."""
        return self.gaussians.log_density(values).logsumexp(dim=-1)

    # ---- learning ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def estimate(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Fit by Baum-Welch; the points of a single series are kept, so that others can be asked for given them."""
        self.points = self.points[:0]
        functions = [f for batch in batches() for f in self._functions(batch)]
        if sum(map(len, functions)) < 2:
            raise FormError(f"the data hold {sum(map(len, functions))} points", "at least 2", "Give more points")
        self._measure(functions)
        super().estimate(lambda: [Batch(f[None]) for f in functions])
        if len(functions) == 1:
            self.points = functions[0]

    def _measure(self, functions: list[Tensor]) -> None:
        """The range of the input, and its usual gap."""
        x = torch.cat([f[:, 0] for f in functions])
        self.low.copy_(x.min())
        self.high.copy_(x.max())
        if (gap := curves.usual_gap(functions)) is not None:
            self.gap.copy_(gap)

    def gathered(self, batches: Callable[[], Iterable[Batch]]) -> Sequences:
        """All curves, step by step; one alone is worked on along its length, several side by side."""
        functions = [f for batch in batches() for f in self._functions(batch)]
        steps = [self._steps(f[:, 0], float(f[0, 0])) for f in functions]
        lengths = np.array([int(s[-1]) + 1 for s in steps])
        begins = np.cumsum(lengths) - lengths
        row = torch.cat([s + int(begin) for s, begin in zip(steps, begins, strict=True)])
        values = torch.cat([f[:, 1:] for f in functions])
        blocks = [] if len(functions) == 1 else [baum_welch.grown(np.arange(lengths.sum()), lengths, alike=False)]
        usual = between_neighbours([f[:, 1:] for f in functions])
        return Sequences(lengths, blocks, len(values), usual, values, row)

    @torch.no_grad()
    def improve(self, data: Sequences) -> float:
        """One pass of Baum-Welch; the log-likelihood before it, in nats."""
        each = self.gaussians.log_density(data.values)  # [point, state, component]
        shown = each.logsumexp(dim=2)
        odds = shown.new_zeros(int(data.lengths.sum()), len(self.first)).index_add_(0, data.row, shown)
        if not data.blocks:
            nats, laws, moves = baum_welch.expected_along(self.first, self.moves, odds)
            first = laws[0]
        else:
            top, laws = odds.amax(dim=1, keepdim=True), torch.empty_like(odds)
            nats, first, moves = baum_welch.expected(
                data.blocks[0],
                self.first,
                self.moves,
                (odds - top).exp(),
                lambda level, counts: laws.index_copy_(0, level.seen, counts),
            )
            nats += float(top.sum())
        self._move(first, moves)
        share = laws[data.row][..., None] * (each - shown[..., None]).exp()
        settings = self.settings
        self.gaussians.fit(share, data.values, data.usual, extra=settings.extra, smoothing=settings.smoothing)
        return nats

    def _log_prior_of_emission(self, data: Sequences) -> float:
        return float(self.gaussians.log_prior(data.usual, extra=self.settings.extra, smoothing=self.settings.smoothing))

    def _begin_emission(self, data: Sequences, noise: StepNoise) -> None:
        self.gaussians.begin(data.values, data.usual, noise)

    # ---- a series and its positions ----------------------------------------------------------------------------------

    def _functions(self, batch: Batch) -> list[Tensor]:
        """The real points of each item, in order of the input: float64 ``[point, 1 + output]``."""
        assert isinstance(self.form, Curve)
        return [x[x[:, 0].argsort(stable=True)] for x in curves.real_points(self.form, batch) if len(x)]

    def _steps(self, x: Tensor, begin: float) -> Tensor:
        """The step of the chain that each position is nearest to, long."""
        steps = (x - begin) / self.gap
        if len(x) and float(steps.abs().max()) > FARTHEST:
            raise FormError(
                f"positions {float(steps.abs().max()):,.0f} steps of {float(self.gap):g} away from {begin:g}",
                f"at most {FARTHEST:,}",
                "Ask nearer to the data",
            )
        return steps.round().long()

    def _course(self, x: Tensor, given: bool = True) -> tuple[Tensor, Tensor]:
        """The chain over positions ``x`` (ascending): the law of the first state, and the moves between them.

        With ``given``, given the points of the one series that was learned.
        """
        if not given or not len(self.points):
            return self.first, chains.apart(self.moves, self._steps(x, float(x[0])).diff())
        begin = float(self.points[0, 0])
        known = self._steps(self.points[:, 0], begin)
        shown = self._odds(self.points[:, 1:])
        odds = shown.new_zeros(int(known[-1]) + 1, len(self.first)).index_add_(0, known, shown)
        seen = (odds - odds.amax(dim=1, keepdim=True)).exp()
        return chains.conditioned(self.first, self.moves, seen, self._steps(x, begin).tolist())

    def _together(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Items with the same positions: their rows, the order of their points, the points ``[row, point, 1 + output]``."""
        self._check(batch)
        for rows, order in curves.alike(batch):
            yield rows, order, batch.x[rows][:, order]

    @torch.no_grad()
    def log_prob(self, batch: Batch) -> Tensor:
        """Joint density of each item's points in nats, ``[batch]``; given the points of the one series learned, if any."""
        found = torch.zeros(len(batch), dtype=torch.float64)
        for rows, _, points in self._together(batch):
            first, moves = self._course(points[0, :, 0])
            found[rows] = chains.filtered(first, moves, self._odds(points[..., 1:]))[1].sum(dim=1)
        return found

    @torch.no_grad()
    def states(self, batch: Batch) -> Tensor:
        """The most probable path of each item by itself, long ``[batch, point]``; 0 where the mask is False."""
        found = torch.zeros(batch.x.shape[:2], dtype=torch.int64)
        for rows, order, points in self._together(batch):
            first, moves = self._course(points[0, :, 0], given=False)
            path = chains.best_paths(first, moves, self._odds(points[..., 1:]))
            found[rows[:, None], order] = path
        return found

    @torch.no_grad()
    def posterior(self, batch: Batch) -> Tensor:
        """The probability of each state given the whole item by itself, ``[batch, point, state]``."""
        found = torch.zeros(*batch.x.shape[:2], len(self.first), dtype=torch.float64)
        for rows, order, points in self._together(batch):
            first, moves = self._course(points[0, :, 0], given=False)
            found[rows[:, None], order] = chains.smoothed(first, moves, self._odds(points[..., 1:]))
        return found

    # ---- drawing -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """``n`` curves ``[n, point, 1 + output]``; ``condition`` says where (``[point, 1]``, or ``[n, point, 1]``)."""
        return self._draw(n, options, noise, condition)[0]

    def _draw(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """The curves, and their states ``[n, point]``."""
        assert isinstance(options, NumbersSampling)
        assert isinstance(self.form, Curve)
        x = self._positions(options, n, condition)
        m = x.shape[1]
        toss = noise.uniform("state", (m,)).double()
        if len(x) == 1:
            path = self._path(x[0], toss, options)
        else:
            path = torch.cat([self._path(*own, options) for own in zip(x, toss[:, None], strict=True)])
        kind, white = noise.uniform("component", (m,)).double(), noise.normal("value", (m, self.form.outputs)).double()
        values = self.gaussians.draw(path, kind, white)
        return torch.cat([x.expand(n, -1)[..., None], values], dim=2), path

    def _path(self, x: Tensor, toss: Tensor, options: NumbersSampling) -> Tensor:
        order = x.argsort(stable=True)
        path = torch.empty(toss.shape, dtype=torch.int64)
        path[:, order] = chains.drawn_paths(*self._course(x[order], options.posterior), toss[:, order])
        return path

    def _positions(self, options: NumbersSampling, n: int, asked: Tensor | None) -> Tensor:
        """Where values are wanted, ``[1 or n, point]``."""
        if asked is not None:
            return curves.asked(asked, 1, n)[..., 0]
        start = float(self.low) if options.start is None else options.start
        stop = float(self.high) if options.stop is None else options.stop
        if start > stop:
            raise UsageError(f"start {start:g} lies after stop {stop:g}", "start before stop", "Swap them")
        points = options.points or int(min(20_000, 1 + round((stop - start) / float(self.gap))))
        return torch.linspace(start, stop, points, dtype=torch.float64)[None]

    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """The hidden path, what is typical of each of its states, and the draw."""
        assert isinstance(options, NumbersSampling)
        x, path = self._draw(1, options, noise, condition)
        level, spread = self.gaussians.moments()
        many = int((path[0].diff() != 0).sum())
        yield Step("the states", note="Each state has a level of its own.", data={"level of each state": level[:, 0]})
        typical = torch.cat([x[..., :1], level[path]], dim=2)
        note = f"The path changes its state {many} times in {path.shape[1]} points; each state is shown at its mean."
        data = {"path": path[0].double()[:, None], "deviation": spread[path[0]].sqrt()[:, :1]}
        yield Step("the hidden path", typical, note, data)
        yield Step("the draw", x, "Around its state's mean each value varies by itself.")


MODEL = Hmm
