"""Several families on the same data, under the same budget and seed, judged alike: one table, one report.

A family that fails is a row that says why, and does not stop the rest. Figures of different meaning (exact likelihoods,
bounds, measures) stand in columns of their own and are never ranked together.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pieria import registry
from pieria.data.storage import write_atomically, write_json
from pieria.errors import PieriaError, UsageError
from pieria.explanation.page import Line, Page, chart, escape, paragraphs, picture, table, texts
from pieria.settings import Settings

FIRST = ("likeness", "novelty")
LIKELIHOODS = ("exact", "bound", "estimate", "pseudo")
BESIDE = ("baseline", "floor")
DISTANCES = ("C-FID (", "FID (")  # of pictures, with the network in brackets
COST = ("training time", "training energy", "sampling speed", "parameters")


@dataclass
class Entry:
    """One family's part in a comparison; ``error`` says why it failed, and then the rest is empty."""

    model: str
    run: Path | None = None
    figures: list[dict[str, Any]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    previews: list[Path] = field(default_factory=list)
    error: str = ""

    def figure(self, name: str, kind: str | None = None) -> dict[str, Any] | None:
        """The figure of this name (and kind), if the scorecard has it."""
        return next((f for f in self.figures if f["name"] == name and kind in (None, f["kind"])), None)


@dataclass
class Comparison:
    """What came out: entries in the order asked for, and where the report lies."""

    data: str
    budget: str
    seed: int
    entries: list[Entry]
    path: Path

    @property
    def report(self) -> Path:
        """The HTML page."""
        return self.path / "report.html"

    @property
    def title(self) -> str:
        """What was compared, under which budget."""
        return f"{self.data}: {_counted(self.entries)}, {self.budget} each, seed {self.seed}"

    def columns(self) -> list[tuple[str, str, str]]:
        """(name, kind, unit) of the columns: likeness and novelty, likelihoods by kind, other measures, cost."""
        seen = dict.fromkeys((f["name"], f["kind"], f["unit"]) for entry in self.entries for f in entry.figures)

        def place(column: tuple[str, str, str]) -> tuple[int, int]:
            name, kind, _ = column
            if name in FIRST:
                return (0, FIRST.index(name))
            if kind in LIKELIHOODS:
                return (1, LIKELIHOODS.index(kind))
            return (3, COST.index(name)) if name in COST else (2, not name.startswith(DISTANCES))

        return sorted(seen, key=place)

    def headline(self) -> list[tuple[str, str, str]]:
        """The columns that fit a terminal: what opens every scorecard, likelihoods, C-FID of pictures, and cost."""
        chosen = FIRST + COST
        return [c for c in self.columns() if c[0] in chosen or c[1] in LIKELIHOODS or c[0].startswith(DISTANCES)]

    def header(self) -> list[str]:
        """The headings of `rows`."""
        return ["figure", *(entry.model for entry in self.entries), "baseline", "real data"]

    def rows(self, columns: Sequence[tuple[str, str, str]] | None = None) -> list[list[str]]:
        """A row a figure and a column a family, so that it fits a terminal; beside them the baseline and real data."""
        found = []
        for name, kind, unit in self.headline() if columns is None else columns:
            figures = [entry.figure(name, kind) for entry in self.entries]
            cells = ["failed" if e.error else _value(f) for e, f in zip(self.entries, figures, strict=True)]
            beside = [next((f[which] for f in figures if f and f.get(which) is not None), None) for which in BESIDE]
            found.append([_titled(name, kind, unit), *cells, *("" if b is None else _number(b) for b in beside)])
        return found

    @property
    def verdict(self) -> list[str]:
        """Which family is best by what, which are worse than a cheap baseline, and which failed."""
        said = []
        for name, kind, unit in self.columns():
            if name != "likeness" and kind not in LIKELIHOODS and not name.startswith(DISTANCES):
                continue
            ranked = [
                (f["value"], f["better"], e.model)
                for e in self.entries
                if (f := e.figure(name, kind)) and f["value"] is not None
            ]
            if len(ranked) > 1:
                best = (min if ranked[0][1] == "lower" else max)(ranked)
                what = f"{name}, {kind}" if kind in LIKELIHOODS and kind not in name else name
                amount = f"{best[0]:.4g} {unit}".removesuffix(" energy").strip()
                said.append(f"Best by {what}: {best[2]} ({amount}).")
        beaten = [entry.model for entry in self.entries if any(map(_beaten, entry.figures))]
        if beaten:
            said.append(f"Worse than the baseline beside them: {', '.join(beaten)}.")
        return said + [f"{entry.model} failed: {entry.error}" for entry in self.entries if entry.error]

    @property
    def words(self) -> list[str]:
        """The result in sentences: the verdict, and then what is to be said of each family."""
        said = [f"{entry.model}: {sentence}" for entry in self.entries for sentence in entry.words]
        return list(dict.fromkeys(self.verdict + said))

    def to_json(self) -> dict[str, Any]:
        """What ``results.json`` holds."""
        return {
            "data": self.data,
            "budget": self.budget,
            "seed": self.seed,
            "report": str(self.report),
            "words": self.words,
            "models": [
                {
                    "model": e.model,
                    "run": None if e.run is None else str(e.run),
                    "error": e.error or None,
                    "figures": e.figures,
                    "words": e.words,
                }
                for e in self.entries
            ],
        }


def _beaten(figure: Mapping[str, Any]) -> bool:
    """Whether a baseline has a better likelihood; a bound that is worse does not say so."""
    known = figure["kind"] in LIKELIHOODS and figure["kind"] != "bound" and figure["value"] is not None
    return known and figure.get("baseline") is not None and bool(figure["value"] > figure["baseline"])


def _counted(entries: Sequence[Entry]) -> str:
    return "1 family" if len(entries) == 1 else f"{len(entries)} families"


def _value(figure: Mapping[str, Any] | None) -> str:
    return "–" if figure is None or figure["value"] is None else _number(figure["value"])


def _titled(name: str, kind: str, unit: str) -> str:
    """A figure's name, its unit where that says more, and whether a likelihood is exact: "training time, s"."""
    name = name.partition(" (features ")[0]  # in one comparison they are all of one network, which the words name
    plain = unit in ("", "share", "energy", "numbers") or unit.partition(" ")[0] in name
    title = name if plain else f"{name}, {unit.partition(' (')[0]}"
    return f"{title} (exact)" if kind == "exact" else title


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def compare(
    data: str | Path,
    models: Sequence[str] | None = None,
    *,
    time: float | str | None = None,
    steps: int | None = None,
    as_: str | None = None,
    column: str | None = None,
    form: str | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    device: str | None = None,
    settings: Mapping[str, Any] | None = None,
    features: str | None = None,
    dry_run: bool = False,
    quiet: bool = False,
) -> Comparison | None:
    """Fit each family to ``data`` for ``time`` (seconds, or words such as "60s") or ``steps``; judge all alike, and write
    ``report.html``.

    With no ``models`` named, all that fit the data take part. Each setting goes to the families that have it; one that
    none has is refused. ``features`` are those that pictures are judged in (see `Run.evaluate`). Returns None after a dry
    run. Raises `UsageError` for unknown names, for two budgets, and for data
    that no family fits.
    """
    from pieria.evaluation import extractors
    from pieria.modalities.finding import forms_of
    from pieria.run import fit
    from pieria.training.plan import seconds_of
    from pieria.training.workspace import next_path

    modality, _, forms = forms_of(str(data), as_, column)
    offered = {form} if form is not None else set(forms)
    named = (
        list(models)
        if models is not None
        else [name for name in registry.names() if _takes_part(registry.describe(name), offered)]
    )
    for name in named:
        registry.source_of(name)
    if not named:
        raise UsageError(
            f"no family learns from {modality}", f"forms: {', '.join(sorted(offered))}", "'pieria models' lists them"
        )
    if time is not None and steps is not None:
        raise UsageError(f"a budget of {time} and one of {steps} steps", "one of them", "Leave time or steps out")
    lasting = 60.0 if time is None and steps is None else None if time is None else seconds_of(time)
    budget = f"{lasting:g} s" if lasting is not None else f"{steps} steps"
    path = Path(out) if out is not None else next_path(f"compare-{Path(str(data)).stem}")
    if features is not None:
        if offered != {"grid"}:
            raise UsageError(f"features={features} for {modality}", "pictures", "Leave features out")
        extractors.find(features)  # weights that cannot be had are told before hours of training
    if dry_run:
        what = f"would fit {', '.join(named)} to {data} for {budget} each, and write {path / 'report.html'}"
        print(what, file=sys.stderr)
        return None
    shares = {name: _settings_of(name, settings or {}) for name in named}
    refused = set(settings or {}) - {key for share in shares.values() for key in share}
    if refused:
        raise UsageError(
            f"none of {', '.join(named)} has a setting called {sorted(refused)[0]!r}",
            "settings that one of them has",
            "'pieria explain FAMILY' lists them",
        )
    comparison = Comparison(str(data), budget, seed, [], path)
    for name in named:
        entry = Entry(model=name)
        comparison.entries.append(entry)
        try:
            run = fit(
                data,
                name,
                as_=as_,
                column=column,
                form=form,
                out=path / Path(name).stem,
                time=lasting,
                steps=steps,
                seed=seed,
                device=device,
                settings=shares[name],
                quiet=quiet,
            )
            assert run is not None
            entry.run = run.path
            card = run.evaluate("test", seed=seed, features=features)
            entry.figures, entry.words = card.to_json(), list(card.words)
            if run.record["state"] == "stopped":
                made = f"stopped after {run.record['result']['steps']:,} steps, before its budget was spent"
                entry.words.insert(0, f"{made}: its figures are not those of the same budget.")
            entry.log, entry.previews = run.log(), run.previews()
            run.explain(seed=seed)
        except PieriaError as error:
            entry.error = str(error)
        except Exception as error:  # one family's defect must not cost the others their hour
            entry.error = f"{type(error).__name__}: {error}"
    write_json(path / "results.json", json.loads(json.dumps(comparison.to_json(), default=str)))
    write_atomically(comparison.report, report(comparison))
    return comparison


def _takes_part(family: registry.Family, forms: set[str]) -> bool:
    # a family whose settings name other models (mix) cannot begin from data alone
    needs_parts = any(setting.default == "required" for setting in family.settings)
    return bool(set(family.forms) & forms) and not family.requires_condition and not needs_parts


def _settings_of(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The share of ``settings`` that this family (or the training loop) knows."""
    from pieria.training.plan import Plan

    owners: list[type[Settings]] = [registry.find(name).Settings, Plan]
    return {key: value for key, value in settings.items() if any(key in owner.model_fields for owner in owners)}


READING = (
    "Likeness is the distance of each model's samples to data that it has never seen. Beside it stands the distance of real "
    "training items to the same data: a model that reaches it cannot be told from real data by this measure.",
    "Novelty is the share of samples that lie as near to a training item as only the nearest 5 % of held-out items do. At 0 "
    "all samples are new; a good model has about the share of real data; a model with far more copies its training data.",
    "A likelihood says how probable the model finds the held-out data. Exact ones may be compared with each other, and "
    "bounds with bounds; a GAN has none. What is shown is its negative, in nats or bits: lower is better.",
    "Every likelihood stands beside the baseline's: a cheap model of the same form. A network that loses to it has learned "
    "little, however long it trained.",
    "C-FID of pictures (in Inception's features: FID) is the distance of samples to real pictures in what a frozen network "
    "sees of them. It asks for quality and variety at once. Where a model has a likelihood too, read both: one may find "
    "real pictures probable and draw blurred ones, or draw fine pictures of one kind alone.",
    "Training time counts learning alone; each run's scorecard says how energy was measured or estimated; sampling "
    "speed is of this machine. Parameters are the numbers that were learned: weights, or counts and tables.",
)


def report(comparison: Comparison) -> str:
    """The comparison as one self-contained HTML page."""
    page = Page(
        title=f"Which model for {comparison.data}?",
        lead=f"{_counted(comparison.entries)} of generative model, the same data, the same budget ({comparison.budget} of "
        f"training each, seed {comparison.seed}), the same measures.",
    )
    page.add("The result", *("".join(f'<p class="note">{escape(s)}</p>' for s in comparison.verdict)))
    headline = comparison.headline()
    page.add(
        "The table",
        _table(comparison, headline),
        paragraphs(
            "Real data: what real items reach in the samples' place. The baseline is a cheap model of the same form."
        ),
    )
    judged = any(name.startswith(DISTANCES) for name, _, _ in headline)
    page.add("How to read it", paragraphs(*(said for said in READING if judged or not said.startswith("C-FID"))))
    page.add("What they make, and what is to be known of each", "".join(_samples(entry) for entry in comparison.entries))
    page.add("Quality and cost", _quality_against_cost(comparison))
    page.add("Learning curves", "".join(_learning_curve(entry) for entry in comparison.entries))
    rest = [column for column in comparison.columns() if column not in headline]
    page.add("All other figures", _table(comparison, rest) if rest else "")
    page.add("How each works", "".join(_how(entry) for entry in comparison.entries))
    return page.html()


def _table(comparison: Comparison, columns: Sequence[tuple[str, str, str]]) -> str:
    """A row a family, since headings break into lines and a page has room for any number of rows."""
    header, *rows = zip(comparison.header(), *comparison.rows(columns), strict=True)
    return table(["", *header[1:]], rows)


def _samples(entry: Entry) -> str:
    if entry.error:
        return f"<h3>{escape(entry.model)}</h3>{paragraphs('Failed: ' + entry.error)}"
    if not entry.previews:
        return f"<h3>{escape(entry.model)}</h3>{_said(entry)}" if entry.words else ""
    from pieria.explanation.run_page import said_of, shown_text

    last = entry.previews[-1]
    body = picture(last) if last.suffix == ".png" else texts([shown_text(last)], limit=2500)
    return f"<h3>{escape(entry.model)}</h3>{body}{paragraphs(said_of(last))}{_said(entry)}"


def _said(entry: Entry) -> str:
    """What its scorecard says of a family, as a list."""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in dict.fromkeys(entry.words))
    return f"<ul>{items}</ul>" if items else ""


def _quality_against_cost(comparison: Comparison) -> str:
    dots = []
    for entry in comparison.entries:
        quality, cost = entry.figure("likeness"), entry.figure("training time")
        if quality and cost and quality["value"] is not None and cost["value"]:
            dots.append(Line(entry.model, [max(cost["value"], 1e-3)], [quality["value"]], dots=True))
    return chart(dots, x="training, seconds", y="likeness: distance to held-out data", log_x=True) + (
        paragraphs("Lower left is better: closer to the data, for less work.") if dots else ""
    )


def _learning_curve(entry: Entry) -> str:
    from pieria.explanation.run_page import training_charts

    drawn = training_charts(entry.log)
    return f"<h3>{escape(entry.model)}</h3>{drawn}" if drawn else ""


def _how(entry: Entry) -> str:
    described = registry.describe(entry.model)
    more = f"pieria explain {entry.run}" if entry.run else f"pieria explain {entry.model}"
    idea = described.idea.partition("\n\n")[2].partition("\n\n")[0]
    return f"<h3>{escape(entry.model)}</h3>{paragraphs(described.summary, idea)}<p><code>{escape(more)}</code></p>"
