"""The loss against Python's own logarithms."""

import math

import pytest
import torch

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
