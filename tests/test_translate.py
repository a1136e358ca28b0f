"""A run of pairs from beginning to end: fitted, resumed, asked, scored, judged and explained."""

import json
import subprocess
import sys
from itertools import product

import pytest

import pieria
from pieria.errors import FormError, UsageError
from pieria.models import weights

WORDS = ("red", "blue", "green", "grey", "black")
GERMAN = dict(zip(WORDS, ("rot", "blau", "grün", "grau", "schwarz"), strict=True))
PAIRS = [
    (" ".join(words), " ".join(GERMAN[word] for word in words)) for n in (1, 2, 3, 4) for words in product(WORDS, repeat=n)
][::2]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs")
    (path / "pairs.jsonl").write_text("".join(json.dumps({"prompt": a, "completion": b}) + "\n" for a, b in PAIRS))
    (path / "en.txt").write_text("\n".join(a for a, _ in PAIRS))
    (path / "de.txt").write_text("\n".join(b for _, b in PAIRS))
    pieria.fit(path / "pairs.jsonl", "transformer", preset="tiny", steps=400, out=path / "run", quiet=True, settings=WORD)
    return path


WORD = {"tokenizer": "word", "threads": 1}


def test_it_translates_what_it_has_not_seen(home):
    run = pieria.load(home / "run")
    test = run.dataset().parts["test"]
    said = run.translate(test.prompts)
    right = sum(a == b for a, b in zip(said, test.artifacts, strict=True))
    assert right > 0.8 * len(said)
    assert run.translate("red blue") == run.sample(1, prompt="red blue", temperature=0)
    assert run.translate([]) == []
    assert len(set(run.translate(["red blue green"] * 20, temperature=3.0))) > 5


def test_the_command_line_keeps_line_by_line(home):
    words = [sys.executable, "-m", "pieria", "translate", str(home / "run")]
    done = subprocess.run([*words, "-"], input="red\n\nblue grey\n", capture_output=True, text=True, check=True)
    assert len(done.stdout.split("\n")) == 4
    assert done.stdout.split("\n")[1] == ""
    subprocess.run(
        [*words, str(home / "pairs.jsonl"), "--out", str(home / "said.jsonl")], capture_output=True, text=True, check=True
    )
    records = [json.loads(line) for line in (home / "said.jsonl").read_text().splitlines()]
    assert [record["prompt"] for record in records] == [a for a, _ in PAIRS]


def test_figures_of_the_scorecard_are_those_of_sacrebleu(home):
    sacrebleu = pytest.importorskip("sacrebleu")
    run = pieria.load(home / "run")
    card = run.evaluate()
    test = run.dataset().parts["test"]
    said = run.translate(test.prompts)
    assert card["BLEU"].value == pytest.approx(sacrebleu.corpus_bleu(said, [list(test.artifacts)]).score)
    assert card["chrF"].value == pytest.approx(sacrebleu.corpus_chrf(said, [list(test.artifacts)]).score)
    assert card["BLEU"].count == len(said)
    assert card["ROUGE-L"].value > card["ROUGE-L"].baseline
    assert "nats per symbol given the prompt" in card
    assert "nats per symbol" not in card


def test_it_is_scored_audited_and_explained(home):
    run = pieria.load(home / "run")
    given = run.score([("red blue", "rot blau"), ("red blue", "grün grau")])
    assert given.log_prob[0] > given.log_prob[1] + 2
    assert run.score(home / "pairs.jsonl").items[0] == "rot"
    assert run.audit()["gap"]["measured"]
    assert "What it answers to" in run.explain().read_text()
    assert "→" in run.previews()[-1].read_text()
    with pytest.raises(UsageError, match="without their prompts"):
        run.score(["rot blau"])


def test_two_files_are_the_same_as_records_and_a_resumed_run_as_an_unbroken_one(home):
    asked = {"to": home / "de.txt", "preset": "tiny", "quiet": True, "settings": {**WORD, "checkpoint_every": 5}}
    whole = pieria.fit(home / "en.txt", "transformer", steps=30, out=home / "whole", **asked)
    pieria.fit(home / "en.txt", "transformer", steps=30, out=home / "part", **asked)
    for kept in (home / "part" / "checkpoints").glob("*30*"):
        kept.unlink()
    record = json.loads((home / "part" / "run.json").read_text())
    del record["result"]
    (home / "part" / "run.json").write_text(json.dumps({**record, "state": "running"}))  # as if it had been killed
    again = pieria.fit(resume=home / "part", quiet=True)
    for name, tensor in weights.load(home / "whole" / "model.safetensors").state_dict().items():
        assert tensor.equal(again.model.state_dict()[name]), name
    assert pieria.load(whole.path).dataset().parts["train"].prompts
    assert "--to" in whole.record["command"]


def test_wrong_questions_are_told(home):
    run = pieria.load(home / "run")
    with pytest.raises(UsageError, match="no prompt was given"):
        run.sample(2)
    with pytest.raises(UsageError, match="without classes"):
        run.sample(2, label="red")
    with pytest.raises(FormError, match="prompt 1 has 6 symbols"):
        run.translate(" ".join(["red"] * 6))
    with pytest.raises(UsageError, match="no pairs of a prompt"):
        pieria.fit(home / "en.txt", "transformer", dry_run=True)
    with pytest.raises(UsageError, match="none of that kind"):
        pieria.fit(home / "pairs.jsonl", "gpt", condition="prompt", preset="tiny", steps=1, dry_run=True)
    pieria.fit(home / "pairs.jsonl", "ngram", out=home / "ngram", quiet=True)
    with pytest.raises(UsageError, match="does not turn one text into another"):
        pieria.load(home / "ngram").translate("red")
    assert "\n" in pieria.load(home / "ngram").dataset().parts["train"].artifacts[0]
