import sys

from pieria.training import progress
from pieria.training.loop import learn
from pieria.training.plan import Plan
from tests.training.runs import examples, model


def shown(quiet: bool = False) -> None:
    with progress.shown(quiet=quiet) as watch:
        learn(model("affine"), examples("affine"), examples("affine", 50, 1), Plan(steps=50, batch=8), watch=watch)


def test_plain_lines_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_EVERY", 0.0)
    shown()
    said = capsys.readouterr()
    assert said.out == ""
    assert "step 50  density " in said.err
    assert "held out" in said.err


def test_quiet_says_nothing(capsys):
    shown(quiet=True)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    shown()
    said = capsys.readouterr()
    assert said.out == ""
    assert "50/50  density" in said.err
    assert "left" in said.err
