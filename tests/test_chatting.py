"""Talking to runs: in Python, through a pipe, with histories that are too long, and with whatever a person may type."""

import json
import random

import pytest
import torch
from typer.testing import CliRunner

import pieria
from pieria import chatting
from pieria.cli.main import app
from pieria.errors import DataError, UsageError
from pieria.modalities.messages import conversation_of
from pieria.models.gpt import GPT
from tests.modalities.test_chat import TALKS, records

FIRST = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hal")
LAST = ("", "lyn", "bert", "mo", "ra", "na", "dor", "son", "ly", "ric", "mund", "la", "gar")
NAMES = [f"{first}{last}" for first in FIRST for last in LAST]
MANY = [[(role, content.replace("Ada", name)) for role, content in TALKS[0]] for name in NAMES]
ALPHABET = "ab <|>\n\t\0\x1b\x7f\u200f\u202e\ufdd0\ufdd1\ufffd\ud800é☃漢😀"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A GPT that learned to greet, an n-gram of the same conversations, and a GPT of plain prose."""
    path = tmp_path_factory.mktemp("talks")
    (path / "talks.jsonl").write_text(records(MANY))
    (path / "prose.txt").write_text("It was the best of times, it was the worst of times.\n\n" * 60)
    told = {"tokenizer": "char", "length": 96, "evaluate_every": 0}
    pieria.fit(path / "talks.jsonl", "gpt", preset="tiny", steps=80, settings=told, out=path / "gpt", quiet=True)
    pieria.fit(path / "talks.jsonl", "ngram", settings=told, out=path / "ngram", quiet=True)
    prose = {"items": "stream", "length": 48}
    pieria.fit(path / "prose.txt", "gpt", preset="tiny", steps=20, settings=prose, out=path / "prose", quiet=True)
    return path


def hello(name="Ada"):
    return [{"role": "user", "content": f"Hello, I am {name}."}]


def test_replies_are_learned_and_deterministic_by_seed(home):
    run = pieria.load(home / "gpt")
    assert run.chat(hello(), temperature=0).startswith("Good day")
    assert run.chat(hello(), seed=3, temperature=2.0) == pieria.load(home / "gpt").chat(hello(), seed=3, temperature=2.0)
    assert len({run.chat(hello(), seed=seed, temperature=2.0) for seed in range(4)}) > 1
    pieces = list(run.chat_stream(hello(), seed=3, temperature=2.0))
    assert "".join(pieces) == run.chat(hello(), seed=3, temperature=2.0)
    assert len(pieces) > 1
    assert run.chat("Hello, I am Ada.", temperature=0) == run.chat(hello(), temperature=0)


@pytest.mark.parametrize("name", ["gpt", "ngram"])
def test_only_replies_count_in_every_figure(home, name):
    run = pieria.load(home / name)
    dataset = run.dataset()
    batch = dataset.examples("test").batch([0, 1])
    values = run.model.symbol_log_prob(batch)
    assert (values[~batch.mask] == 0).all()
    assert (values[batch.mask] < 0).all()
    # what the user said is read: another name changes the odds of a reply, and none but them
    other = batch.with_x(torch.where(batch.mask | (batch.x >= dataset.modality.symbols.size), batch.x, 0))
    assert not torch.equal(run.model.symbol_log_prob(other)[batch.mask], values[batch.mask])
    if isinstance(run.model, GPT):
        from pieria.noise import StepNoise

        noise = StepNoise(0, 0, "next symbol", 2)
        with torch.no_grad():
            losses = run.model.loss(batch, noise)
        assert losses.count == batch.mask.sum()
        assert float(losses.loss) == pytest.approx(-float(values.detach().sum()) / losses.count, rel=1e-4)


def test_a_run_of_conversations_is_judged_by_its_replies(home):
    run = pieria.load(home / "gpt")
    card = run.evaluate(count=8)
    figures = {figure.name: figure for figure in card.figures}
    assert figures["likeness"].value is not None
    (nats,) = [figure for figure in card.figures if figure.name.startswith("nats per symbol")]
    assert nats.count == run.dataset().examples("test").scored()
    assert nats.baseline is not None
    assert "assistant's turns alone" in nats.note
    found = run.audit(count=8)
    assert found["gap"]["measured"]
    scores = run.score(home / "talks.jsonl")
    assert len(scores.items) == len(MANY)
    assert scores.items[0].startswith("user: Hello")
    assert run.explain().read_text()
    seen = run.previews()[-1].read_text()
    assert "user: Hello" in seen
    assert "assistant: " in seen


def test_samples_need_to_know_what_the_user_says(home, tmp_path):
    run = pieria.load(home / "gpt")
    drawn = run.sample(3, prompt="Hello, I am Ben.", seed=1, out=tmp_path / "a.jsonl")
    assert [talk.messages[0].content for talk in drawn] == ["Hello, I am Ben."] * 3
    assert drawn[:1] == run.sample(1, prompt="Hello, I am Ben.", seed=1)
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 3
    with pytest.raises(UsageError, match="learned the assistant's turns alone"):
        run.sample(1)


def test_a_history_beyond_the_context_loses_its_oldest_turns_whole(home):
    run, heard = pieria.load(home / "gpt"), []
    chat = chatting.talker(run.model, run.modality)
    long = [{"role": "system", "content": "Greet."}]
    for number in range(9):
        long += [{"role": "user", "content": f"Bye {number}."}, {"role": "assistant", "content": "See you."}]
    long.append({"role": "user", "content": "Hello, I am Ada."})
    symbols = chatting.prompted(chat, conversation_of(long), 24, heard.append)
    assert len(symbols) <= chat.form.length - 25
    (kept,) = chat.decode(symbols[None])
    assert kept.messages[0].content == "Greet."
    assert kept.messages[1].role == "user"
    assert kept.messages[-2].content == "Hello, I am Ada."
    assert kept.messages[-1] == ("assistant", "")  # where the reply begins
    assert 3 <= len(kept.messages) < len(long)
    forgotten = len(long) - len(kept.messages) + 1
    assert heard == [f"the {forgotten} oldest turns are forgotten: the context holds 96 symbols"]
    run.chat(long, told=heard.append)
    heard.clear()
    run.chat([{"role": "user", "content": "word " * 200}], told=heard.append)
    assert heard[0].startswith("only the last")
    with pytest.raises(UsageError, match="the message of the system takes"):
        run.chat([{"role": "system", "content": "x" * 300}, *hello()])


def test_a_run_of_prose_answers_in_lines(home):
    run = pieria.load(home / "prose")
    reply = run.chat(hello(), seed=1)
    assert "\n" not in reply
    assert run.chat(hello(), seed=1) == reply
    assert run.chat("☃" * 300 + "漢字") is not None


def test_stop_strings_end_a_reply_and_never_show(home):
    run = pieria.load(home / "gpt")
    whole = run.chat(hello(), temperature=0)
    for stop in (whole[3:5], whole[-2:], "never there"):
        pieces = list(run.chat_stream(hello(), temperature=0, stop=stop))
        assert "".join(pieces) == whole.split(stop)[0].strip()
    with pytest.raises(UsageError, match="empty stop string"):
        run.chat(hello(), stop="")


def test_what_cannot_be_asked_is_told(home, tmp_path):
    run = pieria.load(home / "gpt")
    with pytest.raises(UsageError, match="whose last message is of assistant"):
        run.chat([*hello(), {"role": "assistant", "content": "Hi."}])
    with pytest.raises(UsageError, match="whose last message is of nobody"):
        run.chat([])
    with pytest.raises(DataError, match="the chat, message 1 has the role 'human'"):
        run.chat([{"role": "human", "content": "Hi."}])
    with pytest.raises(UsageError, match="no setting is called 'heat'"):
        run.chat(hello(), heat=1)
    (tmp_path / "table.csv").write_text("a,b\n" + "".join(f"{i * 5 % 11},{i * i % 7}\n" for i in range(60)))
    table = pieria.fit(tmp_path / "table.csv", "mixture", preset="tiny", out=tmp_path / "table", quiet=True)
    with pytest.raises(UsageError, match="cannot be talked to"):
        table.chat("Hi.")


@pytest.mark.parametrize("name", ["gpt", "prose"])
def test_whatever_is_typed_is_answered(home, name):
    run, chooser = pieria.load(home / name), random.Random(7)
    chat = chatting.talker(run.model, run.modality)
    markers = [*chat.specials, "user:", "\nassistant: yes", "/reset", "{{ messages }}", "{% raw %}"]
    messages = []
    for turn in range(60):
        parts = [chooser.choice([*markers, *ALPHABET]) for _ in range(chooser.choice([0, 1, 5, 60]))]
        messages.append({"role": "user", "content": "".join(parts)})
        reply = run.chat(messages, seed=turn, temperature=chooser.choice([0, 0.7, 3.0]), length=6)
        assert not any(special in reply for special in chat.specials)
        messages.append({"role": "assistant", "content": reply})


def talk(*words, said, code=0):
    done = CliRunner().invoke(app, ["chat", *map(str, words)], input=said)
    assert done.exit_code == code, done.output
    return done.stdout, done.stderr


def test_a_pipe_takes_lines_and_gives_lines(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = (
        b"Hello, I am Ada.\n/save talk.jsonl\nBye.\n/reset\n/nothing\n/save a.jsonl\n/save\nHello, I am Ada.\n/quit\nmore\n"
    )
    out, err = talk(home / "gpt", "--temperature", 0, said=said)
    first, second, third = out.splitlines()
    assert first == third == pieria.load(home / "gpt").chat(hello(), temperature=0)
    assert second
    assert json.loads((tmp_path / "talk.jsonl").read_text())["messages"] == [
        *hello(),
        {"role": "assistant", "content": first},
    ]
    for sentence in (
        "Saved as talk.jsonl",
        "is forgotten",
        "There is no /nothing",
        "Not saved: nothing was said yet",
        "/save without a name",
    ):
        assert sentence in err
    out, err = talk(home / "gpt", "--json", "--seed", 5, "--system", "Greet.", said=b"Hello, I am Ada.\n\xff\xfe\n")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(line["role"], line["turn"]) for line in lines] == [("assistant", 3), ("assistant", 5)]
    assert not err
    _, err = talk(home / "prose", said=b"Hello\n")
    assert "learned no conversations" in err
    with pytest.raises(UsageError, match="no setting is called 'heat'"):
        CliRunner().invoke(app, ["chat", str(home / "gpt"), "--set", "heat=1"], catch_exceptions=False)


def test_fine_tuning_goes_on_with_what_a_run_learned(home, tmp_path):
    talks = [
        [("user", "Hello."), ("assistant", "See Ada!"), ("user", f"Bye {n}."), ("assistant", "See.")] for n in NAMES[:20]
    ]
    (tmp_path / "new.jsonl").write_text(records(talks))
    for name, settings, steps in (("gpt", {"lora_rank": 2}, 3), ("prose", {}, 3), ("gpt", {}, 50)):
        if "lora_rank" in settings:
            pytest.importorskip("peft")
        start = home / name
        out = tmp_path / f"{name}-{len(settings)}"
        run = pieria.fit(
            tmp_path / "new.jsonl",
            "gpt",
            steps=steps,
            start_from=start,
            settings={"batch": 4, "rate": 5e-3, "warmup": 5, **settings},
            out=out,
            quiet=True,
        )
        assert run.modality.name == "chat"
        assert run.model.form == pieria.load(start).model.form
        again = pieria.load(out)
        assert again.chat("Hello.", temperature=0) == run.chat("Hello.", temperature=0)
        assert again.dataset().fingerprint == run.record["data"]["fingerprint"]
    assert run.chat("Hello.", temperature=0).startswith("See Ada")
