"""Makes the pages under docs/how-it-works/made/ by the commands that the documents name: one real run a technique.

``python examples/pages_of_how_it_works.py [NAME …]``; ``make docs`` runs it before the site is built.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import pieria
from pieria.errors import PieriaError

MADE = Path(__file__).parents[1] / "docs" / "how-it-works" / "made"
RUNS = {
    "ngram": "names",
    "mixture": "digits",
    "vae": "digits",
    "gan": "digits",
    "gp": "mauna-loa-co2",
    "gpt": "python-manual",
    "rnn": "python-manual",
}
SECONDS = 20


def main(names: list[str]) -> None:
    """Fit, explain, and keep the page; data that cannot be had here are told and left out."""
    MADE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in names or [*RUNS, "mix"]:
            try:
                run = (
                    _mix(Path(folder))
                    if name == "mix"
                    else pieria.fit(RUNS[name], name, time=SECONDS, out=Path(folder) / name)
                )
            except PieriaError as error:
                print(f"{name}: left out: {error}", file=sys.stderr)
                continue
            shutil.copyfile(run.explain(), MADE / f"{name}.html")
            print(MADE / f"{name}.html")


def _mix(folder: Path) -> "pieria.Run":
    parts = [pieria.fit("python-manual", name, time=SECONDS, out=folder / f"mix-{name}") for name in ("gpt", "ngram")]
    return pieria.mix([part.path for part in parts], out=folder / "mix")


if __name__ == "__main__":
    main(sys.argv[1:])
