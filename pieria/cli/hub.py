"""``pieria import`` and ``pieria export``: models from elsewhere, and ours for other tools."""

from pathlib import Path
from typing import Annotated

import typer

from pieria.cli.draw import RunPath
from pieria.cli.output import AsJson, Column, DryRun, print_json, say


def import_(
    source: Annotated[
        str, typer.Argument(help="An ARPA file, a directory with config.json and safetensors, or the hub's id of a model.")
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Where the run goes; runs/NNNN-NAME when not given.")] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="What it is to be evaluated and audited on: a data set, a file or a folder.")
    ] = None,
    column: Column = None,
    length: Annotated[int, typer.Option("--length", min=0, help="Symbols in a window or an item; 0 chooses.")] = 0,
    items: Annotated[
        str, typer.Option("--items", help="Of a checkpoint: stream, or lines (texts that end); auto: lines if it chats.")
    ] = "auto",
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", help="What an entry of an ARPA file is: word or char; auto looks.")
    ] = "auto",
    revision: Annotated[str | None, typer.Option("--revision", help="Of the hub's model: branch, tag or commit.")] = None,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Make a run of a model that was made elsewhere; it can be sampled, scored, explained, and fitted further.

    Weights are read from safetensors alone, and nothing that comes with them is executed.

    Examples:  pieria import openai-community/gpt2  ·  pieria import ./my-llama --data novel.txt  ·
    pieria import model.arpa.gz --out runs/arpa
    """
    import pieria

    run = pieria.import_model(
        source,
        out=out,
        data=data,
        column=column,
        length=length,
        tokenizer=tokenizer,
        items=items,
        revision=revision,
        dry_run=dry_run,
    )
    if run is None:
        return
    if json:
        print_json(run.record)
    else:
        print(run.path)
        say("Next:  " + "  ·  ".join(f"pieria {verb} {run.path}" for verb in ("sample", "explain", "export")))


def export(
    run: RunPath,
    to: Annotated[str, typer.Option("--to", help="arpa (a file, of an n-gram) or transformers (a directory, of a gpt).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file (gzipped if it ends with .gz) or the new directory.")],
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Write a run's model for other tools: KenLM's ARPA, or a checkpoint that transformers' AutoModel loads.

    Examples:  pieria export runs/0001-ngram-ptb --to arpa --out ptb.arpa.gz  ·
    pieria export runs/0002-gpt-novel --to transformers --out my-gpt
    """
    import pieria

    loaded = pieria.load(run)
    if dry_run:
        say(f"would write {loaded.record['model']['family']} of {run} to {out}, as {to}")
        return
    said = loaded.export(to, out)
    if json:
        print_json({"run": str(run), "to": to, "out": str(out), "notes": said})
    else:
        say(*said)
        print(out)
