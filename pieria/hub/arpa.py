r"""N-grams as a text file of probabilities and back-offs: the ARPA format, which KenLM, SRILM and speech decoders read.

    \data\
    ngram 1=3
    ngram 2=2

    \1-grams:
    -0.602  <s>  -0.301        log10 p, the words, log10 of the back-off (none in the highest order)
    …
    \end\

The n-grams of a history of their own are its followers; all else is that history's back-off times what a history without
its oldest word says. ``<s>`` begins, ``</s>`` ends; a file in which ``</s>`` has no probability is of one endless stream.

Fields are set apart by white space, so symbols that are white space go by names: ``<space>``, ``<newline>``.
"""

import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pieria.data.storage import write_atomically
from pieria.errors import DataError
from pieria.layers.backoff import NEVER, Stated

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
NAMES = {" ": "<space>", "\n": "<newline>", "\t": "<tab>", "\r": "<return>", "\0": "<nul>"}
LEAST = math.log10(NEVER)
GZIPPED = b"\x1f\x8b"

Array = np.ndarray


@dataclass
class Arpa:
    """An ARPA file: its words and the law of each order.

    ``words`` are without ``<s>``, ``</s>`` the last of them if it can come, and before it ``<unk>``, if there is one.
    """

    words: list[str]
    orders: list[Stated]

    @property
    def ends(self) -> bool:
        """Whether items end, by ``</s>``; if not, the law is of one stream."""
        return self.words[-1] == END


# ---- writing ---------------------------------------------------------------------------------------------------------


def write(arpa: Arpa, path: Path) -> None:
    """Write ``arpa`` to ``path``, whole or not at all; gzipped if its name ends with ``.gz``."""
    content = "".join(_lines(arpa)).encode()
    write_atomically(path, gzip.compress(content, 6, mtime=0) if path.suffix == ".gz" else content)


def _lines(arpa: Arpa) -> Iterator[str]:
    extra = not arpa.ends  # readers want both marks, so a stream's file says that its end never comes
    width = len(arpa.words) + 1
    yield "\\data\\\n"
    for length, order in enumerate(arpa.orders, start=1):
        yield f"ngram {length}={len(order.keys) + (extra and length == 1)}\n"
    symbols = [*arpa.words, BEGIN]
    texts = [""]
    for length, order in enumerate(arpa.orders, start=1):
        yield f"\n\\{length}-grams:\n"
        histories, last = np.divmod(order.keys, width)
        pairs = zip(histories.tolist(), last.tolist(), strict=True)
        if length == 1:
            texts = [symbols[place] for place in last.tolist()]
            if extra:
                yield f"{LEAST:g}\t{END}\n"
        else:
            texts = [f"{texts[history]} {symbols[place]}" for history, place in pairs]
        figures = zip(order.log10.tolist(), texts, order.backoff.tolist(), strict=True)
        if length < len(arpa.orders):
            yield from (f"{log:.7g}\t{text}\t{left:.7g}\n" for log, text, left in figures)
        else:
            yield from (f"{log:.7g}\t{text}\n" for log, text, _ in figures)
    yield "\n\\end\\\n"


# ---- reading ---------------------------------------------------------------------------------------------------------


def read(path: Path) -> Arpa:
    """The law in an ARPA file, gzipped or not.

    Raises `DataError` that names the line: a section that is missing or in another order, counts that are not met, a
    number that is not finite or above 0, an unknown or misplaced word, an n-gram listed twice or without its history.
    """
    reader = _Reader(path)
    counts = reader.counts()
    return _law(reader, [reader.section(length, count, length == len(counts)) for length, count in enumerate(counts, 1)])


@dataclass
class _Section:
    """The n-grams of one order as they are listed: words ``[n-gram, length]`` as places in order 1, and their lines."""

    words: Array
    log10: Array
    backoff: Array
    lines: Array


