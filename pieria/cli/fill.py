"""``pieria fill`` and ``pieria predict``: what a run makes of a person's own texts and pictures."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pieria.cli.draw import RunPath
from pieria.cli.output import AsJson, Device, Seed, Set, pairs, print_json, print_table, say

What = Annotated[
    str, typer.Argument(metavar="TEXT|FILE|-", help="A text, a file with one text a line (.jsonl too), or - for stdin.")
]


def fill(
    run: RunPath,
    what: Annotated[
        str,
        typer.Argument(
            metavar="TEXT|FILE|PICTURE|-",
            help="A text, a file with one text a line (.jsonl too), - for stdin, or a picture with --mask or --box.",
        ),
    ],
    mask: Annotated[
        Path | None, typer.Option("--mask", help="Pictures: one of the same size, white where something is to be drawn.")
    ] = None,
    box: Annotated[
        str | None,
        typer.Option("--box", metavar="TOP,LEFT,HEIGHT,WIDTH", help="Pictures: a box, in pixels, instead of a mask."),
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Pictures: how many completions.")] = 1,
    label: Annotated[str | None, typer.Option("--label", help="Pictures: the class, for a conditional model.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Pictures: a file or folder; in the run, if not given.")
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many alternatives are shown of each gap.")] = 5,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="Of texts 0, when not given: the most probable symbol.")
    ] = None,
    set_: Set = None,
    device: Device = None,
    seed: Seed = 0,
    json: AsJson = False,
) -> None:
    """Fill the gaps of texts, written [MASK] or ___, and say what else might stand there; or complete a picture.

    Examples:  pieria fill runs/0001-bert-sst2 "a [MASK] film"  ·  pieria fill runs/0001-bert-sst2 gaps.txt --top 3 --json  ·
    pieria fill runs/0002-pixelcnn-digits torn.png --box 4,0,4,8 -n 8 --out whole.png
    """
    import pieria

    options: dict[str, Any] = dict(pairs(set_))
    if temperature is not None:
        options["temperature"] = temperature
    if mask is not None or box is not None or _is_picture(what):
        loaded = pieria.load(run, device=device)
        made = loaded.inpaint(what, mask=mask, box=_box(box), n=n, seed=seed, label=label, **options)
        written = loaded.write(made, out if out is not None else run / "drawn" / f"filled-{seed}", seed=seed)
        if json:
            print_json({"run": str(run), "seed": seed, "n": n, "files": [str(path) for path in written]})
            return
        for path in written[:3]:
            print(path)
        if len(written) > 3:
            say(f"… {len(written)} files in all in {written[0].parent}")
        return
    texts = texts_of(what)
    found = pieria.load(run, device=device).fill(texts, top=top, seed=seed, **options)
    if json:
        print_json({"run": str(run), "seed": seed, "items": [item.to_json() for item in found]})
        return
    for item in found:
        print(item.filled)
        rows = [
            [f"  gap {number}" if len(item.gaps) > 1 else "  gap", *(f"{symbol} {p:.1%}" for symbol, p in gap)]
            for number, gap in enumerate(item.gaps, 1)
        ]
        print_table(["" for _ in rows[0]], rows)


def predict(run: RunPath, what: What, device: Device = None, json: AsJson = False) -> None:
    """Tell the class or the number that belongs to each text, by a run that was fitted with --target.

    Examples:  pieria predict runs/0002-discriminative-sst2 "a film that lingers"  ·  pieria predict RUN new.txt --json
    """
    import pieria

    texts = texts_of(what)
    told = pieria.load(run, device=device).predict(texts)
    if json:
        print_json({"run": str(run), "items": [{"text": text, **said} for text, said in zip(texts, told, strict=True)]})
        return
    rows = []
    for text, said in zip(texts, told, strict=True):
        line = text if len(text) <= 80 else text[:79] + "…"
        if "probabilities" in said:
            rows.append([line, str(said["target"]), f"{max(said['probabilities'].values()):.1%}"])
        else:
            rows.append([line, f"{said['target']:.4g}", f"± {said['deviation']:.2g}"])
    print_table(["text", "target", "probability" if "probabilities" in told[0] else "deviation"], rows)


def _is_picture(what: str) -> bool:
    from pieria.modalities.pictures import is_picture

    try:
        return is_picture(what) and (" " not in what or Path(what).expanduser().is_file())
    except OSError:  # a text may be too long to be the name of a file
        return False


def _box(words: str | None) -> tuple[int, ...] | None:
    from pieria.errors import UsageError

    if words is None:
        return None
    try:
        return tuple(int(word) for word in words.split(","))
    except ValueError:
        raise UsageError(f"--box {words}", "four whole numbers: TOP,LEFT,HEIGHT,WIDTH") from None


def texts_of(what: str) -> list[str]:
    """What is asked about: the text itself, or the lines of a file that are not blank."""
    from pieria.errors import DataError
    from pieria.modalities.documents import PLAIN, RECORDS, prompts_in, suffix_of

    path = Path(what).expanduser()
    try:
        is_file = what == "-" or path.is_file()
    except OSError:  # a text may be too long to be the name of a file
        is_file = False
    if not is_file and suffix_of(path) in (*PLAIN, *RECORDS, ".csv", ".tsv") and " " not in what:
        raise DataError(f"{what} does not exist", "a file with one text a line", "Check the path")
    texts = [what] if not is_file else [line for line in prompts_in(None if what == "-" else path, sys.stdin) if line]
    if not texts or not any(texts):
        raise DataError(f"{what} holds no text", "one text a line", "Check the file")
    return texts
