"""Where training runs: the device, and the other processes that share a step (started by ``torchrun``).

`accelerate` joins the processes; the model is not wrapped, so that a loss may call any part of it. Gradients are summed
by hand, each process's weighted by what its loss was averaged over.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pieria.errors import UsageError


@dataclass(frozen=True)
class Processes:
    """This process among those that train together."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @classmethod
    def join(cls, device: str = "auto") -> "Processes":
        """The device asked for, and the process group if ``torchrun`` started several."""
        chosen = choose_device(device)
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls(chosen)
        from accelerate import PartialState

        state = PartialState(cpu=chosen.type == "cpu")
        return cls(state.device, state.process_index, state.num_processes)

    @property
    def main(self) -> bool:
        """Whether this process writes the run."""
        return self.rank == 0

    def slices(self, batch: int, parts: int) -> list[slice]:
        """This process's parts of a global batch: contiguous, in order, at most one item apart in size."""
        pieces = self.world * parts
        if batch < pieces:
            raise UsageError(
                f"a batch of {batch} cannot be shared by {self.world} processes × {parts} parts",
                f"a batch of at least {pieces}",
                "Raise batch or lower accumulate",
            )
        bounds = [round(place * batch / pieces) for place in range(pieces + 1)]
        mine = range(self.rank * parts, (self.rank + 1) * parts)
        return [slice(bounds[k], bounds[k + 1]) for k in mine]

    def sums(self, values: list[float]) -> list[float]:
        """Each value summed over all processes."""
        if self.world == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device="cpu" if self.device.type == "cpu" else self.device)
        dist.all_reduce(total)
        return total.tolist()

    def agree(self, value: Any) -> Any:
        """The first process's value (a number or JSON), in every process."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def share(self, model: nn.Module) -> None:
        """Give every process the first one's weights to begin with."""
        if self.world > 1:
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, src=0)

    def reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients over all processes, in one message."""
        if self.world == 1:
            return
        parameters = list(parameters)
        used = self.sums([0.0 if p.grad is None else 1.0 for p in parameters])
        gradients: list[Tensor] = []
        for parameter, count in zip(parameters, used, strict=True):
            if count:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))


def choose_device(asked: str = "auto") -> torch.device:
    """The device with this name; ``auto`` is CUDA, else MPS, else the processor."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked == "auto":
        return torch.device(next(name for name, found in there.items() if found))
    kind, _, place = asked.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if not there.get(kind, False) or (place and not (place.isdigit() and int(place) < count)):
        found = ", ".join(name for name, ok in there.items() if ok)
        raise UsageError(f"the device {asked!r} is not there", f"one of: auto, {found}", "Leave --device out to choose it")
    return torch.device(asked)
