"""``pieria latent RUN VERB``: the latent space of a run as a place that one can walk through."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from pieria.cli.draw import RunPath
from pieria.cli.output import AsJson, Device, DryRun, Seed, print_json, print_table, say
from pieria.errors import UsageError

if TYPE_CHECKING:
    from pieria.latent.exploring import Latent
    from pieria.latent.view import View


class Verbs(typer.core.TyperGroup):
    """The verbs behind the run; who puts a verb before it is told where it belongs."""

    def resolve_command(self, context: Any, words: list[str]) -> Any:
        """The verb that the first word names."""
        first = str(context.params.get("run"))
        if words and words[0] not in self.commands and first in self.commands:
            if words[0] in ("-h", "--help"):
                return first, self.commands[first], words
            raise UsageError(f"'{first}' stands where the run belongs", f"pieria latent {words[0]} {first} …")
        return super().resolve_command(context, words)


app = typer.Typer(cls=Verbs, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})

ITEM = "A place in the data (12, train:12), a file, or a seed (seed:7)."
Items = Annotated[list[str], typer.Argument(metavar="ITEM…", help=ITEM)]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="A folder, or a file whose suffix says which of the files is wanted."),
]
Split = Annotated[str, typer.Option("--split", help="The part in which plain places lie: train, validation or test.")]
Label = Annotated[
    str | None, typer.Option("--label", help="The class under which codes are decoded, for a conditional model.")
]
Truncation = Annotated[
    float, typer.Option("--truncation", help="Moves codes that are drawn towards their mean: 1 as they are, 0 all of them.")
]
Space = Annotated[str, typer.Option("--space", help="The latent space, for a model that has several.")]
Mp4 = Annotated[bool, typer.Option("--mp4", help="Also write the film as MP4; needs imageio-ffmpeg.")]
SHOWN = 24  # rows of a table that a terminal is given


@app.callback()
def latent(context: typer.Context, run: RunPath) -> None:
    """Walk through the latent space of a run: a map of it, paths, directions, and the way back from an item to its code.

    An ITEM is a place in the data (12 of the test part, train:12), a file, or a seed (seed:7 is the first item that
    'pieria sample --seed 7' draws, seed:7:3 the fourth). Files go to RUN/latent/VERB, or to --out.

    Examples:  pieria latent runs/vae map  ·  pieria latent runs/vae interpolate 3 17 --out morph.gif  ·
    pieria latent runs/vae arithmetic 5 --add Bag --subtract Shirt  ·  pieria latent runs/vae invert my-picture.png
    """
    context.obj = run


@app.command("map")
def map_(
    context: typer.Context,
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="So many items; 2,000 if the model encodes, else 200.")
    ] = None,
    umap: Annotated[bool, typer.Option("--umap/--no-umap", help="UMAP beside the principal components.")] = True,
    split: Split = "test",
    label: Label = None,
    space: Space = "z",
    out: Out = None,
    device: Device = None,
    seed: Seed = 0,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """A picture of the whole space: the codes of the data by label, and what lies between them decoded.

    Examples:  pieria latent runs/vae map  ·  pieria latent runs/gan map --count 100 --out map.png
    """

    def ask(found: "Latent", place: Path | None) -> "View":
        return found.map(split=split, count=count, umap=umap, label=label, seed=seed, out=place)

    _show(context, "map", ask, out, space, device, dry_run, json, table=False)


@app.command()
def interpolate(
    context: typer.Context,
    first: Annotated[str, typer.Argument(metavar="ITEM", help=ITEM)],
    second: Annotated[str, typer.Argument(metavar="ITEM", help=ITEM)],
    path: Annotated[
        str, typer.Option("--path", help="spherical (stays as far from the middle as codes are), or linear.")
    ] = "spherical",
    steps: Annotated[int, typer.Option("--steps", min=2, help="Pictures of the strip, or rows.")] = 10,
    frames: Annotated[int, typer.Option("--frames", min=2, help="Pictures of the film, one way.")] = 60,
    mp4: Mp4 = False,
    split: Split = "test",
    label: Label = None,
    truncation: Truncation = 1.0,
    space: Space = "z",
    out: Out = None,
    device: Device = None,
    seed: Seed = 0,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """The way from one item to another: a strip (PNG), a film (GIF, MP4), rows of a table (CSV).

    Examples:  pieria latent runs/vae interpolate 3 17  ·  pieria latent runs/vae interpolate seed:1 cat.png --out morph.mp4
    """

    def ask(found: "Latent", place: Path | None) -> "View":
        kind: Any = path
        return found.interpolate(
            first, second, steps=steps, path=kind, frames=frames, split=split, label=label, truncation=truncation,
            seed=seed, mp4=mp4, out=place,
        )  # fmt: skip

    _show(context, "interpolate", ask, out, space, device, dry_run, json, table=False)


@app.command()
def walk(
    context: typer.Context,
    frames: Annotated[int, typer.Option("--frames", min=1, help="Pictures of the film, 25 a second.")] = 150,
    harmonics: Annotated[int, typer.Option("--harmonics", min=1, help="More of them turn more often.")] = 3,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Pictures of the strip, or rows.")] = 12,
    mp4: Mp4 = False,
    label: Label = None,
    truncation: Truncation = 1.0,
    out: Out = None,
    device: Device = None,
    seed: Seed = 0,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """A smooth random walk that ends where it began, as a strip and a film.

    Examples:  pieria latent runs/vae walk  ·  pieria latent runs/gan walk --truncation 0.7 --seed 3 --out walk.gif
    """

    def ask(found: "Latent", place: Path | None) -> "View":
        return found.walk(
            frames=frames,
            harmonics=harmonics,
            steps=steps,
            label=label,
            truncation=truncation,
            seed=seed,
            mp4=mp4,
            out=place,
        )

    _show(context, "walk", ask, out, "z", device, dry_run, json, table=False)


@app.command()
def arithmetic(
    context: typer.Context,
    items: Items,
    add: Annotated[str, typer.Option("--add", help="A class, or items: 3,train:12,hat.png")],
    subtract: Annotated[
        str | None, typer.Option("--subtract", help="A class, or items; all training items if not given.")
    ] = None,
    strengths: Annotated[
        str, typer.Option("--strengths", help="How much of it; negative takes it away.")
    ] = "-1,-0.5,0,0.5,1,1.5",
    count: Annotated[int | None, typer.Option("--count", min=1, help="Training items behind the mean of a class.")] = None,
    split: Split = "test",
    truncation: Truncation = 1.0,
    space: Space = "z",
    out: Out = None,
    device: Device = None,
    seed: Seed = 0,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Add an attribute to items, or take it away: the difference of two means of codes, in several strengths.

    Examples:  pieria latent runs/vae arithmetic 5 8 --add Bag --subtract Shirt  ·
    pieria latent runs/vae arithmetic seed:1 --add 3,17,40 --subtract 5,6,9 --strengths -2,-1,0,1,2
    """

    def ask(found: "Latent", place: Path | None) -> "View":
        return found.arithmetic(
            items, add=add, subtract=subtract, strengths=_numbers(strengths), count=count, split=split,
            truncation=truncation, seed=seed, out=place,
        )  # fmt: skip

    _show(context, "arithmetic", ask, out, space, device, dry_run, json, table=False)


