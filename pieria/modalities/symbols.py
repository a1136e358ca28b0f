"""How text becomes symbols: characters, bytes, words, or byte pairs. Learned from the training part, saved as JSON.

A `Tokenisation` is not told where items end: that symbol is added by the modality, after the last of these. One that came
with an imported model has it already.
"""

import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self

import numpy as np

from pieria.errors import DataError

Kind = Literal["char", "byte", "word", "bpe", "imported"]
UNKNOWN_CHARACTER = "\N{REPLACEMENT CHARACTER}"
UNKNOWN_WORD = "<unk>"
BREAK = "\n"
PAIRS_LEARN_FROM = 100_000_000  # characters: merges hardly change beyond, and counting pairs takes memory


class Tokenisation(ABC):
    """A two-way map between strings and symbols ``0 .. size - 1``.

    Attributes:
        specials: strings that stand for one symbol each where a chat template writes them, as imported tokenisers have
            them; ``encode`` never makes these symbols out of a text.
        bos, eos: those that begin and end a text.
        template: the chat template that came with them, or "".
    """

    kind: ClassVar[Kind]
    specials: Mapping[str, int] = MappingProxyType({})
    bos: str = ""
    eos: str = ""
    template: str = ""

    @property
    def end(self) -> int | None:
        """The symbol with which an item ends, if it is one of these."""
        return None

    @property
    @abstractmethod
    def size(self) -> int:
        """How many symbols there are."""

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """The symbols of ``text``; `DataError` names a character or word that is not among them, and its line."""

    @abstractmethod
    def decode(self, symbols: np.ndarray) -> str:
        """The text of one sequence of symbols."""

    @abstractmethod
    def characters(self, symbols: np.ndarray) -> int:
        """For how many characters of text these symbols stand; it adds up over the windows of a stream."""

    @abstractmethod
    def strings(self) -> list[str]:
        """What each symbol looks like, for a reader."""

    def spelled(self) -> list[bytes]:
        """The bytes that each symbol stands for in a text; none for one that stands for no text."""
        return [string.encode() for string in self.strings()]

    @property
    def between(self) -> str:
        """What `decode` puts between two symbols."""
        return ""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """All that `restore` needs, as JSON."""

    @classmethod
    @abstractmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        """The tokenisation that ``state`` was taken from."""


class Characters(Tokenisation):
    """One symbol a character of the training part, in the order of their code points; one more for all others if asked."""

    kind = "char"

    def __init__(self, alphabet: str, unknown: bool) -> None:
        self.alphabet, self.unknown = alphabet, unknown
        self._code_points = np.frombuffer(alphabet.encode("utf-32-le"), dtype="<u4")
        self._symbol_of = np.full(0x110000, -1, dtype=np.int32)
        self._symbol_of[self._code_points] = np.arange(len(alphabet))

    @classmethod
    def learn(cls, pieces: Iterable[str], unknown: bool) -> Self:
        """The characters that occur in ``pieces``."""
        return cls("".join(sorted(characters_in(pieces))), unknown)

    @property
    def size(self) -> int:  # noqa: D102
        return len(self.alphabet) + self.unknown

    def encode(self, text: str) -> np.ndarray:  # noqa: D102
        symbols = self._symbol_of[np.frombuffer(text.encode("utf-32-le", "replace"), dtype="<u4")]
        if symbols.size and symbols.min() < 0:
            if not self.unknown:
                raise self._refusal(text, int(np.argmax(symbols < 0)))
            symbols = np.where(symbols < 0, self.size - 1, symbols)
        return symbols

    def _refusal(self, text: str, place: int) -> DataError:
        character = text[place]
        line = text.count(BREAK, 0, place) + 1
        around = text[max(0, place - 20) : place + 20].replace(BREAK, " ")
        return DataError(
            f"the character {character!r} (U+{ord(character):04X}, {unicodedata.name(character, 'unnamed').lower()}) "
            f"on line {line:,} of the text, near {around!r}, does not occur in what was learned from",
            f"one of these {len(self.alphabet)} characters",
            "Fit with --set unknown=yes (one symbol for all others) or --set tokenizer=byte (knows every text)",
        )

    def decode(self, symbols: np.ndarray) -> str:  # noqa: D102
        strings = self.strings()
        return "".join(strings[symbol] for symbol in symbols.tolist())

    def characters(self, symbols: np.ndarray) -> int:  # noqa: D102
        return int(symbols.size)

    def strings(self) -> list[str]:  # noqa: D102
        return [*self.alphabet, *([UNKNOWN_CHARACTER] if self.unknown else [])]

    def state(self) -> dict[str, Any]:  # noqa: D102
        return {"alphabet": self.alphabet, "unknown": self.unknown}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:  # noqa: D102
        return cls(state["alphabet"], state["unknown"])


