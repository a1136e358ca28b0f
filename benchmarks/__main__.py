"""``python -m benchmarks NAME [--gate]`` runs one figure; its last line is JSON. ``--write`` makes RESULTS.md."""

import argparse
import ast
import importlib
import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
RECORD = HERE / "results.jsonl"


def known() -> dict[str, str]:
    """Every benchmark and the first line of its docstring."""
    return {
        path.stem: (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
        for path in sorted(HERE.glob("*.py"))
        if "\ndef measure(" in path.read_text(encoding="utf-8")
    }


def machine() -> dict[str, object]:
    """The machine in words: figures of different machines are not compared."""
    import torch

    name = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": name,
        "cores": os.cpu_count(),
        "gpu": gpu,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def write_results() -> Path:
    """RESULTS.md from the newest line of each benchmark (the full version, and the gate's where that is all there is)."""
    newest: dict[tuple[str, bool], dict] = {}
    for line in RECORD.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        newest[entry["name"], entry["gate"]] = entry
    rows = [
        "# Results",
        "",
        "Written by `python -m benchmarks --write` from `results.jsonl`: one row a benchmark, its newest run.",
        "A gate is the version that fits ten minutes on two cores, with a goal of its own.",
        "",
    ]
    for (name, gate), entry in sorted(newest.items()):
        rows += [
            f"## {name}{' (gate)' if gate else ''}",
            "",
            known().get(name, ""),
            "",
            f"{'Reached' if entry['passed'] else '**Not reached**'}, in {entry['seconds']:.0f} s on "
            f"{entry['machine']['gpu'] or entry['machine']['cpu']} ({entry['machine']['cores']} cores), {entry['date']}.",
            "",
            "| figure | measured | goal |",
            "|---|---|---|",
        ]
        for figure in dict.fromkeys([*entry["measured"], *entry["goal"]]):
            rows.append(f"| {figure} | {entry['measured'].get(figure, '')} | {entry['goal'].get(figure, '')} |")
        rows += ["", *[f"- {note}" for note in entry["notes"]], ""]
    path = HERE / "RESULTS.md"
    path.write_text("\n".join(rows).rstrip() + "\n", encoding="utf-8")
    return path


def main() -> int:
    """Run one benchmark, list them, or write RESULTS.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", help="which figure")
    parser.add_argument("--list", action="store_true", help="what there is")
    parser.add_argument("--gate", action="store_true", help="the version that fits ten minutes on two cores")
    parser.add_argument("--write", action="store_true", help="write RESULTS.md from the recorded runs")
    parser.add_argument("--record", action="store_true", help="append the outcome to results.jsonl")
    asked = parser.parse_args()
    if asked.list or not (asked.name or asked.write):
        for name, summary in known().items():
            print(f"{name:28} {summary}")
        return 0
    if asked.write:
        print(write_results())
        return 0
    if asked.name not in known():
        print(f"no benchmark is called {asked.name!r}; known: {', '.join(known())}", file=sys.stderr)
        return 2
    begun = time.perf_counter()
    outcome = importlib.import_module(f"benchmarks.{asked.name}").measure(asked.gate)
    line = {
        "name": asked.name,
        "gate": asked.gate,
        "measured": outcome.measured,
        "goal": outcome.goal,
        "passed": outcome.passed,
        "notes": outcome.notes,
        "seconds": round(time.perf_counter() - begun, 1),
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    if asked.record:
        with RECORD.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    print(json.dumps(line))
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
