import gzip
import io
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from pieria.data.fingerprint import of_item
from pieria.errors import DataError, FormError, UsageError
from pieria.forms import Grid, Label
from pieria.modalities.contract import Collection
from pieria.modalities.image import Image
from pieria.noise import ItemNoise


def made(**settings):
    return Image(Image.Settings.of(settings))


def grey(seed=0, height=6, width=5):
    return Pillow.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8))


def colour(seed=0, height=6, width=5, channels=3):
    return Pillow.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8))


def folder(path, images):
    for name, image in images.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(path / name)
    return path


def idx_bytes(array):
    return b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def round_trip(modality, path):
    collection = modality.read(path)
    modality.learn(collection)
    x = modality.encode(collection.artifacts)
    return collection, x, modality.decode(x)


@pytest.mark.parametrize(
    "image",
    [
        grey(),
        colour(),
        colour(channels=4),
        Pillow.fromarray(np.arange(30, dtype=np.uint8).reshape(6, 5) % 2 * 255).convert("1"),
        Pillow.fromarray(np.random.default_rng(0).integers(0, 65536, (6, 5), dtype=np.uint16)),
    ],
    ids=["grey", "colour", "alpha", "bilevel", "sixteen bits"],
)
def test_a_folder_of_any_kind_comes_back_pixel_for_pixel(tmp_path, image):
    deep = image.mode.startswith("I")
    path = folder(tmp_path, {"a.png": image, "b.png": image})
    modality = made(levels=65536) if deep else made()
    collection, x, back = round_trip(modality, path)
    assert len(collection) == 2
    assert x.dtype == torch.int64
    assert tuple(x.shape[1:]) == modality.form.shape
    wanted = np.asarray(image.convert("L") if image.mode == "1" else image)
    assert (np.asarray(back[1]) == wanted).all()


def test_a_palette_with_transparency_becomes_colour_with_alpha_and_is_told(tmp_path):
    image = colour(channels=3).convert("P", palette=Pillow.Palette.ADAPTIVE, colors=4)
    image.save(tmp_path / "a.png", transparency=0)
    collection, x, back = round_trip(made(), tmp_path)
    assert x.shape[1] == 4
    with Pillow.open(tmp_path / "a.png") as stored:
        assert (np.asarray(back[0]) == np.asarray(stored.convert("RGBA"))).all()
    assert any("palette" in line for line in collection.findings)


def test_sixteen_bits_are_rounded_only_when_told(tmp_path):
    folder(tmp_path, {"a.png": Pillow.fromarray(np.array([[0, 65535], [32768, 257]], dtype=np.uint16))})
    collection, x, _ = round_trip(made(), tmp_path)
    assert x[0, 0].tolist() == [[0, 255], [128, 1]]
    assert any("16 bits" in line for line in collection.findings)


def test_subfolders_are_classes_and_texts_beside_are_captions(tmp_path):
    folder(tmp_path, {"cats/1.png": grey(1), "cats/2.png": grey(2), "dogs/1.png": grey(3)})
    (tmp_path / "cats/1.txt").write_text("a cat\n")
    (tmp_path / ".DS_Store").write_text("")
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "about.json").write_text('{"licence": "CC0"}')  # read when the data are opened
    modality = made()
    collection = modality.read(tmp_path)
    assert collection.classes == ("cats", "dogs")
    assert list(collection.labels) == [0, 0, 1]
    assert list(collection.captions) == ["a cat", "", ""]
    assert any("1 files that are not pictures" in line and "README.md" in line for line in collection.findings)
    modality.learn(collection)
    examples = modality.examples(collection)
    assert examples.condition == Label(("cats", "dogs"))
    assert examples.batch([2]).condition.tolist() == [1]


