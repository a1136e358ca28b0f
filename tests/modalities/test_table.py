import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pieria.data.batch import check
from pieria.errors import DataError, FormError, UsageError
from pieria.modalities.contract import Collection
from pieria.modalities.table import Rows, Table

ROOT = Path(__file__).parents[2]
MIRROR = Path(os.environ.get("PIERIA_DATA", ROOT.parent / "shared" / "data"))
real = pytest.mark.skipif(not MIRROR.is_dir(), reason=f"no mirror of the data sets at {MIRROR}; set PIERIA_DATA")


def made(**values):
    return Table(Table.Settings.of(values))


def file(tmp_path, text, name="a.csv"):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path / name


def round_trip(path, out, **values):
    """Read, encode, decode, write: what comes back, and the form."""
    table = made(**values)
    collection = table.read(path)
    table.learn(collection)
    x = table.encode(collection.artifacts)
    check(table.form, x)
    return table.write(table.decode(x), out)[0].read_text(), table, collection


MIXED = """name,age,height,born,smokes,code,grade,empty,always,note
Ann,31,1.70,1990-05-01,true,007,A,,x,one
Bob,?,1.65,1985-12-24,false,010,B,,x,?
"Cid, jr",27,1.825,?,true,007,A,,x,one
Dee,40,?,2001-01-31,?,099,?,,x,?
"""


def test_every_kind_of_column_comes_back_as_it_was_written(tmp_path):
    text, table, collection = round_trip(file(tmp_path, MIXED), tmp_path / "b.csv")
    kinds = {kind.name: kind.kind for kind in table.kinds}
    assert kinds == {
        "name": "category",
        "age": "integer",
        "height": "number",
        "born": "date",
        "smokes": "boolean",
        "code": "category",
        "grade": "category",
        "empty": "empty",
        "always": "constant",
        "note": "category",
    }
    # height was written with two or three digits; all come back with as many as they need
    assert text == MIXED.replace("1.70", "1.700").replace("1.65", "1.650")
    names = [column.name for column in table.form.columns]
    assert names[:3] == ["name", "age", "age missing"]
    assert "always" not in names
    assert "empty" not in names
    note = next(column for column in table.form.columns if column.name == "note")
    assert note.levels == 2  # "one" or missing
    told = "\n".join(collection.findings)
    for said in (
        "'age': 1 missing",
        "'empty' is empty",
        "'always' is always 'x'",
        "leading zeros",
        "'note' is 'one' or missing",
    ):
        assert said in told, said
    row = collection.artifacts[1]
    assert row["name"] == "Bob"
    assert row["age"] is None
    assert row["smokes"] is False
    assert row["born"].year == 1985


def test_numbers_are_standardised_on_what_was_learned(tmp_path):
    table = made()
    collection = table.read(file(tmp_path, "a,b\n" + "".join(f"{v},{v * 7 % 5}\n" for v in range(100))))
    train = collection.take(range(50))
    table.learn(train)
    x = table.encode(train.artifacts)
    assert abs(x[:, 0].mean()) < 1e-6
    assert abs(x[:, 0].std(correction=0) - 1) < 1e-6
    column = table.form.columns[0]
    assert (column.kind, column.shift) == ("integer", 24.5)
    assert torch.allclose(
        table.encode(collection.artifacts)[:, 0] * column.scale + column.shift, torch.arange(100.0), atol=1e-4
    )


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet"])
def test_every_format_is_written_and_read(tmp_path, suffix):
    table = made()
    collection = table.read(file(tmp_path, MIXED))
    table.learn(collection)
    path = table.write(collection.artifacts, tmp_path / f"b{suffix}", {"pieria:run": "0007"})[0]
    assert torch.equal(table.encode(made().read(path).artifacts), table.encode(collection.artifacts))
    fresh = made()
    again = fresh.read(path)
    fresh.learn(again)
    assert [kind.kind for kind in fresh.kinds] == [kind.kind for kind in table.kinds] or suffix == ".parquet"
    if suffix == ".parquet":
        from pyarrow import parquet

        assert parquet.read_schema(path).metadata[b"pieria:run"] == b"0007"


