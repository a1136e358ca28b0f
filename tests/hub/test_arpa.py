"""ARPA files: what one says is what the run says, both ways; a damaged one is refused by its line."""

import gzip
import itertools
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

import pieria
from pieria.data.batch import Batch, mask_after_end
from pieria.data.examples import StreamExamples
from pieria.errors import DataError, UsageError
from pieria.forms import Tokens
from pieria.hub import arpa
from pieria.layers.backoff import Stated
from pieria.models.ngram import Ngram, NgramSettings
from pieria.models.weights import load, save
from pieria.noise import ItemNoise
from pieria.sampling.decoding import Decoding

# 'a b' is less likely than backing off from 'a' would make it, so this law is no mixture
BY_HAND = r"""
\data\
ngram 1=5
ngram 2=4

\1-grams:
-99	<s>	-0.3010300
-1.0	<unk>
-0.6989700	</s>
-0.3979400	a	-0.2218487
-0.5228787	b	0

\2-grams:
-0.2218487	<s> a
-1.3979400	a b
-0.5228787	a </s>
-0.2218487	b </s>

\end\
"""


def written(folder: Path, text: str, name: str = "law.arpa") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["law.arpa", "law.arpa.gz"])
def test_scores_are_those_worked_out_by_hand(tmp_path: Path, name: str) -> None:
    run = pieria.import_model(written(tmp_path, BY_HAND, name), out=tmp_path / "run", tokenizer="word")
    a, b, unk, end = range(4)
    assert run.modality.strings() == ["a", "b", "<unk>", "⏎"]
    # log10: <s> a | a b | b </s>;  back off from <s> to b, b </s>;  a, then an unknown word, then back off from nothing
    wanted = {
        (a, b, end): [-0.2218487, -1.39794, -0.2218487],
        (b, end, end): [-0.30103 - 0.5228787, -0.2218487],
        (a, unk, end): [-0.2218487, -0.2218487 - 1.0, -0.69897],
        (a, a, end): [-0.2218487, -0.2218487 - 0.39794, -0.5228787],
    }
    x = torch.tensor(list(wanted))
    found = run.model.symbol_log_prob(Batch(x, mask=mask_after_end(x, end))) / math.log(10)
    for row, logs in zip(found.tolist(), wanted.values(), strict=True):
        assert row[: len(logs)] == pytest.approx(logs, abs=1e-9)
    assert run.modality.encode(["a zzz"])[0, :3].tolist() == [a, unk, end]
    again = pieria.load(tmp_path / "run")
    assert torch.equal(again.model.log_prob(Batch(x)), run.model.log_prob(Batch(x)))
    assert run.record["imported"]["format"] == "ARPA"
    assert len(run.sample(3, seed=1)) == 3
    with pytest.raises(DataError, match="names no data"):
        run.evaluate()


def test_samples_of_a_law_that_is_no_mixture_follow_its_logits(tmp_path: Path) -> None:
    run = pieria.import_model(written(tmp_path, BY_HAND), out=tmp_path / "run", tokenizer="word")
    model = run.model
    drawn = model.sample(5_000, Decoding(length=1), ItemNoise(0, 5_000))[:, 0]
    law = model.logits(torch.tensor([[model.form.begin]]))[0, -1].exp()
    seen = torch.bincount(drawn, minlength=4)
    assert chisquare(seen.numpy(), (law / law.sum() * 5_000).numpy()).pvalue > 1e-3


def fitted(order: int, smoothing: str, end: int | None, seed: int = 0) -> Ngram:
    form = Tokens(vocabulary=5, length=8, end=end)
    model = Ngram(NgramSettings(order=order, smoothing=smoothing), form)
    symbols = np.random.default_rng(seed).choice(5, size=(80, 8), p=[0.1, 0.4, 0.3, 0.15, 0.05])
    if end is None:
        examples = StreamExamples(form, symbols.reshape(-1))
        model.estimate(lambda: examples.sweep(7, context=model.reach))
    else:
        x = torch.from_numpy(symbols)
        model.estimate(lambda: [Batch(torch.where((x == end).cumsum(1) > 0, end, x))])
    return model


def by_back_off(path: Path) -> tuple[dict[tuple[str, ...], float], dict[tuple[str, ...], float]]:
    """A second, plain reading of the format."""
    logs, left = {}, {}
    for line in path.read_text().splitlines():
        fields = line.split("\t")
        if len(fields) > 1:
            words = tuple(fields[1].split(" "))
            logs[words], left[words] = float(fields[0]), float(fields[2]) if len(fields) > 2 else 0.0
    return logs, left


