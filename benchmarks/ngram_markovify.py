"""n-gram against markovify: sentences a second and memory on the Penn Treebank, state of two words.

Both sides read the same 42,068 sentences, look two words back (order 3), and make strings. markovify's own test for copied
sentences is off, since it is many times slower. Memory is that of a process that builds the model and draws 1,000 sentences:
its peak, and how much of that came after the imports and the text (the compared figure: importing torch is not the model's).
"""

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sized
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import Outcome, alternate

if TYPE_CHECKING:
    from pieria.models.ngram import Ngram


TOGETHER = 16_384  # sentences drawn at once: each step's fixed cost is shared


def ours(lines: list[str], vocabulary: list[str]) -> "tuple[Ngram, list[str]]":
    """The model and its vocabulary."""
    from benchmarks.ngram_ptb import encoded
    from pieria.data.batch import Batch
    from pieria.forms import Tokens
    from pieria.models.ngram import Ngram, NgramSettings

    codes = {word: code for code, word in enumerate(vocabulary)}
    longest = max(len(line.split()) for line in lines) + 1
    model = Ngram(NgramSettings(order=3), Tokens(len(vocabulary), longest, end=0))
    model.estimate(lambda: (Batch(encoded(lines[row : row + 4096], codes)) for row in range(0, len(lines), 4096)))
    return model, vocabulary


def draw_ours(made: "tuple[Ngram, list[str]]", count: int, seed: int = 0) -> list[str]:
    """``count`` sentences as strings."""
    from pieria.noise import ItemNoise
    from pieria.sampling.decoding import Decoding

    model, vocabulary = made
    words, found = np.array(vocabulary, dtype=object), []
    for first in range(0, count, TOGETHER):
        some = min(TOGETHER, count - first)
        drawn = model.sample(some, Decoding(), ItemNoise(seed, some, first=first)).numpy()
        drawn[:, -1] = 0  # what fills all places ends there
        real = (drawn != 0).cumprod(axis=1, dtype=bool)
        lengths = np.cumsum(real.sum(axis=1))
        text = words[drawn[real]].tolist()
        begins = [0, *lengths.tolist()]
        found += [" ".join(text[begin:end]) for begin, end in itertools.pairwise(begins)]
    return found


def theirs(lines: list[str]) -> Any:
    """markovify's model, from sentences that are cut into words already."""
    import markovify

    return markovify.Text(None, parsed_sentences=[line.split() for line in lines], state_size=2, retain_original=False)


def sentences() -> tuple[dict[str, list[str]], list[str]]:
    """The sentences of each part, and the vocabulary with ``</s>`` first; no torch, for markovify has none."""
    from pieria.data.catalogue import find

    folder = find("ptb").fetch()
    parts = {part: (folder / f"{part}.txt").read_text(encoding="utf-8").splitlines() for part in ("train", "valid", "test")}
    return parts, ["</s>", *dict.fromkeys(word for line in parts["train"] for word in line.split())]


def rate(draw: Callable[[int], Sized], count: int) -> float:
    begun = time.perf_counter()
    assert len(draw(count)) == count
    return count / (time.perf_counter() - begun)


def memory(side: str) -> dict[str, float]:
    """Megabytes in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.ngram_markovify", side], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found


def measure(gate: bool) -> Outcome:
    """The gate draws fewer sentences."""
    parts, vocabulary = sentences()
    made, other = ours(parts["train"], vocabulary), theirs(parts["train"])
    many = 16_384 if gate else 65_536
    draw_ours(made, 10)

    def draw_theirs(count: int) -> list[str]:
        return [other.make_sentence(test_output=False) for _ in range(count)]

    compared = alternate(
        lambda: rate(partial(draw_ours, made), many), lambda: rate(draw_theirs, many // 20), pairs=3 if gate else 5
    )
    mine, markovify = memory("ours"), memory("theirs")
    return Outcome(
        {
            "sentences a second, ours": compared["first"],
            "sentences a second, markovify": compared["second"],
            "ratio": compared["ratio"],
            "ratio, lowest and highest": [compared["ratio_min"], compared["ratio_max"]],
            "peak MB, ours (added)": [mine["peak"], mine["added"]],
            "peak MB, markovify (added)": [markovify["peak"], markovify["added"]],
        },
        {"ratio": "≥ 20", "peak MB, ours (added)": "the whole process's not above markovify's"},
        compared["ratio"] >= 20 and mine["peak"] <= markovify["peak"],
        [
            "markovify.make_sentence(test_output=False); one thread a side",
            "importing torch alone takes more memory than all of markovify; what building and drawing add is in brackets",
        ],
    )


def peak() -> float:
    """The most megabytes that this process has held; what `resource` tells would include the parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def report(side: str) -> None:
    """What a process of its own needs for one side."""
    parts, vocabulary = sentences()
    if side == "ours":
        import pieria.models.ngram  # noqa: F401
    else:
        import markovify  # noqa: F401
    before = peak()
    if side == "ours":
        draw_ours(ours(parts["train"], vocabulary), 1000)
    else:
        model = theirs(parts["train"])
        for _ in range(1000):
            model.make_sentence(test_output=False)
    print(json.dumps({"peak": round(peak(), 1), "added": round(peak() - before, 1)}))


if __name__ == "__main__":
    report(sys.argv[1])