def test_parquet_types(tmp_path):
    frame = pd.DataFrame(
        {
            "i": pd.array([1, 2, None, 9], dtype="Int64"),
            "f": [0.5, float("nan"), 1.25, 3.0],
            "b": [True, False, True, True],
            "t": pd.to_datetime(["2020-01-01", "2020-01-02", "2021-05-05", "1999-12-31"]),
            "s": ["x", None, "y", "x"],
            "c": pd.Categorical(["u", "v", "u", "v"]),
            "z": [1, 1, 1, 1],
        }
    )
    frame.to_parquet(tmp_path / "a.parquet")
    table = made()
    collection = table.read(tmp_path / "a.parquet")
    table.learn(collection)
    kinds = [kind.kind for kind in table.kinds]
    assert kinds == ["integer", "number", "boolean", "date", "category", "category", "constant"]
    back = table.decode(table.encode(collection.artifacts))
    assert [back[row] for row in range(4)] == [collection.artifacts[row] for row in range(4)]
    assert back[0] == {"i": 1, "f": 0.5, "b": True, "t": pd.Timestamp("2020-01-01"), "s": "x", "c": "u", "z": 1}
    assert Table.sniff(tmp_path / "a.parquet").confidence > 0.5


def test_rows_may_be_dictionaries_or_a_frame():
    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}, {"a": None, "b": "x"}, {"a": 7, "b": None}]
    table = made()
    table.learn(Collection(rows))
    x = table.encode(rows)
    assert x.shape == (4, 4)
    assert torch.equal(x, table.encode(pd.DataFrame(rows)))
    assert [dict(row) for row in table.decode(x)] == rows
    assert torch.equal(table.encode([{"b": "y", "a": 2, "more": 5}]), x[1:2])
    with pytest.raises(FormError, match="no column 'b'"):
        table.encode([{"a": 1}])
    with pytest.raises(FormError, match=r"'b', row 1: 'q' is not a known category.*'x', 'y'"):
        table.encode([{"a": 1, "b": "q"}])
    with pytest.raises(FormError, match=r"'a', row 2: 'many' is no number"):
        table.encode([{"a": 1, "b": "x"}, {"a": "many", "b": "x"}])
    with pytest.raises(FormError, match="infinite"):
        table.encode([{"a": float("inf"), "b": "x"}])


@pytest.mark.parametrize("values", [[1e-300, 2e-300, 5e-299], [1e308, -1e308, 5e307], [1e15 + 0.5, 1e15, 1e15 + 2.5]])
def test_numbers_near_the_ends_of_the_floats_come_back(values):
    table = made()
    rows = [{"a": value} for value in values]
    table.learn(Collection(rows))
    back = [row["a"] for row in table.decode(table.encode(rows))]
    assert back == pytest.approx(values, rel=1e-6, abs=0)


def test_more_digits_than_float32_keeps_are_told(tmp_path):
    collection = made().read(file(tmp_path, f"a\n1\n{2**40}\n7\n"))
    assert any("about seven digits" in line for line in collection.findings)


def test_walking_over_rows_gives_what_asking_for_each_does(tmp_path):
    rows = made().read(file(tmp_path, MIXED)).artifacts
    assert list(rows) == [rows[place] for place in range(len(rows))]
    assert list(rows[1:3]) == list(rows.take([1, 2]))


def test_unknown_categories_and_new_gaps_can_count_as_missing(tmp_path):
    train, test = file(tmp_path, "a,b\n1,x\n2,y\n3,x\n"), file(tmp_path, "a,b\n5,z\n?,x\n", "t.csv")
    table = made()
    table.learn(table.read(train))
    with pytest.raises(FormError, match="unknown=missing"):
        table.encode(table.read(test).artifacts)
    table = made(unknown="missing")
    table.learn(table.read(train))
    x = table.encode(table.read(test).artifacts)
    assert [row["b"] for row in table.decode(x)] == [None, "x"]
    assert [row["a"] for row in table.decode(x)] == [5, None]


