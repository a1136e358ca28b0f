import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pieria.data import texts
from pieria.data.texts import LargeText, read_text
from pieria.data.token_files import smallest_type, token_file
from pieria.errors import DataError
from tests.data.mirror import own_cache  # noqa: F401


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=200), st.integers(1, 40))
def test_pieces_of_a_large_text_are_the_text(text, size):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.txt"
        path.write_bytes(text.encode())
        whole = LargeText(path, 0, path.stat().st_size)
        assert "".join(whole.pieces(size)) == text
        middle = len(whole) // 2
        first, second = whole[:middle], whole[middle:]
        assert first.stop == second.start
        assert "".join(first.pieces(size)) + "".join(second.pieces(size)) == text


def test_a_large_file_is_not_held(tmp_path, monkeypatch, own_cache):  # noqa: F811
    monkeypatch.setattr(texts, "IN_MEMORY", 1000)
    path, packed = tmp_path / "large.txt", tmp_path / "large.txt.gz"
    content = "Zeile für Zeile\r\n" * 200
    path.write_bytes(content.encode())
    packed.write_bytes(gzip.compress(content.encode()))
    for file in (path, packed):
        text, findings = read_text(file)
        assert isinstance(text, LargeText)
        assert "".join(text.pieces()) == content.replace("\r\n", "\n")
        assert "piece by piece" in findings[0]
    path.write_bytes(content.encode() + b"\xff\xfe bad")
    text, _ = read_text(path)
    with pytest.raises(DataError, match=f"at byte {len(content.encode()):,}"):
        list(text.pieces(64))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "is empty"),
        (b"  \n\n ", "is empty"),
        (bytes(range(256)) * 40, "binary file"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" * 3, "binary file"),
        ("gut\nschön".encode("latin-1"), "not utf-8 on line 2"),
        ("schön".encode("utf-16"), "not utf-8"),
    ],
)
def test_what_is_not_text_is_refused_by_name(raw, said, tmp_path):
    path = tmp_path / "odd.txt"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=rf"odd\.txt .*{said}"):
        read_text(path)
    assert texts.looks_like_text(path) is False


def test_encodings_marks_and_line_breaks(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("schön".encode("latin-1"))
    assert read_text(path, "latin-1") == ("schön", [])
    path.write_bytes("schön".encode("utf-16"))
    assert read_text(path, "utf-16")[0] == "schön"
    path.write_bytes("\ufeffa\r\nb".encode())
    text, findings = read_text(path)
    assert text == "a\nb"
    assert len(findings) == 2
    with pytest.raises(DataError, match="no encoding is called 'klingon'"):
        read_text(path, "klingon")


def test_a_damaged_gzip_is_told(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"content\n" * 1000)[:40])
    with pytest.raises(DataError, match="not a whole gzip file"):
        read_text(path)


def test_token_files_are_written_once_in_the_narrowest_type(own_cache):  # noqa: F811
    asked = []

    def pieces():
        asked.append(1)
        yield np.array([1, 2, 300])
        yield np.array([4])

    first = token_file({"of": "this"}, 301, pieces())
    again = token_file({"of": "this"}, 301, pieces())
    assert isinstance(again, np.memmap)
    assert first.tolist() == again.tolist() == [1, 2, 300, 4]
    assert first.dtype == np.uint16
    assert len(asked) == 1
    assert [smallest_type(n) for n in (256, 257, 65536, 65537)] == [np.uint8, np.uint16, np.uint16, np.uint32]


def test_an_encoding_that_fails_leaves_nothing(own_cache):  # noqa: F811
    def pieces():
        yield np.array([1])
        raise DataError("no")

    with pytest.raises(DataError, match="no"):
        token_file({"of": "that"}, 10, pieces())
    assert not [path for path in own_cache.rglob("*") if path.is_file()]
