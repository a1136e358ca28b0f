import pytest

from pieria.data.storage import finite, read_json, write_atomically, write_json
from pieria.errors import RunError


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_json(path, {"ä": [1, None]})
    assert read_json(path) == {"ä": [1, None]}
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    import os

    path = tmp_path / "a.txt"
    write_atomically(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"a\.txt could not be written \(No space left on device\)"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_damaged_and_missing_json_are_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(RunError, match=r"a\.json cannot be read"):
        read_json(tmp_path / "a.json")
    with pytest.raises(RunError, match=r"b\.json does not exist"):
        read_json(tmp_path / "b.json")


def test_numbers_that_json_has_no_word_for_are_null(tmp_path):
    whole = {"a": [1.5, float("nan")], "b": {"c": (float("inf"), -2)}, "d": "inf", "e": None}
    assert finite(whole) == {"a": [1.5, None], "b": {"c": [None, -2]}, "d": "inf", "e": None}
    write_json(tmp_path / "a.json", finite(whole))
    assert read_json(tmp_path / "a.json")["a"] == [1.5, None]
