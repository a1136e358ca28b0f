"""The four forms and the label: saved, compared, and what a tensor of each looks like."""

import pytest
import torch

from pieria.data.batch import check, mask_after_end
from pieria.errors import FormError
from pieria.forms import Column, Curve, Grid, Label, Row, Tokens, from_json
from pieria.testing.refusals import bad_items

FORMS = [
    Tokens(vocabulary=5, length=7),
    Tokens(vocabulary=5, length=7, end=0),
    Grid(3, 4, 5),
    Grid(1, 2, 2, levels=None),
    Grid(2, 3, 3, levels=9, ordered=False),
    Row(
        (
            Column("a", "number", scale=2.0, shift=1.0),
            Column("a missing", "missing", of="a"),
            Column("b", "category", levels=3),
        )
    ),
    Curve(2, 1),
    Label(("cat", "dog")),
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.kind)
def test_a_form_survives_json(form):
    assert from_json(form.to_json()) == form
    assert hash(from_json(form.to_json())) == hash(form)


def test_an_unknown_kind_is_refused():
    with pytest.raises(FormError, match="'cube'"):
        from_json({"kind": "cube"})


def test_a_row_knows_where_missing_values_are_told():
    row = FORMS[5]
    assert row.missing_of(0) == 1
    assert row.missing_of(2) is None


def test_begin_is_no_symbol():
    assert Tokens(vocabulary=5, length=7).begin == 5


@pytest.mark.parametrize("form", FORMS[:-1], ids=lambda form: form.kind)
def test_tensors_that_are_not_of_a_form_are_refused(form):
    for what, x in bad_items(form):
        with pytest.raises(FormError) as caught:
            check(form, x)
        assert caught.value.got, what
        assert caught.value.wanted, what


def test_what_follows_the_end_does_not_count():
    x = torch.tensor([[1, 2, 0, 0], [0, 0, 0, 0], [1, 2, 3, 4]])
    assert mask_after_end(x, 0).int().tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    assert mask_after_end(x, None).all()
