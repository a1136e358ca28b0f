"""A family in one file outside the package works by its path: it fits, draws, is saved, and keeps every promise."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pieria import registry
from pieria.data.examples import ItemExamples
from pieria.errors import DataError, UsageError
from pieria.forms import Tokens
from pieria.models import weights
from pieria.noise import ItemNoise
from pieria.testing import Skipped, ask, check_model, questions
from pieria.training.loop import learn
from pieria.training.plan import Plan

PATH = str(Path(__file__).parent / "outside.py")


@pytest.mark.parametrize(("case", "check"), questions(PATH))
def test_it_keeps_every_promise(case, check):
    try:
        ask(PATH, case, check)
    except Skipped as why:
        pytest.skip(str(why))


def test_it_fits_draws_and_is_saved_by_path(tmp_path):
    family = registry.find(PATH)
    words = torch.tensor([[0, 1, 2, 3, 3], [1, 2, 3, 3, 3], [0, 1, 0, 1, 2]])
    form = Tokens(vocabulary=4, length=5, end=3)
    model = family(family.Settings(), form)
    learn(model, ItemExamples(form, words), None, Plan())
    weights.save(model, tmp_path / "model.safetensors")
    again = weights.load(tmp_path / "model.safetensors")
    noise = ItemNoise(seed=1, size=20)
    drawn = again.sample(20, family.Sampling(), noise)
    assert torch.equal(drawn, model.sample(20, family.Sampling(), noise))
    # after 0 only 1 was ever seen: (2 + 1) of (2 + 4) counts
    assert model.law()[0].exp().tolist() == pytest.approx([1 / 7, 4 / 7, 1 / 7, 1 / 7])


def test_its_source_describes_it_without_importing_it():
    said = registry.describe(PATH)
    assert said.forms == ("tokens",)
    assert said.learning == "estimates"
    assert said.likelihood == "exact"
    assert {"scores", "predicts", "explains"} <= set(said.abilities)
    assert [setting.name for setting in said.settings] == ["added"]


def test_check_model_answers_for_chosen_checks_and_refuses_unknown_ones():
    results = check_model(PATH, ["distribution", "latent"])
    assert {(r.check, r.outcome) for r in results} == {("distribution", "passed"), ("latent", "skipped")}
    with pytest.raises(UsageError, match="Did you mean 'draws'"):
        check_model(PATH, ["drawz"])


def test_a_path_without_a_family_is_refused(tmp_path):
    empty = tmp_path / "empty.py"
    empty.write_text('"""Nothing."""\n')
    with pytest.raises(DataError, match="MODEL"):
        registry.find(str(empty))
    with pytest.raises(DataError, match="does not exist"):
        check_model(str(tmp_path / "no.py"))


def test_the_command_prints_a_table_and_fails_where_a_check_fails(tmp_path):
    command = [sys.executable, "-m", "pieria.testing"]
    good = subprocess.run([*command, PATH, "distribution"], capture_output=True, text=True, check=False)
    assert good.returncode == 0, good.stderr
    assert "2 passed, 0 skipped, 0 failed" in good.stdout
    source = Path(PATH).read_text().replace(".log().log_softmax(-1)", ".log().log_softmax(-1) + 0.01")
    wrong = tmp_path / "wrong.py"
    wrong.write_text(source)
    bad = subprocess.run([*command, str(wrong), "distribution"], capture_output=True, text=True, check=False)
    assert bad.returncode == 1
    assert "wanted 1 ± 1e-5" in bad.stdout
