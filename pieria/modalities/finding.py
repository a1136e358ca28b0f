"""Which modality is a path? Told by ``--as``, or found by asking each one that there is.

A modality is a file in this folder that ends with ``MODALITY = …``; listing them imports none.
"""

import importlib
from pathlib import Path

from pieria.data import catalogue
from pieria.errors import DataError, PieriaError, UsageError, unknown
from pieria.modalities.contract import Modality

HOME = Path(__file__).parent
MODALITIES: dict[str, str] = {  # name: module, imported on use
    path.stem: f"pieria.modalities.{path.stem}"
    for path in sorted(HOME.glob("*.py"))
    if "\nMODALITY = " in path.read_text(encoding="utf-8")
}
SURE = 0.3  # below it a modality only does not say no
CLOSE = 0.1  # two that are nearer than this fit equally


def load(name: str) -> type[Modality]:
    """The modality of this name, imported; `UsageError` with the nearest names if there is none."""
    if name not in MODALITIES:
        raise unknown("modality", name, MODALITIES)
    found: type[Modality] = importlib.import_module(MODALITIES[name]).MODALITY
    return found


def missing(path: Path) -> PieriaError:
    """The error for data that are neither a path nor a known name: with the nearest names if it looks like a name."""
    if not path.suffix and len(path.parts) == 1:
        return unknown("data set", str(path), catalogue.entries(), "And there is no file of that name here")
    return DataError(f"{path} does not exist", "a path, or a name that 'pieria data' lists", "Check the path")


def find(path: Path, as_: str | None = None, column: str | None = None) -> tuple[str, str]:
    """The name of the modality that reads ``path``, and why: "told", or the reason that the modality gives.

    Raises `UsageError` naming both where two fit equally, `DataError` with every modality's reason where none fits.
    """
    if as_ is not None:
        load(as_)  # an unknown name is refused before anything is opened
        return as_, "told"
    if not path.exists():
        raise missing(path)
    sniffed = {name: load(name).sniff(path, column) for name in MODALITIES}
    ranked = sorted(sniffed, key=lambda name: -sniffed[name].confidence)
    best = ranked[0]
    if sniffed[best].confidence < SURE:
        reasons = "; ".join(f"{name}: {sniffed[name].reason}" for name in ranked)
        raise DataError(
            f"{path} is not data that Pieria can read ({reasons})", f"{', '.join(MODALITIES)}", "Say which with --as"
        )
    near = [name for name in ranked[1:] if sniffed[best].confidence - sniffed[name].confidence < CLOSE]
    if near:
        both = " or ".join(f"{name} ({sniffed[name].reason})" for name in (best, *near))
        raise UsageError(f"{path} may be {both}", "one of them", f"Say which with --as {best} or --as {near[0]}")
    return best, sniffed[best].reason


def forms_of(data: str, as_: str | None = None, column: str | None = None) -> tuple[str, str, tuple[str, ...]]:
    """The modality of a catalogue name or a path, why, and the forms that it offers; nothing is read or fetched."""
    entry = catalogue.entries().get(data)
    if entry is not None:
        name, reason = (as_, "told") if as_ is not None else (entry.modality, "as the catalogue says")
    else:
        path = Path(data).expanduser()
        name, reason = find(path, as_, column)
        if not path.exists():  # where --as told what it is, nothing was looked at
            raise missing(path)
    return name, reason, load(name).forms