@pytest.mark.parametrize(("order", "smoothing"), [(1, "add-k"), (2, "witten-bell"), (3, "kneser-ney"), (5, "kneser-ney")])
@pytest.mark.parametrize("end", [4, None], ids=["items", "stream"])
def test_what_is_written_is_the_model(tmp_path: Path, order: int, smoothing: str, end: int | None) -> None:
    model = fitted(order, smoothing, end)
    words = ["a", "b", "c", "d", *(["</s>"] if end is not None else ["e"])]
    arpa.write(arpa.Arpa(words, model.told()), tmp_path / "law.arpa")
    logs, left = by_back_off(tmp_path / "law.arpa")

    def law(history: tuple[str, ...], word: str) -> float:
        if (*history, word) in logs:
            return logs[*history, word]
        return left.get(history, 0.0) + law(history[1:], word)

    draw = random.Random(0)
    for _ in range(40):
        symbols = [draw.randrange(4 if end is not None else 5) for _ in range(6)]
        ours = model.symbol_log_prob(Batch(torch.tensor([symbols])))[0] / math.log(10)
        read = ["<s>", *(words[symbol] for symbol in symbols)]
        for place, found in enumerate(ours.tolist()):
            history = tuple(read[max(0, place + 2 - order) : place + 1])
            assert law(history, read[place + 1]) == pytest.approx(found, abs=1e-5)
    back = arpa.read(tmp_path / "law.arpa")
    assert back.words == words
    given = Ngram(NgramSettings(order=order, smoothing="given"), model.form)
    given.give(back.orders)
    save(given, tmp_path / "model.safetensors")
    x = torch.tensor(list(itertools.product(range(5), repeat=4))[::7])
    for one in (given, load(tmp_path / "model.safetensors")):
        torch.testing.assert_close(one.symbol_log_prob(Batch(x)), model.symbol_log_prob(Batch(x)), rtol=0, atol=2e-6)
    torch.testing.assert_close(given.logits(x), model.logits(x), rtol=0, atol=2e-6)
    assert given._walks()  # drawn order by order, as a counted law is
    drawn = given.sample(4_000, Decoding(length=2), ItemNoise(3, 4_000))
    pairs = torch.tensor([pair for pair in itertools.product(range(5), repeat=2) if end is None or pair[0] != end])
    seen = (drawn[:, None] == pairs).all(dim=-1).sum(dim=0)
    expected = model.log_prob(Batch(pairs, mask=torch.ones_like(pairs, dtype=torch.bool))).exp()
    assert chisquare(seen.numpy(), (expected / expected.sum() * seen.sum()).numpy()).pvalue > 1e-3
    assert all(np.array_equal(a.keys, b.keys) for a, b in zip(given.told(), model.told(), strict=True))


def test_a_given_law_cannot_be_counted_on(tmp_path: Path) -> None:
    del tmp_path
    given = Ngram(NgramSettings(order=1, smoothing="given"), Tokens(3, 4))
    with pytest.raises(UsageError, match="asked to count"):
        given.estimate(lambda: [Batch(torch.tensor([[1, 2, 0, 0]]))])
    with pytest.raises(UsageError, match="orders"):
        given.give([Stated(np.arange(4), np.zeros(4, np.int32), np.zeros(4), np.zeros(4))] * 2)
    with pytest.raises(UsageError, match="add-k"):
        fitted(2, "add-k", None).told()


def test_characters_have_names_and_come_back(tmp_path: Path) -> None:
    (tmp_path / "novel.txt").write_text("to be or not to be,\tthat\nis the question\n" * 400)
    run = pieria.fit(tmp_path / "novel.txt", model="ngram", preset="tiny", out=tmp_path / "run", quiet=True)
    assert run.export("arpa", tmp_path / "law.arpa.gz") == []
    back = pieria.import_model(tmp_path / "law.arpa.gz", out=tmp_path / "back", data=tmp_path / "novel.txt")
    text = "not that,\tto be"
    ours, theirs = (
        one.model.symbol_log_prob(Batch(one.modality.encode([text]))) for one in (run, back)
    )  # symbols are numbered as the file has them, and mean the same
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert back.modality.decode(back.modality.encode([text])) == [text]
    assert back.model.form.end is None
    assert any(figure["name"] == "perplexity" or "nats" in figure["unit"] for figure in back.evaluate(count=20).to_json())


