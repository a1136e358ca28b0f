"""Sets of pictures that are not held in memory: the same batches, bit for bit, as sets that are."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import pieria
from pieria.data import cache, fingerprint, room
from pieria.errors import DataError, PieriaError
from pieria.modalities import decoding, folders, stored
from pieria.modalities.image import Image
from pieria.modalities.opening import open_data
from pieria.noise import ItemNoise

HELD = ("memory", "disk", "files")


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def pictures(path, count=40, shape=(11, 13, 3), classes=("ape", "bee")):
    generator = np.random.default_rng(0)
    for number in range(count):
        place = path / classes[number % len(classes)]
        place.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)).save(place / f"{number}.png")
    return path


SETTINGS = {
    "as they come": {},
    "drawn and mirrored": {"binarize": "dynamic", "flip": True},
    "many levels": {"levels": 1000, "colour": "grey"},
    "resized to few levels": {"size": "7,5", "fit": "pad", "levels": 7, "flip": True},
    "threshold": {"binarize": "threshold"},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_batches_are_the_same_wherever_pictures_are_held(tmp_path, own_cache, settings):
    path = pictures(tmp_path / "set")
    wanted, *others = (open_data(path, settings={**settings, "held": held, "decoders": 2}) for held in HELD)
    # some places twice, as where an epoch ends within a batch
    places = [*np.random.default_rng(1).permutation(len(wanted.parts["train"]))[:12].tolist(), 3, 3]
    for found in others:
        assert (found.fingerprint, found.form) == (wanted.fingerprint, wanted.form)
        for part in ("train", "validation", "train+validation"):
            for training in (False, True):
                here, there = (data.examples(part, training=training) for data in (wanted, found))
                assert not here.fetches
                assert there.fetches
                assert len(here) == len(there)
                which = [place % len(here) for place in places]
                there.ahead(np.asarray(which))
                batches = [e.batch(which, ItemNoise(0, 0, items=which) if training else None) for e in (here, there)]
                assert batches[0].x.dtype == batches[1].x.dtype
                assert torch.equal(batches[0].x, batches[1].x)
                assert torch.equal(batches[0].condition, batches[1].condition)
                assert torch.equal(here.x, there.x)
                swept = [torch.cat([batch.x for batch in e.sweep(7)]) for e in (here, there)]
                assert torch.equal(*swept)


def test_runs_are_the_same_wherever_pictures_are_held_and_resumed(tmp_path, own_cache):
    path = pictures(tmp_path / "set")
    asked = {"decoders": 1, "batch": 8, "flip": True, "schedule": "constant"}

    def fitted(held, steps):
        settings = {**asked, "held": held}
        return pieria.fit(path, "gan", preset="tiny", steps=steps, out=tmp_path / held, settings=settings, quiet=True)

    wanted = fitted("memory", 4).model.state_dict()
    for held, run in (
        ("disk", fitted("disk", 4)),
        ("files", pieria.fit(resume=fitted("files", 2).path, steps=4, quiet=True)),
    ):
        for name, value in run.model.state_dict().items():
            assert torch.equal(value, wanted[name]), (held, name)


def test_a_set_is_decoded_once(tmp_path, own_cache, monkeypatch):
    path = pictures(tmp_path / "set")
    first = open_data(path, settings={"held": "disk"})

    def refused(*words):
        raise AssertionError("decoded again")

    monkeypatch.setattr(stored, "Workers", refused)
    second = open_data(path, settings={"held": "disk"})
    assert torch.equal(first.examples("train").x, second.examples("train").x)
    file = second.parts["train"].artifacts.store.file
    assert file.stat().st_size == 40 * 3 * 11 * 13
    # other pixels under the same name are other data, and are decoded
    Pillow.new("RGB", (13, 11)).save(path / "ape" / "0.png")
    with pytest.raises(AssertionError, match="decoded again"):
        open_data(path, settings={"held": "disk"})
    with file.open("r+b") as cut:
        cut.truncate(1000)
    with pytest.raises(DataError, match="ends too early"):
        first.examples("train").x


def test_only_what_would_crowd_the_memory_leaves_it(tmp_path, own_cache, monkeypatch):
    path, wanted = pictures(tmp_path / "set"), 40 * 3 * 11 * 13
    monkeypatch.setattr(room, "memory", lambda: wanted * stored.SHARE)
    assert open_data(path).parts["train"].artifacts.store is None
    assert not own_cache.exists()
    monkeypatch.setattr(room, "memory", lambda: wanted * stored.SHARE - 1)
    monkeypatch.setattr(room, "disk", lambda folder: wanted)  # four fifths of it are not enough
    data = open_data(path)
    assert data.parts["train"].artifacts.store.file is None
    assert "each batch is decoded anew" in data.findings[1]
    with pytest.raises(DataError, match=r"40 decoded pictures take .* PIERIA_CACHE=DIR, set a smaller size, or held=files"):
        open_data(path, settings={"held": "disk"})
    monkeypatch.setattr(room, "disk", lambda folder: 2 * wanted)
    data = open_data(path)
    assert data.parts["train"].artifacts.store.file is not None
    assert "read from a file in the cache" in data.findings[1]


@pytest.mark.parametrize("held", ["disk", "files"])
def test_broken_pictures_are_refused_or_left_out_as_in_memory(tmp_path, own_cache, held):
    path = pictures(tmp_path / "set")
    whole = (path / "bee" / "5.png").read_bytes()
    # its end is there, so that only decoding shows that it is broken
    (path / "bee" / "5.png").write_bytes(whole[:60] + bytes(len(whole) - 80) + whole[-20:])
    with pytest.raises(DataError, match=r"bee/5\.png cannot be decoded .* leave it out \(broken=skip\)"):
        open_data(path, settings={"held": held})
    assert not list(own_cache.rglob("*.bin"))
    assert not list(own_cache.glob("pictures/*"))
    found, wanted = (open_data(path, settings={"held": place, "broken": "skip"}) for place in (held, "memory"))
    assert sum(map(len, found.parts.values())) == 39
    for part in found.parts:
        assert torch.equal(found.examples(part).x, wanted.examples(part).x)
    assert any("1 broken pictures were left out" in line and "5.png" in line for line in found.findings)


def test_looking_in_workers_finds_what_looking_here_finds(tmp_path, own_cache, monkeypatch):
    path = pictures(tmp_path / "set", count=30)
    (path / "bee" / "nothing.png").write_text("no picture")
    modality = Image(Image.Settings.of({"broken": "skip"}))
    here = modality.read(path)
    monkeypatch.setattr(folders, "MANY", 5)
    monkeypatch.setattr(stored, "LOOKED_AT_ONCE", 7)
    there = modality.read(path)
    assert (here.artifacts.names, here.labels, here.findings) == (there.artifacts.names, there.labels, there.findings)
    with pytest.raises(DataError, match=r"nothing\.png is not a picture"):
        Image(Image.Settings.of({})).read(path)


def test_a_worker_that_is_killed_is_told(tmp_path, own_cache):
    files = Image(Image.Settings.of({})).read(pictures(tmp_path / "set", count=4)).artifacts
    shape = folders.shape_of(files.look(0), Image.Settings.of({}))
    with decoding.Workers(1) as workers:
        workers._all[0]._process.kill()
        with pytest.raises(DataError, match=r"a process that decodes pictures ended while it had ape/0\.png to bee/3\.png"):
            workers.decode(files, range(4), shape).result()


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, own_cache):
    files = Image(Image.Settings.of({})).read(pictures(tmp_path / "set", count=4)).artifacts
    shape = folders.shape_of(files.look(0), Image.Settings.of({}))
    full = cache.Path("/dev/full")
    if not full.exists():
        pytest.skip("no device that is always full")
    with (
        decoding.Workers(1) as workers,
        pytest.raises(PieriaError, match=r"could not be written \(No space left.*held=files"),
    ):
        workers.decode(files, range(4), shape, into=(full, 0)).result()


def test_an_interrupt_leaves_nothing(tmp_path, own_cache):
    path = pictures(tmp_path / "set", count=1, shape=(600, 600, 3))
    for number in range(200):
        shutil.copy(path / "ape" / "0.png", path / "ape" / f"more-{number}.png")
    asked = [sys.executable, "-m", "pieria", "data", str(path), "--set", "held=disk", "--set", "decoders=1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    # where the tests run in the background, Ctrl-C is ignored, and would be by what they start
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(asked, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    for _ in range(600):
        if list(own_cache.glob("pictures/.*/*/pixels.bin")):
            break
        time.sleep(0.05)
    else:
        pytest.fail(f"nothing was begun: {process.communicate()}")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode in (1, 130, -signal.SIGINT), said
    assert "Traceback" not in said
    assert not list(own_cache.glob("pictures/*"))
    assert not list(own_cache.glob("pictures/.*"))


def test_the_fingerprint_of_a_folder_is_read_once_until_something_changes(tmp_path, monkeypatch):
    path = pictures(tmp_path / "set", count=4)
    first = fingerprint.of_path(path)
    (path / "about.json").write_text(json.dumps({"licence": "mine"}))
    monkeypatch.setattr(fingerprint, "_of_content", lambda file: pytest.fail("read again"))
    assert fingerprint.of_path(path) == first
    monkeypatch.undo()
    (path / "ape" / "0.png").write_bytes(b"other")
    assert fingerprint.of_path(path) != first
