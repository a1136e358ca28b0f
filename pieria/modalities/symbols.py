"""How text becomes symbols: characters, bytes or words here, byte pairs and imported ones in `subwords`.

What there is to learn is learned from the training part, and saved as JSON.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any, Self

import numpy as np

from pieria.errors import DataError
from pieria.modalities.subwords import BytePairs, Imported
from pieria.modalities.tokenisation import BREAK, Tokenisation

UNKNOWN_CHARACTER = "\N{REPLACEMENT CHARACTER}"
UNKNOWN_WORD = "<unk>"


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


TOKENISATIONS: dict[str, type[Tokenisation]] = {kind.kind: kind for kind in (Characters, Bytes, Words, BytePairs, Imported)}
