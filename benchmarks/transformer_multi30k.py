"""Translation: the encoder-decoder after an hour on two cores, English to German, Multi30k.

Protocol: 29,000 pairs of raw captions (task 1), byte pairs shared by both languages, learned from the training part; nothing
is chosen on the test. The 1,000 captions of flickr 2016 are translated by beam search, and their BLEU and chrF are
sacrebleu's with its defaults, on detokenised text with capitals, one reference. Goal: 30 BLEU in 60 minutes of training
(published text-only transformers of this size reach 35 to 41 on tokenised small letters, after GPU-hours).

The gate trains for eight minutes; its goal is what that reaches. Beside it stands the English copied.
"""

from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from benchmarks import Outcome
from pieria.forms import Tokens
from pieria.modalities.opening import Dataset, open_data
from pieria.models.transformer import Transformer, TransformerSettings
from pieria.noise import seeded
from pieria.sampling.answering import answers
from pieria.training.loop import History, learn
from pieria.training.plan import Plan

PRESET = "multi30k"
SECONDS = {True: 480.0, False: 3600.0}
GOAL = {True: 22.0, False: 30.0}
BEAMS = 5
SHOWN = 3


def learned(dataset: Dataset, seconds: float, **changes: Any) -> tuple[Transformer, History]:
    """The preset's model after so many seconds of training."""
    values = {**Transformer.presets[PRESET], **changes}
    with seeded(0, "weights"):
        chosen = {name: value for name, value in values.items() if name in TransformerSettings.model_fields}
        model = Transformer(TransformerSettings.of(chosen), dataset.form, dataset.condition)
    plan = Plan.layered(
        Transformer.training_defaults,
        {name: value for name, value in values.items() if name in Plan.model_fields},
        {"seconds": seconds, "threads": 2, "patience": 0, "evaluate_every": 0},
    )
    history = learn(model, dataset.examples("train"), None, plan)
    return model.eval(), history


def translated(model: Transformer, dataset: Dataset, part: str, beams: int) -> list[str]:
    """What the model writes for each prompt of a part."""
    asked = dataset.examples(part).batch(range(len(dataset.parts[part]))).condition
    assert isinstance(asked, Tensor)
    assert isinstance(dataset.condition, Tokens)
    with torch.inference_mode():
        return list(dataset.modality.decode(answers(model, dataset.condition, asked, beams=beams)))


def measure(gate: bool) -> Outcome:
    from sacrebleu.metrics import BLEU, CHRF

    dataset = open_data("multi30k", settings={"pairs": "apart"})
    # eight minutes are five passes, too few to need much dropout
    model, history = learned(dataset, SECONDS[gate], **({"dropout": 0.1} if gate else {}))
    begun = perf_counter()
    said, greedy = (translated(model, dataset, "test", beams) for beams in (BEAMS, 1))
    test = dataset.parts["test"]
    assert test.prompts is not None
    bleu, chrf = BLEU(), CHRF()
    score = bleu.corpus_score(said, [list(test.artifacts)])
    rows = [
        f"{source} → {text} (reference: {wanted})"
        for source, text, wanted in zip(test.prompts[:SHOWN], said, test.artifacts, strict=False)
    ]
    return Outcome(
        measured={
            "BLEU": round(score.score, 2),
            "chrF": round(chrf.corpus_score(said, [list(test.artifacts)]).score, 2),
            "BLEU of the prompt copied": round(bleu.corpus_score(list(test.prompts), [list(test.artifacts)]).score, 2),
            "BLEU, greedy": round(bleu.corpus_score(greedy, [list(test.artifacts)]).score, 2),
            "seconds of translating, both ways": round(perf_counter() - begun, 1),
            "steps": history.steps,
            "epochs": round(history.steps * Transformer.training_defaults["batch"] / len(dataset.parts["train"]), 1),
            "training seconds": round(history.seconds, 1),
        },
        goal={"BLEU": f"≥ {GOAL[gate]:g}"},
        passed=score.score >= GOAL[gate],
        notes=[
            f"preset {PRESET}, {sum(p.numel() for p in model.parameters()):,} parameters, {bleu.get_signature()!s}",
            *rows,
        ],
    )