def characters_in(pieces: Iterable[str]) -> set[str]:
    """The different characters of some strings."""
    seen = np.zeros(0x110000, dtype=bool)
    for piece in pieces:
        seen[np.frombuffer(piece.encode("utf-32-le", "replace"), dtype="<u4")] = True
    return {chr(code) for code in np.flatnonzero(seen)}


class Bytes(Tokenisation):
    """The 256 bytes of UTF-8: knows every text, and has nothing to learn."""

    kind = "byte"

    @property
    def size(self) -> int:  # noqa: D102
        return 256

    def encode(self, text: str) -> np.ndarray:  # noqa: D102
        return np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8)

    def decode(self, symbols: np.ndarray) -> str:  # noqa: D102
        return symbols.astype(np.uint8).tobytes().decode("utf-8", "replace")

    def characters(self, symbols: np.ndarray) -> int:  # noqa: D102
        # every character has one byte that does not continue another
        return int(((symbols & 0xC0) != 0x80).sum())

    def strings(self) -> list[str]:  # noqa: D102
        return [chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in range(256)]

    def spelled(self) -> list[bytes]:  # noqa: D102
        return [bytes([byte]) for byte in range(256)]

    def state(self) -> dict[str, Any]:  # noqa: D102
        return {}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:  # noqa: D102
        del state
        return cls()


class Words(Tokenisation):
    """What stands between white space, the most frequent first; a line break inside a text is a word too.

    A word that is not in the vocabulary becomes ``<unk>``. Where that word occurs in the training part (Penn Treebank,
    WikiText) the vocabulary is *closed*: it is an ordinary word, and nothing is added.
    """

    kind = "word"

    def __init__(self, words: list[str], closed: bool) -> None:
        self.words, self.closed = words, closed
        self._symbol_of = {word: symbol for symbol, word in enumerate(words)}
        self._break = self._symbol_of.get(BREAK, -1)
        # a word stands for its characters and the space or line break behind it
        self._lengths = np.array([len(word) + (word != BREAK) for word in words], dtype=np.int64)

    @classmethod
    def learn(cls, pieces: Iterable[str], most: int, unknown: bool) -> Self:
        """The ``most`` most frequent words of ``pieces`` (0 is all), ``<unk>`` among them if there or ``unknown``."""
        counts: Counter[str] = Counter()
        for piece in pieces:
            counts.update(piece.split())
            counts[BREAK] += piece.count(BREAK)
        counts += Counter()  # drops a line break that never came
        closed = UNKNOWN_WORD in counts
        added = unknown and not closed
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        if most and most - added < len(ranked):
            must = [UNKNOWN_WORD] if closed else []
            must += [BREAK] if BREAK in counts else []
            kept = set([*must, *[word for word in ranked if word not in must]][: most - added])
            ranked = [word for word in ranked if word in kept]
        return cls([*ranked, *([UNKNOWN_WORD] if added else [])], closed)

    def __contains__(self, word: str) -> bool:
        return word in self._symbol_of

    @property
    def size(self) -> int:  # noqa: D102
        return len(self.words)

    def encode(self, text: str) -> np.ndarray:  # noqa: D102
        known, other = self._symbol_of, self._symbol_of.get(UNKNOWN_WORD, -1)
        symbols: list[int] = []
        for number, line in enumerate(text.split(BREAK)):
            if number and self._break >= 0:
                symbols.append(self._break)
            symbols.extend(known.get(word, other) for word in line.split())
        if other < 0 and -1 in symbols:
            word = next(word for word in text.split() if word not in known)
            line_number = text[: text.index(word)].count(BREAK) + 1
            raise DataError(
                f"the word {word!r} on line {line_number:,} of the text does not occur in what was learned from",
                f"one of these {len(self.words):,} words",
                f"Fit without --set unknown=no, so that {UNKNOWN_WORD} stands for all others",
            )
        return np.array(symbols, dtype=np.int32)

    def decode(self, symbols: np.ndarray) -> str:  # noqa: D102
        text: list[str] = []
        for symbol in symbols.tolist():
            word = self.words[symbol]
            if text and word != BREAK and text[-1] != BREAK:
                text.append(" ")
            text.append(word)
        return "".join(text)

    def characters(self, symbols: np.ndarray) -> int:  # noqa: D102
        breaks = symbols == self._break
        # a line break right behind a word was counted with that word
        after_word = breaks & ~np.concatenate([np.zeros_like(breaks[:1]), breaks[:-1]])
        return int(self._lengths[symbols].sum()) - int(after_word.sum())

    def strings(self) -> list[str]:  # noqa: D102
        return self.words

    @property
    def between(self) -> str:  # noqa: D102
        return " "

    def state(self) -> dict[str, Any]:  # noqa: D102
        return {"words": self.words, "closed": self.closed}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:  # noqa: D102
        return cls(state["words"], state["closed"])


