"""How long ``pieria --help``, ``pieria models`` and ``pieria data`` take, and that they import no torch.

Protocol: each command nine times in a fresh process after one that is not counted; the median wall time counts. A tenth run
lists the modules that were imported.
"""

import subprocess
import sys
import time
from statistics import median

from benchmarks import Outcome

COMMANDS = ("--help", "models", "data")
LIMIT = 0.4
ASK = """
import sys
sys.argv = ["pieria", *sys.argv[1:]]
from pieria.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("torch" in sys.modules, file=sys.stderr)
"""


def seconds(command: str) -> float:
    """The wall time of one command in a process of its own."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", "pieria", command], check=True, capture_output=True)
    return time.perf_counter() - begun


def imports_torch(command: str) -> bool:
    """Whether torch was imported by the time the command had answered."""
    done = subprocess.run([sys.executable, "-c", ASK, command], check=True, capture_output=True, text=True)
    return done.stderr.strip().splitlines()[-1] == "True"


def measure(gate: bool) -> Outcome:
    """Three runs each for the gate, nine else."""
    measured: dict[str, float | bool] = {}
    for command in COMMANDS:
        seconds(command)
        measured[f"pieria {command}, seconds"] = round(median(seconds(command) for _ in range(3 if gate else 9)), 3)
        measured[f"pieria {command} imports torch"] = imports_torch(command)
    goal = {name: "no" if name.endswith("torch") else f"≤ {LIMIT}" for name in measured}
    passed = all(value <= LIMIT if not isinstance(value, bool) else not value for value in measured.values())
    return Outcome(dict(measured), goal, passed)
