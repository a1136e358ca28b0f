"""Few-shot prompting: examples of prompts with their completions stand before what is asked, and the weights stay at rest.

They are written as a stream of pairs is (``modalities.documents``): a prompt, a line break, its completion, and a blank line
before the next one. A run that was fitted on such a stream (pairs with ``items=stream``) has met windows of just this kind;
for any other run of text it is the format that is declared. As many examples as leave room for a completion stand there, the
first ones of those that are given, and the completion ends where the next blank line begins.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pieria.drawing import Spells
from pieria.errors import DataError, UsageError
from pieria.forms import Tokens
from pieria.modalities.contract import Modality
from pieria.modalities.documents import BETWEEN, joined, pairs_in
from pieria.models.contract import Model, Predicts
from pieria.noise import ItemNoise
from pieria.sampling.decoding import Decoding, drawn
from pieria.settings import Settings

Pairs = str | Path | Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Asked:
    """What is asked, with what stands before it.

    Attributes:
        text: examples and prompt, as the model reads them.
        lead: their symbols, long ``[time]``.
        used: how many examples stand there.
        room: how many symbols the completion may have while all of this is still in the context.
    """

    text: str
    lead: Tensor
    used: int
    room: int


class Shots:
    """Examples for a model of text that predicts the next symbol.

    Args:
        model, modality: of a run; it must read texts as symbols, without a condition.
        examples: pairs of a prompt and its completion, or a file of them: ``.jsonl`` records, or the columns "prompt" and
            "completion" of a ``.csv`` or ``.tsv``. None at all is a prompt in the same format.
        options: of the family's drawing; its ``length`` is kept free for the completion, without one as much as the longest
            example has.

    Raises `DataError` for a file or an example that cannot be used, `UsageError` for a model that has no use for them.
    """

    def __init__(self, model: Model, modality: Modality, examples: Pairs, options: Settings) -> None:
        name, form = type(model).__name__, model.form
        if isinstance(model.condition, Tokens):
            raise UsageError(
                f"examples before the prompt of {name}, which reads each prompt by itself",
                "a family that reads prompt and completion as one text, such as gpt",
                "Leave the examples out",
            )
        predicts = isinstance(model, Predicts) and isinstance(form, Tokens) and isinstance(options, Decoding)
        if not predicts or model.condition is not None or not isinstance(modality, Spells):
            raise UsageError(
                f"examples for {name} of {modality.name}",
                "a model of text that predicts the next symbol, without classes",
                "Leave the examples out",
            )
        assert isinstance(model, Predicts)
        assert isinstance(form, Tokens)
        assert isinstance(options, Decoding)
        self.model, self.modality, self.form, self.options = model, modality, form, options
        if self._read_back(BETWEEN).strip(" ") != BETWEEN:  # some imported tokenisers put a space before every text
            raise UsageError(
                "examples for a run that has no symbol for a line break",
                "one that learned texts of several lines",
                "Fit one to pairs: pieria fit PAIRS.jsonl --model gpt --set items=stream",
            )
        self.pairs = read(examples)
        self.context = form.length if form.end is not None else model.reach
        self.sizes, self.reserved = self._measured()
        self.used: list[int] = []  # how many stood before each prompt that was asked

    def _read_back(self, text: str) -> str:
        try:
            return str(self.modality.decode(self.modality.beginning(text)[None])[0])  # type: ignore[attr-defined]
        except DataError:
            return ""

    def _measured(self) -> tuple[list[int], int]:
        """Symbols of each example that could stand there at all, and how many are kept free for a completion."""
        sizes: list[int] = []
        total = longest = 0
        for number, pair in enumerate(self.pairs, 1):
            if total > self.context:
                break
            try:
                sizes.append(len(self.modality.beginning(joined(pair) + BETWEEN)))
                longest = max(longest, len(self.modality.beginning(pair[1] + BETWEEN)))
            except DataError as error:
                raise DataError(f"example {number:,}: {error.got}", error.wanted, error.do) from None
            total += sizes[-1]
        return sizes, self.options.length or longest or 1

    def ask(self, prompt: str) -> Asked:
        """The prompt behind as many examples as fit; `UsageError` if not even the prompt does."""
        if not prompt.strip():
            raise UsageError("an empty prompt behind examples", "a text that is to be completed", "Give --prompt TEXT")
        own = prompt.strip() + "\n"
        alone = self.modality.beginning(own)
        if len(alone) >= self.context:
            raise UsageError(
                f"the prompt {prompt[:60]!r} has {len(alone):,} symbols",
                f"fewer than {self.context:,}, which is all that this model reads at once",
                "Shorten it",
            )
        most = self.context - self.reserved
        count, size = 0, len(alone)
        while count < len(self.sizes) and size + self.sizes[count] <= most:
            size, count = size + self.sizes[count], count + 1
        while True:  # symbols of a whole text may be others than those of its parts, so the sum is only nearly right
            text = "".join(joined(pair) + BETWEEN for pair in self.pairs[:count]) + own
            lead = self.modality.beginning(text)
            if not count or len(lead) <= most:
                break
            count -= 1
        self.used.append(count)
        return Asked(text, lead, count, self.context - len(lead))

    def told(self) -> list[str]:
        """What a person should know of the prompts that were asked so far, each a sentence."""
        if not self.used or not self.pairs:
            return []
        few, many, given = min(self.used), max(self.used), len(self.pairs)
        number = f"{many:,}" if few == many else f"{few:,} to {many:,}"
        said = [f"{number} of {given:,} examples stand before {'the prompt' if len(self.used) == 1 else 'each prompt'}"]
        if few < given:
            said[0] += (
                f"; the others do not fit into the {self.context:,} symbols that this model reads at once, "
                f"{self.reserved:,} of them kept for the completion"
            )
        if many > 0 and self.form.end is not None:
            said.append(
                "this run learned texts that end, one at a time, so it may never have seen two pairs together; "
                "one that was fitted on pairs with --set items=stream has"
            )
        return said

    def completion(self, asked: Asked, text: str) -> str:
        """What was written behind the prompt, of a whole text that was drawn."""
        before = str(self.modality.decode(asked.lead[None])[0])  # type: ignore[attr-defined]
        return _first(text[len(before) :])

    def answers(self, prompts: Sequence[str], *, seed: int = 0, batch: int = 64) -> list[str]:
        """What the model writes for each prompt; item i depends on ``(seed, i)`` alone. Those of one length go together."""
        asked = [self.ask(prompt) for prompt in prompts]
        alike: dict[int, list[int]] = defaultdict(list)
        for place, one in enumerate(asked):
            alike[len(one.lead)].append(place)
        made = [""] * len(prompts)
        for places in alike.values():
            for start in range(0, len(places), batch):
                some = places[start : start + batch]
                room = asked[some[0]].room
                found = drawn(
                    self.model,
                    len(some),
                    self.options.changed(length=min(self.options.length or room, room)),
                    ItemNoise(seed, 0, items=some),
                    prompt=torch.stack([asked[place].lead for place in some]),
                    stop=self._over,
                )
                for place, text in zip(some, self._texts(found.symbols.cpu()), strict=True):
                    made[place] = text
        return made

    def _texts(self, made: Tensor) -> list[str]:
        return [_first(str(text)) for text in self.modality.decode(made)]  # type: ignore[attr-defined]

    def _over(self, made: Tensor) -> Tensor:
        tail = made[:, -8:].cpu()  # a break is a byte, or at most a few symbols
        texts = [str(text) for text in self.modality.decode(tail)]  # type: ignore[attr-defined]
        begun = made.shape[1] <= tail.shape[1]
        return torch.tensor([BETWEEN in text or (begun and text.startswith("\n")) for text in texts])


def _first(text: str) -> str:
    """A completion, of what was written behind a prompt and its line break: nothing, where a blank line follows at once."""
    return "" if text.startswith("\n") else text.partition(BETWEEN)[0].strip()


def read(examples: Pairs) -> list[tuple[str, str]]:
    """The examples of a file, or those that are given; `DataError` names the one that cannot be used."""
    if isinstance(examples, str | Path):
        found, where = pairs_in(Path(examples).expanduser()), str(examples)
    else:
        found, where = [], "the examples"
        for number, pair in enumerate(examples, 1):
            fits = isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(s, str) and s.strip() for s in pair)
            if not fits:
                raise DataError(f"example {number:,} is {pair!r}", "(prompt, completion), both of them text", "Correct it")
            found.append((pair[0].strip(), pair[1].strip()))
    for number, (_, completion) in enumerate(found, 1):
        if BETWEEN in completion:
            raise DataError(
                f"{where}, example {number:,}: its completion holds a blank line, before which every completion ends",
                "completions without one",
                "Join its paragraphs",
            )
    return found


def turns(examples: Pairs) -> list[Mapping[str, Any]]:
    """The same examples as turns of a conversation, for a run that learned conversations."""
    return [
        {"role": role, "content": words}
        for pair in read(examples)
        for role, words in zip(("user", "assistant"), pair, strict=True)
    ]
