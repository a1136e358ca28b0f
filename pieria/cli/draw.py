"""``pieria sample`` and ``pieria score``: draw from a run, and ask it how probable something is."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pieria.cli.output import AsJson, Column, Device, DryRun, Seed, Set, pairs, print_json, print_records, print_table, say

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, as 'pieria fit' made it.")]


def sample(
    run: RunPath,
    n: Annotated[int, typer.Option("-n", min=1, help="How many.")] = 16,
    prompt: Annotated[str | None, typer.Option("--prompt", help="How the item begins (text).")] = None,
    label: Annotated[str | None, typer.Option("--label", help="The class to draw, for a conditional model.")] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="0 takes the most probable; 1 is the model itself.")
    ] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", help="Only the k most probable symbols.")] = None,
    top_p: Annotated[
        float | None, typer.Option("--top-p", help="Only the most probable symbols that together reach p.")
    ] = None,
    min_p: Annotated[
        float | None, typer.Option("--min-p", help="Only symbols at least min-p times as probable as the best.")
    ] = None,
    repetition_penalty: Annotated[float | None, typer.Option("--repetition-penalty", help="Above 1: repeats less.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help="End the text before this string; as often as you like.")
    ] = None,
    length: Annotated[int | None, typer.Option("--length", help="At most so many symbols.")] = None,
    set_: Set = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A file or folder, in the data's own format.")] = None,
    device: Device = None,
    seed: Seed = 0,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Draw new items from a run: texts and tables are printed, pictures and curves are written to files.

    Examples:  pieria sample runs/demo-gpt -n 2 --prompt "def " --temperature 0.8  ·
    pieria sample runs/0001-vae-digits -n 64 --out digits.png
    """
    import pieria

    options: dict[str, Any] = dict(pairs(set_))
    given = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "length": length,
    }
    options.update({name: value for name, value in given.items() if value is not None})
    loaded = pieria.load(run, device=device)
    if dry_run:
        loaded.model.Sampling.of(options)
        say(f"would draw {n} items from {run} with {options or 'its default options'} and seed {seed}")
        return
    drawn = loaded.sample(n, seed=seed, prompt=prompt, label=label, stop=stop or (), **options)
    modality = loaded.modality
    written = []
    if out is not None or modality.name not in ("text", "table"):
        written = loaded.write(drawn, out if out is not None else run / "drawn" / f"seed-{seed}", seed=seed)
    if json:
        print_json(
            {
                "run": str(run),
                "seed": seed,
                "n": n,
                "items": [_plain(item) for item in drawn],  # null for what only a file can hold
                "files": [str(p) for p in written],
            }
        )
        return
    if written:
        for path in written[:3]:
            print(path)
        if len(written) > 3:
            say(f"… {len(written)} files in all in {written[0].parent}")
    elif modality.name == "table":
        print_records([dict(row) for row in drawn])
    else:
        for number, text in enumerate(drawn):
            if n > 1 and "\n" in text:
                print(f"--- {number}")
            print(text)


def score(
    run: RunPath,
    file: Annotated[Path, typer.Argument(help="What to score: a file or folder of the kind that the run learned from.")],
    column: Column = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Also the log-probability of each symbol.")] = False,
    device: Device = None,
    json: AsJson = False,
) -> None:
    """How probable is each item of a file, and how unusual among the data that the run learned from?

    Examples:  pieria score runs/0002-ngram-names names.txt  ·  pieria score runs/0003-vae-adult new-rows.csv --json
    """
    import pieria

    scores = pieria.load(run, device=device).score(file, column=column, tokens=tokens)
    if json:
        print_json(scores.to_json())
        return
    print_table(scores.header(), scores.rows())
    say(*scores.words)


def _plain(item: Any) -> Any:
    """An artifact as JSON where it has a plain form; None for the others (pictures), which the files hold."""
    if hasattr(item, "to_json"):
        return item.to_json()
    return item if isinstance(item, str | dict) else None
