"""Items as columns of two kinds, numbers and codes with so many levels each, whether they are rows or small pictures."""

import numpy as np
from scipy.sparse import csr_array

from pieria.forms import Form, Grid, Row

Array = np.ndarray


def kinds(form: Form) -> tuple[Array, Array, Array]:
    """The places of numbers, those of codes, and how many levels each code has."""
    if isinstance(form, Row):
        named = [column.kind for column in form.columns]
        numbers = [place for place, kind in enumerate(named) if kind in ("number", "integer")]
        codes = [place for place, kind in enumerate(named) if kind in ("category", "missing")]
        levels = [form.columns[place].levels or 2 for place in codes]
    else:
        assert isinstance(form, Grid)
        places = list(range(form.channels * form.height * form.width))
        numbers, codes = (places, []) if form.levels is None else ([], places)
        levels = [form.levels or 0] * len(codes)
    return np.array(numbers, np.int64), np.array(codes, np.int64), np.array(levels, np.int64)


def flags(form: Form) -> dict[int, int]:
    """For each column that may be missing, the place of the column that says so."""
    if not isinstance(form, Row):
        return {}
    found = {place: form.missing_of(place) for place in range(len(form.columns)) if form.columns[place].kind != "missing"}
    return {place: flag for place, flag in found.items() if flag is not None}


def shares(codes: Array, levels: int) -> Array:
    """How often each code occurs in all data, never 0: what the average item looks like. -1 is none."""
    counts = np.bincount(codes[codes >= 0] if codes.dtype != np.uint8 else codes, minlength=levels) + 0.5
    return counts / counts.sum()


def indicator(codes: Array, levels: Array, *, dense: bool) -> Array | csr_array:
    """1 in the cell of each code, ``[item, cell]``, 0 for -1: a product with it looks up and sums, its transpose counts.

    ``codes`` are ``[item, column]``; the cells are the ``levels`` of one column after the other. Products with a
    ``dense`` one are quicker where ones are many.
    """
    ends_of = np.cumsum(levels)
    there = np.ones(codes.shape, dtype=bool) if codes.dtype == np.uint8 else codes >= 0
    cells = (codes.astype(np.int64) + (ends_of - levels))[there]
    ends = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    sparse = csr_array((np.ones(len(cells)), cells, ends), shape=(len(codes), int(ends_of[-1])))
    return sparse.toarray() if dense else sparse
