import time

import pytest

from pieria.errors import UsageError
from pieria.training import energy


def busy(seconds: float) -> None:
    limit = time.process_time() + seconds
    while time.process_time() < limit:
        pass


def test_joules_grow_with_work_and_say_where_they_come_from(monkeypatch):
    monkeypatch.setattr(energy, "_readable", lambda path: False)
    meter = energy.Meter(before=5.0)
    busy(0.2)
    cost = meter.cost()
    assert cost["joules"] == pytest.approx(5.0 + 0.2 * energy.WATTS_PER_CORE, rel=0.3)
    assert str(cost["source"]).startswith("estimated")
    assert cost["gCO2e"] == pytest.approx(float(cost["joules"]) / 3.6e6 * 480, abs=1e-6)
    assert "Ember" in str(cost["gCO2e_source"])


def test_the_processors_counters_are_read_where_they_can_be(monkeypatch, tmp_path):
    counter = tmp_path / "energy_uj"
    counter.write_text("9000000\n")
    (tmp_path / "max_energy_range_uj").write_text("10000000\n")
    monkeypatch.setattr(energy.Path, "glob", lambda self, pattern: iter([counter]))
    meter = energy.Meter()
    counter.write_text("2000000\n")  # it wrapped around
    assert meter.joules() == pytest.approx(3.0)
    assert meter.source.startswith("measured")


def test_a_grid_of_ones_own(monkeypatch):
    monkeypatch.setenv("PIERIA_GRID", "30")
    assert energy.grid() == (30.0, "PIERIA_GRID")


@pytest.mark.parametrize("said", ["clean", "-3", "nan", ""])
def test_a_grid_that_is_no_number_is_told_before_anything_is_learned(monkeypatch, said):
    monkeypatch.setenv("PIERIA_GRID", said)
    with pytest.raises(UsageError, match="PIERIA_GRID"):
        energy.Meter()


def test_reading_the_meter_is_cheap():
    meter = energy.Meter()
    begun = time.perf_counter()
    for _ in range(100):
        meter.joules()
    assert time.perf_counter() - begun < 0.2


def test_codecarbon_takes_over_in_long_runs(monkeypatch, capfd):
    pytest.importorskip("codecarbon", reason="the extra pieria[energy] is not installed")
    monkeypatch.setattr(energy, "_readable", lambda path: False)
    monkeypatch.setattr(energy, "TRACKED_AFTER", 0.0)
    meter = energy.Meter()
    first = meter.joules()
    busy(0.3)
    try:
        assert meter.joules() > first
        assert "codecarbon" in meter.source
    finally:
        meter.end()
    assert "".join(capfd.readouterr()) == ""


def test_a_meter_that_fails_ends_nothing(monkeypatch):
    class Broken:
        def flush(self):
            raise RuntimeError("no counters")

        def stop(self):
            raise AssertionError("it was let go already")

    monkeypatch.setattr(energy, "_readable", lambda path: False)
    monkeypatch.setattr(energy, "TRACKED_AFTER", 0.0)
    monkeypatch.setattr(energy, "_codecarbon", Broken)
    meter = energy.Meter()
    busy(0.05)
    assert meter.joules() > 0
    assert meter.cost()["source"].startswith("estimated")
    meter.end()
