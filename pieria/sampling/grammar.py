"""Texts of a wished shape: a regular expression says which symbols may come next.

The library ``llguidance`` follows the expression byte by byte and tells, for a whole vocabulary at once, which symbols can
still lead to a match. The expression is met by the new symbols alone, as they are spelled; a prompt is not part of it.

So that no item can get stuck, the expression is first cut down to the texts that the vocabulary can write. If none is left,
nothing can be drawn, and it is refused.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pieria.errors import UsageError
from pieria.forms import Tokens
from pieria.sampling.rules import Following

PROOF = 30_000_000  # steps of proving that something can be matched: about half a second
SYNTAX = "Rust's syntax (like Python's, without look-around, word boundaries and back references)"


class Regex:
    """The new symbols of an item, spelled, match ``pattern`` as a whole.

    Args:
        pattern: the regular expression.
        spelled: the bytes of every symbol of the form but its end; empty ones are never drawn.
        form: the form of the items. An item ends where the expression is met, as the model chooses if it could go on; a
            stream, which has no end, goes on until nothing may follow, or its length is reached.
        between: what stands between two symbols when they are decoded (a space, where symbols are words).
        length: the most symbols that will be drawn, if that is less than the form's.

    Raises `UsageError` for an expression that is none, or that no output of this vocabulary and length can meet.
    """

    def __init__(
        self, pattern: str, spelled: Sequence[bytes], form: Tokens, *, between: str = "", length: int | None = None
    ) -> None:
        try:
            from llguidance import LLTokenizer, TokenizerWrapper
        except ImportError:
            raise UsageError(
                "a regular expression, without the library that follows it", "llguidance", "pip install 'pieria[text]'"
            ) from None
        self.pattern, self.vocabulary, self.end = pattern, form.vocabulary, form.end
        pieces = [piece + between.encode() if piece else piece for piece in spelled]
        if between:  # a line break stands without a space around it, so an expression of words is of one line
            pieces = [b"" if piece == b"\n" + between.encode() else piece for piece in pieces]
        if form.end is not None and len(pieces) < form.vocabulary:
            pieces.insert(form.end, b"")
        taken = [piece or b"\xff<%d>" % symbol for symbol, piece in enumerate(pieces)]  # the library's mark of no text
        over = form.vocabulary if form.end is None else form.end  # what the library is told when an item ends
        wrapped = TokenizerWrapper(_Symbols([*taken, b"\xff<end>"] if form.end is None else taken, over))
        tokenizer = LLTokenizer(wrapped, n_vocab=len(wrapped.tokens))
        most = (length or form.length) - (form.end is not None)
        self.rough = False
        self._matcher = lambda most, rough: self._made(tokenizer, _lark(pattern, pieces, between, most, rough))
        self.most = most
        self.first = self._matcher(most, False)
        if self.first is None:
            if self._matcher(None, self.rough) is None:
                raise UsageError(
                    f"no text that this run can write matches the regular expression {pattern!r}",
                    f"one that can be spelled with its {sum(map(bool, pieces)):,} symbols, such as {_some(pieces)}",
                    "Look for characters, or capital letters, that it never learned",
                )
            raise UsageError(
                f"no text of {most} symbols matches the regular expression {pattern!r}",
                "a match within the symbols that are drawn",
                "Give a larger length, or shorten the expression",
            )

    def _made(self, tokenizer: Any, grammar: str) -> Any:
        """A matcher before the first symbol; None if nothing can be matched."""
        from llguidance import LLMatcher
        from llguidance._lib import LLParserLimits

        limits = LLParserLimits(initial_lexer_fuel=PROOF)
        matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_lark(grammar), log_level=0, limits=limits)
        if too_complex(matcher) and "invalid regex" not in matcher.get_error():
            return self.roughly()
        if matcher.is_error():
            said = matcher.get_error()
            cause = next((line.split("error: ", 1)[1] for line in said.splitlines() if "error: " in line), "")
            raise UsageError(
                f"the regular expression {self.pattern!r} cannot be read{': ' if cause else ''}{cause}", SYNTAX, "Correct it"
            )
        matcher.compute_bitmask()
        if too_complex(matcher):
            return self.roughly()
        return None if matcher.is_error() else matcher

    def roughly(self) -> Any:
        """The first matcher of an expression that is too complex beside a large vocabulary of words.

        It looks at the characters of the vocabulary alone, which is a thousand times as fast; each symbol is still one of
        the vocabulary, but an expression that asks for another word later on is noticed only when it gets there.
        """
        if self.rough:
            raise UsageError(f"the regular expression {self.pattern!r} is too complex", "a simpler one", "Shorten it")
        self.rough = True
        self.first = self._matcher(self.most, True)
        return self.first

    def start(self, given: Tensor) -> Following:
        """One matcher an item."""
        return _Matching(self, len(given), given.device)

    def met(self, symbols: Sequence[int]) -> bool:
        """Whether these new symbols (up to their end, without it) meet the expression as a whole."""
        matcher = self.first.deep_copy()
        return matcher.consume_tokens([int(s) for s in symbols]) and matcher.is_accepting()


class _Matching:
    def __init__(self, regex: Regex, n: int, device: torch.device) -> None:
        self.regex, self.device = regex, device
        self.matchers = [regex.first.deep_copy() for _ in range(n)]
        self.drawn: list[list[int]] = [[] for _ in range(n)]
        self.ended = torch.zeros(n, dtype=torch.bool, device=device)

    @property
    def done(self) -> Tensor:
        return self.ended

    def change(self, logits: Tensor) -> Tensor:
        rows = [matcher.compute_bitmask() for matcher in self.matchers]
        if any(map(too_complex, self.matchers)):
            first = self.regex.first if self.regex.rough else self.regex.roughly()
            self.matchers = [first.deep_copy() for _ in self.drawn]
            for matcher, symbols in zip(self.matchers, self.drawn, strict=True):
                matcher.consume_tokens(symbols)
            rows = [matcher.compute_bitmask() for matcher in self.matchers]
        bits = np.unpackbits(np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1), axis=1, bitorder="little")
        allowed = torch.from_numpy(bits[:, : self.regex.vocabulary].astype(bool)).to(self.device)
        allowed |= self.ended[:, None]  # what comes after the end counts no more, and something has to be drawn
        if any(matcher.is_error() and not over for matcher, over in zip(self.matchers, self.ended.tolist(), strict=True)):
            raise UsageError(
                f"the regular expression {self.regex.pattern!r} led to where no symbol of this run may follow",
                "an expression that its symbols can spell to the end",
                "Spell out what may follow",
            )
        return logits.masked_fill(~allowed, -torch.inf)

    def read(self, symbols: Tensor) -> None:
        ended = self.ended.tolist()
        for row, symbol in enumerate(symbols.tolist()):
            if not ended[row] and symbol != self.regex.end:
                self.drawn[row].append(symbol)
                read = self.matchers[row].consume_token(symbol)
                # an item ends by its end, which is all that a finished matcher leaves; a stream has none. What was forbidden
                # is only ever read in the rows of a search that found no more
                ended[row] = not read or (self.regex.end is None and self.matchers[row].is_stopped())
            ended[row] = ended[row] or symbol == self.regex.end
        self.ended = torch.tensor(ended, dtype=torch.bool, device=self.device)

    def reorder(self, rows: Tensor) -> None:
        self.matchers = [self.matchers[row].deep_copy() for row in rows.tolist()]
        self.drawn = [list(self.drawn[row]) for row in rows.tolist()]
        self.ended = self.ended.index_select(0, rows)


class _Symbols:
    """A vocabulary as the library asks for it."""

    bos_token_id = None

    def __init__(self, tokens: list[bytes], end: int) -> None:
        self.tokens, self.eos_token_id, self.special_token_ids = tokens, end, [end]

    def __call__(self, text: str) -> list[int]:
        # only asked where text is forced as whole, which the grammar forbids: any spelling of a match may be drawn
        raise NotImplementedError(text)


def too_complex(matcher: Any) -> bool:
    """Whether it gave up for the library's limits on size."""
    said = matcher.get_error()  # its reason to stop is told in words alone: nothing can follow, or what came was forbidden
    return bool(said) and not said.startswith("NoExtension") and "doesn't satisfy" not in said


