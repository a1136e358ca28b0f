"""Texts with a target: what is read, what is learned, what is refused, and the whole way from a file to a prediction."""

import json

import numpy as np
import pytest

import pieria
from pieria.errors import DataError, FormError, UsageError
from pieria.evaluation.targets import f1, nb_svm
from pieria.modalities.labelled import Labelled, LabelledSettings
from pieria.modalities.opening import open_data

GOOD, BAD = (
    ("a warm and lovely film", "gripping , funny and true", "lovely work"),
    ("dull and flat", "a dull mess", "flat jokes"),
)


@pytest.fixture
def reviews(tmp_path):
    """Eighty short reviews; the words decide."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(80):
        kind = int(generator.integers(2))
        first, second = generator.choice(GOOD if kind else BAD, 2)
        rows.append(f'"{first}, number {number}; {second}",{"good" if kind else "bad"},{4.5 * kind + number / 100:.2f}')
    path = tmp_path / "reviews.csv"
    path.write_text("review,verdict,score\n" + "\n".join(rows) + "\n")
    return path


def test_classes_and_numbers_are_told_apart(reviews):
    classes = open_data(reviews, as_="labelled", settings={"target": "verdict"})
    assert isinstance(classes.modality, Labelled)
    assert classes.modality.classes == ("bad", "good")
    assert classes.form.columns[0].levels == 2
    x = classes.modality.encode(["good", "bad"])
    assert classes.modality.decode(x) == ["good", "bad"]
    numbers = open_data(reviews, as_="labelled", settings={"target": "score"})
    assert numbers.form.columns[0].kind == "number"
    train = numbers.examples("train")
    assert abs(float(train.x.mean())) < 1e-5
    assert float(train.x.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert numbers.modality.decode(numbers.modality.encode([2.5])) == pytest.approx([2.5])
    texts = numbers.modality.decode(train.conditions[:2])
    assert texts == numbers.parts["train"].prompts[:2]


@pytest.mark.parametrize(
    ("settings", "column", "error", "words"),
    [
        ({}, None, UsageError, "no target was named"),
        ({"target": "verdikt"}, None, UsageError, "Did you mean 'verdict'"),
        ({"target": "verdict"}, "revue", UsageError, "Did you mean 'review'"),
        ({"target": "verdict", "kind": "number"}, None, DataError, "is not a number"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(reviews, settings, column, error, words):
    with pytest.raises(error, match=words):
        open_data(reviews, as_="labelled", settings=settings, column=column)


def test_bad_tables(tmp_path):
    one = tmp_path / "one.csv"
    one.write_text("text,label\n" + "fine,yes\n" * 5)
    with pytest.raises(DataError, match="1 different value"):
        open_data(one, as_="labelled", settings={"target": "label"})
    gaps = tmp_path / "gaps.tsv"
    rows = [f"text {n}\t{'yes' if n % 2 else 'no'}" for n in range(20)]
    gaps.write_text("\n".join(["text\tlabel", "\tno", "bad\t", *rows, "rare\tperhaps"]) + "\n")
    data = open_data(gaps, as_="labelled", settings={"target": "label"})
    assert any("2 rows that lack one of the two" in line for line in data.findings)
    with pytest.raises(UsageError, match="no class is called"):
        data.modality.encode(["maybe"])
    assert data.modality.classes == ("no", "perhaps", "yes"), "a class met once has its place, wherever its text was put"
    with pytest.raises(FormError, match="not known yet"):
        _ = Labelled(LabelledSettings(target="label")).form


def test_records_and_the_column_of_texts(tmp_path):
    path = tmp_path / "records.jsonl"
    rows = [{"id": n, "comment": f"text number {n}", "stars": n % 3} for n in range(30)]
    path.write_text("\n".join(map(json.dumps, rows)))
    data = open_data(path, as_="labelled", settings={"target": "stars"})
    assert data.modality.classes == ("0", "1", "2")
    assert any("from column 'comment'" in line for line in data.findings)


def test_nb_svm_tells_words_apart():
    texts = [f"{text} {number}" for number in range(10) for text in (*GOOD, *BAD)]
    classes = np.tile([1, 1, 1, 0, 0, 0], 10)
    assert nb_svm(texts, classes, ["a lovely thing", "a dull thing"]).tolist() == [1, 0]
    three = np.tile([2, 2, 2, 0, 1, 0], 10)
    assert nb_svm(texts, three, ["warm and lovely", "flat jokes", "a dull mess"]).tolist() == [2, 0, 1]
    assert f1(np.array([0, 1, 1]), np.array([0, 1, 0])) == pytest.approx((2 / 3 + 2 / 3) / 2)


def test_from_a_file_to_a_prediction(reviews, tmp_path):
    """Fit, evaluate, predict, embed, sample; the verdict is learned from the words."""
    small = {"layers": 1, "width": 32, "heads": 2, "precision": "float32", "rate": 5e-3}
    run = pieria.fit(reviews, target="verdict", steps=40, out=tmp_path / "run", settings=small, device="cpu", quiet=True)
    assert run.record["model"]["family"] == "discriminative"
    told = run.predict(["a warm and lovely film", "dull and flat jokes"])
    assert [said["target"] for said in told] == ["good", "bad"]
    assert sum(told[0]["probabilities"].values()) == pytest.approx(1)
    card = run.evaluate()
    assert card["accuracy"].value >= 90
    assert card["accuracy"].baseline is not None
    assert card["nats per target"].kind == "exact"
    assert any("discriminative" in words for words in card.words)
    assert run.embed(["one text", "another one"]).shape == (2, 32)
    assert set(run.sample(4, prompt="a lovely film")) <= {"good", "bad"}
    again = pieria.load(tmp_path / "run")
    assert again.predict(["a warm and lovely film"]) == told[:1]


def test_a_bert_is_fine_tuned(reviews, tmp_path):
    """Read first, told then: the symbols are those of the run, and so are the first weights."""
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(row.split(",")[0].strip('"') for row in reviews.read_text().splitlines()[1:] * 3))
    small = {"layers": 1, "width": 32, "heads": 2, "precision": "float32", "tokenizer": "word"}
    first = pieria.fit(lines, "bert", steps=5, out=tmp_path / "bert", settings=small, device="cpu", quiet=True)
    filled = first.fill("a ___ and lovely", top=3)
    assert len(filled[0].gaps[0]) == 3
    assert filled[0].filled.endswith(" and lovely")
    assert "<unk>" not in filled[0].filled
    assert first.embed(["a warm film"]).shape == (1, 32)
    with pytest.raises(UsageError, match="no gap"):
        first.fill("nothing is missing")
    run = pieria.fit(
        reviews, target="score", start_from=tmp_path / "bert", steps=3, out=tmp_path / "tuned", device="cpu", quiet=True,
        settings={"rate": 1e-9},
    )  # fmt: skip
    assert run.modality.text.strings()[:10] == first.modality.strings()[:10]
    ours, theirs = run.model.encoder.symbol.weight[:10], first.model.symbol.weight[:10]
    assert float((ours - theirs).detach().abs().max()) < 1e-4
    said = run.predict("a warm film")[0]
    assert said["deviation"] > 0
    assert run.evaluate()["root-mean-square error"].baseline is not None
    with pytest.raises(UsageError, match="does not fill texts"):
        run.fill("a ___ film")
    with pytest.raises(UsageError, match="does not tell"):
        first.predict("a film")
