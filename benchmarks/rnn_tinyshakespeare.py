"""LSTM and minGRU on tinyshakespeare, after less than the sixty minutes that each may take on two cores.

Protocol: characters, first 90 % and last 10 %. The LSTM has twenty-five minutes, minGRU ten (the gate: 220 s each), on as
many threads as there are cores for the process. Each network learns from all of the first part for its time, read in order
with the state going on from window to window; settings were chosen on validation, the end of that part. Every symbol of the
last 10 % is scored once, after at least 512 symbols of what stood before it (the first ones after what there is). Goals:
LSTM 1.52, minGRU 1.56 nats a character (an n-gram alone: 1.517).
"""

import numpy as np
import torch

from benchmarks import Outcome
from pieria.data.examples import StreamExamples
from pieria.forms import Tokens
from pieria.modalities.opening import open_data
from pieria.models.contract import ScoresSymbols
from pieria.models.rnn import RNN, RNNSettings
from pieria.noise import seeded
from pieria.training.loop import History, learn
from pieria.training.plan import Plan

LENGTH = 128
CONTEXT = 512
PRESETS = {"lstm": "shakespeare-lstm", "minGRU": "shakespeare-mingru"}
SECONDS: dict[bool, dict[str, float]] = {True: {"lstm": 220.0, "minGRU": 220.0}, False: {"lstm": 1500.0, "minGRU": 600.0}}
GOALS = {True: {"lstm": 1.75, "minGRU": 1.70}, False: {"lstm": 1.52, "minGRU": 1.56}}
# what so short a training can fill, and does not overfit
SHORT: dict[str, object] = {"width": 320, "dropout": 0.1}
HURRIED: dict[bool, dict[str, dict[str, object]]] = {
    True: {"lstm": SHORT, "minGRU": SHORT},
    False: {"lstm": {"width": 400, "dropout": 0.25}, "minGRU": SHORT},
}


def fitted(preset: str, train: StreamExamples, seconds: float, settings: dict[str, object]) -> tuple[RNN, History]:
    """An RNN of the preset after so many seconds of training."""
    chosen = {**RNN.presets[preset], **settings}
    with seeded(0, "weights"):
        model = RNN(RNNSettings.of({k: v for k, v in chosen.items() if k in RNNSettings.model_fields}), train.form)
    plan = Plan.layered(
        RNN.training_defaults,
        {name: value for name, value in chosen.items() if name in Plan.model_fields},
        {"seconds": seconds, "patience": 0, "evaluate_every": 0},
    )
    history = learn(model, train, None, plan)
    return model.eval(), history


def nats(model: ScoresSymbols, test: StreamExamples) -> float:
    """Nats a symbol under the context rule above, in windows that are read side by side."""
    with torch.inference_mode():
        sweep = test.sweep(32, length=4 * CONTEXT, context=CONTEXT)
        return -float(torch.cat([model.symbol_log_prob(batch).double().flatten() for batch in sweep]).mean())


def measure(gate: bool) -> Outcome:
    dataset = open_data("tinyshakespeare", settings={"length": LENGTH})
    form = dataset.form
    assert isinstance(form, Tokens)
    streams = [dataset.examples(part).stream for part in ("train", "validation", "test")]  # type: ignore[attr-defined]  # text
    everything, test = StreamExamples(form, np.concatenate(streams[:2])), StreamExamples(form, streams[2])
    measured: dict[str, float] = {}
    notes = []
    for name, preset in PRESETS.items():
        model, history = fitted(preset, everything, SECONDS[gate][name], HURRIED[gate][name])
        measured[f"{name}, nats a character"] = round(nats(model, test), 4)
        measured[f"{name}, steps"] = history.steps
        batch = RNN.presets[preset].get("batch", RNN.training_defaults["batch"])
        epochs = history.steps * batch * LENGTH / len(everything.stream)
        measured[f"{name}, times the text"] = round(epochs, 1)
        notes.append(f"{name}: preset {preset}, {sum(p.numel() for p in model.parameters()):,} parameters")
    measured["characters scored"] = len(test.stream)
    goal = {f"{name}, nats a character": f"≤ {figure}" for name, figure in GOALS[gate].items()}
    passed = all(measured[f"{name}, nats a character"] <= figure for name, figure in GOALS[gate].items())
    return Outcome(measured, goal, passed, [f"windows of {LENGTH}", *notes])
