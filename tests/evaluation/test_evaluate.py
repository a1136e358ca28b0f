"""The whole scorecard on small real data and real models."""

import json

import pytest
import torch

from pieria.data.batch import Batch
from pieria.data.examples import ItemExamples
from pieria.errors import DataError, FormError, PieriaError, UsageError
from pieria.evaluation import Figure, Scorecard, baselines, evaluate
from pieria.evaluation.baselines import KEPT, cheap
from pieria.evaluation.curves import Persistence
from pieria.evaluation.tokens import likelihood
from pieria.forms import Curve, Grid
from tests.evaluation.small import BagSettings, Bits, Small, bag, copies_of, digits, more_like, series, table, text, words

KEYS = {"name", "value", "unit", "kind", "better", "split", "count", "seed", "baseline", "floor"}


def fitted(data):
    model = Bits(BagSettings(), data.form)
    model.estimate(lambda: data.examples("train").sweep(256))
    return model


@pytest.mark.parametrize("data", [digits, text, words], ids=["grid", "stream", "items"])
def test_an_exact_model_gets_every_figure(data):
    data = data()
    card = evaluate(fitted(data), data, count=80, cost={"seconds": 2.0, "joules": 5.0, "source": "estimated"})
    assert [figure.name for figure in card.figures][:3] == ["likeness", "novelty", "copies"]
    assert card["training time"].value == 2.0
    assert "estimated" in card["training energy"].note
    found = json.loads(json.dumps(card.to_json()))
    assert all(set(one) >= KEYS and one["better"] in ("lower", "higher") for one in found)
    assert card["likeness"].low > card["likeness"].floor  # independent symbols and pixels are not real ones
    assert card["two-sample classifier"].value > 0.7
    likelihoods = [figure for figure in card.figures if figure.kind == "exact"]
    assert likelihoods
    assert all(figure.baseline is not None for figure in likelihoods)
    assert all(figure.baseline < figure.value for figure in likelihoods)
    assert any("wins" in word for word in card.words)
    again = evaluate(fitted(data), data, count=80)
    for figure in again.figures:
        if figure.name != "sampling speed":
            assert figure == card[figure.name], figure.name
    assert Scorecard.from_json(card.to_json()).figures == card.figures


def test_nats_per_symbol_are_those_of_the_counts():
    data = text()
    model, held = fitted(data), data.examples("test")
    by_hand = -float(model.odds[torch.from_numpy(held.stream).long()].double().mean())
    assert likelihood(model, held).per_symbol == pytest.approx(by_hand, rel=1e-6)
    card = evaluate(model, data, count=64)
    assert card["nats per symbol"].count == held.scored()
    assert card["perplexity"].value == pytest.approx(2.718281828**by_hand, rel=1e-6)
    assert card["bits per character"].value == pytest.approx(by_hand / 0.693147181, rel=1e-6)


def test_bits_per_dimension_are_nats_per_item_over_dimensions():
    data = digits()
    card = evaluate(fitted(data), data, count=80)
    assert card["bits per dimension"].value == pytest.approx(card["nats per item"].value / 64 / 0.693147181)


@pytest.mark.parametrize("data", [table, series], ids=["row", "curve"])
def test_real_rows_and_curves_look_like_real_ones_and_nonsense_does_not(data):
    data = data()
    card = evaluate(bag(data, more_like(data, 200)), data, count=200)
    assert card["likeness"].low <= card["likeness"].floor * 1.5 + 0.01
    assert "copies" in card
    if data is table():
        own = card["train on synthetic, test on real"]
        assert own.value > 0.9
        assert own.floor > 0.9
        assert card["column distance, mean"].value < 2 * card["column distance, mean"].floor
        x = more_like(data, 200).clone()
        x[:, -1] = 1 - x[:, -1]  # the wrong class for everyone
        worse = evaluate(bag(data, x), data, count=200)
        assert worse["train on synthetic, test on real"].value < 0.2
        assert worse["pair distance, mean"].value > card["pair distance, mean"].value
    else:
        assert card["error of the mean"].baseline > 0


def test_a_memoriser_is_told_off_in_words():
    data = table()
    card = evaluate(bag(data, copies_of(data, 200)), data, count=150)
    assert any("memorised" in word for word in card.words)


