"""Families are listed from their source; only `find` imports."""

import subprocess
import sys

import pytest

from pieria import registry
from pieria.errors import UsageError
from pieria.explanation.family import page


def test_listing_and_describing_import_no_torch():
    code = (
        "import sys\n"
        "from pieria import registry, forms, settings, errors\n"
        "names = registry.names()\n"
        "said = [registry.describe(name) for name in names]\n"
        "assert names and all(names.values()), names\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("name", registry.names())
def test_what_the_source_says_is_complete(name):
    said = registry.describe(name)
    assert said.summary.endswith((".", "…"))
    assert said.forms
    assert said.learning in ("estimates", "trains", "learns")
    assert said.paper
    assert all(setting.description for setting in (*said.settings, *said.sampling))
    assert said.path.read_text().splitlines()[said.line - 1].startswith("class ")


@pytest.mark.parametrize("name", registry.names())
def test_every_setting_of_the_class_is_found_in_the_source(name):
    if name == "gp":
        pytest.importorskip("gpytorch")
    said, family = registry.describe(name), registry.find(name)
    for settings, owner in ((said.settings, family.Settings), (said.sampling, family.Sampling)):
        assert [setting.name for setting in settings] == list(owner.model_fields)
        assert [setting.description for setting in settings] == [field.description for field in owner.model_fields.values()]
        for setting in settings:
            assert setting.path.read_text().splitlines()[setting.line - 1].lstrip().startswith(f"{setting.name}: ")


def test_what_is_true_of_some_forms_alone_is_told():
    """An hmm of curves is a class of its own: other options of drawing, and it keeps the points of a single series."""
    for family, form, name in (("hmm", "curve", "HmmOfNumbers"), ("mix", "tokens", "MixOfSymbols")):
        (kind,) = registry.describe(family).kinds
        owner = getattr(sys.modules[registry.find(family).__module__], name)
        assert kind.forms == (form,)
        assert [option.name for option in kind.sampling] == list(owner.Sampling.model_fields)
        assert kind.holds_data == owner.holds_data
        assert [consumed.kind for consumed in owner.consumes] == [form]
    assert registry.describe("hmm").holds_data_of == ("curve",)
    assert "temperature = 1.0" in dict(page("mix").sections())["Drawing symbols"]
    assert registry.describe("gp").holds_data_of == ("curve",)
    assert registry.describe("gpt").holds_data_of == ()
    titles = dict(page("hmm").sections())
    assert "posterior = True" in titles["Drawing curves"]
    assert "of curves contains" in titles["It keeps its examples"]
    assert "| `posterior` | `True` |" in page("hmm").markdown()


def test_options_that_are_imported_are_read_from_their_file():
    sampling = registry.describe("gpt").sampling
    assert {"temperature", "top_k", "top_p"} <= {option.name for option in sampling}
    assert {option.path.name for option in sampling} == {"decoding.py"}


def test_options_are_followed_through_another_name_and_a_base(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        '''"""Mine."""
from pieria.models.gpt import Decoding as Usual
from pieria.nowhere import Lost
from pieria.settings import Field


class Options(Usual):
    flavour: str = Field("sweet", description="how it tastes")


class Mine:
    Settings = Lost
    Sampling = Options


MODEL = Mine
'''
    )
    said = registry.describe(str(mine))
    assert [option.name for option in said.sampling][-1] == "flavour"
    assert said.sampling[0].name == "temperature"
    assert said.settings == ()


def test_an_unknown_name_gets_its_nearest_neighbours():
    with pytest.raises(UsageError, match="Did you mean 'gp'"):
        registry.find("gpp")


def test_a_family_is_found_once_and_knows_its_name():
    family = registry.find("gp")
    assert registry.find("gp") is family
    assert registry.name_of(family) == "gp"


def test_an_import_error_is_raised_whole_and_leaves_nothing_behind(tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text('"""Broken."""\nimport no_such_library\nMODEL = None\n')
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_library"):
            registry.find(str(broken))
    assert not any("pieria_family_broken" in name for name in sys.modules)


def test_two_files_of_one_name_are_two_families(tmp_path):
    for folder, value in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(f'"""Mine."""\nMODEL = {value}\n')
    assert registry.find(str(tmp_path / "a" / "mine.py")) == 1
    assert registry.find(str(tmp_path / "b" / "mine.py")) == 2


AWKWARD = '''"""A family whose text is hard to cut.

    def example(x):
        return x

Its idea goes on.
"""
from pieria.settings import Field, Settings as Base


class Options(Base):
    text: str = Field("a", description="what it says")

    def spoken(self):
        return """
def decode(self): no method of the class
"""

    after: int = Field(2, description="what stands after a method")


class Awkward:
    Settings = Options
    likelihood = "exact"

    @property
    def reach(
        self,
        more: int = 1,
    ) -> int:
        # a comment

        def log_prob(): ...

        return more

    async def step(self): return 1

    paper = "Nobody 2026"

    def phases(self):
        return [Phase("only", "all", self.loss)]

    def loss(self, batch):
        """What is
        minimised.

        More.
        """


MODEL = Awkward
'''


def test_what_functions_do_is_not_read_and_nothing_else_is_lost(tmp_path, monkeypatch):
    mine = tmp_path / "mine.py"
    mine.write_text(AWKWARD)
    said = registry.describe(str(mine))
    assert [setting.name for setting in said.settings] == ["text", "after"]
    assert AWKWARD.splitlines()[said.settings[1].line - 1].strip().startswith("after: int")
    assert AWKWARD.splitlines()[said.line - 1] == "class Awkward:"
    assert said.abilities == ()
    assert (said.paper, said.learning) == ("Nobody 2026", "trains")
    assert "return x" in said.idea
    (phase,) = said.phases
    assert (phase.name, phase.loss) == ("only", "What is minimised.")
    monkeypatch.setattr(registry, "_emptied", lambda found: found[0])
    registry._tree.cache_clear()
    assert registry.describe(str(mine)) == said
    registry._tree.cache_clear()


def test_what_is_wrong_in_a_file_is_shown_as_it_stands(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("class Mine:\n    def step(self):\n        return (\n\n\nMODEL = = Mine\n")
    with pytest.raises(SyntaxError) as caught:
        registry.describe(str(mine))
    assert caught.value.lineno in (3, 6)


def test_only_families_of_targets_say_that_they_discriminate():
    """Abilities are told by the names of methods: one of these names for something else would promise what is not there."""
    assert [family.name for family in registry.families() if "discriminates" in family.abilities] == ["discriminative"]
