"""Each small mistake is caught by the check that is there for it, and the family around it passes."""

import pytest

from pieria import registry
from pieria.testing import CHECKS, Skipped, Subject, case
from tests import mutants

CAUGHT = [
    (mutants.Hot, "tokens", "draws"),
    (mutants.Hot, "stream", "draws"),
    (mutants.Leaking, "tokens", "options"),
    (mutants.Late, "tokens", "streams"),
    (mutants.Late, "tokens", "draws"),
    (mutants.Late, "tokens", "learns"),
    (mutants.LateStream, "tokens", "streams"),
    (mutants.LateStream, "stream", "draws"),
    (mutants.LateStream, "stream", "cached"),
    (mutants.Rough, "tokens", "cached"),
    (mutants.Heavy, "tokens", "distribution"),
    (mutants.Heavy, "stream", "distribution"),
    (mutants.HeavyEnd, "tokens", "distribution"),
    (mutants.HeavyEnd, "tokens", "streams"),
    (mutants.Mirage, "tokens", "explains"),
    (mutants.Careless, "tokens", "repeats"),
    (mutants.Crowd, "tokens", "repeats"),
    (mutants.Trusting, "tokens", "refuses"),
    (mutants.Lazy, "tokens", "learns"),
    (mutants.Forgetful, "tokens", "repeats"),
]


@pytest.fixture(autouse=True)
def _named(monkeypatch):
    # saving names the family by its file; a mutant's file holds many, so the test says which one is meant
    monkeypatch.setattr(registry, "name_of", lambda family: f"mutant {family.__name__}")
    find = registry.find
    monkeypatch.setattr(
        registry, "find", lambda name: getattr(mutants, name.split()[1]) if name.startswith("mutant ") else find(name)
    )
    monkeypatch.setattr("pieria.testing.checks._same_elsewhere", lambda *_: None)


@pytest.mark.parametrize(("mutant", "name", "check"), CAUGHT, ids=lambda value: getattr(value, "__name__", value))
def test_a_mutant_is_caught_by_the_check_for_it(mutant, name, check):
    with pytest.raises(AssertionError, match=r"got .*wanted"):
        CHECKS[check](Subject(mutant, case(name)))


@pytest.mark.parametrize(("name", "check"), sorted({(name, check) for _, name, check in CAUGHT}))
def test_what_they_were_made_from_passes(name, check):
    try:
        CHECKS[check](Subject(mutants.Table, case(name)))
    except Skipped:
        pytest.fail("the check that catches a mutant has nothing to ask of the family itself")
