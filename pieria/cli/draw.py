"""``pieria sample`` and ``pieria score``: draw from a run, and ask it how probable something is."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pieria.cli.output import (
    AsJson,
    Column,
    Device,
    DryRun,
    Seed,
    Set,
    Shots,
    pairs,
    print_json,
    print_records,
    print_table,
    say,
)
from pieria.errors import DataError, UsageError

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, as 'pieria fit' made it.")]
TopK = Annotated[int | None, typer.Option("--top-k", help="Only the k most probable symbols.")]
MinP = Annotated[float | None, typer.Option("--min-p", help="Only symbols at least min-p times as probable as the best.")]
RepetitionPenalty = Annotated[float | None, typer.Option("--repetition-penalty", help="Above 1: repeats less.")]


def sample(
    run: RunPath,
    n: Annotated[int | None, typer.Option("-n", min=1, help="How many; 16 if not given, 1 with --outline.")] = None,
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", help="How the item begins (text), or what a picture shows."),
    ] = None,
    shots: Shots = None,
    label: Annotated[str | None, typer.Option("--label", help="The class to draw, for a conditional model.")] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="0 takes the most probable; 1 is the model itself.")
    ] = None,
    top_k: TopK = None,
    top_p: Annotated[
        float | None, typer.Option("--top-p", help="Only the most probable symbols that together reach p.")
    ] = None,
    min_p: MinP = None,
    repetition_penalty: RepetitionPenalty = None,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help="End the text before this string; as often as you like.")
    ] = None,
    length: Annotated[int | None, typer.Option("--length", help="At most so many symbols.")] = None,
    style: Annotated[
        str | None, typer.Option("--style", help="faithful (the model's own law, as without it) or readable.")
    ] = None,
    grammar: Annotated[
        str | None, typer.Option("--grammar", metavar="REGEX", help="What is new matches this as a whole (text).")
    ] = None,
    bias: Annotated[
        list[str] | None,
        typer.Option("--bias", metavar="SYMBOL=NATS", help="Make a symbol likelier, as ' the=+2', or rarer; repeatable."),
    ] = None,
    beams: Annotated[
        int | None, typer.Option("--beams", min=1, help="Draw nothing: the n best texts that so many hypotheses find.")
    ] = None,
    best_of: Annotated[int, typer.Option("--best-of", min=1, help="Of so many draws each, the most probable a symbol.")] = 1,
    outline: Annotated[
        Path | None,
        typer.Option(
            "--outline", help="A file of headings, a line each: one long text, section by section (-n 1 if not given)."
        ),
    ] = None,
    logprobs: Annotated[
        bool, typer.Option("--logprobs", help="With --json: the log-probability of each symbol, in nats.")
    ] = False,
    set_: Set = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A file or folder, in the data's own format.")] = None,
    device: Device = None,
    seed: Seed = 0,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Draw new items from a run: texts and tables are printed, pictures and curves are written to files.

    Texts read better with --style readable, which leaves out what is improbable; without it, they are what the model says.

    Examples:  pieria sample runs/demo-gpt -n 2 --prompt "def " --style readable  ·
    pieria sample runs/0002-ngram-names --grammar "[mj]a[a-z]*(na|ie)"  ·
    pieria sample runs/pairs-gpt -n 1 --shots examples.jsonl --prompt "a red dog" --temperature 0  ·
    pieria sample runs/0001-vae-digits -n 64 --out digits.png
    """
    import pieria
    from pieria.drawing import Drawing

    n = (1 if outline is not None else 16) if n is None else n
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
    if logprobs and not json:
        raise UsageError("--logprobs without --json", "both", "Add --json: a number a symbol is nothing to read in a text")
    wished: dict[str, Any] = {
        "prompt": prompt,
        "stop": stop or (),
        "regex": grammar,
        "bias": _biases(bias),
        "beams": beams,
        "best_of": best_of,
        "shots": shots,
    }
    single = any(value for value in wished.values() if value != 1) or label is not None or logprobs
    if outline is not None and single:
        raise UsageError("--outline with a wish about single texts", "--length, --style and the options of drawing")
    loaded = pieria.load(run, device=device)
    say(*loaded.remarks(style=style, **wished, **options))
    if dry_run:
        say(f"would draw {n} items from {run} with {options or 'its default options'} and seed {seed}")
        return
    if outline is not None:
        texts = loaded.compose(_lines(outline), n, seed=seed, style=style, **options)
        drawn = [Drawing(text) for text in texts]
    else:
        drawn = loaded.draw(n, seed=seed, label=label, style=style, scored=logprobs, **wished, **options)
    if short := sum(not drawing.ended for drawing in drawn):
        say(f"{short} of {len(drawn)} reached their length before their end")
    artifacts = [drawing.artifact for drawing in drawn]
    modality = loaded.modality
    written = []
    if out is not None or modality.name not in ("text", "table"):
        written = loaded.write(artifacts, out if out is not None else run / "drawn" / f"seed-{seed}", seed=seed)
    if json:
        print_json(
            {
                "run": str(run),
                "seed": seed,
                "n": len(drawn),
                # null for what only a file can hold
                "items": [drawing.to_json() if logprobs else _plain(drawing.artifact) for drawing in drawn],
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
        print_records([dict(row) for row in artifacts])
    else:
        for number, text in enumerate(artifacts):
            if len(artifacts) > 1 and "\n" in text:
                print(f"--- {number}")
            print(text)


def _lines(path: Path) -> list[str]:
    """The lines of an outline."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as an outline: {error}", "a text file in UTF-8, a heading a line") from None


def _biases(words: list[str] | None) -> dict[str, float]:
    """``["word=+2"]`` as a dictionary; the symbol may hold an equals sign, the number not."""
    read: dict[str, float] = {}
    for word in words or ():
        symbol, _, value = word.rpartition("=")
        try:
            read[symbol] = float(value)
        except ValueError:
            symbol = ""
        if not symbol:
            raise UsageError(f"--bias {word!r}", "SYMBOL=NATS, such as --bias ' the=+2'")
    return read


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
