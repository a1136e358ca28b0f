"""Chat: conversations of a user and an assistant as symbols, of which a model learns the assistant's turns.

An item is a conversation written by a chat template (see `templates`), or a part of it that begins with a turn of the user:
``Tokens(vocabulary, length, end)``, padded with ``end``. Roles are symbols of their own behind those of the text, which no
text becomes. ``Batch.mask`` is True on replies and on what ends them; the rest is read, and neither learned nor scored.

Runs of text can go on with conversations, and be talked to: `Chat.beside` writes them with the symbols that such a run has.
"""

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from pieria.data.storage import write_atomically
from pieria.errors import DataError, FormError, UsageError
from pieria.forms import Tokens
from pieria.modalities import messages
from pieria.modalities.contract import Collection, Modality, Sniff
from pieria.modalities.documents import RECORDS, suffix_of
from pieria.modalities.messages import ASSISTANT, ROLES, USER, Conversation, Message
from pieria.modalities.symbols import TOKENISATIONS, Characters, Words
from pieria.modalities.templates import MARKERS, OWN, PLAIN, Template, specials_in, windows
from pieria.modalities.text import LONGEST, Text
from pieria.modalities.tokenisation import Tokenisation
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

if TYPE_CHECKING:
    import torch

    from pieria.data.examples import Examples

REMEMBERED = 1 << 15  # conversations whose symbols are kept in memory, so that each is encoded once


class ChatSettings(AnySettings):
    """How conversations are read and made into symbols."""

    tokenizer: Literal["char", "byte", "word", "bpe"] = Field("bpe", description="what one symbol of the words is")
    vocabulary: int = Field(0, ge=0, description="most symbols of word or bpe; 0 chooses: every word, or 4,096 byte pairs")
    length: int = Field(0, ge=0, description="symbols in a window; 0 chooses: the longest conversation, up to 512")
    learn: Literal["assistant", "all"] = Field(
        "assistant", description="whose turns are learned and scored; all can also draw whole conversations"
    )
    template: str = Field("", description="a file with a chat template in Jinja, as the hub's models have it")
    lowercase: bool = Field(False, description="make all letters small")
    encoding: str = Field("utf-8", description="how the characters are stored in the file")


