"""The conformance suite: what every family promises, asked of one family.

    from pieria.testing import check_model
    check_model("vae")                      # a family of the package, a path "./mine.py", or the class itself

Each check is run on forms small enough to enumerate (see `cases`), with the preset ``tiny``. ``python -m pieria.testing
FAMILY`` prints a table; tests make one item of each question:

    @pytest.mark.parametrize(("case", "check"), questions("./mine.py"))
    def test_mine(case, check):
        ask("./mine.py", case, check)
"""

import time
from collections.abc import Iterable
from functools import lru_cache

from pieria import registry
from pieria.errors import UsageError, unknown
from pieria.models.contract import Model
from pieria.testing.abilities import check_cached, check_fills, check_latent, check_options, check_streams, check_symbols
from pieria.testing.cases import CASES, Case, case
from pieria.testing.checks import (
    check_described,
    check_distribution,
    check_draws,
    check_explains,
    check_learns,
    check_moves,
    check_repeats,
)
from pieria.testing.refusals import check_refuses
from pieria.testing.subject import Check, Subject, fitting
from pieria.testing.verdicts import Result, Skipped

__all__ = [
    "CASES",
    "CHECKS",
    "Case",
    "Result",
    "Skipped",
    "Subject",
    "ask",
    "case",
    "check_model",
    "questions",
    "run_checks",
]


CHECKS: dict[str, Check] = {
    "described": check_described,
    "distribution": check_distribution,
    "draws": check_draws,
    "learns": check_learns,
    "repeats": check_repeats,
    "refuses": check_refuses,
    "explains": check_explains,
    "moves": check_moves,
    "symbols": check_symbols,
    "streams": check_streams,
    "cached": check_cached,
    "options": check_options,
    "latent": check_latent,
    "fills": check_fills,
}


def _family(family: type[Model] | str) -> type[Model]:
    return registry.find(family) if isinstance(family, str) else family


def _checks(checks: Iterable[str] | None) -> list[str]:
    chosen = list(CHECKS) if checks is None else list(checks)
    for name in chosen:
        if name not in CHECKS:
            raise unknown("check", name, CHECKS)
    return chosen


def questions(family: type[Model] | str, checks: Iterable[str] | None = None) -> list[tuple[str, str]]:
    """Every (case, check) that `check_model` would ask of a family."""
    return [(name, check) for name in fitting(_family(family)) for check in _checks(checks)]


@lru_cache(maxsize=1)
def _subject(family: type[Model], name: str) -> Subject:
    # questions come case by case, so one trained model is kept
    return Subject(family, case(name))


def ask(family: type[Model] | str, name: str, check: str) -> None:
    """Ask one question of a family. Raises `AssertionError` if it fails, `Skipped` if the question does not apply."""
    kind = _family(family)
    try:
        CHECKS[_checks([check])[0]](_subject(kind, name))
    except AssertionError as error:
        raise AssertionError(f"{kind.__name__} on {name}: check {check!r} failed: {error}") from error


def run_checks(family: type[Model] | str, checks: Iterable[str] | None = None) -> Iterable[Result]:
    """Ask every question, one after the other, and say what came of it; an unexpected error is a failure too.

    Raises `UsageError` if no small form fits the family, so that nothing could be asked.
    """
    asked = questions(family, checks)
    if not asked:
        raise UsageError(f"{_family(family).__name__} fits none of the small forms", f"one of: {', '.join(CASES)}")
    for name, check in asked:
        begun = time.perf_counter()
        outcome, said = "passed", ""
        try:
            ask(family, name, check)
        except Skipped as why:
            outcome, said = "skipped", str(why)
        except Exception as error:
            outcome, said = "failed", str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        yield Result(check, name, outcome, said, time.perf_counter() - begun)


def check_model(family: type[Model] | str, checks: Iterable[str] | None = None) -> list[Result]:
    """Ask a family everything that a family promises, on every small form that it consumes.

    Args:
        family: the class, the name of an installed family, or the path of a file that ends with ``MODEL = …``.
        checks: names from `CHECKS`; all of them if None.

    Returns what each check said. Raises `AssertionError` that names every failed check with what was got and wanted.
    """
    results = list(run_checks(family, checks))
    failed = [result for result in results if result.outcome == "failed"]
    if failed:
        lines = "\n".join(f"  {result.check} on {result.form}: {result.said}" for result in failed)
        raise AssertionError(f"{len(failed)} of {len(results)} checks failed:\n{lines}")
    return results
