"""Figures that Pieria measures itself by; ``python -m benchmarks --list``. Speed and long trainings live here, not in tests.

A benchmark is one file with a docstring (what, protocol, source of the goal) and a function
``measure(gate: bool) -> Outcome``; ``gate`` asks for the version that fits ten minutes on two cores.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """What a benchmark found.

    Attributes:
        measured: each figure by name.
        goal: what each should be, in words or as a number.
        passed: whether all goals were reached.
        notes: what a reader must know: protocol, settings, what was tried where a goal was missed.
    """

    measured: dict[str, Any]
    goal: dict[str, Any]
    passed: bool
    notes: list[str] = field(default_factory=list)


def alternate(first: Callable[[], float], second: Callable[[], float], pairs: int = 5) -> dict[str, float]:
    """Run two sides in turn (A B A B …) on the same work, and compare them pair by pair.

    Each side returns its own rate (higher is better). Returns the median ratio first / second, its spread, and both
    median rates.
    """
    rates = [(first(), second()) for _ in range(pairs)]
    ratios = sorted(a / b for a, b in rates)
    return {
        "ratio": round(median(ratios), 3),
        "ratio_min": round(ratios[0], 3),
        "ratio_max": round(ratios[-1], 3),
        "first": round(median(a for a, _ in rates), 3),
        "second": round(median(b for _, b in rates), 3),
    }
