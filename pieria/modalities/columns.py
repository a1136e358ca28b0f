"""What a column of a table holds, and how its values become numbers and come back as they were written.

    number, integer   (value - shift) / scale, standardised on the training part; decimals as in the data
    date              the same of the days since 1970, written back in the format it came in
    category, boolean codes 0 … levels - 1; the list of values is part of the schema, like the columns' names
    constant, empty   kept out of the form and put back on decoding

The schema (kinds, formats, lists of values, which columns can be missing) is read from the whole file, before it is
split; shift and scale are learned from the training part alone.
"""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pieria.errors import FormError
from pieria.forms import Column

if TYPE_CHECKING:
    import pandas

Kind = Literal["number", "integer", "date", "category", "boolean", "constant", "empty"]
DAY = 86_400_000_000  # microseconds


@dataclass(frozen=True)
class ColumnKind:
    """The schema of one column, and (after `learn`) its scale.

    Attributes:
        values: of a category or boolean in the order of their codes (None: missing is one of them), or of a constant.
        decimals: digits after the point that the data go up to; None where they cannot be counted (1e-7).
        padded: numbers are written with all these digits (7.40), not with as few as possible (7.4).
        format: how a date is written; of a boolean, its two words: "false|true".
        missing: how a missing value is written; None where the column is never missing.
    """

    name: str
    kind: Kind
    values: tuple[Any, ...] = ()
    decimals: int | None = None
    padded: bool = True
    format: str = ""
    missing: str | None = None
    shift: float = 0.0
    scale: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, from which ``ColumnKind(**value)`` builds it again (`restore`)."""
        return asdict(self)

    @classmethod
    def restore(cls, value: dict[str, Any]) -> "ColumnKind":
        """The column that `to_json` wrote."""
        return cls(**{**value, "values": tuple(value["values"])})

    @property
    def varies(self) -> bool:
        """Whether it belongs to the form."""
        return self.kind not in ("constant", "empty")

    @property
    def scaled(self) -> bool:
        """Whether it is encoded by shift and scale."""
        return self.kind in ("number", "integer", "date")

    def columns(self, taken: set[str]) -> list[Column]:
        """Its tensor columns: the values, then where they are missing."""
        if self.kind == "date":
            # whole days are counted; times of day are measured
            first = Column(self.name, "number" if "%H" in self.format else "integer", scale=self.scale, shift=self.shift)
        elif self.scaled:
            first = Column(self.name, "integer" if self.kind == "integer" else "number", scale=self.scale, shift=self.shift)
        else:
            first = Column(self.name, "category", levels=len(self.values))
        if self.missing is None:
            return [first]
        name = f"{self.name} missing"
        while name in taken:
            name += "'"
        return [first, Column(name, "missing", of=self.name)]

    def learn(self, series: "pandas.Series") -> "ColumnKind":
        """The same column with the shift and scale of these (training) values."""
        if not self.scaled:
            return self
        values, missing = self.numbers(series)
        values = values[~missing]
        if len(values) == 0:
            return replace(self, shift=0.0, scale=1.0)
        largest = float(np.abs(values).max()) or 1.0
        unit = 1.0 if 1e-150 < largest < 1e150 else largest  # squares of such numbers would overflow or vanish
        shift, scale = float((values / unit).mean() * unit), float((values / unit).std() * unit)
        # a spread below what doubles can tell apart at this size is none
        return replace(self, shift=shift, scale=scale if scale > 1e-12 * largest else 1.0)

    def numbers(self, series: "pandas.Series") -> tuple[np.ndarray, np.ndarray]:
        """The values as float64 (dates: days since 1970) and where they are missing.

        Raises `FormError` that names the column and the value for words and infinities.
        """
        import pandas as pd

        missing = series.isna().to_numpy()
        if self.kind == "date":
            if series.dtype.kind != "M":
                series = pd.to_datetime(series.astype("str").where(~missing), format=self.format, errors="coerce")
            days = series.to_numpy("datetime64[us]").astype(np.int64) / DAY
            self._refuse(series.isna().to_numpy() & ~missing, series, "no date", f"dates such as {self.format}")
            return np.where(missing, 0.0, days), missing
        values = pd.to_numeric(series, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        self._refuse(np.isnan(values) & ~missing, series, "no number", "numbers")
        self._refuse(np.isinf(values), series, "infinite", "finite numbers")
        return np.where(missing, 0.0, values), missing

    def encode(self, series: "pandas.Series", unknown: str = "refuse") -> list[np.ndarray]:
        """One or two float32 arrays, as `columns` says.

        Raises `FormError` for a value that the column cannot have: an unknown category (unless ``unknown`` is "missing"),
        a missing one where the training part has none.
        """
        if self.scaled:
            values, missing = self.numbers(series)
            values = np.where(missing, 0.0, (values - self.shift) / self.scale)
        else:
            codes, missing = self._codes(series)
            strange = (codes < 0) & ~missing
            if unknown == "missing" and self.missing is not None:
                missing = missing | strange
            else:
                some = ", ".join(map(repr, self.values[:8])) + (" …" if len(self.values) > 8 else "")
                self._refuse(strange, series, "not a known category", some)
            values = np.where(missing, 0, codes)
        if self.missing is None and missing.any():
            raise FormError(
                f"column {self.name!r} misses {int(missing.sum()):,} values, the first in row {int(missing.argmax()) + 1}",
                "none, as in the data that the model was fitted with",
                "Fill them, or fit with unknown=missing",
            )
        first = values.astype(np.float32)
        if not np.isfinite(first).all():
            self._refuse(~np.isfinite(first), series, "too large", "numbers nearer to the training part's")
        return [first] if self.missing is None else [first, missing.astype(np.float32)]

    def _codes(self, series: "pandas.Series") -> tuple[np.ndarray, np.ndarray]:
        import pandas as pd

        missing = series.isna().to_numpy()
        if isinstance(series.dtype, pd.CategoricalDtype):
            here = np.append(self._places(list(series.cat.categories)), -1)
            codes = here[series.cat.codes.to_numpy()]
        else:
            uniques, inverse = np.unique(series.astype(object).where(~missing, None).map(repr), return_inverse=True)
            first = {word: place for place, word in zip(range(len(series) - 1, -1, -1), inverse[::-1])}
            values = series.astype(object)
            codes = self._places([values.iloc[first[word]] for word in range(len(uniques))])[inverse]
        if None in self.values:
            codes, missing = np.where(missing, self.values.index(None), codes), np.zeros_like(missing)
        return codes, missing

    def _places(self, values: list[Any]) -> np.ndarray:
        place = {value: code for code, value in enumerate(self.values)}
        words = {str(value): code for code, value in enumerate(self.values)}

        def find(value: Any) -> int:
            if value in place:
                return place[value]
            return words.get(value, -1) if isinstance(value, str) else -1

        return np.asarray([find(value) for value in values], dtype=np.int64)

    def _refuse(self, bad: np.ndarray, series: "pandas.Series", what: str, wanted: str) -> None:
        if bad.any():
            row = int(bad.argmax())
            more = f" (and {int(bad.sum()) - 1:,} more rows)" if bad.sum() > 1 else ""
            raise FormError(
                f"column {self.name!r}, row {row + 1}: {series.iloc[row]!r} is {what}{more}",
                wanted,
                "Correct the data, or fit with unknown=missing" if what.startswith("not") else "Correct the data",
            )

    def decode(self, values: np.ndarray | None, missing: np.ndarray | None, count: int) -> "pandas.Series":
        """``count`` values as the data have them: rounded to the data's decimals."""
        import pandas as pd

        if values is None:
            if self.kind == "empty":
                return pd.Series([None] * count, dtype=object)
            is_date = "%" in self.format
            return pd.Series([np.datetime64(self.values[0], "us") if is_date else self.values[0]] * count)
        gone = np.zeros(count, bool) if missing is None else missing > 0.5
        if not np.isfinite(values).all():
            raise FormError(f"column {self.name!r} holds NaN or infinity", "finite numbers")
        if not self.scaled:
            codes = np.rint(values).astype(np.int64)
            if codes.size and (codes.min() < 0 or codes.max() >= len(self.values)):
                raise FormError(f"a code outside 0 to {len(self.values) - 1} in column {self.name!r}", "known categories")
            if self.kind == "boolean":
                truth = pd.array(np.asarray([value is True for value in self.values])[codes], dtype="boolean")
                truth[gone] = pd.NA
                return pd.Series(truth if self.missing is not None else truth.to_numpy(bool))
            kept = [value for value in self.values if value is not None]
            if None in self.values:
                codes = np.where(codes == self.values.index(None), -1, codes - (codes > self.values.index(None)))
            return pd.Series(
                pd.Categorical.from_codes(  # type: ignore[call-overload]  # the stubs know lists of codes only
                    np.where(gone, -1, codes), categories=kept
                )
            )
        plain = values.astype(np.float64) * self.scale + self.shift
        if self.kind == "date":
            step = DAY if "%H" not in self.format else 60_000_000 if "%S" not in self.format else 1_000_000
            stamps = np.rint(plain * (DAY / step)).astype(np.int64) * step
            # years beyond these four digits cannot be written in any of the formats
            stamps = np.clip(stamps, -62_135_596_800_000_000, 253_402_214_400_000_000).astype("datetime64[us]")
            stamps[gone] = np.datetime64("NaT")
            return pd.Series(stamps)
        if self.kind == "integer" and not self.decimals:
            whole = np.rint(plain)
            if whole.size and np.abs(whole).max() >= 2**63:
                raise FormError(f"column {self.name!r} holds a number of more than 64 bits", "whole numbers of 64 bits")
            if self.missing is None:
                return pd.Series(whole.astype(np.int64))
            filled = pd.array(whole.astype(np.int64), dtype="Int64")
            filled[gone] = pd.NA
            return pd.Series(filled)
        # float32 vouches for some seven digits of the spread; what lies beyond is no digit of the data
        vouched = min(300, 7 - int(np.ceil(np.log10(max(self.scale, 1e-300)))))
        digits = 0 if self.kind == "integer" else vouched if self.decimals is None else min(self.decimals, vouched)
        plain = np.round(plain, digits) + 0.0
        plain[gone] = np.nan
        return pd.Series(plain)

    def words(self, series: "pandas.Series") -> list[str]:
        """The values as they are written in a text file."""
        gone = self.missing if self.missing is not None else ""
        missing = series.isna().tolist()
        if series.dtype.kind == "M":
            said = series.dt.strftime(self.format).tolist()
        elif series.dtype.kind in "fiu":
            said = [self._word(value) for value in series.tolist()]
        else:  # few different values: each is put into words once
            said_of = {value: self._word(value) for value in series.dropna().unique()}
            said = [gone if away else said_of[value] for value, away in zip(series.tolist(), missing, strict=True)]
        return [gone if away else word for word, away in zip(said, missing, strict=True)]

    def _word(self, value: Any) -> str:
        if isinstance(value, bool | np.bool_):
            return self.format.split("|")[int(value)] if self.format else str(bool(value))
        if isinstance(value, float):
            fixed = self.decimals is not None and self.padded
            return f"{value:.{self.decimals}f}" if fixed else repr(value).removesuffix(".0")
        return str(value)
