"""What a person wishes of texts: grammars, biases, beams, log-probabilities, long texts; by a run and the command line."""

import json
import re

import pytest
import torch

import pieria
from pieria.cli.main import main
from pieria.data.batch import Batch
from pieria.errors import DataError, UsageError
from pieria.sampling.outlines import longest_repeated_run

NAMES = sorted({f"{a}{b}{c}" for a in "abcdefghijkl" for b in ("nna", "lan", "rix", "mo") for c in ("", "s", "ette", "ino")})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    path = tmp_path_factory.mktemp("drawing")
    (path / "names.txt").write_text("\n".join(NAMES) + "\n")
    prose = "= One =\n\nIt was the best of times.\n\n= Two =\n\nIt was the worst of times, says Ann.\n\n"
    (path / "prose.txt").write_text(prose * 40)
    pieria.fit(path / "names.txt", "gpt", preset="tiny", steps=40, out=path / "gpt", quiet=True)
    pieria.fit(path / "names.txt", "ngram", out=path / "ngram", quiet=True)
    stream = {"items": "stream", "length": 32}
    pieria.fit(path / "prose.txt", "gpt", preset="tiny", steps=80, out=path / "prose", settings=stream, quiet=True)
    words = {"items": "stream", "tokenizer": "word"}
    pieria.fit(path / "prose.txt", "ngram", out=path / "words", settings=words, quiet=True)
    return path


@pytest.mark.parametrize("name", ["gpt", "ngram"])
def test_what_is_new_matches_the_expression(home, name):
    run = pieria.load(home / name)
    drawn = run.sample(8, regex="[ab](nna|lan)s?", seed=2)
    assert all(re.fullmatch("[ab](nna|lan)s?", text) for text in drawn)
    assert run.sample(3, regex="[ab](nna|lan)s?", seed=2, batch=2) == drawn[:3]
    after = run.sample(4, prompt="ann", regex="a(s|ette)")
    assert set(after) <= {"annas", "annaette"}
    with pytest.raises(UsageError, match="no text that this run can write"):
        run.sample(1, regex="[A-Z]+")


def test_of_words_and_of_a_stream(home):
    run = pieria.load(home / "words")
    drawn = run.sample(4, regex="It was the (best|worst) of", length=12)
    assert all(text in ("It was the best of", "It was the worst of") for text in drawn)
    prose = pieria.load(home / "prose")
    assert set(prose.sample(3, regex="(Ann|One)", length=20)) <= {"Ann", "One"}


@pytest.mark.parametrize("name", ["gpt", "ngram"])
def test_log_probabilities_are_those_of_the_model(home, name):
    run = pieria.load(home / name)
    for wishes in ({}, {"prompt": "ann"}, {"temperature": 0.5, "bias": {"a": 1.0}}, {"beams": 4, "prompt": "b"}):
        drawings = run.draw(3, seed=1, **wishes)
        assert [drawing.artifact for drawing in drawings] == run.sample(3, seed=1, **wishes)
        for drawing in drawings:
            prompt = wishes.get("prompt", "")
            new = "".join(drawing.symbols).removesuffix("⏎")
            assert prompt + new == drawing.artifact
            x = run.modality.beginning(drawing.artifact)[None]
            if drawing.symbols[-1] == "⏎":
                x = torch.nn.functional.pad(x, (0, 1), value=run.model.form.end)
            with torch.no_grad():
                nats = run.model.symbol_log_prob(Batch(x))[0, len(prompt) :]
            torch.testing.assert_close(torch.tensor(drawing.log_probs), nats.float(), atol=1e-4, rtol=1e-4)


def test_a_stop_string_cuts_the_symbols_too(home):
    for drawing in pieria.load(home / "prose").draw(4, prompt="It was", stop=[" of"], length=40):
        assert " of" not in drawing.artifact.removeprefix("It was")
        assert "".join(drawing.symbols).startswith(drawing.artifact.removeprefix("It was"))
        assert len(drawing.symbols) == len(drawing.log_probs)


def test_a_bias_makes_a_symbol_rare_or_likely(home):
    run = pieria.load(home / "ngram")
    assert not any("a" in text for text in run.sample(20, bias={"a": -100}))
    ends = [len(text) for text in run.sample(20, bias={"⏎": -100})]
    assert min(ends) >= max(map(len, NAMES))
    with pytest.raises(UsageError, match="spelled by 'a' 'n' 'n'"):
        run.sample(1, bias={"ann": 1})


def test_beams_find_what_is_more_probable(home):
    run = pieria.load(home / "gpt")
    found = run.draw(3, beams=12)
    assert len({drawing.artifact for drawing in found}) == 3
    greedy = run.draw(1, temperature=0)[0]
    best = max(drawing.log_prob for drawing in run.draw(12, beams=12))
    assert best >= greedy.log_prob - 1e-6


