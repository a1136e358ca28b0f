"""Texts longer than the context: section by section, each under a heading that stays in sight.

A model of a stream forgets what leaves its window, the heading first, and then wanders off or runs in circles. So a section
is drawn in pieces of half a window. Before each piece the model reads the end of all that was written, as far as the other
half holds it; where the heading has slipped out of that, it is put in front again.

Two guards look at the whole text, beyond the window: repeated runs cost more with every symbol (`sampling.rules.NoRepeat`),
and a section ends where a run has come back that is ``COPIED`` times as long as what may.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pieria.errors import UsageError
from pieria.forms import Tokens
from pieria.noise import ItemNoise, key_of
from pieria.sampling.decoding import Decoding, PredictsTokens, Stop, drawn, tokens_of
from pieria.sampling.rules import Following, NoRepeat, Repeats

COPIED = 3
REPEATABLE = 24  # the longest run that may come back for nothing, where the options do not say


@dataclass(frozen=True)
class Section:
    """One section of a text: long ``[time]`` symbols, and whether a repeated run ended it."""

    heading: Tensor
    body: Tensor
    looped: bool


def sections(
    model: PredictsTokens,
    headings: Sequence[Tensor],
    options: Decoding,
    seed: int,
    *,
    item: int = 0,
    stop: Stop | None = None,
    condition: Tensor | None = None,
) -> list[Section]:
    """Write under each heading in turn, up to ``options.length`` new symbols each (two windows if not given).

    Args:
        model: what predicts the next symbol.
        headings: the symbols of each, long ``[time]``, with the line breaks around it.
        options: how symbols are chosen; ``no_repeat`` looks at the whole text.
        seed: with ``item``, what every draw follows from.
        item: which of several texts this is.
        stop: given the new symbols of a section so far, long ``[1, made]``, says where it ends.
        condition: of the whole text, ``[1, …]``.

    Of a form with an end, each section is an item of its own that begins with its heading.

    Raises `UsageError` for no headings, or for one that fills the window.
    """
    form = tokens_of(model)
    if not headings:
        raise UsageError("an outline without a heading", "a line or more, each a heading")
    whole = torch.empty(0, dtype=torch.int64)
    found: list[Section] = []
    for number, heading in enumerate(headings):
        part = _Part(model, form, options, heading, whole, stop, condition)
        body, looped = part.write(seed, number, item)
        found.append(Section(heading, body, looped))
        whole = torch.cat([whole, heading, body])
    return found


class _Part:
    """One section while it is written."""

    def __init__(
        self,
        model: PredictsTokens,
        form: Tokens,
        options: Decoding,
        heading: Tensor,
        before: Tensor,
        stop: Stop | None,
        condition: Tensor | None,
    ) -> None:
        self.model, self.form, self.heading, self.before, self.stop = model, form, heading, before, stop
        self.condition, self.body = condition, torch.empty(0, dtype=torch.int64)
        self.guard = NoRepeat(options.no_repeat or REPEATABLE, options.repeat_cost)
        self.options = options.changed(no_repeat=None)
        self.items = form.end is not None
        # a model that sees only a few symbols back has no heading to keep in sight
        self.pinned = not self.items and len(heading) * 4 <= model.reach
        self.most = options.length or (form.length - len(heading) if self.items else 2 * form.length)
        if self.items and len(heading) >= form.length:
            raise UsageError(
                f"a heading of {len(heading)} symbols", f"less than the {form.length} of an item", "Shorten the heading"
            )

    def write(self, seed: int, number: int, item: int) -> tuple[Tensor, bool]:
        piece = 0
        while len(self.body) < self.most:
            room = self.most - len(self.body)
            size = min(room, max(1, self.model.reach // 2)) if self.pinned else room
            guard = _Watched(self.guard, torch.cat([self.before, self.heading, self.body]))
            made = drawn(
                self.model,
                1,
                self.options.changed(length=size),
                ItemNoise(seed if number == piece == 0 else key_of("outline", seed, number, piece), 1, first=item),
                prompt=self._read(size),
                condition=self.condition,
                stop=self._over if self.stop is not None else None,
                rules=[guard],
            )
            new = made.symbols[0, : int(made.lengths[0])].cpu()
            if self.form.end is not None:
                new = new[new != self.form.end]
            self.body = torch.cat([self.body, new])
            if guard.looped:
                return self.body[: len(self.body) - guard.most], True
            if len(new) < size or (self.stop is not None and bool(self.stop(self.body[None])[0])):
                break
            piece += 1
        return self.body, False

    def _over(self, made: Tensor) -> Tensor:
        assert self.stop is not None
        return self.stop(torch.cat([self.body.to(made.device)[None], made], dim=1))

    def _read(self, size: int) -> Tensor:
        """What the model reads before the next piece: the end of the text, with the heading in it."""
        if self.items:
            return torch.cat([self.heading, self.body])
        room = max(1, self.model.reach - (size if self.pinned else 0))
        if not self.pinned or len(self.heading) + len(self.body) <= room:
            return torch.cat([self.before, self.heading, self.body])[-room:]
        return torch.cat([self.heading, self.body[-(room - len(self.heading)) :]])


class _Watched:
    """`NoRepeat` over all that was written so far, and an end where a run comes back that is too long all the same."""

    def __init__(self, guard: NoRepeat, written: Tensor) -> None:
        self.guard, self.written, self.most = guard, written, COPIED * guard.longest
        self.looped = False

    def start(self, given: Tensor) -> Following:
        """The prompt is the end of what was written, or a part of it, so it is not counted again."""
        self.following = Repeats(self.guard.longest, self.guard.cost, self.written[None].to(given.device))
        return self

    @property
    def done(self) -> Tensor:
        """Where a run has come back that is ``most`` long."""
        return torch.tensor([self.looped], device=self.following.symbols.device)

    def change(self, logits: Tensor) -> Tensor:
        """As `NoRepeat` does."""
        return self.following.change(logits)

    def read(self, symbols: Tensor) -> None:
        """Hear what was drawn, and look how long it has been said before."""
        self.following.read(symbols)
        self.looped = self.looped or int(self.following.repeated()[0]) >= self.most

    def reorder(self, rows: Tensor) -> None:
        """Go on with other rows."""
        self.following.reorder(rows)


def longest_repeated_run(symbols: Tensor) -> int:
    """How many symbols the longest run has that stands twice in a text, long ``[time]``; the two may overlap."""
    follow = Repeats(1, 1.0, symbols[None, :0])
    most = 0
    for symbol in symbols:
        follow.read(symbol[None])
        most = max(most, int(follow.repeated()[0]))
    return most


def distinct(symbols: Tensor, n: int) -> float:
    """The share of different ones among a text's runs of ``n`` symbols (Li et al. 2016, arXiv 1510.03055)."""
    runs = [tuple(run) for run in symbols.unfold(0, n, 1).tolist()] if len(symbols) >= n else []
    return len(set(runs)) / len(runs) if runs else 1.0
