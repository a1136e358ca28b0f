"""The loss against Python's own logarithms."""

import math

import pytest
import torch

from pieria.losses import symbols
from pieria.losses.symbols import cross_entropy, symbol_log_prob


def test_the_mean_is_over_what_counts():
    logits = torch.tensor([[[0.0, math.log(3.0)], [0.0, 0.0]]])
    x, mask = torch.tensor([[1, 0]]), torch.tensor([[True, False]])
    assert symbol_log_prob(logits, x).tolist() == [pytest.approx([math.log(0.75), math.log(0.5)])]
    assert symbol_log_prob(logits, x, mask).tolist() == [pytest.approx([math.log(0.75), 0.0])]
    assert float(cross_entropy(logits, x).loss) == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2)
    one = cross_entropy(logits, x, mask)
    assert (float(one.loss), one.count, one.unit) == (pytest.approx(-math.log(0.75)), 1.0, "symbols")


def test_smoothing_changes_the_loss_and_not_the_nats():
    logits, x = torch.tensor([[[2.0, 0.0, -1.0]]]), torch.tensor([[0]])
    smooth = cross_entropy(logits, x, smoothing=0.3)
    odds = logits[0, 0].log_softmax(-1)
    assert float(smooth.parts["nats"]) == pytest.approx(-float(odds[0]))
    assert float(smooth.loss) == pytest.approx(-0.7 * float(odds[0]) - 0.3 * float(odds.mean()), rel=1e-5)


def test_a_batch_in_which_nothing_counts_costs_nothing():
    logits = torch.zeros(1, 2, 3, requires_grad=True)
    losses = cross_entropy(logits, torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.bool))
    losses.loss.backward()
    assert losses.loss.item() == 0
    assert losses.count == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_the_cross_entropy_of_features_is_that_of_their_odds(masked, biased, monkeypatch):
    """In pieces of two rows; its gradients too."""
    monkeypatch.setattr(symbols, "IN_CACHE", 22)
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 5, 4), (11, 4), (11,)]
    features, weight, bias = (torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes)
    given = [features, weight, *([bias] if biased else [])]
    x = torch.randint(0, 11, (3, 5), generator=generator)
    mask = torch.rand(3, 5, generator=generator) < 0.6 if masked else None
    wanted = symbols.cross_entropy(torch.nn.functional.linear(*given), x, mask)
    found = symbols.cross_entropy_of_features(features, weight, bias if biased else None, x, mask)
    torch.testing.assert_close(found.loss, wanted.loss)
    assert (found.count, found.unit) == (wanted.count, wanted.unit)
    ours, theirs = (torch.autograd.grad(3 * each.loss, given) for each in (found, wanted))
    torch.testing.assert_close(ours, theirs)


def test_the_cross_entropy_of_features_in_bfloat16_is_near():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(8, 16, 32, generator=generator).requires_grad_()
    weight = (0.3 * torch.randn(50, 32, generator=generator)).requires_grad_()
    x = torch.randint(0, 50, (8, 16), generator=generator)
    wanted = symbols.cross_entropy_of_features(features, weight, None, x).loss
    theirs = torch.autograd.grad(wanted, [features, weight])
    with torch.autocast("cpu", torch.bfloat16):
        found = symbols.cross_entropy_of_features(features, weight, None, x).loss
    assert found.item() == pytest.approx(wanted.item(), rel=0.01)
    for one, other in zip(torch.autograd.grad(found, [features, weight]), theirs, strict=True):
        assert one.dtype == torch.float32
        assert float(torch.cosine_similarity(one.flatten(), other.flatten(), dim=0)) > 0.999
