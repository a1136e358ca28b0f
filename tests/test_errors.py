"""One tree of errors; each says what was got, what was wanted and what to do."""

import pytest

from pieria import errors
from pieria.errors import PieriaError, UsageError, unknown


def test_the_message_has_three_parts_and_the_error_keeps_them():
    error = errors.DataError("a.csv has no rows", "at least one.", "Look at it")
    assert str(error) == "a.csv has no rows. Wanted: at least one. Look at it."
    assert (error.got, error.wanted, error.do) == ("a.csv has no rows", "at least one.", "Look at it")
    assert str(PieriaError("Stopped")) == "Stopped."


def test_all_are_of_one_tree_and_only_wrong_questions_exit_with_two():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) == 6
    for kind in kinds:
        assert issubclass(kind, PieriaError)
        assert kind.exit_code == (2 if kind is UsageError else 1)
        assert kind.__name__ in errors.__doc__


def test_unknown_names_get_near_ones_if_there_are_any():
    assert "Did you mean 'vae'?" in str(unknown("model", "vea", ["vae", "gan"]))
    far = str(unknown("model", "zzzz", ["vae", "gan"], "List them"))
    assert "Did you mean" not in far
    assert far.endswith("Known: gan, vae. List them.")


def test_an_error_survives_being_passed_between_processes():
    import copy

    error = copy.copy(UsageError("got", "wanted", "do"))
    assert str(error) == "got. Wanted: wanted. do."
    with pytest.raises(UsageError):
        raise error
