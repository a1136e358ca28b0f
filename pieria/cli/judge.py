"""``pieria evaluate``, ``compare``, ``mix`` and ``audit``: how good is it, which is better, and may it be published?"""

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pieria.cli.draw import RunPath
from pieria.cli.output import (
    As,
    AsJson,
    Column,
    Device,
    DryRun,
    Seed,
    Set,
    Time,
    pairs,
    print_json,
    print_table,
    print_wide_table,
    say,
    width,
)
from pieria.errors import UsageError

if TYPE_CHECKING:
    from pieria.comparison import Comparison


Features = Annotated[
    str | None,
    typer.Option(
        "--features",
        metavar="NETWORK",
        help="Of pictures: compare them in the features of pieria (the small network that comes with it) or of inception "
        "(FID, its weights are fetched once), or the path of Inception's weights.",
    ),
]


def evaluate(
    run: RunPath,
    against: Annotated[
        str, typer.Option("--against", help="The part of the data to hold it against: test, validation or train.")
    ] = "test",
    count: Annotated[
        int | None, typer.Option("--count", "--samples", "-n", help="How many samples to judge; chosen when not given.")
    ] = None,
    features: Features = None,
    device: Device = None,
    seed: Seed = 0,
    json: AsJson = False,
) -> None:
    """A scorecard: how like the held-out data the samples are, how new, how probable the held-out data, and what it cost.

    Examples:  pieria evaluate runs/0001-vae-digits  ·  pieria evaluate runs/0001-vae-digits -n 5000 --features inception
    """
    import pieria

    card = pieria.load(run, device=device).evaluate(against, count=count, seed=seed, features=features)
    if json:
        print_json(card.to_json())
    else:
        print(card.table())


def compare(
    data: Annotated[str, typer.Argument(help="A data set of the catalogue, or a file or folder of yours.")],
    models: Annotated[
        str | None, typer.Option("--models", help="Families, with commas; all that fit when not given.")
    ] = None,
    time: Time = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="A budget of training steps for each.")] = None,
    as_: As = None,
    column: Column = None,
    form: Annotated[str | None, typer.Option("--form", help="Where the data offer several forms: tokens or grid.")] = None,
    set_: Set = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the report goes; runs/NNNN-compare-DATA when not given.")
    ] = None,
    features: Features = None,
    device: Device = None,
    seed: Seed = 0,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Fit several families to the same data under the same budget, judge them alike, and write one report.

    Examples:  pieria compare digits --models mixture,vae,gan --time 30s  ·  pieria compare my-table.csv --time 2m
    """
    import pieria

    named = [name.strip() for name in models.split(",") if name.strip()] if models else None
    if models is not None and not named:
        raise UsageError("--models names no family", "names with commas, such as mixture,vae", "'pieria models' lists them")
    comparison = pieria.compare(
        data,
        named,
        time=time,
        steps=steps,
        as_=as_,
        column=column,
        form=form,
        out=out,
        seed=seed,
        device=device,
        settings=pairs(set_),
        features=features,
        dry_run=dry_run,
    )
    if comparison is None:
        return
    if json:
        print_json(comparison.to_json())
    else:
        _print_comparison(comparison)
    if all(entry.error for entry in comparison.entries):
        raise typer.Exit(1)


def _print_comparison(comparison: "Comparison") -> None:
    # what is to be said of each family comes first, so that the table and the verdict are what stays on the screen
    for sentence in comparison.words[len(comparison.verdict) :]:
        print(fill(sentence, width(), subsequent_indent="  "))
    print()
    print_wide_table(comparison.header(), comparison.rows(), title=f"{comparison.title}\n")
    print()
    for sentence in comparison.verdict:
        print(fill(sentence, width(), subsequent_indent="  "))
    print(f"\n{comparison.report}")


def mix(
    runs: Annotated[list[Path], typer.Argument(help="Two or more runs with exact likelihoods over one form.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the mixture goes; runs/NNNN-mix-DATA when not given.")
    ] = None,
    seed: Seed = 0,
    json: AsJson = False,
) -> None:
    """A weighted mixture of runs, its weights chosen on the validation part: often better than each of them.

    Examples:  pieria mix runs/0001-gpt-shakespeare runs/0002-ngram-shakespeare
    """
    import pieria

    run = pieria.mix(runs, out=out, seed=seed)
    if json:
        print_json(run.record)
    else:
        print(run.path)


def _print_groups(groups: dict[str, Any]) -> None:
    """Who is in the data and in the samples, a row a group."""
    rows = [
        (
            name,
            f"{one['data']['share']:.1%}",
            f"{one['samples']['share']:.1%}",
            f"{one['samples']['low']:.1%} … {one['samples']['high']:.1%}",
            "–" if one.get("likeness") is None else f"{one['likeness']:.4g}",
        )
        for name, one in groups["groups"].items()
    ]
    print_table([groups["column"], "of the data", "of the samples", "95 % interval", "likeness"], rows)
    right = groups["classifier_accuracy"]
    often = "" if right is None else f" that is right on {right:.0%} of held-out items"
    print(f"A sample's group: {groups['how']}{often}.")
    if "left_out" in groups:
        print(f"Left out: {groups['left_out']}.")
    print()


def audit(
    run: RunPath,
    group: Annotated[
        str | None, typer.Option("--group", help="A column or 'label': each group's share and quality.")
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", "-n", help="How many samples to judge; chosen when not given.")
    ] = None,
    device: Device = None,
    seed: Seed = 0,
    json: AsJson = False,
) -> None:
    """May I publish it? Overfitting, copies, groups, sensitivity, energy, licence and consent.

    Examples:  pieria audit runs/0001-vae-digits  ·  pieria audit runs/0004-vae-adult --group sex
    """
    import pieria

    loaded = pieria.load(run, device=device)
    found = loaded.audit(group=group, count=count, seed=seed)
    if json:
        print_json(found)
        return
    if found["groups"]:
        _print_groups(found["groups"])
    for verdict in found["verdicts"]:
        print(f"[{verdict['severity']}] {verdict['words']}")
    say(f"All figures: {run / 'audit.json'}; the card: {run / 'card.md'}")
