import json
import subprocess
import sys

import pytest
import typer

from pieria.cli import draw, judge
from pieria.cli.output import pairs
from pieria.comparison import Comparison, Entry
from pieria.errors import UsageError
from pieria.training.plan import seconds_of


def pieria(*words, code=0, cwd=None):
    done = subprocess.run(
        [sys.executable, "-m", "pieria", *map(str, words)], capture_output=True, text=True, cwd=cwd, check=False
    )
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


VERBS = [
    "data",
    "models",
    "fit",
    "sample",
    "score",
    "chat",
    "translate",
    "embed",
    "evaluate",
    "compare",
    "mix",
    "explain",
    "audit",
    "latent",
]


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        *([verb, "--help"] for verb in VERBS),
        ["models"],
        ["data"],
        ["explain", "vae"],
        ["explain", "latent space"],
    ],
    ids=" ".join,
)
def test_asking_for_help_imports_no_torch(words):
    script = (
        "import sys; sys.argv = ['pieria', *sys.argv[1:]]\n"
        "from pieria.cli.main import app\n"
        "try: app()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_help_has_examples(verb):
    assert "Examples:" in pieria(verb, "--help").stdout


def test_asked_wrongly_is_exit_2_with_the_nearest_name():
    said = pieria("fit", "digits", "--model", "vea", code=2).stderr
    assert "Did you mean 'vae'" in said
    assert "Traceback" not in said


def test_fit_without_data_or_model_says_what_is_wanted():
    assert "pieria fit DATA --model FAMILY" in pieria("fit", code=2).stderr


def test_a_run_that_does_not_exist_is_told(tmp_path):
    said = pieria("sample", tmp_path / "nothing", code=1).stderr
    assert "nothing" in said
    assert "Traceback" not in said


def test_json_is_all_that_stands_on_stdout():
    families = json.loads(pieria("models", "--json").stdout)
    assert {"name", "forms", "abilities", "likelihood"} <= set(families[0])
    assert json.loads(pieria("explain", "noise", "--json").stdout)["term"] == "noise"


@pytest.mark.parametrize(("text", "expected"), [("60s", 60), ("10m", 600), ("1.5h", 5400), ("45", 45), ("2 min", 120)])
def test_times(text, expected):
    assert seconds_of(text) == expected


@pytest.mark.parametrize("text", ["", "0s", "fast", "-3s", "10x"])
def test_times_that_are_none(text):
    with pytest.raises(UsageError, match=r"60s|more than 0"):
        seconds_of(text)


def test_pairs_need_an_equals_sign():
    assert pairs(["a=1", "b-c=x=y"]) == {"a": "1", "b_c": "x=y"}
    with pytest.raises(UsageError, match="KEY=VALUE"):
        pairs(["width"])


def test_a_comparison_in_which_every_family_failed_is_exit_1(monkeypatch, capsys, tmp_path):
    failed, fine = Entry("vae", error="it diverged"), Entry("gan")
    for entries, code in (([failed], 1), ([failed, fine], None)):
        found = Comparison("digits", "1 steps", 0, entries, tmp_path)
        monkeypatch.setattr("pieria.comparison.compare", lambda *_, found=found, **__: found)
        if code is None:
            judge.compare("digits", models="vae,gan", json=True)
        else:
            with pytest.raises(typer.Exit) as ended:
                judge.compare("digits", models="vae", json=True)
            assert ended.value.exit_code == code
        assert json.loads(capsys.readouterr().out)["models"][0]["error"] == "it diverged"


def test_what_was_drawn_is_plain_json_or_lies_in_a_file():
    import numpy as np
    from PIL import Image

    from pieria.modalities.curves import Measured

    days = np.array(["2020-01-01", "2020-01-03"], dtype="datetime64[us]")
    curve = Measured(days, np.array([1.5, 2.0]), names=("when", "what"), format="%Y-%m-%d")
    assert draw._plain(curve) == {"when": ["2020-01-01", "2020-01-03"], "what": [1.5, 2.0]}
    assert draw._plain("a text") == "a text"
    assert draw._plain({"age": 31}) == {"age": 31}
    assert draw._plain(Image.new("L", (2, 2))) is None
