"""Cached against uncached decoding: the gap for every family that `Predicts`.

Protocol: each family learns the small forms of the conformance suite with its preset ``tiny`` (items that end, a stream).
Random prefixes, twice as long as the window on streams, are read step by step in random pieces, with the rows in another
order from the middle on, and at once by ``logits``. The gap is the largest difference of two logits as a share of the
largest. Without ``--gate`` also a GPT of 6 layers and width 384 with a window of 256. Goals: at most 1e-5 as the family is
(float32, float64 for families that count), at most 1e-10 in float64.
"""

import copy
from typing import Any

import torch

from benchmarks import Outcome
from pieria import registry
from pieria.forms import Tokens
from pieria.models.contract import Predicts
from pieria.models.gpt import GPT, GPTSettings
from pieria.noise import ItemNoise
from pieria.testing.abilities import PREFIXES, cached_gap
from pieria.testing.subject import subjects

STEPS = 100  # enough that the logits differ from one another; the gap is a matter of arithmetic, not of learning
NATIVE, DOUBLE = 1e-5, 1e-10


def gaps(model: Any, condition: Any = None) -> tuple[float, float]:
    return cached_gap(model, condition), cached_gap(copy.deepcopy(model).double(), condition)


def measure(gate: bool) -> Outcome:
    measured: dict[str, Any] = {}
    passed = True
    for name in registry.names():
        for subject in subjects(name):
            if not isinstance(subject.case.form, Tokens) or not isinstance(subject.untrained(), Predicts):
                continue
            model = subject.learned_from(subject.case.train, STEPS, subject.case.validation)
            found = gaps(model, subject.condition(ItemNoise(0, PREFIXES)))
            measured[f"{name}, {subject.case.name}"], measured[f"{name}, {subject.case.name}, float64"] = found
            passed &= found[0] <= NATIVE and found[1] <= DOUBLE
    if not gate:
        torch.manual_seed(0)
        large = GPT(GPTSettings(layers=6, heads=6, width=384), Tokens(65, 256)).eval()
        found = gaps(large)
        measured["gpt of 10.7 M, stream"], measured["gpt of 10.7 M, stream, float64"] = found
        passed &= found[0] <= NATIVE and found[1] <= DOUBLE
    return Outcome(measured, {name: f"≤ {DOUBLE if name.endswith('float64') else NATIVE:g}" for name in measured}, passed)
