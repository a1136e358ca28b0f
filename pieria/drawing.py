"""Drawing symbols as a person asks for it: what ``Run.sample`` does where there is a prompt, a grammar, a bias or beams.

A family's own ``sample`` draws whole items from its own law. What is wished beyond that is the same for every family that
`Predicts`: it goes to `sampling.decoding` and `sampling.beams`, and comes back as strings with the odds of every symbol.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from pieria.data.batch import mask_after_end
from pieria.errors import UsageError, unknown
from pieria.forms import Tokens
from pieria.modalities.contract import Artifact, Modality
from pieria.models.contract import Model, Predicts, device_of
from pieria.noise import ItemNoise
from pieria.sampling.beams import beam_search
from pieria.sampling.decoding import Decoding, drawn, first_read, room
from pieria.sampling.outlines import sections
from pieria.sampling.rules import Bias, Rule
from pieria.sampling.styles import STYLES
from pieria.settings import Settings


@runtime_checkable
class Spells(Protocol):
    """A modality whose symbols are pieces of a text."""

    def beginning(self, text: str) -> Tensor:
        """The symbols of a beginning, without an end, long ``[time]``."""

    def spelled(self) -> tuple[list[bytes], str]:
        """The bytes of each symbol but the end, and what stands between two symbols."""

    def strings(self) -> list[str]:
        """What each symbol looks like."""


@dataclass(frozen=True)
class Wishes:
    """What is wished of texts beyond the options of the family's drawing.

    Attributes:
        prompt: how each begins; an empty one is none.
        stop: strings before which a text ends.
        regex: what the new part of each matches as a whole.
        bias: nats added to the log-odds of symbols, by what they look like.
        beams: hypotheses of a beam search, which finds the best texts and draws nothing.
        length_penalty: of that search.
        best_of: how many are drawn for each one that is given, the most probable a symbol.
    """

    prompt: str = ""
    stop: Sequence[str] = ()
    regex: str | None = None
    bias: Mapping[str, float] = field(default_factory=dict)
    beams: int | None = None
    length_penalty: float = 0.6
    best_of: int = 1

    def any(self) -> bool:
        """Whether there is one that a family's own ``sample`` cannot do."""
        return bool(self.prompt or self.stop or self.steers())

    def steers(self) -> bool:
        """Whether there is one beyond how a text begins and where it ends."""
        return bool(self.regex is not None or self.bias or self.beams or self.best_of > 1)


@dataclass(frozen=True)
class Drawing:
    """One artifact, and how it came about.

    Attributes:
        artifact: as `Run.sample` gives it; a text with its prompt.
        symbols: what was drawn, symbol by symbol, as each looks; without the prompt.
        log_probs: nats of each of them under the model's own law, whatever options they were drawn with.
        ended: False where the length cut it off before its end, or before it met the expression.
    """

    artifact: Artifact
    symbols: tuple[str, ...] = ()
    log_probs: tuple[float, ...] = ()
    ended: bool = True

    @property
    def log_prob(self) -> float:
        """Nats of all of it."""
        return sum(self.log_probs)

    def to_json(self) -> dict[str, Any]:
        """For ``pieria sample --json --logprobs``."""
        pairs = zip(self.symbols, self.log_probs, strict=True)
        return {
            "text": self.artifact,
            "log_prob": self.log_prob,
            "ended": self.ended,
            "symbols": [{"symbol": symbol, "log_prob": nats} for symbol, nats in pairs],
        }


