"""On real runs: a VAE and a GAN of digits, one with labels, and a VAE of a table; by Python and by the command line."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

import pieria
from pieria.cli.main import app
from pieria.errors import UsageError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def digits(folder):
    return pieria.fit("digits", "vae", preset="tiny", steps=60, out=folder / "vae", quiet=True)


@pytest.fixture(scope="module")
def labelled(folder):
    return pieria.fit("digits", "gan", preset="tiny", steps=5, condition="label", out=folder / "gan", quiet=True)


@pytest.fixture(scope="module")
def people(folder):
    lines = ["age,job"] + [f"{20 + i * 7 % 45},{'abc'[i % 3]}" for i in range(120)]
    (folder / "people.csv").write_text("\n".join(lines) + "\n")
    return pieria.fit(folder / "people.csv", "vae", preset="tiny", steps=30, out=folder / "rows", quiet=True)


def ask(*words, code=0):
    done = CliRunner().invoke(app, ["latent", *map(str, words)])
    if code == 0:
        assert done.exit_code == 0, (done.output, done.exception)
    else:
        assert done.exception is not None
    return done


def test_every_verb_answers_in_json_and_writes_what_it_says(digits, tmp_path):
    asked = {
        "map": ["--count", 30, "--no-umap"],
        "interpolate": [0, "seed:1", "--frames", 4],
        "walk": ["--frames", 4],
        "arithmetic": [0, 1, "--add", "3", "--subtract", "5", "--strengths", "-1,0,1"],
        "invert": [0, "--steps", 5],
        "neighbours": ["-n", 2, "-k", 2],
        "traverse": ["--coordinates", 2, "--steps", 3],
    }
    for verb, words in asked.items():
        said = json.loads(ask(digits.path, verb, *words, "--json", "--out", tmp_path / verb).stdout)
        assert said["verb"] == verb
        names = {path.name for path in (tmp_path / verb).iterdir()}
        assert {path.rpartition("/")[2] for path in said["files"]} == names
        assert f"{verb}.png" in names
        with Image.open(tmp_path / verb / f"{verb}.png") as image:
            assert image.info["pieria"] == digits.record["name"]


def test_without_out_files_lie_in_the_run(digits):
    printed = ask(digits.path, "walk", "--frames", 3).stdout
    assert str(digits.path / "latent" / "walk" / "walk.gif") in printed


def test_a_dry_run_writes_nothing(digits, tmp_path):
    done = ask(digits.path, "traverse", "--steps", 2, "--dry-run", "--out", tmp_path / "there")
    assert "traverse.png" in done.stderr
    assert not (tmp_path / "there").exists()


def test_a_verb_where_the_run_belongs_is_told(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    done = ask("map", "runs/vae", code=2)
    assert isinstance(done.exception, UsageError)
    assert "pieria latent runs/vae map" in str(done.exception)


def test_strengths_that_are_none(digits):
    done = ask(digits.path, "arithmetic", 0, "--add", "3", "--strengths", "much", code=2)
    assert "--strengths much" in str(done.exception)


def test_a_model_of_classes_is_walked_under_one_of_them(labelled):
    latent = labelled.latent
    first, second = (latent.walk(steps=3, label=name).artifacts for name in ("3", "8"))
    assert [image.tobytes() for image in first] != [image.tobytes() for image in second]
    assert len(latent.interpolate(0, 5, steps=4).artifacts) == 4
    assert len(latent.map(count=5, umap=False).rows) == 5
    assert len(latent.invert([2], steps=3).rows) == 1
    assert len(latent.neighbours(n=3, k=1).artifacts) == 3
    with pytest.raises(UsageError, match="no class is called 'cat'"):
        latent.walk(label="cat")


def test_a_seed_names_an_item_of_a_sample_with_the_class_that_it_has_there(labelled):
    drawn = labelled.sample(9, seed=4)
    ends = labelled.latent.interpolate("seed:4:3", "seed:4:8", steps=2).artifacts
    assert [image.tobytes() for image in ends] == [drawn[place].tobytes() for place in (3, 8)]


def test_rows_are_tables(people, tmp_path):
    view = people.latent.interpolate(0, 5, steps=4, out=tmp_path)
    assert {path.name for path in view.files} == {"items.csv", "preview.txt", "codes.csv"}
    lines = (tmp_path / "items.csv").read_text().splitlines()
    assert lines[0] == "age,job"
    assert len(lines) == 5
    assert view.to_json()["items"][0].keys() == {"age", "job"}
    assert people.latent.invert([1], steps=5).rows[0]["distance"] <= people.latent.invert([1], steps=5).rows[0]["encoder"]
    assert {row["measure"] for row in people.latent.neighbours(n=2, k=2).rows} == {"values"}
    assert len(people.latent.traverse(steps=3).artifacts) == 6
    people.latent.map(umap=False, out=tmp_path / "map")
    assert (tmp_path / "map" / "map.png").is_file()
    with pytest.raises(UsageError, match="has no labels"):
        people.latent.arithmetic([0], add="anything")
    with pytest.raises(UsageError, match="a film of table data"):
        people.latent.walk(mp4=True)


def test_previews_and_pages_show_pictures_without_grain_and_say_so(digits, folder):
    from pieria.explanation.run_page import said_of
    from pieria.models.contract import display_of
    from pieria.noise import ItemNoise

    last = digits.previews()[-1]
    assert "most typical" in said_of(last)
    display = display_of(digits.model)
    assert display.options.observation == "typical"
    assert display_of(digits.model, temperature=0.5).options.temperature == 0.5
    assert display_of(digits.model, observation="typical").words == ""  # as it was asked for: nothing to be said
    typical = digits.model.sample(2, display.options, ItemNoise(0, 2))
    drawn = digits.model.sample(2, digits.model.Sampling.of({}), ItemNoise(0, 2))
    assert (typical != drawn).any()
    assert digits.explain().read_text().count("most typical picture of each code") == 2  # the film, the trace


def test_rows_are_shown_as_they_are_drawn(people, labelled):
    from pieria.models.contract import display_of

    assert display_of(people.model).options.observation == "draw"  # the most typical rows would all be the same few
    assert display_of(labelled.model).words == ""