class _Reader:
    """The lines of an ARPA file, one after the other, and the errors that name them."""

    def __init__(self, path: Path) -> None:
        self.path, self.number = path, 0
        self.words: dict[str, int] = {}
        try:
            raw = path.read_bytes()
            raw = gzip.decompress(raw) if raw.startswith(GZIPPED) else raw
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} cannot be read ({error})", "an ARPA file, plain or gzipped", "Check the path") from None
        self._lines = raw.split(b"\n")

    def fail(self, got: str, wanted: str, line: int | None = None) -> DataError:
        """The error for a line, the one read last if none is named."""
        return DataError(
            f"{self.path}, line {self.number if line is None else line:,}: {got}",
            wanted,
            "Correct the file, or write it again",
        )

    def next(self, wanted: str) -> str:
        """The next line that is not blank; the file must not end before it."""
        while self.number < len(self._lines):
            raw = self._lines[self.number].strip(b" \t\r")
            self.number += 1
            if raw:
                try:
                    return raw.decode()
                except UnicodeDecodeError as error:
                    raise self.fail(f"bytes that are not UTF-8 ({error.reason})", "text in UTF-8") from None
        raise self.fail("the file ends", wanted)

    def counts(self) -> list[int]:
        """How many n-grams of each order the head announces; the first section's title is read, too."""
        if (line := self.next("\\data\\")) != "\\data\\":
            raise self.fail(f"{line[:60]!r}", "\\data\\, with which an ARPA file begins")
        counts: list[int] = []
        while (line := self.next("\\1-grams:")) != "\\1-grams:":
            left, equals, right = line.partition("=")
            words = left.split()
            if not equals or words[:1] != ["ngram"] or words[1:] != [str(len(counts) + 1)] or not right.strip().isdigit():
                raise self.fail(f"{line[:60]!r}", f"'ngram {len(counts) + 1}=' and a count, or \\1-grams:")
            counts.append(int(right))
        if not counts or not counts[0]:
            raise self.fail("no count of n-grams of order 1 stands above", "lines such as 'ngram 1=10000' below \\data\\")
        return counts

    def section(self, length: int, count: int, highest: bool) -> _Section:
        """The n-grams of one order; the title of the next section, or the end mark, is read, too."""
        after = "\\end\\" if highest else f"\\{length + 1}-grams:"
        words, log10, backoff = np.empty((count, length), np.int64), np.empty(count), np.zeros(count)
        lines = np.empty(count, np.int64)
        for place in range(count):
            wanted = f"{count:,} n-grams of order {length}, as announced, and not {place:,}"
            line = self.next(wanted)
            fields = line.split()
            if line.startswith("\\") and len(fields) == 1:
                raise self.fail(f"{line[:60]!r}", wanted)
            if len(fields) - length not in ((1,) if highest else (1, 2)):
                shape = f"log10 p, {length} word(s)" + ("" if highest else " and perhaps a log10 back-off")
                raise self.fail(f"{len(fields)} fields", shape)
            log10[place] = self._number(fields[0], "log10 p", most=0.0)
            if len(fields) == length + 2:
                backoff[place] = self._number(fields[-1], "log10 of a back-off")
            words[place] = self._places(fields[1 : length + 1], length)
            lines[place] = self.number
        if (line := self.next(after)) != after:
            raise self.fail(f"{line[:60]!r}", f"{after} after the {count:,} n-grams that are announced")
        return _Section(words, log10, backoff, lines)

    def _number(self, text: str, what: str, most: float = math.inf) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or number > most:
            raise self.fail(f"{text[:40]!r} as {what}", "a finite number" + ("" if most else ", 0 or below"))
        return number

    def _places(self, words: Sequence[str], length: int) -> list[int]:
        if length == 1:
            word = UNKNOWN if words[0] == "<UNK>" else words[0]
            if self.words.setdefault(word, len(self.words)) != len(self.words) - 1:
                raise self.fail(f"{word!r} a second time", "each n-gram once")
            return [len(self.words) - 1]
        known = self.words
        try:
            places = [known[word] for word in words]
        except KeyError:
            word = next(word for word in words if word not in known)
            if word != "<UNK>":
                raise self.fail(f"the word {word!r}, which is not among the n-grams of order 1", "a word of these") from None
            places = self._places([UNKNOWN if word == "<UNK>" else word for word in words], length)
        if BEGIN in words[1:] or END in words[:-1]:
            raise self.fail(f"{' '.join(words)!r}", f"{BEGIN} in the first place only, {END} in the last one only")
        return places


