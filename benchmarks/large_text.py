"""A text file much larger than memory trains within a fixed amount of it.

Protocol: a text of 5 GB (gate: 1.5 GB) is generated, then ``pieria fit FILE --model gpt --preset tiny`` runs on it in a
process of its own with the cache in a temporary folder, so that vocabulary, fingerprint, encoding, training, held-out
looks and saving are all in it. Its resident memory, pages of mapped files included, is looked at ten times a second.
Goal: 2 GB for the 5 GB file; 1 GB for the 1.5 GB file, so that neither can be held whole, nor can its symbols.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from benchmarks import Outcome

GIGABYTE = 10**9
SIZE, LIMIT = 5 * GIGABYTE, 2 * GIGABYTE
GATE_SIZE, GATE_LIMIT = 3 * GIGABYTE // 2, GIGABYTE
STEPS = 300


def write_text(path: Path, size: int, seed: int = 0) -> None:
    """``size`` bytes of made-up prose: 4,000 sentences of Zipf-distributed words, drawn at random."""
    generator = np.random.Generator(np.random.Philox(key=seed))
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(generator.choice(letters, length)) for length in generator.integers(2, 10, 5000)]
    sentences = [
        " ".join(words[rank % 5000] for rank in generator.zipf(1.3, length)).capitalize() + "."
        for length in generator.integers(4, 30, 4000)
    ]
    written = 0
    with path.open("w", encoding="ascii") as file:
        while written < size:
            block = "\n".join(sentences[place] for place in generator.integers(0, len(sentences), 20_000)) + "\n\n"
            written += file.write(block[: size - written])


def run_and_watch(command: list[str], environment: dict[str, str]) -> tuple[subprocess.CompletedProcess[str], int, float]:
    """Run a command; what it said, the most memory that it and its children held at once, and the seconds."""
    begun, most = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT)
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                family = [watched, *watched.children(recursive=True)]
                most = max(most, sum(member.memory_info().rss for member in family))
            except psutil.NoSuchProcess:
                pass
            time.sleep(0.1)
        said.seek(0)
        text = said.read()
    return subprocess.CompletedProcess(command, process.returncode, text, ""), most, time.perf_counter() - begun


def measure(gate: bool) -> Outcome:
    size, limit = (GATE_SIZE, GATE_LIMIT) if gate else (SIZE, LIMIT)
    # a place on the disk: in many systems /tmp lies in memory
    home = Path(os.environ.get("PIERIA_BENCHMARKS", Path.cwd()))
    with tempfile.TemporaryDirectory(dir=home, prefix=".large-text-") as folder:
        path, out = Path(folder) / "large.txt", Path(folder) / "run"
        write_text(path, size)
        command = [sys.executable, "-m", "pieria", "fit", str(path), "--model", "gpt", "--preset", "tiny"]
        command += ["--steps", str(STEPS), "--out", str(out), "--quiet"]
        environment = {**os.environ, "PIERIA_CACHE": str(Path(folder) / "cache")}
        done, most, seconds = run_and_watch(command, environment)
        state = json.loads((out / "run.json").read_text())["state"] if (out / "run.json").exists() else "never began"
        symbols = sum(file.stat().st_size for file in (Path(folder) / "cache" / "tokens").glob("*.bin"))
    notes = [f"{STEPS} steps of gpt's tiny preset on characters; resident memory includes pages of mapped files"]
    if done.returncode:
        notes.append(f"the command failed: {done.stdout[-1000:]}")
    return Outcome(
        measured={
            "file (GB)": size / GIGABYTE,
            "symbols on the disk (GB)": round(symbols / GIGABYTE, 2),
            "most memory (GB)": round(most / GIGABYTE, 3),
            "state": state,
            "seconds, all in": round(seconds, 1),
        },
        goal={"most memory (GB)": f"≤ {limit / GIGABYTE:g}", "state": "done"},
        passed=done.returncode == 0 and state == "done" and most <= limit,
        notes=notes,
    )
