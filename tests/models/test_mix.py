"""The mix: the sum of its parts' laws, drawn from as stated, with weights that never make validation worse."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from pieria.data.batch import Batch
from pieria.data.examples import StreamExamples
from pieria.errors import TrainingError, UsageError
from pieria.forms import Grid, Tokens
from pieria.models.contract import Learns, Model, Predicts, Scores
from pieria.models.mix import Mix, MixSettings
from pieria.models.mixture import Mixture, MixtureSettings
from pieria.models.ngram import Ngram, NgramSettings
from pieria.models.weights import load, save
from pieria.noise import ItemNoise
from pieria.sampling.decoding import Decoding
from pieria.training.loop import learn as learned
from pieria.training.plan import Plan

ITEMS = Tokens(vocabulary=3, length=3, end=0)
PICTURES = Grid(1, 1, 3, levels=2)


def words(count: int, seed: int) -> torch.Tensor:
    x = torch.from_numpy(np.random.default_rng(seed).choice(3, size=(count, 3), p=[0.3, 0.5, 0.2]))
    x[::2, 1:] = x[::2, :1]
    return torch.where((x == 0).cumsum(dim=1) > 0, 0, x)


def pictures(count: int, seed: int) -> torch.Tensor:
    x = (np.random.default_rng(seed).random((count, 3)) < 0.3).astype(np.int64)
    x[:, 2] = x[:, 0]
    return torch.from_numpy(x)[:, None, None]


def learn(mix: Mix, train: torch.Tensor, validation: torch.Tensor) -> Mix:
    for stage in mix.stages():
        x = train if stage.split == "train" else validation
        stage.part.estimate(lambda x=x, stage=stage: [stage.view(Batch(x))])
    return mix


def of_words() -> Mix:
    parts = [Ngram(NgramSettings(order=order), ITEMS) for order in (1, 3)]
    for part in parts:
        part.estimate(lambda: [Batch(words(40, 0))])
    return learn(Mix.of(parts), words(40, 0), words(200, 1))


def of_pictures() -> Mix:
    return learn(Mix(MixSettings(parts="mixture:tiny, mixture:independent"), PICTURES), pictures(60, 0), pictures(60, 1))


def every_item(mix: Mix) -> torch.Tensor:
    if isinstance(mix.form, Grid):
        return torch.tensor(list(itertools.product(range(2), repeat=3)))[:, None, None]
    x = torch.tensor(list(itertools.product(range(3), repeat=3)))
    return torch.unique(torch.where((x == 0).cumsum(dim=1) > 0, 0, x), dim=0)


@pytest.mark.parametrize("make", [of_words, of_pictures])
def test_it_sums_to_one_and_is_drawn_so(make) -> None:
    mix = make()
    items = every_item(mix)
    law = mix.log_prob(Batch(items)).exp().numpy()
    assert law.sum() == pytest.approx(1, abs=1e-9)
    drawn = mix.sample(20_000, Decoding(), ItemNoise(1, 20_000)).flatten(1)
    seen = (drawn[:, None] == items.flatten(1)[None]).all(-1).sum(0).numpy()
    assert chisquare(seen, law * 20_000 / law.sum()).pvalue > 1e-3


def test_symbols_are_mixed_one_by_one() -> None:
    mix, x = of_words(), words(7, 2)
    tokens = torch.cat([torch.full((7, 1), ITEMS.begin), x], dim=1)
    parts = torch.stack([part.logits(tokens).exp() for part in mix.blend.parts])
    expected = torch.einsum("k,kbtv->btv", mix.weights, parts)
    torch.testing.assert_close(mix.logits(tokens).exp(), expected, rtol=1e-12, atol=0)
    state = mix.start(7)
    for place in range(4):
        odds, state = mix.step(tokens[:, place : place + 1], state)
        torch.testing.assert_close(odds, mix.logits(tokens)[:, place], rtol=1e-10, atol=0)
    told = mix.logits(tokens)[:, :-1].gather(-1, x[..., None])[..., 0]
    mask = torch.ones_like(x, dtype=torch.bool)
    torch.testing.assert_close(mix.symbol_log_prob(Batch(x, mask=mask)), told, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", [of_words, of_pictures])
def test_on_validation_it_beats_each_part_and_equal_weights(make) -> None:
    mix = make()
    x = Batch(words(200, 1) if isinstance(mix.form, Tokens) else pictures(60, 1))
    mixed = float(mix.log_prob(x).sum())
    for part in mix.blend.parts:
        assert mixed >= float(part.log_prob(x).sum()) - 1e-6
    fitted = mix.weights.clone()
    assert float(fitted.sum()) == pytest.approx(1)
    for nudge in (1e-3, -1e-3):
        nudged = (fitted + torch.tensor([nudge, -nudge])).clamp(0, 1)
        mix.weights.copy_(nudged)
        assert float(mix.log_prob(x).sum()) <= mixed + 1e-6


def test_it_learns_parts_then_weights() -> None:
    named = Mix(MixSettings(), ITEMS)
    assert [stage.split for stage in named.stages()] == ["train", "train", "validation"]
    assert sum(stage.share for stage in named.stages()) == pytest.approx(1)
    assert [stage.split for stage in of_words().stages()] == ["validation"]
    assert isinstance(named, Learns)
    assert isinstance(named, Predicts)
    assert isinstance(of_pictures(), Scores)


def test_the_weights_of_a_stream_are_learned_with_the_context_that_scoring_has() -> None:
    """Alternating symbols: who is shown what stood before knows the next one, who is not can only guess."""
    form = Tokens(vocabulary=2, length=1)
    train, held = (StreamExamples(form, np.arange(count) % 2) for count in (400, 100))
    parts = [Ngram(NgramSettings(order=order), form) for order in (1, 3)]
    for part in parts:
        part.estimate(lambda part=part: train.sweep(8, context=part.reach))
    mix = Mix.of(parts)
    learned(mix, train, held, Plan(seed=0))
    assert isinstance(mix.blend, Predicts)
    assert mix.reach == 2
    assert float(mix.weights[1]) > 0.95


@pytest.mark.parametrize("make", [of_words, of_pictures])
def test_one_file_holds_it_all(make, tmp_path: Path) -> None:
    mix = make()
    save(mix, tmp_path / "model.safetensors")
    again, x = load(tmp_path / "model.safetensors"), Batch(every_item(mix))
    assert isinstance(again, Mix)
    assert torch.equal(again.log_prob(x), mix.log_prob(x))
    noise = ItemNoise(5, 20)
    assert torch.equal(again.sample(20, Decoding(), noise), mix.sample(20, Decoding(), noise))
    nested = Mix.of([again, mix])
    save(nested, tmp_path / "nested.safetensors")
    assert torch.equal(load(tmp_path / "nested.safetensors").log_prob(x), nested.log_prob(x))


@pytest.mark.parametrize("make", [of_words, of_pictures])
def test_the_trace_ends_with_the_sample(make) -> None:
    mix = make()
    for seed in range(4):
        steps = list(mix.trace(Decoding(), ItemNoise(seed, 1)))
        assert steps[-1].x is not None
        assert torch.equal(steps[-1].x, mix.sample(1, Decoding(), ItemNoise(seed, 1)))


def test_an_item_does_not_depend_on_the_batch_around_it() -> None:
    for mix in (of_words(), of_pictures()):
        apart = [mix.sample(2, Decoding(), ItemNoise(1, 2, first=first)) for first in (0, 2)]
        assert torch.equal(mix.sample(4, Decoding(), ItemNoise(1, 4)), torch.cat(apart))


def test_parts_that_do_not_fit_are_refused() -> None:
    words_, other = Ngram(NgramSettings(), ITEMS), Ngram(NgramSettings(), Tokens(4, 3, end=0))
    with pytest.raises(UsageError, match="form of the first part"):
        Mix.of([words_, other])
    with pytest.raises(UsageError, match="form of the first part"):
        Mix.of([words_, Mixture(MixtureSettings(), PICTURES)])
    with pytest.raises(UsageError, match="two or more"):
        Mix.of([words_])
    with pytest.raises(UsageError, match="exact"):
        Mix.of([words_, Vague(NgramSettings(), ITEMS)])
    with pytest.raises(UsageError, match=r"preset of ngram.*tiny"):
        Mix(MixSettings(parts="ngram:tinny,ngram"), ITEMS)
    with pytest.raises(TrainingError, match="no data"):
        of_words().blend.estimate(list)


class Vague(Model):
    Settings, consumes, likelihood = NgramSettings, frozenset({Tokens}), "bound"

    def sample(self, n, options, noise, condition=None):
        return torch.zeros(n, 3, dtype=torch.int64)
