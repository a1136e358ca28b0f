"""How long and how to learn: the budget, the step size over time, and how often to look.

A budget in seconds is turned into one in steps while the first steps are timed. So that the same number of steps given
as ``--steps`` repeats such a run bit for bit, nothing that happens before the total is known may depend on it: so
the learning rate of the first tenth is a function of the step alone (see `Plan.rate_at`), and nothing is looked at there.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import model_validator

from pieria.errors import UsageError
from pieria.settings import Field, Settings

BUDGETS = ("steps", "epochs", "seconds")
DEFAULT_STEPS = 1000
EVALUATIONS, REPORTS = 20, 100  # how often in a run, unless the plan says otherwise
LONG_STEPS, LONG_SECONDS = 5_000, 600.0  # from which on compiling, some minute, is soon made good
KNOWN_AFTER = 10  # the first tenth of a run does not depend on its length


class Plan(Settings):
    """How a model learns: budget, step size, regularisation of the steps, and what is looked at on the way."""

    steps: int | None = Field(None, ge=1, description="how many training steps; one of steps, epochs and seconds is given")
    epochs: float | None = Field(None, gt=0, description="how many times each training item is met")
    seconds: float | None = Field(None, gt=0, description="how long to train, evaluation and saving not counted")
    batch: int = Field(64, ge=1, description="items in one step, over all processes and parts")
    rate: float = Field(1e-3, gt=0, description="the learning rate after the warm-up")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="how the learning rate goes on after the warm-up"
    )
    hold: float = Field(0.0, ge=0, lt=1, description="linear: the share of the steps before the learning rate goes down")
    warmup: int = Field(50, ge=1, description="steps in which the learning rate grows from 0 to its full value")
    final: float = Field(0.1, ge=0, le=1, description="cosine, linear: the rate at the end, as a share of the full one")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decoupled weight decay")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's memory of the gradient")
    beta2: float = Field(0.99, ge=0, lt=1, description="AdamW's memory of the squared gradient")
    clip: float = Field(1.0, ge=0, description="the largest norm of a gradient; 0 is no limit")
    accumulate: int = Field(1, ge=1, description="parts that a step's batch is computed in, to need less memory")
    lora_rank: int = Field(
        0, ge=0, description="train products of this rank beside the linear layers and nothing else; 0 trains everything"
    )
    average: float = Field(0.0, ge=0, lt=1, description="decay of the running average of the weights; 0 is no average")
    evaluate_every: int | None = Field(
        None, ge=0, description="steps between looks at held-out data; 0 is never, unset is twenty looks a run"
    )
    evaluate_count: int = Field(512, ge=1, description="held-out items (windows of a stream) in one look")
    patience: int = Field(
        8, ge=0, description="looks without a better held-out likelihood before stopping early; 0 goes on to the end"
    )
    report_every: int | None = Field(None, ge=1, description="steps between lines of the log; unset is a hundred a run")
    checkpoint_every: int | None = Field(None, ge=1, description="steps between checkpoints; unset is about two a minute")
    keep: int = Field(2, ge=1, description="checkpoints kept, the newest ones")
    seed: int = Field(0, ge=0, description="what every random draw follows from")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$", description="auto, cpu, cuda or mps")
    threads: int | None = Field(None, ge=1, description="threads of the processor; unset is torch's choice")
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="compile the network for training on a stream; auto does on cuda, for long trainings"
    )

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"only one of {' and '.join(given)} may be given")
        return self

    @classmethod
    def layered(cls, *layers: Mapping[str, Any]) -> Self:
        """Later layers (family, preset, user) win; a budget of any kind replaces the budgets of earlier layers."""
        values: dict[str, Any] = {}
        for layer in layers:
            said = {name: value for name, value in layer.items() if value is not None}
            if any(name in BUDGETS for name in said):
                values = {name: value for name, value in values.items() if name not in BUDGETS}
            values |= said
        return cls.of(values)

    def total(self, items: float) -> int | None:
        """The budget in steps, with this many items in an epoch; None while it is one in seconds."""
        if self.seconds is not None:
            return None
        if self.epochs is not None:
            return max(1, math.ceil(self.epochs * items / self.batch))
        return self.steps or DEFAULT_STEPS

    def settled(self, seconds: list[float]) -> int | None:
        """The total that a budget in seconds comes to, after steps that took these ``seconds``; None: time more of them.

        A twentieth of the budget is timed; the first step, which also allocates, is not typical.
        """
        budget, spent, done = self.seconds or 0.0, sum(seconds), len(seconds)
        if spent < budget / 20:
            return None
        typical = seconds[1:] or seconds
        total = done + int((budget - spent) * len(typical) / max(sum(typical), 1e-9))
        return max(total, done, 1) if done == 1 else max(total, KNOWN_AFTER * done)

    def timed(self, total: int) -> int:
        """How many first steps of ``total`` must not depend on ``total``, since they may be the ones that are timed."""
        return max(1, total // KNOWN_AFTER)

    def rate_at(self, step: int, total: int | None) -> float:
        """The learning rate of ``step``; ``total`` may be None only for the steps before ``timed(total)``.

        Those follow the ramp ``rate * min(1, (step + 1) / warmup)``. If the run is so short that the ramp has not reached
        the top by then, it does so in as many steps again. Then comes half a cosine, or after the share
        ``hold`` of all steps a straight line, down to ``final * rate``.
        """
        if total is None or step < self.timed(total):
            return self.rate * min(1.0, (step + 1) / self.warmup)
        known = self.timed(total)
        reached = min(1.0, known / self.warmup)
        steeper = min(known, self.warmup - known)
        if step < known + steeper:
            return self.rate * (reached + (1 - reached) * (step + 1 - known) / steeper)
        if self.schedule == "constant":
            return self.rate
        start = known + max(0, steeper)
        if self.schedule == "linear":
            start = max(start, int(self.hold * total))
        done = min(1.0, max(0.0, (step - start) / max(1, total - 1 - start)))
        if self.schedule == "linear":
            return self.rate * (self.final + (1 - self.final) * (1 - done))
        return self.rate * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * done)))

    def evaluates(self, total: int) -> int:
        """Steps between looks at held-out data; 0 is never. At least 25, since a look costs several steps."""
        return max(25, total // EVALUATIONS) if self.evaluate_every is None else self.evaluate_every

    def reports(self, total: int) -> int:
        """Steps between lines of the log."""
        return max(1, total // REPORTS) if self.report_every is None else self.report_every

    def compiles(self, device: str, total: int | None) -> bool:
        """Whether to compile for this type of device, if the budget is this ``total`` of steps, or one in seconds."""
        if self.compile != "auto":
            return self.compile == "on"
        long = (self.seconds or 0.0) >= LONG_SECONDS or (total or 0) >= LONG_STEPS
        return device == "cuda" and long and not self.lora_rank

    def part(self, share: float, rate: float = 1.0) -> Self:
        """The plan of a stage that has this share of the budget, and ``rate`` times the learning rate."""
        if rate != 1:
            return self.changed(rate=self.rate * rate).part(share)
        if self.steps is not None or (self.epochs is None and self.seconds is None):
            return self.changed(steps=max(1, round((self.steps or DEFAULT_STEPS) * share)))
        if self.epochs is not None:
            return self.changed(epochs=self.epochs * share)
        return self.changed(seconds=(self.seconds or 0) * share)


def seconds_of(time: str | float) -> float:
    """A stretch of time in words as seconds.

    >>> seconds_of("90s"), seconds_of("1.5m"), seconds_of("1h30m"), seconds_of(20)
    (90.0, 90.0, 5400.0, 20.0)
    """
    sizes = {"": 1, "d": 86400}
    sizes |= dict.fromkeys(("s", "sec", "second", "seconds"), 1)
    sizes |= dict.fromkeys(("m", "min", "minute", "minutes"), 60)
    sizes |= dict.fromkeys(("h", "hour", "hours"), 3600)
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]*)", str(time).strip().lower())
    whole = "".join(number + unit for number, unit in parts) == re.sub(r"\s", "", str(time).lower())
    if not parts or not whole or any(unit not in sizes for _, unit in parts):
        raise UsageError(f"the time {time!r} cannot be read", "a number with s, m or h, such as 60s, 10m or 1h30m")
    total = sum(float(number) * sizes[unit] for number, unit in parts)
    if total <= 0:
        raise UsageError(f"the time {time!r} is no time at all", "more than 0 seconds")
    return float(total)
