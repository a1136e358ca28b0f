"""What is said of an item in a few words, as symbols: one a word of the training part, in small letters."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

from pieria.errors import FormError, UsageError
from pieria.forms import Tokens

if TYPE_CHECKING:
    from torch import Tensor

WORD = re.compile(r"[^\W_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}][^\W_]+)*")  # letters and digits, with an apostrophe inside
ARTICLES = ("a", "an", "the")  # say nothing of a picture, so nobody minds them
LONGEST = 32  # words; what stands behind them is not read


def words_of(caption: str) -> list[str]:
    """The words of a caption in small letters, without marks.

    >>> words_of("Flag: Côte d'Ivoire")
    ['flag', 'côte', "d'ivoire"]
    """
    return WORD.findall(caption.lower())


class CaptionWords:
    """The words that stand in captions, the most frequent first; the symbol after the last one ends a caption."""

    def __init__(self, words: Sequence[str], length: int) -> None:
        self.words, self.length = list(words), length
        self._symbol_of = {word: symbol for symbol, word in enumerate(self.words)}

    @classmethod
    def learn(cls, captions: Iterable[str]) -> Self:
        """The words of the captions of a training part, and room for the longest of them."""
        counts: Counter[str] = Counter()
        longest = 0
        for caption in captions:
            said = words_of(caption)
            counts.update(said)
            longest = max(longest, len(said))
        if not counts:
            raise FormError("captions without any words", "words beside pictures", "Fit without --condition caption")
        return cls(sorted(counts, key=lambda word: (-counts[word], word)), min(longest, LONGEST) + 1)

    @property
    def form(self) -> Tokens:
        """``Tokens``: a caption is its words and the end."""
        return Tokens(len(self.words) + 1, self.length, end=len(self.words))

    def encode(self, captions: Sequence[str], *, strict: bool = False) -> "Tensor":
        """Long ``[caption, length]``. Words that training did not have are left out; `UsageError` for one if ``strict``."""
        import torch

        symbols = torch.full((len(captions), self.length), len(self.words))
        for place, caption in enumerate(captions):
            said = words_of(caption)
            if strict:
                self._known(said, caption)
            known = [self._symbol_of[word] for word in said if word in self._symbol_of][: self.length - 1]
            symbols[place, : len(known)] = torch.tensor(known, dtype=torch.int64)
        return symbols

    def _known(self, said: list[str], caption: str) -> None:
        strange = [word for word in said if word not in self._symbol_of and word not in ARTICLES]
        if not said:
            raise UsageError(f"{caption!r} as a prompt", "words of captions", f"Known are {', '.join(self.words[:8])} …")
        if strange:
            near = [repr(word) for word in difflib.get_close_matches(strange[0], self.words, n=3, cutoff=0.6)]
            raise UsageError(
                f"the word {strange[0]!r} stands in no caption that was learned from",
                f"Did you mean {' or '.join(near)}? Known are the words of captions"
                if near
                else f"words of captions, such as {', '.join(self.words[:8])}",
            )

    def decode(self, symbols: "Tensor") -> list[str]:
        """The words of each caption."""
        return [" ".join(self.words[s] for s in row if s < len(self.words)) for row in symbols.tolist()]

    def state(self) -> dict[str, Any]:
        """All that `restore` needs, as JSON."""
        return {"words": self.words, "length": self.length}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        """What ``state`` was taken from."""
        return cls(state["words"], state["length"])
