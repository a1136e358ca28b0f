"""Pairs: read from records and from two files, kept apart or joined, split by their prompts."""

import gzip
import json

import pytest
import torch

from pieria.errors import DataError, FormError, UsageError
from pieria.forms import Tokens
from pieria.modalities.opening import look, open_data
from pieria.modalities.text import Text
from tests.data.mirror import from_mirror, needs_mirror, own_cache  # noqa: F401

PAIRS = [(f"what is {n} and one", f"{n + 1}") for n in range(60)]


@pytest.fixture
def records(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps({"prompt": a, "completion": b}) + "\n" for a, b in PAIRS))
    return path


@pytest.fixture
def two(tmp_path):
    paths = tmp_path / "source.en", tmp_path / "target.de.gz"
    paths[0].write_text("\n".join(a for a, _ in PAIRS) + "\n")
    paths[1].write_bytes(gzip.compress(("\n".join(b for _, b in PAIRS) + "\n").encode()))
    return paths


def apart(**values):
    return Text(Text.Settings.of({"pairs": "apart", **values}))


def test_records_are_joined_or_kept_apart(records):
    assert Text(Text.Settings()).read(records).artifacts[0] == "what is 0 and one\n1"
    collection = apart().read(records)
    assert list(zip(collection.prompts, collection.artifacts, strict=True)) == PAIRS
    assert collection.findings[0] == "60 pairs of records, 60 different ones"
    assert collection.take([3, 1]).prompts == [PAIRS[3][0], PAIRS[1][0]]


def test_two_files_are_pairs_line_by_line(two):
    dataset = open_data(two[0], to=two[1], settings={"pairs": "apart"})
    assert sum(len(part) for part in dataset.parts.values()) == 60
    for part in dataset.parts.values():
        assert set(zip(part.prompts, part.artifacts, strict=True)) <= set(PAIRS)
    joined = open_data(two[0], to=two[1])
    assert joined.condition is None
    assert joined.parts["train"].artifacts[0].count("\n") == 1
    assert look(two[0], to=two[1])["fingerprint"] == dataset.fingerprint
    other = two[1].with_name("other")
    other.write_text("\n".join(["1"] * 60))
    assert open_data(two[0], to=other).fingerprint != dataset.fingerprint


def test_two_folders_of_parts(tmp_path):
    for side, texts in enumerate(zip(*PAIRS, strict=True)):
        (tmp_path / str(side)).mkdir()
        (tmp_path / str(side) / "train.txt").write_text("\n".join(texts[:50]))
        (tmp_path / str(side) / "test.txt").write_text("\n".join(texts[50:]))
    dataset = open_data(tmp_path / "0", to=tmp_path / "1", settings={"pairs": "apart"})
    assert {part: len(c) for part, c in dataset.parts.items()} == {"train": 45, "validation": 5, "test": 10}
    assert dataset.parts["test"].prompts == [a for a, _ in PAIRS[50:]]
    with pytest.raises(DataError, match="as the other side"):
        open_data(tmp_path / "0", to=tmp_path / "1" / "train.txt")


def test_prompts_are_the_condition_of_examples(records):
    dataset = open_data(records, settings={"pairs": "apart", "tokenizer": "word"})
    assert isinstance(dataset.condition, Tokens)
    assert dataset.condition.vocabulary == dataset.form.vocabulary  # one vocabulary for both sides
    assert dataset.condition.end == dataset.form.end
    assert dataset.condition.length == 6
    examples = dataset.examples("train")
    batch = examples.batch([2, 5])
    assert batch.condition.shape == (2, 6)
    train = dataset.parts["train"]
    assert dataset.modality.decode(batch.condition) == [train.prompts[2], train.prompts[5]]
    assert dataset.modality.decode(batch.x) == [train.artifacts[2], train.artifacts[5]]


def test_a_restored_modality_reads_prompts_as_it_learned_to(records):
    modality = open_data(records, settings={"pairs": "apart"}).modality
    again = Text.restore(modality.settings, modality.state())
    assert again.prompt_form == modality.prompt_form
    assert torch.equal(again.prompts([PAIRS[4][0]]), modality.prompts([PAIRS[4][0]]))
    assert open_data(records, modality=again).condition == modality.prompt_form


