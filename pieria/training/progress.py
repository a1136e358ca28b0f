"""What a person sees on stderr while a model learns: losses, learning rate and the time left."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pieria.training.watch import Pace, Watch

PLAIN_EVERY = 10.0  # seconds between lines where there is no terminal to draw on


def clock(seconds: float) -> str:
    """A stretch of time as people write it.

    >>> clock(7), clock(95), clock(3700)
    ('7 s', '1:35', '1:01:40')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def words(losses: dict[str, float]) -> str:
    """The losses by phase, without their parts."""
    return "  ".join(f"{name} {value:.4g}" for name, value in losses.items() if "/" not in name)


def seen(line: dict[str, Any]) -> str:
    """What a look at held-out data showed."""
    parts = ", ".join(f"{name} {value:.4g}" for name, value in line.get("validation_parts", {}).items())
    return f"held out {line['validation']:.4g}" + (f" ({parts})" if parts else "")


def line_of(line: dict[str, Any]) -> str:
    """A line of the log for people."""
    said = [f"step {line['step']}", words(line["losses"])]
    if "validation" in line:
        said.append(seen(line))
    return "  ".join(part for part in said if part)


@contextmanager
def shown(*, quiet: bool = False) -> Iterator[Watch]:
    """A `Watch` that shows progress on stderr: a bar on a terminal, else a plain line now and then; nothing if quiet."""
    if quiet:
        yield Watch()
    elif sys.stderr.isatty():
        with _bar() as watch:
            yield watch
    else:
        yield _plain()


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _plain() -> Watch:
    newest = [time.monotonic()]

    def report(line: dict[str, Any]) -> None:
        if time.monotonic() - newest[0] >= PLAIN_EVERY:
            newest[0] = time.monotonic()
            _say(line_of(line))

    return Watch(report=report, say=_say)


@contextmanager
def _bar() -> Iterator[Watch]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"))
    with Progress(*columns, console=console, transient=True, refresh_per_second=5) as bar:
        task = bar.add_task("learning", total=None, said="")
        drawn, looked = 0.0, ""

        def progress(pace: Pace) -> None:
            # a step may take less than a millisecond; drawing must not cost more than it
            nonlocal drawn
            if time.monotonic() - drawn < 0.2 and pace.done != pace.total:
                return
            drawn = time.monotonic()
            left = "timing the first steps"
            if pace.total is not None:
                left = f"{clock((pace.total - pace.done) * pace.seconds_a_step)} left"
            losses = words({phase: values["loss"] for phase, values in pace.losses.items()})
            said = f"{pace.done}/{pace.total or '?'}  {losses}  {looked}  rate {pace.rate:.2g}  {left}"
            bar.update(task, total=pace.total, completed=pace.done, said=said)

        def report(line: dict[str, Any]) -> None:
            nonlocal looked
            if "validation" in line:
                looked = seen(line)

        yield Watch(report=report, progress=progress, say=lambda sentence: console.print(sentence, markup=False))
