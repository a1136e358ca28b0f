"""GPT after ten minutes on two cores on tinyshakespeare, alone and mixed with an n-gram.

Protocol: characters, first 90 % and last 10 %; validation is the end of the first part. A transformer and an n-gram
(Kneser-Ney, order 7) learn from what is left of it, for a quarter of the time, and the weight of their linear mixture of
next-symbol probabilities is the best one on validation. Then both learn anew from all of the first 90 %: the transformer for
ten minutes. Every symbol of the last 10 % is scored once: windows of half the transformer's context, each after the other
half. Goals: 1.60 and 1.47 nats a character (an n-gram alone: 1.517).
"""

from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class Course:
    """A network, its window, and how it is trained, beside the family's defaults."""

    length: int
    settings: dict[str, Any]
    plan: dict[str, Any]


TEN_MINUTES = Course(length=128, settings={**GPT.presets["small"], "dropout": 0.1}, plan={})


def symbol_nats(model: ScoresSymbols, examples: Examples, length: int) -> Tensor:
    """Log-probability of every symbol of a stream, in order, under the context rule above."""
    with torch.inference_mode():
        sweep = examples.sweep(32, length=length // 2, context=length // 2)
        return torch.cat([model.symbol_log_prob(batch).double().flatten() for batch in sweep])


def mixed(first: Tensor, second: Tensor, weight: float) -> float:
    """Nats a symbol of ``weight`` · first + (1 - weight) · second."""
    return -float((weight * first.exp() + (1 - weight) * second.exp()).log().mean())


def transformer(train: StreamExamples, course: Course, seconds: float) -> tuple[GPT, History]:
    """A GPT of this course after so many seconds of training."""
    with seeded(0, "weights"):
        model = GPT(GPTSettings.of(course.settings), train.form)
    given = {"seconds": seconds, "threads": 2, "patience": 0, "evaluate_every": 0}
    history = learn(model, train, None, Plan.layered(GPT.training_defaults, course.plan, given))
    return model.eval(), history


def counted(train: StreamExamples) -> Ngram:
    """The n-gram of a stream."""
    ngram = Ngram(NgramSettings.of({"order": 7}), train.form)
    ngram.estimate(lambda: train.sweep(64, context=ngram.reach))
    return ngram


def compared(course: Course, seconds: float, goals: tuple[float, float]) -> Outcome:
    """The protocol above."""
    dataset = open_data("tinyshakespeare", settings={"length": course.length})
    form = dataset.form
    assert isinstance(form, Tokens)
    streams = [dataset.examples(part).stream for part in ("train", "validation", "test")]  # type: ignore[attr-defined]  # text
    train, validation, test = (StreamExamples(form, stream) for stream in streams)
    first, _ = transformer(train, course, seconds / 4)
    ours, theirs = (symbol_nats(each, validation, course.length) for each in (first, counted(train)))
    weight = min((k / 100 for k in range(1, 100)), key=lambda w: mixed(ours, theirs, w))

    everything = StreamExamples(form, np.concatenate(streams[:2]))
    model, history = transformer(everything, course, seconds)
    ours, theirs = (symbol_nats(each, test, course.length) for each in (model, counted(everything)))
    alone, together = -float(ours.mean()), mixed(ours, theirs, weight)
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
        goal={"gpt, nats a character": f"≤ {goals[0]}", "mix, nats a character": f"≤ {goals[1]}"},
        passed=alone <= goals[0] and together <= goals[1],
        notes=[f"{sum(p.numel() for p in model.parameters()):,} parameters: {course}"],
    )


def measure(gate: bool) -> Outcome:
    return compared(TEN_MINUTES, seconds=120.0 if gate else 600.0, goals=(1.95, 1.51) if gate else (1.60, 1.47))