class Writer:
    """A model of symbols with its modality, ready for some wishes.

    Raises `UsageError` for a model or a modality that has no symbols to steer, for an expression that nothing meets, and
    for a bias on what is no symbol.
    """

    def __init__(self, model: Model, modality: Modality, options: Settings, wishes: Wishes) -> None:
        form = model.form
        fits = isinstance(model, Predicts) and isinstance(form, Tokens) and isinstance(options, Decoding)
        if not fits or not isinstance(modality, Spells):
            raise UsageError(
                f"{type(model).__name__} of {modality.name} was given a prompt, a stop string or another wish about symbols",
                "a model of text that predicts the next symbol",
                "Leave it out",
            )
        assert isinstance(model, Predicts)
        assert isinstance(form, Tokens)
        assert isinstance(options, Decoding)
        self.model, self.modality, self.form, self.options, self.wishes = model, modality, form, options, wishes
        _check(wishes)
        self.lead = modality.beginning(wishes.prompt) if wishes.prompt else torch.empty(0, dtype=torch.int64)
        self.regex = self._regex()
        self.rules: list[Rule] = [] if self.regex is None else [self.regex]
        if wishes.bias:
            self.rules.append(Bias(self._biased(wishes.bias), form.vocabulary))

    def _regex(self) -> Any:
        if self.wishes.regex is None:
            return None
        from pieria.sampling.grammar import Regex

        spelled, between = self.modality.spelled()
        most = room(self.form, len(self.lead), self.options.length)
        return Regex(self.wishes.regex, spelled, self.form, between=between, length=most)

    def _biased(self, bias: Mapping[str, float]) -> dict[int, float]:
        found: dict[int, float] = {}
        strings = self.modality.strings()
        places = {string: symbol for symbol, string in reversed(list(enumerate(strings)))}
        for string, nats in bias.items():
            if string not in places:
                near = [each for each in strings if each.strip() == string.strip()][:3]
                parts = [] if near else _parts(self.modality, string)
                said = f", but these are: {', '.join(map(repr, near))}" if near else ""
                said = f", it is spelled by {' '.join(map(repr, parts))}" if parts else said
                raise UsageError(
                    f"a bias on {string!r}, which is no symbol of this run{said}",
                    "one symbol",
                    "Name one of these" if near or parts else "'pieria score RUN FILE --tokens' shows symbols",
                )
            found[places[string]] = float(nats)
        return found

    # ---- drawing -----------------------------------------------------------------------------------------------------

    def draw(self, noise: ItemNoise, condition: Tensor | None, *, scored: bool = False) -> list[Drawing]:
        """One drawing for each item of ``noise``; ``condition`` one a row. ``scored`` adds the log-probabilities."""
        many = self.wishes.best_of
        if many == 1:
            return self._drawn(noise, condition, scored)
        best: list[Drawing] = []
        for place, item in enumerate(noise.items):
            given = None if condition is None else condition[place : place + 1].expand(many, *condition.shape[1:])
            found = self._drawn(ItemNoise(noise.seed, many, first=item * many), given, scored=True)
            best.append(max(found, key=lambda drawing: drawing.log_prob / max(1, len(drawing.log_probs))))
        return best

    def _drawn(self, noise: ItemNoise, condition: Tensor | None, scored: bool) -> list[Drawing]:
        over = self._stopped if self.wishes.stop else None
        made = drawn(
            self.model, len(noise), self.options, noise, prompt=self.lead, condition=condition, stop=over, rules=self.rules
        )
        return self._drawings(made.symbols, made.lengths, condition, scored)

    def told(self, made: Tensor, condition: Tensor | None) -> list[Drawing]:
        """Drawings of what the family's own ``sample`` drew, with the log-probability of each symbol."""
        lengths = mask_after_end(made, self.form.end).sum(dim=1)
        return self._drawings(made, lengths, condition, scored=True)

    def search(self, n: int, condition: Tensor | None, *, scored: bool = False) -> list[Drawing]:
        """The ``n`` best that a beam search finds, from the best on."""
        beams = self.wishes.beams or n
        given = None if condition is None else condition[:1]
        found = beam_search(
            self.model,
            1,
            self.options,
            beams=max(beams, n),
            length_penalty=self.wishes.length_penalty,
            prompt=self.lead,
            condition=given,
            rules=self.rules,
        )
        there = found.scores[0, :n] > -torch.inf
        rows, lengths = found.symbols[0, :n][there], found.lengths[0, :n][there]
        return self._drawings(rows, lengths, None if given is None else given.expand(len(rows), *given.shape[1:]), scored)

    def _stopped(self, made: Tensor) -> Tensor:
        # a symbol is at least a byte, and a character at most four
        tail = made[:, -(4 * max(map(len, self.wishes.stop)) + 8) :].cpu()
        texts = self.modality.decode(tail)  # type: ignore[attr-defined]
        return torch.tensor([any(stop in text for stop in self.wishes.stop) for text in texts])

    # ---- telling -----------------------------------------------------------------------------------------------------

    def _drawings(self, made: Tensor, lengths: Tensor, condition: Tensor | None, scored: bool) -> list[Drawing]:
        strings, end, made = self.modality.strings(), self.form.end, made.cpu()
        nats = log_probs(self.model, self.lead, made, condition) if scored else list(torch.empty(len(made), 0))
        found: list[Drawing] = []
        for row, log, length in zip(made, nats, lengths.tolist(), strict=True):
            kept, text = self._cut(row[:length])
            ended = len(kept) < length or (end is not None and bool((kept == end).any()))
            if self.regex is not None:
                ended = self.regex.met(kept[kept != end].tolist() if end is not None else kept.tolist())
            elif end is None and not self.wishes.stop:
                ended = True  # a stream has no end that it could have missed
            looks = tuple(strings[symbol] for symbol in kept.tolist())
            found.append(Drawing(text, looks, tuple(log[: len(kept)].tolist()), ended))
        return found

    def _cut(self, row: Tensor) -> tuple[Tensor, str]:
        """The symbols up to the first stop string, and the whole text up to it."""
        decode = self.modality.decode  # type: ignore[attr-defined]
        text = str(decode(torch.cat([self.lead, row])[None])[0])
        # as it is decoded: words are set apart by one space, however many the prompt has
        begins = len(str(decode(self.lead[None])[0])) if len(self.lead) else 0
        ends = [place for stop in self.wishes.stop if (place := text.find(stop, begins)) >= 0]
        if not ends:
            return row, text
        kept = row
        while len(kept) and len(str(decode(torch.cat([self.lead, kept[:-1]])[None])[0])) >= min(ends):
            kept = kept[:-1]
        return kept, text[: min(ends)]

    def remarks(self) -> list[str]:
        """What a person should know of how the prompt is read: each a sentence."""
        if not self.wishes.prompt:
            return []
        if not len(self.lead):
            return ["the prompt holds no symbol; texts begin where the model begins"]
        room(self.form, len(self.lead), self.options.length)  # says what is too long for an item
        found = []
        read = str(self.modality.decode(self.lead[None])[0])  # type: ignore[attr-defined]
        if read.split() != self.wishes.prompt.split():
            found.append(f"the prompt is read as {read!r}: what this run never learned has one symbol for all of it")
        reach = max(1, self.model.reach)
        if len(self.lead) > reach:
            found.append(
                f"of the prompt's {len(self.lead):,} symbols the model reads the last {reach:,}, all that it can use"
            )
        return found


