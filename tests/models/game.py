"""The smallest loop that plays the phases of a model as the contract states it, for tests of single families."""

import torch

from pieria.data.batch import Batch
from pieria.noise import StepNoise, seeded


def play(model, x, steps, *, labels=None, batch=64, rate=1e-3, betas=(0.9, 0.99)):
    """Train ``model`` on the items ``x`` for a number of steps; returns it in evaluation mode."""

    def batches():
        return [Batch(x, condition=labels)]

    model.train()
    model.prepare(batches)
    optimisers = {name: torch.optim.Adam(groups, lr=rate, betas=betas) for name, groups in model.groups().items()}
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        places = torch.randint(len(x), (batch,), generator=generator)
        given = Batch(x[places], condition=None if labels is None else labels[places])
        for phase in model.phases():
            if step % phase.every == 0:
                move(model, optimisers[phase.group], phase, given, step)
    return model.eval()


def move(model, optimiser, phase, batch, step=0):
    """One phase: only its group's parameters require gradients, and only they are stepped."""
    mine = {p for group in optimiser.param_groups for p in group["params"]}
    for parameter in model.parameters():
        parameter.requires_grad_(parameter in mine)
    with seeded(0, step, phase.name):
        losses = phase.loss(batch, StepNoise(0, step, phase.name, len(batch)))
        losses.loss.backward()
    optimiser.step()
    optimiser.zero_grad()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return losses