def test_the_same_prompt_never_stands_in_two_parts(tmp_path):
    path = tmp_path / "yes.jsonl"
    said = [(f"question {n % 40}", ("yes", "no")[n % 2]) for n in range(120)]
    path.write_text("".join(json.dumps({"prompt": a, "completion": b}) + "\n" for a, b in said))
    parts = open_data(path, settings={"pairs": "apart"}).parts
    prompts = [set(part.prompts) for part in parts.values()]
    assert len(prompts) == 3
    assert len(set.union(*prompts)) == sum(map(len, prompts)) == 40
    assert set(parts["test"].artifacts) == {"yes", "no"}  # answers that are alike are not held together


def test_long_prompts_are_cut_in_learning_and_refused_in_asking(records):
    dataset = open_data(records, settings={"pairs": "apart", "tokenizer": "word", "prompt_length": 3})
    examples = dataset.examples("train")
    assert examples.conditions.shape[1] == 3
    assert any("prompts are longer than 3" in finding for finding in dataset.findings)
    with pytest.raises(FormError, match=r"prompt 2 has 4 symbols .*prompt_length=5"):
        dataset.modality.prompts(["what is", "what is 1 and"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"prompt": "a"}', "line 2 has no completion"),
        ('{"completion": "a"}', "line 2 has no prompt"),
        ('{"prompt": "a", "completion": null}', "line 2 has no completion"),
        ('"only text"', "no prompt and no completion"),
        ('{"prompt": ', "line 2 is not JSON"),
    ],
)
def test_a_missing_side_is_named(tmp_path, line, said):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n' + line + "\n")
    with pytest.raises(DataError, match=said):
        apart().read(path)


def test_empty_sides_are_left_out_and_told(tmp_path):
    (tmp_path / "a").write_text("one\n\nthree\nfour\n")
    (tmp_path / "b").write_text("eins\nzwei\n \nvier\n")
    collection = apart().read_two(tmp_path / "a", tmp_path / "b")
    assert collection.prompts == ["one", "four"]
    assert "2 pairs with an empty side were left out, the first of them number 2" in collection.findings
    (tmp_path / "c").write_text("\n\n\nx\n")
    (tmp_path / "d").write_text("a\nb\nc\n\n")
    with pytest.raises(DataError, match="no pair with text on both sides"):
        apart().read_two(tmp_path / "c", tmp_path / "d")


def test_files_that_do_not_belong_together_are_refused(two, records, tmp_path):
    (tmp_path / "short.txt").write_text("1\n2\n")
    with pytest.raises(DataError, match=r"60 lines and .* has 2"):
        open_data(two[0], to=tmp_path / "short.txt")
    with pytest.raises(UsageError, match="beside another file"):
        open_data(two[0], to=records)
    with pytest.raises(DataError, match="does not exist"):
        open_data(two[0], to=tmp_path / "nowhere.txt")
    with pytest.raises(UsageError, match="--to"):
        open_data("digits", to=two[1])
    with pytest.raises(UsageError, match="one stream"):
        open_data(two[0], to=two[1], settings={"items": "stream", "pairs": "apart"})


def test_joined_pairs_may_be_one_stream(two, records):
    for data, to in ((two[0], two[1]), (records, None)):
        dataset = open_data(data, to=to, settings={"items": "stream", "length": 16})
        assert dataset.form.end is None
        assert dataset.parts["train"].artifacts[0].startswith("\n".join(PAIRS[0]) + "\n\n" + PAIRS[1][0])


@needs_mirror
def test_multi30k_and_headings_are_pairs(from_mirror):  # noqa: F811
    dataset = open_data("multi30k", settings={"pairs": "apart", "tokenizer": "char"})
    assert {part: len(c) for part, c in dataset.parts.items()} == {"train": 29_000, "validation": 1_014, "test": 1_000}
    test = dataset.parts["test"]
    assert test.prompts[4] == "People are fixing the roof of a house."
    assert test.artifacts[4] == "Leute Reparieren das Dach eines Hauses."
    headings = open_data("wikitext-headings", settings={"pairs": "apart"})
    assert {part: len(c) for part, c in headings.parts.items()} == {"train": 5_055, "validation": 486, "test": 539}
    place = headings.parts["test"].artifacts.index("Du Fu")
    assert headings.parts["test"].prompts[place].startswith("Du Fu ( Wade – Giles : Tu Fu")
