"""What was measured: figures that carry their unit, direction, split, count, seed, baseline and floor wherever they go.

A figure's ``kind`` says in what sense it is true. Likelihoods that mean different things never share a name, hence never a
column: only an exact one is called "nats per item"; a bound is called "nats per item (bound)".
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from textwrap import wrap
from typing import Any, Literal

from pieria.errors import PieriaError

Kind = Literal["exact", "bound", "estimate", "pseudo", "measure"]
WIDTH = 100
LIKELIHOODS = frozenset({"exact", "bound", "estimate", "pseudo"})


@dataclass(frozen=True)
class Figure:
    """One number and all that is needed to read it.

    Attributes:
        name: what was measured; figures of different meaning have different names.
        value: the number, or None where it could not be taken (``note`` then says why).
        unit: what it is counted in.
        kind: "measure", or what the likelihood is: "exact", "bound", "estimate", "pseudo".
        better: whether "lower" or "higher" is better, other things being equal.
        split, count, seed: the part of the data, how many items or symbols, and the seed of the draw.
        baseline: the same figure for the cheap baseline of the form; ``note`` names the baseline.
        floor: the same figure for real data in the place of the samples: what a perfect model would show.
        low, high: the 95 % interval.
        note: the rule by which it was taken, in words.
    """

    name: str
    value: float | None
    unit: str = ""
    kind: Kind = "measure"
    better: Literal["lower", "higher"] = "lower"
    split: str = ""
    count: int | None = None
    seed: int | None = None
    baseline: float | None = None
    floor: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""


def likelihood_name(name: str, kind: str) -> str:
    """``name`` with its sense, unless exact: "nats per item (bound)"."""
    return name if kind == "exact" else f"{name} ({kind})"


@dataclass
class Scorecard:
    """All figures of one model on one split.

    Attributes:
        figures: in the order in which they are read; likeness and novelty first.
        words: what the figures say, in sentences; each stands without the others.
        neural: the model learned by gradient, so that its likelihoods are shown beside the baseline's or not at all.
        about: what was evaluated: family, data, split, baseline.
    """

    figures: list[Figure] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    neural: bool = False
    about: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Figure:
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise KeyError(name)

    def __contains__(self, name: str) -> bool:
        return any(figure.name == name for figure in self.figures)

    def get(self, name: str) -> Figure | None:
        """The figure of this name, or None."""
        return next((figure for figure in self.figures if figure.name == name), None)

    def to_json(self) -> list[dict[str, Any]]:
        """The figures as plain dictionaries, in order: the stable format that other programs read.

        JSON has no word for what is not finite: such a value is None, and the note says what it was.
        """
        self._refuse_bare_likelihoods()
        return [_finite(asdict(figure)) for figure in self.figures]

    @classmethod
    def from_json(cls, figures: Iterable[dict[str, Any]], **others: Any) -> "Scorecard":
        """A scorecard from what `to_json` wrote, or from a run's ``scorecard.json``, whose figures name their run."""
        return cls([Figure(**{k: v for k, v in figure.items() if k != "run"}) for figure in figures], **others)

    def table(self, notes: bool = True) -> str:
        """All figures as aligned text, one a line, then the words, then the notes, in a hundred columns.

        Raises `PieriaError` for a neural likelihood without its baseline.
        """
        self._refuse_bare_likelihoods()
        head = ("figure", "value", "95 % interval", "baseline", "real data", "unit", "better", "n")
        rows = [head]
        marks: list[str] = []
        networks: dict[str, list[str]] = {}
        for figure in self.figures:
            # what stands in brackets behind a name or a unit is told below, where there is room for it
            name, _, features = figure.name.partition(" (features ")
            if features:
                networks.setdefault(features.rstrip(")"), []).append(name)
            if notes and figure.note:
                if figure.note not in marks:
                    marks.append(figure.note)
                name = f"{name} [{marks.index(figure.note) + 1}]"
            interval = "" if figure.low is None else f"{plain(figure.low)} … {plain(figure.high)}"
            rows.append(
                (
                    name,
                    plain(figure.value),
                    interval,
                    "" if figure.baseline is None else plain(figure.baseline),
                    "" if figure.floor is None else plain(figure.floor),
                    figure.unit.partition(" (")[0],
                    figure.better,
                    "" if figure.count is None else f"{figure.count:,}",
                )
            )
        widths = [max(len(row[place]) for row in rows) for place in range(len(head))]
        numbers = {1, 3, 4, 7}
        lines = [
            "  ".join(
                cell.rjust(width) if place in numbers else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        lines.insert(1, "-" * max(map(len, lines)))
        splits = sorted({figure.split for figure in self.figures if figure.split})
        if splits:
            lines += ["", f"Held against: {', '.join(splits)}. Real data: what real items reach in the samples' place."]
        for network, names in networks.items():
            lines += wrap(f"In the features of {network}, and of no other network: {', '.join(names)}.", WIDTH)
        for sentence in self.words:
            lines += ["", *wrap(sentence, WIDTH)]
        if notes and marks:
            lines.append("")
            for place, note in enumerate(marks, 1):
                lines += wrap(f"[{place}] {note}", WIDTH, subsequent_indent=" " * (len(str(place)) + 3))
        return "\n".join(lines)

    def _refuse_bare_likelihoods(self) -> None:
        if not self.neural:
            return
        for figure in self.figures:
            if figure.kind in LIKELIHOODS and figure.value is not None and figure.baseline is None:
                raise PieriaError(
                    f"the likelihood {figure.name!r} of a neural model has no baseline beside it",
                    "the same figure for the cheap baseline of its form",
                    "Evaluate with the training part at hand, so that the baseline can be fitted",
                )


def _finite(figure: dict[str, Any]) -> dict[str, Any]:
    odd = {key for key, value in figure.items() if isinstance(value, float) and not math.isfinite(value)}
    if not odd:
        return figure
    said = "; ".join([figure["note"], f"the value is {figure['value']}"] if "value" in odd else [figure["note"]])
    return {key: None if key in odd else value for key, value in figure.items()} | {"note": said.removeprefix("; ")}


def plain(value: float | None) -> str:
    """A number as a person reads it: four significant digits, thousands with commas.

    >>> plain(0.012341), plain(12345.6), plain(3.0), plain(None), plain(-math.inf)
    ('0.01234', '12,346', '3', '–', '-∞')
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 1e-4:
        return f"{value:.2e}"
    return f"{value:.4g}"
