"""What every way of turning text into symbols can do.

A `Tokenisation` is not told where items end: that symbol is added by the modality, after the last of these. One that came
with an imported model has it already.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self

import numpy as np

Kind = Literal["char", "byte", "word", "bpe", "imported"]
BREAK = "\n"  # what sets the lines of a text apart


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
