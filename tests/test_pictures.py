"""Pictures as users have them, from files of every kind to samples of the same kind; and what is told where that fails."""

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import pieria
from pieria.cli.main import app
from pieria.data.examples import ItemExamples
from pieria.errors import DataError, FormError
from pieria.forms import Grid, Label
from pieria.models.gan import GAN
from pieria.models.vae import VAE
from pieria.training.loop import learn
from pieria.training.plan import Plan

FAMILIES = ("pixelcnn", "pixelrnn", "flow", "diffusion", "vae", "vqvae", "autoencoder", "gan", "stylegan2")


def colours(seed, height=8, width=8, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def grey(path, seed):
    Image.fromarray(colours(seed)[..., 0]).save(path.with_suffix(".png"))


def bilevel(path, seed):
    Image.fromarray(colours(seed)[..., 0]).convert("1").save(path.with_suffix(".png"))


def palette(path, seed):
    Image.fromarray(colours(seed)).quantize(16).save(path.with_suffix(".png"))


def palette_with_transparency(path, seed):
    Image.fromarray(colours(seed)).quantize(16).save(path.with_suffix(".png"), transparency=3)


def sixteen_bits(path, seed):
    Image.fromarray(colours(seed)[..., 0].astype(np.uint16) * 257).save(path.with_suffix(".png"))


def transparent(path, seed):
    Image.fromarray(colours(seed, channels=4)).save(path.with_suffix(".png"))


def grey_and_transparent(path, seed):
    Image.fromarray(colours(seed, channels=2)).save(path.with_suffix(".png"))


def four_inks(path, seed):
    Image.fromarray(colours(seed)).convert("CMYK").save(path.with_suffix(".jpg"))


def turned(path, seed):
    image = Image.fromarray(colours(seed, 5, 9))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path.with_suffix(".jpg"), exif=exif)


def animated(path, seed):
    frames = [Image.fromarray(colours(seed + more)).quantize(16) for more in (0, 100)]
    frames[0].save(path.with_suffix(".gif"), save_all=True, append_images=frames[1:], duration=50)


def of(height, width):
    def save(path, seed):
        Image.fromarray(colours(seed, height, width)).save(path.with_suffix(".png"))

    save.__name__ = f"{height}x{width}"
    return save


def folder(path, save, count=12):
    path.mkdir()
    for number in range(count):
        save(path / str(number), number)
    return path


FOUND = [
    # files, families, settings, mode and size (width, height) of what comes back, what is said of them
    (grey, "vae gan pixelcnn", {}, "L", (8, 8), ""),
    (bilevel, "vae gan pixelcnn", {}, "L", (8, 8), ""),
    (palette, "vae gan", {}, "RGB", (8, 8), "12 pictures with a palette are decoded to plain colour"),
    (palette_with_transparency, "vae gan", {}, "RGBA", (8, 8), "with a palette"),
    (sixteen_bits, "vae gan", {}, "L", (8, 8), "12 pictures of 16 bits are rounded to 256 levels"),
    (sixteen_bits, "vae gan diffusion", {"levels": 65536}, "I;16", (8, 8), ""),
    (transparent, "vae gan pixelcnn", {}, "RGBA", (8, 8), ""),
    (grey_and_transparent, "vae gan", {}, "RGBA", (8, 8), ""),
    (four_inks, "vae gan", {}, "RGB", (8, 8), "in CMYK or another space"),
    (turned, "vae gan pixelcnn", {}, "RGB", (5, 9), "turned as their EXIF orientation says"),
    (animated, "vae gan", {}, "RGB", (8, 8), "12 files hold several frames; the first is read"),
    (of(48, 80), "gan autoencoder", {}, "RGB", (80, 48), ""),
    (of(31, 45), "vae gan", {}, "RGB", (45, 31), ""),
    (of(1, 1), "vae gan pixelcnn", {}, "RGB", (1, 1), ""),
]