def test_a_held_out_class_is_matched_by_name_and_an_unknown_one_refused(tmp_path):
    modality = made()
    train = Collection([grey(1), grey(2)], labels=[0, 1], classes=("cats", "dogs"))
    modality.learn(train)
    assert modality.examples(Collection([grey(3)], labels=[0], classes=("dogs",))).conditions.tolist() == [1]
    with pytest.raises(FormError, match="cows"):
        modality.examples(Collection([grey(3)], labels=[0], classes=("cows",)))


def test_digits_keep_their_seventeen_levels(tmp_path):
    images = np.random.default_rng(0).integers(0, 17, (10, 8, 8)).astype(np.uint8)
    images[0, 0, 0] = 16
    np.savez(tmp_path / "digits.npz", images=images, labels=np.arange(10), levels=17)
    modality = made()
    collection, x, back = round_trip(modality, tmp_path / "digits.npz")
    assert modality.form == Grid(1, 8, 8, 17)
    assert (x[:, 0].numpy() == images).all()
    assert max(np.asarray(back[0]).max(), 0) == 255  # shown over the whole range
    # the levels survive a plain list of images, and reading back what was written
    other = made()
    other.learn(Collection(list(collection.artifacts)))
    assert other.form == modality.form
    assert torch.equal(other.encode(back), x)
    modality.write(back, tmp_path / "out")
    assert torch.equal(modality.encode(modality.read(tmp_path / "out").artifacts), x)


@pytest.mark.parametrize("levels", [2, 3, 17, 100, 255, 256])
def test_every_number_of_levels_is_exact_on_the_way_back(levels):
    modality = made(levels=levels)
    modality.learn(Collection([grey()]))
    x = torch.arange(levels).repeat(2)[: levels + levels % 2].reshape(1, 1, 2, -1)
    modality._form = Grid(1, *x.shape[2:], levels)
    assert torch.equal(modality.encode(modality.decode(x)), x)


def test_npz_groups_names_and_column(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        images=np.zeros((4, 3, 6, 5), np.uint8) + np.arange(4, dtype=np.uint8)[:, None, None, None],
        alphabet=np.array([0, 1, 1, 0]),
        alphabet_names=np.array(["greek", "latin"]),
        split=np.array([0, 0, 1, 1]),
    )
    collection = made().read(tmp_path / "a.npz", column="alphabet")
    assert collection.classes == ("greek", "latin")
    assert list(collection.labels) == [0, 1, 1, 0]
    assert list(collection.groups["split"]) == [0, 0, 1, 1]
    assert collection.artifacts[1].size == (5, 6)
    assert any("channels stand before" in line for line in collection.findings)
    part = collection.take([2, 3])
    assert np.asarray(part.artifacts[0]).max() == 2
    assert part.groups["split"] == [1, 1]


def test_fractions_and_bits_in_an_npz(tmp_path):
    np.savez(tmp_path / "f.npz", images=np.linspace(0, 1, 12, dtype=np.float32).reshape(1, 3, 4))
    collection, x, _ = round_trip(made(), tmp_path / "f.npz")
    assert x.max() == 255
    assert any("fractions" in line for line in collection.findings)
    np.savez(tmp_path / "b.npz", images=np.eye(4, dtype=bool)[None])
    modality = made()
    assert round_trip(modality, tmp_path / "b.npz")[1].sum() == 4
    assert modality.form.levels == 2


def tiff_of(width, height, values):
    """A TIFF of colours of 16 bits."""
    tags = {256: width, 257: height, 259: 1, 262: 2, 273: 10 + 9 * 12 + 4 + 6, 277: 3, 278: height, 279: len(values)}
    entries = {tag: struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()}
    entries[258] = struct.pack("<HHII", 258, 3, 3, 10 + 9 * 12 + 4)
    listed = b"".join(entries[tag] for tag in sorted(entries))
    return b"II*\0" + struct.pack("<IH", 8, 9) + listed + struct.pack("<I3H", 0, 16, 16, 16) + values


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_of_colour_are_told(tmp_path, suffix):
    values = (0, 257, 65535, 32896, 514, 1)
    raw = png_of(2, 1, 16, 2, b"\0" + struct.pack(">6H", *values)), tiff_of(2, 1, struct.pack("<6H", *values))
    (tmp_path / f"a{suffix}").write_bytes(raw[suffix == ".tif"])
    collection, x, _ = round_trip(made(), tmp_path / f"a{suffix}")
    assert x[0, :, 0].tolist() == [[0, 128], [1, 2], [255, 0]]
    assert any("1 pictures of 16 bits are rounded to 256 levels" in line for line in collection.findings)


