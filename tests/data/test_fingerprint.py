import gzip

import numpy as np
import pytest
from PIL import Image

from pieria.data import fingerprint
from pieria.errors import DataError


def test_content_counts_and_neither_name_nor_date_nor_packing(tmp_path):
    one, two, packed = tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "c.txt.gz"
    one.write_text("the same")
    two.write_text("the same")
    packed.write_bytes(gzip.compress(b"the same"))
    assert fingerprint.of_path(one) == fingerprint.of_path(two) == fingerprint.of_path(packed)
    two.write_text("the other")
    assert fingerprint.of_path(one) != fingerprint.of_path(two)


def test_a_folder_is_its_names_and_contents(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name / "cat").mkdir(parents=True)
        (tmp_path / name / "cat" / "1.txt").write_text("1")
        (tmp_path / name / "2.txt").write_text("2")
    assert fingerprint.of_path(tmp_path / "x") == fingerprint.of_path(tmp_path / "y")
    (tmp_path / "y" / ".DS_Store").write_text("rubbish")
    (tmp_path / "y" / "about.json").write_text('{"licence": "CC0"}')  # stated later: the data are the same
    assert fingerprint.of_path(tmp_path / "x") == fingerprint.of_path(tmp_path / "y")
    (tmp_path / "y" / "2.txt").rename(tmp_path / "y" / "3.txt")
    assert fingerprint.of_path(tmp_path / "x") != fingerprint.of_path(tmp_path / "y")


def test_a_damaged_gzip_still_has_one(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"content" * 100)[:30])
    assert len(fingerprint.of_path(path)) == 64


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.txt"):
        fingerprint.of_path(tmp_path / "nothing.txt")


def test_items_differ_when_their_content_does():
    zeros, ones = np.zeros((2, 3), np.uint8), np.ones((2, 3), np.uint8)
    different = [
        "a", b"a", "", None, 1, "1", [1, 2], [12], ["ab", "c"], ["a", "bc"], {"a": 1}, {"a": 2}, {"b": 1},
        zeros, ones, zeros.reshape(3, 2), zeros.astype(np.int16), Image.fromarray(zeros), Image.fromarray(ones),
    ]  # fmt: skip
    digests = [fingerprint.of_item(item) for item in different]
    assert len(set(digests)) == len(different)
    assert fingerprint.of_item({"a": 1, "b": 2}) == fingerprint.of_item({"b": 2, "a": 1})
