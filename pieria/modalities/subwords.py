"""Pieces of words as symbols, found and written by the library ``tokenizers``: byte pairs, and what imported models have."""

from collections.abc import Iterable, Iterator
from typing import Any, Self

import numpy as np

from pieria.modalities.tokenisation import BREAK, Tokenisation

PAIRS_LEARN_FROM = 100_000_000  # characters: merges hardly change beyond, and counting pairs takes memory


class BytePairs(Tokenisation):
    """Byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019): knows every text, exact round trip."""

    kind = "bpe"

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        byte_of = {character: byte for byte, character in enumerate(byte_alphabet())}
        names = [tokenizer.id_to_token(symbol) for symbol in range(tokenizer.get_vocab_size())]
        self._bytes = [bytes(byte_of[character] for character in name) for name in names]
        self._lengths = np.array([_begun(raw) for raw in self._bytes], dtype=np.int64)

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
        lengths = [0 if symbol in self._special else _begun(text) for symbol, text in enumerate(self._strings)]
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


def _begun(text: str | bytes) -> int:
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