def composed(
    model: Model,
    modality: Modality,
    options: Settings,
    outline: Sequence[str],
    seed: int,
    item: int,
    condition: Tensor | None,
) -> str:
    """One text under the headings of an outline, each on a line of its own, its sections cut back to whole sentences."""
    writer = Writer(model, modality, options, Wishes())
    headings = [line.rstrip() for line in outline if line.strip()]
    mark = _mark(headings)

    def next_heading(made: Tensor) -> Tensor:
        # a model that learned headings writes one of its own where it thinks that the section is over
        text = modality.decode(made[:, -4 * len(mark) - 8 :].cpu())[0]
        return torch.tensor([("\n" + mark) in text])

    stream = writer.form.end is None
    spaced = [("\n" if number else "") + line + "\n" for number, line in enumerate(headings)]
    leads = [writer.modality.beginning(text) for text in (spaced if stream else headings)]
    stop = next_heading if mark else None
    parts = sections(writer.model, leads, writer.options, seed, item=item, stop=stop, condition=condition)
    text = ""
    for line, part in zip(headings, parts, strict=True):
        if not stream:  # an item that begins with its heading
            text += ("\n\n" if text else "") + str(modality.decode(torch.cat([part.heading, part.body])[None])[0])
            continue
        body = modality.decode(part.body[None])[0].strip("\n")
        own = body.find("\n" + mark) if mark else -1
        text += ("\n\n" if text else "") + line + "\n" + (body[:own] if own >= 0 else _whole_sentences(body)).rstrip()
    return text + "\n"


