import csv

import numpy as np
import pytest
import torch
from PIL import Image

from pieria.data.batch import Batch
from pieria.errors import DataError, FormError, PieriaError, UsageError
from pieria.forms import Grid
from pieria.latent import mapping, pictures
from pieria.latent.directions import directions
from pieria.latent.exploring import Latent
from pieria.latent.space import Space
from pieria.modalities.opening import open_data
from pieria.models.stylegan2 import StyleGAN2, StyleGAN2Settings
from pieria.noise import seeded
from tests.latent.planted import SHIFT, Encoding, Planted, Sloped
from tests.latent.planted import pictures as planted_pictures


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path, _ = planted_pictures(tmp_path_factory.mktemp("planted"))
    return open_data(path)


@pytest.fixture
def latent(data):
    return explore(data, Encoding())


def explore(data, model):
    return Latent(model, data.modality, lambda: data, {"pieria": "planted"})


def levels(artifacts):
    return np.stack([np.asarray(image) for image in artifacts]).astype(int)


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_an_attribute_that_was_planted_is_found_and_makes_a_b_of_an_a(data, latent):
    model = Encoding()
    codes = torch.tensor([[0.3, 0.5, -0.2], [-0.6, 0.1, 0.4], [0.1, -0.2, 0.0]])
    without, with_it = (data.modality.decode(model.decode(c)) for c in (codes, codes + SHIFT))
    view = latent.arithmetic(without[:1], add=with_it, subtract=without, strengths=(-1, 0, 1))
    assert np.abs(levels(view.artifacts[2:]) - levels(with_it[:1])).max() <= 1  # levels are rounded
    assert np.abs(levels(view.artifacts[1:2]) - levels(without[:1])).max() <= 1
    away = (view.codes[2] - view.codes[0]) / 2
    assert (away - SHIFT).abs().max() < 0.1


def test_the_mean_of_a_class_is_that_of_its_training_items(data, latent):
    view = latent.arithmetic(["test:0"], add="b", subtract="a", strengths=(0, 1))
    train = data.examples("train")
    codes = Encoding().encode(train.batch(range(len(train))).x)
    labels = torch.tensor([data.parts["train"].classes[label] == "b" for label in data.parts["train"].labels])
    assert torch.allclose(view.codes[1] - view.codes[0], codes[labels].mean(0) - codes[~labels].mean(0), atol=1e-5)
    against_all = latent.arithmetic(["test:0"], add="b", strengths=(0, 1))
    assert torch.allclose(against_all.codes[1] - against_all.codes[0], codes[labels].mean(0) - codes.mean(0), atol=1e-5)
    assert "of 'b'" in view.words[0] or "'b'" in view.words[0]


def test_inversion_tells_how_near_it_came_and_keeps_the_codes(data, latent, tmp_path):
    view = latent.invert(["test:0", "train:3"], out=tmp_path)
    assert {path.name for path in view.files} == {"codes.csv", "invert.png", "invert.csv"}
    assert all(row["distance"] <= row["encoder"] + 1e-6 for row in view.rows)
    assert [row["item"] for row in table(tmp_path / "invert.csv")] == [row["item"] for row in view.rows]
    kept = table(tmp_path / "codes.csv")
    assert [float(kept[0][f"z{place}"]) for place in range(3)] == view.codes[0].tolist()


@pytest.mark.parametrize("family", [Planted, Sloped])
def test_without_an_encoder_codes_are_searched_for_and_that_is_said(data, family):
    view = explore(data, family()).map(count=6, umap=False)
    assert "does not encode" in " ".join(view.words)
    assert len(view.rows) == 6


def test_a_map_shows_every_item_under_its_label_and_what_its_directions_decode_to(data, latent, tmp_path):
    view = latent.map(umap=False, out=tmp_path)
    rows = table(tmp_path / "map.csv")
    assert {row["label"] for row in rows} == {"a", "b"}
    assert len(rows) == len(data.parts["test"])
    assert len(view.artifacts) == 11 * 11
    with Image.open(tmp_path / "map.png") as image:
        assert image.width > 1200
        assert image.info["pieria"] == "planted"


