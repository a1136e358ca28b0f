"""What a person sees on stderr while data are made ready, where that takes long."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

PLAIN_EVERY = 10.0  # seconds between lines where there is no terminal to draw on

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


@contextmanager
def quietly(quiet: bool = True) -> Iterator[None]:
    """Inside, nothing is shown."""
    before = _quiet.set(quiet or _quiet.get())
    try:
        yield
    finally:
        _quiet.reset(before)


@contextmanager
def shown(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A function to be told how many of ``total`` are done: a bar on a terminal, else a plain line now and then."""
    if _quiet.get():
        yield lambda done: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=5) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)
    else:
        newest = time.monotonic()

        def tell(done: int) -> None:
            nonlocal newest
            if time.monotonic() - newest >= PLAIN_EVERY:
                newest = time.monotonic()
                print(f"{what}: {done:,} of {total:,}", file=sys.stderr, flush=True)

        yield tell
