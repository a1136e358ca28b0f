import json
from pathlib import Path

import pytest

from pieria.cli import output
from pieria.cli.output import print_records, print_table, print_wide_table

WIDE = [{f"a rather long name {n}": "some value here" for n in range(12)} for _ in range(5)]


@pytest.mark.parametrize("columns", [60, 100])
def test_rows_too_wide_for_the_terminal_stand_side_by_side(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    print_records(WIDE)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    whole = [line for line in lines if line.startswith("a rather long name 3")]
    assert "".join(whole).count("some value here") == len(WIDE)


def test_columns_without_room_go_on_below_beside_the_first_one_again(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    print_wide_table(["figure", "autoencoder", "diffusion", "gan"], [["C-FID", "10.28", "4.724", "1.099"]])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["figure", "autoencoder", "diffusion"],
        ["C-FID", "10.28", "4.724"],
        [],
        ["figure", "gan"],
        ["C-FID", "1.099"],
    ]


def test_narrow_rows_keep_their_line(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    print_records([{"age": 31, "job": "Sales"}, {"age": 7, "job": "none"}])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["age", "job"],
        ["31", "Sales"],
        ["7", "none"],
    ]


def test_numbers_are_aligned_to_the_right(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    print_table(["model", "value"], [("a", "1,234"), ("b", "0.5"), ("c", "–")])
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()][1:] == [
        "a      1,234",
        "b        0.5",
        "c          –",
    ]


def test_a_pipe_is_wide_unless_columns_says_otherwise(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert output.width() == 160


def test_json_is_json_even_where_a_figure_is_not_finite(capsys):
    output.print_json({"log_prob": [float("-inf"), -1.5], "path": Path("a")})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {"log_prob": [None, -1.5], "path": "a"}
