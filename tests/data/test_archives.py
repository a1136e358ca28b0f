import stat
import zipfile

import pytest

from pieria.data.archives import unpacked
from pieria.errors import DataError
from tests.data.mirror import own_cache  # noqa: F401


def packed(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    return path


def test_a_zip_is_unpacked_once_and_its_only_folder_is_entered(tmp_path, own_cache):  # noqa: F811
    path = packed(tmp_path / "a.zip", ["set/cat/1.txt", "set/dog/2.txt", "__MACOSX/set/._1.txt"])
    folder = unpacked(path)
    assert sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.txt")) == ["cat/1.txt", "dog/2.txt"]
    assert unpacked(path) == folder
    assert own_cache in folder.parents


@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "..\\evil.txt", "C:/evil.txt"])
def test_names_that_lead_outside_are_refused_and_nothing_stays(name, tmp_path, own_cache):  # noqa: F811
    with pytest.raises(DataError, match=r"bad\.zip holds the name .*outside"):
        unpacked(packed(tmp_path / "bad.zip", ["fine.txt", name]))
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "bad.zip"]


def test_links_are_refused(tmp_path, own_cache):  # noqa: F811
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="holds a link"):
        unpacked(tmp_path / "a.zip")


def test_more_than_fits_is_refused_before_it_is_written(tmp_path, own_cache, monkeypatch):  # noqa: F811
    from pieria.data import archives

    monkeypatch.setattr(archives, "MOST", 10)
    with pytest.raises(DataError, match="unpacks to 14 bytes"):
        unpacked(packed(tmp_path / "a.zip", ["1.txt", "2.txt"]))


def test_a_damaged_archive_is_named(tmp_path, own_cache):  # noqa: F811
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(DataError, match=r"a\.zip is not a zip archive"):
        unpacked(tmp_path / "a.zip")


def test_content_that_cannot_be_unpacked_is_told(tmp_path, own_cache):  # noqa: F811
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", "content " * 500)
    raw = bytearray(path.read_bytes())
    raw[30 + len("a.txt")] = 0xFF  # a kind of block that deflate does not know
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"a\.zip is not a zip archive, or is damaged"):
        unpacked(path)
    assert not [file for file in own_cache.rglob("*") if file.is_file()]
