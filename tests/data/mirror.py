"""Where the local mirror of the named data sets is, and a cache that tests may fill."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def mirror() -> Path | None:
    told = os.environ.get("PIERIA_DATA")
    for place in ([Path(told)] if told else []) + [ROOT.parent / "shared" / "data"]:
        if (place / "index.json").is_file():
            return place
    return None


needs_mirror = pytest.mark.skipif(mirror() is None, reason="no mirror: neither PIERIA_DATA nor ../shared/data exists")


@pytest.fixture
def from_mirror(monkeypatch, tmp_path):
    monkeypatch.setenv("PIERIA_DATA", str(mirror()))
    monkeypatch.setenv("PIERIA_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PIERIA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
