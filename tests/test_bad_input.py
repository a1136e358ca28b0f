"""Bad input, as users have it: each is a `PieriaError` that names the file and the cure, and leaves nothing behind."""

import os
import struct
import zipfile
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

import pieria
from pieria.errors import PieriaError


def empty_text(folder):
    path = folder / "empty.txt"
    path.write_bytes(b"")
    return path, {"model": "ngram"}


def one_short_line(folder):
    path = folder / "line.txt"
    path.write_text("a\n")
    return path, {"model": "ngram"}


def binary_as_text(folder):
    path = folder / "binary.txt"
    path.write_bytes(bytes(range(256)) * 40)
    return path, {"model": "ngram", "as_": "text"}


def wrong_encoding(folder):
    path = folder / "latin.txt"
    path.write_bytes("Käse und Öl, Straße und Fluß. ".encode("latin-1") * 50)
    return path, {"model": "ngram", "as_": "text"}


def pictures(folder, count=12, size=(8, 8), mode="L"):
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    for number in range(count):
        Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def truncated_png(folder):
    path = pictures(folder / "pictures")
    whole = (path / "3.png").read_bytes()
    (path / "3.png").write_bytes(whole[: len(whole) // 2])
    return path, {"model": "mixture", "names": "3.png"}


def not_a_picture(folder):
    path = pictures(folder / "pictures")
    (path / "3.png").write_text("I am no picture")
    return path, {"model": "mixture", "names": "3.png"}


def decompression_bomb(folder):
    path = pictures(folder / "pictures")

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    (path / "3.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )
    return path, {"model": "mixture", "names": "3.png"}


def mixed_sizes(folder):
    path = pictures(folder / "pictures")
    Image.new("L", (9, 5)).save(path / "odd.png")
    return path, {"model": "mixture", "names": "pictures"}


def mixed_modes(folder):
    path = pictures(folder / "pictures")
    Image.new("RGBA", (8, 8)).save(path / "odd.png")
    return path, {"model": "mixture", "names": "pictures"}


def no_pictures(folder):
    path = folder / "nothing"
    path.mkdir()
    return path, {"model": "mixture", "as_": "image"}


def zip_that_climbs(folder):
    path = folder / "climbs.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../outside.png", b"x")
    return path, {"model": "mixture", "as_": "image"}


def table(folder, text):
    path = folder / "table.csv"
    path.write_text(text)
    return path, {"model": "mixture", "as_": "table"}


def ragged_rows(folder):
    return table(folder, "a,b\n" + "1,2\n" * 20 + "1,2,3\n" + "1,2\n" * 20)


def duplicated_headers(folder):
    return table(folder, "a,a\n" + "1,2\n" * 20)


def empty_header(folder):
    return table(folder, "a,\n" + "1,2\n" * 20)


def infinity(folder):
    return table(folder, "a,b\n" + "1.5,2\n2.5,3\n" * 20 + "inf,2\n")


def header_alone(folder):
    return table(folder, "a,b\n")


def damaged_parquet(folder):
    path = folder / "table.parquet"
    path.write_bytes(b"PAR1 no parquet at all")
    return path, {"model": "mixture", "as_": "table"}


def pickled_array(folder):
    path = folder / "objects.npz"
    np.savez(path, images=np.array([{"a": 1}, None], dtype=object))
    return path, {"model": "mixture", "as_": "image"}


def damaged_gzip(folder):
    path = folder / "text.txt.gz"
    path.write_bytes(b"\x1f\x8b\x08\x00 nothing that follows is right")
    return path, {"model": "ngram", "as_": "text"}


def series_without_numbers(folder):
    path = folder / "series.csv"
    path.write_text("when,what\n2020-01-01,high\n2020-01-02,low\n")
    return path, {"model": "gp", "as_": "series"}


def no_such_path(folder):
    return folder / "nowhere.csv", {"model": "mixture"}


CASES = [
    empty_text,
    one_short_line,
    binary_as_text,
    wrong_encoding,
    truncated_png,
    not_a_picture,
    decompression_bomb,
    mixed_sizes,
    mixed_modes,
    no_pictures,
    zip_that_climbs,
    ragged_rows,
    duplicated_headers,
    empty_header,
    infinity,
    header_alone,
    damaged_parquet,
    pickled_array,
    damaged_gzip,
    series_without_numbers,
    no_such_path,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_bad_files_are_told_and_leave_nothing(case, tmp_path):
    path, asked = case(tmp_path)
    name = asked.pop("names", path.name)
    model = asked.pop("model")
    out = tmp_path / "run"
    with pytest.raises(PieriaError) as caught:
        pieria.fit(path, model, out=out, preset="tiny", steps=2, quiet=True, **asked)
    said = str(caught.value)
    assert name in said, said
    assert caught.value.wanted or caught.value.do, f"no cure is named: {said}"
    assert caught.value.exit_code in (1, 2)
    assert not out.exists(), sorted(out.rglob("*"))
    assert not (tmp_path.parent / "outside.png").exists()


@contextmanager
def as_nobody():
    """The tests may run as root, whom no permission stops."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


def test_a_path_without_permission_is_told(tmp_path):
    path = tmp_path / "secret.txt"
    path.write_text("nobody may read this\n" * 50)
    path.chmod(0)
    for folder in [tmp_path, *tmp_path.parents]:
        if not os.access(folder, os.X_OK) or not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
        if folder == folder.parent or len(folder.parts) <= 2:
            break
    from pieria.modalities.opening import open_data

    with as_nobody(), pytest.raises(PieriaError, match=r"secret\.txt"):
        open_data(path, as_="text")


@pytest.mark.parametrize(
    ("data", "asked", "expected"),
    [
        ("digitz", {"model": "mixture"}, "digits"),
        ("digits", {"model": "mixtur"}, "mixture"),
        ("digits", {"model": "mixture", "preset": "tini"}, "tiny"),
        ("digits", {"model": "mixture", "settings": {"componentz": 3}}, "components"),
        ("digits", {"model": "mixture", "as_": "picture"}, "image"),
    ],
)
def test_unknown_names_get_the_nearest(data, asked, expected, tmp_path):
    with pytest.raises(PieriaError, match=expected) as caught:
        pieria.fit(data, asked.pop("model"), out=tmp_path / "run", steps=1, quiet=True, **asked)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "run").exists()


def test_a_family_that_does_not_fit_the_data_is_told(tmp_path):
    with pytest.raises(PieriaError, match="pieria models --data"):
        pieria.fit("digits", "gpt", out=tmp_path / "run", steps=1, quiet=True)
    assert not (tmp_path / "run").exists()