def _law(reader: _Reader, sections: list[_Section]) -> Arpa:
    """The sections with words numbered as a model numbers them, and what was pruned away put back."""
    names = list(reader.words)
    singles = sections[0]
    end = reader.words.get(END)
    ends = end is not None and singles.log10[end] > LEAST
    words = [name for name in names if name not in (BEGIN, END, UNKNOWN)]
    if not words:
        raise reader.fail("no word but the marks", "at least one word")
    ordered = [*words, *([UNKNOWN] if UNKNOWN in reader.words else []), *([END] if ends else []), BEGIN]
    width = len(ordered)
    symbol_of = np.full(len(names), -1, np.int64)
    for symbol, name in enumerate(ordered):
        if name in reader.words:
            symbol_of[reader.words[name]] = symbol
    log10, backoff = np.full(width, LEAST), np.zeros(width)
    listed = symbol_of >= 0
    log10[symbol_of[listed]], backoff[symbol_of[listed]] = singles.log10[listed], singles.backoff[listed]
    log10[-1] = LEAST
    orders = [Stated(np.arange(width), np.zeros(width, np.int32), log10, backoff)]
    grams = [symbol_of[section.words] for section in sections]
    for section, gram in zip(sections[1:], grams[1:], strict=True):
        if (gram < 0).any():
            line = int(section.lines[np.argmax((gram < 0).any(axis=1))])
            raise reader.fail(f"an n-gram with {END}, whose own probability is 0", "no such n-gram", line)
    for length in range(len(sections), 2, -1):  # a pruned file may list an n-gram and not its ending
        lost = _missing(grams[length - 1][:, 1:], grams[length - 2], width)
        section = sections[length - 2]
        grams[length - 2] = np.concatenate([grams[length - 2], lost])
        section.log10 = np.concatenate([section.log10, np.full(len(lost), np.nan)])
        section.backoff = np.concatenate([section.backoff, np.zeros(len(lost))])
        section.lines = np.concatenate([section.lines, np.full(len(lost), -1)])
    for section, gram in zip(sections[1:], grams[1:], strict=True):
        orders.append(_order(reader, section, gram, orders, width))
    return Arpa(ordered[:-1], orders)


def _order(reader: _Reader, section: _Section, grams: Array, below: list[Stated], width: int) -> Stated:
    """One order, sorted by key, its histories and endings found among the orders below."""
    history, suffix = _find(grams[:, :-1], below, width), _find(grams[:, 1:], below, width)
    if (history < 0).any():
        place = int(np.argmax(history < 0))
        raise reader.fail(
            "an n-gram whose history (all but its last word) is not listed", "every history", int(section.lines[place])
        )
    keys = history * width + grams[:, -1]
    order = np.argsort(keys, kind="stable")
    twice = np.flatnonzero(np.diff(keys[order]) == 0)
    if len(twice):
        raise reader.fail("an n-gram a second time", "each n-gram once", int(section.lines[order[twice[0] + 1]]))
    # what was put back is as probable as backing off says
    fallen = below[-1].backoff[history] + below[-1].log10[suffix]
    log10 = np.where(np.isnan(section.log10), fallen, section.log10)
    return Stated(keys[order], suffix[order].astype(np.int32), log10[order], section.backoff[order])


def _find(grams: Array, orders: list[Stated], width: int) -> Array:
    """The place of each n-gram ``[n-gram, length]`` in its order, or -1."""
    places = grams[:, 0]
    for length in range(1, grams.shape[1]):
        keys = orders[length].keys
        if not len(keys):
            return np.full(len(grams), -1)
        wanted = np.where(places >= 0, places * width + grams[:, length], -1)
        near = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        places = np.where(keys[near] == wanted, near, -1)
    return places


def _missing(some: Array, others: Array, width: int) -> Array:
    """The different rows of ``some`` that are not rows of ``others``."""
    both = np.concatenate([others, some])
    ids = both[:, 0]
    for column in both.T[1:]:  # of equal rows, and of those only, the same number
        ids = np.unique(ids * width + column, return_inverse=True)[1]
    listed = np.zeros(int(ids.max(initial=-1)) + 1, bool)
    listed[ids[: len(others)]] = True
    rest = ids[len(others) :]
    _, first = np.unique(np.where(listed[rest], -1, rest), return_index=True)
    return some[first[~listed[rest[first]]]]
