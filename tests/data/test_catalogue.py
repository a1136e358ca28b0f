import json
import subprocess
import sys
import time

import numpy as np
import pytest

from pieria.data import catalogue
from pieria.data.catalogue import Entry, File
from pieria.errors import DataError, UsageError
from tests.data.mirror import from_mirror, mirror, needs_mirror, own_cache  # noqa: F401

EMBEDDED = [name for name, entry in catalogue.entries().items() if entry.embedded]
FETCHED = [name for name, entry in catalogue.entries().items() if not entry.embedded and not entry.made_of]


def test_listing_needs_no_torch_and_no_data():
    code = (
        "import sys; from pieria.data import catalogue; names = catalogue.names(); "
        "heavy = {'torch', 'sklearn', 'pandas', 'requests', 'pooch'} & set(sys.modules); "
        "assert len(names) >= 25 and all(names.values()) and not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", catalogue.entries())
def test_every_entry_says_what_a_user_must_know(name):
    entry = catalogue.find(name)
    assert entry.description.endswith(".")
    assert entry.licence
    assert entry.source
    assert entry.items
    assert entry.read or entry.parts
    assert entry.embedded or entry.files or entry.made_of in catalogue.entries()
    assert set(entry.to) in (set(), set(entry.parts))
    assert set(entry.parts) <= {"train", "validation", "test"}
    assert all(len(file.sha256) == 64 for file in entry.files)


@needs_mirror
def test_a_set_made_of_another_is_made_once(from_mirror):  # noqa: F811
    folder = catalogue.find("wikitext-headings").fetch()
    stamp = (folder / "train.jsonl").stat().st_mtime_ns
    assert catalogue.find("wikitext-headings").fetch() == folder
    assert (folder / "train.jsonl").stat().st_mtime_ns == stamp
    records = [json.loads(line) for line in (folder / "validation.jsonl").read_text().splitlines()]
    assert all(set(record) == {"prompt", "completion"} for record in records)
    assert records[1]["completion"] == "Description"
    assert records[1]["prompt"].startswith("Homarus gammarus is a large")


def test_unknown_names_get_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'digits'"):
        catalogue.find("digitz")


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_sets_are_made_once(name, own_cache):  # noqa: F811
    if catalogue.find(name).needs in ("scikit-image", "statsmodels"):
        pytest.importorskip({"scikit-image": "skimage"}.get(catalogue.find(name).needs, "statsmodels"))
    folder = catalogue.find(name).fetch()
    assert own_cache in folder.parents
    made = folder / catalogue.find(name).read
    stamp = made.stat().st_mtime_ns
    assert catalogue.find(name).fetch() == folder
    assert made.stat().st_mtime_ns == stamp
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_what_the_embedded_sets_hold(own_cache):  # noqa: F811
    with np.load(catalogue.find("digits").fetch() / "images.npz") as digits:
        assert digits["images"].shape == (1797, 8, 8)
        assert digits["images"].max() == 16
        assert digits["levels"] == 17
    folder = catalogue.find("glyphs").fetch()
    captions = json.loads((folder / "captions.json").read_text())
    with np.load(folder / "images.npz") as glyphs:
        images, labels, names = glyphs["images"], glyphs["labels"], glyphs["class_names"]
    assert images.shape == (1178, 32, 32)
    assert len(captions) == 1178
    assert captions[0] == "a plain sans serif capital A"
    assert all(caption.endswith(names[label]) for caption, label in zip(captions, labels, strict=True))
    # each is drawn whole: ink in the middle, none on the border, and no two symbols of a face alike
    assert images.reshape(1178, -1).max(axis=1).min() == 255
    assert images[:, 0].max() == 0
    assert images[:, -1].max() == 0
    assert len({image.tobytes() for image in images[:62]}) == 62
    manual = (catalogue.find("python-manual").fetch() / "manual.txt").read_text()
    assert "The `assert` statement" in manual or 'The "assert" statement' in manual


@needs_mirror
@pytest.mark.parametrize("name", FETCHED)
def test_the_mirror_holds_every_fetched_set(name, from_mirror):  # noqa: F811
    entry = catalogue.find(name)
    folder = entry.fetch()
    assert mirror() in folder.parents
    assert all((folder / file).is_file() for file in entry.parts.values() or [entry.read])


def entry_with(path, sha256, url="", checksum=""):
    return Entry("mine", "text", "Mine.", "none", "nowhere", files=(File(path, sha256, url, checksum),), read="a.txt")


def test_a_changed_file_in_the_mirror_is_refused(tmp_path, monkeypatch, own_cache):  # noqa: F811
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("changed")
    monkeypatch.setenv("PIERIA_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"a\.txt has the SHA-256 .*replace it"):
        entry_with("text/a.txt", "0" * 64).fetch()


def test_without_an_address_a_mirror_is_asked_for(monkeypatch, own_cache):  # noqa: F811
    monkeypatch.delenv("PIERIA_DATA", raising=False)
    with pytest.raises(DataError, match=r"PIERIA_DATA=DIR at a folder that holds text/a\.txt"):
        entry_with("text/a.txt", "0" * 64).fetch()


@pytest.fixture
def served(tmp_path):
    """A folder over HTTP, on this machine."""
    import threading
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    (tmp_path / "www").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "www"))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield tmp_path / "www", f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_set_is_downloaded_checked_and_kept(served, monkeypatch, own_cache):  # noqa: F811
    import hashlib

    monkeypatch.delenv("PIERIA_DATA", raising=False)
    folder, address = served
    (folder / "a.txt").write_text("content")
    right = entry_with("text/a.txt", hashlib.sha256(b"content").hexdigest(), f"{address}/a.txt")
    assert (right.fetch() / "a.txt").read_text() == "content"
    (folder / "a.txt").unlink()
    assert (right.fetch() / "a.txt").read_text() == "content"

    (folder / "a.txt").write_text("something else")
    wrong = entry_with("text/b/a.txt", "0" * 64, f"{address}/a.txt")
    with pytest.raises(DataError, match="not the file that was published"):
        wrong.fetch()
    assert not list((own_cache / "sets" / "text" / "b").iterdir())

    packed = entry_with("text/c/a.txt", "0" * 64, f"{address}/a.txt", f"md5:{hashlib.md5(b'something else').hexdigest()}")
    assert (packed.fetch() / "a.txt").read_text() == "something else"


def test_without_a_network_it_fails_quickly_and_names_the_mirror(monkeypatch, own_cache):  # noqa: F811
    monkeypatch.delenv("PIERIA_DATA", raising=False)
    begun = time.perf_counter()
    with pytest.raises(DataError, match=r"could not be fetched.*point PIERIA_DATA=DIR at a folder that holds text/a\.txt"):
        entry_with("text/a.txt", "0" * 64, "http://127.0.0.1:9/a.txt").fetch()
    assert time.perf_counter() - begun < 5
