"""Learning from examples, whatever the family: by estimation, by gradient, or in stages of either.

`learn` is the whole of it. A family with a gradient plays one step of its game after another; between steps the loop
looks at held-out data, writes the log, and saves what resuming needs. Everything that shapes the weights is a function
of the seed, the step and the budget, so that a run that was killed goes on to the same bits.
"""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor

from pieria.data.batch import Batch
from pieria.data.examples import Examples
from pieria.errors import TrainingError
from pieria.models import weights
from pieria.models.contract import Estimates, Model, Predicts, Stage, Trains
from pieria.noise import ItemNoise, key_of, seeded
from pieria.training import checkpoints, energy, low_rank
from pieria.training.averaging import Average
from pieria.training.checkpoints import Progress
from pieria.training.compiling import compiled
from pieria.training.game import Game, Said
from pieria.training.heldout import HeldOut, unit
from pieria.training.interrupts import Interrupts
from pieria.training.journal import Journal, finite
from pieria.training.memory import keep_freed
from pieria.training.plan import Plan
from pieria.training.processes import Processes
from pieria.training.stages import Prepares, chosen, course, order_of
from pieria.training.watch import Pace, Watch
from pieria.training.workspace import Workspace

SWEEP = 1024  # items in one batch of a pass over everything
LOOKS_SHARE = 0.1  # of the time budget that looking at held-out data may take on top of it
PREVIEWS = 20  # how often in a run


@dataclass
class History:
    """How learning went.

    Attributes:
        steps: steps done over all stages.
        ended: "done", "early" (held-out data no longer got likelier) or "stopped" (by Ctrl-C).
        totals: the budget of each stage in steps (0: estimated), and how often it looked: what repeats a run that was given
            in seconds.
        best, best_step: the best held-out figure, and after which step of the last stage; its weights are the result, unless
            the run was stopped or had no patience.
        held_out: the held-out figure of the resulting weights (of a stopped run, the newest one), ``unit`` what it is; None
            where none was finite.
        seconds: time of the training steps; elapsed: with looks, previews and saving.
        cost: joules and grams of CO2 equivalent with their sources.
    """

    steps: int
    ended: Literal["done", "early", "stopped"]
    totals: list[dict[str, int]]
    best: float | None
    best_step: int
    held_out: float | None
    unit: str
    seconds: float
    elapsed: float
    cost: dict[str, float | str]


def learn(
    model: Model,
    train: Examples,
    validation: Examples | None,
    plan: Plan,
    *,
    workspace: Workspace | None = None,
    resume: bool = False,
    watch: Watch | None = None,
) -> History:
    """Fit ``model`` to ``train`` in place, as its family learns, within the budget of ``plan``.

    With ``workspace`` the log and checkpoints are written there, and ``resume`` goes on from the newest one. Held-out
    looks and early stopping need ``validation`` and a likelihood.

    Raises `TrainingError` at the first loss or gradient that is not finite.
    """
    processes = Processes.join(device_wanted(model, plan))
    if processes.device.type == "cpu":
        keep_freed()
    adapted = low_rank.adapters(model, plan.lora_rank, plan.seed)
    with _settled(plan), adapted as said, Interrupts() as interrupts:
        if said:
            (watch or Watch()).say(said)
        learning = _Learning(model, train, validation, plan, processes, workspace, watch or Watch(), interrupts)
        if resume and workspace is not None:
            learning.restore(workspace.resumed())
        try:
            return learning.run()
        finally:
            learning.meter.end()


def device_wanted(model: Model, plan: Plan) -> str:
    """What ``model`` is to learn on: the plan's device; counting and closed forms are done on the processor."""
    return "cpu" if isinstance(model, Estimates) else plan.device


