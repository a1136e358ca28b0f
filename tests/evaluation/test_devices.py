"""A model that was trained on another device is judged there; the data come from the processor."""

import pytest
import torch

from pieria.audit import audit
from pieria.data.batch import Batch
from pieria.evaluation import evaluate
from pieria.evaluation.comparison import nats
from pieria.evaluation.features import network, picture_features
from tests.evaluation.small import BagSettings, Bits, digits, text, words


def fitted(data):
    model = Bits(BagSettings(), data.form)
    model.estimate(lambda: data.examples("train").sweep(256))
    return model


def test_a_batch_is_brought_to_where_the_model_is(monkeypatch):
    data = digits()
    model, asked = fitted(data), []
    to = Batch.to
    monkeypatch.setattr(Batch, "to", lambda batch, device: asked.append(device) or to(batch, device))
    found = nats(model, data.examples("test").batch(range(5)))
    assert asked == [model.odds.device]
    assert (found.dtype, found.device.type, found.shape) == (torch.float64, "cpu", (5,))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("data", [digits, text, words], ids=["grid", "stream", "items"])
def test_a_model_on_cuda_gets_the_same_figures(data):
    data = data()
    here, there = fitted(data), fitted(data).to("cuda")
    first, second = (evaluate(model, data, count=80) for model in (here, there))
    for figure in first.figures:
        if figure.kind == "exact":
            assert second[figure.name].value == pytest.approx(figure.value, rel=1e-5)
    assert audit(there, data, count=64)["gap"]["measured"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_pictures_are_described_wherever_a_scorecard_left_the_network():
    data = digits()
    x = data.examples("test").batch(range(5)).x
    here, frozen = picture_features(x, data.form), network()[0]
    try:
        frozen.to("cuda")
        assert picture_features(x, data.form) == pytest.approx(here, abs=1e-3)
    finally:
        frozen.to("cpu")
