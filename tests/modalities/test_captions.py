import json

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import pieria
from pieria.errors import DataError, FormError, UsageError
from pieria.modalities.captions import CaptionWords, words_of
from pieria.modalities.opening import open_data

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}


@pytest.fixture(scope="module")
def emoji(tmp_path_factory):
    """Eighty squares and bars in two colours, each with a caption beside it."""
    path, generator = tmp_path_factory.mktemp("captions") / "shapes", np.random.default_rng(0)
    path.mkdir()
    for number in range(80):
        colour = list(COLOURS)[number % 2]
        shape = ("square", "bar")[number // 2 % 2]
        pixels = np.full((4, 4, 3), 255, np.uint8)
        pixels[1:3, 1:3] = COLOURS[colour]
        if shape == "bar":
            pixels[1:3] = COLOURS[colour]
        pixels = np.clip(pixels.astype(int) + generator.integers(-9, 9, pixels.shape), 0, 255).astype(np.uint8)
        Pillow.fromarray(pixels).save(path / f"{number:02}.png")
        (path / f"{number:02}.txt").write_text(f"A {colour} {shape}")
    return path


def test_words_are_letters_and_digits_in_small_letters():
    assert words_of("Flag: Côte d'Ivoire, 3 o'clock_now") == ["flag", "côte", "d'ivoire", "3", "o'clock", "now"]


def test_captions_become_words_and_an_end_and_come_back():
    words = CaptionWords.learn(["red heart", "a red, red rose", "heart"])
    assert words.words == ["red", "heart", "a", "rose"]
    assert (words.form.vocabulary, words.form.length, words.form.end) == (5, 5, 4)
    symbols = words.encode(["Red HEART!", "rose violet red", ""])
    assert symbols.tolist() == [[0, 1, 4, 4, 4], [3, 0, 4, 4, 4], [4] * 5]
    assert words.decode(symbols) == ["red heart", "rose red", ""]
    again = CaptionWords.restore(json.loads(json.dumps(words.state())))
    assert torch.equal(again.encode(["a rose"]), words.encode(["a rose"]))


def test_a_prompt_of_unknown_words_is_refused_with_what_is_near():
    words = CaptionWords.learn(["red heart", "a rose"])
    with pytest.raises(UsageError, match=r"'hart' stands in no caption.*Did you mean 'heart'"):
        words.encode(["a red hart"], strict=True)
    assert words.encode(["the red heart"], strict=True).tolist() == words.encode(["red heart"]).tolist()
    with pytest.raises(UsageError, match="as a prompt"):
        words.encode(["!?"], strict=True)
    with pytest.raises(FormError, match="without any words"):
        CaptionWords.learn(["", "…"])


def test_pictures_are_drawn_as_they_are_described(emoji, tmp_path):
    run = pieria.fit(
        emoji, "diffusion", preset="tiny", condition="caption", steps=400, out=tmp_path / "run", quiet=True, seed=1,
        settings={"rate": 4e-3, "network": "mlp", "width": 96, "evaluate_every": 0},
    )  # fmt: skip
    run = pieria.load(run.path)
    right = 0
    for colour, channel in (("red", 0), ("blue", 2)):
        for picture in run.sample(8, prompt=f"{colour} square", guidance=2.0, steps=8):
            inside = np.asarray(picture, dtype=float)[1:3, 1:3].mean(axis=(0, 1))
            right += int(inside.argmax() == channel)
    assert right >= 14
    assert len(run.sample(3, steps=4)) == 3  # nothing is said of them
    assert run.remarks(prompt="a blue bar", steps=2) == []  # what the command line asks first
    with pytest.raises(UsageError, match="'rde'"):
        run.remarks(prompt="a rde square")
    with pytest.raises(UsageError, match=r"'rde'.*Did you mean 'red'"):
        run.sample(1, prompt="a rde square")
    with pytest.raises(UsageError, match="without classes"):
        run.sample(1, label="red")


def test_without_captions_there_is_no_prompt(emoji, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in list(emoji.glob("*.png"))[:20]:
        (bare / file.name).write_bytes(file.read_bytes())
    with pytest.raises(DataError, match="pictures without captions"):
        pieria.fit(bare, "diffusion", preset="tiny", condition="caption", steps=1, out=tmp_path / "none", quiet=True)
    with pytest.raises(UsageError, match="takes none of that kind"):
        pieria.fit(emoji, "vae", preset="tiny", condition="caption", steps=1, out=tmp_path / "vae", quiet=True)
    assert open_data(emoji).condition is None
    assert open_data(emoji, settings={"captions": True}).condition.length == 4
    run = pieria.fit(bare, "diffusion", preset="tiny", steps=2, out=tmp_path / "plain", quiet=True)
    with pytest.raises(UsageError, match=r"guidance = 3 .*without labels or captions"):
        run.sample(1, guidance=3.0)
    with pytest.raises(UsageError, match="prompt"):
        run.sample(1, prompt="red")