def test_nats_of_rows_are_in_the_tables_own_units():
    data = table()
    card = evaluate(cheap(data.form, data.examples("train"), "rows").model, data, count=100)
    held = data.examples("test").x
    scales = torch.tensor([c.scale for c in data.form.columns[:6]]).log()
    there = torch.ones(len(held), 6)
    there[:, 2] = 1 - held[:, 6]
    model = cheap(data.form, data.examples("train"), "rows").model
    with torch.no_grad():
        nats = -model.log_prob(data.examples("test").batch(range(len(held)))).double() + (there * scales).sum(dim=1)
    assert card["nats per row"].value == pytest.approx(float(nats.mean()), rel=1e-6)


def test_the_baseline_is_fitted_once():
    KEPT.clear()
    data = digits()
    first = cheap(data.form, data.examples("train"), "digits")
    assert first.model is not None
    assert cheap(data.form, data.examples("train"), "digits") is first


def test_a_baseline_of_some_items_is_fitted_on_those_from_all_over_the_part(monkeypatch):
    monkeypatch.setattr(baselines, "MOST_CELLS", 1)
    form, sides = Grid(1, 2, 2, levels=2), torch.arange(2).repeat_interleave(600)  # as files come, class after class
    found = cheap(form, ItemExamples(form, sides[:, None, None, None].repeat(1, 1, 2, 2)), "")
    assert "500 of 1,200 items" in found.name
    assert found.model.log_prob(Batch(torch.ones(1, 1, 2, 2).long())).item() > -2


def test_a_neural_likelihood_without_its_baseline_is_not_shown():
    bare = Scorecard([Figure("nats per item", 3.0, "nats", "exact")], neural=True)
    for show in (bare.table, bare.to_json):
        with pytest.raises(PieriaError, match="no baseline beside it"):
            show()
    with_it = Scorecard([Figure("nats per item", 3.0, "nats", "exact", baseline=4.0)], neural=True)
    assert "4" in with_it.table()
    assert "nats per item" in Scorecard([Figure("nats per item", 3.0, "nats", "exact")]).table()


def test_bad_questions_are_refused():
    data = digits()
    with pytest.raises(UsageError, match="Did you mean"):
        evaluate(fitted(data), data, split="tset")
    with pytest.raises(UsageError, match="at least 8"):
        evaluate(fitted(data), data, count=2)
    with pytest.raises(FormError, match="the model learned grid"):
        evaluate(fitted(data), table())


def test_an_infinite_figure_is_shown_and_is_null_in_json():
    card = Scorecard([Figure("nats per item", float("inf"), "nats", "exact", note="as it is")])
    assert "∞" in card.table()
    found = card.to_json()[0]
    assert found["value"] is None
    assert found["note"] == "as it is; the value is inf"
    json.dumps(found, allow_nan=False)
    assert Scorecard.from_json([{**found, "run": "0001-gpt"}]).figures[0].name == "nats per item"


def test_figures_on_the_training_part_claim_nothing_about_new_data():
    data = table()
    words = evaluate(bag(data, copies_of(data, 200)), data, split="train", count=100).words
    assert "training data themselves" in words[0]
    assert not any(word.startswith(("Likeness", "Novelty")) for word in words)


def test_a_curve_with_too_few_points_is_told():
    data = series()
    short = Small("short", {**data.splits, "test": ItemExamples(data.form, data.examples("test").x[:, :2])})
    with pytest.raises(DataError, match="2 held-out and 280 training points"):
        evaluate(bag(short, data.examples("test").x[:, :2].repeat(20, 1, 1)), short, count=20)


def test_the_baseline_of_several_curves_is_their_mean():
    form = Curve(1, 1)
    values = torch.tensor([[[0.0, 1.0], [1.0, 1.0], [2.0, 4.0]], [[0.0, 2.0], [1.0, 2.0], [2.0, 2.0]]], dtype=torch.float64)
    baseline = Persistence(Batch(x=values), form)
    assert baseline.rule == "mean"
    assert float(baseline.level) == pytest.approx(2.0)
    assert float(baseline.variance) == pytest.approx(1.0)
    assert Persistence(Batch(x=values[:1]), form).rule == "last value"
