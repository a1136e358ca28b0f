"""LSTM, Penn Treebank words: test perplexity after half an hour on two cores, alone and mixed with a Kneser-Ney 5-gram.

Protocol: Mikolov's split as one stream, ``</s>`` after each line, the closed vocabulary of 10,000 with ``<unk>`` an ordinary
word in it; 82,430 predictions, perplexity a prediction. The network reads the training part in order (batch 20, windows of
35) and in the test goes on through the whole part with its state, as in Zaremba et al. 2014. The weights of the mixture are
learned by the family ``mix`` on validation. Goals: 110 alone, 105 mixed (KenLM's 5-gram over sentences: 141.19).
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import Outcome
from benchmarks.ngram_markovify import sentences
from benchmarks.rnn_tinyshakespeare import fitted
from pieria.data.batch import Batch
from pieria.data.examples import StreamExamples
from pieria.forms import Tokens
from pieria.models.contract import Model, ScoresSymbols
from pieria.models.mix import Mix
from pieria.models.ngram import Ngram, NgramSettings
from pieria.training.loop import learn
from pieria.training.plan import Plan

LENGTH = 35
SECONDS = {True: 400.0, False: 1900.0}
GOALS = {True: (135.0, 120.0), False: (110.0, 105.0)}
HURRIED: dict[str, object] = {"width": 320, "dropout": 0.25}  # what a few times through the text can fill


def streams() -> tuple[dict[str, np.ndarray], int]:
    """Each part as the numbers of its words, and how many words there are."""
    parts, vocabulary = sentences()
    codes = {word: code for code, word in enumerate(vocabulary)}
    said = {name: [codes[word] for line in lines for word in [*line.split(), "</s>"]] for name, lines in parts.items()}
    return {name: np.array(words, dtype=np.uint16) for name, words in said.items()}, len(vocabulary)


def perplexity(model: Model, stream: np.ndarray) -> float:
    """Of all of a part, after the symbol that every line ends with."""
    assert isinstance(model, ScoresSymbols)
    x = torch.from_numpy(stream.astype(np.int64))[None]
    with torch.inference_mode():
        scores: Tensor = model.symbol_log_prob(Batch(x, context=torch.zeros(1, 1, dtype=torch.int64)))
    return math.exp(-float(scores.double().mean()))


def measure(gate: bool) -> Outcome:
    parts, words = streams()
    form = Tokens(words, LENGTH)
    train, validation = (StreamExamples(form, parts[name]) for name in ("train", "valid"))
    model, history = fitted("ptb", train, SECONDS[gate], HURRIED if gate else {})
    ngram = Ngram(NgramSettings(order=5), form)
    ngram.estimate(lambda: train.sweep(4096, context=ngram.reach))
    mix = Mix.of([model, ngram])
    learn(mix, train, validation, Plan(threads=2))
    alone, counted, mixed = (perplexity(each, parts["test"]) for each in (model, ngram, mix))
    goal_alone, goal_mixed = GOALS[gate]
    measured: dict[str, Any] = {
        "lstm, test perplexity": round(alone, 2),
        "mixed with the 5-gram, test perplexity": round(mixed, 2),
        "5-gram, test perplexity": round(counted, 2),
        "lstm, validation perplexity": round(perplexity(model, parts["valid"]), 2),
        "weight of the lstm": round(float(mix.weights[0]), 3),
        "predictions": len(parts["test"]),
        "steps": history.steps,
        "times the text": round(history.steps * 20 * LENGTH / len(parts["train"]), 1),
        "training seconds": round(history.seconds, 1),
    }
    goal = {
        "lstm, test perplexity": f"≤ {goal_alone}",
        "mixed with the 5-gram, test perplexity": f"≤ {goal_mixed}",
        "predictions": 82_430,
    }
    passed = alone <= goal_alone and mixed <= goal_mixed and len(parts["test"]) == 82_430
    return Outcome(measured, goal, passed, [f"preset ptb, {sum(p.numel() for p in model.parameters()):,} parameters"])