def test_without_umap_principal_components_say_so(latent, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    assert any("pieria[latent]" in sentence for sentence in latent.map().words)


def test_principal_components_are_those_of_the_covariance():
    points = np.random.default_rng(0).normal(size=(500, 3)) * [3, 1, 0.1] + [1, 2, 3]
    mean, directions, variances = mapping.components(points)
    assert np.allclose(mean, points.mean(0))
    assert np.allclose(variances, np.sort(np.linalg.eigvalsh(np.cov(points.T)))[::-1])
    assert np.allclose(np.abs(directions[0]), [1, 0, 0], atol=0.05)
    assert directions[0].max() > 0


def test_a_code_of_one_number_has_a_map(data):
    class Narrow(Encoding):
        @property
        def latents(self):
            return {"z": (1,)}

        def prior(self, n, noise):
            return noise.normal("z", (1,))

        def mean(self, z):
            return super().mean(torch.nn.functional.pad(z, (0, 2)))

        def encode(self, x, space="z", condition=None):
            return super().encode(x)[:, :1]

    assert len(explore(data, Narrow()).map(umap=False).artifacts) == 121


def test_a_path_ends_at_its_items_and_is_written_as_strip_and_film(latent, tmp_path):
    view = latent.interpolate("test:0", "seed:4", steps=5, frames=6, out=tmp_path)
    assert {path.name for path in view.files} == {"interpolate.png", "interpolate.gif", "codes.csv"}
    assert torch.equal(view.codes[-1], latent.space.draw(1, 4)[0])
    with Image.open(tmp_path / "interpolate.gif") as film:
        assert film.n_frames == 6 + 4  # there and back, the ends once
        assert film.info["loop"] == 0
    straight = latent.interpolate("test:0", "seed:4", steps=5, path="linear")
    assert torch.allclose(straight.codes.diff(dim=0), straight.codes.diff(dim=0)[:1].expand(4, -1), atol=1e-6)


def test_a_suffix_says_which_file_is_wanted(latent, tmp_path):
    assert latent.walk(frames=4, steps=2, out=tmp_path / "walk.gif").files == [tmp_path / "walk.gif"]
    assert [path.name for path in tmp_path.iterdir()] == ["walk.gif"]
    with pytest.raises(UsageError, match=r"walk writes no \.avi.*\.png, \.gif, \.csv"):
        latent.walk(frames=4, steps=2, out=tmp_path / "walk.avi")


def test_a_film_without_its_library_says_how_to_get_it(latent, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(UsageError, match=r"imageio-ffmpeg.*GIF"):
        latent.walk(frames=4, steps=2, mp4=True, out=tmp_path / "walk.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_film_as_mp4(latent, tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    latent.walk(frames=4, steps=2, out=tmp_path / "walk.mp4")
    assert b"ftyp" in (tmp_path / "walk.mp4").read_bytes()[:16]


def test_coordinates_come_in_the_order_of_what_they_change(latent):
    view = latent.traverse(steps=3, reach=2)
    assert [row["direction"] for row in view.rows] == ["z0", "z1", "z2"]
    assert view.rows[0]["change"] > 1.5 * view.rows[1]["change"] > 2 * view.rows[2]["change"]
    assert torch.allclose(view.codes[:3], torch.tensor([[-2.0, 0, 0], [0, 0, 0], [2, 0, 0]]))
    around = latent.traverse("seed:1", coordinates=1, steps=2)
    assert torch.equal(around.codes[:, 1:], latent.space.draw(1, 1)[:, 1:].expand(2, -1))


def test_directions_that_change_nothing_are_not_counted(data):
    still = Planted()
    still.weights.zero_()
    assert "Of 3 directions 0 change" in explore(data, still).traverse(steps=2).words[0]


def test_a_copy_of_a_training_item_is_its_own_nearest_neighbour(data, latent, tmp_path):
    view = latent.neighbours(["train:7", "train:20"], k=3, out=tmp_path)
    first = [row for row in view.rows if row["rank"] == 1]
    assert {(row["place"], row["measure"]) for row in first} == {
        (f"train:{place}", measure) for place in (7, 20) for measure in ("pixels", "features")
    }
    assert all(row["distance"] == 0 for row in first)
    x = data.examples("train").batch([7]).x
    every = Batch(x=data.examples("train").batch(range(len(data.examples("train")))).x).x.float() / 255
    away = (every - x.float() / 255).flatten(1).square().mean(1).sqrt().sort().values
    told = [row["distance"] for row in view.rows if row["measure"] == "pixels" and "train:7" in row["item"]]
    assert told == pytest.approx(away[:3].tolist(), abs=1e-5)


def test_samples_are_what_is_looked_at_if_nothing_is_named(latent):
    view = latent.neighbours(n=2, k=1, seed=3)
    assert np.array_equal(levels(view.artifacts), Encoding().decode(latent.space.draw(2, 3))[:, 0].numpy())
    held = latent.neighbours(n=2, k=1, truncation=0)
    assert np.array_equal(levels(held.artifacts)[0], levels(held.artifacts)[1])


def test_the_same_seed_finds_the_same(data):
    for verb, asked in (("walk", {"steps": 3}), ("map", {"count": 5, "umap": False}), ("neighbours", {"n": 2})):
        first, second = (getattr(explore(data, Sloped()), verb)(seed=2, **asked) for _ in range(2))
        assert torch.equal(first.codes, second.codes)
        assert first.rows == second.rows


def test_pictures_of_another_size_or_other_channels_are_refused_with_the_size_that_would_do(latent, tmp_path):
    Image.new("L", (9, 5)).save(tmp_path / "wide.png")
    with pytest.raises(FormError, match=r"5×9 .*4×4"):
        latent.invert([tmp_path / "wide.png"])
    with pytest.raises(FormError, match=r"3 channels.*1 as learned"):
        latent.invert([Image.new("RGB", (4, 4))])


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda latent: latent.interpolate("nothing.png", 1), "no file and names no item"),
        (lambda latent: latent.interpolate(0, 10_000), "place 10000 of the test part"),
        (lambda latent: latent.interpolate(0, -1), "place -1"),
        (lambda latent: latent.interpolate(0, 1, path="round"), "spherical or linear"),
        (lambda latent: latent.interpolate(0, 1, steps=1), "at least 2"),
        (lambda latent: latent.interpolate(0, None), "names no item"),
        (lambda latent: latent.arithmetic([0], add="c", subtract="a"), "no class is called 'c'"),
        (lambda latent: latent.arithmetic([], add="b"), "0 items"),
        (lambda latent: latent.arithmetic([0], add=[]), "empty list"),
        (lambda latent: latent.invert(["seed:1"]), "whose code is known"),
        (lambda latent: latent.invert([]), "no items"),
        (lambda latent: latent.invert([0], steps=0), "0 steps"),
        (lambda latent: latent.map(count=1), "a map of 1 item"),
        (lambda latent: latent.map(split="tset"), "no part is called 'tset'"),
        (lambda latent: latent.traverse(reach=0), "reach 0"),
        (lambda latent: latent.neighbours(n=0), "0 samples"),
        (lambda latent: latent.walk(label="a"), "a model without classes"),
    ],
)
def test_what_is_asked_wrongly_is_told(latent, ask, said):
    with pytest.raises(PieriaError, match=said):
        ask(latent)


