"""GPT after ten minutes on two cores on names, alone and mixed with an n-gram, in nats a character.

Protocol: makemore's split (seed 3407, ``randperm``, the last 1,000 names for the test, 7,166 predictions with the stop). A
transformer and a Kneser-Ney n-gram of order 6 learn from the training names for a quarter of the time, and the weight of the
linear mixture of their next-symbol probabilities is the best one on the validation names; then both learn anew from
training and validation names. Goals: 1.92 alone (makemore's transformer of 200,000 weights) and 1.90 mixed (the n-gram
alone: 1.937). The gate trains for two minutes.
"""

import torch
from torch import Tensor

from benchmarks import Outcome
from pieria.data.examples import Examples
from pieria.forms import Tokens
from pieria.modalities.opening import open_data
from pieria.models.contract import ScoresSymbols
from pieria.models.gpt import GPT, GPTSettings
from pieria.models.ngram import Ngram, NgramSettings
from pieria.noise import seeded
from pieria.training.loop import History, learn
from pieria.training.plan import Plan

SETTINGS = {"layers": 4, "heads": 4, "width": 96, "dropout": 0.15}
PLAN = {"batch": 256, "rate": 3e-3, "weight_decay": 0.1, "average": 0.998}
SECONDS = {True: 120.0, False: 600.0}
GOALS = {True: (1.96, 1.93), False: (1.92, 1.90)}


def symbol_nats(model: ScoresSymbols, examples: Examples) -> Tensor:
    """Log-probability of every symbol up to the stop of every name."""
    with torch.inference_mode():
        found = []
        for batch in examples.sweep(500):
            assert batch.mask is not None
            found.append(model.symbol_log_prob(batch).double()[batch.mask])
        return torch.cat(found)


def mixed(first: Tensor, second: Tensor, weight: float) -> float:
    """Nats a symbol of ``weight`` · first + (1 - weight) · second."""
    return -float((weight * first.exp() + (1 - weight) * second.exp()).log().mean())


def transformer(train: Examples, seconds: float) -> tuple[GPT, History]:
    """A GPT after so many seconds of training."""
    with seeded(0, "weights"):
        model = GPT(GPTSettings.of(SETTINGS), train.form)
    given = {"seconds": seconds, "threads": 2, "patience": 0, "evaluate_every": 0}
    history = learn(model, train, None, Plan.layered(GPT.training_defaults, PLAN, given))
    return model.eval(), history


def counted(train: Examples) -> Ngram:
    """The n-gram of the same names."""
    ngram = Ngram(NgramSettings.of({"order": 6}), train.form)
    ngram.estimate(lambda: train.sweep(1000))
    return ngram


def measure(gate: bool) -> Outcome:
    dataset = open_data("names")
    assert isinstance(dataset.form, Tokens)
    train, validation, both, test = (dataset.examples(p) for p in ("train", "validation", "train+validation", "test"))
    first, _ = transformer(train, SECONDS[gate] / 4)
    ours, theirs = symbol_nats(first, validation), symbol_nats(counted(train), validation)
    weight = min((k / 100 for k in range(1, 100)), key=lambda w: mixed(ours, theirs, w))

    model, history = transformer(both, SECONDS[gate])
    ours, theirs = symbol_nats(model, test), symbol_nats(counted(both), test)
    alone, together = -float(ours.mean()), mixed(ours, theirs, weight)
    goal_alone, goal_together = GOALS[gate]
    return Outcome(
        measured={
            "gpt, nats a character": round(alone, 4),
            "mix, nats a character": round(together, 4),
            "n-gram, nats a character": round(-float(theirs.mean()), 4),
            "weight of the gpt": weight,
            "predictions": len(ours),
            "steps": history.steps,
            "training seconds": round(history.seconds, 1),
        },
        goal={
            "gpt, nats a character": f"≤ {goal_alone}",
            "mix, nats a character": f"≤ {goal_together}",
            "predictions": 7_166,
        },
        passed=alone <= goal_alone and together <= goal_together and len(ours) == 7_166,
        notes=[f"{sum(p.numel() for p in model.parameters()):,} parameters, {SETTINGS}, {PLAN}"],
    )
