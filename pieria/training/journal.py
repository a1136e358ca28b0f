"""What is written down while a model learns: lines of the log, previews, the best weights so far, checkpoints."""

import math
import time
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from pieria.models.contract import Model, Stage
from pieria.noise import seeded
from pieria.training import checkpoints, energy, low_rank
from pieria.training.averaging import Average
from pieria.training.checkpoints import Progress
from pieria.training.game import Game, Said
from pieria.training.processes import Processes
from pieria.training.watch import Watch
from pieria.training.workspace import Workspace

PREVIEW_SHARE = 0.1  # of the training time that previews may take
SELDOM, SAVING_SHARE = 30.0, 20  # checkpoints lie so many seconds apart at least, and so many times what one takes


class Journal:
    """Writes into a run directory, if there is one, and tells the watch.

    Attributes:
        begun: when learning began, by the clock of `time.perf_counter`; earlier by what a resumed run had taken.
        best: without a run directory, the weights with the best held-out figure.
    """

    def __init__(
        self,
        model: Model,
        workspace: Workspace | None,
        watch: Watch,
        processes: Processes,
        meter: energy.Meter,
        keep: int,
    ) -> None:
        self.model, self.workspace, self.watch, self.processes = model, workspace, watch, processes
        self.meter, self.keep = meter, keep
        self.best: dict[str, Tensor] = {}
        self.begun = self.saved = time.perf_counter()
        self.previewed = self.saving = 0.0

    def elapsed(self) -> float:
        """Seconds since learning began, with looks, previews and saving."""
        return time.perf_counter() - self.begun

    # ---- the log

    def add(self, p: Progress, said: Said) -> None:
        """The losses of a step, for the next line."""
        for phase, values in said.items():
            p.counts[phase] = p.counts.get(phase, 0) + 1
            sums = p.sums.setdefault(phase, {})
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value

    def report(
        self,
        p: Progress,
        stage: Stage,
        *,
        rate: float | None,
        step: int,
        looked: float | None,
        parts: dict[str, float] | None = None,
    ) -> None:
        """A line of the log: the losses since the last one, and the held-out figure with its parts if there was a look."""
        means = {phase: {name: total / p.counts[phase] for name, total in sums.items()} for phase, sums in p.sums.items()}
        p.sums, p.counts = {}, {}
        line: dict[str, Any] = {"step": p.offset + step}
        if stage.name:
            line["stage"] = stage.name
        # "generator" is what the phase minimised, "generator/penalty" a named part of it; JSON has no infinity
        line["losses"] = {
            phase if name == "loss" else f"{phase}/{name}": value
            for phase, values in means.items()
            for name, value in values.items()
            if math.isfinite(value)
        }
        if rate is not None:
            line["rate"] = rate
        if finite(looked) is not None:
            line["validation"] = looked
            if parts:
                line["validation_parts"] = parts
        line |= {
            "seconds": round(p.seconds, 3),
            "memory_mb": energy.memory(self.processes.device),
            "joules": round(self.meter.joules(), 3),
        }
        p.lines += 1
        if self.workspace is not None:
            self.workspace.log(line)
        if self.processes.main:
            self.watch.report(line)

    def preview(self, p: Progress, step: int, *, force: bool = False) -> None:
        """Show what the model makes now, unless that has taken too much of the time already."""
        preview = self.watch.preview
        if preview is None or not self.processes.main:
            return
        if not force and self.previewed > PREVIEW_SHARE * p.seconds + 1.0:
            return
        begun = time.perf_counter()
        before = self.model.training
        self.model.eval()
        with torch.no_grad(), seeded("preview"), low_rank.merged(self.model):
            preview(self.model, step)
        self.model.train(before)
        self.previewed += time.perf_counter() - begun

    # ---- weights

    def keep_best(self, p: Progress, tensors: dict[str, Tensor]) -> None:
        """Keep these weights as the best so far, those after ``p.best_step``."""
        if self.workspace is None:
            self.best = tensors
        else:
            self.workspace.keep_best(p.offset + p.best_step, tensors)

    def best_weights(self, p: Progress) -> dict[str, Tensor]:
        """What `keep_best` kept."""
        return self.best if self.workspace is None else self.workspace.best(p.offset + p.best_step)

    def due(self, p: Progress, every: int | None) -> bool:
        """Whether a checkpoint is due: every so many steps, or as often as saving costs little."""
        if self.workspace is None:
            return False
        if every is not None:
            return p.step % every == 0
        return time.perf_counter() - self.saved > max(SELDOM, SAVING_SHARE * self.saving)

    def checkpoint(self, p: Progress, game: Game | None = None, average: Average | None = None) -> None:
        """Save all that resuming needs."""
        if self.workspace is None:
            return
        begun = time.perf_counter()
        p.elapsed, p.joules = begun - self.begun, self.meter.joules()
        tensors = {f"model/{name}": value for name, value in checkpoints.tensors_of(self.model).items()}
        tensors |= {f"optimiser/{name}": value for name, value in (game.state() if game else {}).items()}
        tensors |= {f"average/{name}": value for name, value in (average.weights if average else {}).items()}
        said = {"progress": asdict(p), "best": p.offset + p.best_step if p.best is not None else None}
        self.workspace.checkpoint(p.offset + p.step, tensors, said, self.keep)
        self.saved = time.perf_counter()
        self.saving = self.saved - begun

    def last_good(self) -> str:
        """A sentence that names the newest checkpoint."""
        newest = None if self.workspace is None else self.workspace.newest_checkpoint()
        return "There is no checkpoint yet" if newest is None else f"The last good checkpoint is {newest}"


def finite(value: float | None) -> float | None:
    """The value, or None where it is no finite number: JSON has none."""
    return None if value is None or not math.isfinite(value) else value
