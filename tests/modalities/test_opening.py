import json
import zipfile

import pytest

from pieria.data import catalogue
from pieria.errors import DataError, PieriaError, UsageError
from pieria.modalities import finding
from pieria.modalities.opening import look, open_data
from tests.data.mirror import from_mirror, needs_mirror, own_cache  # noqa: F401

PROSE = "".join(f"On day {day} it rained, and nobody came. {'abcdefgh'[day % 8]}\n\n" for day in range(200))


@pytest.fixture
def prose(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text(PROSE)
    return path


# ---- the published figures of the named sets -------------------------------------------------------------------------


@needs_mirror
def test_tinyshakespeare_has_its_published_split(from_mirror):  # noqa: F811
    data = open_data("tinyshakespeare")
    assert data.form.vocabulary == 65
    sizes = {part: data.examples(part).scored() for part in data.parts}
    assert sizes["test"] == 111_540
    assert sizes["train"] + sizes["validation"] == 1_003_854
    both = data.examples("train+validation")
    assert both.scored() == 1_003_854
    assert data.modality.decode(both.batch([0]).context)[0] == "F"
    assert data.fingerprint.startswith("86c4e6aa9db7")
    assert "public-domain" in data.licence


@needs_mirror
def test_penn_treebank_has_its_published_counts(from_mirror):  # noqa: F811
    data = open_data("ptb")
    assert data.form.vocabulary == 10_000
    assert {part: data.examples(part).scored() for part in data.parts} == {
        "train": 929_589, "validation": 73_760, "test": 82_430,
    }  # fmt: skip
    assert data.modality.tokenisation == "word (10,000 symbols, closed, one of them the end)"
    assert data.modality.decode(data.examples("test").batch([0]).x) == [data.parts["test"].artifacts[0]]


@needs_mirror
def test_names_have_makemores_split(from_mirror):  # noqa: F811
    data = open_data("names")
    assert data.form.vocabulary == 27
    assert data.form.length == 16
    assert len(data.parts["train"]) + len(data.parts["validation"]) == 31_033
    assert data.examples("test").scored() == 7_166


@needs_mirror
def test_wikitext_has_its_published_counts(from_mirror):  # noqa: F811
    data = open_data("wikitext-2")
    assert data.form.vocabulary == 33_278
    assert {part: data.examples(part).scored() for part in data.parts} == {
        "train": 2_088_628, "validation": 217_646, "test": 245_569,
    }  # fmt: skip


@needs_mirror
@pytest.mark.parametrize("name", catalogue.entries())
def test_every_named_set_opens(name, from_mirror):  # noqa: F811
    entry = catalogue.find(name)
    if entry.modality not in finding.MODALITIES:
        pytest.skip(f"{entry.modality} is not built yet")
    if name in ("ptb", "wikitext-2", "tinyshakespeare", "names"):
        pytest.skip("opened above")
    data = open_data(name)
    assert set(data.parts) == {"train", "validation", "test"}
    assert data.licence != "not stated"
    assert data.examples("test").scored() > 0
    assert len(data.fingerprint) in (32, 64)


def test_the_manual_is_embedded_text(own_cache):  # noqa: F811
    data = open_data("python-manual")
    assert data.examples("train").scored() > 300_000
    assert data.licence.startswith("PSF")


# ---- one's own data --------------------------------------------------------------------------------------------------


def test_a_path_is_found_read_split_and_learned(prose):
    data = open_data(prose)
    assert data.reason == "a .txt file that decodes as text"
    assert data.licence == data.consent == "not stated"
    sizes = {part: data.examples(part).scored() for part in ("train", "validation", "test")}
    assert sum(sizes.values()) == len(PROSE)
    assert abs(sizes["train"] / len(PROSE) - 0.8) < 0.01
    assert any("split by place" in finding for finding in data.findings)
    assert data.condition is None


def test_licence_and_consent_are_told_or_lie_beside(prose):
    assert open_data(prose, licence="CC0").licence == "CC0"
    side = prose.with_name("mine.about.json")
    side.write_text(json.dumps({"licence": "mine", "consent": "all agreed", "source": "a diary"}))
    data = open_data(prose)
    assert (data.licence, data.consent, data.source) == ("mine", "all agreed", "a diary")
    # a run that was fitted before they were stated finds them when its data are opened again
    again = open_data(prose, licence="not stated", consent="not stated")
    assert (again.licence, again.consent, again.fingerprint) == ("mine", "all agreed", data.fingerprint)
    side.write_text(json.dumps({"license": "mine"}))
    with pytest.raises(UsageError, match="Did you mean 'licence'"):
        open_data(prose)
    side.write_text("{")
    with pytest.raises(DataError, match=r"mine\.about\.json cannot be read"):
        open_data(prose)


def test_what_is_said_of_a_named_set_holds_too():
    data = open_data("digits", consent="asked by us")
    assert data.consent == "asked by us"
    assert data.licence == catalogue.find("digits").licence


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_text_in_another_encoding_is_told_how_to_name_it(tmp_path, encoding):
    path = tmp_path / "mine.txt"
    path.write_bytes("Käse und Öl, Straße und Fluß.\n\n".encode(encoding) * (50 if encoding == "latin-1" else 1))
    with pytest.raises(DataError, match=r"mine\.txt is not utf-8 .*--set encoding=latin-1"):
        open_data(path)
    if encoding == "latin-1":
        assert "encoding" in open_data(path, settings={"encoding": encoding}).reason


def test_three_series_are_split_by_item(tmp_path):
    for name in "abc":
        rows = "".join(f"2020-01-{day:02},{day * ord(name)}\n" for day in range(1, 21))
        (tmp_path / f"{name}.csv").write_text(f"when,what\n{rows}")
    data = open_data(tmp_path, as_="series")
    assert {part: len(collection) for part, collection in data.parts.items()} == {"train": 1, "validation": 1, "test": 1}
    assert any(line.startswith("split by item") for line in data.findings)


def test_the_split_of_items_does_not_depend_on_their_order(tmp_path):
    names = [f"name{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(200)]
    parts = []
    for order in (names, names[::-1]):
        (tmp_path / "a.txt").write_text("\n".join(order))
        parts.append({part: set(c.artifacts) for part, c in open_data(tmp_path / "a.txt").parts.items()})
    assert parts[0] == parts[1]
    assert all(parts[0].values())


def test_a_character_that_only_test_has_is_told_not_fatal(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(PROSE + "on many öays it rained.")
    data = open_data(path)
    assert any("'ö'" in finding and "reserved" in finding for finding in data.findings)
    assert data.examples("test").scored() > 0
    with pytest.raises(DataError, match="'ö'"):
        open_data(path, settings={"unknown": "no"}).examples("test")


def test_items_that_were_cut_are_found(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"number {i} " * 9}) for i in range(40)))
    data = open_data(path, settings={"length": 20})
    data.examples("train")
    data.examples("train")
    assert sum(finding.startswith("train: ") and "longer than 20 symbols" in finding for finding in data.findings) == 1


