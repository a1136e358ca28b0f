"""What runs of texts are asked beyond samples: translations, replies, gaps filled, vectors, classes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from pieria.errors import UsageError
from pieria.forms import Tokens
from pieria.modalities.chat import Chat
from pieria.modalities.contract import Artifact, Modality
from pieria.modalities.messages import ASSISTANT, USER, Conversation, Message
from pieria.models.contract import Model, Predicts, device_of
from pieria.noise import ItemNoise
from pieria.settings import Settings

if TYPE_CHECKING:
    import numpy as np

    from pieria.drawing import Drawing
    from pieria.filling import Filled
    from pieria.shots import Pairs, Shots


@runtime_checkable
class Asks(Protocol):
    """A modality whose artifacts answer to prompts."""

    def prompts(self, texts: Sequence[str]) -> Tensor:
        """The symbols of each prompt, padded with its own end."""


class Texts:
    """The verbs of runs whose artifacts are texts; a `Run` of other things refuses them and says why."""

    path: Path
    model: Model
    modality: Modality
    record: dict[str, Any]

    def _translate_texts(
        self,
        texts: str | Sequence[str],
        *,
        beams: int = 1,
        length_penalty: float = 0.6,
        seed: int = 0,
        batch: int = 64,
        shots: "Pairs | None" = None,
        told: Callable[[str], None] | None = None,
        **options: Any,
    ) -> list[str]:
        """What a model of pairs writes for each text; the arguments are those of `Run.translate`."""
        from pieria.sampling.answering import answers
        from pieria.sampling.decoding import Decoding

        given = [texts] if isinstance(texts, str) else list(texts)
        if batch < 1 or beams < 1:
            raise UsageError(f"{batch} texts together with {beams} beams", "at least 1 of each")
        if shots is not None:
            if beams > 1:
                raise UsageError(f"{beams} beams behind examples", "drawing, or the most probable symbol", "Leave one out")
            few = self._shots(shots, self.model.Sampling.of({"temperature": 0.0, **options}))
            made_behind = few.answers(given, seed=seed, batch=batch)
            if told is not None:
                for sentence in few.told():
                    told(sentence)
            return made_behind
        if not isinstance(self.model.condition, Tokens) or not isinstance(self.model, Predicts):
            raise UsageError(
                f"{self.record['model']['family']} of {self.record['data']['name']} does not turn one text into another",
                "a model that learned from pairs",
                "Fit one: pieria fit PAIRS.jsonl --model transformer; or show it examples, with --shots FILE",
            )
        chosen = Decoding.of({"temperature": 0.0, **options})
        if not given:
            return []
        how: dict[str, Any] = {"beams": beams, "length_penalty": length_penalty, "seed": seed, "batch": batch}
        with torch.inference_mode():
            made = answers(self.model, self.model.condition, self._prompts(given), chosen, **how)
        return [str(text) for text in self.modality.decode(made)]

    def _shots(self, examples: "Pairs", options: Settings) -> "Shots":
        from pieria.shots import Shots

        if isinstance(self.modality, Chat):
            raise UsageError(
                f"texts for {self.path}, which learned conversations", "a prompt", "Use 'pieria sample RUN --prompt TEXT'"
            )
        return Shots(self.model, self.modality, examples, options)

    def _behind(
        self, shots: "Pairs", prompt: str | None, draw: "Callable[..., list[Drawing]]", chosen: Settings, **wished: Any
    ) -> "list[Drawing]":
        """What ``draw`` makes of a prompt behind examples: the completions alone, each up to its end."""
        from pieria.shots import BETWEEN

        if wished.get("beams"):
            raise UsageError("a beam search behind examples", "drawing, or temperature 0", "Leave one of them out")
        few = self._shots(shots, chosen)
        asked = few.ask(prompt or "")
        stop = wished.pop("stop", ())
        wished["stop"] = (*((stop,) if isinstance(stop, str) else stop), BETWEEN)
        wished["length"] = min(few.options.length or asked.room, asked.room)
        return [
            replace(drawing, artifact=few.completion(asked, str(drawing.artifact)))
            for drawing in draw(prompt=asked.text, **wished)
        ]

    def _prompts(self, texts: Sequence[str]) -> Tensor:
        if not isinstance(self.modality, Asks):
            raise UsageError(f"a prompt for a model of {self.modality.name}", "a model of texts", "Leave it out")
        return self.modality.prompts(texts).to(device_of(self.model))

    def chat(
        self,
        messages: str | Iterable[Any],
        *,
        seed: int = 0,
        stop: str | Sequence[str] = (),
        told: Callable[[str], None] | None = None,
        **options: Any,
    ) -> str:
        """The assistant's next turn in a conversation.

        Args:
            messages: what was said so far, ``{"role": …, "content": …}`` each, the last one of the user; or a string, which
                the user says first.
            seed: the same seed and the same conversation give the same reply.
            stop: strings before which it ends.
            told: hears, in sentences, what had to be left out of a conversation that is longer than the context.
            options: of the family's drawing; unless said otherwise ``temperature=0.7, top_p=0.9``.

        A run that learned no conversations is given plain lines ``user: …`` and ``assistant: …``, and its reply is a line.
        Raises `UsageError` for a run that cannot be talked to, `DataError` for messages that are none.
        """
        return "".join(self.chat_stream(messages, seed=seed, stop=stop, told=told, **options))

    def chat_stream(
        self,
        messages: str | Iterable[Any],
        *,
        seed: int = 0,
        stop: str | Sequence[str] = (),
        told: Callable[[str], None] | None = None,
        **options: Any,
    ) -> Iterator[str]:
        """The pieces of what `chat` gives, each as soon as it is certain."""
        from pieria import chatting

        chat, conversation = chatting.talker(self.model, self.modality), chatting.asked(messages)
        # each turn has noise of its own, however much of the conversation is still in the context
        noise = ItemNoise(seed, 1, items=[len(conversation.messages)])
        stops = [stop] if isinstance(stop, str) else list(stop)
        return chatting.reply(self.model, chat, conversation, noise, stop=stops, told=told, options=options)

    def _replies(
        self,
        prompt: str | None,
        n: int,
        seed: int,
        stops: Sequence[str],
        options: Mapping[str, Any],
        shots: "Pairs | None" = None,
    ) -> list[Artifact]:
        from pieria import chatting

        if prompt is None:
            raise UsageError(
                f"no prompt for {self.path}, which learned the assistant's turns alone",
                "what the user says",
                f"Give --prompt, or talk to it with 'pieria chat {self.path}'",
            )
        chat, conversation = chatting.talker(self.model, self.modality), chatting.asked(self._talk(prompt, shots))
        noise = ItemNoise(seed, n)
        said = (
            "".join(chatting.reply(self.model, chat, conversation, noise.part(i, i + 1), stop=stops, options=options))
            for i in range(n)
        )
        return [Conversation((*conversation.messages, Message(ASSISTANT, words))) for words in said]

    def _talk(self, prompt: str, shots: "Pairs | None") -> list[Any]:
        """What the user says, after examples as earlier turns."""
        from pieria.shots import turns

        return [*(() if shots is None else turns(shots)), Message(USER, prompt)]

    def _told_of_talk(self, prompt: str, shots: "Pairs | None", options: Mapping[str, Any]) -> list[str]:
        """What is left out of a conversation that `_replies` would go on with, each a sentence."""
        from pieria import chatting

        said: list[str] = []
        chat = chatting.talker(self.model, self.modality)
        chatting.led(self.model, chat, chatting.asked(self._talk(prompt, shots)), said.append, options)
        return said

    def fill(self, texts: str | Sequence[str], *, top: int = 5, seed: int = 0, **options: Any) -> "list[Filled]":
        """Fill the gaps of texts, written [MASK] or ___, with what is most probable there.

        Args:
            texts: one string is one text.
            top: how many alternatives are told of each gap, with their probabilities.
            seed: of the draws, where ``temperature`` is above 0.
            options: of the family's drawing; without any, the places that the model is surest of come first
                (order=confidence), each filled with the most probable symbol (temperature=0).

        Raises `UsageError` for a model that does not fill, and for a text without a gap.
        """
        from pieria import filling

        if top < 1:
            raise UsageError(f"{top} alternatives", "at least 1")
        given = [texts] if isinstance(texts, str) else list(texts)
        known = self.model.Sampling.model_fields
        chosen = {name: value for name, value in (("order", "confidence"), ("temperature", 0.0)) if name in known}
        asked = self.model.Sampling.of({**chosen, **options})
        return filling.fill(self.model, self.modality, given, asked, top=top, seed=seed)

    def embed(self, texts: str | Sequence[str], *, batch: int = 64) -> "np.ndarray":
        """A vector for each text, float32 ``[text, features]``; of a text that is too long its beginning is read.

        Raises `UsageError` for a model that has no such vectors.
        """
        from pieria import filling

        return filling.embedded(self.model, self.modality, [texts] if isinstance(texts, str) else list(texts), batch)

    def predict(self, texts: str | Sequence[str], *, batch: int = 64) -> list[dict[str, Any]]:
        """What a discriminative model says of each text.

        Of classes ``{"target": name, "probabilities": {name: p, …}}``; of a number ``{"target": mean, "deviation": …}``.

        Raises `UsageError` for a model that is not discriminative.
        """
        from pieria import filling

        return filling.predicted(self.model, self.modality, [texts] if isinstance(texts, str) else list(texts), batch)
