"""Each rule against its definition, written out plainly for one row in Python's own numbers."""

import math

import pytest
import torch

from pieria.sampling.decoding import Decoding, choices
from pieria.sampling.truncation import min_p, penalised, top_k, top_p


def rows(count=40, vocabulary=13, seed=0):
    return torch.randn(count, vocabulary, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2


def kept(logits):
    return [{i for i, value in enumerate(row) if value > -math.inf} for row in logits.tolist()]


def ranked(row):
    return sorted(range(len(row)), key=lambda i: -row[i])


@pytest.mark.parametrize("k", [1, 2, 5, 13, 20])
def test_top_k_keeps_the_k_most_probable(k):
    logits = rows()
    assert kept(top_k(logits, k)) == [set(ranked(row)[:k]) for row in logits.tolist()]


@pytest.mark.parametrize("p", [0.01, 0.3, 0.75, 0.99, 1.0])
def test_top_p_keeps_the_smallest_set_of_that_share(p):
    logits = rows()
    for row, found in zip(logits.softmax(-1).tolist(), kept(top_p(logits, p)), strict=True):
        expected, mass = set(), 0.0
        for symbol in ranked(row):
            if mass >= p:
                break
            expected.add(symbol)
            mass += row[symbol]
        assert found == expected


@pytest.mark.parametrize("p", [0.0, 0.05, 0.5, 1.0])
def test_min_p_keeps_what_is_near_the_most_probable(p):
    logits = rows()
    for row, found in zip(logits.softmax(-1).tolist(), kept(min_p(logits, p)), strict=True):
        assert found == {i for i, value in enumerate(row) if value >= p * max(row) * (1 - 1e-12)}


def test_ties_do_not_depend_on_the_order():
    tied = torch.tensor([[1.0, 0.0, 1.0, 1.0]])
    assert kept(top_k(tied, 2)) == [{0, 2, 3}]
    assert kept(top_p(tied, 0.4)) == [{0, 2, 3}]


def test_the_penalty_is_what_its_docstring_says():
    logits = rows(6)
    seen = torch.zeros_like(logits, dtype=torch.bool)
    seen[:, [1, 4]] = True
    for row, before in zip(penalised(logits, seen, 1.3).tolist(), logits.log_softmax(-1).tolist(), strict=True):
        for symbol, value in enumerate(before):
            odds = value + math.log(13)
            if symbol in (1, 4):
                odds = odds / 1.3 if odds > 0 else odds * 1.3
            assert row[symbol] == pytest.approx(odds)


def test_the_penalty_ignores_the_constant_that_odds_leave_open():
    logits = rows(6)
    seen = torch.rand(logits.shape, generator=torch.Generator().manual_seed(1)) < 0.3
    torch.testing.assert_close(penalised(logits + 7, seen, 1.5), penalised(logits, seen, 1.5))


def test_options_act_in_their_stated_order():
    logits, seen = rows(), torch.zeros(40, 13, dtype=torch.bool)
    seen[:, 0] = True
    options = Decoding(temperature=0.7, top_k=6, top_p=0.9, min_p=0.1, repetition_penalty=1.2)
    expected = min_p(top_p(top_k(penalised(logits, seen, 1.2) / 0.7, 6), 0.9), 0.1)
    assert torch.equal(choices(logits, options, seen), expected)


def test_default_options_leave_the_odds_as_they_are():
    logits = rows()
    assert torch.equal(choices(logits, Decoding()), logits)
