"""n-gram, characters: tinyshakespeare at order 7 on the last tenth, and names at order 6, in nats a character.

Protocol: tinyshakespeare: the first 90 % as one stream, the whole last 10 % (111,540 characters, 65 symbols) scored with the
true history. Names: makemore's split (seed 3407, ``randperm``, last 1,000 for the test), 7,166 predictions with the stop.
Goals: KenLM 4cb443e reaches 1.5167 and 1.9373.
"""

import numpy as np
import torch

from benchmarks import Outcome
from pieria.data.batch import Batch, mask_after_end
from pieria.data.examples import StreamExamples
from pieria.forms import Tokens
from pieria.models.ngram import Ngram, NgramSettings


def shakespeare(order: int) -> tuple[float, int]:
    """Nats a character of the last tenth, and how many characters that is."""
    from pieria.data.catalogue import find

    text = (find("tinyshakespeare").fetch() / "input.txt").read_text(encoding="utf-8")
    codes = {symbol: code for code, symbol in enumerate(sorted(set(text)))}
    stream = np.array([codes[symbol] for symbol in text])
    cut = int(0.9 * len(stream))
    form = Tokens(len(codes), 256)
    model = Ngram(NgramSettings(order=order), form)
    train, test = StreamExamples(form, stream[:cut]), StreamExamples(form, stream[cut:])
    model.estimate(lambda: train.sweep(512, context=model.reach))
    total = sum(float(model.log_prob(batch).sum()) for batch in test.sweep(512, context=model.reach))
    return -total / test.scored(), test.scored()


def names(order: int) -> tuple[float, int]:
    """Nats a prediction of makemore's test names, and how many predictions."""
    from pieria.data.catalogue import find

    words = (find("names").fetch() / "names.txt").read_text(encoding="utf-8").split()
    mixed = [words[place] for place in torch.randperm(len(words), generator=torch.Generator().manual_seed(3407)).tolist()]
    rows = [torch.tensor([*(ord(letter) - 96 for letter in word), 0]) for word in mixed]
    x = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    model = Ngram(NgramSettings(order=order), Tokens(27, x.shape[1], end=0))
    model.estimate(lambda: [Batch(x[:-1000])])
    count = int(mask_after_end(x[-1000:], 0).sum())
    return -float(model.log_prob(Batch(x[-1000:])).sum()) / count, count


def measure(gate: bool) -> Outcome:
    """The gate is the whole: it takes seconds."""
    del gate
    play, characters = shakespeare(7)
    name, predictions = names(6)
    return Outcome(
        {
            "tinyshakespeare, order 7, nats/char": round(play, 4),
            "characters scored": characters,
            "names, order 6, nats/char": round(name, 4),
            "names, predictions": predictions,
        },
        {
            "tinyshakespeare, order 7, nats/char": "≤ 1.517",
            "characters scored": 111_540,
            "names, order 6, nats/char": "≤ 1.938",
            "names, predictions": 7_166,
        },
        play <= 1.517 and name <= 1.938 and characters == 111_540 and predictions == 7_166,
    )
