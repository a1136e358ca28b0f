import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import pieria

ROOT = Path(__file__).parents[1]


def test_the_public_names_are_those_that_are_listed():
    assert pieria.__all__ == sorted(pieria.__all__)
    assert [name for name in pieria.__all__ if not hasattr(pieria, name)] == []
    assert dir(pieria) == pieria.__all__


def test_each_name_is_the_one_of_its_module():
    assert pieria.fit is importlib.import_module("pieria.run").fit
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        pieria.fitt  # type: ignore[attr-defined]


def test_the_version_is_that_of_the_project():
    import tomllib

    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == pieria.__version__


def test_importing_and_listing_bring_no_torch():
    code = (
        "import sys, pieria; from pieria import registry; registry.names(); dir(pieria)\n"
        "sys.exit(', '.join({'torch', 'numpy', 'accelerate', 'rich'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
