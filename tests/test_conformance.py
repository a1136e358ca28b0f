"""Every installed family is asked everything that a family promises: one test for each (family, form, question)."""

import importlib.util

import pytest

from pieria import registry
from pieria.errors import UsageError
from pieria.testing import Skipped, ask, check_model, questions

NEEDS = {"gp": "gpytorch"}


def _asked():
    for name in registry.names():
        if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
            yield pytest.param(name, "", "", marks=pytest.mark.skip(f"{NEEDS[name]} is not installed"), id=name)
            continue
        for case, check in questions(name):
            # one worker trains a family on a form once, and asks it everything
            group = pytest.mark.xdist_group(f"{name} {case}")
            yield pytest.param(name, case, check, id=f"{name}-{case}-{check}", marks=group)


@pytest.mark.parametrize(("family", "case", "check"), list(_asked()))
def test_family(family, case, check):
    try:
        ask(family, case, check)
    except Skipped as why:
        pytest.skip(str(why))


def test_a_family_that_fits_no_small_form_is_told():
    nowhere = type("Nowhere", (registry.find("mixture"),), {"consumes": frozenset()})
    with pytest.raises(UsageError, match="Nowhere fits none of the small forms"):
        check_model(nowhere)
