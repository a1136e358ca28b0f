"""The audit finds what was planted, and the card invents nothing."""

import json

import pytest
import torch

from pieria.audit import audit, card
from pieria.errors import UsageError
from pieria.evaluation import evaluate
from pieria.models.contract import Encodes
from tests.evaluation.small import ALL, Bag, BagSettings, Bits, Small, bag, copies_of, digits, more_like, table, text


class Shaky(Bag):
    """Its code is the item; what comes out moves ``gain`` times as far."""

    gain = 1.0

    @property
    def latents(self):
        return {"z": (8,)}

    def prior(self, n, noise):
        return noise.normal("z", (8,))

    def encode(self, x, space="z", condition=None):
        return x

    def decode(self, z, space="z", options=None, noise=None, condition=None):
        return z * self.gain


@pytest.mark.parametrize("form", ALL)
def test_a_memoriser_is_serious_in_every_form(form):
    data = ALL[form]()
    found = audit(bag(data, copies_of(data, 200)), data, count=150)
    assert found["copies"]["memorised"]
    assert found["verdicts"][0]["severity"] == "serious"
    assert found["verdicts"][0]["about"] == "copies"
    json.dumps(found)


@pytest.mark.parametrize("form", ALL)
def test_real_data_are_not(form):
    data = ALL[form]()
    found = audit(bag(data, more_like(data, 200)), data, count=150)
    assert not found["copies"]["memorised"]
    assert all(one["severity"] != "serious" for one in found["verdicts"])
    assert {one["about"] for one in found["verdicts"] if one["severity"] == "unknown"} >= {"licence", "consent", "cost"}


def test_the_gap_of_a_model_that_learned_one_part_by_heart():
    data = text()
    model = Bits(BagSettings(), data.form)
    model.estimate(lambda: data.examples("train").sweep(64))
    honest = audit(model, data, count=64)["gap"]
    assert honest["low"] < 0.2
    pictures = digits()
    near = Bits(BagSettings(), pictures.form)
    few = pictures.examples("train").x[:3]
    near.estimate(lambda: [type("B", (), {"x": few})()])
    copied = type(pictures.examples("train"))(pictures.form, few.repeat(4, 1, 1, 1))
    twin = Small("few", {**pictures.splits, "train": copied})
    found = audit(near, twin, count=64)
    assert found["gap"]["low"] > 10
    assert any(one["about"] == "overfitting" and one["severity"] == "attention" for one in found["verdicts"])


def test_a_group_that_the_samples_forget_is_named():
    data = table()
    x = more_like(data, 400)
    one_sided = torch.cat([x[x[:, -1] == 1].repeat(9, 1), x[x[:, -1] == 0][:40]])
    found = audit(bag(data, one_sided), data, group="benign", count=200)
    shares = found["groups"]["groups"]
    assert shares["0"]["data"]["share"] == pytest.approx(float((data.examples("train").x[:, -1] == 0).double().mean()))
    assert shares["0"]["samples"]["high"] < shares["0"]["data"]["share"]
    assert any(one["about"] == "groups" and "'0'" in one["words"] for one in found["verdicts"])
    fair = audit(bag(data, x), data, group="benign", count=200)
    assert all(one["about"] != "groups" for one in fair["verdicts"])


def test_groups_of_a_number_and_of_labels():
    data = table()
    found = audit(bag(data, more_like(data, 200)), data, group="n0", count=150)["groups"]["groups"]
    assert len(found) == 4
    assert sum(one["data"]["share"] for one in found.values()) == pytest.approx(1)
    pictures = digits()
    labels = audit(bag(pictures, more_like(pictures, 300)), pictures, group="label", count=200)["groups"]
    assert labels["classifier_accuracy"] > 0.8
    assert len(labels["groups"]) == 10
    with pytest.raises(UsageError, match="benign"):
        audit(bag(data, more_like(data, 50)), data, group="benig", count=50)


@pytest.mark.parametrize("gain", [0.5, 20.0])
def test_sensitivity_is_the_gain_of_the_model(gain):
    data = table()
    model = Shaky(BagSettings(), data.form, bag=more_like(data, 100))
    assert isinstance(model, Encodes)
    model.gain = gain
    found = audit(model, data, count=64)
    assert found["sensitivity"]["ratio"] == pytest.approx(gain, rel=1e-3)
    severity = next(one["severity"] for one in found["verdicts"] if one["about"] == "robustness")
    assert severity == ("attention" if gain > 10 else "good")


def test_the_card_prints_facts_and_not_stated():
    data = digits()
    model = bag(data, copies_of(data, 200))
    found = audit(model, data, group="label", count=100)
    text_of = card({"name": "0001-bag-digits", "family": "bag", "seed": 3}, evaluate(model, data, count=100), found)
    assert text_of.startswith("---\nlibrary_name: pieria")
    assert "memorised" in text_of
    assert "| consent of the people in the data | not stated |" in text_of
    assert "| the file holds training examples | yes |" in text_of
    assert "| seed | 3 |" in text_of
    assert "| energy | not stated |" in text_of
    assert "C-FID" in text_of
    empty = card({})
    assert "Not evaluated." in empty
    assert "Not audited." in empty
    assert empty.count("not stated") >= 12
    assert "None" not in empty + text_of


def test_the_cards_front_matter_is_read_by_the_hub():
    from huggingface_hub import ModelCard

    read = ModelCard(card({"name": 'a "quoted" name', "family": "vae"}))
    assert read.data.library_name == "pieria"
    assert "vae" in read.data.tags


def test_an_unknown_group_is_refused_before_anything_is_drawn():
    data = table()
    model = bag(data, copies_of(data, 50))
    model.sample = lambda *_: pytest.fail("samples were drawn")
    with pytest.raises(UsageError, match="benign"):
        audit(model, data, group="benig", count=50)


def test_the_audit_names_its_run_and_says_how_near_the_samples_are():
    data = table()
    honest = more_like(data, 400)
    near = torch.cat([honest[:340], copies_of(data, 60)])
    found = audit(bag(data, near), data, count=200, record={"name": "0004-bag-cancer"})
    assert found["run"] == "0004-bag-cancer"
    assert audit(bag(data, honest), data, count=50)["run"] == "not stated"
    novelty = found["copies"]["novelty"]
    said = next(one["words"] for one in found["verdicts"] if one["about"] == "copies")
    assert ("no nearer" in said) == (novelty["low"] <= novelty["held-out"])
