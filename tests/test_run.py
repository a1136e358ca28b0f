import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pieria
from pieria.errors import DataError, RunError, UsageError
from pieria.training.workspace import Workspace, read_record

NAMES = sorted({f"{a}{b}{c}" for a in "abcdefghijkl" for b in ("nna", "lan", "rix", "mo") for c in ("", "s", "ette", "ino")})


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Names, a text, and pictures of two classes; runs that most tests only look at."""
    path = tmp_path_factory.mktemp("runs")
    (path / "names.txt").write_text("\n".join(NAMES) + "\n")
    (path / "prose.txt").write_text("It was the best of times, it was the worst of times.\n\n" * 60)
    generator = np.random.default_rng(0)
    for label, level in (("dark", 40), ("light", 210)):
        (path / "pictures" / label).mkdir(parents=True)
        for number in range(30):
            pixels = np.clip(generator.normal(level, 20, (8, 8)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(path / "pictures" / label / f"{number}.png")
    pieria.fit(path / "names.txt", "gpt", preset="tiny", steps=40, out=path / "gpt", quiet=True)
    pieria.fit(path / "names.txt", "ngram", out=path / "ngram", quiet=True)
    pieria.fit(path / "prose.txt", "ngram", out=path / "prose", settings={"items": "stream"}, quiet=True)
    pieria.fit(path / "pictures", "vae", preset="tiny", steps=20, condition="label", out=path / "vae", quiet=True)
    return path


def test_a_run_is_a_directory_with_all_that_belongs_to_it(home):
    record = read_record(home / "gpt")
    assert record["state"] == "done"
    assert record["command"].startswith("pieria fit")
    assert record["data"]["counts"]["train"] > 100
    assert record["plan"]["batch"] == 16  # the preset's, over the family's
    assert record["model"]["settings"]["width"] == 32
    assert record["result"]["cost"]["source"].startswith(("measured", "estimated"))
    kept = {path.name for path in (home / "gpt").iterdir()}
    assert kept >= {"run.json", "model.safetensors", "modality", "log.jsonl", "samples", "checkpoints"}
    run = pieria.load(home / "gpt")
    assert run.log()[-1]["step"] == 40
    assert run.previews()[-1].name == "step-00000040.txt"


def test_a_loaded_run_draws_what_the_fitted_one_draws(home, tmp_path):
    run = pieria.load(home / "gpt")
    whole = run.sample(6, seed=3)
    assert whole != run.sample(6, seed=4)
    assert whole == run.sample(6, seed=3, batch=4)
    assert whole[:2] == run.sample(2, seed=3)
    moved = shutil.copytree(home / "gpt", tmp_path / "moved")
    assert pieria.load(moved).sample(6, seed=3) == whole


def test_prompts_stops_and_options(home):
    run = pieria.load(home / "gpt")
    assert all(text.startswith("ann") for text in run.sample(4, prompt="ann"))
    greedy = run.sample(3, temperature=0)
    assert greedy[0] == greedy[1] == greedy[2]
    assert not any("a" in text for text in run.sample(8, stop="a"))
    assert not any("e" in text[1:] for text in run.sample(8, prompt="e", stop=["e", "o"]))
    with pytest.raises(UsageError, match="Did you mean 'temperature'"):
        run.sample(1, temprature=1)
    with pytest.raises(UsageError, match="without classes"):
        run.sample(1, label="dark")
    with pytest.raises(UsageError, match="0 samples"):
        run.sample(0)
    with pytest.raises(UsageError, match="empty stop"):
        run.sample(1, stop="")


def test_labels(home):
    run = pieria.load(home / "vae")
    dark, light = (np.mean([np.asarray(picture) for picture in run.sample(8, label=name)]) for name in ("dark", "light"))
    assert run.model.condition is not None
    assert dark != light
    mixed = run.sample(4, label=["dark", "light", "dark", 1])
    assert len(mixed) == 4
    with pytest.raises(UsageError, match=r"no class is called 'drak'\. Did you mean 'dark'"):
        run.sample(1, label="drak")
    with pytest.raises(UsageError, match="prompt"):
        run.sample(1, prompt="x")


def test_a_class_is_asked_for_by_its_name_before_its_number():
    from pieria.forms import Label
    from pieria.making import _class

    stars = Label(("1", "2", "3"))
    assert [_class(name, stars) for name in (1, "3", 0)] == [0, 2, 0]
    with pytest.raises(UsageError, match="no class is called '4'"):
        _class(4, stars)


def test_what_is_written_names_its_run(home, tmp_path):
    run = pieria.load(home / "vae")
    run.sample(3, seed=5, out=tmp_path / "drawn")
    files = sorted((tmp_path / "drawn").iterdir())
    assert len(files) == 3
    with Image.open(files[0]) as picture:
        assert (picture.info["pieria"], picture.info["seed"]) == ("vae", "5")


def test_scores_add_up_and_rank_what_is_unusual(home):
    run = pieria.load(home / "gpt")
    scores = run.score(["annette", "ssssssss"])
    assert scores.kind == "exact"
    assert scores.log_prob[0] > scores.log_prob[1]
    assert scores.unusual[1] == 1.0
    told = run.score(["annette"], tokens=True)
    assert told.symbols is not None
    assert [symbol for symbol, _ in told.symbols[0]] == [*"annette", "⏎"]
    assert sum(value for _, value in told.symbols[0]) == pytest.approx(told.log_prob[0], rel=1e-5)
    assert told.nats_each[0] == pytest.approx(-told.log_prob[0] / 8)
    assert len(told.rows()) == 9
    json.dumps(told.to_json())
    assert len(run.score(home / "names.txt").items) == len(NAMES)
    with pytest.raises(DataError, match="does not exist"):
        run.score("nowhere.txt")


def test_items_that_are_cut_are_told(home, tmp_path):
    run = pieria.fit(home / "names.txt", "ngram", settings={"length": 5}, out=tmp_path / "run", quiet=True)
    assert run is not None
    assert any("longer than 5 symbols" in line for line in read_record(tmp_path / "run")["data"]["findings"])
    assert any("1 of 2 items are longer than 5 symbols" in line for line in run.score(["annette", "lix"]).words)


def test_a_stream_is_scored_whole(home):
    run = pieria.load(home / "prose")
    scores = run.score(home / "prose.txt")
    total = len((home / "prose.txt").read_text())
    counted = sum(-log / each for log, each in zip(scores.log_prob, scores.nats_each, strict=True))
    assert counted == pytest.approx(total)
    assert run.sample(1, prompt="It was", length=20)[0].startswith("It was")


def test_mixing_is_better_than_each(home, tmp_path):
    mixed = pieria.mix([home / "gpt", home / "ngram"], out=tmp_path / "mix", quiet=True)
    assert mixed.record["state"] == "done"
    again = pieria.load(tmp_path / "mix")
    nats = []
    for run in (again, pieria.load(home / "gpt"), pieria.load(home / "ngram")):
        with torch.no_grad():
            (batch,) = run.dataset().examples("validation").sweep(1000)
            nats.append(-float(run.model.log_prob(batch).sum()))
    assert nats[0] <= min(nats[1:]) + 1e-6
    with pytest.raises(UsageError, match="other data"):
        pieria.mix([home / "gpt", home / "prose"], out=tmp_path / "no")


def test_settings_find_their_owner(home, tmp_path):
    given = {"width": 16, "batch": 8, "tokenizer": "byte", "seed": 7}
    run = pieria.fit(home / "names.txt", "gpt", preset="tiny", steps=2, settings=given, out=tmp_path / "run", quiet=True)
    assert run is not None
    assert run.model.settings.width == 16  # type: ignore[attr-defined]
    assert (run.record["plan"]["batch"], run.record["seed"]) == (8, 7)
    assert run.modality.settings.tokenizer == "byte"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"settings": {"widht": 3}}, "Did you mean 'width'"),
        ({"settings": {"width": 0}}, "width = 0"),
        ({"preset": "tinny"}, "Did you mean 'tiny'"),
        ({"steps": 3, "time": "5s"}, "only one of steps and seconds"),
        ({"time": "soon"}, "time 'soon'"),
        ({"condition": "labels"}, "Did you mean 'label'"),
        ({"condition": "label"}, "has no labels"),
        ({"device": "tpu"}, "device"),
    ],
)
def test_asked_wrongly(home, tmp_path, given, said):
    with pytest.raises(UsageError, match=said):
        pieria.fit(home / "names.txt", "gpt", out=tmp_path / "run", quiet=True, **given)
    assert not list(tmp_path.iterdir())


def test_families_and_data_that_do_not_fit(home, tmp_path):
    with pytest.raises(UsageError, match=r"Did you mean .*'gpt'"):
        pieria.fit(home / "names.txt", "gpd", out=tmp_path / "run")
    with pytest.raises(UsageError, match="learns from grid or row"):
        pieria.fit(home / "names.txt", "vae", out=tmp_path / "run")
    with pytest.raises(UsageError, match="needs data and a model"):
        pieria.fit(home / "names.txt")
    assert not list(tmp_path.iterdir())


def test_a_dry_run_writes_nothing(home, tmp_path, capsys):
    assert pieria.fit(home / "names.txt", "gpt", preset="tiny", time="5s", out=tmp_path / "run", dry_run=True) is None
    said = capsys.readouterr().err
    assert "would fit gpt" in said
    assert "5 seconds" in said
    assert not list(tmp_path.iterdir())


def test_a_stopped_run_is_resumed_to_the_same_bits(home, tmp_path, monkeypatch, capsys):
    how = {"preset": "tiny", "steps": 30, "quiet": True, "settings": {"evaluate_every": 10, "dropout": 0.1}}
    whole = pieria.fit(home / "names.txt", "gpt", out=tmp_path / "whole", **how)
    from pieria.training import loop

    played = loop.Game.play

    def interrupted(self, step, rate, parts):
        if step == 12:
            os.kill(os.getpid(), signal.SIGINT)
        return played(self, step, rate, parts)

    monkeypatch.setattr(loop.Game, "play", interrupted)
    stopped = pieria.fit(home / "names.txt", "gpt", out=tmp_path / "half", **how)
    monkeypatch.undo()
    assert stopped is not None
    assert stopped.record["state"] == "stopped"
    assert pieria.load(tmp_path / "half").record["result"]["steps"] == 13  # it can be sampled as it is
    resumed = pieria.fit(resume=tmp_path / "half", quiet=True)
    assert resumed is not None
    assert whole is not None
    assert resumed.record["state"] == "done"
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "half"))
    assert first == second
    with pytest.raises(UsageError, match="is done"):
        pieria.fit(resume=tmp_path / "half")
    with pytest.raises(UsageError, match="which has made"):
        pieria.fit(resume=tmp_path / "half", steps=5)
    with pytest.raises(UsageError, match="settled at 30 steps"):
        pieria.fit(resume=tmp_path / "half", time="9s")
    with pytest.raises(UsageError, match=r"preset, settings for .*goes on as it was begun"):
        pieria.fit(resume=tmp_path / "half", steps=40, preset="tiny", settings={"rate": 1e-4})
    before = (tmp_path / "half" / "run.json").read_bytes()
    assert pieria.fit(resume=tmp_path / "half", steps=40, dry_run=True) is None
    assert "would go on fitting gpt" in capsys.readouterr().err
    assert (tmp_path / "half" / "run.json").read_bytes() == before
    longer = pieria.fit(resume=tmp_path / "half", steps=40, quiet=True)
    assert longer is not None
    assert longer.record["result"]["steps"] == 40


def test_a_run_begins_with_the_weights_of_another(home, tmp_path):
    (tmp_path / "more.txt").write_text("\n".join(NAMES[::2]) + "\n")
    run = pieria.fit(
        tmp_path / "more.txt",
        "gpt",
        steps=1,
        settings={"rate": 1e-9},
        start_from=home / "gpt",
        out=tmp_path / "run",
        quiet=True,
    )
    assert run is not None
    assert run.sample(4) == pieria.load(home / "gpt").sample(4)
    assert run.modality.state() == pieria.load(home / "gpt").modality.state()


def test_what_starts_from_a_run_reads_as_it_does_and_learns_slower(home, tmp_path):
    base = pieria.load(home / "gpt")
    length = base.model.form.length
    asked = {"start_from": home / "gpt", "dry_run": True}
    for settings, said in (
        (
            {"length": length + 7},
            f"length = {length + 7} with --start-from .* Wanted: length = {length}, as that run has it",
        ),
        ({"tokenizer": "bpe"}, "tokenizer = bpe with --start-from"),
        ({"lowercase": "true"}, "Leave lowercase out"),
    ):
        with pytest.raises(UsageError, match=said):
            pieria.fit(home / "names.txt", "gpt", settings=settings, **asked)
    pieria.fit(home / "names.txt", "gpt", settings={"length": length, "tokenizer": "char", "rate": 0.5}, **asked)
    run = pieria.fit(home / "names.txt", "gpt", steps=1, start_from=home / "gpt", out=tmp_path / "slow", quiet=True)
    assert run.record["plan"]["rate"] == pytest.approx(type(run.model).training_defaults["rate"] / 10)
    own = {"rate": 0.02}
    run = pieria.fit(
        home / "names.txt", "gpt", steps=1, start_from=home / "gpt", settings=own, out=tmp_path / "own", quiet=True
    )
    assert run.record["plan"]["rate"] == 0.02


def test_a_run_that_cannot_be_loaded(home, tmp_path):
    with pytest.raises(RunError, match="is not a run"):
        pieria.load(tmp_path)
    with Workspace.create(tmp_path / "young", "", {}), pytest.raises(RunError, match="being fitted by process"):
        pieria.load(tmp_path / "young")
    with pytest.raises(RunError, match="--resume"):
        pieria.load(tmp_path / "young")
    for name, content in (("model.safetensors", b"\x80\x04 pickle"), ("modality/modality.json", b'{"modality": "text"}')):
        broken = shutil.copytree(home / "gpt", tmp_path / name.replace("/", "-"))
        (broken / name).write_bytes(content)
        with pytest.raises(RunError, match=name.rpartition("/")[2].replace(".", r"\.")):
            pieria.load(broken)


def test_data_that_have_changed_are_refused(home, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n")
    pieria.fit(tmp_path / "names.txt", "ngram", out=tmp_path / "run", quiet=True)
    (tmp_path / "names.txt").write_text("\n".join(NAMES[1:]) + "\n")
    with pytest.raises(DataError, match="has changed since"):
        pieria.load(tmp_path / "run").dataset()


def test_who_looks_at_samples_is_told_how_previews_are_drawn(tmp_path):
    run = pieria.fit("digits", model="vae", preset="tiny", steps=2, out=tmp_path / "vae", settings={"latent": 2})
    assert run.remarks()[0].endswith("--set observation=typical")
    assert run.remarks(observation="typical") == []
