"""Few-shot translation: the same GPT asked with 0, 1 and 4 examples in its prompt, which alone say into what language.

Protocol: the 29,000 captions of Multi30k's training part with their German and their French (task 1, raw) are one stream of
pairs: a caption, a line break, its translation, a blank line. Runs of eight pairs are of one language, drawn by a seed, and
nothing but the pairs themselves names it. A window of 320 byte pairs holds some seven, so in training nearly every caption
stands behind examples. Then the first 200 captions of flickr 2016 are asked for behind 0, 1 and 4 pairs of the training
part, German ones and French ones; five sets of examples (of at most 80 characters a side, so that all of them fit) take
turns, and the most probable symbol is taken at each step, 64 of them at most. BLEU and chrF are sacrebleu's defaults on
detokenised text, one reference. Beside them stand the caption copied, and how often an answer is nearer (by chrF) to the
reference of the language that was shown than to the other one.

What this shows, and what not: the weights know both languages from 29,000 pairs each, so the examples do not teach it to
translate: they tell it what is asked (Xie et al. 2022, arXiv 2111.02080, call that locating a task). Without examples it
can only guess the language. Small and trained for minutes, it translates far worse than an encoder-decoder of an hour. There
are no pre-trained weights behind it. Goals: with 4 examples a chrF at least 8 above that without (3 in the gate), German and
French on average, above the caption copied, and at least 90 % of the answers in the language that was shown; the gate trains
for five minutes (with a width of 192), the whole for fifty.
"""

import random
from time import perf_counter
from typing import Any

import torch

from benchmarks import Outcome
from pieria.modalities.contract import Collection
from pieria.modalities.documents import BETWEEN, joined
from pieria.modalities.opening import open_data
from pieria.modalities.text import Text, TextSettings
from pieria.models.gpt import GPT, GPTSettings
from pieria.noise import seeded
from pieria.sampling.decoding import Decoding
from pieria.shots import Shots
from pieria.training.loop import History, learn
from pieria.training.plan import Plan

LANGUAGES = {"German": "multi30k", "French": "multi30k-fr"}
READING = {"items": "stream", "tokenizer": "bpe", "vocabulary": 4000, "length": 320}
TOGETHER = 8  # pairs of one language that stand together
SECONDS = {True: 300.0, False: 3000.0}
SHOTS, SETS, TESTED, SHOWN = (0, 1, 4), 5, 200, 2
SHORT, LENGTH = 80, 64  # characters of an example's side, symbols of an answer
GAINED, RIGHT = {True: 3.0, False: 8.0}, 0.9
WIDTH = {True: 192, False: 256}  # in a few minutes fewer numbers learn more
BATCH = 16

Pair = tuple[str, str]


def pairs_of(name: str, part: str) -> list[Pair]:
    """The captions of a part with their translations."""
    collection = open_data(name, settings={"pairs": "apart"}).parts[part]
    assert collection.prompts is not None
    return list(zip(collection.prompts, collection.artifacts, strict=True))


def stream(languages: list[list[Pair]]) -> str:
    """All pairs as one text: each language in an order of its own, dealt out in runs, the runs shuffled together."""
    generator = random.Random(0)
    runs = []
    for pairs in languages:
        order = generator.sample(pairs, len(pairs))
        runs += [order[place : place + TOGETHER] for place in range(0, len(order), TOGETHER)]
    generator.shuffle(runs)
    return BETWEEN.join(joined(pair) for run in runs for pair in run) + "\n"


def learned(text: str, seconds: float, width: int) -> tuple[GPT, Text, History]:
    """A small GPT after so many seconds, and how it reads."""
    modality = Text(TextSettings.of(READING))
    collection = Collection([text], stream=True)
    modality.learn(collection)
    with seeded(0, "weights"):
        model = GPT(GPTSettings.of({**GPT.presets["small"], "width": width}), modality.form)
    plan = Plan.layered(
        GPT.training_defaults, {"batch": BATCH, "seconds": seconds, "threads": 2, "patience": 0, "evaluate_every": 0}
    )
    history = learn(model, modality.examples(collection), None, plan)
    return model.eval(), modality, history


