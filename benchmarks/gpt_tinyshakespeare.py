"""GPT after ten minutes on two cores on tinyshakespeare, alone and mixed with an n-gram.

Protocol: characters, first 90 % and last 10 %; validation is the end of the first part. The transformer learns from what is
left of it; the weight of the linear mixture of next-symbol probabilities is the best one on validation, after which the
n-gram (Kneser-Ney, order 7) is counted once more with validation. Every symbol of the last 10 % is scored once: windows of
half the transformer's context, each after the other half. Goals: 1.60 and 1.47 nats a character (an n-gram alone: 1.517).
"""

from itertools import chain

import torch
from torch import Tensor

from benchmarks import Outcome
from pieria.data.examples import Examples
from pieria.modalities.opening import open_data
from pieria.models.contract import ScoresSymbols
from pieria.models.gpt import GPT, GPTSettings
from pieria.models.ngram import Ngram, NgramSettings
from pieria.training.loop import learn
from pieria.training.plan import Plan

PRESET = "small"
LENGTH = 128
SECONDS = {True: 120.0, False: 600.0}
GOALS = {True: (1.95, 1.51), False: (1.60, 1.47)}


def symbol_nats(model: ScoresSymbols, examples: Examples, length: int) -> Tensor:
    """Log-probability of every symbol of a stream, in order, under the context rule above."""
    with torch.inference_mode():
        sweep = examples.sweep(32, length=length // 2, context=length // 2)
        return torch.cat([model.symbol_log_prob(batch).double().flatten() for batch in sweep])


def mixed(first: Tensor, second: Tensor, weight: float) -> float:
    """Nats a symbol of ``weight`` · first + (1 - weight) · second."""
    return -float((weight * first.exp() + (1 - weight) * second.exp()).log().mean())


def measure(gate: bool) -> Outcome:
    dataset = open_data("tinyshakespeare", settings={"length": LENGTH})
    train, validation, test = (dataset.examples(part) for part in ("train", "validation", "test"))
    preset = GPT.presets[PRESET]
    torch.manual_seed(0)
    model = GPT(GPTSettings.of({k: v for k, v in preset.items() if k in GPTSettings.model_fields}), dataset.form)
    plan = Plan.layered(
        GPT.training_defaults,
        {name: value for name, value in preset.items() if name in Plan.model_fields},
        {"seconds": SECONDS[gate], "threads": 2, "patience": 0, "evaluate_every": 0},
    )
    history = learn(model, train, None, plan)
    model.eval()

    ngram = Ngram(NgramSettings.of({"order": 7}), dataset.form)
    ngram.estimate(lambda: train.sweep(64, context=ngram.reach))
    ours, theirs = (symbol_nats(each, validation, LENGTH) for each in (model, ngram))
    weight = min((k / 100 for k in range(1, 100)), key=lambda w: mixed(ours, theirs, w))
    ngram = Ngram(NgramSettings.of({"order": 7}), dataset.form)
    parts = (train, validation)
    ngram.estimate(lambda: chain.from_iterable(part.sweep(64, context=ngram.reach) for part in parts))
    ours, theirs = (symbol_nats(each, test, LENGTH) for each in (model, ngram))
    alone, together = -float(ours.mean()), mixed(ours, theirs, weight)

    goal_alone, goal_together = GOALS[gate]
    return Outcome(
        measured={
            "gpt, nats a character": round(alone, 4),
            "mix, nats a character": round(together, 4),
            "n-gram, nats a character": round(-float(theirs.mean()), 4),
            "weight of the gpt": weight,
            "characters scored": len(ours),
            "steps": history.steps,
            "training seconds": round(history.seconds, 1),
        },
        goal={"gpt, nats a character": f"≤ {goal_alone}", "mix, nats a character": f"≤ {goal_together}"},
        passed=alone <= goal_alone and together <= goal_together,
        notes=[f"preset {PRESET}, windows of {LENGTH}, {sum(p.numel() for p in model.parameters()):,} parameters"],
    )
