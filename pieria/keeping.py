"""What a run keeps of how it came to be, and what is read back from it: the record and the modality as JSON, the weights.

Nothing that is read back is executed: weights are safetensors, the rest is JSON.
"""

import platform
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from pieria.data.storage import read_json
from pieria.errors import DataError, PieriaError, RunError
from pieria.modalities.contract import Modality
from pieria.models import weights
from pieria.models.contract import Model
from pieria.training import workspace as directory
from pieria.training.plan import Plan
from pieria.training.processes import choose_device

if TYPE_CHECKING:
    from pieria.modalities.opening import Dataset

# ---- written ---------------------------------------------------------------------------------------------------------


def beginning(
    net: Model, plan: Plan, data: Mapping[str, Any], *, command: str, device: str, preset: str | None
) -> dict[str, Any]:
    """The record of a run that begins: what made it, and on what machine."""
    return {
        "command": command,
        "seed": plan.seed,
        "created": directory.now(),
        "versions": _versions(),
        "device": device,
        "threads": plan.threads or torch.get_num_threads(),
        "model": {**weights.describe(net), "preset": preset, "parameters": sum(p.numel() for p in net.parameters())},
        "plan": plan.model_dump(mode="json"),
        "data": dict(data),
    }


def command(
    data: str | Path, model: str, options: Mapping[str, str | Path | float | None], settings: Mapping[str, Any]
) -> str:
    """The command line that does the same."""
    words = ["pieria", "fit", str(data), "--model", model]
    for name, value in options.items():
        if value is not None:
            words += [f"--{name}", str(value)]
    for name, value in settings.items():
        words += ["--set", f"{name}={','.join(map(str, value)) if isinstance(value, list | tuple) else value}"]
    return shlex.join(words)


def _versions() -> dict[str, str]:
    known = {name: version(name) for name in ("torch", "numpy", "safetensors")}
    from pieria import __version__

    return {"pieria": __version__, "python": platform.python_version(), "platform": platform.platform(), **known}


def facts(
    data: str | Path,
    as_: str | None,
    column: str | None,
    form: str | None,
    dataset: "Dataset",
    to: str | Path | None = None,
) -> dict[str, Any]:
    """What the record says of the data, and what finding them again needs."""
    from pieria.data import catalogue

    def place(side: str | Path) -> str:
        return str(side) if str(side) in catalogue.names() else str(Path(side).expanduser().resolve())

    return {
        "name": dataset.name,
        "asked": place(data),
        "as": as_,
        "column": column,
        "form": form,
        "to": None if to is None else place(to),
        "modality": dataset.modality.name,
        "fingerprint": dataset.fingerprint,
        "licence": dataset.licence,
        "consent": dataset.consent,
        "source": dataset.source,
        "counts": {part: len(collection) for part, collection in dataset.parts.items()},
        "findings": list(dataset.findings),
        "reason": dataset.reason,
    }


def modality_file(modality: Modality) -> dict[str, dict[str, Any]]:
    """The modality as a run keeps it: a file's path in the run directory, and its content."""
    content = {
        "modality": modality.name,
        "settings": modality.settings.model_dump(mode="json"),
        "state": modality.state(),
    }
    return {"modality/modality.json": content}


def repeat(plan: Plan, totals: Sequence[Mapping[str, int]], device: str) -> list[str]:
    """What turns a budget in seconds into the same number of steps on ``device``: options of ``pieria fit``."""
    if plan.seconds is None or len(totals) != 1:
        return []
    words = ["--steps", str(totals[0]["steps"])]
    if totals[0]["evaluate_every"] != plan.evaluates(totals[0]["steps"]):
        words += ["--set", f"evaluate_every={totals[0]['evaluate_every']}"]
    kind, steps = torch.device(device).type, totals[0]["steps"]
    if (compiles := plan.compiles(kind, None)) != plan.changed(seconds=None, steps=steps).compiles(kind, steps):
        words += ["--set", f"compile={'on' if compiles else 'off'}"]
    return words


# ---- read back -------------------------------------------------------------------------------------------------------


class Kept(NamedTuple):
    """What a run directory holds of a trained model."""

    path: Path
    model: Model
    modality: Modality
    record: dict[str, Any]


def restored(path: str | Path, device: str | None = None) -> Kept:
    """The model, the modality and the record of the run at ``path``; `RunError` if it is none, or has no weights yet."""
    place = Path(path)
    record = directory.read_record(place)
    file = place / "model.safetensors"
    if not file.exists():
        writer = directory.holder(place)
        # a killed run is recorded as running
        state = "was not fitted to its end" if record["state"] == "running" else f"is {record['state']}"
        raise RunError(
            f"{place} has no weights: it {'is being fitted by ' + writer if writer else state}",
            "a run that is done or was stopped by Ctrl-C",
            "Wait until it is done" if writer else f"Go on with 'pieria fit --resume {place}'",
        )
    net = weights.load(file, choose_device(device) if device is not None else "cpu")
    return Kept(place, net, read_modality(place), record)


def read_modality(path: Path) -> Modality:
    """The modality of the run at ``path``, as it was learned; `RunError` for a damaged file."""
    from pieria.modalities import finding

    said = read_json(path / "modality" / "modality.json")
    try:
        kind = finding.load(said["modality"])
        return kind.restore(kind.Settings.of(said["settings"]), said["state"])
    except (KeyError, TypeError, ValueError, AttributeError, PieriaError) as error:
        raise RunError(
            f"{path / 'modality' / 'modality.json'} is damaged ({error})",
            "the modality as Pieria wrote it",
            "Restore it from a copy, or fit again",
        ) from None


def reopened(record: Mapping[str, Any], modality: Modality) -> "Dataset":
    """The data of a run, read again and encoded as it did; `DataError` if they are not the same any more."""
    from pieria.modalities.opening import open_data

    said = record["data"]
    if said["asked"] is None:
        raise DataError(
            f"{record['name']} was imported, and names no data",
            "data to hold it against",
            "Import it with --data DATA, or fit it further with --start-from",
        )
    dataset = open_data(
        said["asked"],
        as_=said["as"],
        column=said["column"],
        form=said["form"],
        to=said.get("to"),
        modality=modality,
        licence=said["licence"],
        consent=said["consent"],
    )
    if dataset.fingerprint != said["fingerprint"]:
        raise DataError(
            f"{said['asked']} has changed since {record['name']} was fitted to it",
            f"the data with the fingerprint {said['fingerprint']}",
            "Restore the data, or fit again",
        )
    return dataset
