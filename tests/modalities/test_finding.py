import subprocess
import sys

import pytest

from pieria.errors import DataError, UsageError
from pieria.modalities import finding
from pieria.modalities.contract import Modality, Sniff


def test_listing_imports_no_modality():
    code = (
        "import sys; from pieria.modalities.finding import MODALITIES; assert 'text' in MODALITIES; "
        "heavy = {'torch', 'PIL', 'pandas', 'pieria.modalities.text'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", finding.MODALITIES)
def test_every_modality_keeps_the_contract(name):
    found = finding.load(name)
    assert issubclass(found, Modality)
    assert found.name == name
    assert found.forms
    assert found.suffixes
    assert found(found.Settings.of({})).settings is not None


def test_told_is_believed_and_unknown_is_refused(tmp_path):
    assert finding.find(tmp_path / "x.csv", as_="text") == ("text", "told")
    with pytest.raises(UsageError, match="Did you mean 'text'"):
        finding.find(tmp_path, as_="txt")


def test_text_is_found_with_its_reason(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("Once upon a time.\n" * 10)
    assert finding.find(path) == ("text", "a .txt file that decodes as text")


def test_what_nobody_reads_is_told_with_every_reason(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(range(256)) * 4)
    with pytest.raises(DataError, match=r"a\.bin is not data that Pieria can read .*text: does not decode as text"):
        finding.find(path)
    with pytest.raises(DataError, match="does not exist"):
        finding.find(tmp_path / "nowhere.txt")


def test_where_two_fit_equally_it_asks(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("Once upon a time.\n" * 10)

    class Tales(finding.load("text")):
        name = "tales"

        @classmethod
        def sniff(cls, path, column=None):
            return Sniff(0.85, "begins with once upon a time")

    monkeypatch.setattr(finding, "MODALITIES", {"text": "pieria.modalities.text", "tales": "tales"})
    monkeypatch.setitem(sys.modules, "tales", type("Module", (), {"MODALITY": Tales}))
    with pytest.raises(UsageError, match=r"tales \(begins.*\) or text \(a \.txt.*--as tales or --as text") as caught:
        finding.find(path)
    assert caught.value.exit_code == 2


def test_the_forms_of_a_name_and_of_a_path(tmp_path):
    assert finding.forms_of("tinyshakespeare") == ("text", "as the catalogue says", ("tokens",))
    path = tmp_path / "a.txt"
    path.write_text("Once upon a time.\n" * 10)
    assert finding.forms_of(str(path))[0] == "text"
    with pytest.raises(DataError, match=r"nowhere\.csv does not exist"):
        finding.forms_of(str(tmp_path / "nowhere.csv"), as_="table")
