"""n-gram, Penn Treebank words: test perplexity with modified Kneser-Ney at orders 2 to 6, and its speed.

Protocol: Mikolov's split, one sentence a line, the closed vocabulary of the training part, ``<unk>`` an ordinary word in it,
``</s>`` predicted after each line (82,430 predictions), perplexity a prediction. Goals: KenLM 4cb443e, unpruned.
"""

import math
import time

import torch
from torch import Tensor

from benchmarks import Outcome
from benchmarks.ngram_markovify import sentences
from pieria.data.batch import Batch, mask_after_end
from pieria.forms import Tokens
from pieria.models.ngram import Ngram, NgramSettings

KENLM = {2: 185.70, 3: 148.28, 4: 142.72, 5: 141.19, 6: 140.84}


def encoded(lines: list[str], codes: dict[str, int]) -> Tensor:
    """Sentences as long ``[sentence, time]``, each ended and padded with 0."""
    rows = [torch.tensor([*(codes[word] for word in line.split()), 0]) for line in lines]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def measure(gate: bool) -> Outcome:
    """The gate is the whole: it takes seconds."""
    del gate
    parts, vocabulary = sentences()
    codes = {word: code for code, word in enumerate(vocabulary)}
    train, test = encoded(parts["train"], codes), encoded(parts["test"], codes)
    mask = mask_after_end(test, 0)
    measured: dict[str, float] = {"predictions": int(mask.sum())}
    slowest = 0.0
    for order in KENLM:
        begun = time.perf_counter()
        model = Ngram(NgramSettings(order=order), Tokens(len(vocabulary), train.shape[1], end=0))
        model.estimate(lambda: (Batch(rows) for rows in train.split(4096)))
        log = model.symbol_log_prob(Batch(test, mask=mask))
        slowest = max(slowest, time.perf_counter() - begun)
        measured[f"perplexity, order {order}"] = round(math.exp(-float(log.sum() / mask.sum())), 3)
        if order == 5:
            known = mask_after_end(train, 0)
            begun = time.perf_counter()
            model.symbol_log_prob(Batch(train, mask=known))
            measured["symbols scored a second, order 5"] = round(int(known.sum()) / (time.perf_counter() - begun))
    measured["slowest order, count and score, seconds"] = round(slowest, 2)
    near = all(abs(measured[f"perplexity, order {order}"] - figure) <= 0.05 for order, figure in KENLM.items())
    goal = {f"perplexity, order {order}": f"{figure} ± 0.05" for order, figure in KENLM.items()}
    return Outcome(
        measured,
        {**goal, "predictions": 82_430, "slowest order, count and score, seconds": "< 30"},
        near and slowest < 30 and measured["predictions"] == 82_430,
    )