def _mark(headings: Sequence[str]) -> str:
    """What headings begin with that is no letter, such as ``# ``; nothing where they are plain lines."""
    begun = [re.match(r"[^\w\s]*[^\w]*", line.strip()) for line in headings]
    marks = [found.group() if found else "" for found in begun]
    shared = ""
    for characters in zip(*marks, strict=False):
        if len(set(characters)) > 1:
            break
        shared += characters[0]
    return shared if shared.strip() else ""


def _whole_sentences(text: str) -> str:
    """Up to the last end of a sentence or line, if that keeps half of it."""
    ends = [found.end() for found in re.finditer(r"[.!?][\"')\]]*(?=\s|$)|(?=\n)", text)]
    return text[: ends[-1]] if ends and ends[-1] * 2 >= len(text) else text


def styled(style: str | None, options: Mapping[str, Any], known: type[Settings]) -> dict[str, Any]:
    """``options`` on top of those of a style from `sampling.styles`.

    Raises `UsageError` for an unknown style, and for one of a family that is not drawn symbol by symbol.
    """
    if style is None:
        return dict(options)
    if style not in STYLES:
        raise unknown("style", style, STYLES)
    if not issubclass(known, Decoding):
        raise UsageError(f"style {style!r} of a family that is not drawn symbol by symbol", "no style", "Leave it out")
    return {**STYLES[style], **options}


def log_probs(model: Any, lead: Tensor, made: Tensor, condition: Tensor | None) -> list[Tensor]:
    """The nats of each drawn symbol under the model's own law, float64 ``[time]`` a row of ``made`` (long ``[n, time]``).

    What follows the end of an item is told as well, and means nothing.
    """
    found = []
    device = device_of(model)
    for place, row in enumerate(made):  # one by one: a row of odds for each place and symbol is large
        read = first_read(model, lead[None].to(device))
        given = None if condition is None else condition[place : place + 1]
        with torch.no_grad():
            logits = model.logits(torch.cat([read, row[None, :-1].to(device)], dim=1), given)[0, read.shape[1] - 1 :]
            law = torch.log_softmax(logits.double(), dim=-1)
        found.append(law.cpu().gather(1, row[:, None])[:, 0])
    return found


def _parts(modality: Spells, string: str) -> list[str]:
    try:
        symbols = modality.beginning(string).tolist()
    except Exception:  # what cannot be spelled at all
        return []
    strings = modality.strings()
    return [strings[symbol] for symbol in symbols] if len(symbols) > 1 else []


def _check(wishes: Wishes) -> None:
    if "" in wishes.stop:
        raise UsageError("an empty stop string, before which every text ends at once", "at least one character")
    if wishes.best_of < 1 or (wishes.beams is not None and wishes.beams < 1):
        raise UsageError(f"best of {wishes.best_of}, {wishes.beams} beams", "at least 1 of each")
    if wishes.beams is not None and (wishes.best_of > 1 or wishes.stop):
        raise UsageError("a beam search with stop strings or the best of several draws", "one of them", "Leave one out")
