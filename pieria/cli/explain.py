"""``pieria explain``: how does it work?"""

from pathlib import Path
from typing import Annotated

import typer

from pieria.cli.output import AsJson, Device, Seed, print_json


def explain(
    what: Annotated[
        str | None, typer.Argument(metavar="[FAMILY|RUN|TERM]", help="A family, a run directory, or a word of the field.")
    ] = None,
    device: Device = None,
    seed: Seed = 0,
    json: AsJson = False,
) -> None:
    """How it works: a family's idea, data, latent space, loss and settings; a word; or one page about a run.

    For a run, the page shows what happens between noise and artifact in the real model, and a film of its training.

    Examples:  pieria explain vae  ·  pieria explain 'latent space'  ·  pieria explain runs/0001-vae-digits
    """
    from pieria.explanation import family, glossary

    if what is not None and (Path(what) / "run.json").is_file():
        import pieria

        page = pieria.load(what, device=device).explain(seed=seed)
        if json:
            print_json({"page": str(page)})
        else:
            print(page)
        return
    found = glossary.overview() if what is None else family.or_term(what)
    if json:
        print_json(found.to_json())
    else:
        print(found.text())
