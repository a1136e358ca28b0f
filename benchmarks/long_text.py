"""A text of many windows, with and without the guard against repeats.

Protocol: a GPT (4 layers, width 128, windows of 128 characters) learns tinyshakespeare; then `Run.compose` writes five
sections of 1,000 characters under headings, in the style "readable" and at temperature 0, where small models run in circles;
each with its guard and without. Measured: distinct-4 (the share of different runs of 4 words) and the longest run of
characters that stands twice. Goals: with the guard no run over 72 characters (three times what may stand twice for nothing),
readable texts with a distinct-4 of at least 0.95, greedy ones with a higher one than without the guard. The gate learns for
100 steps, the whole for 1,500.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch

import pieria
from benchmarks import Outcome
from pieria.sampling.outlines import distinct, longest_repeated_run

HEADINGS = ["ROMEO:", "JULIET:", "First Citizen:", "KING RICHARD II:", "QUEEN MARGARET:"]
LENGTH, SEEDS = 1000, 3
STYLES: dict[str, dict[str, Any]] = {"readable": {"style": "readable"}, "greedy": {"temperature": 0}}
GUARDS: dict[str, dict[str, Any]] = {"guarded": {}, "unguarded": {"no_repeat": 100_000}}


def figures(texts: list[str], run: Any) -> tuple[int, float]:
    """The longest repeated run of characters (the most of all texts) and the mean distinct-4 of words."""
    runs = max(longest_repeated_run(run.modality.beginning(text)) for text in texts)
    shares = []
    for text in texts:
        codes = {word: code for code, word in enumerate(sorted(set(text.split())))}
        shares.append(distinct(torch.tensor([codes[word] for word in text.split()]), 4))
    return runs, sum(shares) / len(shares)


def measure(gate: bool) -> Outcome:
    steps, seeds = (100, 1) if gate else (1500, SEEDS)
    with tempfile.TemporaryDirectory() as folder:
        settings = {"width": 128, "batch": 16, "warmup": 20}
        run = pieria.fit("tinyshakespeare", "gpt", steps=steps, settings=settings, out=Path(folder) / "run", quiet=True)
        assert run is not None
        measured: dict[str, Any] = {}
        for style, options in STYLES.items():
            for guard, extra in GUARDS.items():
                texts = [run.compose(HEADINGS, seed=seed, length=LENGTH, **options, **extra)[0] for seed in range(seeds)]
                longest, share = figures(texts, run)
                measured[f"longest repeated run, {style}, {guard}"] = longest
                measured[f"distinct-4, {style}, {guard}"] = round(share, 4)
    goal = {f"longest repeated run, {style}, guarded": "≤ 72" for style in STYLES}
    goal |= {"distinct-4, readable, guarded": "≥ 0.95", "distinct-4, greedy, guarded": "> unguarded"}
    passed = all(measured[f"longest repeated run, {style}, guarded"] <= 72 for style in STYLES)
    passed &= measured["distinct-4, readable, guarded"] >= 0.95
    passed &= measured["distinct-4, greedy, guarded"] > measured["distinct-4, greedy, unguarded"]
    return Outcome(measured, goal, passed)