def test_sixteen_bits_of_colour_in_an_npz_are_rounded_to_eight_and_told(tmp_path):
    images = np.array([0, 128, 257, 65535], np.uint16).reshape(1, 1, 4, 1).repeat(3, axis=3)
    np.savez(tmp_path / "deep.npz", images=images)
    collection, x, _ = round_trip(made(), tmp_path / "deep.npz")
    assert x[0, 0, 0].tolist() == [0, 0, 1, 255]
    assert len(set(map(of_item, collection.artifacts))) == 1
    assert any("65,536 levels were rounded to 256" in line for line in collection.findings)


def test_idx_with_labels_beside_gzipped(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 3), dtype=np.uint8)
    (tmp_path / "t-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
    (tmp_path / "t-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(7, dtype=np.uint8) % 3))
    collection, x, _ = round_trip(made(), tmp_path / "t-images-idx3-ubyte.gz")
    assert (x[:, 0].numpy() == images).all()
    assert list(collection.labels) == [0, 1, 2, 0, 1, 2, 0]
    assert Image.sniff(tmp_path / "t-images-idx3-ubyte.gz").confidence > 0.9
    assert len(made().read(tmp_path)) == 7  # the one array file of a folder without pictures


def test_a_column_is_for_npz_alone(tmp_path):
    folder(tmp_path, {"a.png": grey()})
    with pytest.raises(UsageError, match="no column 'x'"):
        made().read(tmp_path / "a.png", column="x")


def test_a_zip_reads_like_its_folder(tmp_path):
    folder(tmp_path / "f", {"top/a/1.png": grey(1), "top/b/2.png": grey(2)})
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        for file in sorted((tmp_path / "f").rglob("*.png")):
            archive.write(file, file.relative_to(tmp_path / "f"))
    collection = made().read(tmp_path / "f.zip")
    assert collection.classes == ("a", "b")
    assert (np.asarray(collection.artifacts[1]) == np.asarray(grey(2))).all()
    assert Image.sniff(tmp_path / "f.zip").confidence > 0.9


def test_pictures_are_decoded_when_asked_for(tmp_path, monkeypatch):
    folder(tmp_path, {f"{place}.png": grey(place) for place in range(5)})
    opened = []
    true_load = Pillow.Image.load
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: (opened.append(1), true_load(self))[1])
    made().read(tmp_path)
    assert opened == []


@pytest.mark.parametrize("fit", ["crop", "resize", "pad"])
def test_mixed_sizes_need_a_setting_and_what_it_does_is_told(tmp_path, fit):
    folder(tmp_path, {"a.png": grey(1, 10, 20), "b.png": grey(2, 30, 10)})
    with pytest.raises(DataError, match=r"2 sizes.*10×20.*Set size="):
        made().read(tmp_path)
    modality = made(size="8,6", fit=fit)
    collection, x, _ = round_trip(modality, tmp_path)
    assert tuple(x.shape) == (2, 1, 8, 6)
    assert any("8×6" in line for line in collection.findings)


def test_crop_keeps_the_aspect_and_pad_the_whole():
    image = Pillow.fromarray(np.repeat(np.array([[0] * 4 + [200] * 4 + [0] * 4], np.uint8), 4, axis=0))  # 4 × 12
    crop, pad = made(size=4, fit="crop"), made(size=12, fit="pad", background=99)
    for modality in (crop, pad):
        modality.learn(Collection([image]))
    assert crop.encode([image]).unique().tolist() == [200]
    padded = pad.encode([image])[0, 0]
    assert (padded[0] == 99).all()
    assert padded[6].min() < 10


def test_mixed_kinds_need_a_setting(tmp_path):
    folder(tmp_path, {"a.png": grey(), "b.png": colour(), "c.png": colour(channels=4)})
    with pytest.raises(DataError, match=r"several kinds.*a\.png.*Set colour="):
        made().read(tmp_path)
    collection, x, _ = round_trip(made(colour="rgb"), tmp_path)
    assert x.shape[1] == 3
    assert any("transparency" in line for line in collection.findings)
    assert any("from 1 to 3" in line for line in collection.findings)


def test_transparency_lies_over_the_background():
    clear = Pillow.new("RGBA", (2, 2), (255, 0, 0, 0))
    modality = made(colour="rgb", background=40)
    modality.learn(Collection([clear]))
    assert modality.encode([clear]).unique().tolist() == [40]


def test_a_photograph_is_turned_as_its_camera_says(tmp_path):
    exif = Pillow.Exif()
    exif[0x0112] = 6
    grey(0, 6, 4).save(tmp_path / "a.jpg", exif=exif)
    modality = made()
    collection, x, _ = round_trip(modality, tmp_path / "a.jpg")
    assert tuple(x.shape[2:]) == (4, 6)
    assert any("EXIF" in line for line in collection.findings)
    exif[0x0112] = 3  # upside down, which leaves height and width as they are
    grey(0, 6, 4).save(tmp_path / "b.jpg", exif=exif)
    assert any("EXIF" in line for line in made().read(tmp_path / "b.jpg").findings)


def test_dynamic_binarisation_is_fixed_for_held_out_and_redrawn_in_training():
    images = np.full((4, 50, 50), 64, np.uint8)
    from pieria.modalities.pictures import PictureArray

    collection = Collection(PictureArray(images[..., None], 256))
    modality = made(binarize="dynamic")
    modality.learn(collection)
    assert modality.form.levels == 2
    held = modality.examples(collection)
    assert torch.equal(held.x, modality.encode(collection.artifacts))
    assert torch.equal(held.batch([1], ItemNoise(5, 1)).x, held.x[1:2])
    assert torch.equal(modality.encode(collection.artifacts[:2]), held.x[:2])
    training = modality.examples(collection, training=True)
    first, second = training.batch([0, 1], ItemNoise(1, 2)).x, training.batch([0, 1], ItemNoise(2, 2)).x
    assert first.dtype == torch.int64
    assert first.unique().tolist() == [0, 1]
    assert not torch.equal(first, second)
    assert torch.equal(first, training.batch([0, 1], ItemNoise(1, 2)).x)
    # 20,000 draws of odds 64/255: a standard error of 0.003
    assert abs(torch.cat([first, second, held.x]).double().mean().item() - 64 / 255) < 0.015


def test_threshold_and_flip():
    image = Pillow.fromarray(np.array([[0, 127, 128, 255]], np.uint8))
    modality = made(binarize="threshold", flip=True)
    modality.learn(Collection([image] * 64))
    assert modality.encode([image])[0, 0, 0].tolist() == [0, 0, 1, 1]
    training = modality.examples(Collection([image] * 64), training=True)
    x = training.batch(range(64), ItemNoise(0, 64)).x[:, 0, 0]
    turned = (x == torch.tensor([1, 1, 0, 0])).all(1)
    assert (turned | (x == torch.tensor([0, 0, 1, 1])).all(1)).all()
    assert 10 < turned.sum() < 54


def test_examples_hold_bytes_and_give_longs():
    modality = made()
    modality.learn(Collection([grey()]))
    examples = modality.examples(Collection([grey()]))
    assert examples._held.dtype == torch.uint8
    assert examples.x.dtype == examples.batch([0]).x.dtype == torch.int64


def test_writing_names_the_run_and_reads_back(tmp_path):
    modality = made()
    images = [colour(1), colour(2)]
    modality.learn(Collection(images))
    files = modality.write(images, tmp_path / "out", {"pieria:run": "0007-vae", "seed": "1"})
    assert [file.name for file in files] == ["0000.png", "0001.png"]
    with Pillow.open(files[0]) as image:
        assert image.text == {"pieria:run": "0007-vae", "seed": "1"}
    assert torch.equal(modality.encode(modality.read(tmp_path / "out").artifacts), modality.encode(images))
    modality.write(images, tmp_path / "all.npz", {"run": "7"})
    assert torch.equal(modality.encode(modality.read(tmp_path / "all.npz").artifacts), modality.encode(images))
    assert modality.write(images, tmp_path / "sheet.png")[0].is_file()
    jpeg = modality.write(images[:1], tmp_path / "a.jpg", {"run": "7"})[0]
    with Pillow.open(jpeg) as image:
        assert "7" in image.getexif()[0x010E]
    with pytest.raises(UsageError, match=r"\.pdf"):
        modality.write(images, tmp_path / "a.pdf")
    shown = modality.preview([grey(), *images, colour(3, channels=4)], tmp_path / "p.png", {"run": "7"})
    with Pillow.open(shown) as sheet:
        assert sheet.width >= 160  # 5-pixel pictures are enlarged until they can be seen
        assert sheet.text == {"run": "7"}


@pytest.mark.parametrize("suffix", [".bmp", ".webp", ".gif", ".jpg"])
def test_sixteen_bits_are_rounded_for_formats_that_have_eight(tmp_path, suffix):
    modality, steps = made(), np.linspace(0, 65535, 16).astype(np.uint16)
    file = modality.write([Pillow.fromarray(np.repeat(steps[:, None], 16, axis=1))], tmp_path / f"a{suffix}")[0]
    with Pillow.open(file) as image:
        assert np.abs(np.asarray(image.convert("L"))[:, 8] - steps / 257).max() < 8


def test_state_restores_the_same_modality():
    modality = made(levels=16)
    modality.learn(Collection([colour(), colour(1)], labels=[0, 1], classes=("a", "b")))
    back = Image.restore(modality.settings, modality.state())
    assert back.form == modality.form
    assert back.classes == ("a", "b")
    assert torch.equal(back.encode([colour(4)]), modality.encode([colour(4)]))


def png_of(width, height, depth=8, colour=0, rows=b"\0" * 100):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def truncated():
    buffer = io.BytesIO()
    grey(0, 60, 60).save(buffer, "PNG")
    return buffer.getvalue()[:-200]


def cielab():
    buffer = io.BytesIO()
    Pillow.new("LAB", (5, 6)).save(buffer, "TIFF")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (truncated(), "cannot be decoded"),
        (png_of(40_000, 40_000), "decompression bomb"),
        (png_of(12_000, 12_000), "decompression bomb"),
        (cielab(), "CIELAB"),
        (b"hello, I am text", "is not a picture"),
        (b"", "is empty|not a picture"),
    ],
    ids=["truncated", "bomb", "smaller bomb", "CIELAB", "text", "empty"],
)
def test_a_broken_picture_is_named_or_skipped_and_counted(tmp_path, content, said):
    folder(tmp_path, {"good.png": grey()})
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(DataError, match=said) as error:
        made().read(tmp_path)
    assert "bad.png" in str(error.value)
    with pytest.raises(DataError, match=said):
        made().read(tmp_path / "bad.png")
    collection = made(broken="skip").read(tmp_path)
    assert len(collection) == 1
    assert any("1 broken" in line and "bad.png" in line for line in collection.findings)


