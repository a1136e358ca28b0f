"""Talking to a model of text: a conversation in, the assistant's next turn out, piece by piece as it is drawn."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pieria.errors import UsageError
from pieria.forms import Tokens
from pieria.modalities.chat import Chat
from pieria.modalities.contract import Modality
from pieria.modalities.messages import SYSTEM, USER, Conversation, Message, conversation_of
from pieria.modalities.text import Text
from pieria.models.contract import Model, Predicts
from pieria.noise import Noise
from pieria.sampling.decoding import Decoding, stream
from pieria.settings import Settings

Told = Callable[[str], None]

# what is not said otherwise: safer than the model's own odds, which small models spread too wide
DEFAULTS: Mapping[str, Any] = {"temperature": 0.7, "top_p": 0.9}
ROOM = 0.25  # of the context that is kept free for a reply
UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what the first bytes of a character decode to


def talker(model: Model, modality: Modality) -> Chat:
    """How conversations are written for a run; `UsageError` for one that cannot be talked to."""
    form = model.form
    if not isinstance(modality, Chat | Text) or not isinstance(model, Predicts) or not isinstance(form, Tokens):
        raise UsageError(
            f"{type(model).__name__} of {modality.name} cannot be talked to",
            "a run of text or conversations whose family predicts the next symbol",
            "'pieria models' lists what each family can do",
        )
    if model.condition is not None:
        raise UsageError(
            f"a model that draws under a condition ({model.condition.kind})", "one without", "Fit it without --condition"
        )
    if not issubclass(type(model).Sampling, Decoding):
        raise UsageError(f"{type(model).__name__} does not draw symbol by symbol", "a family that does", "gpt, or ngram")
    return modality if isinstance(modality, Chat) else Chat.beside(modality)


def prompted(chat: Chat, conversation: Conversation, room: int, told: Told) -> Tensor:
    """The symbols up to where the reply begins, long ``[time]``, in at most ``form.length - room``.

    Of what is too long the oldest turns are left out whole, that of the system never; of one turn that is too long by itself
    the beginning is. ``told`` hears of both. Raises `UsageError` if the message of the system alone is too long.
    """
    # one place belongs to `begin`
    most = chat.form.length - room - 1
    messages = conversation.messages
    system = messages[:1] if messages[0].role == SYSTEM else ()
    turns = messages[len(system) :]

    def written(turns: Sequence[Message]) -> Tensor:
        return torch.from_numpy(chat.symbols_of(Conversation((*system, *turns)), answer=True)[0].astype("int64"))

    symbols = written(turns)
    if len(symbols) > most:
        # the fewest turns that leave room are left out; the last one of the user is kept
        cuts = [place for place, message in enumerate(turns) if message.role == USER]
        cut = cuts[min(bisect_left(cuts, True, key=lambda place: len(written(turns[place:])) <= most), len(cuts) - 1)]
        if cut:
            told(f"the {cut} oldest turns are forgotten: the context holds {chat.form.length} symbols")
        turns = turns[cut:]
        symbols = written(turns)
    rest = list(turns)
    whole = rest[0].content
    while len(symbols) > most and rest[0].content:
        content = rest[0].content
        kept = len(content) * most // (len(symbols) + 1)
        rest[0] = Message(USER, content[len(content) - kept :].lstrip() if kept else "")
        symbols = written(rest)
    if len(symbols) > most:
        raise UsageError(
            f"the message of the system takes {len(symbols)} symbols",
            f"at most {most}: the context holds {chat.form.length}, {room} of them for the reply",
            "Shorten it",
        )
    if rest[0].content != whole:
        told(f"only the last {len(rest[0].content):,} of {len(whole):,} characters are read: the context is full")
    return symbols


def asked(messages: str | Iterable[Any]) -> Conversation:
    """The conversation that is to go on; `UsageError` unless its last turn is the user's."""
    given = [Message(USER, messages)] if isinstance(messages, str) else list(messages)
    conversation = conversation_of(given)
    if not conversation.messages or conversation.messages[-1].role != USER:
        last = conversation.messages[-1].role if conversation.messages else "nobody"
        raise UsageError(f"a chat whose last message is of {last}", "one of the user, to be answered")
    return conversation


def reply(
    model: Model,
    chat: Chat,
    conversation: Conversation,
    noise: Noise,
    *,
    stop: Sequence[str] = (),
    told: Told | None = None,
    options: Mapping[str, Any] = {},
) -> Iterator[str]:
    """The assistant's next turn in pieces, without white space around it; it ends before any of ``stop``.

    A piece is never taken back: what may still become a stop string, or half a character, waits.
    """
    if "" in stop:
        raise UsageError("an empty stop string, before which every reply ends at once", "at least one character")
    prompt, decoding = led(model, chat, conversation, told or _unheard, options)
    template = chat.template
    stops = [*stop, *([] if template.closing in chat.specials else [template.closing])]
    silent = set(chat.specials.values())
    assert isinstance(model, Predicts)
    return _words(stream(model, decoding, noise, prompt=prompt), chat, silent, stops)


def led(
    model: Model, chat: Chat, conversation: Conversation, told: Told, options: Mapping[str, Any]
) -> tuple[Tensor, Decoding]:
    """The symbols before a reply, as `prompted` gives them, and how the reply is drawn: as long as the context allows."""
    decoding, form = chosen(model, options), chat.form
    room = min(decoding.length or max(1, int(ROOM * form.length)), form.length // 2)
    prompt = prompted(chat, conversation, room, told)
    left = form.length - len(prompt)
    return prompt, decoding.changed(length=left if decoding.length is None else min(decoding.length, left))


def chosen(model: Model, options: Mapping[str, Any]) -> Decoding:
    """The options of drawing a reply: `DEFAULTS` where nothing is said; `UsageError` for unknown ones."""
    kind: type[Settings] = type(model).Sampling
    found = kind.of({**{name: value for name, value in DEFAULTS.items() if name in kind.model_fields}, **options})
    assert isinstance(found, Decoding)
    return found


def _words(drawn: Iterator[int], chat: Chat, silent: set[int], stops: Sequence[str]) -> Iterator[str]:
    made: list[int] = []
    sent = 0
    text = ""

    def ready(last: bool) -> tuple[str, bool]:
        """What can be said for good, and whether a stop string was met."""
        ends = [place for stop in stops if (place := text.find(stop)) >= 0]
        if ends:
            return text[: min(ends)].strip(), True
        if last:
            return text.strip(), False
        waits = max((_overlap(text, stop) for stop in stops), default=0)
        return text[: len(text) - waits].rstrip(UNFINISHED).strip(), False

    for symbol in drawn:
        if symbol in silent:
            break
        made.append(symbol)
        text = chat.said(made)
        whole, stopped = ready(last=False)
        if len(whole) > sent:
            yield whole[sent:]
            sent = len(whole)
        if stopped:
            return
    whole, _ = ready(last=True)
    if len(whole) > sent:
        yield whole[sent:]


def _overlap(text: str, stop: str) -> int:
    """How many last characters of ``text`` may be the beginning of ``stop``."""
    return next((size for size in range(min(len(text), len(stop)), 0, -1) if text.endswith(stop[:size])), 0)


def _unheard(sentence: str) -> None:
    del sentence
