"""Ctrl-C during learning: the step in progress is finished and saved; a second Ctrl-C ends at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While open, notes that somebody asked to stop; only the main thread is told of signals, elsewhere nothing changes."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, a signal ends what is going on with `KeyboardInterrupt`: an estimation has no step to finish."""
        noted = {number: signal.signal(number, self._raise) for number in self._before}
        try:
            yield
        finally:
            for number, handler in noted.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            self._restore()
            raise KeyboardInterrupt
        self.asked = True

    def _raise(self, number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