def _lark(pattern: str, pieces: Sequence[bytes], between: str, most: int | None, rough: bool) -> str:
    """The grammar: the expression (each symbol followed by what stands ``between``), and what the vocabulary can write."""
    from llguidance._lib import regex_to_lark

    wanted = f"(?:{pattern}){between}" if between else pattern
    both = [wanted, _writable(pieces, most, between if rough else None)]
    terms = " & ".join(f"/{regex_to_lark(term, '')}/" for term in both if term is not None)
    return f'%llguidance {{ "no_forcing": true }}\nstart: TEXT\nTEXT: {terms}\n'


def _writable(pieces: Sequence[bytes], most: int | None, rough: str | None = None) -> str | None:
    """An expression for every text that up to ``most`` of these pieces spell; None for all texts.

    Of byte pairs, which spell one text in many ways, for as many characters as the longest of them would give. ``rough`` is
    what stands behind every piece: with it any run of their characters is taken for one.
    """
    spelled = [piece for piece in pieces if piece]
    try:
        texts = {piece.decode() for piece in spelled}
    except UnicodeDecodeError:  # bytes of which characters are made: nearly every text can be spelled
        return None if most is None else f"(?s:.){{0,{most * max(map(len, spelled))}}}"
    times = "*" if most is None else f"{{0,{most}}}"
    if rough:
        characters = "".join(sorted({re.escape(character) for text in texts for character in text.removesuffix(rough)}))
        return f"(?:[{characters}]+{re.escape(rough)}){times}"
    single = "".join(sorted(re.escape(text) for text in texts if len(text) == 1))
    longer = [re.escape(text) for text in sorted(texts) if len(text) > 1]
    return f"(?:{'|'.join([*([f'[{single}]'] if single else []), *longer])}){times}"


def _some(pieces: Sequence[bytes]) -> str:
    return ", ".join(repr(piece.decode("utf-8", "backslashreplace").strip(" ") or " ") for piece in pieces[:8] if piece)
