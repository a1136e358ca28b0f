"""``pieria translate``: one text becomes another, by a run that learned from pairs."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pieria.cli.draw import RunPath
from pieria.cli.output import AsJson, Device, DryRun, Seed, Set, Shots, pairs, print_json, say


def translate(
    run: RunPath,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A file with one text a line (.jsonl too), or - for stdin.")],
    beams: Annotated[
        int, typer.Option("--beams", min=1, help="Hypotheses of a beam search; 1 takes the most probable symbol each time.")
    ] = 1,
    length_penalty: Annotated[
        float, typer.Option("--length-penalty", min=0, help="Of a beam search: larger ones prefer longer texts.")
    ] = 0.6,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="0, when not given: the most probable symbol at each step.")
    ] = None,
    shots: Shots = None,
    set_: Set = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A file: one text a line, or .jsonl with the prompts.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="How many are written together.")] = 64,
    device: Device = None,
    seed: Seed = 0,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Turn texts into what belongs to them: a translation, a summary, an answer. A blank line stays blank.

    The run has learned pairs kept apart (transformer), or writes on behind examples (gpt and others, with --shots).

    Examples:  pieria translate runs/0001-transformer-multi30k captions.txt --beams 5 --out captions.de.txt  ·
    echo "Two dogs play." | pieria translate runs/0001-transformer-multi30k -
    """
    import pieria
    from pieria.data.storage import write_atomically
    from pieria.modalities.documents import prompts_in

    options: dict[str, Any] = dict(pairs(set_))
    if temperature is not None:
        options["temperature"] = temperature
    given = prompts_in(Path(file).expanduser() if file != "-" else None, sys.stdin)
    loaded = pieria.load(run, device=device)
    if dry_run:
        loaded.model.Sampling.of(options)
        say(f"would translate {len(given):,} lines with {run}" + (f" and write {out}" if out is not None else ""))
        return
    texts = [line for line in given if line]
    how: dict[str, Any] = {"beams": beams, "length_penalty": length_penalty, "seed": seed, "batch": batch, **options}
    made = iter(loaded.translate(texts, shots=shots, told=say, **how))
    answers = [next(made) if line else "" for line in given]
    records = [{"prompt": line, "completion": answer} for line, answer in zip(given, answers, strict=True)]
    if out is not None:
        import json as formats

        lines = (
            [formats.dumps(record, ensure_ascii=False) for record in records]
            if out.suffix == ".jsonl"
            else [answer.replace("\n", " ") for answer in answers]  # line i of the file belongs to line i of what was given
        )
        write_atomically(out, "\n".join(lines) + "\n")
    if json:
        print_json({"run": str(run), "seed": seed, "items": records, "files": [] if out is None else [str(out)]})
    elif out is not None:
        print(out)
    else:
        for answer in answers:
            print(answer.replace("\n", " "))