def test_a_pruned_file_is_read_as_backing_off_says(tmp_path: Path) -> None:
    pruned = BY_HAND.replace("ngram 2=4", "ngram 2=4\nngram 3=1").replace("\\end\\", "\\3-grams:\n-0.1\t<s> a a\n\n\\end\\")
    law = arpa.read(written(tmp_path, pruned))
    # 'a a' is not listed, and is what 'a' leaves to the unigram
    place = law.orders[1].keys.tolist().index(0 * 5 + 0)
    assert law.orders[1].log10[place] == pytest.approx(-0.2218487 - 0.39794)
    assert law.orders[2].log10.tolist() == [-0.1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("\\data\\", "data"), "line 2: 'data'"),
        (("ngram 2=4", "ngram 3=4"), "line 4: 'ngram 3=4'"),
        (("ngram 1=5", "ngram 1=x"), "line 3"),
        (("ngram 1=5", "ngram 1=6"), "line 13: .*6 n-grams of order 1, as announced, and not 5"),
        (("ngram 1=5", "ngram 1=4"), "line 11: .*\\\\2-grams: after the 4"),
        (("ngram 2=4", "ngram 2=5"), "line 19: .*5 n-grams of order 2"),
        (("\\2-grams:", ""), "line 14"),
        (("\\end\\", ""), "the file ends"),
        (("-1.0\t<unk>", "nan\t<unk>"), "line 8: 'nan'"),
        (("-1.0\t<unk>", "0.5\t<unk>"), "line 8: '0.5'.*0 or below"),
        (("b\t0", "b\t-inf"), "line 11: '-inf' as log10 of a back-off"),
        (("-1.0\t<unk>", "-1.0\ta"), "line 10: 'a' a second time"),
        (("a b", "a c"), "line 15: the word 'c'"),
        (("a b", "a </s>"), "line 16: an n-gram a second time"),
        (("a b", "</s> b"), "line 15: '</s> b'"),
        (("a b", "a b c d"), "line 15: 5 fields"),
        (("-1.3979400\ta b", "-1.3979400\ta b\t-0.1"), "line 15: 4 fields"),
    ],
)
def test_a_damaged_file_is_refused_by_its_line(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    path = written(tmp_path, BY_HAND.replace(*change, 1))
    with pytest.raises(DataError, match=said):
        pieria.import_model(path, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_history_must_be_listed(tmp_path: Path) -> None:
    text = BY_HAND.replace("ngram 2=4", "ngram 2=4\nngram 3=1").replace("\\end\\", "\\3-grams:\n-0.1\tb a b\n\n\\end\\")
    with pytest.raises(DataError, match="line 21: an n-gram whose history"):
        arpa.read(written(tmp_path, text))


def test_what_is_no_text_and_what_is_cut_short_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.gz").write_bytes(gzip.compress(BY_HAND.encode())[:-20])
    (tmp_path / "bytes").write_bytes(BY_HAND.encode().replace(b"\ta\t", b"\t\xff\xfe\t"))
    for name, said in (("cut.gz", "cannot be read"), ("bytes", "line 10: bytes that are not UTF-8")):
        with pytest.raises(DataError, match=said):
            arpa.read(tmp_path / name)


def test_only_ngrams_of_words_and_characters_go_to_arpa(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\n".join(["<s> emma", "<s> olivia", "<s> ava"] * 9) + "\n")
    run = pieria.fit(
        tmp_path / "names.txt", model="ngram", out=tmp_path / "bytes", settings={"tokenizer": "byte"}, quiet=True
    )
    with pytest.raises(UsageError, match="words or characters"):
        run.export("arpa", tmp_path / "x.arpa")
    run = pieria.fit(
        tmp_path / "names.txt", model="ngram", out=tmp_path / "words", settings={"tokenizer": "word"}, quiet=True
    )
    with pytest.raises(DataError, match="'<s>'"):
        run.export("arpa", tmp_path / "x.arpa")
    with pytest.raises(UsageError, match="Did you mean 'arpa'"):
        run.export("arpaa", tmp_path / "x.arpa")
    assert not (tmp_path / "x.arpa").exists()
