import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import pieria
from pieria.cli.fill import fill
from pieria.errors import DataError, FormError, UsageError
from pieria.inpainting import inpainted
from pieria.modalities.image import Image as ImageModality


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inpainting")
    run = pieria.fit("digits", "pixelcnn", preset="tiny", steps=20, out=folder / "pixelcnn", quiet=True)
    run.sample(1, seed=3)[0].save(folder / "digit.png")
    return folder


def array(image):
    return np.asarray(image.convert("L")).astype(int)


def test_what_is_outside_the_box_stays(home):
    run = pieria.load(home / "pixelcnn")
    made = run.inpaint(home / "digit.png", box=(4, 0, 4, 8), n=3, seed=1, particles=4)
    given = array(Image.open(home / "digit.png"))
    assert len(made) == 3
    assert all((array(image)[:4] == given[:4]).all() for image in made)
    assert any((array(image)[4:] != given[4:]).any() for image in made)
    again = run.inpaint(home / "digit.png", box=(4, 0, 4, 8), n=3, seed=1, particles=4)
    assert [array(image).tolist() for image in again] == [array(image).tolist() for image in made]


def test_a_mask_of_16_bits_has_its_own_white(home):
    values = np.full((8, 8), 300, dtype=np.uint16)  # nearly black of 65,535
    values[:, 6:] = 65535
    mask = Image.fromarray((values >> 8).astype(np.uint8))
    run, digit = pieria.load(home / "pixelcnn"), Image.open(home / "digit.png")
    deep, plain = (run.inpaint(digit, mask=m)[0] for m in (Image.fromarray(values), mask))
    assert (np.asarray(deep) == np.asarray(plain)).all()


def test_a_mask_says_by_white_what_is_drawn(home):
    mask = Image.fromarray(np.pad(np.full((8, 2), 255, dtype=np.uint8), ((0, 0), (6, 0))))
    made = pieria.load(home / "pixelcnn").inpaint(Image.open(home / "digit.png"), mask=mask)[0]
    assert (array(made)[:, :6] == array(Image.open(home / "digit.png"))[:, :6]).all()


def test_asked_wrongly(home):
    run, picture = pieria.load(home / "pixelcnn"), home / "digit.png"
    with pytest.raises(FormError, match=r"a mask of 9×8.*8×8, the size of the pictures that the run learned from"):
        run.inpaint(picture, mask=Image.new("L", (8, 9), 255))
    with pytest.raises(UsageError, match="neither a mask nor a box"):
        run.inpaint(picture)
    with pytest.raises(UsageError, match="one inside 8×8"):
        run.inpaint(picture, box=(4, 0, 5, 8))
    with pytest.raises(UsageError, match="black everywhere"):
        run.inpaint(picture, mask=Image.new("L", (8, 8), 0))
    with pytest.raises(FormError, match="9×9"):
        run.inpaint(Image.new("L", (9, 9)), box=(0, 0, 1, 1))
    with pytest.raises(DataError, match=r"absent\.png"):
        run.inpaint(home / "absent.png", box=(0, 0, 1, 1))
    with pytest.raises(UsageError, match="label"):
        run.inpaint(picture, box=(0, 0, 1, 1), label="3")


def test_a_picture_is_not_cropped_as_the_data_were(home):
    run = pieria.load(home / "pixelcnn")
    modality = ImageModality.restore(ImageModality.Settings.of({"size": 8}), run.modality.state())
    with pytest.raises(FormError, match=r"the picture is 12×9 .*8×8 as learned"):
        inpainted(run.model, modality, Image.new("L", (9, 12)), run.model.Sampling.of({}), box=(0, 0, 1, 1))


def test_families_of_pictures_that_do_not_fill_say_so(home):
    run = pieria.fit("digits", "vae", preset="tiny", steps=2, out=home / "vae", quiet=True)
    with pytest.raises(UsageError, match="does not fill pictures"):
        run.inpaint(home / "digit.png", box=(0, 0, 1, 1))


def test_the_verb_takes_pictures(home):
    words = ["fill", home / "pixelcnn", home / "digit.png", "--box", "4,0,4,8", "-n", "2", "--out", home / "whole", "--json"]
    done = subprocess.run([sys.executable, "-m", "pieria", *map(str, words)], capture_output=True, text=True, check=True)
    files = json.loads(done.stdout)["files"]
    assert all((array(Image.open(file))[:4] == array(Image.open(home / "digit.png"))[:4]).all() for file in files)
    words = ["fill", home / "pixelcnn", home / "digit.png", "--box", "4,0,4"]
    done = subprocess.run([sys.executable, "-m", "pieria", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "four: top, left, height and width" in done.stderr


def test_a_picture_that_is_not_there_is_not_taken_for_a_text(home):
    with pytest.raises(UsageError, match="neither a mask nor a box"):
        fill(home / "pixelcnn", "missing.png")
    with pytest.raises(DataError, match=r"missing\.png cannot be read"):
        fill(home / "pixelcnn", "missing.png", box="4,0,4,8")
