"""Families are listed from their source; only `find` imports."""

import subprocess
import sys

import pytest

from pieria import registry
from pieria.errors import UsageError


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
