"""Bits per dimension of MNIST's test digits under a flow, 256 levels, uniform dequantisation: a bound from above.

Protocol: the published parts, 60,000 digits to learn from and 10,000 for the test; a digit's levels 0 … 255 plus uniform
noise, ``-log2 p / 784`` in units of a level, one draw of the noise for each test digit (so the mean is the bound, not a
tighter one by importance samples). The test digits are looked at once.
Goal: at most 1.30 after 60 minutes on two cores (RealNVP 1.06, Glow 1.05, each with days of GPU time).
The gate trains eight minutes and scores 2,000 digits, evenly spaced: at most 1.20, reasoned from 100 steps of 64 digits (24
CPU-seconds), which reached 1.36.
"""

import math
import time

import torch

from benchmarks import Outcome
from benchmarks.vae_mnist import digits
from pieria.data.examples import ItemExamples
from pieria.forms import Grid
from pieria.models.flow import Flow, FlowSettings
from pieria.noise import seeded
from pieria.testing.subject import preset
from pieria.training.loop import learn
from pieria.training.plan import Plan

FORM = Grid(1, 28, 28)
SECONDS, GOAL = 3600, 1.30
GATE_SECONDS, GATE_GOAL = 480, 1.20
SCORED_AT_ONCE = 200


def bits(model: Flow, test: ItemExamples) -> tuple[float, float]:
    """Mean bits per dimension, and its standard error."""
    parts = [model.log_prob(batch).double() for batch in test.sweep(SCORED_AT_ONCE)]
    each = -torch.cat(parts) / (784 * math.log(2))
    return float(each.mean()), float(each.std() / len(each) ** 0.5)


def measure(gate: bool) -> Outcome:
    """``gate`` trains eight minutes and scores every fifth digit."""
    seconds, goal = (GATE_SECONDS, GATE_GOAL) if gate else (SECONDS, GOAL)
    train = ItemExamples(FORM, torch.cat([digits("train"), digits("validation")]))
    test = ItemExamples(FORM, digits("test")[:: 5 if gate else 1])
    mine, training = preset(Flow, "mnist")
    with seeded(0, "weights"):
        model = Flow(FlowSettings.of(mine), FORM)
    # no looks at held-out digits, so that the whole budget is training
    plan = Plan.layered(Flow.training_defaults, training, {"seconds": seconds, "evaluate_every": 0})
    begun = time.perf_counter()
    history = learn(model, train, None, plan)
    trained = time.perf_counter() - begun
    model.eval()
    found, error = bits(model, test)
    measured = {
        "bits per dimension": round(found, 4),
        "standard error": round(error, 4),
        "training seconds": round(trained, 1),
        "steps": history.steps,
        "digits met": history.steps * plan.batch,
        "digits scored": len(test),
        "numbers learned": sum(p.numel() for p in model.parameters()),
    }
    notes = [f"Preset mnist: {mine}, batch {plan.batch}. One draw of uniform noise for each digit."]
    return Outcome(measured, {"bits per dimension": f"<= {goal}"}, found <= goal, notes)
