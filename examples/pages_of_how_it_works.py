"""Makes what lies under docs/how-it-works/made/: what each family's source says of it, its figures, and one real run.

``python examples/pages_of_how_it_works.py [NAME …]``; ``make docs`` runs it before the site is built. The run is made by the
command that the page names.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pieria
from pieria import registry
from pieria.errors import PieriaError
from pieria.explanation import family

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results.jsonl"
MADE = Path(__file__).parents[1] / "docs" / "how-it-works" / "made"
RUNS = {
    "ngram": "names",
    "hmm": "names",
    "mixture": "digits",
    "autoencoder": "digits",
    "vae": "digits",
    "vqvae": "digits",
    "gan": "digits",
    "stylegan2": "digits",
    "pixelcnn": "digits",
    "flow": "digits",
    "diffusion": "digits",
    "cyclegan": "emoji-twemoji",
    "pix2pix": "emoji-twemoji",
    "gp": "mauna-loa-co2",
    "gpt": "python-manual",
    "transformer": "multi30k",
    "bert": "names",
    "rnn": "python-manual",
}
SECONDS = 20
# pages that show a grid of samples, and how their runs differ from the others
GRIDS: dict[str, dict[str, Any]] = {"pixelcnn": {"preset": "digits", "time": 120}}
EMOJI = {"to": "emoji-noto", "preset": "small", "settings": {"size": 32}, "time": 120}
OTHERS: dict[str, dict[str, Any]] = {**GRIDS, "cyclegan": EMOJI, "pix2pix": EMOJI}


def main(names: list[str]) -> None:
    """Fit, explain, and keep the page; data that cannot be had here are told and left out."""
    MADE.mkdir(parents=True, exist_ok=True)
    for name in registry.names():
        (MADE / f"{name}.md").write_text(family.page(name).markdown() + figures(name), encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        for name in names or [*RUNS, "mix"]:
            try:
                run = _mix(Path(folder)) if name == "mix" else _fitted(name, Path(folder))
            except PieriaError as error:
                print(f"{name}: left out: {error}", file=sys.stderr)
                continue
            if name in GRIDS:
                run.sample(64, out=MADE / f"{name}.png")
            shutil.copyfile(run.explain(), MADE / f"{name}.html")
            print(MADE / f"{name}.html")


def figures(name: str) -> str:
    """The newest outcome of each benchmark that is named after the family, as one table."""
    newest = {}
    for line in RESULTS.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry["name"].partition("_")[0] == name and (not entry["gate"] or entry["name"] not in newest):
            newest[entry["name"]] = entry
    rows = [
        f"| {entry['name']}{' (gate)' if entry['gate'] else ''} | {figure} | {entry['measured'].get(figure, '')} | {goal} |"
        for entry in newest.values()
        for figure, goal in entry["goal"].items()
    ]
    head = ["| benchmark | figure | measured | goal |", "|---|---|---|---|"]
    return "\n".join(["", "### Figures here", "", *(head if rows else ["None yet."]), *rows]) + "\n"


def _fitted(name: str, folder: Path) -> "pieria.Run":
    return pieria.fit(RUNS[name], name, out=folder / name, **{"time": SECONDS, **OTHERS.get(name, {})})


def _mix(folder: Path) -> "pieria.Run":
    parts = [pieria.fit("python-manual", name, time=SECONDS, out=folder / f"mix-{name}") for name in ("gpt", "ngram")]
    return pieria.mix([part.path for part in parts], out=folder / "mix")


if __name__ == "__main__":
    main(sys.argv[1:])
