"""Every error that a user can cause, as one tree.

    PieriaError            exit 1: it failed; nothing half-written stays behind
    ├── UsageError         exit 2: asked wrongly (an unknown name, a setting out of bounds, an ambiguous path)
    ├── DataError          a file or an item that cannot be used
    ├── FormError          a tensor that is not of the form that the model learned
    ├── RunError           a run directory that is damaged, locked, or of a newer format
    └── TrainingError      a loss that became NaN, a budget of no steps

Each message says what was got, what was wanted and what to do.
"""

import difflib
from collections.abc import Iterable


class PieriaError(Exception):
    """What went wrong, in three parts: what was ``got``, what was ``wanted``, what to ``do``."""

    exit_code = 1

    def __init__(self, got: str, wanted: str = "", do: str = "") -> None:
        super().__init__(got, wanted, do)
        self.got, self.wanted, self.do = got, wanted, do

    def __str__(self) -> str:
        wanted = self.wanted
        if wanted and not wanted.startswith(("Did you mean", "Known:")):
            wanted = f"Wanted: {wanted}"
        parts = [part.strip().rstrip(".") for part in (self.got, wanted, self.do) if part]
        return ". ".join(parts) + "."


class UsageError(PieriaError):
    """The question was put wrongly."""

    exit_code = 2


class DataError(PieriaError):
    """A file or an item that cannot be used; ``got`` names it."""


class FormError(PieriaError):
    """A tensor, or a whole data set, that does not have the form a model needs."""


class RunError(PieriaError):
    """A run directory that cannot be read or written."""


class TrainingError(PieriaError):
    """Learning that cannot go on."""


def unknown(what: str, name: str, known: Iterable[str], do: str = "") -> UsageError:
    """The error for an unknown name, with the nearest known ones.

    >>> print(unknown("model", "vea", ["vae", "gan"]))
    no model is called 'vea'. Did you mean 'vae'? Known: gan, vae.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    wanted = f"Did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
    return UsageError(f"no {what} is called {name!r}", f"{wanted}Known: {', '.join(names)}", do)
