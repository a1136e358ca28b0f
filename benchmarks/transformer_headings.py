"""Summaries: the heading of a WikiText-2 section from its first paragraph, by an encoder-decoder from scratch.

Protocol: 5,055 sections for training, 539 for the test (`wikitext-headings`), words of WikiText-2 as they are published, of
a paragraph at most 150. The preset "small" with dropout 0.3, greedy answers, ROUGE-1, ROUGE-2 and ROUGE-L (mean F-measure of
words in small letters, without stemming) on the whole test part; nothing is chosen on it. Beside it stand the first n words
of the paragraph, n being what a heading of the training part has on average and the n that is best on the validation part,
and the commonest heading of the training part given every time, which knows nothing of the paragraph.

So few sections cannot teach a network to read: what is within reach is the kind of section ("History", "Reception"). The
title of an article stands in its first words, which a lead copies and this network has no means to. The report says which
side wins each figure. Goal after thirty minutes: ROUGE-1 above the better of the two leads (13.6); the gate trains for six
minutes and has to be 5 points above the commonest heading (1.9), which only a network that looks at the paragraph is.
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor

from benchmarks import Outcome
from pieria.evaluation.pairs import rouge
from pieria.forms import Tokens
from pieria.modalities.opening import Dataset, open_data
from pieria.models.transformer import Transformer, TransformerSettings
from pieria.noise import seeded
from pieria.sampling.answering import answers
from pieria.training.loop import History, learn
from pieria.training.plan import Plan

SECONDS = {True: 360.0, False: 1800.0}
ABOVE = 5.0  # points of ROUGE-1 by which the gate is to be above the commonest heading
MOST, SHOWN = 20, 5  # words of a lead that are tried, answers that are shown


def learned(dataset: Dataset, seconds: float) -> tuple[Transformer, History]:
    """The preset's model after so many seconds of training."""
    with seeded(0, "weights"):
        chosen = TransformerSettings.of({**Transformer.presets["small"], "dropout": 0.3})
        model = Transformer(chosen, dataset.form, dataset.condition)
    plan = Plan.layered(
        Transformer.training_defaults,
        {"batch": 32, "rate": 1e-3, "seconds": seconds, "threads": 2, "patience": 0, "evaluate_every": 0},
    )
    history = learn(model, dataset.examples("train"), None, plan)
    return model.eval(), history


def headed(model: Transformer, dataset: Dataset, part: str) -> list[str]:
    """What the model writes for each paragraph of a part."""
    asked = dataset.examples(part).batch(range(len(dataset.parts[part]))).condition
    assert isinstance(asked, Tensor)
    assert isinstance(dataset.condition, Tokens)
    with torch.inference_mode():
        return list(dataset.modality.decode(answers(model, dataset.condition, asked)))


def sides(dataset: Dataset, part: str) -> tuple[list[str], list[str]]:
    """The paragraphs and the headings of a part."""
    collection = dataset.parts[part]
    assert collection.prompts is not None
    return [str(prompt) for prompt in collection.prompts], [str(heading) for heading in collection.artifacts]


def lead(paragraphs: list[str], words: int) -> list[str]:
    """The first words of each."""
    return [" ".join(paragraph.split()[:words]) for paragraph in paragraphs]


def measure(gate: bool) -> Outcome:
    dataset = open_data("wikitext-headings", settings={"pairs": "apart"})
    model, history = learned(dataset, SECONDS[gate])
    paragraphs, wanted = sides(dataset, "test")
    held, held_wanted = sides(dataset, "validation")
    _, headings = sides(dataset, "train")
    usual = round(sum(len(heading.split()) for heading in headings) / len(headings))
    best = max(range(1, MOST + 1), key=lambda n: rouge(lead(held, n), held_wanted)["ROUGE-1"])
    ((common, _),) = Counter(headings).most_common(1)
    said = headed(model, dataset, "test")
    network = rouge(said, wanted)
    beside = {
        f"the first {usual} words": rouge(lead(paragraphs, usual), wanted),
        f"the first {best} words": rouge(lead(paragraphs, best), wanted),
        f"“{common}” every time": rouge([common] * len(wanted), wanted),
    }
    measured: dict[str, Any] = {name: round(value, 2) for name, value in network.items()}
    wins = []
    for rival, figures in beside.items():
        measured |= {f"{name}, {rival}": round(value, 2) for name, value in figures.items()}
        won = [name for name, value in network.items() if value > figures[name]]
        wins.append(f"against {rival} the network wins {', '.join(won) or 'nothing'}")
    measured |= {
        "word for word": round(sum(a == b for a, b in zip(said, wanted, strict=True)) / len(wanted), 4),
        "different answers": len(set(said)),
        "steps": history.steps,
        "epochs": round(history.steps * 32 / len(headings), 1),
        "training seconds": round(history.seconds, 1),
    }
    leads = [figures["ROUGE-1"] for rival, figures in beside.items() if rival.startswith("the first")]
    least = beside[f"“{common}” every time"]["ROUGE-1"] + ABOVE if gate else max(leads)
    shown = range(0, len(said), len(said) // SHOWN)
    return Outcome(
        measured=measured,
        goal={"ROUGE-1": f"> {least:.2f}, " + ("the commonest heading and 5" if gate else "the better lead")},
        passed=network["ROUGE-1"] > least,
        notes=[
            f"preset small, {sum(p.numel() for p in model.parameters()):,} parameters; {usual} words are what a heading has "
            f"on average, {best} the best lead of the validation part",
            *wins,
            *[f"{paragraphs[place][:90]} … → {said[place]} (heading: {wanted[place]})" for place in shown],
        ],
    )
