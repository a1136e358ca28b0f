"""GPT beside nanoGPT: its CPU settings, its steps, the same windows in the same order, in one run.

Protocol: 4 layers, 4 heads, width 128, windows of 64, batch 12, 2,000 steps, no dropout, no bias; AdamW 1e-3 to 1e-4 by
cosine after 100 steps. Both learn from the first 90 % of tinyshakespeare and score each symbol of the last 10 % once, in
windows of 32 after 32. Ours multiplies bfloat16 matrices in training where the processor does so natively, theirs float32
on a processor, as its settings say; the ratio with both in float32 is measured too. Speeds are taken in turns. Goals: a
loss within 0.02 nats or better, at least as many steps a second, cached decoding at least five times the symbols a second.

``NANOGPT`` names a checkout of https://github.com/karpathy/nanoGPT; without it only our side is measured.
"""

import importlib.util
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks import Outcome, alternate
from pieria.data.examples import StreamExamples
from pieria.data.order import RandomWindows
from pieria.modalities.opening import Dataset, open_data
from pieria.models.gpt import GPT, GPTSettings
from pieria.noise import ItemNoise
from pieria.sampling.decoding import Decoding, generate
from pieria.training.loop import learn
from pieria.training.plan import Plan

LENGTH, DECODED = 64, 256
PRESET = GPT.presets["nano"]
PLAN = {name: value for name, value in PRESET.items() if name in Plan.model_fields}


def ours(vocabulary: StreamExamples, precision: str = "auto") -> GPT:
    torch.manual_seed(0)
    chosen = {name: value for name, value in PRESET.items() if name in GPTSettings.model_fields}
    return GPT(GPTSettings.of({**chosen, "precision": precision}), vocabulary.form)


def theirs(checkout: Path, vocabulary: int) -> nn.Module:
    spec = importlib.util.spec_from_file_location("nanogpt_model", checkout / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    sizes = {"n_layer": 4, "n_head": 4, "n_embd": 128, "dropout": 0.0, "bias": False}
    return module.GPT(module.GPTConfig(block_size=LENGTH, vocab_size=vocabulary, **sizes))


def plan_of(steps: int) -> Plan:
    return Plan.layered(
        GPT.training_defaults, PLAN, {"steps": steps, "threads": 2, "patience": 0, "evaluate_every": 0, "clip": 1.0}
    )


def train_ours(model: GPT, examples: StreamExamples, steps: int) -> float:
    """Steps a second."""
    history = learn(model, examples, None, plan_of(steps))
    return history.steps / history.seconds


def train_theirs(model: Any, examples: StreamExamples, steps: int) -> float:
    """Steps a second, with the model's own optimiser, our windows and our learning rate."""
    plan, order = plan_of(steps), RandomWindows(len(examples), 12, 0)
    optimiser = model.configure_optimizers(plan.weight_decay, plan.rate, (plan.beta1, plan.beta2), "cpu")
    model.train()
    begun = time.perf_counter()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = plan.rate_at(step, steps)
        batch = examples.batch(order.places(step))
        assert batch.context is not None
        _, loss = model(torch.cat([batch.context, batch.x[:, :-1]], dim=1), batch.x.contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return steps / (time.perf_counter() - begun)


@torch.inference_mode()
def nats_of_ours(model: GPT, examples: StreamExamples) -> float:
    model.eval()
    sweep = examples.sweep(64, length=LENGTH // 2, context=LENGTH // 2)
    return -sum(float(model.log_prob(batch).sum()) for batch in sweep) / examples.scored()


@torch.inference_mode()
def nats_of_theirs(model: Any, examples: StreamExamples) -> float:
    """As ours; the very first symbol, before which their model has nothing to read, costs a uniform guess."""
    model.eval()
    total = math.log(examples.form.vocabulary)
    for batch in examples.sweep(64, length=LENGTH // 2, context=LENGTH // 2):
        known = 0 if batch.context is None else batch.context.shape[1]
        text = batch.x if batch.context is None else torch.cat([batch.context, batch.x], dim=1)
        logits, _ = model(text[:, :-1], text[:, 1:].contiguous())
        scored = max(known, 1)
        wanted = text[:, scored:]
        total += float(functional.cross_entropy(logits[:, scored - 1 :].flatten(0, 1), wanted.flatten(), reduction="sum"))
    return total / examples.scored()


def stream_of(dataset: Dataset, part: str) -> StreamExamples:
    examples = dataset.examples(part)
    assert isinstance(examples, StreamExamples)
    return examples


def measure(gate: bool) -> Outcome:
    torch.set_num_threads(2)
    steps = 500 if gate else 2000
    dataset = open_data("tinyshakespeare", settings={"length": LENGTH})
    first, rest, test = (stream_of(dataset, part) for part in ("train", "validation", "test"))
    train = StreamExamples(test.form, np.concatenate([first.stream, rest.stream]))
    model = ours(train)
    train_ours(model, train, steps)
    measured: dict[str, Any] = {"steps": steps, "ours, nats a character": round(nats_of_ours(model, test), 4)}
    goal = {"difference in nats": "≤ 0.02", "training ratio": "≥ 1.0", "decoding ratio": "≥ 5"}

    def decode() -> float:
        begun = time.perf_counter()
        generate(model, 1, Decoding.of({"length": DECODED}), ItemNoise(0, 1))
        return DECODED / (time.perf_counter() - begun)

    place = os.environ.get("NANOGPT")
    if not place:
        measured["ours, symbols a second"] = round(max(decode() for _ in range(5)))
        note = "NANOGPT names no checkout of nanoGPT, so there was nothing to compare with"
        return Outcome(measured, goal, False, [note])
    peer: Any = theirs(Path(place), train.form.vocabulary)
    train_theirs(peer, train, steps)
    measured["theirs, nats a character"] = round(nats_of_theirs(peer, test), 4)
    measured["difference in nats"] = round(measured["ours, nats a character"] - measured["theirs, nats a character"], 4)
    pairs, some = (3, 60) if gate else (5, 200)

    def peer_trains() -> float:
        return train_theirs(theirs(Path(place), train.form.vocabulary), train, some)

    training = alternate(lambda: train_ours(ours(train), train, some), peer_trains, pairs)
    alike = alternate(lambda: train_ours(ours(train, "float32"), train, some), peer_trains, pairs)

    def peer_decodes() -> float:
        begun = time.perf_counter()
        with torch.inference_mode():
            peer.generate(torch.zeros(1, 1, dtype=torch.int64), DECODED)
        return DECODED / (time.perf_counter() - begun)

    peer.eval()
    decoding = alternate(decode, peer_decodes, pairs)
    measured |= {"training ratio": training["ratio"], "training, steps a second (ours, theirs)": _rates(training)}
    measured |= {"training ratio, both in float32": alike["ratio"], "steps a second, both in float32": _rates(alike)}
    measured |= {"decoding ratio": decoding["ratio"], "decoding, symbols a second (ours, theirs)": _rates(decoding)}
    passed = measured["difference in nats"] <= 0.02 and training["ratio"] >= 1.0 and decoding["ratio"] >= 5
    return Outcome(measured, goal, passed)


def _rates(found: dict[str, float]) -> str:
    return f"{found['first']:.1f}, {found['second']:.1f} (ratios {found['ratio_min']} to {found['ratio_max']})"
