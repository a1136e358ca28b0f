"""Text: one stream of prose, or many short items (names, sentences, conversations), as symbols in order.

A stream becomes ``Tokens(vocabulary, length)``: items are windows of ``length`` symbols cut anywhere. Items become
``Tokens(vocabulary, length, end)``: each ends with a symbol of its own, the last of the vocabulary.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from pieria.data.storage import write_atomically
from pieria.data.texts import IN_MEMORY, AnyText, LargeText, looks_binary, looks_like_text, pieces_of
from pieria.errors import DataError, FormError, UsageError
from pieria.forms import Label, Tokens
from pieria.modalities import documents
from pieria.modalities.contract import Collection, Modality, Sniff
from pieria.modalities.messages import holds_messages
from pieria.modalities.subwords import BytePairs
from pieria.modalities.symbols import TOKENISATIONS, Bytes, Characters, Words, characters_in
from pieria.modalities.tokenisation import Tokenisation
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

if TYPE_CHECKING:
    import torch

    from pieria.data.examples import Examples

WINDOW = 128  # symbols of a stream that are learned from at once, if nothing else is said
LONGEST = 512  # symbols of an item that are kept, if nothing else is said
PAIRS = 4096  # symbols of a byte-pair vocabulary, if nothing else is said
RULE = "-" * 20  # stands between items that have line breaks of their own


class TextSettings(AnySettings):
    """How text is read and made into symbols."""

    tokenizer: Literal["char", "byte", "word", "bpe", "imported"] = Field(
        "char", description="what one symbol is; imported is the tokenizer of an imported model, with --start-from"
    )
    vocabulary: int = Field(0, ge=0, description="most symbols of word or bpe; 0 chooses: every word, or 4,096 byte pairs")
    length: int = Field(0, ge=0, description="symbols in a window or an item; 0 chooses: 128, or the longest item up to 512")
    items: Literal["auto", "stream", "lines"] = Field("auto", description="one stream, or one item a line (or record)")
    lowercase: bool = Field(False, description="make all letters small")
    unknown: Literal["auto", "yes", "no"] = Field("auto", description="reserve a symbol for what was not seen in training")
    pairs: Literal["joined", "apart"] = Field(
        "joined", description="a prompt and its completion: one text, or apart, for a family that is conditioned on texts"
    )
    prompt_length: int = Field(
        0, ge=0, description="symbols of a prompt that are kept apart; 0 chooses: the longest prompt up to 512"
    )
    encoding: str = Field("utf-8", description="how the characters are stored in the file")


class Text(Modality):
    """Strings as symbols and back; the vocabulary comes from the training part alone."""

    name = "text"
    Settings = TextSettings
    forms = ("tokens",)
    suffixes = (*documents.PLAIN, *documents.RECORDS)
    settings: TextSettings

    def __init__(self, settings: TextSettings) -> None:
        super().__init__(settings)
        self._symbols: Tokenisation | None = None
        self._form: Tokens | None = None
        self._prompt_length = 0  # 0: no prompts, or they stand within the texts

    # ---- files to artifacts ------------------------------------------------------------------------------------------

    @classmethod
    def sniff(cls, path: Path, column: str | None = None) -> Sniff:
        """Sure of ``.txt`` and ``.jsonl``, less sure of other files that decode as text."""
        if path.is_dir():
            return documents.sniff_folder(path)
        suffix = documents.suffix_of(path)
        if not looks_like_text(path):
            if suffix in (*documents.PLAIN, *documents.RECORDS) and not looks_binary(path):
                return Sniff(0.5, f"a {suffix} file in another encoding than UTF-8")  # reading it says how to name that
            return Sniff(0.0, "does not decode as text")
        if suffix in documents.RECORDS:
            if column is None and holds_messages(path):
                return Sniff(0.5, "JSON records whose messages would be one text")
            return Sniff(0.9, "JSON records, one a line")
        if suffix in documents.PLAIN:
            return Sniff(0.8, f"a {suffix} file that decodes as text")
        if suffix in documents.TABLES:
            return Sniff(0.2, "text, but in columns")
        return Sniff(0.4, "decodes as text")

    def read(self, path: Path, column: str | None = None) -> Collection:
        """The texts at ``path``: a file, a folder of files, records, or a ``column`` of a table.

        Raises `DataError` that names the file, the line and the cure.
        """
        return documents.read(path, column, self._asked, self.settings.encoding, self.settings.pairs)

    def read_two(self, path: Path, to: Path) -> Collection:
        """Two files of lines that belong together; those of ``to`` are learned given those of ``path``.

        Raises `DataError` if one has more lines than the other.
        """
        return documents.read_two(path, to, self._asked, self.settings.encoding, self.settings.pairs)

    @property
    def _asked(self) -> documents.Asked:
        if self._form is None:
            return self.settings.items
        return "stream" if self._form.end is None else "lines"  # a learned modality reads as it learned to

    # ---- what is learned ---------------------------------------------------------------------------------------------

    def learn(self, collection: Collection, form: str | None = None) -> None:
        """Learn the vocabulary, and how long items are, from the training part."""
        if form not in (None, "tokens"):
            raise UsageError(f"text has no form {form!r}", "tokens", "Leave --form out")
        settings, texts, prompts = self.settings, collection.artifacts, collection.prompts or ()
        if not any(len(text) for text in texts):
            raise DataError("the training part holds no text", "at least one character", "Give more text")
        if settings.tokenizer == "char":
            self._symbols = Characters.learn(self._pieces([*prompts, *texts]), settings.unknown == "yes")
        elif settings.tokenizer == "byte":
            self._symbols = Bytes()
        elif settings.tokenizer == "word":
            most = settings.vocabulary - (not collection.stream) if settings.vocabulary else 0
            self._symbols = Words.learn(self._pieces([*prompts, *texts]), most, settings.unknown != "no")
        elif settings.tokenizer == "imported":
            raise UsageError(
                "tokenizer=imported for a model of its own", "the tokenizer of a model that was imported", "Use --start-from"
            )
        else:
            size = settings.vocabulary or PAIRS
            if size < 257:
                raise UsageError(f"setting vocabulary = {size}", "bpe needs more than its 256 bytes", "Set 512 or more")
            self._symbols = BytePairs.learn(self._pieces([*prompts, *texts]), size)
        if collection.stream:
            self._form = Tokens(self._symbols.size, settings.length or WINDOW)
        else:
            end = self._symbols.size
            length = settings.length or min(LONGEST, max(len(self._encoded(text)) for text in texts) + 1)
            self._form = Tokens(end + 1, length, end)
            if prompts:
                self._prompt_length = settings.prompt_length or self._longest(prompts)

    def _longest(self, texts: Iterable[AnyText]) -> int:
        return min(LONGEST, max((len(self._encoded(text)) for text in texts), default=0) + 1)

    def foresee(self, others: Iterable[Collection]) -> list[str]:
        """Make room for held-out parts where the settings leave it open, and say what for.

        Their counts are not used: only whether they hold a character that training lacks, and how long their items are.
        """
        found: list[str] = []
        others = list(others)
        if isinstance(self._symbols, Characters) and self.settings.unknown == "auto":
            held_out = characters_in(
                piece for part in others for piece in self._pieces([*part.artifacts, *(part.prompts or ())])
            )
            new = sorted(held_out - set(self._symbols.alphabet))
            if new:
                self._symbols = Characters(self._symbols.alphabet, unknown=True)
                shown = " ".join(repr(character) for character in new[:8]) + (" …" if len(new) > 8 else "")
                found.append(
                    f"{len(new)} character(s) of validation or test never occur in train ({shown}): "
                    "one symbol was reserved for the unknown; tokenizer=byte needs none"
                )
        form, symbols = self.form, self._learned
        if form.end is None:
            self._form = Tokens(symbols.size, form.length)
            return found
        length = form.length
        if not self.settings.length:
            longest = max((len(self._encoded(text)) for part in others for text in part.artifacts), default=0)
            length = min(LONGEST, max(length, longest + 1))
        self._form = Tokens(symbols.size + 1, length, symbols.size)
        if self._prompt_length and not self.settings.prompt_length:
            longest = max((self._longest(part.prompts or ()) for part in others), default=0)
            self._prompt_length = max(self._prompt_length, longest)
        return found

    @property
    def form(self) -> Tokens:
        """``Tokens``; with ``end`` if the data are items."""
        if self._form is None:
            raise FormError("a text modality that has learned nothing yet", "a vocabulary", "Call learn or restore first")
        return self._form

    @property
    def prompt_form(self) -> Tokens | None:
        """The form of what a completion answers to, of the same symbols; None where nothing is kept apart."""
        return Tokens(self.form.vocabulary, self._prompt_length, self.form.end) if self._prompt_length else None

    @property
    def _learned(self) -> Tokenisation:
        self.form  # noqa: B018  raises if nothing was learned
        assert self._symbols is not None
        return self._symbols

    @property
    def symbols(self) -> Tokenisation:
        """The symbols of a text, without the end of an item."""
        return self._learned

    @property
    def tokenisation(self) -> str:
        """What one symbol is, in words that go beside a figure: "char (65 symbols)", "word (10,000 symbols, closed)"."""
        symbols = self._learned
        closed = ", closed" if isinstance(symbols, Words) and symbols.closed else ""
        end = ", one of them the end" if self.form.end is not None else ""
        return f"{symbols.kind} ({self.form.vocabulary:,} symbols{closed}{end})"

    def strings(self) -> list[str]:
        """What each symbol looks like, for a reader; the end of an item is "⏎"."""
        strings = self._learned.strings()
        return [*strings, "⏎"] if self.form.vocabulary > len(strings) else strings

    def spelled(self) -> tuple[list[bytes], str]:
        """The bytes of each symbol but the end, and what stands between two symbols: what a grammar asks."""
        return self._learned.spelled(), self._learned.between

    # ---- artifacts to tensors ----------------------------------------------------------------------------------------

    def _pieces(self, texts: Iterable[AnyText]) -> Iterator[str]:
        for text in texts:
            for piece in pieces_of(text):
                yield piece.lower() if self.settings.lowercase else piece

    def _encoded(self, text: AnyText) -> np.ndarray:
        parts = [self._learned_symbols.encode(piece) for piece in self._pieces([text])]
        return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.zeros(0, dtype=np.int32)])

    @property
    def _learned_symbols(self) -> Tokenisation:
        # inside learn the form is not known yet
        assert self._symbols is not None
        return self._symbols

    def encode(self, artifacts: Sequence[Any]) -> "torch.Tensor":
        """Long ``[text, time]``; items are padded with their end to the form's length.

        Raises `FormError` for an item that is longer than the form, and for texts of a stream that differ in length.
        """
        rows = [self._encoded(text) for text in artifacts]
        if not rows:
            raise FormError("no texts", "at least one")
        form = self.form
        if form.end is not None:
            for place, row in enumerate(rows):
                if len(row) >= form.length + (row[-1:] == form.end).sum():
                    raise FormError(
                        f"text {place + 1} has {len(row)} symbols and an end",
                        f"at most {form.length} together",
                        f"Shorten it, or fit with --set length={len(row) + 1}",
                    )
            return self._padded(rows)
        if len({len(row) for row in rows}) > 1:
            raise FormError("texts of different length in a stream", "one length", "Encode them one by one")
        return _tensor(np.stack(rows))

    def beginning(self, text: str) -> "torch.Tensor":
        """A prompt: the symbols of ``text`` without an end, long ``[time]``."""
        return _tensor(self._encoded(text))

    def prompts(self, texts: Sequence[str], *, cut: bool = False) -> "torch.Tensor":
        """What completions are asked for: long ``[text, time]``, each padded with its own end.

        Raises `FormError` for one that is longer than was learned from, unless it may be ``cut``.
        """
        length = self._prompt_length
        rows = [self._encoded(text) for text in texts]
        for place, row in enumerate(rows if not cut else ()):
            if len(row) >= length:
                raise FormError(
                    f"prompt {place + 1} has {len(row)} symbols ({texts[place][:60]!r} …)",
                    f"at most {length - 1}, as the model was fitted with",
                    f"Shorten or divide it, or fit with --set prompt_length={len(row) + 1}",
                )
        return self._padded(rows, length)

    def _padded(self, rows: Sequence[np.ndarray], length: int | None = None) -> "torch.Tensor":
        length, end = length or self.form.length, self.form.end
        padded = np.full((len(rows), length), end, dtype=np.int64)
        for place, row in enumerate(rows):
            padded[place, : len(row)] = row[:length]
        return _tensor(padded)

    def examples(self, collection: Collection, *, training: bool = False) -> "Examples":
        """A stream as windows, from memory or from a memory-mapped file; items one by one, with their prompts or labels.

        Items longer than the form are cut to unfinished prefixes, and ``collection.findings`` says how many.
        """
        from pieria.data.examples import ItemExamples, StreamExamples

        del training  # text is not augmented
        form = self.form
        if form.end is None:
            return StreamExamples(form, self._stream(collection.artifacts))
        rows = [self._encoded(text) for text in collection.artifacts]
        cut = sum(len(row) >= form.length for row in rows)
        if cut:
            finding = (
                f"{cut:,} of {len(rows):,} items are longer than {form.length} symbols with their end: only the first "
                f"{form.length} count; set length=N to keep more, or items=stream"
            )
            if finding not in collection.findings:
                collection.findings.append(finding)
        if collection.prompts is not None and self.prompt_form is not None:
            sources = self.prompts(collection.prompts, cut=True)
            if long := int((sources[:, -1] != form.end).sum()):
                finding = (
                    f"{long:,} of {len(rows):,} prompts are longer than {self._prompt_length} symbols with their end: only "
                    f"their beginning counts; set prompt_length=N to keep more"
                )
                if finding not in collection.findings:
                    collection.findings.append(finding)
            return ItemExamples(form, self._padded(rows), condition=self.prompt_form, conditions=sources)
        labels = None if collection.labels is None else _tensor(np.asarray(collection.labels, dtype=np.int64))
        return ItemExamples(
            form,
            self._padded(rows),
            condition=None if labels is None else Label(tuple(collection.classes)),
            conditions=labels,
        )

    def _stream(self, texts: Sequence[AnyText]) -> np.ndarray:
        from pieria.data.fingerprint import of_file, of_item
        from pieria.data.token_files import smallest_type, token_file

        kind = smallest_type(self.form.vocabulary)
        encoded = (self._learned.encode(piece).astype(kind) for piece in self._pieces(texts))
        if all(isinstance(text, str) for text in texts) and sum(len(text) for text in texts) <= IN_MEMORY:
            return np.concatenate(list(encoded))
        key = {
            "texts": [
                [of_file(text.path), text.start, text.stop] if isinstance(text, LargeText) else of_item(text).hex()
                for text in texts
            ],
            "symbols": self.state(),
            "lowercase": self.settings.lowercase,
        }
        return token_file(key, self.form.vocabulary, encoded)

    # ---- tensors to artifacts, and to files --------------------------------------------------------------------------

    def decode(self, x: "torch.Tensor") -> list[str]:
        """One string a row of ``x`` (long ``[batch, time]``), up to its end."""
        symbols, end = self._learned, self.form.end
        rows = x.detach().cpu().numpy()
        if end is None:
            return [symbols.decode(row) for row in rows]
        # what a prefix lacks is its end; what follows an end is padding
        return [symbols.decode(row[: int(np.argmax(row == end))] if (row == end).any() else row) for row in rows]

    def characters(self, x: "torch.Tensor | np.ndarray") -> int:
        """For how many characters of text the symbols stand: nats / (log 2 · characters) are bits per character.

        ``x`` is long ``[time]`` or ``[batch, time]``. The end of an item counts as one, the line break it stands for;
        padding behind it counts as none. Sums over the windows of a stream give the whole.
        """
        rows = np.atleast_2d(np.asarray(x))
        end = self.form.end
        if end is None:
            return sum(self._learned.characters(row) for row in rows)
        total = 0
        for row in rows:
            ended = row == end
            real = row[: int(np.argmax(ended))] if ended.any() else row
            # the last word of an item counted its own line break
            inside = isinstance(self._learned, Words) and len(real) > 0
            total += self._learned.characters(real) + int(ended.any() and not inside)
        return total

    def write(self, artifacts: Sequence[Any], path: Path, metadata: dict[str, str] | None = None) -> list[Path]:
        """Write to a ``.jsonl`` (records with the metadata), a ``.txt``, or a directory (one ``.txt`` each).

        In a ``.txt`` each text is a line; if one has several lines, a rule stands between them.
        """
        texts = [str(text) for text in artifacts]
        if path.suffix == ".jsonl":
            records = [json.dumps({"text": text, **(metadata or {})}, ensure_ascii=False) for text in texts]
            write_atomically(path, "\n".join(records) + "\n")
            return [path]
        if path.is_dir() or not path.suffix:
            width = max(4, len(str(len(texts))))
            paths = [path / f"{place:0{width}}.txt" for place in range(len(texts))]
            for place, text in zip(paths, texts, strict=True):
                write_atomically(place, text + "\n")
            return paths
        between = f"\n{RULE}\n" if any("\n" in text for text in texts) else "\n"
        write_atomically(path, between.join(texts) + "\n")
        return [path]

    def preview(self, artifacts: Sequence[Any], path: Path, metadata: dict[str, str] | None = None) -> Path:
        """A ``.txt`` with the texts one under the other, numbered."""
        path = path.with_suffix(".txt")
        head = [f"# {name}: {value}" for name, value in (metadata or {}).items()]
        several = any("\n" in str(text) for text in artifacts)
        blocks = [f"[{place}]\n{text}\n" if several else f"[{place}] {text}" for place, text in enumerate(artifacts)]
        write_atomically(path, "\n".join([*head, *blocks]) + "\n")
        return path

    def state(self) -> dict[str, Any]:
        """The vocabulary and the form."""
        symbols = self._learned
        said: dict[str, Any] = {"kind": symbols.kind, "length": self.form.length, "stream": self.form.end is None}
        if self._prompt_length:
            said["prompt_length"] = self._prompt_length
        return {**said, **symbols.state()}

    @classmethod
    def restore(cls, settings: AnySettings, state: dict[str, Any]) -> Self:
        """The modality that `state` was taken from."""
        assert isinstance(settings, TextSettings)
        made = cls(settings)
        made._symbols = TOKENISATIONS[state["kind"]].restore(state)
        size, end = made._symbols.size, made._symbols.end
        if state["stream"]:
            made._form = Tokens(size, state["length"])
        else:
            made._form = Tokens(size + 1, state["length"], size) if end is None else Tokens(size, state["length"], end)
        made._prompt_length = state.get("prompt_length", 0)
        return made


def _tensor(array: np.ndarray) -> "torch.Tensor":
    import torch

    return torch.from_numpy(array.astype(np.int64))


MODALITY = Text