@app.command()
def invert(
    context: typer.Context,
    items: Items,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of the search.")] = 300,
    pull: Annotated[
        float,
        typer.Option(
            "--pull", min=0, help="What an unusual code costs, in mean squared error; 0.001 holds it back a little."
        ),
    ] = 0.0,
    split: Split = "test",
    label: Label = None,
    space: Space = "z",
    out: Out = None,
    device: Device = None,
    seed: Seed = 0,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """The code whose item is nearest to a given one, by optimisation, and how near that is.

    Examples:  pieria latent runs/vae invert 3 17  ·  pieria latent runs/gan invert my-picture.png --steps 1000
    """

    def ask(found: "Latent", place: Path | None) -> "View":
        return found.invert(items, steps=steps, pull=pull, label=label, split=split, seed=seed, out=place)

    _show(context, "invert", ask, out, space, device, dry_run, json)


@app.command()
def neighbours(
    context: typer.Context,
    items: Annotated[list[str] | None, typer.Argument(metavar="[ITEM…]", help=f"{ITEM} Samples if none is given.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="So many samples.")] = 8,
    k: Annotated[int, typer.Option("-k", min=1, help="So many training items for each.")] = 5,
    split: Split = "test",
    label: Label = None,
    truncation: Truncation = 1.0,
    out: Out = None,
    device: Device = None,
    seed: Seed = 0,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """The training items nearest to samples, by pixels and by features: is what it makes new?

    Examples:  pieria latent runs/vae neighbours  ·  pieria latent runs/gan neighbours seed:4 seed:9 -k 8
    """

    def ask(found: "Latent", place: Path | None) -> "View":
        return found.neighbours(items or (), n=n, k=k, split=split, label=label, truncation=truncation, seed=seed, out=place)

    _show(context, "neighbours", ask, out, "z", device, dry_run, json)


@app.command()
def traverse(
    context: typer.Context,
    item: Annotated[
        str | None, typer.Argument(metavar="[ITEM]", help=f"{ITEM} The mean of the prior if none is given.")
    ] = None,
    along: Annotated[
        str,
        typer.Option("--along", help="coordinates; of the styles of a GAN also principal, closed-form (with --space w)."),
    ] = "coordinates",
    coordinates: Annotated[int, typer.Option("--coordinates", min=1, help="So many, those that matter most first.")] = 10,
    steps: Annotated[int, typer.Option("--steps", min=2, help="Pictures of a row.")] = 9,
    reach: Annotated[float, typer.Option("--reach", help="Standard units to either side.")] = 2.5,
    space: Space = "z",
    label: Label = None,
    split: Split = "test",
    truncation: Truncation = 1.0,
    out: Out = None,
    device: Device = None,
    seed: Seed = 0,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """One direction of the code at a time: what does each say?

    Examples:  pieria latent runs/vae traverse  ·  pieria latent runs/vae traverse 3 --coordinates 5 --out traverse.png  ·
    pieria latent runs/stylegan2 traverse seed:1 --space w --along principal
    """

    def ask(found: "Latent", place: Path | None) -> "View":
        return found.traverse(
            item, along=along, coordinates=coordinates, steps=steps, reach=reach, label=label, split=split,
            truncation=truncation, seed=seed, out=place,
        )  # fmt: skip

    _show(context, "traverse", ask, out, space, device, dry_run, json)


# ---- what they share -------------------------------------------------------------------------------------------------


def _show(
    context: typer.Context,
    verb: str,
    ask: "Callable[[Latent, Path | None], View]",
    out: Path | None,
    space: str,
    device: str | None,
    dry_run: bool,
    json: bool,
    *,
    table: bool = True,
) -> None:
    import pieria

    run: Path = context.obj
    place = out if out is not None else run / "latent" / verb
    with _progress() as progress:
        found = pieria.load(run, device=device).latent_space(space, progress)
        if dry_run:
            # everything is found and checked, and made but for the films; nothing is written
            made = ask(found, None)
            say(f"would write to {place}: {', '.join(made.parts)}")
            return
        view = ask(found, place)
    if json:
        print_json({"run": str(run), **view.to_json()})
        return
    if table or (view.rows and not view.files):
        names = list(view.rows[0])
        rows = [[f"{v:.4g}" if isinstance(v, float) else v for v in row.values()] for row in view.rows[:SHOWN]]
        print_table(names, rows)
        if len(view.rows) > SHOWN:
            say(f"… {len(view.rows)} rows in all in {verb}.csv")
    for path in view.files:
        print(path)
    say(*view.words)


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"--strengths {text}", "numbers, such as --strengths=-1,0,1") from None


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal, a line now and then elsewhere, for what takes more than a moment."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            tasks: dict[str, Any] = {}

            def draw(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bar.add_task(what)
                bar.update(tasks[what], completed=done, total=total)

            yield draw
        return
    newest = [time.monotonic()]

    def tell(what: str, done: int, total: int) -> None:
        if time.monotonic() - newest[0] >= 5:
            newest[0] = time.monotonic()
            say(f"{what}: {done:,} of {total:,}")

    yield tell