def test_a_learned_modality_opens_what_a_run_saved(prose, tmp_path):
    learned = open_data(prose, settings={"length": 32}).modality
    again = type(learned).restore(learned.settings, learned.state())
    other = tmp_path / "other.txt"
    other.write_text("On day 7 it came.\n" * 9)
    data = open_data(other, modality=again)
    assert data.form == learned.form
    assert data.reason == "as the run was fitted"
    assert data.modality.decode(data.examples("test").batch([0]).context)[0] in PROSE


def test_a_zip_is_opened_and_a_bad_one_refused(tmp_path, own_cache):  # noqa: F811
    for name, member in (("good.zip", "texts/a.txt"), ("bad.zip", "../a.txt")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(member, PROSE)
    assert open_data(tmp_path / "good.zip").examples("train").scored() > 1000
    with pytest.raises(DataError, match=r"bad\.zip holds the name '\.\./a\.txt'"):
        open_data(tmp_path / "bad.zip")
    assert not (tmp_path.parent / "a.txt").exists()


def test_very_little_data(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a\n")
    with pytest.raises(DataError, match=r"a\.txt holds almost nothing.*Give more"):
        open_data(path)
    path.write_text("a few words")
    few = open_data(path)
    assert list(few.parts) == ["train"]
    assert any("too short to hold anything back" in finding for finding in few.findings)
    with pytest.raises(DataError, match="no test part"):
        few.examples("test")
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "one"}\n{"text": "two"}\n')
    two = open_data(tmp_path / "a.jsonl")
    assert len(two.parts["train"]) == 3
    assert any("fewer than three different" in finding for finding in two.findings)


@pytest.mark.parametrize(
    ("data", "asked", "said", "code"),
    [
        ("tinyshakespear", {}, "Did you mean 'tinyshakespeare'", 2),
        ("nowhere/a.txt", {}, "nowhere/a.txt does not exist", 1),
        ("{prose}", {"as_": "txet"}, "Did you mean 'text'", 2),
        ("{prose}", {"settings": {"lenght": 3}}, "Did you mean 'length'", 2),
        ("{prose}", {"settings": {"length": -3}}, "length = -3", 2),
        ("{prose}", {"column": "text"}, "--column text", 2),
        ("{empty}", {}, "empty.txt is empty", 1),
        ("{folder}", {}, "nothing is empty", 1),
    ],
)
def test_wrong_questions_are_told(data, asked, said, code, prose, tmp_path):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "nothing").mkdir()
    path = data.format(prose=prose, empty=tmp_path / "empty.txt", folder=tmp_path / "nothing")
    with pytest.raises(PieriaError, match=said) as caught:
        open_data(path, **asked)
    assert caught.value.exit_code == code


def test_an_unknown_part_is_refused(prose):
    with pytest.raises(UsageError, match="Did you mean 'train'"):
        open_data(prose).examples("trian")


def test_looking_gives_plain_words(prose):
    facts = look(prose)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["read as"] == "text (a .txt file that decodes as text)"
    assert facts["licence"] == "not stated"
    assert sum(facts["parts"].values()) == len(PROSE)


def test_a_folder_with_train_and_test_keeps_them_apart(tmp_path, own_cache):  # noqa: F811
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, word in (("train", "learn"), ("test", "try")):
        (folder / f"{name}.txt").write_text("".join(f"{word} {i}\n\n" for i in range(200)))
    data = open_data(folder)
    assert "try" not in data.parts["train"].artifacts[0] + data.parts["validation"].artifacts[0]
    assert data.parts["test"].artifacts[0].startswith("try 0")
    assert any("split as published, validation from the end of train" in finding for finding in data.findings)
    (folder / "dev.txt").write_text("choose\n\n" * 40)
    assert open_data(folder).parts["validation"].artifacts[0].startswith("choose")
    (folder / "dev.txt").write_text("choose\n" * 40)
    with pytest.raises(DataError, match=r"read in two ways .*items=…"):
        open_data(folder)
    (folder / "notes.txt").write_text("more of it\n\n" * 40)
    assert any("4 files" in finding for finding in open_data(folder).findings)


def test_a_folder_with_one_file_is_that_file(tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(f"name{i}" for i in range(50)))
    assert len(open_data(tmp_path).parts["train"]) > 20
