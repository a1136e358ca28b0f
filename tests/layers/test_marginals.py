import numpy as np
import pytest
import torch
from scipy.stats import kstest

from pieria.data.batch import Batch
from pieria.forms import Column, Grid
from pieria.layers.marginals import Columns, Levels

N = 8000


def fitted(values, kind="number", scale=1.0, shift=0.0):
    columns = Columns([Column("x", kind, scale=scale, shift=shift)])
    x = torch.as_tensor(np.asarray(values), dtype=torch.float32)[:, None]
    columns.fit(x, torch.ones_like(x, dtype=torch.bool))
    return columns, x


SHAPES = {
    "skewed": lambda r: np.exp(2 * r.standard_normal(N)),
    "two humps": lambda r: np.where(r.random(N) < 0.3, -4, 3) + 0.5 * r.standard_normal(N),
    "far away": lambda r: 1e6 + r.standard_normal(N),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_numbers_become_gaussian_and_come_back(shape):
    columns, x = fitted(SHAPES[shape](np.random.default_rng(0)))
    z, _ = columns(x)
    # a wide gap lies in one piece with the edges of what it parts
    assert kstest(z[:, 0].numpy(), "norm").statistic < 0.05
    torch.testing.assert_close(columns.inverse(z), x, rtol=2e-5, atol=2e-5)
    # the slope is that of a difference quotient, in the middle and far outside
    at = torch.tensor([[float(x.median())], [float(x.max() + 3 * x.std())], [float(x.min() - x.std())]])
    step = 1e-3 * float(x.std())
    above, below = (columns(at + d)[0].double() for d in (step, -step))
    numeric = ((above - below) / (2 * step)).log()
    if shape != "far away":  # float32 cannot tell the two places apart there
        torch.testing.assert_close(columns(at)[1].double(), numeric, atol=0.05, rtol=0.02)


def test_common_integers_fill_their_interval():
    r = np.random.default_rng(0)
    values = np.where(r.random(N) < 0.9, 0, r.integers(1, 20_000, N))
    columns, x = fitted((values - 500) / 800, "integer", scale=800.0, shift=500.0)
    uniform = torch.rand(N, 1, generator=torch.Generator().manual_seed(0))
    z, _ = columns(columns.spread(x, uniform))
    assert kstest(z[:, 0].numpy(), "norm").statistic < 0.03
    back = columns.on_lattice(columns.inverse(z))
    torch.testing.assert_close(back, x, atol=1e-5, rtol=1e-5)
    assert float((columns.inverse(torch.full((1, 1), -9.0)) - x.min()).abs()) < 0.01  # nothing far below the smallest


def test_a_common_number_is_drawn_as_it_is():
    r = np.random.default_rng(0)
    columns, x = fitted(np.where(r.random(N) < 0.6, 0.25, r.standard_normal(N)))
    z = torch.randn(N, 1, generator=torch.Generator().manual_seed(0))
    drawn = columns.on_lattice(columns.inverse(z), inside=True)
    assert float((drawn == 0.25).float().mean()) == pytest.approx(0.6, abs=0.03)
    assert drawn.min() >= x.min()
    assert columns.on_lattice(x + 1e-5)[0] != x[0]


def test_a_lattice_of_one_value_and_a_constant_column_are_taken():
    for kind in ("number", "integer"):
        columns, x = fitted([7.0], kind)
        z, rise = columns(x)
        assert torch.isfinite(z).all()
        assert torch.isfinite(rise).all()
        torch.testing.assert_close(columns.on_lattice(columns.inverse(z)), x)


def test_the_slopes_of_a_column_integrate_to_its_codes():
    columns, _ = fitted(np.random.default_rng(0).standard_normal(N))
    grid = torch.linspace(-3, 3, 20_001)[:, None]
    z, rise = columns(grid)
    area = float(torch.trapezoid(rise.double().exp()[:, 0], grid[:, 0].double()))
    assert area == pytest.approx(float(z[-1] - z[0]), abs=1e-4)


def test_levels_become_gaussian_and_come_back():
    form = Grid(1, 2, 2, levels=5)
    generator = torch.Generator().manual_seed(0)
    x = torch.stack([torch.multinomial(p, N, replacement=True, generator=generator) for p in torch.eye(4, 5) * 3 + 1], dim=1)
    levels = Levels(form)
    levels.fit(lambda: [Batch(x.view(N, 1, 2, 2))])
    uniform = torch.rand(N, 4, generator=generator)
    z, rise = levels(x, uniform)
    for cell in range(4):
        assert kstest(z[:, cell].numpy(), "norm").statistic < 0.03
    assert torch.equal(levels.inverse(z), x)
    # the law of the cells by themselves is that of their counts
    nats = rise + torch.distributions.Normal(0.0, 1.0).log_prob(z)
    counts = torch.bincount(x[:, 0], minlength=5) / N
    torch.testing.assert_close(nats[:, 0].exp(), counts[x[:, 0]], atol=0.01, rtol=0.02)


def test_large_pictures_share_a_table():
    form = Grid(3, 64, 64, levels=256)
    levels = Levels(form)
    assert levels.shares.shape == (3, 256)
    x = torch.randint(256, (2, *form.shape))
    levels.fit(lambda: [Batch(x)])
    z, _ = levels(x.flatten(1), torch.full((2, 3 * 64 * 64), 0.5))
    assert torch.equal(levels.inverse(z), x.flatten(1))
