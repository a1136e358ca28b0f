import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from pieria.data.batch import check
from pieria.errors import DataError, FormError, UsageError
from pieria.modalities.contract import Collection
from pieria.modalities.dates import dates_of, years_of
from pieria.modalities.series import Measured, Series
from pieria.modalities.table import Table

ROOT = Path(__file__).parents[2]
MIRROR = Path(os.environ.get("PIERIA_DATA", ROOT.parent / "shared" / "data"))
real = pytest.mark.skipif(not MIRROR.is_dir(), reason=f"no mirror of the data sets at {MIRROR}; set PIERIA_DATA")


def made(**values):
    return Series(Series.Settings.of(values))


def file(tmp_path, text, name="a.csv"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def months(count=24, start="2000-01"):
    dates = (np.datetime64(start) + np.arange(count)).astype(str)
    return "month,level\n" + "".join(f"{date},{place * 1.5:.2f}\n" for place, date in enumerate(dates))


@pytest.mark.parametrize(
    "text",
    [
        months(),
        "day,y\n2020-02-28,1.5\n2020-02-29,2.5\n2020-03-01,3.5\n2021-12-31,0.5\n",
        "day,y\n28.02.2020,1.5\n29.02.2020,2.5\n01.03.2021,3.5\n",
        "t,y\n0.25,1\n0.5,2\n3,7\n",
        "when,y\n1969-12-31 23:59:59,1.5\n2024-02-29 12:30:01,2.5\n",
    ],
    ids=["months", "days", "days of another format", "numbers", "seconds"],
)
def test_a_series_comes_back_as_it_was_written(tmp_path, text):
    series = made()
    collection = series.read(file(tmp_path, text))
    series.learn(collection)
    x = series.encode(collection.artifacts)
    check(series.form, x)
    assert x.shape == (1, text.count("\n") - 1, 2)
    back = series.decode(x)[0]
    assert (back.x == collection.artifacts[0].x).all()
    assert (back.y == collection.artifacts[0].y).all()
    assert series.write([back], tmp_path / "b.csv")[0].read_text() == text
    restored = Series.restore(series.settings, json.loads(json.dumps(series.state())))
    assert torch.equal(restored.encode(collection.artifacts), x)
    assert (restored.decode(x)[0].x == back.x).all()
    assert not back.observed


def test_dates_are_decimal_years():
    series = made()
    stamps = np.array(["2000-01-01", "2000-07-01", "2001-01-01"], "datetime64[us]")
    curve = Measured(stamps, np.zeros(3))
    series.learn(Collection([curve]))
    assert series.encode([curve])[0, :, 0].tolist() == [2000, 2000.5, 2001]  # months are twelfths
    assert years_of(stamps, monthly=False).tolist() == [2000, 2000 + 182 / 366, 2001]


@settings(max_examples=200, deadline=None)
@given(st.integers(-(10**5), 10**5), st.sampled_from(["%Y-%m", "%Y-%m-%d"]))
def test_any_date_survives_as_a_decimal_year(place, fmt):
    unit = "M" if fmt == "%Y-%m" else "D"
    stamp = np.array([place // 40 if unit == "M" else place]).astype(f"datetime64[{unit}]").astype("datetime64[us]")
    assert (dates_of(years_of(stamp, unit == "M"), fmt) == stamp).all()


def test_gaps_disorder_and_repeated_dates_are_told(tmp_path):
    rows = ["2000-03,2000.2,3", "2000-01,2000.04,1", "2000-02,2000.1,?", "2000-07,2000.5,7"]
    rows += ["2000-04,2000.3,4", "2000-05,2000.35,5", "2000-06,2000.45,6"]
    text = "\n".join(["month,decimal,level", *rows])
    collection = made().read(file(tmp_path, text))
    curve = collection.artifacts[0]
    assert curve.y.tolist() == [1, 3, 4, 5, 6, 7]
    assert curve.names == ("month", "level")
    told = "\n".join(collection.findings)
    for said in (
        "6 points",
        "1 rows without a value",
        "sorted",
        "'decimal' repeats the dates",
        "2000-01 to 2000-07",
        "1 gaps",
    ):
        assert said in told, said


def test_several_values_at_one_place(tmp_path):
    path = file(tmp_path, "t,y\n1,2\n2,5\n2,7\n3,1\n")
    with pytest.raises(DataError, match=r"1 places have several values, the first 2.*duplicates=mean"):
        made().read(path)
    collection = made(duplicates="mean").read(path)
    assert collection.artifacts[0].y.tolist() == [2, 6, 1]
    assert any("their mean" in line for line in collection.findings)


def test_several_columns_ask_which(tmp_path):
    path = file(tmp_path, "month,a,b\n2000-01,1,2\n2000-02,2,9\n2000-03,5,4\n")
    with pytest.raises(UsageError, match=r"a, b.*--column a"):
        made().read(path)
    assert made().read(path, column="b").artifacts[0].y.tolist() == [2, 9, 4]
    assert made(x="a").read(path, column="b").artifacts[0].x.tolist() == [1, 2, 5]
    with pytest.raises(UsageError, match="Did you mean"):
        made().read(path, column="bb")
    assert Series.sniff(path, "b").confidence == 0.9
    assert Series.sniff(path).confidence < Table.sniff(path).confidence


def test_the_end_is_held_out(tmp_path):
    series = made()
    collection = series.read(file(tmp_path, months(100)))
    parts = series.split(collection)
    lengths = {name: len(part.artifacts[0]) for name, part in parts.items()}
    assert lengths == {"train": 70, "validation": 10, "test": 20}
    joined = np.concatenate([parts[name].artifacts[0].x for name in ("train", "validation", "test")])
    assert (joined == collection.artifacts[0].x).all()
    series.learn(parts["train"])
    examples = series.examples(parts["train"])
    assert len(examples) == 1
    assert examples.batch([0]).x.shape == (1, 70, 2)
    assert examples.batch([0]).x.dtype == torch.float64


def test_a_folder_of_series_is_many_curves_of_any_length(tmp_path):
    for place in range(5):
        file(tmp_path, months(10 + place), f"{place}.csv")
    series = made()
    collection = series.read(tmp_path)
    assert [len(curve) for curve in collection.artifacts] == [10, 11, 12, 13, 14]
    assert Series.sniff(tmp_path).confidence > 0.8
    parts = series.split(collection)
    assert sorted(curve.name for part in parts.values() for curve in part.artifacts) == list("01234")
    series.learn(collection)
    batch = series.examples(collection).batch([0, 4])
    assert batch.mask.sum(1).tolist() == [10, 14]
    assert torch.isfinite(batch.x).all()
    files = series.write(collection.artifacts, tmp_path / "out")
    assert [path.name for path in files] == [f"000{place}.csv" for place in range(5)]


def test_draws_are_written_side_by_side_and_plotted(tmp_path):
    series = made()
    collection = series.read(file(tmp_path, months(30)))
    series.learn(collection)
    seen = collection.artifacts[0]
    draws = [replace(seen, y=seen.y + shift, observed=False) for shift in (1, 2)]
    text = series.write(draws, tmp_path / "b.csv")[0].read_text()
    assert text.startswith("month,level_1,level_2\n2000-01,1.00,2.00\n")
    shown = series.preview([seen, *draws], tmp_path / "p.png", {"pieria:run": "0007"})
    with Pillow.open(shown) as plot:
        assert plot.size == (1000, 450)
        assert plot.text["pieria:run"] == "0007"
        assert len(plot.convert("RGB").getcolors(100_000)) > 50
    with pytest.raises(UsageError, match="different places"):
        series.write([seen, seen.points(slice(3, 9))], tmp_path / "c.csv")


def test_bad_series_are_named(tmp_path):
    cases = {
        "words.csv": ("a,b\nx,y\nz,w\n", "no column of dates or numbers"),
        "alone.csv": ("a\n1\n2\n", "no column of numbers beside"),
        "one.csv": ("t,y\n1,2\n", "1 points"),
        "gone.csv": ("t,y\n1,?\n2,?\n3,?\n", "no column of numbers"),
        "inf.csv": ("t,y\n1,2.5\n2,inf\n", "infinite"),
        "long.csv": ("t,y\n1,2\n2,3,4\n", "line 3"),
        "empty.csv": ("", "empty"),
        "dates.csv": ("t,u\n2000-01-01,2001-01-01\n2000-01-02,2001-01-02\n", "no column of numbers"),
        "mixed.csv": ("t,y\n1,2\n2,many\n", "no column of numbers"),
    }
    for name, (text, said) in cases.items():
        path = file(tmp_path, text, name)
        with pytest.raises(DataError) as error:
            made().read(path)
        assert said in str(error.value), (name, str(error.value))
        assert name in str(error.value)
        assert Series.sniff(path).confidence < 0.6, name
    with pytest.raises(DataError, match="does not exist"):
        made().read(tmp_path / "none.csv")
    series = made()
    with pytest.raises(FormError, match="learn"):
        _ = series.form
    dated = Measured(np.array(["2000-01-01", "2000-01-02"], "datetime64[us]"), np.zeros(2))
    plain = Measured(np.array([1.0, 2.0]), np.array([0.0, np.nan]))
    series.learn(Collection([dated]))
    with pytest.raises(FormError, match="numbers"):
        series.encode([plain])
    series.learn(Collection([plain]))
    with pytest.raises(FormError, match="NaN"):
        series.encode([plain])
    with pytest.raises(FormError, match="no series"):
        series.encode([])
    with pytest.raises(FormError, match="shape"):
        series.decode(torch.zeros(3, 2))
    with pytest.raises(UsageError, match="together less than 1"):
        made(test=0.6, validation=0.5).split(Collection([Measured(np.arange(30.0), np.arange(30.0))]))
    with pytest.raises(DataError, match="3 points to split"):
        series.split(Collection([Measured(np.arange(3.0), np.arange(3.0))]))


@real
@pytest.mark.parametrize(
    ("name", "points", "measured"),
    [
        ("mauna-loa-co2-monthly.csv", 820, "co2_ppm"),
        ("sunspots-monthly.csv", 2820, "sunspots"),
        ("airline-passengers-monthly.csv", 144, "passengers"),
    ],
)
def test_the_real_ones_are_seen_as_series(tmp_path, name, points, measured):
    path = MIRROR / "series" / name
    assert Series.sniff(path).confidence > Table.sniff(path).confidence
    series = made()
    collection = series.read(path)
    curve = collection.artifacts[0]
    assert (len(curve), curve.names) == (points, ("month", measured))
    series.learn(collection)
    back = series.decode(series.encode([curve]))[0]
    assert (back.x == curve.x).all()
    wanted = [line.split(",")[:: 2 if name.startswith("mauna") else 1] for line in path.read_text().splitlines()]
    written = [line.split(",") for line in series.write([back], tmp_path / "b.csv")[0].read_text().splitlines()]
    assert written == wanted


@real
@pytest.mark.parametrize("name", ["adult/train.csv.gz", "heart/cleveland.csv", "wine-quality/red.csv"])
def test_real_tables_are_not_series(name):
    path = MIRROR / "tables" / name
    assert Series.sniff(path).confidence < Table.sniff(path).confidence


def test_reading_and_sniffing_import_no_torch(tmp_path):
    path = file(tmp_path, months())
    code = (
        "import sys; from pathlib import Path; from pieria.modalities.series import Series; p = Path(sys.argv[1]); "
        "assert 'pandas' not in sys.modules and 'matplotlib' not in sys.modules; Series.sniff(p); "
        "Series(Series.Settings()).read(p); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=ROOT)
