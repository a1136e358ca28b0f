import gzip
import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pieria.data import texts
from pieria.data.examples import ItemExamples, StreamExamples
from pieria.errors import DataError, FormError, UsageError
from pieria.forms import Tokens
from pieria.modalities import text as text_module
from pieria.modalities.contract import Collection
from pieria.modalities.text import Text
from tests.data.mirror import own_cache  # noqa: F401

PROSE = "It was a bright cold day in April, and the clocks were striking thirteen.\n\n" * 30
NAMES = ["emma", "olivia", "ava", "isabella", "sophia"] * 8


def make(**values):
    return Text(Text.Settings.of(values))


def write(path, content):
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


# ---- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.md"])
def test_prose_is_one_stream_and_says_so(name, tmp_path):
    collection = make().read(write(tmp_path / name, PROSE))
    assert collection.stream
    assert collection.artifacts == [PROSE]
    assert any("read as one stream: blank lines" in finding for finding in collection.findings)


def test_a_list_of_names_is_items_and_says_so(tmp_path):
    path = write(tmp_path / "names.txt", "\n".join(NAMES))
    collection = make().read(path)
    assert not collection.stream
    assert collection.artifacts == NAMES
    assert "40 items, 5 different ones, 3 to 8 characters (median 6)" in collection.findings
    assert any("one item a line: 100%" in finding and "items=stream" in finding for finding in collection.findings)
    assert make(items="stream").read(path).stream


def test_lines_of_a_poem_are_not_a_list(tmp_path):
    verse = "\n".join(["Shall I compare thee to a summer's day?"] * 30)
    collection = make().read(write(tmp_path / "a.txt", verse))
    assert collection.stream
    assert any("only 0% of the lines" in finding for finding in collection.findings)
    assert len(make(items="lines").read(tmp_path / "a.txt")) == 30


def test_a_file_of_one_line_is_a_stream(tmp_path):
    collection = make().read(write(tmp_path / "a.txt", "one line only"))
    assert collection.stream
    assert collection.artifacts == ["one line only"]


def test_blank_lines_between_items_are_left_out_and_told(tmp_path):
    collection = make(items="lines").read(write(tmp_path / "a.txt", "a\n\n b \n\n"))
    assert collection.artifacts == ["a", "b"]
    assert "2 blank lines were left out" in collection.findings


def test_a_folder_is_joined_in_the_order_of_names(tmp_path):
    write(tmp_path / "b.txt", "second")
    write(tmp_path / "a.txt", "first")
    write(tmp_path / ".hidden.txt", "no")
    collection = make().read(tmp_path)
    assert collection.artifacts == ["first\n", "second\n"]
    assert collection.findings[0].startswith("2 files")
    assert make(items="lines").read(tmp_path).artifacts == ["first", "second"]


def records(path, *values):
    return write(path, "\n".join(json.dumps(value, ensure_ascii=False) for value in values) + "\n\n")


