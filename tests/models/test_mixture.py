"""The mixture: a law that sums to one, EM that never goes down, draws and fills that follow what it states."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, multivariate_normal
from sklearn.datasets import load_digits

from pieria.data.batch import Batch
from pieria.errors import FormError, TrainingError, UsageError
from pieria.forms import Column, Grid, Row, Tokens
from pieria.models.contract import Estimates, Explains, Fills, NoOptions, Scores
from pieria.models.mixture import Mixture, MixtureSettings
from pieria.models.weights import load, save
from pieria.noise import ItemNoise

NUMBERS = Row((Column("a", "number"), Column("b", "number")))
TABLE = Row(
    (
        Column("age", "number"),
        Column("age missing", "missing", of="age"),
        Column("kind", "category", levels=3),
        Column("kind missing", "missing", of="kind"),
    )
)


def table(count: int = 300, seed: int = 0) -> torch.Tensor:
    draw = np.random.default_rng(seed)
    group = draw.integers(0, 2, count)
    gone, lost = draw.random(count) < 0.2, draw.random(count) < 0.1
    age = np.where(gone, 0, draw.normal(3.0 * group, 0.5))
    kind = np.where(lost, 0, np.where(group == 1, 2, draw.integers(0, 2, count)))
    return torch.from_numpy(np.stack([age, gone, kind, lost], axis=1)).float()


def cloud(count: int = 400, seed: int = 0) -> torch.Tensor:
    draw = np.random.default_rng(seed)
    a = draw.normal(size=(count, 2)) @ np.array([[1.0, 0.8], [0, 0.3]])
    return torch.from_numpy(a + 4 * draw.integers(0, 2, (count, 1))).float()


def pictures(levels: int, count: int = 200, seed: int = 0) -> torch.Tensor:
    draw = np.random.default_rng(seed)
    middle = draw.integers(0, 2, (count, 1)) * (levels - 1)
    return torch.from_numpy(np.clip(np.rint(draw.normal(middle, levels / 6, (count, 2))), 0, levels - 1)).long()[
        :, None, None
    ]


CASES = {
    "table": (TABLE, table(), {}),
    "numbers, full": (NUMBERS, cloud(), {"covariance": "full"}),
    "two levels": (Grid(1, 1, 2, levels=2), pictures(2), {}),
    "few levels": (Grid(1, 1, 2, levels=5), pictures(5), {}),
    "tiles": (Grid(1, 1, 2, levels=40, ordered=False), pictures(40), {}),
    "many levels": (Grid(1, 1, 2, levels=40), pictures(40), {}),
    "continuous": (Grid(1, 1, 2, levels=None), cloud()[:, None, None], {}),
}


def fitted(name: str, **settings: object) -> Mixture:
    form, x, more = CASES[name]
    model = Mixture(MixtureSettings.of({"components": 3, "restarts": 1, **more, **settings}), form)
    model.estimate(lambda: [Batch(x[:100]), Batch(x[100:])])
    return model


def every(levels: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product(range(levels), repeat=2)))[:, None, None]


@pytest.mark.parametrize("name", ["two levels", "few levels", "tiles", "many levels"])
def test_all_pictures_together_have_probability_one_and_are_drawn_so(name: str) -> None:
    model = fitted(name)
    items = every(model.form.levels)
    law = model.log_prob(Batch(items)).exp().numpy()
    assert law.sum() == pytest.approx(1, abs=1e-10)
    drawn = model.sample(20_000, NoOptions(), ItemNoise(3, 20_000))
    places = (drawn.reshape(-1, 2) * torch.tensor([model.form.levels, 1])).sum(1)
    seen, expected = np.bincount(places, minlength=len(law)), law * 20_000
    order = np.argsort(expected)
    few = np.cumsum(expected[order]) < 5
    if few.any():
        few[few.sum()] = True
    pool = lambda x: np.append(x[order][~few], x[order][few].sum() if few.any() else [])  # noqa: E731
    assert chisquare(pool(seen), pool(expected) / expected.sum() * 20_000).pvalue > 1e-3


@pytest.mark.parametrize("name", ["numbers, full", "continuous"])
def test_a_density_has_area_one(name: str) -> None:
    model = fitted(name)
    axis = torch.arange(-12, 17, 0.05, dtype=torch.float32)
    points = torch.cartesian_prod(axis, axis)
    x = points if name.startswith("numbers") else points[:, None, None]
    assert float(model.log_prob(Batch(x)).exp().sum()) * 0.05**2 == pytest.approx(1, abs=1e-4)


def test_a_table_with_missing_values_has_total_one() -> None:
    model, total = fitted("table"), 0.0
    axis = torch.arange(-8, 12, 0.01)
    for gone, kind, lost in [(g, k, m) for g in (0, 1) for m in (0, 1) for k in (range(3) if not m else (0,))]:
        ages = axis if not gone else torch.zeros(1)
        rest = torch.tensor([gone, kind, lost], dtype=torch.float32).expand(len(ages), 3)
        odds = model.log_prob(Batch(torch.cat([ages[:, None], rest], dim=1))).exp().sum()
        total += float(odds) * (1 if gone else 0.01)
    assert total == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_em_never_goes_down(name: str) -> None:
    history = np.array(fitted(name, anneal=1.0, tolerance=0.0, iterations=40, components=5, smoothing=0.3).objective)
    assert len(history) > 2
    assert (np.diff(history) >= -1e-8 * np.abs(history[:-1])).all()
    assert history[-1] > history[0]


def test_it_finds_a_planted_mixture() -> None:
    draw = np.random.default_rng(0)
    group = draw.random(4000) < 0.3
    x = np.where(group[:, None], draw.normal([3, -2], [0.5, 1], (4000, 2)), draw.normal([-1, 1], [1, 0.4], (4000, 2)))
    model = Mixture(MixtureSettings(components=2), NUMBERS)
    model.estimate(lambda: [Batch(torch.from_numpy(x).float())])
    small = int(model.log_weights.argmin())
    assert float(model.log_weights[small].exp()) == pytest.approx(0.3, abs=0.02)
    assert model.mean[:, small].tolist() == pytest.approx([3, -2], abs=0.1)
    assert model.variance[:, small].sqrt().tolist() == pytest.approx([0.5, 1], abs=0.08)


def test_one_component_is_independent_columns() -> None:
    form, x, _ = CASES["table"]
    model = Mixture(MixtureSettings.of({**Mixture.presets["independent"], "smoothing": 1e-9}), form)
    model.estimate(lambda: [Batch(x)])
    here = x[:, 1] == 0
    ages = x[here, 0].double()
    told = -0.5 * ((ages - ages.mean()) ** 2 / ages.var(correction=0) + (2 * torch.pi * ages.var(correction=0)).log())
    known = x[:, 3] == 0
    shares = torch.bincount(x[known, 2].long(), minlength=3) / known.sum()
    expected = told.sum() + shares.log().double()[x[known, 2].long()].sum()
    for flag in (x[:, 1], x[:, 3]):
        expected = expected + (torch.where(flag == 1, flag.mean(), 1 - flag.mean())).log().double().sum()
    assert float(model.log_prob(Batch(x)).sum()) == pytest.approx(float(expected), rel=1e-5)


def test_samples_of_a_table_look_like_it() -> None:
    model, x = fitted("table"), table(5000, seed=9)
    drawn = model.sample(5000, NoOptions(), ItemNoise(0, 5000))
    assert drawn.dtype == torch.float32
    assert (drawn[drawn[:, 1] == 1, 0] == 0).all()
    assert (drawn[drawn[:, 3] == 1, 2] == 0).all()
    torch.testing.assert_close(drawn.mean(0), x.mean(0), atol=0.12, rtol=0)
    both = lambda t: float(((t[:, 0] > 1.5) & (t[:, 2] == 2)).double().mean())  # noqa: E731
    assert both(drawn) == pytest.approx(both(x), abs=0.06)


def test_filling_follows_the_law_given_the_rest() -> None:
    model = fitted("few levels")
    x = torch.tensor([[[[4, 0]]]]).expand(20_000, 1, 1, 2)
    mask = torch.tensor([[[[True, False]]]]).expand(20_000, 1, 1, 2)
    filled = model.fill(x, mask, NoOptions(), ItemNoise(0, 20_000))
    assert (filled[..., 0] == 4).all()
    row = torch.tensor([[[[4, level]]] for level in range(5)])
    law = torch.softmax(model.log_prob(Batch(row)), dim=0).numpy()
    assert chisquare(np.bincount(filled[:, 0, 0, 1], minlength=5), law * 20_000).pvalue > 1e-3


def test_filling_a_full_gaussian_is_conditioning() -> None:
    model = Mixture(MixtureSettings(components=1, restarts=1, anneal=1.0, covariance="full"), NUMBERS)
    model.estimate(lambda: [Batch(cloud())])
    x = torch.tensor([[2.0, 0.0]]).expand(4000, 2)
    filled = model.fill(x, torch.tensor([[True, False]]).expand(4000, 2), NoOptions(), ItemNoise(0, 4000))[:, 1]
    mean, variance = model.mean[:, 0], model.variance[0]
    pull = variance[1, 0] / variance[0, 0]
    assert float(filled.mean()) == pytest.approx(float(mean[1] + pull * (2 - mean[0])), abs=0.05)
    assert float(filled.var()) == pytest.approx(float(variance[1, 1] - pull * variance[0, 1]), rel=0.08)
    reference = multivariate_normal(mean.numpy(), variance.numpy()).logpdf(cloud().numpy())
    assert model.log_prob(Batch(cloud())).numpy() == pytest.approx(reference, abs=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_saved_traced_and_cut_into_batches_it_is_the_same(name: str, tmp_path: Path) -> None:
    model = fitted(name)
    save(model, tmp_path / "model.safetensors")
    again, batch = load(tmp_path / "model.safetensors"), Batch(CASES[name][1])
    assert torch.equal(again.log_prob(batch), model.log_prob(batch))
    together = again.sample(6, NoOptions(), ItemNoise(2, 6))
    parts = [model.sample(3, NoOptions(), ItemNoise(2, 3, first=first)) for first in (0, 3)]
    assert torch.equal(together, torch.cat(parts))
    steps = list(model.trace(NoOptions(), ItemNoise(2, 1)))
    assert steps[-1].x is not None
    assert torch.equal(steps[-1].x, together[:1])
    assert steps[1].x is not None
    assert steps[1].x.shape == together[:1].shape


def test_its_abilities() -> None:
    for ability in (Estimates, Scores, Fills, Explains):
        assert isinstance(fitted("two levels"), ability)


def test_bad_input_is_told_in_plain_words() -> None:
    model = fitted("two levels")
    with pytest.raises(FormError, match="pictures of"):
        model.log_prob(Batch(torch.zeros(1, 1, 2, 2, dtype=torch.int64)))
    with pytest.raises(FormError, match="symbol 2"):
        model.log_prob(Batch(torch.full((1, 1, 1, 2), 2)))
    with pytest.raises(FormError, match="NaN"):
        fitted("table").log_prob(Batch(torch.full((1, 4), torch.nan)))
    with pytest.raises(TrainingError, match="no items"):
        Mixture(MixtureSettings(), NUMBERS).estimate(list)
    with pytest.raises(UsageError, match="covariance"):
        Mixture(MixtureSettings(covariance="full"), TABLE)
    with pytest.raises(FormError, match="learns from"):
        Mixture(MixtureSettings(), Tokens(3, 3))


def test_one_item_and_fewer_items_than_components() -> None:
    model = Mixture(MixtureSettings(components=5), TABLE)
    model.estimate(lambda: [Batch(table(1))])
    assert torch.isfinite(model.log_prob(Batch(table(20)))).all()


def test_digits_beat_the_reference_with_ten_components() -> None:
    """Digits 8 x 8 binarised at 8: independent pixels 25.275, ten components 19.90 nats."""
    x = torch.from_numpy((load_digits().images >= 8).astype(np.int64))[np.random.RandomState(0).permutation(1797)][:, None]
    for components, figure in ((1, 25.28), (10, 19.90)):
        model = Mixture(MixtureSettings(components=components, restarts=1), Grid(1, 8, 8, levels=2))
        model.estimate(lambda: [Batch(x[:1297])])
        assert -float(model.log_prob(Batch(x[1297:])).mean()) <= figure
