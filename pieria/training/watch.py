"""Who is told what while a model learns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pieria.models.contract import Model


@dataclass(frozen=True)
class Pace:
    """A step was done.

    Attributes:
        done, total: steps of this stage, and its budget; None while it is being timed.
        rate: the learning rate of this step.
        losses: of this step, by phase.
        seconds_a_step: on average.
    """

    done: int
    total: int | None
    rate: float
    losses: dict[str, dict[str, float]]
    seconds_a_step: float


def _nothing(_: Any) -> None:
    """Not told."""


@dataclass
class Watch:
    """What is called while a model learns; by default nothing.

    Attributes:
        report: with each line of the log.
        preview: with the model (in evaluation mode, averaged weights) and the step; None draws no previews.
        progress: after every step.
        say: with a sentence worth knowing.
    """

    report: Callable[[dict[str, Any]], None] = _nothing
    preview: Callable[[Model, int], None] | None = None
    progress: Callable[[Pace], None] = _nothing
    say: Callable[[str], None] = _nothing