def answers(model: GPT, modality: Text, asked: list[str], train: list[Pair], shots: int) -> tuple[list[str], int]:
    """What it writes behind so many examples, caption i behind those of set i mod 5; and the fewest that stood there."""
    said, fewest = [""] * len(asked), shots
    short = [pair for pair in train if max(map(len, pair)) <= SHORT]
    for number in range(SETS):
        places = range(number, len(asked), SETS)
        examples = random.Random(f"shots {number}").sample(short, shots)
        few = Shots(model, modality, examples, Decoding(temperature=0.0, length=LENGTH))
        for place, text in zip(places, few.answers([asked[place] for place in places]), strict=True):
            said[place] = text
        fewest = min(fewest, *few.used)
    return said, fewest


def measure(gate: bool) -> Outcome:
    from sacrebleu.metrics import BLEU, CHRF

    train = {language: pairs_of(name, "train") for language, name in LANGUAGES.items()}
    test = {language: pairs_of(name, "test")[:TESTED] for language, name in LANGUAGES.items()}
    model, modality, history = learned(stream(list(train.values())), SECONDS[gate], WIDTH[gate])
    begun = perf_counter()
    bleu, chrf = BLEU(), CHRF()
    measured: dict[str, Any] = {}
    notes = []
    means = dict.fromkeys(SHOTS, 0.0)
    right, copied = [], 0.0
    for language, pairs in test.items():
        asked, wanted = [list(side) for side in zip(*pairs, strict=True)]
        (other,) = [[b for _, b in test[name]] for name in test if name != language]
        for shots in SHOTS:
            with torch.inference_mode():
                said, fewest = answers(model, modality, asked, train[language], shots)
            score = chrf.corpus_score(said, [wanted]).score
            means[shots] += score / len(test)
            nearer = [
                chrf.sentence_score(a, [b]).score > chrf.sentence_score(a, [c]).score
                for a, b, c in zip(said, wanted, other, strict=True)
            ]
            name = f"{language}, {shots} examples"
            measured[f"{name}: BLEU"] = round(bleu.corpus_score(said, [wanted]).score, 2)
            measured[f"{name}: chrF"] = round(score, 2)
            measured[f"{name}: nearer to {language}"] = round(sum(nearer) / len(nearer), 3)
            if shots == max(SHOTS):
                right += nearer
                measured[f"{name}: fewest that fitted"] = fewest
            notes += [f"{name}: {a} → {b} (reference: {c})" for a, b, c in zip(asked[:SHOWN], said, wanted, strict=False)]
        copy = chrf.corpus_score(asked, [wanted]).score
        measured[f"{language}, the caption copied: chrF"] = round(copy, 2)
        copied += copy / len(test)
    gained = means[max(SHOTS)] - means[0]
    share = sum(right) / len(right)
    measured |= {
        "chrF gained by 4 examples": round(gained, 2),
        "chrF above the caption copied": round(means[max(SHOTS)] - copied, 2),
        "in the language that was shown": round(share, 3),
        "seconds of answering": round(perf_counter() - begun, 1),
        "steps": history.steps,
        "training seconds": round(history.seconds, 1),
    }
    return Outcome(
        measured=measured,
        goal={
            "chrF gained by 4 examples": f"≥ {GAINED[gate]:g}",
            "chrF above the caption copied": "> 0",
            "in the language that was shown": f"≥ {RIGHT:g}",
        },
        passed=gained >= GAINED[gate] and means[max(SHOTS)] > copied and share >= RIGHT,
        notes=[f"4 layers of width {WIDTH[gate]}, {sum(p.numel() for p in model.parameters()):,} parameters", *notes],
    )
