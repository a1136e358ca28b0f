"""Killed (SIGKILL) at random moments while run.json says running, and resumed: the same bits as unbroken, every family.

Protocol: for each family a run is fitted in a process of its own, without a break. A second one with the same settings is
killed at a random moment while its run.json says "running", its directory is read (record, log, checkpoints), and it is
resumed; this goes on until all kills are done or the run is, in which case another one is begun. At the end of every such
run, each tensor of model.safetensors is compared bit for bit with the unbroken one. 20 kills a family; the gate: 4.
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import Outcome
from pieria import registry

KILLS, GATE_KILLS = 20, 4
DATA = {"tokens": "names.txt", "grid": "digits", "row": "wine", "curve": "series.csv"}
PAIRS = "pairs.jsonl"  # for families of symbols that cannot do without a condition
STEPS = {"full": 300, "gate": 150}

FIT = """
import sys, torch, pieria
torch.set_num_threads(1)
data, model, out, steps, to = sys.argv[1:6]
as_ = "series" if data.endswith("series.csv") else None
settings = {"checkpoint_every": 10, "evaluate_every": 25} if steps != "0" else {}
how = {"as_": as_, "to": to or None, "preset": "tiny", "out": out, "settings": settings}
pieria.fit(data, model, steps=int(steps) or None, quiet=True, **how)
"""
RESUME = "import sys, torch, pieria; torch.set_num_threads(1); pieria.fit(resume=sys.argv[1], quiet=True)"


def measure(gate: bool) -> Outcome:
    """Kill and resume every family; count runs that differ and directories that cannot be read."""
    wanted, steps = (GATE_KILLS, STEPS["gate"]) if gate else (KILLS, STEPS["full"])
    measured: dict[str, object] = {}
    notes: list[str] = []
    bad = 0
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        _write_data(home)
        for name in registry.names():
            kills, differing, unreadable = _one(home, name, wanted, steps, notes)
            bad += differing + unreadable + (kills < wanted)
            measured[name] = f"{kills} kills, {differing} differing, {unreadable} unreadable"
    goal = dict.fromkeys(measured, f"{wanted} kills, 0 differing, 0 unreadable")
    return Outcome(measured, goal, passed=bad == 0, notes=notes)


def _one(home: Path, name: str, wanted: int, steps: int, notes: list[str]) -> tuple[int, int, int]:
    """Kills done, runs whose weights differ, directories that could not be read, for one family."""
    described = registry.describe(name)
    form = next(form for form in DATA if form in described.forms)
    turns = "translates" in described.abilities  # pictures into pictures: here into themselves
    place = home / (PAIRS if described.requires_condition and not turns else DATA[form])
    data = str(place) if place.exists() else DATA[form]
    to = data if turns else ""
    budget = "0" if described.learning == "estimates" else str(steps)
    whole = home / f"{name}-whole"
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", FIT, data, name, str(whole), budget, to], capture_output=True, check=False)
    if done.returncode:
        notes.append(f"{name} could not be fitted: {done.stderr.decode()[-300:]}")
        return 0, 1, 0
    lasted = time.monotonic() - begun
    expected = _weights(whole)
    kills = differing = unreadable = attempt = 0
    draw = random.Random(name)
    while kills < wanted and attempt < 10 * wanted:
        out = home / f"{name}-{attempt}"
        attempt += 1
        command = [sys.executable, "-c", FIT, data, name, str(out), budget, to]
        while True:
            killed = _killed(command, out, draw.uniform(0, lasted / 2) if kills < wanted else None)
            kills += killed
            if killed:
                unreadable += not _readable(out)
                command = [sys.executable, "-c", RESUME, str(out)]
            else:
                break
        if not (out / "model.safetensors").exists() or not _same(expected, _weights(out)):
            differing += 1
            notes.append(f"{name}: run {attempt} differs from the unbroken one")
    return kills, differing, unreadable


def _killed(command: list[str], out: Path, wait: float | None) -> bool:
    """Run the command; kill it ``wait`` seconds after its run.json says running. Whether it was running when killed."""
    from pieria.training.workspace import holder, read_record

    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as child:
        while wait is not None and child.poll() is None:
            # its own lock tells a run that is going on from one that was killed before
            if (out / "run.json").exists() and holder(out) and read_record(out)["state"] == "running":
                try:
                    child.wait(wait)
                except subprocess.TimeoutExpired:
                    running = read_record(out)["state"] == "running"
                    child.send_signal(signal.SIGKILL)
                    child.wait()
                    return running and child.returncode == -signal.SIGKILL
            time.sleep(0.002)
        child.wait()
    return False


def _readable(path: Path) -> bool:
    """Whether everything in a run directory that a reader may open is whole."""
    from pieria.errors import PieriaError
    from pieria.models import weights
    from pieria.training import checkpoints
    from pieria.training.workspace import read_log, read_record

    try:
        read_record(path)
        read_log(path)
        for file in (path / "checkpoints").glob("[!.]*.safetensors"):
            checkpoints.read(file)
        if (path / "model.safetensors").exists():
            weights.load(path / "model.safetensors")
    except PieriaError:
        return False
    return True


def _weights(path: Path) -> dict[str, object]:
    from safetensors.torch import load_file

    return dict(load_file(path / "model.safetensors"))


def _same(first: dict, second: dict) -> bool:
    import torch

    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _write_data(home: Path) -> None:
    import json
    import math

    names = {f"{a}{b}{c}" for a in "abcdefghijklmnop" for b in ("nna", "lan", "rix", "mo") for c in ("", "s", "ette", "ino")}
    (home / "names.txt").write_text("\n".join(sorted(names)) + "\n")
    pairs = [json.dumps({"prompt": name[::-1], "completion": name}) for name in sorted(names)]
    (home / PAIRS).write_text("\n".join(pairs) + "\n")
    rows = [f"{x / 10},{math.sin(x / 5) + 0.1 * math.sin(x * 7)}" for x in range(200)]
    (home / "series.csv").write_text("x,y\n" + "\n".join(rows) + "\n")
