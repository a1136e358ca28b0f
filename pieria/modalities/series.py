"""Measured curves: a `.csv` of when (dates or numbers) and how much, with gaps allowed; form `Curve`.

One measured series is one artifact, a batch of one. It is split along its points: the end is held out, as in forecasting.
"""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from pieria.data.storage import write_atomically
from pieria.errors import DataError, FormError, UsageError, unknown
from pieria.forms import Curve
from pieria.modalities import frames
from pieria.modalities.contract import Collection, Modality, Sniff
from pieria.modalities.curves import (
    Measured,
    choose_x,
    choose_y,
    csv_of,
    decimals_of,
    in_order,
    is_date,
    is_numbers,
    sniff,
)
from pieria.modalities.dates import MONTHLY, dates_of, format_of, said, years_of
from pieria.modalities.schema import Reading, from_text, from_values
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

if TYPE_CHECKING:
    from torch import Tensor

    from pieria.data.examples import Examples


class SeriesSettings(AnySettings):
    """How a file becomes a curve."""

    x: str = Field(
        "", description="the column that says where or when; empty: the first with dates, else the first with numbers"
    )
    test: float = Field(0.2, gt=0, lt=1, description="share of the points, at the end, that is held out for testing")
    validation: float = Field(0.1, gt=0, lt=1, description="share of the points before those that is used to choose")
    duplicates: Literal["refuse", "mean"] = Field(
        "refuse", description="several values at one place: an error, or their mean"
    )
    missing: tuple[str, ...] = Field(
        ("", "?", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null"), description="words that mean a missing value"
    )
    ragged: Literal["refuse", "skip"] = Field("refuse", description="rows with too few or too many fields")
    separator: str = Field("auto", description="what stands between fields; auto: , ; | or tab")
    header: bool = Field(True, description="the first line holds the names of the columns")
    encoding: str = Field("utf-8", description="how the characters of the file are encoded")
    dayfirst: bool = Field(False, description="read 03/04/2020 as the third of April")


class Series(Modality):
    """Curves to float64 ``[curve, point, 2]`` in natural units (dates as decimal years) and back."""

    name: ClassVar[str] = "series"
    Settings = SeriesSettings
    forms: ClassVar[tuple[str, ...]] = ("curve",)
    suffixes: ClassVar[tuple[str, ...]] = frames.SUFFIXES
    settings: SeriesSettings

    def __init__(self, settings: SeriesSettings) -> None:
        super().__init__(settings)
        self._learned = False
        self.dated, self.format, self.names = False, "", ("x", "y")
        self.decimals: int | None = None

    # ── files to artifacts ──────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def sniff(cls, path: Path, column: str | None = None) -> Sniff:
        """How sure: dates or growing numbers, and one column of numbers beside them."""
        try:
            return sniff(path, column)
        except Exception as error:  # sniffing answers "not mine", whatever is wrong with the file
            return Sniff(0.0, f"cannot be looked at ({error})")

    def read(self, path: Path, column: str | None = None) -> Collection:
        """The curve in a file, or one for each file of a folder; ``column`` names what is measured.

        Raises `UsageError` where several columns could be meant, `DataError` for doubled places and for words among numbers.
        """
        path = Path(path)
        if path.is_dir():
            files = [file for file in sorted(path.iterdir()) if frames.kind_of(file)]
            if not files:
                raise DataError(
                    f"{path} holds no series", f"files that end with {', '.join(frames.SUFFIXES)}", "Check the path"
                )
            read = [self._read_one(file, column) for file in files]
            if len({curve.x.dtype.kind for curve, _ in read}) > 1:
                raise DataError(f"{path} mixes series over dates and over numbers", "one kind", "Put them into two folders")
            findings = [f"{file.name}: {line}" for file, (_, told) in zip(files, read, strict=True) for line in told]
            return Collection([curve for curve, _ in read], findings=[f"{len(files):,} series", *findings])
        frames.require(path, "series")
        curve, findings = self._read_one(path, column)
        return Collection([curve], findings=findings)

    def _read_one(self, path: Path, column: str | None) -> tuple[Measured, list[str]]:
        import pandas as pd

        settings = self.settings
        if frames.kind_of(path) == "parquet":
            columns = frames.read_parquet(path)
        else:
            columns = frames.read_text(
                path,
                separator=settings.separator,
                encoding=settings.encoding,
                header=settings.header,
                ragged=settings.ragged,
            )
        names = list(columns.table.column_names)
        for name in (settings.x, column):
            if name and name not in names:
                raise unknown("column", name, names)
        reading = Reading(settings.missing, most=2**31, dayfirst=settings.dayfirst)
        kinds, values = {}, {}
        for name in names:
            try:
                of = columns.table.column(name)
                kind, series, _ = (
                    from_values(name, of.to_pandas(), reading) if columns.typed else from_text(name, of, reading)
                )
            except DataError as error:
                raise DataError(f"{path}: {error.got}", error.wanted, error.do) from None
            if is_date(kind):
                kinds[name], values[name] = kind, series.to_numpy("datetime64[us]")
            elif is_numbers(kind):
                kinds[name], values[name] = kind, pd.to_numeric(series.astype(object)).to_numpy(np.float64, na_value=np.nan)
        findings = list(columns.findings)
        x_name = choose_x(path, names, kinds, column, settings.x)
        x = values.pop(x_name)
        y_name, told = choose_y(path, x, values, names, column)
        y = values[y_name]
        found = Measured(x, y, path.name.split(".")[0], (x_name, y_name), kinds[x_name].format, decimals_of(kinds[y_name]))
        curve, more = in_order(path, found, settings.duplicates)
        low, high = said(curve.x[0], curve.format), said(curve.x[-1], curve.format)
        first = (
            f"{len(curve):,} points: {y_name} from {curve.y.min():g} to {curve.y.max():g} over {x_name} from {low} to {high}"
        )
        return curve, [first, *findings, *told, *more]

    def split(self, collection: Collection) -> dict[str, Collection]:
        """One series: its last points are test, those before them validation. Several: whole curves, shuffled once."""
        curves = collection.artifacts
        if self.settings.test + self.settings.validation >= 1:
            raise UsageError(
                f"test={self.settings.test:g} and validation={self.settings.validation:g}",
                "together less than 1",
                "Lower one",
            )
        count = len(curves[0]) if len(curves) == 1 else len(curves)
        test, validation = (max(1, round(share * count)) for share in (self.settings.test, self.settings.validation))
        train = count - test - validation
        if train < (2 if len(curves) == 1 else 1):
            raise DataError(f"{count} {'points' if len(curves) == 1 else 'curves'} to split", "at least 4", "Give more data")
        ends = {"train": (0, train), "validation": (train, train + validation), "test": (train + validation, count)}
        if len(curves) == 1:
            return {part: replace(collection, artifacts=[curves[0].points(slice(*end))]) for part, end in ends.items()}
        order = np.random.Generator(np.random.Philox(key=0)).permutation(count).tolist()
        return {part: collection.take(sorted(order[slice(*end)])) for part, end in ends.items()}

    # ── artifacts to tensors ────────────────────────────────────────────────────────────────────────────────────────

    def learn(self, collection: Collection, form: str | None = None) -> None:
        """Take from the curves whether they run over dates, and how these are written."""
        if form not in (None, "curve"):
            raise UsageError(f"series have no form {form!r}", "their form is curve", "Leave --form out")
        if len(collection) == 0:
            raise DataError("no series to learn from", "at least one", "Look at what was read with 'pieria data PATH'")
        first = collection.artifacts[0]
        self.dated = first.x.dtype.kind == "M"
        self.format = (first.format or format_of(first.x)) if self.dated else ""
        self.names, self.decimals, self._learned = first.names, first.decimals, True

    @property
    def form(self) -> Curve:
        """``Curve(inputs=1, outputs=1)``."""
        if not self._learned:
            raise FormError("the series modality has not seen any series", "learn() or restore() first")
        return Curve(1, 1)

    def encode(self, artifacts: Sequence[Measured]) -> "Tensor":
        """Curves as float64 ``[curve, point, 2]``; shorter ones repeat their last point (masked in `examples`)."""
        import torch

        if len(artifacts) == 0 or any(len(curve) == 0 for curve in artifacts):
            raise FormError("no series, or one without points", "at least one point", "Look at what was read")
        longest = max(len(curve) for curve in artifacts)
        x = np.empty((len(artifacts), longest, 2))
        for row, curve in zip(x, artifacts, strict=True):
            if (curve.x.dtype.kind == "M") != self.dated:
                kinds = ("dates", "numbers") if self.dated else ("numbers", "dates")
                raise FormError(f"the series {curve.name!r} runs over {kinds[1]}", f"{kinds[0]} as learned", "Give it those")
            row[: len(curve), 0] = years_of(curve.x, self.format == MONTHLY) if self.dated else curve.x
            row[: len(curve), 1] = curve.y
            row[len(curve) :] = row[len(curve) - 1]
        if not np.isfinite(x).all():
            raise FormError("a series holds NaN or infinity", "finite numbers", "Leave these points out")
        return torch.from_numpy(x)

    def examples(self, collection: Collection, *, training: bool = False) -> "Examples":
        """The curves encoded, with a mask where their lengths differ."""
        import torch

        from pieria.data.examples import ItemExamples

        del training
        x = self.encode(collection.artifacts)
        lengths = torch.tensor([len(curve) for curve in collection.artifacts])
        masks = torch.arange(x.shape[1])[None, :] < lengths[:, None]
        return ItemExamples(self.form, x, masks=None if masks.all() else masks)

    # ── tensors to artifacts to files ───────────────────────────────────────────────────────────────────────────────

    def decode(self, x: "Tensor") -> list[Measured]:
        """Float ``[curve, point, 2]`` as curves; decimal years become dates again."""
        if x.ndim != 3 or x.shape[2] != 2:
            raise FormError(f"a tensor of shape {list(x.shape)}", "[curve, point, 2]")
        values = x.detach().cpu().double().numpy()
        if not np.isfinite(values).all():
            raise FormError("a curve holds NaN or infinity", "finite numbers")
        return [
            Measured(
                dates_of(curve[:, 0], self.format) if self.dated else curve[:, 0].copy(),
                curve[:, 1].copy(),
                f"draw {place + 1}",
                self.names,
                self.format,
                self.decimals,
                observed=False,
            )
            for place, curve in enumerate(values)
        ]

    def write(self, artifacts: Sequence[Measured], path: Path, metadata: dict[str, str] | None = None) -> list[Path]:
        """A `.csv` (several curves over the same places side by side), or one each in a directory; no place for metadata."""
        del metadata
        path = Path(path)
        if len(artifacts) == 0:
            raise UsageError("no series to write", "at least one")
        if path.is_dir() or not path.suffix:
            files = [path / f"{place:04}.csv" for place in range(len(artifacts))]
            for file, curve in zip(files, artifacts, strict=True):
                write_atomically(file, csv_of([curve]))
            return files
        if path.suffix.lower() != ".csv":
            raise UsageError(f"series cannot be written to {path.name}", ".csv or a directory", "Change --out")
        if any(not np.array_equal(curve.x, artifacts[0].x) for curve in artifacts):
            raise UsageError(f"{path} cannot hold curves over different places", "a directory", "Change --out")
        write_atomically(path, csv_of(artifacts))
        return [path]

    def preview(self, artifacts: Sequence[Measured], path: Path, metadata: dict[str, str] | None = None) -> Path:
        """A plot (PNG): what was observed as dots, what was drawn as lines."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        path = Path(path).with_suffix(".png")
        if len(artifacts) == 0:
            raise UsageError("no series to show", "at least one")
        figure = Figure(figsize=(10, 4.5), dpi=100, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        seen = [curve for curve in artifacts if curve.observed]
        drawn = [curve for curve in artifacts if not curve.observed]
        for place, curve in enumerate(drawn):
            label = f"{len(drawn)} drawn" if place == 0 and seen else None
            axes.plot(curve.x, curve.y, linewidth=1, alpha=max(0.25, min(1.0, 4 / len(drawn))), label=label)
        for place, curve in enumerate(seen):
            label = (curve.name or "observed") if len(seen) <= 8 else "observed" if place == 0 else None
            colour = "black" if len(seen) == 1 else f"C{place}"
            axes.plot(curve.x, curve.y, ".", markersize=3 if len(curve) > 100 else 5, color=colour, label=label)
        axes.set_xlabel(artifacts[0].names[0])
        axes.set_ylabel(artifacts[0].names[1])
        axes.grid(alpha=0.3)
        if seen:
            axes.legend(frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={str(key): str(value) for key, value in (metadata or {}).items()})
        write_atomically(path, buffer.getvalue())
        return path

    def state(self) -> dict[str, Any]:
        """Whether the curves run over dates, how dates and values are written, the columns' names."""
        assert self.form
        return {"dated": self.dated, "format": self.format, "names": list(self.names), "decimals": self.decimals}

    @classmethod
    def restore(cls, settings: AnySettings, state: dict[str, Any]) -> Self:
        """The modality that `state` was taken from."""
        assert isinstance(settings, SeriesSettings)
        series = cls(settings)
        series.dated, series.format, series._learned = bool(state["dated"]), str(state["format"]), True
        series.decimals = state["decimals"]
        series.names = (str(state["names"][0]), str(state["names"][1]))
        return series


MODALITY = Series