def test_a_part_that_looks_different_is_read_by_the_schema_of_the_first(tmp_path):
    train, test = file(tmp_path, "a,b\n1,x\n0,7\n1,x\n"), file(tmp_path, "a,b\n1,7\n1,7\n", "t.csv")
    table = made()
    table.learn(table.read(train))
    assert [dict(row) for row in table.decode(table.encode(table.read(test).artifacts))] == [{"a": 1, "b": "7"}] * 2
    back = Table.restore(table.settings, json.loads(json.dumps(table.state())))
    assert back.form == table.form
    assert torch.equal(back.encode(back.read(test).artifacts), table.encode(table.read(test).artifacts))


@pytest.mark.parametrize(
    ("text", "values", "kind"),
    [
        ("01/31/2020,02/01/2020,12/25/2021", {}, "%m/%d/%Y"),
        ("31/01/2020,01/02/2020,25/12/2021", {}, "%d/%m/%Y"),
        ("03/04/2020,05/06/2020", {"dayfirst": True}, "%d/%m/%Y"),
        ("2020-01-31 10:20:30,1969-01-01 00:00:00", {}, "%Y-%m-%d %H:%M:%S"),
        ("1958-03,1960-11,2020-01", {}, "%Y-%m"),
        ("31.12.1999,01.01.2000", {}, "%d.%m.%Y"),
    ],
)
def test_dates_come_back_in_their_own_format(tmp_path, text, values, kind):
    source = "when\n" + text.replace(",", "\n") + "\n"
    text, table, _ = round_trip(file(tmp_path, source), tmp_path / "b.csv", **values)
    assert table.kinds[0].format == kind
    assert text == source


def test_dates_without_zeros_are_told(tmp_path):
    text, _, collection = round_trip(file(tmp_path, "d\n1/2/2020\n11/22/2021\n"), tmp_path / "b.csv")
    assert text == "d\n01/02/2020\n11/22/2021\n"
    assert any("leading zeros" in line for line in collection.findings)


@pytest.mark.parametrize("words", ["True,False", "TRUE,FALSE", "true,false"])
def test_booleans_keep_their_spelling(tmp_path, words):
    source = "b\n" + words.replace(",", "\n") + "\n"
    text, table, collection = round_trip(file(tmp_path, source), tmp_path / "b.csv")
    assert text == source
    assert table.form.columns[0].levels == 2
    assert collection.artifacts[0]["b"] is True


def test_a_target_of_few_whole_numbers_is_a_class(tmp_path):
    path = file(tmp_path, "a,num\n" + "".join(f"{v}.5,{v % 5}\n" for v in range(40)))
    text, table, _ = round_trip(path, tmp_path / "b.csv", target="num")
    assert table.form.columns[1].levels == 5
    assert text == path.read_text()
    text, table, _ = round_trip(path, tmp_path / "b.csv", categories="num")
    assert table.form.columns[1].levels == 5
    with pytest.raises(UsageError, match="Did you mean 'num'"):
        made(target="nun").read(path)


def test_identifiers_are_refused_or_left_out(tmp_path):
    path = file(tmp_path, "id,mail,a\n" + "".join(f"{v},p{v}@x.org,{v % 3}\n" for v in range(300)))
    with pytest.raises(DataError, match=r"'mail' has 300 different words.*drop=mail"):
        made().read(path)
    text, _, collection = round_trip(path, tmp_path / "b.csv", drop="mail")
    assert text.startswith("id,a\n0,0\n")
    assert any("left out: mail" in line for line in collection.findings)
    assert any("'id' differs in every row" in line for line in collection.findings)
    assert len(made(most_categories=300).read(path)) == 300
    assert list(made().read(path, column="a").artifacts[0]) == ["a"]