@pytest.mark.parametrize(
    ("save", "families", "settings", "mode", "size", "said"),
    FOUND,
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_colour_and_size_come_back_as_they_came(save, families, settings, mode, size, said, tmp_path):
    path = folder(tmp_path / "set", save)
    for family in families.split():
        run = pieria.fit(path, family, preset="tiny", steps=2, out=tmp_path / family, settings=settings, quiet=True)
        assert said in "\n".join(run.record["data"]["findings"])
        [made] = run.sample(1, out=tmp_path / f"made-{family}")
        [file] = (tmp_path / f"made-{family}").iterdir()
        with Image.open(file) as kept:
            assert (kept.mode, kept.size) == (made.mode, made.size) == (mode, size), family
        with Image.open(max((run.path / "samples").iterdir())) as shown:
            assert shown.mode == "RGB"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_pictures_takes_the_smallest_ones(family, tmp_path):
    for height, width in ((1, 1), (2, 2), (3, 5)):
        path = folder(tmp_path / f"{height}x{width}", of(height, width))
        run = pieria.fit(path, family, preset="tiny", steps=1, out=tmp_path / f"run-{height}", quiet=True)
        assert run.sample(1)[0].size == (width, height)


@pytest.mark.parametrize("family", ["vae", "gan", "diffusion"])
def test_one_single_picture_is_a_data_set(family, tmp_path):
    path = folder(tmp_path / "one", of(6, 4), count=1)
    run = pieria.fit(path, family, preset="tiny", steps=2, out=tmp_path / "run", quiet=True)
    assert run.sample(1)[0].size == (4, 6)
    assert (
        "1 item(s), fewer than three different ones: all train, and nothing is held back" in run.record["data"]["findings"]
    )
    done = asked("evaluate", run.path)
    assert done.exit_code == 1
    assert "'one' has no test part. Wanted: at least three different items" in told(done)


def asked(*words):
    return CliRunner().invoke(app, [*map(str, words)])


def told(done):
    """What a failed command says: the error itself where the runner caught it."""
    return f"{done.exception or ''} {done.output}"


@pytest.mark.parametrize(("rare", "trains"), [(100, True), (112, False)])
def test_a_class_with_one_picture(rare, trains, tmp_path):
    path = tmp_path / "set"
    path.mkdir()
    for name, seeds in (("cat", range(12)), ("dog", range(20, 32)), ("elk", [rare])):
        (path / name).mkdir()
        for seed in seeds:
            of(4, 4)(path / name / str(seed), seed)
    plain = pieria.fit(path, "vae", preset="tiny", steps=1, out=tmp_path / "plain", quiet=True)
    assert (2 in plain.dataset().parts["train"].labels) == trains  # decided by its content alone
    out = tmp_path / "run"
    if trains:
        run = pieria.fit(path, "vae", preset="tiny", steps=1, condition="label", out=out, quiet=True)
        assert run.sample(1, label="elk")[0].size == (4, 4)
        return
    with pytest.raises(DataError, match=r"set has no training item of the class 'elk'.*Add more of them"):
        pieria.fit(path, "vae", preset="tiny", steps=1, condition="label", out=out, quiet=True)
    assert not out.exists()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures")
    folder(path / "set", of(6, 4))
    for family in ("vae", "pixelcnn", "diffusion", "gan"):
        pieria.fit(path / "set", family, preset="tiny", steps=2, out=path / family, quiet=True)
    Image.fromarray(colours(1, 6, 4)).save(path / "fits.png")
    Image.fromarray(colours(1, 9, 7)).save(path / "large.png")
    Image.fromarray(colours(1, 6, 4)[..., 0]).save(path / "grey.png")
    Image.fromarray(np.full((9, 7), 255, np.uint8)).save(path / "mask.png")
    return path


ASKED_WRONGLY = {
    "a mask of another size": (
        ("fill", "pixelcnn", "fits.png", "--mask", "mask.png", "--out", "made.png"),
        ("a mask of 9×7", "6×4, the size of the pictures"),
    ),
    "filling a picture of another size": (
        ("fill", "pixelcnn", "large.png", "--box", "0,0,2,2", "--out", "made.png"),
        ("9×7", "6×4 as learned"),
    ),
    "inverting a picture of another size": (
        ("latent", "vae", "invert", "large.png", "--out", "made"),
        ("large.png is 9×7 (height × width)", "6×4 as learned", "Resize it"),
    ),
    "inverting a picture of another mode": (
        ("latent", "gan", "invert", "grey.png", "--out", "made"),
        ("grey.png has 1 channels", "3 as learned", "Convert it"),
    ),
    "scoring a picture of another size": (
        ("score", "vae", "large.png"),
        ("large.png is 9×7 (height × width)", "6×4 as learned"),
    ),
    "guidance without labels": (
        ("sample", "diffusion", "-n", "1", "--set", "guidance=2", "--out", "made"),
        ("guidance = 2 of a model that learned without labels", "Fit it with --condition label"),
    ),
}


@pytest.mark.parametrize(("words", "said"), ASKED_WRONGLY.values(), ids=ASKED_WRONGLY)
def test_asked_wrongly(home, monkeypatch, words, said):
    monkeypatch.chdir(home)
    before = sorted(home.rglob("*"))
    done = asked(*words)
    assert done.exit_code in (1, 2)
    for part in said:
        assert part in told(done).replace("\n", " "), told(done)
    assert sorted(home.rglob("*")) == before


def labelled(count=8):
    form = Grid(1, 4, 4, 256)
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 1, 4, 4)))
    return ItemExamples(form, x, condition=Label(("a", "b")), conditions=torch.arange(count) % 2)


@pytest.mark.parametrize("family", [VAE, GAN])
def test_a_model_without_a_condition_learns_from_labelled_examples_as_if_they_had_none(family):
    weights = []
    for examples in (labelled(), ItemExamples(labelled().form, labelled().x)):
        torch.manual_seed(0)
        model = family(family.Settings.of(family.presets["tiny"]), examples.form)
        learn(model, examples, examples, Plan.of({"steps": 2, "batch": 4}))
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())


def test_a_conditional_model_refuses_examples_without_labels():
    model = VAE(VAE.Settings.of(VAE.presets["tiny"]), labelled().form, Label(("a", "b")))
    with pytest.raises(FormError, match="examples without a condition for a VAE that learns under Label"):
        learn(model, ItemExamples(labelled().form, labelled().x), None, Plan.of({"steps": 2, "batch": 4}))
