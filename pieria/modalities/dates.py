"""Dates as decimal years, on which curves are learned, and back to dates."""

from typing import Any

import numpy as np

MONTHLY, DAILY = "%Y-%m", "%Y-%m-%d"


def years_of(stamps: np.ndarray, monthly: bool) -> np.ndarray:
    """Dates as decimal years. Months are twelfths, evenly spaced; else the share of the (leap) year that has passed."""
    years = stamps.astype("datetime64[Y]")
    if monthly:
        return stamps.astype("datetime64[M]").astype(np.int64) / 12 + 1970
    start = years.astype("datetime64[us]").astype(np.int64)
    length = (years + 1).astype("datetime64[us]").astype(np.int64) - start
    return years.astype(np.int64) + 1970 + (stamps.astype("datetime64[us]").astype(np.int64) - start) / length


def dates_of(years: np.ndarray, fmt: str) -> np.ndarray:
    """The dates of `_years`, to the nearest month, day or second, whatever the format tells apart."""
    if fmt == MONTHLY:
        return np.rint((years - 1970) * 12).astype(np.int64).astype("datetime64[M]").astype("datetime64[us]")
    whole = np.floor(years)
    first = (whole - 1970).astype(np.int64).astype("datetime64[Y]")
    start = first.astype("datetime64[us]").astype(np.int64)
    length = (first + 1).astype("datetime64[us]").astype(np.int64) - start
    step = 1_000_000 if "%H" in fmt else 86_400_000_000
    return (np.rint((start + (years - whole) * length) / step).astype(np.int64) * step).astype("datetime64[us]")


def format_of(stamps: np.ndarray) -> str:
    """The coarsest format that tells these dates apart: months, days or seconds."""
    if (stamps == stamps.astype("datetime64[M]")).all():
        return MONTHLY
    return DAILY if (stamps == stamps.astype("datetime64[D]")).all() else "%Y-%m-%d %H:%M:%S"


def said(place: Any, fmt: str) -> str:
    """A date or a number as it is written."""
    if isinstance(place, np.datetime64):
        return str(place.astype("datetime64[s]").item().strftime(fmt or DAILY))
    return f"{place:.10g}"
