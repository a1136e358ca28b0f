"""How a conversation is written before it becomes symbols: a chat template, in Jinja as the hub's models have it.

A template is given ``messages``, ``add_generation_prompt``, ``bos_token``, ``eos_token`` and ``raise_exception``, and runs
sandboxed. *Special* strings in what it writes stand for one symbol each; in what a person wrote they are ordinary text, so
that nobody can forge a turn: every content is put between two marks that no content can hold, and only what stands outside
them is looked through for specials. Contents are rendered without white space around them.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from pieria.errors import DataError, UsageError
from pieria.modalities.messages import ASSISTANT, SYSTEM, USER, Conversation, Message

END = "<|end|>"
MARKERS = ("<|system|>", "<|user|>", "<|assistant|>", END)
OWN = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# for models whose vocabulary has no symbols for roles; contents have no line breaks then, so that nobody forges a line
PLAIN = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
# characters that Unicode reserves for the inside of a program
OPEN, OPEN_REPLY, CLOSE = "\ufdd0", "\ufdd1", "\ufdd2"
_MARKS = re.compile(f"[{OPEN}{OPEN_REPLY}{CLOSE}]")
_SPECIAL = re.compile(r"<\|[^|<>\s]{1,40}\|>|</?s>|\[/?INST\]")


class Piece(NamedTuple):
    """A part of a rendered conversation.

    Attributes:
        text: the characters, or the string of a special.
        special: it stands for one symbol.
        learned: it is a reply, or what ends one.
    """

    text: str
    special: bool
    learned: bool


@dataclass(frozen=True)
class Template:
    """A chat template with its special strings.

    Attributes:
        source: Jinja.
        specials: the strings that stand for one symbol each where the template writes them.
        bos, eos: what ``bos_token`` and ``eos_token`` are.
    """

    source: str
    specials: tuple[str, ...] = MARKERS
    bos: str = ""
    eos: str = END

    def __post_init__(self) -> None:
        _compiled(self.source)  # a mistake in it is told at once

    @property
    def lines(self) -> bool:
        """Roles are plain text, one line a turn."""
        return self.source == PLAIN

    def render(self, conversation: Conversation, answer: bool = False) -> str:
        """The conversation as text, as a reader sees it; with ``answer``, up to where a reply begins."""
        return _MARKS.sub("", self._rendered(conversation, answer))

    def pieces(self, conversation: Conversation, answer: bool = False) -> list[Piece]:
        """What the template writes, cut at specials and contents.

        Learned is each reply and what follows it, up to and with the first special, or without one the first line break.

        Raises `DataError` if the template refuses the conversation or leaves out a reply.
        """
        found: list[Piece] = []
        open_, ending = "", False
        rendered = self._rendered(conversation, answer)
        replies = sum(message.role == ASSISTANT for message in conversation.messages)
        if rendered.count(OPEN_REPLY) != replies:
            raise DataError(
                f"the chat template writes {rendered.count(OPEN_REPLY)} of {replies} replies",
                "a template that writes each one as it is",
                "Use another template",
            )
        for part in self._cuts.split(rendered):
            if part in (OPEN, OPEN_REPLY):
                open_, ending = part, False
                # byte pairs have a space together with the word behind it
                if found and not found[-1].special and found[-1].text.endswith(" "):
                    found[-1] = found[-1]._replace(text=found[-1].text[:-1])
                    found.append(Piece(" ", False, part == OPEN_REPLY))
                else:
                    found.append(Piece("", False, part == OPEN_REPLY))
            elif part == CLOSE:
                ending, open_ = open_ == OPEN_REPLY, ""
            elif open_:
                found[-1] = found[-1]._replace(text=found[-1].text + part)
            elif part in self.specials:
                found.append(Piece(part, True, ending))
                ending = False
            elif part and ending and not self.specials and "\n" in part:
                end = part.index("\n") + 1
                found += [Piece(part[:end], False, True), Piece(part[end:], False, False)]
                ending = False
            elif part:
                found.append(Piece(part, False, ending))
        return [piece for piece in found if piece.text]

    @cached_property
    def closing(self) -> str:
        """The special that ends a reply, or without one the text that does."""
        probe = Conversation((Message(USER, "a"), Message(ASSISTANT, "b")))
        ends = [piece for piece in self.pieces(probe) if piece.learned][1:]
        if not ends:
            raise UsageError("a chat template that writes nothing after a reply", "something that ends a turn")
        return next((piece.text for piece in ends if piece.special), ends[0].text)

    @cached_property
    def _cuts(self) -> "re.Pattern[str]":
        longest_first = sorted(self.specials, key=lambda special: -len(special))
        return re.compile("(" + "|".join([_MARKS.pattern, *map(re.escape, longest_first)]) + ")")

    def _rendered(self, conversation: Conversation, answer: bool) -> str:
        said = []
        for role, content in conversation.messages:
            clean = _MARKS.sub("\N{REPLACEMENT CHARACTER}", content)
            if self.lines:
                clean = " ".join(clean.splitlines())
            said.append({"role": role, "content": f"{OPEN_REPLY if role == ASSISTANT else OPEN}{clean}{CLOSE}"})
        try:
            written: str = _compiled(self.source).render(
                messages=said, add_generation_prompt=answer, bos_token=self.bos, eos_token=self.eos
            )
        except Exception as error:  # whatever a template of others raises is its refusal
            raise DataError(
                f"the chat template refuses this conversation ({error})",
                "messages as the model's authors meant them, often user and assistant in turn, some without a system",
                "Change the conversation, or use another template",
            ) from None
        return written


def specials_in(source: str, bos: str = "", eos: str = "") -> tuple[str, ...]:
    """The strings of the shape ``<|…|>``, ``<s>`` or ``[INST]`` that a template writes around any of the three roles."""
    probe = (Message(SYSTEM, "a"), Message(USER, "b"), Message(ASSISTANT, "c"), Message(USER, "d"))
    bare = Template(source, (), bos, eos)
    try:
        written = bare.render(Conversation(probe), answer=True)
    except DataError:  # it knows no system
        written = bare.render(Conversation(probe[1:]), answer=True)
    found = dict.fromkeys(_SPECIAL.findall(written))
    return tuple(dict.fromkeys([*(one for one in (bos, eos) if one and one in written), *found]))


@lru_cache(maxsize=64)
def _compiled(source: str) -> Any:
    """The template, in a sandbox: it reads what it is given, changes nothing and calls nothing else."""
    import jinja2
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    def as_json(value: Any, indent: int | None = None, **_: Any) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    rooms: Mapping[str, Callable[..., Any]] = {"tojson": as_json}
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters.update(rooms)
    environment.globals["raise_exception"] = refuse
    try:
        return environment.from_string(source)
    except jinja2.TemplateError as error:
        raise UsageError(f"the chat template cannot be read ({error})", "Jinja, as the hub's models have it") from None


def windows(conversation: Conversation, fits: Callable[[Sequence[Message]], bool]) -> list[tuple[Message, ...]]:
    """A conversation that is too long, cut where the user begins to speak, into as few parts as ``fits`` allows.

    Each part begins with the message of the system, if there is one. A part of one exchange may still not fit.
    """
    messages = conversation.messages
    system = messages[:1] if messages[0].role == SYSTEM else ()
    starts = [place for place, message in enumerate(messages) if message.role == USER]
    exchanges = [messages[a:b] for a, b in zip(starts, [*starts[1:], len(messages)], strict=True)]
    parts: list[tuple[Message, ...]] = []
    part: tuple[Message, ...] = ()
    for exchange in exchanges:
        if part and not fits((*system, *part, *exchange)):
            parts.append((*system, *part))
            part = ()
        part = (*part, *exchange)
    return [*parts, (*system, *part)]