def test_records_of_every_kind(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    assert make().read(records(path, "a", "b")).artifacts == ["a", "b"]
    assert make().read(records(path, {"text": "ä"}, {"text": "b"})).artifacts == ["ä", "b"]
    joined = make().read(records(path, {"prompt": "2+2=", "completion": "4"}))
    assert joined.artifacts == ["2+2=\n4"]
    assert any("prompt and completion were joined" in finding for finding in joined.findings)
    talk = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    chat = make().read(records(path, {"messages": talk}))
    assert chat.artifacts == ["user: Hello\nassistant: Hi"]
    assert any("flattened to text" in finding for finding in chat.findings)
    assert make().read(records(path, {"body": "b"}), column="body").artifacts == ["b"]


def test_labels_and_groups_of_records(tmp_path):
    path = records(
        tmp_path / "a.jsonl",
        *[{"text": f"t{i}", "label": "ab"[i % 2], "source": "xy"[i // 2 % 2], "id": i} for i in range(60)],
    )
    collection = make().read(path)
    assert collection.classes == ("a", "b")
    assert collection.labels[:3] == [0, 1, 0]
    assert set(collection.groups) == {"label", "source"}
    modality = make()
    modality.learn(collection)
    examples = modality.examples(collection)
    assert examples.condition.classes == ("a", "b")
    assert examples.batch([1]).condition.tolist() == [1]


def test_long_records_are_a_stream_unless_asked(tmp_path):
    path = records(tmp_path / "a.jsonl", *[{"text": "word " * 400}] * 3)
    collection = make().read(path)
    assert collection.stream
    assert any("items=lines keeps them apart" in finding for finding in collection.findings)
    assert len(make(items="lines").read(path)) == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"text": "a"}\n{"text": \n', r"line 2 is not JSON"),
        ('{"text": "a"}\n[1, 2]\n', r"line 2 is a list"),
        ('{"body": "a"}\n', r"line 1 has the fields body.*--column"),
        ('{"messages": [{"role": "user"}]}\n', r"line 1 has the fields messages"),
        ('{"text": ""}\n', r"holds no text"),
    ],
)
def test_bad_records_are_named_by_line(content, said, tmp_path):
    with pytest.raises(DataError, match=rf"bad\.jsonl.*{said}"):
        make().read(write(tmp_path / "bad.jsonl", content))


def test_a_column_of_a_table(tmp_path):
    path = write(tmp_path / "a.csv", 'sentence,label\n"good, really",1\nbad,0\n,1\n')
    collection = make().read(path, column="sentence")
    assert collection.artifacts == ["good, really", "bad"]
    assert collection.classes == ("0", "1")
    assert any("1 rows without text" in finding for finding in collection.findings)
    with pytest.raises(UsageError, match=r"no column 'text'.*sentence, label"):
        make().read(path, column="text")
    tabs = write(tmp_path / "a.tsv", 'sentence\tlabel\nhe said "no\t1\n')
    assert make().read(tabs, column="sentence").artifacts == ['he said "no']


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.txt does not exist"):
        make().read(tmp_path / "nothing.txt")
    with pytest.raises(DataError, match="holds no text files"):
        make().read(tmp_path)
    with pytest.raises(UsageError, match="--column"):
        make().read(write(tmp_path / "a.txt", "abc"), column="b")


def test_sniffing_never_raises_and_says_why(tmp_path):
    cases = {
        "a.txt": (PROSE, 0.8), "a.jsonl": ('{"text": "a"}', 0.9), "a.csv": ("a,b\n1,2\n", 0.2), "a.log": (PROSE, 0.4),
        "a.txt.gz": (PROSE, 0.8),
    }  # fmt: skip
    for name, (content, sure) in cases.items():
        sniff = Text.sniff(write(tmp_path / name, content))
        assert sniff.confidence == sure, name
        assert sniff.reason
    (tmp_path / "b.txt").write_bytes(bytes(range(256)))
    assert Text.sniff(tmp_path / "b.txt").confidence == 0
    assert Text.sniff(tmp_path / "nowhere").confidence == 0
    assert Text.sniff(tmp_path).confidence == 0.3  # text is not most of it
    (tmp_path / "a.png").write_bytes(b"")
    assert Text.sniff(tmp_path).confidence == 0  # captions beside pictures


# ---- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", ["char", "byte", "word", "bpe"])
def test_a_stream_becomes_windows_and_comes_back(tokenizer):
    modality = make(tokenizer=tokenizer, vocabulary=300 if tokenizer == "bpe" else 0, length=16)
    collection = Collection([PROSE], stream=True)
    modality.learn(collection)
    assert modality.form.length == 16
    assert modality.form.end is None
    examples = modality.examples(collection)
    assert isinstance(examples, StreamExamples)
    whole = torch.cat([batch.x.flatten() for batch in examples.sweep(8)])
    assert modality.decode(whole[None]) == [PROSE]
    assert modality.characters(whole) == len(PROSE)
    assert sum(modality.characters(batch.x) for batch in examples.sweep(8)) == len(PROSE)
    assert modality.encode([PROSE])[0].tolist() == whole.tolist()
    assert tokenizer in modality.tokenisation
    assert len(modality.strings()) == modality.form.vocabulary
    again = Text.restore(modality.settings, json.loads(json.dumps(modality.state())))
    assert again.form == modality.form
    assert again.encode([PROSE]).tolist() == modality.encode([PROSE]).tolist()
    assert again.read.__self__ is again


def test_large_and_small_give_the_same_symbols(tmp_path, monkeypatch, own_cache):  # noqa: F811
    path = write(tmp_path / "a.txt", PROSE)
    for tokenizer in ("char", "byte", "word"):
        small = make(tokenizer=tokenizer, length=16)
        held = small.read(path)
        small.learn(held)
        with monkeypatch.context() as patch:
            patch.setattr(texts, "IN_MEMORY", 100)
            patch.setattr(text_module, "IN_MEMORY", 100)
            large = make(tokenizer=tokenizer, length=16)
            lazy = large.read(path)
            assert not isinstance(lazy.artifacts[0], str)
            large.learn(lazy)
            assert large.state() == small.state()
            stream = large.examples(lazy).stream
        assert isinstance(stream.base, np.memmap)
        assert np.array_equal(stream, small.examples(held).stream)
    assert len(list((own_cache / "tokens").iterdir())) == 3
    monkeypatch.setattr(texts, "IN_MEMORY", 100)
    with pytest.raises(DataError, match="items=stream"):
        make(items="lines").read(path)


def test_lowercase_is_a_setting():
    modality = make(lowercase=True)
    modality.learn(Collection(["ABC abc\n" * 9], stream=True))
    assert modality.form.vocabulary == 5
    assert modality.decode(modality.encode(["Cab"])) == ["cab"]


# ---- items -----------------------------------------------------------------------------------------------------------

items = st.lists(st.text("abcß 日\n", min_size=1, max_size=20), min_size=1, max_size=8)


@given(items, st.sampled_from(["char", "byte"]))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_items_come_back_and_their_ends_count(values, tokenizer):
    modality = make(tokenizer=tokenizer)
    collection = Collection(values)
    modality.learn(collection)
    x = modality.encode(values)
    assert modality.decode(x) == values
    examples = modality.examples(collection)
    assert isinstance(examples, ItemExamples)
    assert examples.x.equal(x)
    assert modality.characters(x) == sum(len(value) + 1 for value in values)
    assert x.shape[1] == modality.form.length
    assert examples.scored() == sum(len(modality.beginning(value)) + 1 for value in values)


def test_names_as_makemore_has_them():
    modality = make()
    modality.learn(Collection(NAMES))
    assert modality.form == Tokens(vocabulary=len(set("".join(NAMES))) + 1, length=9, end=len(set("".join(NAMES))))
    x = modality.encode(["ava"])
    assert (x[0] == modality.form.end).tolist() == [False] * 3 + [True] * 6
    assert modality.beginning("ava").tolist() == x[0, :3].tolist()
    assert modality.tokenisation == f"char ({modality.form.vocabulary} symbols, one of them the end)"


def test_words_of_lines_have_an_end():
    modality = make(tokenizer="word", items="lines")
    modality.learn(Collection(["the cat sat", "the <unk> sat down"]))
    assert modality.form.length == 5
    assert "closed" in modality.tokenisation
    x = modality.encode(["the dog sat"])
    assert modality.decode(x) == ["the <unk> sat"]
    assert modality.characters(modality.encode(["the cat sat"])) == len("the cat sat\n")
    limited = make(tokenizer="word", vocabulary=3)
    limited.learn(Collection(["a a b b c", "a"]))
    assert limited.form.vocabulary == 3


def test_items_that_are_too_long_are_told_or_refused():
    modality = make(length=4)
    collection = Collection(["abc", "abcd", "abcdabcd"])
    modality.learn(collection)
    examples = modality.examples(collection)
    assert examples.scored() == 4 + 4 + 4
    assert modality.decode(examples.x) == ["abc", "abcd", "abcd"]  # unfinished prefixes, without an end
    assert any(finding.startswith("2 of 3 items are longer than 4 symbols") for finding in collection.findings)
    with pytest.raises(FormError, match=r"text 2 has 4 symbols and an end.*length=5"):
        modality.encode(["abc", "abcd"])


def test_held_out_parts_are_foreseen():
    modality = make()
    modality.learn(Collection(["abc", "ab"]))
    said = modality.foresee([Collection(["abcxyz"]), Collection(["a" * 9])])
    assert "3 character(s) of validation or test never occur in train ('x' 'y' 'z')" in said[0]
    assert modality.form == Tokens(vocabulary=5, length=10, end=4)
    assert modality.decode(modality.encode(["axb"])) == ["a\N{REPLACEMENT CHARACTER}b"]
    strict = make(unknown="no", length=4)
    strict.learn(Collection(["abc", "ab"]))
    assert strict.foresee([Collection(["abcxyz"])]) == []
    assert strict.form.length == 4
    with pytest.raises(DataError, match="'x'"):
        strict.encode(["axb"])


def test_wrong_use_is_told():
    with pytest.raises(FormError, match="learned nothing"):
        make().form
    with pytest.raises(UsageError, match="no form 'grid'"):
        make().learn(Collection(["a"]), form="grid")
    with pytest.raises(UsageError, match="Did you mean 'tokenizer'"):
        make(tokeniser="char")
    with pytest.raises(UsageError, match="more than its 256 bytes"):
        make(tokenizer="bpe", vocabulary=100).learn(Collection(["a"]))
    with pytest.raises(DataError, match="holds no text"):
        make().learn(Collection([""], stream=True))
    modality = make()
    modality.learn(Collection([PROSE], stream=True))
    with pytest.raises(FormError, match="different length"):
        modality.encode(["It", "was"])
    with pytest.raises(FormError, match="no texts"):
        modality.encode([])


# ---- files -----------------------------------------------------------------------------------------------------------


@given(values=st.lists(st.text("abcß\t\"'", min_size=1, max_size=9).filter(str.strip), min_size=1, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_what_is_written_is_read_back(values, tmp_path):
    modality = make(items="lines")
    assert modality.write(values, tmp_path / "a.jsonl", {"run": "7"}) == [tmp_path / "a.jsonl"]
    assert modality.read(tmp_path / "a.jsonl").artifacts == values
    assert json.loads((tmp_path / "a.jsonl").read_text().partition("\n")[0])["run"] == "7"
    stripped = [value.strip() for value in values]
    modality.write(stripped, tmp_path / "a.txt")
    assert modality.read(tmp_path / "a.txt").artifacts == stripped


def test_writing_blocks_folders_and_previews(tmp_path):
    modality = make()
    modality.write(["a\nb", "c"], tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == f"a\nb\n{text_module.RULE}\nc\n"
    paths = modality.write(["x", "y"], tmp_path / "many")
    assert [path.name for path in paths] == ["0000.txt", "0001.txt"]
    assert paths[1].read_text() == "y\n"
    shown = modality.preview(["one", "two"], tmp_path / "preview", {"run": "7"})
    assert shown.suffix == ".txt"
    assert shown.read_text() == "# run: 7\n[0] one\n[1] two\n"
