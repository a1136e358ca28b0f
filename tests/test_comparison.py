from pathlib import Path

import pytest

from pieria.comparison import Comparison, Entry, compare, report
from pieria.errors import DataError, UsageError


def figure(name, value, kind="measure", unit="", **others):
    return {"name": name, "value": value, "kind": kind, "unit": unit, "better": "lower", **others}


def compared(names):
    entries = [
        Entry(
            name,
            figures=[
                figure("likeness", 0.1 + place, unit="energy", floor=0.002451),
                figure("novelty", 0.05, unit="share", floor=0.05),
                figure("nats per item", 101.9, "exact", "nats", baseline=102.1),
                figure("nats per item (bound)", 113.6, "bound", "nats", baseline=102.7),
                figure("precision (features pieria-c1 ab12cd34)", 0.5, floor=0.8),
                figure("C-FID (features pieria-c1 ab12cd34)", 12.34 - place, floor=1.234),
                figure("training time", 3.288, unit="s"),
                figure("training energy", 36.3, unit="J"),
                figure("sampling speed", 123456.0, unit="items/s"),
                figure("parameters", 398722.0, unit="numbers"),
            ],
        )
        for place, name in enumerate(names)
    ]
    return Comparison("digits", "50 steps", 0, entries, Path("runs/none"))


def test_the_table_of_six_families_fits_a_hundred_columns():
    table = [(found := compared(["gan", "gpt", "mix", "mixture", "ngram", "vae"])).header(), *found.rows()]
    widths = [max(len(row[place]) for row in table) for place in range(len(table[0]))]
    assert sum(widths) + 2 * (len(widths) - 1) <= 100
    assert all(len(row) == len(table[0]) for row in table)


def test_each_figure_stands_beside_its_own_baseline_and_real_data():
    rows = {row[0]: row[1:] for row in compared(["mix"]).rows()}
    assert rows["likeness"] == ["0.1", "", "0.002451"]
    assert rows["nats per item (exact)"] == ["101.9", "102.1", ""]
    assert rows["nats per item (bound)"] == ["113.6", "102.7", ""]
    assert rows["training time, s"] == ["3.288", "", ""]


def test_a_likelihood_and_c_fid_stand_in_one_table():
    found = compared(["gan", "vae"])
    titles = [row[0] for row in found.rows()]
    place = titles.index("nats per item (bound)")
    assert titles[place + 1] == "C-FID"
    assert found.rows()[place + 1][1:] == ["12.34", "11.34", "", "1.234"]
    assert "precision" not in titles
    assert "Best by C-FID (features pieria-c1 ab12cd34): vae (11.34)." in found.words
    page = report(found)
    assert "asks for quality and variety at once" in page
    for entry in found.entries:
        entry.figures = [f for f in entry.figures if not f["name"].startswith("C-FID")]
    assert "asks for quality and variety at once" not in report(found)


def test_the_verdict_names_who_loses_to_the_baseline():
    found = compared(["gan", "vae"])
    assert not any(said.startswith("Worse than") for said in found.verdict)
    exact = next(f for f in found.entries[1].figures if f["kind"] == "exact")
    exact["value"] = exact["baseline"] + 1
    assert "Worse than the baseline beside them: vae." in found.verdict


def test_the_report_opens_with_the_verdict_and_says_the_rest_beside_each_family():
    found = compared(["gan", "vae"])
    found.entries[0].words = ["Sixty sentences may follow."]
    page = report(found)
    assert page.index("Best by C-FID") < page.index("The table</h2>") < page.index("Sixty sentences may follow.")
    assert found.words[-1] == "gan: Sixty sentences may follow."


def test_a_family_that_failed_says_so_in_its_column():
    found = compared(["mix", "vae"])
    found.entries[1] = Entry("vae", error="it diverged")
    assert {row[2] for row in found.rows()} == {"failed"}
    assert "vae failed: it diverged" in found.words


def test_the_report_shows_quality_against_cost():
    page = report(compared(["mix", "vae"]))
    assert "Quality and cost</h2>" in page
    assert "<svg" in page


def test_features_are_asked_for_of_pictures_before_anything_is_fitted(tmp_path):
    with pytest.raises(UsageError, match="features=inception for text"):
        compare("python-manual", ["ngram"], features="inception", steps=5, out=tmp_path / "text", quiet=True)
    with pytest.raises(UsageError, match="no feature network is called 'vgg'"):
        compare("digits", ["mixture"], features="vgg", steps=5, out=tmp_path / "digits", quiet=True)
    assert not list(tmp_path.iterdir())


def test_a_comparison_is_asked_for_with_one_budget_over_data_that_are_there(tmp_path, capsys):
    with pytest.raises(UsageError, match="one of them"):
        compare("digits", ["vae"], time=1, steps=2, out=tmp_path / "c")
    with pytest.raises(DataError, match=r"nowhere\.csv does not exist"):
        compare(tmp_path / "nowhere.csv", ["vae"], as_="table", steps=2, out=tmp_path / "c")
    assert compare("digits", ["vae"], time="1h30m", dry_run=True, out=tmp_path / "c") is None
    said = capsys.readouterr()
    assert "5400 s each" in said.err
    assert not said.out
    assert not (tmp_path / "c").exists()
