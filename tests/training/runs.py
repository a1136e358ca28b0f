"""A run of each tiny family on made-up data, in this process or in one that can be killed (``-m tests.training.runs``)."""

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from pieria.data.examples import Examples, ItemExamples, StreamExamples
from pieria.forms import Column, Row, Tokens
from pieria.models import weights
from pieria.models.contract import Model
from pieria.noise import seeded
from pieria.registry import find
from pieria.training.loop import History, learn
from pieria.training.plan import Plan
from pieria.training.watch import Watch
from pieria.training.workspace import Workspace

HERE = Path(__file__).parent / "families"
FORM = Row((Column("a", "number"), Column("b", "number")))
STREAM = Tokens(vocabulary=5, length=16)


def model(name: str, **settings: object) -> Model:
    family = find(str(HERE / f"{name}.py"))
    with seeded(0, "initial weights"):
        return family(family.Settings.of(settings), STREAM if name == "windows" else FORM)


def examples(name: str, count: int = 200, first: int = 0) -> Examples:
    generator = np.random.default_rng(1 + first)
    if name == "windows":
        return StreamExamples(STREAM, (np.cumsum(generator.integers(0, 2, 4000)) % 5).astype(np.uint8))
    drawn = generator.normal([1.0, -2.0], [0.5, 2.0], (count, 2)).astype(np.float32)
    return ItemExamples(FORM, torch.from_numpy(drawn), augment=_shifted)


def _shifted(x: torch.Tensor, noise) -> torch.Tensor:
    return x + 0.01 * noise.normal("shift", x.shape[1:])


def run(name: str, path: Path, plan: Plan, *, watch: Watch | None = None, net: Model | None = None) -> History:
    """Fit in a run directory, from the beginning or from where it was left."""
    resume = path.exists()
    net = model(name) if net is None else net
    with Workspace.open(path) if resume else Workspace.create(path, "", {"family": name}) as space:
        space.note(state="running")
        train, validation = examples(name), examples(name, 50, 1)
        history = learn(net, train, validation, plan, workspace=space, resume=resume, watch=watch)
        if history.ended != "stopped":
            weights.save(net, path / "model.safetensors")
        space.note(state="stopped" if history.ended == "stopped" else "done", result=asdict(history))
    return history


def lasting(line: dict) -> dict:
    """What of a line of the log must be the same each time: all but times and costs."""
    return {name: value for name, value in line.items() if name not in ("seconds", "memory_mb", "joules")}


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(sys.argv[1], Path(sys.argv[2]), Plan.of(dict(word.split("=") for word in sys.argv[3:])))
