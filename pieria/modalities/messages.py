"""Conversations as they lie in files: records ``{"messages": [{"role": …, "content": …}, …]}``, one a line. No torch."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pieria.data.texts import opened, pieces_of, read_text
from pieria.errors import DataError
from pieria.modalities.contract import Collection

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
ROLES = (SYSTEM, USER, ASSISTANT)
WANTED = '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'
PEEK = 1 << 20  # bytes of a file's first record that are looked at


class Message(NamedTuple):
    """What one speaker said.

    Attributes:
        role: "system", "user" or "assistant".
        content: the words, without white space around them.
    """

    role: str
    content: str


class Conversation(NamedTuple):
    """Messages in order: perhaps one of the system, then user and assistant in turn."""

    messages: tuple[Message, ...]

    def __str__(self) -> str:
        return "\n".join(f"{role}: {content}" for role, content in self.messages)

    def to_json(self) -> dict[str, Any]:
        """The record that it is in a file."""
        return {"messages": [message._asdict() for message in self.messages]}


def holds_messages(path: Path) -> bool:
    """Whether the first record of a file has messages; never raises."""
    try:
        with opened(path) as raw:
            first = next((line for line in iter(lambda: raw.readline(PEEK), b"") if line.strip()), b"")
        if len(first) == PEEK:  # the beginning of a very long record
            return b'"messages"' in first[:1000]
        record = json.loads(first)
    except (OSError, EOFError, ValueError):
        return False
    return isinstance(record, dict) and "messages" in record


def read(path: Path, encoding: str = "utf-8") -> Collection:
    """The conversations of a file, and what was done to them.

    A chat that the assistant begins is led by an empty turn of the user; what one speaker says in several messages is one
    turn. Raises `DataError` that names the file, the line and the message for anything else that is out of order.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist", f"a file of records {WANTED}", "Check the path")
    if path.is_dir():
        raise DataError(f"{path} is a folder", "a .jsonl file, or a folder of train.jsonl and test.jsonl", "Name the file")
    text, findings = read_text(path, encoding)
    found: list[Conversation] = []
    done: Counter[str] = Counter()
    lines = (line for piece in pieces_of(text) for line in piece.removesuffix("\n").split("\n"))
    for number, line in enumerate(lines, 1):
        if line.strip():
            found.append(_conversation(line, f"{path}, line {number:,}", done))
    turns = sum(len(conversation.messages) for conversation in found)
    if not found:
        raise DataError(f"{path} holds no conversations", f"records {WANTED}", "Check that it was written")
    findings.insert(0, f"{len(found):,} conversations, {turns:,} turns")
    findings += [sentence.format(f"{count:,}") for sentence, count in done.items()]
    return Collection(found, findings=findings)


def conversation_of(messages: Iterable[Any], where: str = "the chat") -> Conversation:
    """A conversation from messages, given as mappings, pairs or `Message`; the last one may be anybody's.

    Raises `DataError` for an unknown role, a missing field, or a system message that is not the first.
    """
    checked = [_message(message, f"{where}, message {place}") for place, message in enumerate(messages, 1)]
    return _in_turn(checked, where, Counter())


def _conversation(line: str, where: str, done: "Counter[str]") -> Conversation:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where} is not JSON ({error})", f"a record {WANTED}", "Correct or remove the line") from None
    messages = record.get("messages") if isinstance(record, dict) else None
    if not isinstance(messages, list):
        fields = ", ".join(map(str, record)) if isinstance(record, dict) else type(record).__name__
        raise DataError(f"{where} has no list of messages but: {fields}", f"a record {WANTED}", "Correct the line")
    checked = []
    for place, message in enumerate(messages, 1):
        checked.append(_message(message, f"{where}, message {place}"))
        if not checked[-1].content:
            raise DataError(
                f"{where}, message {place} ({checked[-1].role}) is empty",
                "words: an empty reply would teach silence",
                "Remove the message or the line",
            )
    if not any(message.role == ASSISTANT for message in checked):
        raise DataError(f"{where} has no message of the assistant", "at least one: replies are learned", "Remove the line")
    return _in_turn(checked, where, done)


def _message(message: Any, where: str) -> Message:
    if isinstance(message, Message):
        message = message._asdict()
    elif isinstance(message, Sequence) and not isinstance(message, str) and len(message) == 2:
        message = dict(zip(("role", "content"), message, strict=True))
    if not isinstance(message, Mapping):
        raise DataError(f"{where} is a {type(message).__name__}", '{"role": …, "content": …}', "Correct it")
    for name in ("role", "content"):
        if name not in message:
            raise DataError(
                f"{where} has no {name!r}; its fields: {', '.join(map(str, message)) or 'none'}",
                '"role" and "content"',
                "Correct it",
            )
    role, content = message["role"], message["content"]
    if role not in ROLES:
        raise DataError(f"{where} has the role {role!r}", f"one of {', '.join(ROLES)}", "Rename or remove it")
    if not isinstance(content, str):
        raise DataError(f"{where} has a content that is a {type(content).__name__}", "a string", "Correct it")
    # half of a surrogate pair is no character, and cannot be written
    return Message(role, content.encode("utf-8", "replace").decode("utf-8").strip())


def _in_turn(messages: Sequence[Message], where: str, done: "Counter[str]") -> Conversation:
    turns: list[Message] = []
    for place, message in enumerate(messages, 1):
        if message.role == SYSTEM and place > 1:
            raise DataError(
                f"{where}, message {place} is of the system", "such a message at the beginning only", "Move or remove it"
            )
        if message.role == ASSISTANT and (not turns or turns[-1].role == SYSTEM):
            done["{} began with the assistant: an empty turn of the user was put before"] += 1
            turns.append(Message(USER, ""))
        if turns and turns[-1].role == message.role:
            done["{} messages followed one of the same speaker and were joined with it"] += 1
            turns[-1] = Message(message.role, f"{turns[-1].content}\n{message.content}".strip())
        else:
            turns.append(message)
    return Conversation(tuple(turns))
