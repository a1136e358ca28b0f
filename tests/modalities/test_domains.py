"""Two sets of pictures: read apart or in pairs, never mixed up, and refused in words where they do not suit each other."""

import numpy as np
import pytest
import torch
from PIL import Image

from pieria.data.examples import UnpairedExamples
from pieria.errors import DataError, UsageError
from pieria.forms import Grid
from pieria.modalities.opening import open_data
from pieria.noise import ItemNoise


def folder(path, count, *, base, size=(6, 5), mode="L", name="{:03}.png"):
    """Pictures whose first pixel tells which one they are: ``base`` + number."""
    path.mkdir(parents=True)
    for number in range(count):
        array = np.full((size[0], size[1]), 128, np.uint8)
        array[0, 0] = base + number
        Image.fromarray(array).convert(mode).save(path / name.format(number))
    return path


@pytest.fixture
def two(tmp_path):
    return folder(tmp_path / "a", 30, base=0), folder(tmp_path / "b", 50, base=100)


def first_pixels(x):
    return x[:, 0, 0, 0].tolist()


def test_unpaired_sets_are_drawn_apart_whatever_their_sizes(two):
    data = open_data(two[0], to=two[1])
    assert data.form == data.condition == Grid(1, 6, 5)
    assert data.name == "a to b"
    train = data.examples("train", training=True)
    assert isinstance(train, UnpairedExamples)
    noise = ItemNoise(0, 400)
    batch = train.batch([0] * 400, noise)
    assert set(first_pixels(batch.x)) == {first_pixels(train.items.batch([0]).x)[0]}
    assert set(first_pixels(batch.condition)) == set(first_pixels(train.sources.x))  # every picture of A, and no other
    again = train.batch([0] * 400, ItemNoise(0, 400))
    assert torch.equal(again.condition, batch.condition)
    assert torch.equal(train.batch([0] * 3, noise.part(5, 8)).condition, batch.condition[5:8])
    whole = torch.cat([part.x for part in train.sweep(7)])
    assert torch.equal(whole, train.items.x)


def test_every_part_holds_what_was_held_back_on_both_sides(two):
    data = open_data(two[0], to=two[1])
    seen = torch.cat([data.examples(part).items.x for part in ("train", "validation", "test")])
    given = torch.cat([data.examples(part).sources.x for part in ("train", "validation", "test")])
    assert sorted(first_pixels(seen)) == list(range(100, 150))
    assert sorted(first_pixels(given)) == list(range(30))


def test_pairs_go_by_name_whatever_the_order(tmp_path):
    folder(tmp_path / "a", 30, base=0, name="x{:03}.png")
    folder(tmp_path / "b", 30, base=150, name="x{:03}.bmp")
    data = open_data(tmp_path / "a", to=tmp_path / "b", settings={"partners": "auto", "flip": True})
    assert any("30 pairs of pictures, by their names" in line for line in data.findings)
    for part in data.parts:
        batch = data.examples(part).batch(range(len(data.examples(part))))
        assert [a + 150 for a in first_pixels(batch.condition)] == first_pixels(batch.x)
    train = data.examples("train", training=True)
    batch = train.batch(range(len(train)), ItemNoise(3, len(train)))
    turned = batch.x[:, 0, 0, 0] == 128  # mirrored together, so that they still belong together
    assert 0 < turned.sum() < len(train)
    assert torch.equal(turned, batch.condition[:, 0, 0, 0] == 128)


def test_catalogue_names_are_sides_too():
    data = open_data("digits", to="digits", settings={"partners": "order"})
    test = data.examples("test")
    assert torch.equal(test.x, test.batch(range(len(test))).condition)
    assert len(test) == 500
    apart = open_data("digits", to="digits").examples("test")
    assert len(apart) == len(apart.sources) == 500


def test_what_does_not_match_is_refused_with_the_cure(tmp_path, two):
    larger = folder(tmp_path / "larger", 9, base=0, size=(8, 8))
    with pytest.raises(DataError, match=r"6×5, 1 channel.*8×8, 1 channel.*--set size=6,5"):
        open_data(two[0], to=larger)
    with pytest.raises(DataError, match=r"--set colour=rgb"):
        open_data(two[0], to=folder(tmp_path / "colour", 9, base=0, mode="RGB"))
    assert open_data(two[0], to=larger, settings={"size": (6, 5)}).form == Grid(1, 6, 5)
    with pytest.raises(DataError, match=r"20 of the 50 pictures of .*b have no partner .*such as 030.*cyclegan"):
        open_data(*two[:1], to=two[1], settings={"partners": "auto"})
    with pytest.raises(DataError, match=r"30 pictures and .* 50"):
        open_data(two[0], to=two[1], settings={"partners": "order"})
    with pytest.raises(DataError, match=r"one holds 1 picture.*at least 3"):
        open_data(two[0], to=folder(tmp_path / "one", 1, base=0))
    with pytest.raises((DataError, UsageError), match="nowhere"):
        open_data(two[0], to=tmp_path / "nowhere")
    folder(tmp_path / "twice", 30, base=0)
    Image.new("L", (5, 6)).save(tmp_path / "twice" / "000.bmp")
    with pytest.raises(DataError, match="two pictures called 000"):
        open_data(two[0], to=tmp_path / "twice", settings={"partners": "names"})
