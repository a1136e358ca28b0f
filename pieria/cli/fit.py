"""``pieria fit``: learn a model from data."""

from pathlib import Path
from typing import Annotated

import typer

from pieria.cli.output import As, AsJson, Column, Device, DryRun, Seed, Set, Time, To, pairs, print_json, say
from pieria.errors import UsageError


def fit(
    data: Annotated[str | None, typer.Argument(help="A data set of the catalogue, or a file or folder of yours.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="A family ('pieria models') or a file of your own.")
    ] = None,
    as_: As = None,
    column: Column = None,
    form: Annotated[str | None, typer.Option("--form", help="Where the data offer several forms: tokens or grid.")] = None,
    to: To = None,
    target: Annotated[
        str | None,
        typer.Option("--target", help="A column to be told from texts: the model is a discriminative one."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="A named set of hyperparameters; every family has 'tiny'.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the run goes; runs/NNNN-MODEL-DATA when not given.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="A budget of training steps.")] = None,
    epochs: Annotated[float | None, typer.Option("--epochs", help="A budget of passes over the data.")] = None,
    time: Time = None,
    set_: Set = None,
    condition: Annotated[str | None, typer.Option("--condition", help="Learn with a label, prompt or caption.")] = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Go on with a run that was stopped.")] = None,
    start_from: Annotated[
        Path | None,
        typer.Option("--start-from", help="Begin with the weights of another run, at a tenth of the default rate."),
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", help="The licence of data of your own; it is printed on the card.")
    ] = None,
    consent: Annotated[
        str | None, typer.Option("--consent", help="The consent under which data of people were given.")
    ] = None,
    device: Device = None,
    seed: Seed = 0,
    dry_run: DryRun = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress display.")] = False,
    json: AsJson = False,
) -> None:
    """Learn a model from data; the run that it leaves behind can be sampled, scored, evaluated, explained and audited.

    Examples:  pieria fit digits --model vae --time 60s  ·  pieria fit novel.txt --model gpt --steps 2000  ·
    pieria fit train.en --to train.de --model transformer  ·  pieria fit summer/ --to winter/ --model cyclegan  ·
    pieria fit --resume runs/0001-vae-digits
    """
    if resume is None and (data is None or (model is None and target is None)):
        raise UsageError(
            "no DATA or no --model",
            "pieria fit DATA --model FAMILY, or pieria fit --resume RUN",
            "'pieria data' and 'pieria models' list what there is",
        )
    if model is not None:
        from pieria import registry

        registry.source_of(model)  # an unknown name is told before anything slow is imported
    import pieria

    run = pieria.fit(
        data,
        model,
        as_=as_,
        column=column,
        form=form,
        to=to,
        target=target,
        preset=preset,
        out=out,
        steps=steps,
        epochs=epochs,
        time=time,
        condition=condition,
        seed=seed,
        resume=resume,
        start_from=start_from,
        device=device,
        settings=pairs(set_),
        licence=licence,
        consent=consent,
        dry_run=dry_run,
        quiet=quiet,
    )
    if run is None:
        return
    if json:
        print_json(run.record)
    else:
        print(run.path)
        first = "chat" if run.modality.name == "chat" else "translate" if to is not None else "sample"
        say("Next:  " + "  ·  ".join(f"pieria {verb} {run.path}" for verb in (first, "evaluate", "explain", "audit")))
