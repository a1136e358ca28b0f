"""A folder of pictures much larger than what may be held in memory trains within a fixed amount of it.

Protocol: JPEGs of 256 × 256 pixels in colour that take 4 GB decoded (gate: 1 GB) are made. ``pieria fit FOLDER --model gan
--preset tiny`` runs on them in a process of its own, with the cache in a temporary folder, once with the decoded pictures
in a file and once decoded anew for each batch, two processes decoding: looking, fingerprint, decoding, training and saving
are all in it. Resident memory, that of all its processes together, is looked at ten times a second; about half of it is
torch. Then, in this process: pictures decoded in a second by one and by two workers (all of the set, their start and the
digests of the split included), and batches of 32 pictures in random order a second, from memory, from the file and
decoded by two workers, in five alternating pairs.
A fit of a hundred such pictures, held in memory, is run as well: what it takes is not the set's.
Goal: 0.7 GB at most, whatever the size of the set; 0.8 GB where the two workers (60 MB each) go on working in training.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image as Pillow

from benchmarks import Outcome, alternate
from benchmarks.large_text import run_and_watch
from pieria.data import cache
from pieria.data.examples import Examples
from pieria.data.order import Order
from pieria.modalities.image import Image
from pieria.modalities.opening import open_data
from pieria.training.loop import Announcements

GIGABYTE = 10**9
SIZE, GATE_SIZE = 4 * GIGABYTE, GIGABYTE
LIMITS = {"memory": 0.7, "disk": 0.7, "files": 0.8}  # GB
SIDE, FEW, BATCH, STEPS, BATCHES = 256, 100, 32, 20, 10


def write_pictures(folder: Path, count: int, seed: int = 0) -> None:
    """``count`` JPEGs of clouds in two classes, about 8 KB each."""
    generator = np.random.Generator(np.random.Philox(key=seed))
    grain = generator.integers(0, 12, (SIDE, SIDE, 3), dtype=np.uint8)
    for number in range(count):
        place = folder / ("even", "odd")[number % 2] / f"{number:06d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        clouds = generator.integers(0, 244, (8, 8, 3), dtype=np.uint8)
        large = np.asarray(Pillow.fromarray(clouds).resize((SIDE, SIDE), Pillow.Resampling.BICUBIC))
        Pillow.fromarray(large // 2 + np.roll(grain, number, axis=1)).save(place, quality=85)


def decoded_a_second(folder: Path, home: Path, decoders: int) -> float:
    """Pictures that are decoded into a new file in a second."""
    with mock.patch.dict(os.environ, {cache.VARIABLE: str(home / f"by-{decoders}")}):
        looked = Image(Image.Settings.of({"held": "memory"})).read(folder)
        begun = time.perf_counter()
        Image(Image.Settings.of({"held": "disk", "decoders": decoders})).read(folder)
        both = time.perf_counter() - begun
        begun = time.perf_counter()
        Image(Image.Settings.of({"held": "memory"})).read(folder)  # headers are looked at in either case
        return len(looked) / (both - (time.perf_counter() - begun))


def batches_a_second(examples: Examples, seed: int) -> float:
    """Batches in the order of a training run, announced as the loop announces them."""
    order = Order(len(examples), BATCH, seed)
    announce = Announcements(examples, order, [slice(0, BATCH)])
    begun = time.perf_counter()
    for step in range(BATCHES):
        announce(step)
        examples.batch(order.places(step))
    return BATCHES / (time.perf_counter() - begun)


def measure(gate: bool) -> Outcome:
    size = GATE_SIZE if gate else SIZE
    count = -(-size // (3 * SIDE * SIDE))
    measured: dict[str, object] = {"decoded pictures (GB)": round(count * 3 * SIDE * SIDE / GIGABYTE, 2), "pictures": count}
    notes = [f"{STEPS} steps of gan's tiny preset in batches of 4; memory is that of all processes together"]
    passed = True
    # a place on the disk: in many systems /tmp lies in memory
    root = Path(os.environ.get("PIERIA_BENCHMARKS", Path.cwd()))
    with tempfile.TemporaryDirectory(dir=root, prefix=".large-pictures-") as name:
        home, folder = Path(name), Path(name) / "pictures"
        write_pictures(folder, count)
        measured["files (GB)"] = round(sum(file.stat().st_size for file in folder.rglob("*.jpg")) / GIGABYTE, 3)
        write_pictures(home / "few", FEW)
        for held, limit in LIMITS.items():
            out, what = home / held, str(home / "few" if held == "memory" else folder)
            command = [sys.executable, "-m", "pieria", "fit", what, "--model", "gan", "--preset", "tiny", "--quiet"]
            command += ["--steps", str(STEPS), "--set", "batch=4", "--set", f"held={held}", "--set", "decoders=2"]
            environment = {**os.environ, cache.VARIABLE: str(home / "cache")}
            done, most, seconds = run_and_watch([*command, "--out", str(out)], environment)
            state = json.loads((out / "run.json").read_text())["state"] if (out / "run.json").exists() else "never began"
            name_of = f"{FEW} pictures" if held == "memory" else f"held={held}"
            measured[f"most memory, {name_of} (GB)"] = round(most / GIGABYTE, 3)
            measured[f"seconds, all in, {name_of}"] = round(seconds, 1)
            passed &= done.returncode == 0 and state == "done" and most <= limit * GIGABYTE
            if done.returncode:
                notes.append(f"the command failed: {done.stdout[-1000:]}")
        for decoders in (1, 2):
            speed = decoded_a_second(folder, home, decoders)
            measured[f"pictures decoded a second, {decoders} worker{'s'[: decoders - 1]}"] = round(speed)
        with mock.patch.dict(os.environ, {cache.VARIABLE: str(home / "by-2")}):
            parts = {
                held: open_data(folder, settings={"held": held, "decoders": 2}).examples("train")
                for held in ("memory", "disk", "files")
            }
        for held in ("disk", "files"):
            seeds = iter(range(100))
            found = alternate(
                lambda held=held, seeds=seeds: batches_a_second(parts[held], next(seeds)),  # type: ignore[misc]
                lambda seeds=seeds: batches_a_second(parts["memory"], next(seeds)),  # type: ignore[misc]
            )
            measured[f"batches a second, held={held}"] = round(found["first"], 1)
            measured[f"of those from memory, held={held}"] = found["ratio"]
            measured["batches a second from memory"] = round(found["second"], 1)
    goal = {f"most memory, held={held} (GB)": f"≤ {LIMITS[held]}" for held in ("disk", "files")}
    return Outcome(measured=measured, goal=goal, passed=passed, notes=notes)
