"""``pieria translate``: one text or one picture becomes another, by a run that learned from pairs or from two kinds."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pieria.cli.draw import RunPath
from pieria.cli.output import AsJson, Device, DryRun, Seed, Set, Shots, pairs, print_json, say
from pieria.errors import UsageError

if TYPE_CHECKING:
    from pieria.run import Run


def translate(
    run: RunPath,
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|FOLDER|-",
            help="A file with one text a line (.jsonl too), or - for stdin; or pictures: files, folders, zips, arrays "
            "(.npz, idx), names of sets.",
        ),
    ],
    to: Annotated[str, typer.Option("--to", help="Pictures: b, the kind that the run was fitted --to, or back to a.")] = "b",
    resize: Annotated[
        bool, typer.Option("--resize", help="Pictures: bring each to the size learned from first; else they keep their own.")
    ] = False,
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
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Texts: a file, one a line, or .jsonl with the prompts. Pictures: a folder, in which each keeps its name.",
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="How many are made together: 64 texts, 16 pictures, if not given.")
    ] = None,
    device: Device = None,
    seed: Seed = 0,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Turn texts into what belongs to them: a translation, a summary, an answer. Or pictures of one kind into another.

    The run has learned pairs kept apart (transformer), or writes on behind examples (gpt and others, with --shots); a blank
    line stays blank. Or it has learned from two sets of pictures (cyclegan, pix2pix): they may be of any size.

    Examples:  pieria translate runs/0001-transformer-multi30k captions.txt --beams 5 --out captions.de.txt  ·
    echo "Two dogs play." | pieria translate runs/0001-transformer-multi30k -  ·
    pieria translate runs/0002-cyclegan-summer photos/ --to b --out winter/  ·
    pieria translate runs/0003-cyclegan-emoji-twemoji emoji-twemoji --out noto/
    """
    import pieria
    from pieria.modalities.image import Image

    options: dict[str, Any] = dict(pairs(set_))
    if temperature is not None:
        options["temperature"] = temperature
    loaded = pieria.load(run, device=device)
    if isinstance(loaded.modality, Image):
        if beams != 1 or shots is not None:
            raise UsageError(f"{'--beams' if beams != 1 else '--shots'} for pictures", "a run of texts", "Leave it out")
        how: dict[str, Any] = {"to": to, "resize": resize, "seed": seed, **({} if batch is None else {"batch": batch})}
        _pictures(loaded, what, out or run / "drawn" / f"to-{to}-{seed}", {**how, **options}, dry_run=dry_run, json=json)
        return
    if to != "b" or resize:
        raise UsageError(f"{'--resize' if resize else f'--to {to}'} for texts", "a run of pictures", "Leave it out")
    if len(what) > 1:
        raise UsageError(f"{len(what)} files of texts", "one", "Translate them one after the other")
    how = {"beams": beams, "length_penalty": length_penalty, "seed": seed, "batch": batch or 64, "shots": shots}
    _texts(loaded, what[0], out, how, options, dry_run=dry_run, json=json)


def _pictures(run: "Run", what: list[str], out: Path, how: dict[str, Any], *, dry_run: bool, json: bool) -> None:
    from pieria.translating import pictures_in

    count = len(pictures_in(what))
    made = run.translations(what, out=out, **how)
    if dry_run:
        say(f"would translate {count:,} pictures with {run.path} and write them to {out}")
        return
    files = []
    for path in made:
        files.append(str(path))
        if sys.stderr.isatty() and (len(files) % 16 == 0 or len(files) == count):
            print(f"\r{len(files):,} of {count:,} pictures", end="" if len(files) < count else "\n", file=sys.stderr)
    if json:
        print_json({"run": str(run.path), "to": how["to"], "seed": how["seed"], "files": files})
        return
    for file in files[:3]:
        print(file)
    if len(files) > 3:
        say(f"… {len(files):,} files in all in {out}")


def _texts(
    run: "Run", file: str, out: Path | None, how: dict[str, Any], options: dict[str, Any], *, dry_run: bool, json: bool
) -> None:
    from pieria.data.storage import write_atomically
    from pieria.modalities.documents import prompts_in

    given = prompts_in(Path(file).expanduser() if file != "-" else None, sys.stdin)
    if dry_run:
        run.model.Sampling.of(options)
        say(f"would translate {len(given):,} lines with {run.path}" + (f" and write {out}" if out is not None else ""))
        return
    texts = [line for line in given if line]
    made = iter(run.translate(texts, told=say, **how, **options))
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
        print_json({"run": str(run.path), "seed": how["seed"], "items": records, "files": [] if out is None else [str(out)]})
    elif out is not None:
        print(out)
    else:
        for answer in answers:
            print(answer.replace("\n", " "))
