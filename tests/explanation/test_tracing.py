import pytest
import torch

from pieria.explanation.tracing import _sheet, frames
from pieria.modalities.contract import Collection
from pieria.modalities.text import Text
from pieria.models.contract import Step


@pytest.fixture
def letters():
    modality = Text(Text.Settings.of({"items": "lines"}))
    modality.learn(Collection(["a b", "ba"]))
    return modality


def test_symbols_are_shown_as_a_reader_sees_them(letters):
    form = letters.form
    x = letters.encode(["a b"])
    space = int(x[0, 1])
    odds = torch.full((form.vocabulary,), 0.1)
    odds[space] = 1 - float(odds.sum()) + 0.1
    read = torch.tensor([form.begin, int(x[0, 0])])
    attention = torch.tensor([[[0.25, 0.75]]])
    step = Step(
        "symbol 2", x[:, :2], data={"odds": odds, "kept": odds, "attention": attention, "read": read, "symbol": x[0, 1]}
    )
    [(caption, html)] = frames([step], letters)
    assert caption == "1. symbol 2"
    assert "Drawn: <code>␣</code>" in html
    assert "␣ ←" in html
    assert "(begin)</b>" in html
    assert "layer 1, head 1" in html
    # nothing is said twice, and no symbol by its number
    assert "drawing options" not in html
    assert "<h3>symbol</h3>" not in html
    assert "<h3>read</h3>" not in html


def test_few_feature_maps_leave_no_empty_places():
    assert _sheet(torch.rand(2, 3, 4)).shape == (4, 10)
    assert _sheet(torch.rand(16, 3, 4)).shape == (8, 40)