def test_groups_are_the_columns_with_few_values(tmp_path):
    collection = made().read(file(tmp_path, "sex,age,town\nf,3,A\nm,4,?\nf,5,A\n"))
    assert collection.groups["sex"] == ["f", "m", "f"]
    assert set(collection.groups) == {"sex", "town"}
    assert collection.take([1]).groups["town"] == ["(missing)"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_found(tmp_path, separator):
    collection = made().read(file(tmp_path, "a;b\n1;2\n3;4\n5;7\n".replace(";", separator)))
    assert collection.artifacts[0] == {"a": 1, "b": 2}


def test_quotes_line_breaks_letters_and_marks(tmp_path):
    source = 'a,b\n"x\ny",1\n"say ""ä""",2\n"z, w",3\n'
    text, _, collection = round_trip(file(tmp_path, b"\xef\xbb\xbf" + source.encode()), tmp_path / "b.csv")
    assert text == source
    assert collection.artifacts[1]["a"] == 'say "ä"'
    latin = made(encoding="latin-1").read(file(tmp_path, "a,b\nä,1\nö,2\n".encode("latin-1"), "l.csv"))
    assert latin.artifacts[0]["a"] == "ä"


def test_without_a_header(tmp_path):
    path = file(tmp_path, "5.1,3.5,x\n4.9,3.0,y\n")
    assert len(made(header=False).read(path)) == 2
    with pytest.raises(DataError, match="header=false"):
        made().read(file(tmp_path, "5.1,3.5\n4.9,3.0\n", "n.csv"))


BAD = {
    "long row": ("a,b\n1,2\n3,4,5\n6,7\n", r"line 3 has 3 fields.*ragged=skip"),
    "short row": ("a,b\n1,2\n3\n6,7\n", r"line 3 has 1 fields"),
    "doubled": ("a,b,a\n1,2,3\n", "'a' occurs twice"),
    "no name": ("a,,c\n1,2,3\n", "column 2 has no name"),
    "infinity": ("a,b\n1.5,2\n2.5,inf\n", r"column 'b', row 2: 'inf' is infinite"),
    "infinity in words": ("a,b\n-Infinity,2\n2.5,3\n", r"column 'a', row 1"),
    "empty": ("", "is empty"),
    "blank": ("\n\n  \n", "is empty"),
    "one line": ("a,b\n", "one line|no rows"),
    "bytes": (b"a,b\n\x00\x01,2\n", "bytes, not text"),
    "latin": ("a,b\nä,1\n".encode("latin-1"), "encoding=latin-1"),
    "decimal comma": ("a;b\n" + "".join(f"{v},5;2\n" for v in range(300)), "decimal comma"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_named_with_their_cure(tmp_path, case):
    text, said = BAD[case]
    path = file(tmp_path, text)
    with pytest.raises(DataError, match=said) as error:
        made().read(path)
    assert str(path) in str(error.value)
    assert Table.sniff(path).confidence <= 0.6


def test_ragged_rows_can_be_left_out_and_are_counted(tmp_path):
    collection = made(ragged="skip").read(file(tmp_path, "a,b\n1,2\n3,4,5\n6\n6,7\n"))
    assert len(collection) == 2
    assert any("2 of 4 rows" in line and "line 3" in line for line in collection.findings)


def test_bad_paths(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "torn.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 1000)[:-10])
    (tmp_path / "no.parquet").write_bytes(b"no parquet")
    (tmp_path / "a.xlsx").write_bytes(b"x")
    for name in ("none.csv", "folder", "torn.csv.gz", "no.parquet", "a.xlsx"):
        with pytest.raises(DataError, match=name):
            made().read(tmp_path / name)
        assert Table.sniff(tmp_path / name).confidence == 0
    with pytest.raises(DataError, match="no column of the table varies"):
        round_trip(file(tmp_path, "a,b\n1,\n1,\n"), tmp_path / "b.csv")
    table = made()
    table.learn(Collection([{"a": 1.5, "b": "x"}, {"a": 2.5, "b": "y"}]))
    with pytest.raises(UsageError, match="xlsx"):
        table.write([{"a": 1.5, "b": "x"}], tmp_path / "b.xlsx")
    with pytest.raises(FormError, match="shape"):
        table.decode(torch.zeros(3, 5))
    with pytest.raises(FormError, match="outside 0 to 1"):
        table.decode(torch.tensor([[0.0, 2.0]]))
    with pytest.raises(FormError, match="NaN"):
        table.decode(torch.tensor([[float("nan"), 0.0]]))
    with pytest.raises(FormError, match="no rows"):
        table.encode([])
    with pytest.raises(UsageError, match="grid"):
        table.learn(Collection([{"a": 1}]), form="grid")


def test_the_preview_is_an_aligned_text(tmp_path):
    table = made()
    collection = table.read(file(tmp_path, "a,city\n" + "".join(f"{v},{'東京' if v % 2 else 'Rome'}\n" for v in range(30))))
    table.learn(collection)
    lines = table.preview(collection.artifacts, tmp_path / "p", {"run": "7"}).read_text().splitlines()
    assert lines[0] == "# run: 7"
    assert lines[2:5] == [" a  city", " 0  Rome", " 1  東京"]
    assert lines[-1] == "… and 10 more rows"


COLUMNS = {
    "whole": st.integers(-(10**6), 10**6),
    "number": st.decimals(-1000, 1000, places=2).map(float),
    "word": st.sampled_from(["a", "b", "c d", 'q"t', "e,f", "Ω"]),
    "truth": st.booleans(),
    "day": st.dates(min_value=pd.Timestamp("1900-01-01").date(), max_value=pd.Timestamp("2100-01-01").date()),
}


@st.composite
def tables(draw):
    names = draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, max_size=5, unique=True))
    rows = draw(st.integers(2, 12))
    gaps = {name: draw(st.booleans()) for name in names}
    return [
        {name: None if gaps[name] and draw(st.booleans()) else draw(COLUMNS[name]) for name in names} for _ in range(rows)
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables())
def test_any_table_comes_back_from_its_file(tmp_path, rows):
    path = tmp_path / "a.csv"
    pd.DataFrame(rows, dtype=object).to_csv(path, index=False)
    table = made()
    collection = table.read(path)
    try:
        table.learn(collection)
    except DataError:
        assert not any(kind.varies for kind in collection.artifacts.kinds)
        return
    x = table.encode(collection.artifacts)
    check(table.form, x)
    back = table.decode(x)
    for place, row in enumerate(rows):
        for name, value in row.items():
            found = back[place][name]
            if value is None:
                assert found is None
            elif name == "day":
                assert found.date() == value
            elif name == "number":
                assert found == pytest.approx(value, abs=1e-3)
            elif name == "whole":
                assert found == pytest.approx(value, abs=1)
            else:
                assert found == value
    table.write(back, tmp_path / "b.csv")
    assert torch.allclose(table.encode(table.read(tmp_path / "b.csv").artifacts), x, atol=1e-5)


@real
@pytest.mark.parametrize("name", ["adult/train.csv.gz", "heart/cleveland.csv", "compas/compas-two-years.csv"])
def test_real_tables_come_back_byte_for_byte(tmp_path, name):
    path = MIRROR / "tables" / name
    table = made()
    collection = table.read(path)
    table.learn(collection)
    out = table.write(table.decode(table.encode(collection.artifacts)), tmp_path / path.name)[0]
    unpack = gzip.decompress if name.endswith(".gz") else bytes
    assert unpack(out.read_bytes()).strip() == unpack(path.read_bytes()).strip()
    assert isinstance(collection.artifacts, Rows)


@real
def test_the_test_part_of_adult_fits_the_train_part():
    table = made(target="income")
    table.learn(table.read(MIRROR / "tables/adult/train.csv.gz"))
    test = table.read(MIRROR / "tables/adult/test.csv.gz")
    assert len(table.examples(test)) == 16_281


def test_two_hundred_thousand_rows_are_quick(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"a": rng.normal(size=200_000).round(4), "b": rng.integers(0, 99, 200_000), "c": rng.choice(list("xyz"), 200_000)}
    )
    frame.to_csv(tmp_path / "a.csv", index=False)
    import time

    start = time.process_time()
    table = made()
    collection = table.read(tmp_path / "a.csv")
    table.learn(collection)
    x = table.encode(collection.artifacts)
    table.decode(x)
    assert time.process_time() - start < 5  # about 0.5 s; a loop over rows would take ten times the limit


def test_reading_and_sniffing_import_no_torch(tmp_path):
    file(tmp_path, MIXED)
    code = (
        "import sys; from pathlib import Path; from pieria.modalities.table import Table; p = Path(sys.argv[1]); "
        "assert 'pandas' not in sys.modules; Table.sniff(p); Table(Table.Settings()).read(p); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.csv")], check=True, cwd=ROOT)
