"""What resuming needs, in one safetensors file: weights, average, optimisers, and the place reached.

Nothing is pickled: tensors have names, the rest is JSON in the header. No random state is kept, because there is none:
the order of the data, the noise of a step and dropout are functions of the seed and the step.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from pieria.data.storage import write_atomically
from pieria.errors import RunError
from pieria.models import weights

FORMAT = 1


@dataclass
class Progress:
    """How far a run has come: everything about it that is not a tensor.

    Attributes:
        stage: which stage is being learned (0 in a run of one stage).
        step: steps done in this stage.
        total: the stage's budget in steps; None while a budget in seconds is still being timed.
        evaluate_every: steps between looks at held-out data, once settled.
        offset: steps done in earlier stages.
        lines: lines of the log that belong to this state.
        best, best_step: the best held-out figure so far, and after which step.
        worse: looks since then.
        sums, counts: losses summed since the last line of the log.
        seconds: how long the training steps have taken; elapsed: with everything else.
        joules: energy so far.
        looked: the newest held-out figure.
    """

    stage: int = 0
    step: int = 0
    total: int | None = None
    evaluate_every: int | None = None
    offset: int = 0
    lines: int = 0
    best: float | None = None
    best_step: int = 0
    worse: int = 0
    sums: dict[str, dict[str, float]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    elapsed: float = 0.0
    joules: float = 0.0
    looked: float | None = None


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """A model's state as tensors that share no memory; tied ones appear under each of their names."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}


def write(path: Path, tensors: dict[str, Tensor], said: dict[str, Any]) -> None:
    """Write named tensors and JSON to one file, whole or not at all."""
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, to_bytes(ready, metadata={"pieria": json.dumps({"format": FORMAT, **said})}))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write` wrote; `RunError` names a file that is damaged or of a newer format."""
    said = weights.header(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, said  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise RunError(
            f"{path} cannot be read ({error})", "a checkpoint", "Delete it; the one before is used then"
        ) from None