def test_the_best_of_several_is_one_of_them(home):
    run = pieria.load(home / "gpt")
    best = run.draw(2, best_of=4, seed=3)
    every = run.draw(8, best_of=1, seed=3, prompt=None, bias={"a": 0.0})
    for item in range(2):
        group = every[4 * item : 4 * item + 4]
        wanted = max(group, key=lambda drawing: drawing.log_prob / len(drawing.log_probs))
        assert best[item].artifact == wanted.artifact


def test_a_style_is_its_options_and_never_silent(home):
    run = pieria.load(home / "gpt")
    assert run.sample(4, style="faithful") == run.sample(4)
    readable = {"temperature": 0.8, "min_p": 0.1, "no_repeat": 24, "repeat_cost": 0.5}
    assert run.sample(4, style="readable") == run.sample(4, **readable)
    assert run.sample(4, style="readable", temperature=0) == run.sample(4, **{**readable, "temperature": 0})
    with pytest.raises(UsageError, match="Did you mean 'readable'"):
        run.sample(1, style="readble")


def test_how_a_prompt_is_read_is_said(home):
    run = pieria.load(home / "prose")
    assert run.sample(2, prompt="", seed=4) == run.sample(2, seed=4)
    assert run.remarks(prompt="It was") == []
    long = "It was the best of times. " * 4
    assert "the model reads the last 32" in run.remarks(prompt=long)[0]
    assert run.sample(1, prompt=long, length=3)[0].startswith(long)
    with pytest.raises(DataError, match="the character 'é'"):
        run.sample(1, prompt="It was é")
    assert "<unk>" in pieria.load(home / "words").remarks(prompt="It was zebra")[0]
    with pytest.raises(UsageError, match="at most"):
        pieria.load(home / "gpt").remarks(prompt="anna" * 10)


def test_a_long_text_keeps_its_headings_and_does_not_run_in_circles(home):
    run = pieria.load(home / "prose")
    outline = ["= One =", "", "= Two =", "= Ann ="]
    options = {"length": 150, "temperature": 0, "no_repeat": 8}
    text = run.compose(outline, seed=1, **options)[0]
    places = [text.index(line) for line in outline if line]
    assert places == sorted(places)
    assert text == run.compose(outline, seed=1, **options)[0]
    assert len(run.compose(outline, 2, seed=1, temperature=1.0)) == 2
    loose = run.compose(outline, seed=1, **{**options, "no_repeat": 10_000})[0]
    symbols = run.modality.beginning
    assert longest_repeated_run(symbols(text)) < longest_repeated_run(symbols(loose))
    names = pieria.load(home / "gpt").compose(["an", "bl"], temperature=1.0)[0]
    assert re.match(r"an\n?.*\n\nbl", names, re.DOTALL)
    with pytest.raises(UsageError, match="without a heading"):
        run.compose([" "])
    with pytest.raises(DataError, match="'é'"):
        run.compose(["= é ="])


def test_the_command_line(home, tmp_path, capsys, monkeypatch):
    def ask(*words):
        monkeypatch.setattr("sys.argv", ["pieria", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as left:
            code = left.code or 0
        out = capsys.readouterr()
        return code, out.out, out.err

    code, out, _ = ask("sample", home / "gpt", "-n", 2, "--grammar", "a(nna|lan)", "--json", "--logprobs")
    assert code == 0
    items = json.loads(out)["items"]
    assert all(re.fullmatch("a(nna|lan)", item["text"]) and item["ended"] for item in items)
    assert items[0]["symbols"][0]["symbol"] == "a"
    assert items[0]["log_prob"] == pytest.approx(sum(each["log_prob"] for each in items[0]["symbols"]))
    assert ask("sample", home / "gpt", "--grammar", "[0-9]")[0] == 2
    assert "no text that this run can write" in ask("sample", home / "gpt", "--grammar", "[0-9]", "--dry-run")[2]
    assert ask("sample", home / "gpt", "--logprobs")[0] == 2
    code, out, _ = ask("sample", home / "gpt", "-n", 8, "--bias", "a=-100", "--style", "readable")
    assert code == 0
    assert "a" not in out
    assert "SYMBOL=NATS" in ask("sample", home / "gpt", "--bias", "a")[2]
    (tmp_path / "outline.txt").write_text("= One =\n= Two =\n")
    code, out, _ = ask("sample", home / "prose", "--outline", tmp_path / "outline.txt", "--length", 60)
    assert code == 0
    assert out.startswith("= One =\n")
    assert "cannot be read as an outline" in ask("sample", home / "prose", "--outline", tmp_path / "none.txt")[2]
    assert ask("sample", home / "prose", "--outline", tmp_path / "outline.txt", "--prompt", "x")[0] == 2
