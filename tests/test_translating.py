"""Runs that turn pictures into others, from the folders to the files, as a person meets them."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import pieria
from pieria.errors import DataError, FormError, UsageError
from pieria.forms import Grid
from pieria.models.contract import abilities
from pieria.models.cyclegan import CycleGAN, CycleGANSettings
from pieria.models.gan import GAN, GANSettings
from pieria.noise import ItemNoise
from pieria.translating import translated
from tests.modalities.test_domains import folder

QUICK = {"batch": 4, "threads": 1, "channels": 4, "judge_channels": 4}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    path = tmp_path_factory.mktemp("domains")
    folder(path / "a", 120, base=0, size=(12, 10))
    folder(path / "b", 120, base=120, size=(12, 10))
    for model in ("cyclegan", "pix2pix"):
        how = {"preset": "tiny", "steps": 3, "out": path / model, "settings": QUICK, "quiet": True}
        pieria.fit(path / "a", model, to=path / "b", **how)
    (path / "mixed" / "inner").mkdir(parents=True)
    sizes = {"one.png": (10, 12), "two.jpg": (33, 7), "inner/three.bmp": (10, 12), "inner/one.png": (1, 1)}
    for name, size in sizes.items():
        Image.new("L", size, 90).save(path / "mixed" / name)
    (path / "mixed" / "notes.md").write_text("no picture")
    return path


def at(path):
    with Image.open(path) as image:
        image.load()
        return image


def array(image):
    return np.asarray(image).astype(int)


def says(*words):
    return subprocess.run([sys.executable, "-m", "pieria", *map(str, words)], capture_output=True, text=True, check=False)


def test_a_folder_is_translated_at_every_size_and_keeps_its_names(home):
    done = says("translate", home / "cyclegan", home / "mixed", "--to", "b", "--out", home / "made", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    names = sorted(p.relative_to(home / "made").as_posix() for p in (home / "made").rglob("*") if p.is_file())
    assert names == ["inner/one.png", "inner/three.bmp", "one.png", "two.jpg"]
    assert len(told["files"]) == 4
    for name in names:
        assert at(home / "made" / name).size == at(home / "mixed" / name).size
    assert at(home / "made" / "one.png").text["pieria"] == "cyclegan"
    run = pieria.load(home / "cyclegan")
    again = run.translate([at(home / "mixed" / "one.png")])
    assert abs(array(again[0]) - array(at(home / "made" / "one.png"))).max() <= 1


def test_pictures_of_an_array_are_translated_one_by_one(home):
    np.savez(home / "three.npz", images=np.arange(3 * 12 * 10, dtype=np.uint8).reshape(3, 12, 10))
    run = pieria.load(home / "cyclegan")
    written = run.translate(home / "three.npz", out=home / "of an array")
    assert [path.name for path in written] == ["three-00000.png", "three-00001.png", "three-00002.png"]
    with np.load(home / "three.npz") as arrays:
        alone = [run.translate(Image.fromarray(picture))[0] for picture in arrays["images"]]
    assert all(abs(array(at(path)) - array(one)).max() <= 1 for path, one in zip(written, alone, strict=True))
    with pytest.raises(UsageError, match="'names' is text"):
        run.translate("names")
    with pytest.raises(DataError, match="or a name that 'pieria data' lists"):
        run.translate("emoji-nowhere")


def test_options_of_texts_are_refused_for_pictures(home):
    done = says("translate", home / "cyclegan", home / "mixed", "--beams", "5")
    assert (done.returncode, "--beams for pictures" in done.stderr) == (2, True)


def test_both_ways_differ_and_pictures_do_not_depend_on_their_number(home):
    run = pieria.load(home / "cyclegan")
    assert "translates" in abilities(run.model)
    pictures = [run.dataset().parts["test"].sources.artifacts[0], Image.new("L", (20, 20), 7), Image.new("L", (10, 12), 9)]
    there, back = run.translate(pictures, to="b"), run.translate(pictures, to="a")
    assert any((array(x) != array(y)).any() for x, y in zip(there, back, strict=True))
    assert [image.size for image in there] == [image.size for image in pictures]
    alone = run.translate(pictures[2], to="b")[0]
    assert abs(array(alone) - array(there[2])).max() <= 1
    assert run.translate(Image.new("L", (40, 48), 7), resize=False)[0].size == (40, 48)
    assert run.translate(Image.new("L", (40, 48), 7), resize=True)[0].size == pictures[0].size
    many = run.translations(Image.new("L", (10, 12), grey) for grey in range(3))
    assert len(list(many)) == 3


def test_pix2pix_goes_one_way_with_noise_of_its_own(home):
    run = pieria.load(home / "pix2pix")
    one = run.dataset().parts["test"].prompts[0]
    first, same, other = (run.translate([one] * 2, seed=seed) for seed in (0, 0, 1))
    assert (array(first[0]) == array(same[0])).all()
    quiet = [run.translate(one, seed=seed, dropout=False)[0] for seed in (0, 1)]
    assert (array(quiet[0]) == array(quiet[1])).all()
    assert len(other) == 2
    with pytest.raises(UsageError, match="one way alone"):
        run.translate(one, to="a")


def test_a_picture_is_explained_as_it_is_read_where_the_kinds_have_levels_of_their_own():
    form, given = Grid(1, 8, 8, levels=2), Grid(1, 8, 8, levels=256)
    torch.manual_seed(0)
    model = CycleGAN(CycleGANSettings(channels=4, blocks=1, judge_channels=4), form, given).eval()
    white = torch.full((1, 1, 8, 8), 255)
    steps = list(model.trace(CycleGAN.Sampling(), ItemNoise(0, 1), white))
    torch.testing.assert_close(steps[1].data["features"], model.to_b.steps(torch.ones(1, 1, 8, 8))[0])
    missed = float(steps[3].note.split("misses by ")[1].split(" %")[0])
    assert missed == pytest.approx(100 * float((255 - steps[3].x).abs().float().mean()) / 255, abs=0.06)


def test_a_model_that_makes_pictures_of_nothing_is_refused_before_the_first_picture_is_asked_for(home):
    modality = pieria.load(home / "cyclegan").modality
    with pytest.raises(UsageError, match="does not turn pictures into others"):
        translated(GAN(GANSettings(latent=2, channels=2), modality.form), modality, [], GAN.Sampling())


def test_a_sample_is_made_of_held_out_pictures(home):
    for model in ("cyclegan", "pix2pix"):
        run = pieria.load(home / model)
        first, more = run.sample(3, seed=1), run.sample(5, seed=1, batch=2)
        assert all(abs(array(x) - array(y)).max() <= 1 for x, y in zip(first, more, strict=False))
        assert run.previews()


def test_it_is_judged_beside_the_untranslated_picture_and_explained(home):
    cyclegan, pix2pix = (pieria.load(home / model) for model in ("cyclegan", "pix2pix"))
    card = cyclegan.evaluate()
    distance = next(figure for figure in card.figures if figure.name.startswith("C-FID"))
    assert distance.baseline is not None
    assert 0 < card["cycle error of A"].value < 1
    assert 0 < card["cycle error of B"].value < 1
    paired = pix2pix.evaluate()
    assert paired["pixel error"].baseline == pytest.approx(120 / 255 / 120)  # one pixel of 120 differs, by 120 levels
    assert "and back again" in cyclegan.explain().read_text()
    assert "translation" in pix2pix.explain().read_text()


@pytest.mark.parametrize("model", ["cyclegan", "pix2pix"])
def test_a_resumed_run_has_the_bits_of_an_unbroken_one(home, model):
    how = {"to": home / "b", "preset": "tiny", "quiet": True}
    steady = {**QUICK, "schedule": "constant", "warmup": 1, "checkpoint_every": 2}
    steady |= {"pool": 5} if model == "cyclegan" else {}
    whole = pieria.fit(home / "a", model, steps=6, out=home / f"{model}-whole", settings=steady, **how)
    pieria.fit(home / "a", model, steps=3, out=home / f"{model}-half", settings=steady, **how)
    resumed = pieria.fit(resume=home / f"{model}-half", steps=6, quiet=True)
    other = resumed.model.state_dict()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, other[name]), name
    if model == "cyclegan":
        assert int(whole.model.pool_a.filled) == 5


def test_bad_input_is_refused_in_words(home, tmp_path):
    a, b, quick = home / "a", home / "b", {"preset": "tiny", "steps": 1, "settings": QUICK, "quiet": True}
    run = pieria.load(home / "cyclegan")
    for model in ("cyclegan", "pix2pix"):
        with pytest.raises(UsageError, match="--to FOLDER"):
            pieria.fit(a, model, out=tmp_path / "none", **quick)
    folder(tmp_path / "fewer", 30, base=0, size=(12, 10))
    with pytest.raises(DataError, match="no partner"):
        pieria.fit(tmp_path / "fewer", "pix2pix", to=b, out=tmp_path / "none", **quick)
    with pytest.raises(UsageError, match="take cyclegan"):
        pieria.fit(a, "pix2pix", to=b, out=tmp_path / "none", **{**quick, "settings": {"partners": "no"}})
    with pytest.raises(UsageError, match="turns pictures into others"):
        pieria.fit(a, "vae", to=b, out=tmp_path / "none", quiet=True)
    with pytest.raises(FormError, match="at least 32 pixels"):
        pieria.fit(a, "cyclegan", to=b, out=tmp_path / "none", **{**quick, "settings": {"halvings": 4}})
    assert not (tmp_path / "none").exists()
    (tmp_path / "fake.png").write_text("this is no picture")
    for what, error, words in (
        (tmp_path / "fake.png", DataError, "not a picture"),
        (tmp_path / "nowhere", DataError, "does not exist"),
        (Image.new("RGB", (10, 12)), FormError, "3 channels"),
        ([a / "000.png", b / "000.png"], UsageError, "two pictures would be written"),
    ):
        with pytest.raises(error, match=words):
            run.translate(what, out=tmp_path / "out")
    with pytest.raises(UsageError, match="to 'c'"):
        run.translate(a / "000.png", to="c")
    with pytest.raises(UsageError, match="written over"):
        run.translate(a / "000.png", out=a)
    assert not list((tmp_path / "out").rglob("*.png"))
    done = says("translate", home / "cyclegan", tmp_path / "fake.png", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "not a picture" in done.stderr