class Chat(Modality):
    """Conversations as symbols and back; the vocabulary comes from the training part alone."""

    name = "chat"
    Settings = ChatSettings
    forms = ("tokens",)
    suffixes = RECORDS
    settings: ChatSettings

    def __init__(self, settings: ChatSettings) -> None:
        super().__init__(settings)
        self._symbols: Tokenisation | None = None
        self._form: Tokens | None = None
        self._template = Template(OWN)
        self._specials: dict[str, int] = {}
        # learning, making room and encoding each ask for the symbols of every conversation
        self._written = lru_cache(maxsize=REMEMBERED)(self._write)

    # ---- files to artifacts ------------------------------------------------------------------------------------------

    @classmethod
    def sniff(cls, path: Path, column: str | None = None) -> Sniff:
        """Sure of records whose first one has messages."""
        if column is None and path.is_file() and suffix_of(path) in RECORDS and messages.holds_messages(path):
            return Sniff(0.95, "JSON records with messages, one a line")
        return Sniff(0.0, "no records with messages")

    def read(self, path: Path, column: str | None = None) -> Collection:
        """The conversations of a file; `DataError` names the file, the line and the message that is out of order."""
        if column is not None:
            raise UsageError(f"--column {column} with conversations", "no column", "Leave it out, or read it --as text")
        return messages.read(path, self.settings.encoding)

    # ---- what is learned ---------------------------------------------------------------------------------------------

    def learn(self, collection: Collection, form: str | None = None) -> None:
        """Learn the vocabulary from what the training part says, and how long conversations are."""
        if form not in (None, "tokens"):
            raise UsageError(f"chat has no form {form!r}", "tokens", "Leave --form out")
        settings = self.settings
        if settings.template:
            self._template = _from_file(Path(settings.template).expanduser())
        probe = Conversation((Message(USER, "a"), Message(ASSISTANT, "b")))
        words = [piece.text for piece in self._template.pieces(probe, answer=True) if not piece.special]
        words += [content for conversation in collection.artifacts for _, content in conversation.messages]
        said = {"tokenizer": settings.tokenizer, "vocabulary": settings.vocabulary, "lowercase": settings.lowercase}
        # people say to a chat what they like: every kind but bytes gets a symbol for what it does not know
        text = Text(Text.Settings.of({**said, "items": "lines", "unknown": "yes", "length": 1}))
        text.learn(Collection(words))
        self._symbols = text.symbols
        size = self._symbols.size
        self._specials = {special: size + place for place, special in enumerate(self._template.specials)}
        end = size + len(self._specials)
        self._form = Tokens(end + 1, settings.length or LONGEST, end)
        if not settings.length:
            self._form = Tokens(end + 1, self._longest(collection), end)

    def foresee(self, others: Iterable[Collection]) -> list[str]:
        """Make room for the longest held-out conversation where the settings leave it open."""
        if not self.settings.length:
            form = self.form
            length = max([form.length, *(self._longest(part) for part in others)])
            self._form = Tokens(form.vocabulary, length, form.end)
        return []

    def _longest(self, collection: Collection) -> int:
        return min(LONGEST, max((len(self.symbols_of(one)[0]) for one in collection.artifacts), default=1) + 1)

    @classmethod
    def beside(cls, text: Text) -> "Chat":
        """Conversations in the symbols of a text modality, for a run of text that goes on with them or is talked to.

        They are written by its own chat template; where it has none, in lines ``role: content``, all of it plain text.
        """
        form, symbols = text.form, text.symbols
        made = cls(ChatSettings(lowercase=text.settings.lowercase, encoding=text.settings.encoding))
        made._symbols, made._form = symbols, form
        if symbols.template:
            made._specials = dict(symbols.specials)
            made._template = Template(symbols.template, tuple(symbols.specials), symbols.bos, symbols.eos)
        else:
            made._template = Template(PLAIN, (), "", "")
        return made

    @property
    def form(self) -> Tokens:
        """``Tokens`` with ``end``; of a run of text, that run's."""
        if self._form is None:
            raise FormError("a chat modality that has learned nothing yet", "a vocabulary", "Call learn or restore first")
        return self._form

    @property
    def template(self) -> Template:
        """How conversations are written."""
        return self._template

    @property
    def specials(self) -> dict[str, int]:
        """The symbols that only the template writes."""
        return dict(self._specials)

    @property
    def symbols(self) -> Tokenisation:
        """The symbols of what is said."""
        self.form  # noqa: B018  raises if nothing was learned
        assert self._symbols is not None
        return self._symbols

    @property
    def tokenisation(self) -> str:
        """What one symbol is, in words that go beside a figure."""
        whose = "" if self.settings.learn == "all" else "; the assistant's turns alone"
        return f"{self.symbols.kind} ({self.form.vocabulary:,} symbols, {len(self._specials)} of them roles and ends){whose}"

    def strings(self) -> list[str]:
        """What each symbol looks like, for a reader; the end of an item is "⏎"."""
        shown = [*self.symbols.strings(), *[""] * (self.form.vocabulary - self.symbols.size)]
        for special, symbol in self._specials.items():
            shown[symbol] = special
        if self.form.end is not None:
            shown[self.form.end] = "⏎"
        return shown

    # ---- artifacts to tensors ----------------------------------------------------------------------------------------

    def symbols_of(self, conversation: Conversation, answer: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """The symbols of a conversation and which of them are learned, both ``[time]``; with ``answer``, up to a reply."""
        return self._written(conversation, answer)

    def _write(self, conversation: Conversation, answer: bool) -> tuple[np.ndarray, np.ndarray]:
        pieces = self._template.pieces(conversation, answer)
        if answer and pieces and not pieces[-1].special:  # the space before a reply belongs to it
            pieces[-1] = pieces[-1]._replace(text=pieces[-1].text.rstrip(" "))
        everything = self.settings.learn == "all"
        symbols: list[int] = []
        learned: list[bool] = []
        for text, special, reply in pieces:
            if special:
                symbols.append(self._specials[text])
            else:
                symbols += self._encoded(text).tolist()
            learned += [reply or everything] * (len(symbols) - len(learned))
        return np.array(symbols, dtype=np.int32), np.array(learned, dtype=bool)

    def _encoded(self, text: str) -> np.ndarray:
        text, symbols = text.lower() if self.settings.lowercase else text, self._symbols
        assert symbols is not None
        try:
            return symbols.encode(text)
        except DataError:  # symbols of a run of text that has none for what it did not meet
            if isinstance(symbols, Characters):
                return symbols.encode("".join(character for character in text if character in symbols.alphabet))
            if isinstance(symbols, Words):
                return symbols.encode(" ".join(word for word in text.split() if word in symbols))
            raise

    def encode(self, artifacts: Sequence[Any]) -> "torch.Tensor":
        """Long ``[conversation, time]``, padded to the form's length; `FormError` for one that is longer."""
        if not artifacts:
            raise FormError("no conversations", "at least one")
        rows = []
        for place, conversation in enumerate(artifacts, 1):
            rows.append(self.symbols_of(conversation))
            if len(rows[-1][0]) > self.form.length:
                raise FormError(
                    f"conversation {place} has {len(rows[-1][0])} symbols", f"at most {self.form.length}", "Shorten it"
                )
        return self._padded(rows)[0]

    def beginning(self, text: str) -> "torch.Tensor":
        """A prompt: what the user says first, up to where the reply begins, long ``[time]``."""
        import torch

        asked = messages.conversation_of([Message(USER, text)])
        return torch.from_numpy(self.symbols_of(asked, answer=True)[0].astype(np.int64))

    def examples(self, collection: Collection, *, training: bool = False) -> "Examples":
        """Conversations, cut where the user begins to speak if they are too long; ``collection.findings`` says how many."""
        from pieria.data.examples import ItemExamples

        del training  # nothing is augmented
        length = self.form.length
        rows: list[tuple[np.ndarray, np.ndarray]] = []
        divided = shortened = lost = 0
        for conversation in collection.artifacts:
            row = self.symbols_of(conversation)
            if len(row[0]) <= length:
                rows.append(row)
                continue
            parts = windows(conversation, lambda part: len(self.symbols_of(Conversation(tuple(part)))[0]) <= length)
            divided += len(parts) > 1
            for part in parts:
                if all(role != ASSISTANT for role, _ in part):
                    continue  # the user had the last word
                symbols, learned = self.symbols_of(Conversation(part))
                shortened += len(symbols) > length
                rows.append((symbols[:length], learned[:length]))
        kept = [row for row in rows if row[1].any()]
        lost = len(rows) - len(kept)
        if not kept:
            raise DataError(f"no reply begins within {length} symbols", "a larger window", "Set length=N")
        for count, what in (
            (divided, f"conversations are longer than {length} symbols and were cut where the user begins to speak"),
            (shortened, f"exchanges are longer than {length} symbols: only their beginning counts"),
            (lost, f"parts have no reply within {length} symbols and were left out"),
        ):
            finding = f"{count:,} {what}; set length=N to keep more together"
            if count and finding not in collection.findings:
                collection.findings.append(finding)
        x, masks = self._padded(kept)
        return ItemExamples(self.form, x, masks=masks)

    def _padded(self, rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple["torch.Tensor", "torch.Tensor"]:
        import torch

        length, end = self.form.length, self.form.end
        x = np.full((len(rows), length), end or 0, dtype=np.int64)
        masks = np.zeros((len(rows), length), dtype=bool)
        whole = self.settings.learn == "all" and end is not None
        for place, (symbols, learned) in enumerate(rows):
            x[place, : len(symbols)] = symbols
            masks[place, : len(learned) + whole] = [*learned, *[True] * whole][:length]
        return torch.from_numpy(x), torch.from_numpy(masks)

    # ---- tensors to artifacts, and to files --------------------------------------------------------------------------

    def said(self, symbols: Sequence[int] | np.ndarray) -> str:
        """The words of some symbols; those of the template and the end are left out."""
        row = np.asarray(symbols, dtype=np.int64)
        return self.symbols.decode(row[~np.isin(row, self._silent)])

    @property
    def _silent(self) -> list[int]:
        return [*self._specials.values(), *([] if self.form.end is None else [self.form.end])]

    def decode(self, x: "torch.Tensor") -> list[Any]:
        """A `Conversation` a row of ``x`` (long ``[batch, time]``), up to its end; with a template of others a string.

        What stands before any role is the assistant's.
        """
        rows = [self._real(row) for row in x.detach().cpu().numpy()]
        if self._template.source == OWN:
            return [self._turns(row) for row in rows]
        names = {symbol: special for special, symbol in self._specials.items()}
        texts = []
        for row in rows:
            cuts = np.flatnonzero(np.isin(row, list(names)))
            parts = [self.symbols.decode(row[a + 1 : b]) for a, b in zip([-1, *cuts], [*cuts, len(row)], strict=True)]
            texts.append("".join(f"{part}{names.get(int(row[cut]), '')}" for part, cut in zip(parts, cuts)) + parts[-1])
        return [_lines(text) for text in texts] if self._template.lines else texts

    def _real(self, row: np.ndarray) -> np.ndarray:
        """A row without its padding."""
        ended = np.flatnonzero(row == -1 if self.form.end is None else row == self.form.end)
        if not len(ended):
            return row
        if self.form.end in self._specials.values():  # of an imported model, whose turns may end as its texts do
            others = np.flatnonzero(row != self.form.end)
            return row[: int(others[-1]) + 2] if len(others) else row[:1]
        return row[: int(ended[0])]

    def _turns(self, row: np.ndarray) -> Conversation:
        roles = {self._specials[f"<|{role}|>"]: role for role in ROLES}
        turns: list[tuple[str, list[int]]] = []
        role: str | None = ASSISTANT
        for symbol in row.tolist():
            if symbol in roles:
                role = roles[symbol]
                turns.append((role, []))
            elif symbol == self._specials[MARKERS[-1]]:
                role = None
            else:
                if not turns or role is None:
                    role = role or ASSISTANT
                    turns.append((role, []))
                turns[-1][1].append(symbol)
        return Conversation(tuple(Message(role, self.said(symbols).strip()) for role, symbols in turns))

    def characters(self, x: "torch.Tensor | np.ndarray") -> int:
        """For how many characters the symbols stand; the end of a turn counts as one, a line break."""
        row = np.asarray(x).reshape(-1)
        special = np.isin(row, self._silent)
        return self.symbols.characters(row[~special]) + int(special.sum())

    def write(self, artifacts: Sequence[Any], path: Path, metadata: dict[str, str] | None = None) -> list[Path]:
        """Write records of messages to a ``.jsonl``, or texts as the text modality does."""
        if path.suffix in RECORDS and all(isinstance(artifact, Conversation) for artifact in artifacts):
            records = [json.dumps({**one.to_json(), **(metadata or {})}, ensure_ascii=False) for one in artifacts]
            write_atomically(path, "\n".join(records) + "\n")
            return [path]
        return Text(Text.Settings.of({})).write([str(artifact) for artifact in artifacts], path, metadata)

    def preview(self, artifacts: Sequence[Any], path: Path, metadata: dict[str, str] | None = None) -> Path:
        """A ``.txt`` with the conversations one under the other."""
        return Text(Text.Settings.of({})).preview([str(artifact) for artifact in artifacts], path, metadata)

    def state(self) -> dict[str, Any]:
        """The vocabulary, the template and the form."""
        symbols, form, template = self.symbols, self.form, self._template
        return {
            "kind": symbols.kind,
            "length": form.length,
            "vocabulary": form.vocabulary,
            "end": form.end,
            "template": {"source": template.source, "bos": template.bos, "eos": template.eos},
            "specials": self._specials,
            "symbols": symbols.state(),
        }

    @classmethod
    def restore(cls, settings: AnySettings, state: dict[str, Any]) -> Self:
        """The modality that `state` was taken from."""
        assert isinstance(settings, ChatSettings)
        made = cls(settings)
        made._symbols = TOKENISATIONS[state["kind"]].restore(state["symbols"])
        made._form = Tokens(state["vocabulary"], state["length"], state["end"])
        made._specials = dict(state["specials"])
        said = state["template"]
        made._template = Template(said["source"], tuple(made._specials), said["bos"], said["eos"])
        return made


def _lines(text: str) -> Conversation:
    """The turns of plain lines ``role: content``."""
    turns: list[Message] = []
    for line in text.splitlines():
        role, colon, content = line.partition(":")
        if colon and role in ROLES:
            turns.append(Message(role, content.strip()))
        elif turns:
            turns[-1] = Message(turns[-1].role, f"{turns[-1].content}\n{line}".strip())
        elif line.strip():
            turns.append(Message(ASSISTANT, line.strip()))
    return Conversation(tuple(turns))


def _from_file(path: Path) -> Template:
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the chat template {path} cannot be read ({error})", "a text file with a Jinja template") from None
    return Template(source, specials_in(source, "<s>", "</s>"), "<s>", "</s>")


MODALITY = Chat