class _Learning:
    """The state of one call of `learn`."""

    def __init__(
        self,
        model: Model,
        train: Examples,
        validation: Examples | None,
        plan: Plan,
        processes: Processes,
        workspace: Workspace | None,
        watch: Watch,
        interrupts: Interrupts,
    ) -> None:
        self.model, self.train, self.validation, self.plan = model, train, validation, plan
        self.processes, self.workspace, self.watch, self.interrupts = processes, workspace, watch, interrupts
        self.progress = Progress()
        self.loaded: dict[str, Tensor] = {}
        self.ended: Literal["done", "early", "stopped"] = "done"
        self.totals: list[dict[str, int]] = []
        self.meter = energy.Meter(gpu=processes.device.type != "cpu")
        self.journal = Journal(model, workspace, watch, processes, self.meter, plan.keep)

    # ---- the course of a run -----------------------------------------------------------------------------------------

    def restore(self, found: tuple[dict[str, Tensor], dict[str, Any]] | None) -> None:
        """Go on from a checkpoint; without one, from the beginning."""
        if found is not None:
            self.loaded, said = found
            known = {f.name for f in fields(Progress)}
            self.progress = Progress(**{name: value for name, value in said["progress"].items() if name in known})
            weights.restore(self.model, _under(self.loaded, "model/"))
            self.meter.before = self.progress.joules
        if self.workspace is not None:
            # a budget in seconds stays as it was settled, even if no checkpoint has been made since
            self.totals = self.workspace.record.get("totals", [])
            self.workspace.cut_log(self.progress.lines)
            self.watch.say(f"going on after step {self.progress.offset + self.progress.step}")
        self.journal.begun -= self.progress.elapsed

    def run(self) -> History:
        """Every stage from where the run is."""
        self.model.to(self.processes.device)
        self.processes.share(self.model)
        stages = course(self.model)
        for place, stage in enumerate(stages):
            if place < self.progress.stage:
                continue
            self._stage(stage, last=place == len(stages) - 1)
            if self.ended == "stopped":
                break
            p = self.progress
            if place < len(stages) - 1:
                self.progress = Progress(
                    stage=place + 1,
                    offset=p.offset + p.step,
                    lines=p.lines,
                    seconds=p.seconds,
                    elapsed=p.elapsed,
                    joules=p.joules,
                )
                # a stage that ended early does not end the next one
                self.loaded, self.ended = {}, "done"
                self.journal.best = {}
                self.journal.checkpoint(self.progress)
        self.model.eval()
        p = self.progress
        return History(
            steps=p.offset + p.step,
            ended=self.ended,
            totals=self.totals,
            best=finite(p.best),
            best_step=p.best_step,
            held_out=finite(p.looked),
            unit=unit(stages[-1].part),
            seconds=round(p.seconds, 3),
            elapsed=round(self.journal.elapsed(), 3),
            cost=self.meter.cost(),
        )

    def _stage(self, stage: Stage, *, last: bool) -> None:
        part = stage.part
        # an estimation takes what it takes
        plan = self.plan.part(stage.share, stage.rate) if isinstance(part, Trains) else self.plan
        train, validation = chosen(stage, self.train, self.validation)
        seen = validation if plan.evaluate_every != 0 and HeldOut.possible(part, validation) else None
        held = None if seen is None else HeldOut(part, seen, plan.evaluate_count, plan.batch, self.processes)

        def everything() -> Iterable[Batch]:
            context = part.reach if isinstance(part, Predicts) else 0
            return train.sweep(SWEEP, context=context)

        if isinstance(part, Prepares) and self.progress.step == 0:
            with seeded(plan.seed, stage.name, "prepare"):
                part.prepare(everything)
        if isinstance(part, Estimates):
            self._estimate(part, stage, everything, held, last=last)
        elif isinstance(part, Trains):
            with compiled(part, train, plan, self.processes.device, self.watch.say):
                self._train(part, stage, plan, train, held, last=last)
        else:
            raise TrainingError(
                f"{type(part).__name__} does not say how it learns", "a method estimate, or groups and phases, or stages"
            )

    def _estimate(self, part: Model, stage: Stage, everything: Any, held: HeldOut | None, *, last: bool) -> None:
        assert isinstance(part, Estimates)
        self.watch.say(f"{stage.name or type(part).__name__}: estimated from {len(self.train):,} examples")
        begun = time.perf_counter()
        part.train()
        with self.interrupts.at_once(), seeded(self.plan.seed, stage.name, "estimate"):
            part.estimate(everything)
        part.eval()
        p = self.progress
        p.seconds += time.perf_counter() - begun
        p.step = p.total = 1
        p.looked = p.best = held.look() if held is not None else None
        self.journal.report(p, stage, rate=None, step=p.step, looked=p.looked)
        if last:
            self.journal.preview(p, 1)

    # ---- learning by gradient ----------------------------------------------------------------------------------------

    def _train(self, part: Model, stage: Stage, plan: Plan, examples: Examples, held: HeldOut | None, *, last: bool) -> None:
        p, processes = self.progress, self.processes
        order, items = order_of(examples, plan.batch, key_of(plan.seed, stage.name), in_order=part.reads_in_order)
        slices = processes.slices(plan.batch, plan.accumulate)
        seeded_plan = plan if not stage.name else plan.changed(seed=key_of(plan.seed, stage.name) % 2**63)
        game = Game(part, seeded_plan, processes)
        average = Average(part, plan.average)
        if self.loaded:
            game.restore(_under(self.loaded, "optimiser/"))
            for name, value in _under(self.loaded, "average/").items():
                average.weights[name].copy_(value)
        settled = self.totals[p.stage] if len(self.totals) > p.stage else None
        if (total := plan.total(items)) is not None:
            self._settle(total, plan.evaluates(total))
        elif settled is not None:
            self._settle(settled["steps"], settled["evaluate_every"])
        if p.total is not None and p.step >= p.total:
            self.watch.say(f"nothing is left to do: {p.step:,} steps were made, and the budget is {p.total:,}")
        if held is not None and plan.patience and p.step == 0:
            self.watch.say(
                f"early stopping is on: {plan.patience} looks at held-out data without a better likelihood end training, "
                "and the best weights are kept (patience=0 turns it off)"
            )
        waiting: list[tuple[int, Said, float]] = []  # steps done while the budget is still being timed
        part.train()
        if last and p.step == 0:
            self.journal.preview(p, 0)
        while p.total is None or p.step < p.total:
            begun = time.perf_counter()
            rate = plan.rate_at(p.step, p.total)
            try:
                said = game.play(p.step, rate, self._parts(examples, order, p.step, slices, plan.seed))
            except TrainingError as error:
                raise TrainingError(error.got, error.wanted, f"{error.do}. {self.journal.last_good()}") from None
            average.update(p.step)
            waiting.append((p.step + 1, said, time.perf_counter() - begun))
            p.step += 1
            p.seconds += waiting[-1][2]
            if p.total is None and (total := processes.agree(plan.settled([w[2] for w in waiting]))) is not None:
                with average.applied():
                    self._settle(total, self._affordable(plan, total, held))
            if p.total is not None:
                for step, told, _ in waiting:
                    self._told(part, stage, plan, step, told, held, average, last=last)
                waiting = []
            self.watch.progress(Pace(p.step, p.total, rate, said, p.seconds / (p.offset + p.step)))
            if self.ended == "early" or p.step == p.total:
                break
            if stopping := self._stopping():
                self.ended = "stopped"
            if p.total is not None and (stopping or self.journal.due(p, plan.checkpoint_every)):
                self.journal.checkpoint(p, game, average)
            if stopping:
                break
        if self.ended == "done":
            self.journal.checkpoint(p, game, average)
        game.end()
        average.settle()
        if self.ended != "stopped" and p.best is not None and plan.patience and p.best_step != p.step:
            weights.restore(part, {name: value.to(processes.device) for name, value in self.journal.best_weights(p).items()})
            p.looked = p.best
        part.eval()
        if last:
            self.journal.preview(p, p.offset + p.step, force=True)

    def _parts(self, examples: Examples, order: Any, step: int, slices: list[slice], seed: int) -> list[tuple[int, Batch]]:
        places, epochs = order.places(step), order.epochs(step)
        parts = []
        for piece in slices:
            # an item of an epoch has its own noise, wherever and by whichever process it is drawn
            items = [int(place + epoch * len(examples)) for place, epoch in zip(places[piece], epochs[piece], strict=True)]
            batch = examples.batch(places[piece], ItemNoise(key_of(seed, "augment"), 0, items=items))
            parts.append((piece.start, batch.to(self.processes.device)))
        return parts

    def _settle(self, total: int, evaluate_every: int) -> None:
        p = self.progress
        p.total, p.evaluate_every = total, evaluate_every
        earlier = self.totals[: p.stage]
        earlier += [{"steps": 0, "evaluate_every": 0}] * (p.stage - len(earlier))  # stages that were estimated
        self.totals = [*earlier, {"steps": total, "evaluate_every": evaluate_every}]
        if self.workspace is not None:
            self.workspace.note(totals=self.totals)

    def _affordable(self, plan: Plan, total: int, held: HeldOut | None) -> int:
        """Steps between looks such that they do not take more than a tenth of the time budget."""
        every = plan.evaluates(total)
        if held is None or every == 0 or plan.evaluate_every is not None:
            return every
        begun = time.perf_counter()
        held.look()
        allowed = max(1, int(LOOKS_SHARE * (plan.seconds or 0) / (time.perf_counter() - begun)))
        return self.processes.agree(max(every, math.ceil(total / allowed)))

    def _told(
        self,
        part: Model,
        stage: Stage,
        plan: Plan,
        step: int,
        said: Said,
        held: HeldOut | None,
        average: Average,
        *,
        last: bool,
    ) -> None:
        """What follows a step: losses for the log, a look at held-out data, a line, a preview."""
        p = self.progress
        assert p.total is not None
        self.journal.add(p, said)
        ends = step == p.total
        every = p.evaluate_every
        looks = held is not None and every and (ends or (step % every == 0 and step > plan.timed(p.total)))
        if looks and held is not None:
            with average.applied():
                p.looked = held.look()
                self._compare(part, plan, step, p.looked)
        reports = plan.reports(p.total)
        if ends or looks or step % reports == 0:
            self.journal.report(
                p, stage, rate=plan.rate_at(step - 1, p.total), step=step, looked=p.looked if looks else None
            )
            if last and not ends and step % (reports * max(1, round(p.total / PREVIEWS / reports))) == 0:
                with average.applied():
                    self.journal.preview(p, p.offset + step)
                part.train()

    def _compare(self, part: Model, plan: Plan, step: int, value: float) -> None:
        """Remember the weights if they are the best yet; stop early if they have not been for long."""
        p = self.progress
        if not plan.patience:
            p.best, p.best_step = value, step
        elif p.best is None and not math.isfinite(value):
            return  # no likelihood to compare with yet
        elif p.best is None or value < p.best:
            p.best, p.best_step, p.worse = value, step, 0
            self.journal.keep_best(p, checkpoints.tensors_of(part))
        else:
            p.worse += 1
            if p.worse >= plan.patience:
                self.ended = "early"
                self.watch.say(
                    f"stopped early after step {p.offset + step}: {p.worse} looks without a better held-out likelihood; "
                    f"the weights after step {p.offset + p.best_step} are kept"
                )

    def _stopping(self) -> bool:
        return self.processes.sums([float(self.interrupts.asked)])[0] > 0


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


@contextmanager
def _settled(plan: Plan) -> Iterator[None]:
    """Torch's own settings as a run needs them (the same bits every time), put back afterwards."""
    threads = torch.get_num_threads()
    deterministic, warned = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    memory: Any = torch.utils.deterministic  # a module whose one setting is made when it is imported
    filled = memory.fill_uninitialized_memory
    try:
        if plan.threads is not None:
            torch.set_num_threads(plan.threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        memory.fill_uninitialized_memory = False
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warned)
        memory.fill_uninitialized_memory = filled
