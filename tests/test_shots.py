"""Examples before the prompt: how they are written, how many fit, what comes back, and what is refused."""

import json

import pytest

import pieria
from pieria.cli.main import main
from pieria.errors import DataError, PieriaError, UsageError
from pieria.modalities.documents import read_two
from pieria.shots import Shots

GERMAN = {"red": "rot", "blue": "blau", "green": "grün", "grey": "grau", "black": "schwarz"}
PAIRS = list(GERMAN.items())


def records(pairs):
    return "".join(json.dumps({"prompt": a, "completion": b}, ensure_ascii=False) + "\n" for a, b in pairs)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    path = tmp_path_factory.mktemp("shots")
    (path / "pairs.jsonl").write_text(records([PAIRS[(7 * i + i // 5) % 5] for i in range(400)]))
    (path / "shots.jsonl").write_text(records(PAIRS))
    (path / "shots.csv").write_text("prompt,completion\n" + "".join(f"{a},{b}\n" for a, b in PAIRS))
    (path / "shots.tsv").write_text("note\tprompt\tcompletion\n" + "".join(f"x\t{a}\t{b}\n" for a, b in PAIRS))
    stream = {"items": "stream", "length": 48, "threads": 1, "evaluate_every": 0}
    pieria.fit(path / "pairs.jsonl", "gpt", preset="tiny", steps=3, out=path / "gpt", quiet=True, settings=stream)
    words = {**stream, "tokenizer": "word"}
    pieria.fit(path / "pairs.jsonl", "gpt", preset="tiny", steps=150, out=path / "words", quiet=True, settings=words)
    return path


def test_the_format_is_that_of_the_stream_that_was_learned(home):
    run = pieria.load(home / "gpt")
    few = Shots(run.model, run.modality, PAIRS[:2], run.model.Sampling.of({}))
    asked = few.ask("green")
    assert asked.text == "red\nrot\n\nblue\nblau\n\ngreen\n"
    assert "blue\nblau\n\n" in run.dataset().parts["train"].artifacts[0]
    assert (asked.used, asked.room) == (2, 48 - len(asked.text))
    assert few.told() == ["2 of 2 examples stand before the prompt"]


def test_as_many_stand_there_as_leave_room_for_a_completion(home):
    run = pieria.load(home / "gpt")
    few = Shots(run.model, run.modality, PAIRS * 100, run.model.Sampling.of({}))
    asked = few.ask("black")
    longest = len("schwarz\n\n")
    one_more = PAIRS[asked.used % 5]
    assert len(asked.text) <= 48 - longest < len(asked.text) + len("\n".join(one_more)) + 2
    assert f"{asked.used} of 500 examples" in few.told()[0]
    assert "do not fit into the 48 symbols" in few.told()[0]
    longer = Shots(run.model, run.modality, PAIRS * 100, run.model.Sampling.of({"length": 20}))
    assert 0 < longer.ask("black").used < asked.used
    assert few.ask("b" * 45).used == 0  # the prompt alone leaves hardly any room
    assert few.told()[0].startswith(f"0 to {asked.used} of 500")
    with pytest.raises(UsageError, match="has 49 symbols"):
        few.ask("b" * 48)


def test_what_comes_back_is_the_completion_alone(home):
    run = pieria.load(home / "words")
    assert run.sample(2, prompt="black", shots=PAIRS[:2], temperature=0) == ["schwarz", "schwarz"]
    words = list(GERMAN)
    said = run.translate(words, shots=PAIRS[:1])
    assert said == [run.sample(1, prompt=word, shots=PAIRS[:1], temperature=0)[0] for word in words]
    assert said == list(GERMAN.values())
    assert run.translate(words[::-1], shots=home / "shots.csv", batch=1) == run.translate(words, shots=PAIRS)[::-1]
    wild = {"temperature": 2.0, "seed": 4}
    assert run.translate(words, shots=PAIRS, **wild) == run.translate(words, shots=PAIRS, batch=1, **wild)
    (drawing,) = run.draw(1, prompt="blue", shots=PAIRS[:1], temperature=0)
    assert drawing.artifact == "blau"
    assert drawing.ended
    assert drawing.symbols[0] == "blau"
    assert len(drawing.symbols) == len(drawing.log_probs) <= 3
    assert run.translate("red", shots=[]) == ["rot"]


def test_every_kind_of_file_says_the_same(home):
    run = pieria.load(home / "words")
    asked = [run.sample(3, prompt="grey", shots=home / f"shots.{kind}", seed=3) for kind in ("jsonl", "csv", "tsv")]
    assert asked[0] == asked[1] == asked[2] == run.sample(3, prompt="grey", shots=PAIRS, seed=3)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.jsonl", None, "holds no pairs"),
        ("notes.txt", "red rot", "holds no pairs"),
        ("empty.jsonl", "", "is empty"),
        ("broken.jsonl", '{"prompt": "a"', "line 1 is not JSON"),
        ("half.jsonl", records([("a", "b")]) + '{"prompt": "c"}\n', "line 2 has no completion"),
        ("blank.csv", "prompt,completion\na,b\n ,c\n", "row 2 has no prompt"),
        ("other.csv", "english,german\na,b\n", "no column 'completion'"),
        ("long.jsonl", records([("a", "b\n\nc")]), "example 1: its completion holds a blank line"),
        ("strange.jsonl", records([("red", "rot"), ("blue", "☃")]), "example 2: the character '☃'"),
    ],
)
def test_bad_files_are_told(home, tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=said):
        pieria.load(home / "gpt").sample(1, prompt="red", shots=tmp_path / name)


def test_wrong_questions_are_told(home, tmp_path):
    run = pieria.load(home / "gpt")
    for wishes, said in (
        ({"prompt": None}, "an empty prompt"),
        ({"beams": 2}, "beam search behind examples"),
        ({"shots": [("red", "")]}, "example 1 is"),
        ({"shots": [("red", "rot"), "blue"]}, "example 2 is 'blue'"),
        ({"heat": 1}, "no setting is called 'heat'"),
    ):
        with pytest.raises(PieriaError, match=said):
            run.sample(1, **{"prompt": "red", "shots": PAIRS, **wishes})
    with pytest.raises(UsageError, match="2 beams behind examples"):
        run.translate("red", shots=PAIRS, beams=2)
    with pytest.raises(UsageError, match="show it examples"):
        run.translate("red")
    names = tmp_path / "names.txt"
    names.write_text("\n".join(["anna", "rosa", "ida", "maria", "carla"] * 8))
    with pytest.raises(UsageError, match="no symbol for a line break"):
        pieria.fit(names, "ngram", out=tmp_path / "names", quiet=True).sample(1, prompt="a", shots=[("anna", "rosa")])
    paired = pieria.fit(home / "pairs.jsonl", "transformer", preset="tiny", steps=1, out=tmp_path / "apart", quiet=True)
    for ask in (lambda: paired.sample(1, prompt="red", shots=PAIRS), lambda: paired.translate("red", shots=PAIRS)):
        with pytest.raises(UsageError, match="reads each prompt by itself"):
            ask()


def test_on_the_command_line(home, capsys, monkeypatch):
    def pieria_says(*words):
        monkeypatch.setattr("sys.argv", ["pieria", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return left.value.code, out, err

    shots = ("--shots", home / "shots.jsonl")
    code, out, err = pieria_says("sample", home / "words", "-n", 1, *shots, "--prompt", "blue", "--temperature", 0)
    assert (code, out) == (0, "blau\n")
    assert "5 of 5 examples stand before the prompt" in err
    (home / "ask.txt").write_text("blue\n\nred\n")
    code, out, err = pieria_says("translate", home / "words", home / "ask.txt", *shots, "--json")
    assert [item["completion"] for item in json.loads(out)["items"]] == ["blau", "", "rot"]
    assert "examples stand before each prompt" in err
    code, out, err = pieria_says("sample", home / "words", "--shots", home / "none.jsonl", "--prompt", "red")
    assert (code, out) == (1, "")
    assert "none.jsonl holds no pairs" in err


def test_pairs_of_two_files_can_be_one_stream(tmp_path):
    (tmp_path / "en").write_text("red\nblue\n")
    (tmp_path / "de").write_text("rot\nblau\n")
    read = read_two(tmp_path / "en", tmp_path / "de", "stream", "utf-8")
    assert (read.artifacts, read.stream) == (["red\nrot\n\nblue\nblau\n"], True)
    with pytest.raises(UsageError, match="as one stream"):
        read_two(tmp_path / "en", tmp_path / "de", "stream", "utf-8", "apart")


def test_in_a_conversation_they_are_earlier_turns(tmp_path):
    talks = [[{"role": "user", "content": a}, {"role": "assistant", "content": b}] for a, b in PAIRS * 4]
    (tmp_path / "talks.jsonl").write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    settings = {"tokenizer": "char", "length": 64}
    run = pieria.fit(
        tmp_path / "talks.jsonl", "gpt", preset="tiny", steps=3, out=tmp_path / "run", quiet=True, settings=settings
    )
    (said,) = run.sample(1, prompt="grey", shots=PAIRS[:2], temperature=0)
    assert [message.content for message in said.messages][:5] == ["red", "rot", "blue", "blau", "grey"]
    assert run.remarks(prompt="grey", shots=PAIRS[:2]) == []
    assert "oldest turns are forgotten" in run.remarks(prompt="grey", shots=PAIRS * 4)[0]