class BytePairs(Tokenisation):
    """Byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019): knows every text, exact round trip."""

    kind = "bpe"

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        byte_of = {character: byte for byte, character in enumerate(byte_alphabet())}
        names = [tokenizer.id_to_token(symbol) for symbol in range(tokenizer.get_vocab_size())]
        self._bytes = [bytes(byte_of[character] for character in name) for name in names]
        self._lengths = np.array([sum(byte & 0xC0 != 0x80 for byte in raw) for raw in self._bytes], dtype=np.int64)

    @classmethod
    def learn(cls, pieces: Iterable[str], size: int) -> Self:
        """``size`` symbols: the 256 bytes and the most useful joins found in (the beginning of) ``pieces``."""
        import tokenizers

        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=size, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        )
        tokenizer.train_from_iterator(_beginning(pieces, PAIRS_LEARN_FROM), trainer)
        return cls(tokenizer)

    @property
    def size(self) -> int:  # noqa: D102
        return len(self._bytes)

    def encode(self, text: str) -> np.ndarray:  # noqa: D102
        # in pieces: the library needs some hundred bytes of memory for each symbol
        parts = [self._tokenizer.encode(piece).ids for piece in _pieces(text, 1_000_000)]
        return np.fromiter((symbol for part in parts for symbol in part), dtype=np.int32)

    def decode(self, symbols: np.ndarray) -> str:  # noqa: D102
        return b"".join(self._bytes[symbol] for symbol in symbols.tolist()).decode("utf-8", "replace")

    def characters(self, symbols: np.ndarray) -> int:  # noqa: D102
        return int(self._lengths[symbols].sum())

    def strings(self) -> list[str]:  # noqa: D102
        return [raw.decode("utf-8", "backslashreplace") for raw in self._bytes]

    def spelled(self) -> list[bytes]:  # noqa: D102
        return self._bytes

    def state(self) -> dict[str, Any]:  # noqa: D102
        import json

        return {"tokenizer": json.loads(self._tokenizer.to_str())}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:  # noqa: D102
        import json

        import tokenizers

        return cls(tokenizers.Tokenizer.from_str(json.dumps(state["tokenizer"])))