def test_a_file_of_several_items_is_refused(latent, data):
    with pytest.raises(DataError, match="120 items"):
        latent.invert([data.path])


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1"])
def test_sheets_show_pictures_of_any_kind(mode):
    images = [Image.new(mode, (6, 3)) for _ in range(3)]
    sheet = pictures.tiled([images, [images[0], None]], sides=["one", "two"], heads=["a", "b", "c"], after=(0,))
    assert sheet.mode == "RGB"
    assert sheet.height > 2 * 48
    assert pictures.gif(images, {"pieria": "x"}, 25)[:3] == b"GIF"


def test_large_pictures_are_shrunk():
    assert pictures.enlarged([Image.new("RGB", (2000, 1000))], 10)[0].size == (400, 200)


@pytest.mark.parametrize("space", ["w", "w+"])
@pytest.mark.parametrize("along", ["principal", "closed-form"])
def test_styles_are_slid_along_their_main_directions(along, space):
    with seeded(3, "weights"):
        model = StyleGAN2(StyleGAN2Settings(latent=6, style=5, mapping=1, channels=6), Grid(1, 8, 8, levels=16)).eval()
    found = directions(Space(model, space), along, 3)
    assert torch.allclose(found.along @ found.along.T, torch.eye(3), atol=1e-5)
    drawn = Space(model, space).draw(500, 1)
    if along == "principal":  # it spreads most along the first, and as much as is said
        spread = (drawn @ found.along.T).std(dim=0)
        assert torch.allclose(spread, found.spread, rtol=0.15)
        assert spread[0] >= spread[1] >= spread[2]
    centre = Space(model, space).centre
    there = found.at(drawn[:2], centre, 1, torch.tensor([-1.0, 2.0]))
    along_it = (there - centre) @ found.along[1]
    assert torch.allclose(along_it, (torch.tensor([-1.0, 2.0]) * found.spread[1]).expand(2, 2), atol=1e-5)
    assert torch.allclose((there - drawn[:2, None]) @ found.along[0], torch.zeros(2, 2), atol=1e-5)


def test_the_length_of_an_attribute_is_in_standard_units_of_its_space(data):
    with seeded(3, "weights"):
        model = StyleGAN2(StyleGAN2Settings(latent=6, style=5, mapping=1, channels=6), Grid(1, 8, 8, levels=256)).eval()
    latent = Latent(model, data.modality, lambda: data, {"pieria": "planted"}, space="w")
    view = latent.arithmetic(["seed:1"], add=["seed:2"], subtract=["seed:3"], strengths=[1])
    first, second = (latent.space.draw(1, seed)[0] for seed in (2, 3))
    assert f"it is {float(((first - second) / latent.space.spread).norm()):.3g} long" in view.words[0]


@pytest.mark.parametrize(
    ("along", "cure"), [("principal", "--space w"), ("closed-form", "--space w"), ("sideways", "principal")]
)
def test_directions_that_are_not_there_are_refused(along, cure):
    model = StyleGAN2(StyleGAN2Settings(latent=6, style=5, mapping=1, channels=6), Grid(1, 8, 8, levels=16))
    with pytest.raises(UsageError, match=cure):
        directions(Space(model, "z"), along, 3)
