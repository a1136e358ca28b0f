"""``pieria chat``: talk to a run in the terminal, or line by line through a pipe."""

import json as as_json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from pieria.cli.draw import MinP, RepetitionPenalty, RunPath, TopK
from pieria.cli.output import AsJson, Device, Seed, Set, pairs, say
from pieria.errors import PieriaError, UsageError

HELP = """\
/reset        forget what was said; what the system says stays
/save FILE    write the conversation as a record of messages, as 'pieria fit' reads it
/help         this
/quit         end, as Ctrl-D does; Ctrl-C stops a reply"""


def chat(
    run: RunPath,
    system: Annotated[str | None, typer.Option("--system", help="What the system says before anything else.")] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="0 takes the most probable; not given: 0.7.")
    ] = None,
    top_k: TopK = None,
    top_p: Annotated[
        float | None, typer.Option("--top-p", help="Only the most probable symbols that together reach p; not given: 0.9.")
    ] = None,
    min_p: MinP = None,
    repetition_penalty: RepetitionPenalty = None,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help="End a reply before this string; as often as you like.")
    ] = None,
    length: Annotated[int | None, typer.Option("--length", help="At most so many symbols a reply.")] = None,
    set_: Set = None,
    device: Device = None,
    seed: Seed = 0,
    json: AsJson = False,
) -> None:
    """Talk to a run; what was said is kept as far as its context reaches, the oldest turns are forgotten first.

    Through a pipe, each line is a turn of the user and each reply is a line (with --json a record).

    Examples:  pieria chat runs/0001-gpt-chats --temperature 0.5  ·
    echo "A table for two, please." | pieria chat runs/0001-gpt-chats
    """
    import pieria
    from pieria.chatting import talker

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
    # asked for now, so that what cannot be is told before the first word
    loaded.chat_stream("", seed=seed, stop=stop or (), **options)
    begins = [] if system is None else [{"role": "system", "content": system}]
    messages: list[dict[str, str]] = list(begins)
    if talker(loaded.model, loaded.modality).template.lines:
        say("This run learned no conversations: it is given plain lines 'user: …' and 'assistant: …', and answers a line.")
    people = sys.stdin.isatty() and not json
    if people:
        say(f"{loaded.record['name']}: {loaded.record['model']['family']}. /help lists what else you can say.")
    for line in _lines(people):
        words = line.strip()
        if words == "/quit":
            break
        if words == "/help":
            say(HELP)
        elif words == "/reset":
            messages = list(begins)
            say("What was said is forgotten.")
        elif words == "/save" or words.startswith("/save "):
            _save(messages, words.removeprefix("/save").strip())
        elif words.startswith("/"):
            say(f"There is no {words.split()[0]}.", HELP)
        elif words or not people:
            messages.append({"role": "user", "content": words})
            pieces: list[str] = []
            try:
                for piece in loaded.chat_stream(messages, seed=seed, stop=stop or (), told=_told, **options):
                    pieces.append(piece)
                    if not json:
                        _print(piece)
            except KeyboardInterrupt:
                if not people:
                    raise
                say("")
            reply = "".join(pieces)
            messages.append({"role": "assistant", "content": reply})
            if json:
                print(as_json.dumps({"role": "assistant", "content": reply, "turn": len(messages)}, ensure_ascii=False))
            else:
                print()
            sys.stdout.flush()


def _lines(people: bool) -> Iterator[str]:
    """What the user says, line by line, to the end of the input."""
    if not people:
        for raw in sys.stdin.buffer:
            yield raw.decode("utf-8", "replace").rstrip("\r\n")
        return
    from contextlib import suppress

    from rich.console import Console

    with suppress(ImportError):  # the arrow keys, where the system has them
        import readline  # noqa: F401
    console = Console(stderr=False, highlight=False)
    while True:
        try:
            yield console.input("[bold cyan]you>[/] ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            say("", "Ctrl-D or /quit ends.")


def _print(piece: str) -> None:
    """A piece of a reply; control characters, with which a text could command the terminal, are left out."""
    sys.stdout.write("".join(character for character in piece if character.isprintable() or character in "\n\t"))
    sys.stdout.flush()


def _told(sentence: str) -> None:
    say(f"({sentence})")


def _save(messages: list[dict[str, str]], name: str) -> None:
    from pieria.data.storage import write_atomically

    try:
        if not name:
            raise UsageError("/save without a name", "/save FILE")
        if not messages:
            raise UsageError("nothing was said yet", "a conversation to save")
        path = Path(name).expanduser()
        said = [message for message in messages if message["content"]]  # what 'pieria fit' reads has no empty ones
        write_atomically(path, as_json.dumps({"messages": said}, ensure_ascii=False) + "\n")
        say(f"Saved as {path}.")
    except (PieriaError, OSError) as error:
        say(f"Not saved: {error}")