def test_what_is_damaged_inside_is_named_when_it_is_decoded(tmp_path):
    buffer = io.BytesIO()
    grey(0, 60, 60).save(buffer, "PNG")
    raw = bytearray(buffer.getvalue())
    raw[1000:1100] = bytes(100)
    folder(tmp_path, {"good.png": grey(0, 60, 60)})
    (tmp_path / "bad.png").write_bytes(raw)
    modality = made()
    collection = modality.read(tmp_path)
    modality.learn(Collection([collection.artifacts[1]]))
    with pytest.raises(DataError, match=r"bad\.png cannot be decoded"):
        modality.encode(collection.artifacts)
    assert len(made(broken="skip").read(tmp_path)) == 1


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", "a/../../evil.png", "..\\evil.png", "C:/evil.png"])
def test_a_zip_that_leaves_its_folder_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("good.png", b"")
        archive.writestr(zipfile.ZipInfo(name), b"x")
    with pytest.raises(DataError, match="leaves its folder"):
        made().read(tmp_path / "a.zip")


def bad_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_bad_files_are_data_errors(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "no.zip").write_bytes(b"no zip")
    (tmp_path / "no.npz").write_bytes(b"no npz")
    (tmp_path / "short-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((5, 4, 4), np.uint8))[:-1])
    (tmp_path / "torn-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(np.zeros((5, 400, 4), np.uint8)))[:-12])
    (tmp_path / "notes.bin").write_bytes(b"\x01\x02\x03")
    np.savez(tmp_path / "pickle.npz", images=np.array([{"a": 1}], dtype=object))
    cases = {
        "missing": "does not exist",
        "empty": "no pictures",
        "loop": "loop",
        "no.zip": "zip",
        "no.npz": "cannot be read",
        "short-images-idx3-ubyte": "declares",
        "torn-images-idx3-ubyte.gz": "to its end",
        "notes.bin": "not a picture",
        "pickle.npz": "never unpickled",
        bad_npz(tmp_path / "flat.npz", images=np.zeros(5)).name: "images",
        bad_npz(tmp_path / "two.npz", images=np.zeros((2, 5, 5, 2))).name: "2 channels",
        bad_npz(tmp_path / "nan.npz", images=np.full((2, 4, 4), np.nan)).name: "NaN",
        bad_npz(tmp_path / "minus.npz", images=np.full((2, 4, 4), -3)).name: "-3",
        bad_npz(tmp_path / "none.npz", images=np.zeros((0, 4, 4))).name: "no pictures",
        bad_npz(tmp_path / "levels.npz", images=np.full((2, 4, 4), 30, np.uint8), levels=17).name: "levels = 17",
    }
    for name, said in cases.items():
        with pytest.raises(DataError) as error:
            made().read(tmp_path / name)
        assert said in str(error.value), (name, str(error.value))
        assert name in str(error.value)
        assert Image.sniff(tmp_path / name).confidence <= 0.95


def test_wrong_tensors_and_pictures_are_form_errors():
    modality = made()
    with pytest.raises(FormError, match="learn"):
        _ = modality.form
    modality.learn(Collection([grey()]))
    for bad, said in (
        ([], "no pictures"),
        ([grey(0, 9, 9)], "9×9"),
        ([colour()], "channels"),
        (["a.png"], "str"),
    ):
        with pytest.raises(FormError, match=said):
            modality.encode(bad)
    with pytest.raises(FormError, match="300"):
        modality.decode(torch.full((1, 1, 6, 5), 300))
    with pytest.raises(FormError, match="shape"):
        modality.decode(torch.zeros(1, 6, 5, dtype=torch.int64))
    with pytest.raises(UsageError, match="tokens"):
        modality.learn(Collection([grey()]), form="tokens")


@pytest.mark.parametrize("settings", [{"size": "3,4,5"}, {"size": "0"}, {"levels": 1}, {"colour": 2}, {"fit": "squeeze"}])
def test_settings_out_of_bounds(settings):
    with pytest.raises(UsageError):
        made(**settings)


def test_reading_and_sniffing_import_no_torch(tmp_path):
    folder(tmp_path, {"a.png": grey()})
    code = (
        "import sys; from pathlib import Path; from pieria.modalities.image import Image; p = Path(sys.argv[1]); "
        "Image.sniff(p); Image(Image.Settings()).read(p); assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=Path(__file__).parents[2])