class Imported(Tokenisation):
    """The tokenizer of an imported model, as its ``tokenizer.json`` has it, run by the library ``tokenizers``.

    Special tokens that the tokenizer would put around a text are left out: what begins and ends an item is the form's.
    """

    kind = "imported"

    def __init__(self, state: dict[str, Any]) -> None:
        import json

        import tokenizers

        self._state = state
        self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(state["tokenizer"]))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._names = [self._tokenizer.id_to_token(symbol) or "" for symbol in range(state["size"])]
        special = self._tokenizer.get_added_tokens_decoder()
        self._special = {symbol for symbol, token in special.items() if token.special}
        # a text that spells a special token is a text: what only a template may write, no user can forge
        self._tokenizer.encode_special_tokens = True
        self.specials = {token.content: symbol for symbol, token in special.items() if token.special}
        config = state.get("config") or {}
        self.bos, self.eos = (_content(config.get(name)) for name in ("bos_token", "eos_token"))
        template = config.get("chat_template")
        self.template = template if isinstance(template, str) else ""
        self._strings = [
            name if symbol in special else _spelled(name, state["tokenizer"]) for symbol, name in enumerate(self._names)
        ]
        lengths = [0 if symbol in self._special else _continued(text) for symbol, text in enumerate(self._strings)]
        self._lengths = np.array(lengths, dtype=np.int64)

    @property
    def end(self) -> int | None:  # noqa: D102
        return self._state["end"]

    @property
    def size(self) -> int:  # noqa: D102
        return len(self._names)

    def encode(self, text: str) -> np.ndarray:  # noqa: D102
        parts = [self._tokenizer.encode(piece, add_special_tokens=False).ids for piece in _pieces(text, 1_000_000)]
        return np.fromiter((symbol for part in parts for symbol in part), dtype=np.int32)

    def decode(self, symbols: np.ndarray) -> str:  # noqa: D102
        text: str = self._tokenizer.decode(symbols.tolist(), skip_special_tokens=False)
        return text

    def characters(self, symbols: np.ndarray) -> int:  # noqa: D102
        return int(self._lengths[symbols].sum())

    def strings(self) -> list[str]:  # noqa: D102
        return [text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text for text in self._strings]

    def spelled(self) -> list[bytes]:  # noqa: D102
        return [
            b"" if symbol in self._special else text if isinstance(text, bytes) else text.encode()
            for symbol, text in enumerate(self._strings)
        ]

    def state(self) -> dict[str, Any]:  # noqa: D102
        return dict(self._state)

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:  # noqa: D102
        return cls({name: state.get(name) for name in ("tokenizer", "config", "size", "begin", "end", "mask")})


def _content(token: Any) -> str:
    """What a special token of a tokenizer's configuration is written as: a string, or the content of a record."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else ""


def _spelled(name: str, tokenizer: dict[str, Any]) -> str | bytes:
    """What a token of a vocabulary stands for: bytes in byte-level ones, else a string with its space in front."""
    if "ByteLevel" in str(tokenizer.get("pre_tokenizer")) or "ByteLevel" in str(tokenizer.get("decoder")):
        byte_of = {character: byte for byte, character in enumerate(byte_alphabet())}
        return bytes(byte_of[c] for c in name) if all(c in byte_of for c in name) else name
    if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
        return bytes([int(name[3:5], 16)])
    prefix = (tokenizer.get("model") or {}).get("continuing_subword_prefix")
    if prefix:  # as WordPiece marks what goes on in a word
        return name
    return name.replace("\u2581", " ")


def _continued(text: str | bytes) -> int:
    """How many characters begin in a token: the bytes that do not go on with one, or what a string has."""
    if isinstance(text, bytes):
        return sum(byte & 0xC0 != 0x80 for byte in text)
    return len(text) - 2 if text.startswith("##") and len(text) > 2 else len(text)


def byte_alphabet() -> list[str]:
    """The character that byte-level vocabularies write for each byte: itself if it prints, else one from 256 on."""
    prints = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in prints else chr(next(others)) for byte in range(256)]


def _pieces(text: str, size: int) -> Iterator[str]:
    start = 0
    while start < len(text):
        stop = text.find(BREAK, start + size) + 1 or len(text)
        yield text[start:stop]
        start = stop


def _beginning(pieces: Iterable[str], most: int) -> Iterator[str]:
    for piece in pieces:
        yield from _pieces(piece[:most], 100_000)
        most -= len(piece)
        if most <= 0:
            return


TOKENISATIONS: dict[str, type[Tokenisation]] = {kind.kind: kind for kind in (Characters, Bytes, Words, BytePairs, Imported)}
