"""One step of the training game: each phase in turn moves its own group of parameters.

A VAE is a game with one phase, a GAN with two, and a lazy phase sits out most steps. During a phase only its group
requires gradients. A batch may be shared by processes and computed in parts; each part's gradient is weighted by what
its loss was averaged over, so that the sum is the gradient of the whole batch.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pieria.data.batch import Batch
from pieria.errors import TrainingError
from pieria.models.contract import Model, Phase, Trains
from pieria.noise import StepNoise, seeded
from pieria.training import low_rank
from pieria.training.orthogonal import OrthogonalAdamW
from pieria.training.plan import Plan
from pieria.training.processes import Processes

Said = dict[str, dict[str, float]]  # phase -> "loss" and its named parts


class Game:
    """The optimisers of a model, one a group, and the moves that they make."""

    def __init__(self, model: Model, plan: Plan, processes: Processes) -> None:
        assert isinstance(model, Trains)
        self.model, self.plan, self.processes = model, plan, processes
        self.phases: list[Phase] = model.phases()
        groups = low_rank.trained(model, model.groups())
        missing = {phase.group for phase in self.phases} - set(groups)
        if missing or not self.phases:
            raise TrainingError(
                f"{type(model).__name__} has phases for the groups {sorted(missing)}" if missing else "no phases",
                f"groups() names {sorted(groups)}",
                "Make groups() and phases() agree",
            )
        self.optimisers = {name: self._optimiser(entries) for name, entries in groups.items()}
        self.parameters: dict[str, list[nn.Parameter]] = {
            name: [p for entry in optimiser.param_groups for p in entry["params"]]
            for name, optimiser in self.optimisers.items()
        }
        self._required = {p: p.requires_grad for p in model.parameters()}

    def _optimiser(self, entries: list[dict[str, Any]]) -> OrthogonalAdamW:
        plan = self.plan
        own: list[dict[str, Any]] = [
            {
                "betas": tuple(beta ** entry.get("beta_power", 1.0) for beta in (plan.beta1, plan.beta2)),
                **entry,
                "lr_scale": float(entry.get("lr_scale", 1.0)),
                "params": list(entry["params"]),
            }
            for entry in entries
        ]
        return OrthogonalAdamW(
            [entry for entry in own if entry["params"]],
            lr=plan.rate,
            betas=(plan.beta1, plan.beta2),
            weight_decay=plan.weight_decay,
            fused=self.processes.device.type in ("cpu", "cuda"),
        )

    def play(self, step: int, rate: float, parts: Sequence[tuple[int, Batch]]) -> Said:
        """One step with this learning rate; ``parts`` are this process's batches, each with its place in the whole one.

        Raises `TrainingError` before anything is changed by a loss or a gradient that is not finite.
        """
        return {phase.name: self._move(phase, step, rate, parts) for phase in self.phases if step % phase.every == 0}

    def _move(self, phase: Phase, step: int, rate: float, parts: Sequence[tuple[int, Batch]]) -> dict[str, float]:
        plan, processes = self.plan, self.processes
        mine, optimiser = self.parameters[phase.group], self.optimisers[phase.group]
        self._only(mine)
        alone = processes.world == 1 and len(parts) == 1
        said: dict[str, float] = {}
        count = 0.0
        for first, batch in parts:
            noise = StepNoise(
                plan.seed, step, phase.name, len(batch), first=first, total=plan.batch, device=processes.device
            )
            with seeded(plan.seed, step, phase.name, first):
                losses = phase.loss(batch, noise)
                (losses.loss if alone else losses.loss * losses.count).backward()
            count += losses.count
            for name, value in {"loss": losses.loss, **losses.parts}.items():
                said[name] = said.get(name, 0.0) + float(value.detach()) * losses.count
        names = sorted(said)
        *sums, count = processes.sums([*[said[name] for name in names], count])
        said = {name: value / count for name, value in zip(names, sums, strict=True)} if count else said
        self._refuse_unless_finite(said["loss"], "loss", phase, step)
        if not alone:
            processes.reduce_gradients(mine)
            for parameter in mine:
                if parameter.grad is not None:
                    parameter.grad.div_(count)
        norm = self._clip(mine)
        self._refuse_unless_finite(norm, "gradient", phase, step)
        for entry in optimiser.param_groups:
            entry["lr"] = rate * entry["lr_scale"]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if phase.after is not None:
            with torch.no_grad(), seeded(plan.seed, step, phase.name, "after"):
                phase.after()
        return said

    def _only(self, mine: list[nn.Parameter]) -> None:
        """Make ``mine`` the only parameters that require gradients."""
        if len(self.parameters) == 1 and mine and all(p.requires_grad for p in mine):
            return
        wanted = set(mine)
        for parameter in self._required:
            parameter.requires_grad_(parameter in wanted)

    def _clip(self, mine: list[nn.Parameter]) -> float:
        gradients = [p.grad for p in mine if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self.plan.clip:
            nn.utils.clip_grads_with_norm_(mine, self.plan.clip, norm)
        return float(norm)

    def _refuse_unless_finite(self, value: float, what: str, phase: Phase, step: int) -> None:
        if not math.isfinite(value):
            raise TrainingError(
                f"the {what} of phase {phase.name!r} became {value} at step {step + 1}",
                "a finite number; this phase has changed no weights by it",
                "Try a smaller rate, a longer warmup or a smaller clip",
            )

    def end(self) -> None:
        """Leave the parameters as they were found: what required gradients does so again."""
        for parameter, required in self._required.items():
            parameter.requires_grad_(required)
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """Everything that the optimisers remember, as named tensors."""
        tensors = {}
        for group, optimiser in self.optimisers.items():
            for place, memory in optimiser.state_dict()["state"].items():
                for name, value in memory.items():
                    tensors[f"{group}/{place}/{name}"] = torch.as_tensor(value)
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Continue with what `state` gave."""
        for group, optimiser in self.optimisers.items():
            memory: dict[int, dict[str, Tensor]] = {}
            for key, value in tensors.items():
                owner, place, name = key.rsplit("/", 2)
                if owner == group:
                    memory.setdefault(int(place), {})[name] = value
            optimiser.load_state_dict({**optimiser.state_dict(), "state": memory})
