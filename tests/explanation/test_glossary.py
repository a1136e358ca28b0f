import pytest

from pieria import registry
from pieria.errors import UsageError
from pieria.explanation import family, glossary


@pytest.mark.parametrize("term", glossary.TERMS, ids=lambda term: term.name)
def test_the_symbol_of_each_term_exists_and_is_importable(term):
    assert term.place().endswith(
        f":{glossary.line_of(glossary.ROOT / term.place().partition(':')[0], term.symbol.partition(':')[2])}"
    )
    module, _, symbol = term.symbol.partition(":")
    owner = __import__(module, fromlist=["_"])
    for part in symbol.split("."):
        owner = getattr(owner, part)


def test_each_meaning_is_two_sentences_at_most_three():
    for term in glossary.TERMS:
        assert 1 <= term.meaning.count(". ") + 1 <= 3, term.name


def test_a_term_is_found_whatever_its_case_hyphen_or_plural():
    assert glossary.find("Latent-Spaces").name == "latent space"
    assert glossary.find("Top K").name == "top-k"
    assert glossary.find("no such word") is None


def test_an_unknown_word_gets_the_nearest_families_and_terms():
    with pytest.raises(UsageError, match="Did you mean 'vae'"):
        family.or_term("vea")


@pytest.mark.parametrize("name", sorted(registry.names()))
def test_each_family_has_a_whole_page(name):
    sections = dict(family.page(name).sections())
    assert {"The idea", "Training data", "Latent space", "Loss", "Presets", "Paper", "Source"} <= set(sections)
    described = family.page(name).family
    assert "tiny" in described.presets
    assert all(setting.description for setting in described.settings + described.sampling)
    assert all(phase.loss for phase in described.phases), "each phase's loss needs a docstring"
    assert len(described.idea) > 200, "the file should begin with what the family is, what it is not, and its papers"


def test_a_code_as_long_as_its_item_is_not_called_short():
    assert "short" not in dict(family.page("flow").sections())["Latent space"]
