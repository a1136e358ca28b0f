"""What the columns of a table are, found by looking at each different value once: the reading half of `columns`."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pieria.errors import DataError
from pieria.modalities.columns import DAY, ColumnKind

if TYPE_CHECKING:
    import pandas
    import pyarrow

DATES = (
    "%Y-%m-%d",
    "%Y-%m",
    "%Y/%m/%d",
    "%Y/%m",
    "%d.%m.%Y",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%d.%m.%Y %H:%M",
    "%m/%d/%Y %H:%M",
)


@dataclass(frozen=True)
class Reading:
    """How columns are read.

    ``known`` gives columns that an earlier part of the same data set has settled.
    """

    missing: tuple[str, ...]
    categories: tuple[str, ...] = ()
    most: int = 256
    dayfirst: bool = False
    known: tuple[ColumnKind, ...] = ()

    def settled(self, name: str) -> ColumnKind | None:
        """What is known of a column already."""
        return next((column for column in self.known if column.name == name), None)


class Wide(DataError):
    """A text column with too many different values to be categories."""


def from_text(name: str, column: "pyarrow.ChunkedArray", reading: Reading) -> tuple[ColumnKind, "pandas.Series", list[str]]:
    """What a column of strings holds: its kind, its values, findings.

    Everything is decided on the different words, each looked at once. Raises `DataError` for infinities.
    """
    import pandas as pd
    import pyarrow as arrow
    import pyarrow.compute as pc

    findings: list[str] = []
    coded = column.combine_chunks().dictionary_encode()
    if isinstance(coded, arrow.ChunkedArray):
        coded = coded.combine_chunks()
    codes = coded.indices.to_numpy()
    as_written = coded.dictionary
    words = pc.utf8_trim_whitespace(as_written)
    if not words.equals(as_written):
        findings.append(f"column {name!r}: spaces around words are removed")
    blank = pc.is_in(words, value_set=arrow.array(reading.missing, arrow.string())).to_numpy(zero_copy_only=False)
    present = words.filter(arrow.array(~blank))
    counts = np.bincount(codes[blank[codes]], minlength=len(words)) if blank.any() else np.zeros(1, np.int64)
    mark = words[int(counts.argmax())].as_py() if blank.any() else None
    if blank.any():
        findings.append(f"column {name!r}: {int(counts.sum()):,} missing values ({mark!r})")
    kind, values = _meaning(name, present, reading, findings)
    kind = replace(kind, missing=mark)
    if kind.kind == "number":
        infinite = np.isinf(values)
        if infinite.any():
            word = present[int(infinite.argmax())]
            row = int(np.argmax(codes == words.index(word).as_py()))
            raise DataError(
                f"column {name!r}, row {row + 1}: {word.as_py()!r} is infinite",
                "finite numbers",
                "Correct it, or leave it empty so that it counts as missing",
            )
    # back from the different words to the rows
    place = np.full(len(words) + 1, -1)
    place[:-1][~blank] = np.arange(len(present))
    rows = place[codes]
    series = _series(kind, values, rows)
    kind, told = _settle(kind, values, rows, reading)
    if kind.kind == "category" and not isinstance(series.dtype, pd.CategoricalDtype):
        series = _as_category(kind, series)
    return kind, series, findings + told


def from_values(name: str, series: "pandas.Series", reading: Reading) -> tuple[ColumnKind, "pandas.Series", list[str]]:
    """What a typed column (parquet, a data frame) holds; NaN and None are missing."""
    import pandas as pd

    series = series.reset_index(drop=True)
    if isinstance(series.dtype, pd.CategoricalDtype):
        # numbers that are declared to be categories stay so
        series, reading = series.astype(object), replace(reading, categories=(*reading.categories, name))
    gone = series.isna()
    count = int(gone.sum())
    mark = "" if count else None
    findings = [f"column {name!r}: {count:,} missing values"] if count else []
    present = series[~gone]
    if len(present) == 0:
        return ColumnKind(name, "empty", missing=""), pd.Series([None] * len(series), dtype=object), findings
    letter = present.dtype.kind
    if letter == "O" and present.map(lambda value: isinstance(value, bool | np.bool_)).all():
        letter = "b"
    elif letter == "O" and present.map(lambda value: isinstance(value, int | float | np.number)).all():
        series = pd.Series(pd.to_numeric(series))
        present, letter = series[~gone], series.dtype.kind
    elif letter == "O" and hasattr(present.iloc[0], "isoformat"):
        series = pd.Series(pd.to_datetime(series))
        present, letter = series[~gone], "M"
    if letter == "b":
        kind = ColumnKind(name, "boolean", values=(False, True), missing=mark)
        series = series.astype("boolean") if count else series.astype(bool)
    elif letter in "iu":
        kind = ColumnKind(name, "integer", decimals=0, missing=mark)
        series = series.astype("Int64" if count else "int64")
    elif letter == "f":
        values = present.to_numpy(np.float64)
        if np.isinf(values).any():
            row = int(np.isinf(series.to_numpy(np.float64, na_value=0.0)).argmax())
            raise DataError(f"column {name!r}, row {row + 1} is infinite", "finite numbers", "Correct it")
        decimals = next((d for d in range(7) if np.array_equal(np.round(values, d), values)), None)
        whole = decimals == 0 and np.abs(values).max() < 2**53
        kind = ColumnKind(
            name, "integer" if whole else "number", decimals=1 if whole else decimals, padded=False, missing=mark
        )
        series = series.astype("float64")
    elif letter == "M":
        series = series.dt.tz_localize(None) if getattr(series.dt, "tz", None) is not None else series
        series = series.astype("datetime64[us]")
        days = (series[~gone].to_numpy().astype(np.int64) % DAY == 0).all()
        kind = ColumnKind(name, "date", format="%Y-%m-%d" if days else "%Y-%m-%d %H:%M:%S", missing=mark)
    else:
        odd = next((value for value in present if not isinstance(value, str | int | float | bool)), None)
        if odd is not None:
            raise DataError(
                f"column {name!r} holds a {type(odd).__name__}", "numbers, words, dates", f"Leave it out with drop={name}"
            )
        series = series.astype(object).where(~gone, None).map(str, na_action="ignore")
        kind = ColumnKind(name, "category", values=tuple(sorted(set(series[~gone]))), missing=mark)
        _narrow(kind, reading, "")
    values = np.asarray(pd.unique(series[~gone]), dtype=object)
    kind, told = _settle(kind, values, np.where(gone, -1, 0), reading)
    if kind.kind == "category":
        series = _as_category(kind, series)
    return kind, series, findings + told


def _meaning(name: str, words: "pyarrow.Array", reading: Reading, findings: list[str]) -> tuple[ColumnKind, Any]:
    """The kind of a column from its different words, and what each of these words means."""
    import pyarrow as arrow
    import pyarrow.compute as pc

    if len(words) == 0:
        return ColumnKind(name, "empty"), np.asarray([], dtype=object)
    known = reading.settled(name)
    # a column that is known to hold words keeps them, even where those of this part look like numbers
    plain = known is not None and known.kind in ("category", "constant") and any(isinstance(v, str) for v in known.values)
    if not plain and pc.all(pc.is_in(pc.utf8_lower(words), value_set=arrow.array(["true", "false"]))).as_py():
        spelled = words.to_pylist()
        style = (
            str.upper if all(w.isupper() for w in spelled) else str.lower if all(w.islower() for w in spelled) else str.title
        )
        kind = ColumnKind(name, "boolean", values=(False, True), format=f"{style('false')}|{style('true')}")
        return kind, np.asarray([word.lower() == "true" for word in spelled])
    hint = ""
    if not plain:
        zeros = pc.any(pc.match_substring_regex(words, r"^[+-]?0\d")).as_py()
        if zeros:
            findings.append(f"column {name!r}: numbers with leading zeros are codes, and kept as words")
        elif pc.all(pc.match_substring_regex(words, r"^[+-]?\d{1,18}$")).as_py():
            return ColumnKind(name, "integer", decimals=0), pc.cast(_unsigned(words), arrow.int64()).to_numpy()
        else:
            numbers = _floats(words)
            if numbers is not None:
                return _number(name, words, numbers), numbers
        dates = _dates(name, words, reading, findings)
        if dates is not None:
            return dates
        if pc.all(pc.match_substring_regex(words, r"^[+-]?\d+,\d+$")).as_py():
            hint = " (they look like numbers with a decimal comma: write them with a point)"
    values = np.asarray(words.to_pylist(), dtype=object)
    kind = ColumnKind(name, "category", values=tuple(sorted(values)))
    if known is None:
        _narrow(kind, reading, hint)
    return kind, values


def _unsigned(words: "pyarrow.Array") -> Any:
    import pyarrow.compute as pc

    return pc.replace_substring_regex(words, r"^\+", "")


def _floats(words: "pyarrow.Array") -> np.ndarray | None:
    import pyarrow as arrow
    import pyarrow.compute as pc

    # Arrow does not know every spelling of infinity; those are refused later, with their row
    lower = pc.replace_substring_regex(pc.utf8_lower(_unsigned(words)), r"^(-?)infinity$", r"\1inf")
    try:
        return pc.cast(lower, arrow.float64()).to_numpy()
    except arrow.ArrowInvalid:
        return None


def _number(name: str, words: "pyarrow.Array", numbers: np.ndarray) -> ColumnKind:
    import pyarrow.compute as pc

    decimals: int | None = None
    fraction = pc.replace_substring_regex(words, r"^[^.]*\.?", "")
    if pc.all(pc.match_substring_regex(words, r"^[+-]?\d*\.?\d*$")).as_py():
        decimals = pc.max(pc.utf8_length(fraction)).as_py()
        if decimals > 12:  # digits of a double, not of a measurement
            decimals = None
    # 7.4 beside 7.45 and never 7.40: as few digits as possible
    padded = (
        pc.any(pc.match_substring_regex(words, r"\.\d*0$")).as_py() or len(set(pc.utf8_length(fraction).to_pylist())) == 1
    )
    finite = bool(np.isfinite(numbers).all())
    whole = finite and decimals is not None and np.abs(numbers).max() < 2**53 and bool((numbers == np.rint(numbers)).all())
    return ColumnKind(name, "integer" if whole else "number", decimals=decimals, padded=padded)


def _dates(name: str, words: "pyarrow.Array", reading: Reading, findings: list[str]) -> tuple[ColumnKind, Any] | None:
    import pandas as pd

    known = reading.settled(name)
    formats = (known.format,) if known is not None and known.kind == "date" else DATES
    some = pd.Series(words[:50].to_pylist(), dtype=object)
    for exact in (True, False):
        fitting = [fmt for fmt in formats if not _stamps(some, fmt, exact).isna().any()]
        every = pd.Series(words.to_pylist(), dtype=object) if fitting else some
        stamps = {fmt: found for fmt in fitting if not (found := _stamps(every, fmt, exact)).isna().any()}
        if stamps:
            break
    else:
        return None
    if {"%m/%d/%Y", "%d/%m/%Y"} <= set(stamps):
        chosen = "%d/%m/%Y" if reading.dayfirst else "%m/%d/%Y"
        findings.append(
            f"column {name!r}: dates are read as {chosen}, though both orders fit; dayfirst=true reads the other"
        )
    else:
        chosen = next(iter(stamps))
    if not exact:
        findings.append(f"column {name!r}: dates without leading zeros, which come back with them")
    return ColumnKind(name, "date", format=chosen), stamps[chosen].to_numpy("datetime64[us]")


def _stamps(words: "pandas.Series", fmt: str, exact: bool) -> "pandas.Series":
    import pandas as pd

    found = pd.to_datetime(words, format=fmt, errors="coerce")
    # exactly this format is what is written back as it was: %m also reads "3", which would come back as "03"
    return found.where(found.dt.strftime(fmt) == words) if exact and found.notna().all() else found


def _series(kind: ColumnKind, values: Any, rows: np.ndarray) -> "pandas.Series":
    import pandas as pd

    gone = rows < 0
    if kind.kind == "empty":
        return pd.Series([None] * len(rows), dtype=object)
    if kind.kind == "category":
        order = np.argsort(values)
        code = np.empty(len(values) + 1, np.int64)
        code[order], code[-1] = np.arange(len(values)), -1
        return pd.Series(
            pd.Categorical.from_codes(  # type: ignore[call-overload]  # the stubs know lists of codes only
                code[rows], categories=list(values[order])
            )
        )
    taken = np.asarray(values)[rows]
    if kind.kind == "number" or (kind.kind == "integer" and kind.decimals):
        return pd.Series(np.where(gone, np.nan, taken.astype(np.float64)))
    if kind.kind == "date":
        taken = taken.astype("datetime64[us]")
        taken[gone] = np.datetime64("NaT")
        return pd.Series(taken)
    if not gone.any():
        return pd.Series(taken)
    filled: Any = pd.array(taken, dtype="boolean" if kind.kind == "boolean" else "Int64")
    filled[gone] = pd.NA
    return pd.Series(filled)


def _settle(kind: ColumnKind, values: Any, rows: np.ndarray, reading: Reading) -> tuple[ColumnKind, list[str]]:
    """Constants, pairs of numbers, and numbers that are named as categories; what is unique in every row is told."""
    gone = bool((rows < 0).any())
    known = reading.settled(kind.name)
    if kind.kind == "empty":
        return kind, [f"column {kind.name!r} is empty: kept out of the form"]
    different = sorted({_plain(value) for value in values}) if len(values) <= 10_000 else []
    if len(different) == 1:
        if kind.kind == "date":
            different = [str(np.datetime_as_string(np.datetime64(different[0], "us"), "s"))]
        if known is not None and known.varies:  # constant in this part only
            return kind, []
        if not gone:
            return replace(kind, kind="constant", values=tuple(different)), [
                f"column {kind.name!r} is always {different[0]!r}: kept out of the form"
            ]
        if kind.kind == "date":
            return kind, []
        return replace(kind, kind="category", values=(different[0], None)), [
            f"column {kind.name!r} is {different[0]!r} or missing: read as a category"
        ]
    named = kind.name in reading.categories
    if kind.kind in ("integer", "number") and named and not different:
        raise DataError(
            f"column {kind.name!r} has more than 10,000 different values",
            f"at most {reading.most} categories",
            "Leave it a number",
        )
    if kind.kind in ("integer", "number") and different and (named or (kind.kind == "integer" and len(different) == 2)):
        as_category = replace(kind, kind="category", values=tuple(different))
        if named:
            _narrow(as_category, reading, "")
        told = f"column {kind.name!r} holds {len(different)} whole numbers: read as categories"
        return as_category, [told] if not named else []
    if kind.kind == "integer" and known is None and float(max(values)) - float(min(values)) > 2**24:
        return kind, [f"column {kind.name!r} spans more whole numbers than float32 tells apart: about seven digits are kept"]
    if kind.kind == "integer" and known is None and len(rows) > 20 and len(values) == len(rows) and not gone:
        return kind, [f"column {kind.name!r} differs in every row; drop={kind.name} leaves it out if it is an identifier"]
    return kind, []


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) and not isinstance(value, np.datetime64) else value


def _as_category(kind: ColumnKind, series: "pandas.Series") -> "pandas.Series":
    import pandas as pd

    return pd.Series(pd.Categorical(series, categories=[value for value in kind.values if value is not None]))


def _narrow(kind: ColumnKind, reading: Reading, hint: str) -> None:
    if len(kind.values) > reading.most:
        raise Wide(
            f"column {kind.name!r} has {len(kind.values):,} different words{hint}",
            f"at most {reading.most} categories",
            f"Leave it out with drop={kind.name}, or allow more with most_categories=…",
        )
