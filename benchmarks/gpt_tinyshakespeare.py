"""GPT after ten minutes on two cores on tinyshakespeare, alone and mixed with an n-gram.

Protocol: characters, first 90 % and last 10 %; validation is the end of the first part. A transformer and an n-gram
(Kneser-Ney, order 7) learn from what is left of it, for a quarter of the time, and the weight of their linear mixture of
next-symbol probabilities is the best one on validation. Then both learn anew from all of the first 90 %: the transformer for
ten minutes. Every symbol of the last 10 % is scored once: windows of half the transformer's context, each after the other
half. Goals: 1.60 and 1.47 nats a character (an n-gram alone: 1.517).
"""

import numpy as np
import torch
from torch import Tensor

from benchmarks import Outcome
from pieria.data.examples import Examples, StreamExamples
from pieria.forms import Tokens
from pieria.modalities.opening import open_data
from pieria.models.contract import ScoresSymbols
from pieria.models.gpt import GPT, GPTSettings
from pieria.models.ngram import Ngram, NgramSettings
from pieria.noise import seeded
from pieria.training.loop import History, learn
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


def transformer(train: StreamExamples, seconds: float) -> tuple[GPT, History]:
    """A GPT of the preset after so many seconds of training."""
    preset = GPT.presets[PRESET]
    with seeded(0, "weights"):
        model = GPT(GPTSettings.of({k: v for k, v in preset.items() if k in GPTSettings.model_fields}), train.form)
    plan = Plan.layered(
        GPT.training_defaults,
        {name: value for name, value in preset.items() if name in Plan.model_fields},
        {"seconds": seconds, "threads": 2, "patience": 0, "evaluate_every": 0},
    )
    history = learn(model, train, None, plan)
    return model.eval(), history


def counted(train: StreamExamples) -> Ngram:
    """The n-gram of a stream."""
    ngram = Ngram(NgramSettings.of({"order": 7}), train.form)
    ngram.estimate(lambda: train.sweep(64, context=ngram.reach))
    return ngram


def measure(gate: bool) -> Outcome:
    dataset = open_data("tinyshakespeare", settings={"length": LENGTH})
    form = dataset.form
    assert isinstance(form, Tokens)
    streams = [dataset.examples(part).stream for part in ("train", "validation", "test")]  # type: ignore[attr-defined]  # text
    train, validation, test = (StreamExamples(form, stream) for stream in streams)
    first, _ = transformer(train, SECONDS[gate] / 4)
    ours, theirs = (symbol_nats(each, validation, LENGTH) for each in (first, counted(train)))
    weight = min((k / 100 for k in range(1, 100)), key=lambda w: mixed(ours, theirs, w))

    everything = StreamExamples(form, np.concatenate(streams[:2]))
    model, history = transformer(everything, SECONDS[gate])
    ours, theirs = (symbol_nats(each, test, LENGTH) for each in (model, counted(everything)))
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
