"""What learning costs: joules and grams of CO2, each with where the figure comes from."""

import importlib.util
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

from pieria.errors import UsageError

# Ember, Global Electricity Review 2024: world average of 2023. A grid of your own: PIERIA_GRID=grams per kWh.
WORLD_GRID = 480.0
WATTS_PER_CORE = 10.0  # thermal design power of one busy core of today's desktop and server processors, memory included
WATTS_OF_GPU = 250.0
# codecarbon takes one to two seconds to start: at most a hundredth of a run that is long enough to have it
TRACKED_AFTER = 180.0


def grid() -> tuple[float, str]:
    """Grams of CO2 equivalent a kWh, and who says so. Raises `UsageError` for a PIERIA_GRID that is no such number."""
    own = os.environ.get("PIERIA_GRID")
    if own is not None:
        try:
            factor = float(own)
        except ValueError:
            factor = math.nan
        if not math.isfinite(factor) or factor < 0:
            raise UsageError(f"PIERIA_GRID={own!r}", "grams of CO2 equivalent a kWh, such as 30", "Correct it or unset it")
        return factor, "PIERIA_GRID"
    return WORLD_GRID, "world average 2023, Ember Global Electricity Review 2024"


@dataclass
class Meter:
    """Joules since it was made, read from the processor's own counters where they can be read, else estimated.

    Estimated means: busy seconds of this process's cores times `WATTS_PER_CORE`, plus seconds of a GPU times
    `WATTS_OF_GPU`. ``before`` is what an interrupted run had used already.
    """

    before: float = 0.0
    gpu: bool = False
    _counters: list[Path] = field(init=False)
    _ranges: list[float] = field(init=False)
    _last: list[float] = field(init=False)
    _sum: float = field(init=False, default=0.0)
    _tracker: Any = field(init=False, default=None)
    _until_tracked: float = field(init=False, default=0.0)
    _untracked: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        grid()  # a wrong PIERIA_GRID is told before anything is learned, not after
        self._counters = [p for p in sorted(Path("/sys/class/powercap").glob("intel-rapl:[0-9]/energy_uj")) if _readable(p)]
        self._ranges = [float((p.parent / "max_energy_range_uj").read_text()) for p in self._counters]
        self._last = [float(p.read_text()) for p in self._counters]
        self._begun, self._busy = time.perf_counter(), _busy_seconds()

    @property
    def source(self) -> str:
        """Where the figure comes from, beginning with "measured" or "estimated"."""
        if self._tracker is not None:
            return f"estimated: codecarbon, after the first {TRACKED_AFTER:g} s at {WATTS_PER_CORE:g} W for each busy core"
        if self._counters and not self.gpu:
            return "measured: the processor's energy counters (RAPL), everything that ran on it"
        card = f", plus {WATTS_OF_GPU:g} W while a GPU was used" if self.gpu else ""
        return f"estimated: {WATTS_PER_CORE:g} W for each busy core{card}"

    def joules(self) -> float:
        """Joules so far."""
        late = time.perf_counter() - self._begun >= TRACKED_AFTER
        try:
            if self._tracker is None and not self._counters and late and not self._untracked:
                self._until_tracked = self._own()
                self._tracker = _codecarbon()
            if self._tracker is not None:
                self._tracker.flush()
                return self.before + self._until_tracked + float(self._tracker._total_energy.kWh) * 3.6e6
        except Exception:  # a meter that fails must not end hours of training: what it can't tell is estimated
            self._tracker, self._untracked = None, True
        return self.before + self._own()

    def end(self) -> None:
        """Let go of what measures."""
        if self._tracker is not None:
            self._tracker.stop()

    def _own(self) -> float:
        if self._counters:
            for place, counter in enumerate(self._counters):
                value = float(counter.read_text())
                # the counters wrap around
                self._sum += ((value - self._last[place]) % self._ranges[place]) / 1e6
                self._last[place] = value
            used = self._sum
        else:
            used = (_busy_seconds() - self._busy) * WATTS_PER_CORE
        if self.gpu:
            used += (time.perf_counter() - self._begun) * WATTS_OF_GPU
        return used

    def cost(self) -> dict[str, float | str]:
        """Joules, grams of CO2 equivalent, and the source of both."""
        joules, (factor, said) = self.joules(), grid()
        return {
            "joules": round(joules, 3),
            "source": self.source,
            "gCO2e": round(joules / 3.6e6 * factor, 6),
            "gCO2e_source": f"{factor:g} g/kWh, {said}",
        }


def memory(device: torch.device) -> float:
    """Megabytes in use: of the process, or of the GPU at most so far."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 1e6, 1)
    return round(float(psutil.Process().memory_info().rss) / 1e6, 1)


def _codecarbon() -> Any:
    """A running tracker that asks no network and writes no file, or None where the library is not installed."""
    if importlib.util.find_spec("codecarbon") is None:
        return None
    import logging

    from codecarbon import OfflineEmissionsTracker

    # importing it sets its own level, and its tracker speaks before it has read log_level
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    # the country only serves its own figure of emissions, which is not used
    tracker = OfflineEmissionsTracker(
        country_iso_code="USA",
        save_to_file=False,
        log_level="critical",
        measure_power_secs=15,
        tracking_mode="process",
        allow_multiple_runs=True,
    )
    tracker.start()
    return tracker


def _busy_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _readable(path: Path) -> bool:
    try:
        path.read_text()
    except OSError:
        return False
    return True
