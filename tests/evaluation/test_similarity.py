"""A memoriser is flagged in every form; held-out data in the place of the samples are not."""

import numpy as np
import pytest
import torch

from pieria.evaluation.comparison import random_items
from pieria.evaluation.evaluating import compare_sets
from pieria.evaluation.similarity import in_words, likeness, memorised, novelty
from tests.evaluation.small import ALL, bag, copies_of, more_like

COUNT = 200


def sets(data, samples):
    model = bag(data, samples)
    return compare_sets(model, data.examples("train"), data.examples("test"), COUNT, 0, samples)[0]


@pytest.mark.parametrize("form", ALL)
def test_a_memoriser_is_flagged(form):
    data = ALL[form]()
    compared = sets(data, copies_of(data, COUNT))
    near, copies = novelty(compared, "test")
    assert memorised(compared)
    assert copies.value > 0.9
    assert near.low > near.floor
    assert "memorised" in " ".join(in_words(compared, likeness(compared, "test"), [near, copies]))


@pytest.mark.parametrize("form", ALL)
def test_real_data_are_not_flagged(form):
    data = ALL[form]()
    compared = sets(data, more_like(data, COUNT))
    near, copies = novelty(compared, "test")
    assert not memorised(compared)
    assert copies.value < 0.1
    assert near.low <= 0.12
    said = in_words(compared, likeness(compared, "test"), [near, copies])
    assert not any("memorised" in word or "look at the nearest" in word for word in said)


@pytest.mark.parametrize("form", ["grid", "row", "stream"])
def test_four_copies_in_ten_are_flagged_too(form):
    data = ALL[form]()
    half = COUNT * 4 // 10
    compared = sets(data, torch.cat([copies_of(data, half), more_like(data, COUNT - half)]))
    assert memorised(compared)
    assert 0.3 < novelty(compared, "test")[1].value < 0.5


@pytest.mark.parametrize("form", ["grid", "row"])
def test_copies_with_a_little_noise_are_flagged(form):
    data = ALL[form]()
    copied = copies_of(data, COUNT)
    if form == "grid":
        flips = torch.rand(copied.shape, generator=torch.Generator().manual_seed(0)) < 0.05
        copied = torch.where(flips, (copied + 1).clamp(max=16), copied)
    else:
        copied[:, :6] += 0.002 * torch.randn((COUNT, 6), generator=torch.Generator().manual_seed(0))
    assert memorised(sets(data, copied))


def test_averages_of_many_pictures_are_no_copies():
    data = ALL["grid"]()
    training = data.examples("train")
    blurred = []
    for row in range(COUNT):
        label = row % 10
        rows = (training.conditions == label).nonzero()[:, 0]
        chosen = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(row))[:12]]
        blurred.append(training.x[chosen].double().mean(dim=0).round().long())
    assert not memorised(sets(data, torch.stack(blurred)))


@pytest.mark.parametrize("form", ALL)
def test_likeness_has_a_floor_and_sees_nonsense(form):
    data = ALL[form]()
    good = likeness(sets(data, more_like(data, COUNT)), "test")
    x = more_like(data, COUNT)
    generator = torch.Generator().manual_seed(0)
    if form == "grid":
        bad = x.flatten(1)[:, torch.randperm(64, generator=generator)].view_as(x)
    elif form == "row":
        bad = torch.stack([x[torch.randperm(len(x), generator=generator), c] for c in range(x.shape[1])], dim=1)
        bad[bad[:, 6] > 0, 2] = 0
    elif form == "curve":
        bad = torch.cat([x[..., :1], x[..., 1:][:, torch.randperm(x.shape[1], generator=generator)]], dim=-1)
    else:
        bad = torch.randint(0, data.form.vocabulary - 1, x.shape, generator=generator)
    worse = likeness(sets(data, bad), "test")
    assert worse.low > good.high
    assert worse.value > 2 * good.floor
    assert good.low <= good.value <= good.high


def test_likeness_grows_step_by_step_with_noise():
    data = ALL["grid"]()
    x = more_like(data, COUNT)
    values = []
    for share in (0.0, 0.1, 0.3, 0.8):
        flips = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < share
        noisy = torch.where(flips, torch.randint(0, 17, x.shape, generator=torch.Generator().manual_seed(2)), x)
        values.append(likeness(sets(data, noisy), "test").value)
    assert values == sorted(values)


def test_training_items_are_drawn_without_repetition_and_by_seed():
    training = ALL["grid"]().examples("train")
    first, again, other = (random_items(training, 50, seed).index for seed in (0, 0, 1))
    assert len(np.unique(first)) == 50
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
