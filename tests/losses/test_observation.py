import pytest
import torch

from pieria.data.batch import Batch
from pieria.errors import UsageError
from pieria.forms import Column, Grid, Row
from pieria.layers import grids
from pieria.layers.rows import RowEncoding
from pieria.losses.observation import Mixed, log_difference, log_normal, over_grid
from pieria.noise import ItemNoise


@pytest.mark.parametrize(
    ("levels", "ordered", "law"),
    [(2, True, "bernoulli"), (5, True, "logistic"), (5, True, "gaussian"), (5, True, "categorical"), (4, False, "auto")],
)
def test_the_levels_of_a_cell_sum_to_one(levels, ordered, law):
    form = Grid(1, 1, 1, levels=levels, ordered=ordered)
    observation = over_grid(form, law)
    generator = torch.Generator().manual_seed(0)
    raw = 4 * torch.randn(50, observation.outputs, 1, 1, generator=generator)
    each = [observation.log_prob(raw, torch.full((50, 1, 1, 1), level)) for level in range(levels)]
    torch.testing.assert_close(torch.stack(each).logsumexp(dim=0), torch.zeros(50), atol=2e-5, rtol=0)


@pytest.mark.parametrize("law", ["gaussian", "logistic"])
def test_a_continuous_cell_has_a_density(law):
    observation = over_grid(Grid(1, 1, 1, levels=None), law)
    x = torch.linspace(-40, 40, 200_001)[:, None, None, None]
    raw = torch.full((1, observation.outputs, 1, 1), 0.3).expand(len(x), -1, -1, -1)
    density = observation.log_prob(raw, x).detach().double().exp()
    assert torch.trapezoid(density, x.flatten().double()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("levels", "ordered", "law"), [(2, True, "bernoulli"), (6, True, "logistic"), (6, True, "gaussian"), (3, False, "auto")]
)
@torch.no_grad()
def test_draws_are_as_frequent_as_the_law_says(levels, ordered, law):
    observation = over_grid(Grid(1, 1, 1, levels=levels, ordered=ordered), law)
    raw = torch.tensor([0.4, -0.3, 0.1])[: observation.outputs].reshape(1, -1, 1, 1).expand(20_000, -1, -1, -1)
    drawn = observation.draw(raw, ItemNoise(0, len(raw)))
    seen = torch.bincount(drawn.flatten(), minlength=levels).double()
    said = torch.stack([observation.log_prob(raw[:1], torch.full((1, 1, 1, 1), v))[0] for v in range(levels)]).exp()
    expected = said.double() * len(raw)
    assert ((seen - expected).abs() < 5 * expected.sqrt() + 3).all()


@pytest.mark.parametrize(
    ("levels", "ordered", "law"),
    [(2, True, "bernoulli"), (2, False, "bernoulli"), (5, True, "categorical"), (3, False, "categorical")],
)
def test_the_expected_item_is_the_mean_of_items_as_they_are_read(levels, ordered, law):
    form = Grid(1, 1, 1, levels=levels, ordered=ordered)
    observation = over_grid(form, law)
    raw = torch.randn(4, observation.outputs, 1, 1)
    x = torch.arange(levels).reshape(-1, 1, 1, 1)
    shares = torch.stack([observation.log_prob(raw, level.expand(4, 1, 1, 1)) for level in x], dim=1).exp()
    mean = (shares @ grids.read(form, x).flatten(1)).reshape(4, -1, 1, 1)
    torch.testing.assert_close(observation.expected(raw), mean)


def test_many_guesses_at_once_are_the_same_as_one_by_one():
    for levels, ordered in [(2, True), (7, True), (3, False), (None, True)]:
        form = Grid(2, 3, 4, levels=levels, ordered=ordered)
        observation = over_grid(form, "auto")
        raw = torch.randn(5, 20, observation.outputs, 3, 4)
        x = torch.randn(5, 2, 3, 4) if levels is None else torch.randint(levels, (5, 2, 3, 4))
        together = observation.log_prob(raw, x)
        assert together.shape == (5, 20)
        for guess in (0, 19):
            torch.testing.assert_close(together[:, guess], observation.log_prob(raw[:, guess], x))


@pytest.mark.parametrize("law", ["logistic", "normal"])
def test_far_tails_keep_their_value_and_their_slope(law):
    upper = torch.tensor([-1e4, -30.0, 0.1, 30.0, 1e4], requires_grad=True)
    value = log_difference(upper, upper - 0.5, law)
    (slope,) = torch.autograd.grad(value.sum(), upper)
    assert torch.isfinite(value).all()
    assert torch.isfinite(slope).all()
    assert slope[0] > 0 > slope[-1]


def test_the_normal_tail_is_continuous_in_value_and_slope():
    x = torch.tensor([-9.9999, -10.0001], requires_grad=True)
    value = log_normal(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert value.diff().item() == pytest.approx(-2e-4 * 10.1, rel=0.1)
    assert slope[0].item() == pytest.approx(slope[1].item(), rel=1e-3)


@pytest.mark.parametrize(
    ("grid", "law"),
    [
        (Grid(1, 2, 2, levels=4), "bernoulli"),
        (Grid(1, 2, 2, levels=None), "categorical"),
        (Grid(1, 2, 2, levels=4, ordered=False), "gaussian"),
    ],
)
def test_a_law_that_does_not_fit_is_refused(grid, law):
    with pytest.raises(UsageError, match=law):
        over_grid(grid, law)


ROW = Row(
    (
        Column("height", "number", scale=10.0, shift=170.0),
        Column("children", "integer", scale=2.0, shift=1.0),
        Column("colour", "category", levels=3),
        Column("colour?", "missing", of="colour"),
        Column("height?", "missing", of="height"),
    )
)


def rows(n=400, seed=0):
    generator = torch.Generator().manual_seed(seed)
    height = torch.randn(n, generator=generator) * 0.5 + torch.randint(2, (n,), generator=generator) * 3
    children = (torch.randint(4, (n,), generator=generator) - 1.0) / 2
    colour = torch.randint(3, (n,), generator=generator).float()
    none, short = (torch.rand(2, n, generator=generator) < 0.2).float()
    return torch.stack([height * (1 - short), children, colour * (1 - none), none, short], dim=1)


def fitted(modes=4):
    encoding = RowEncoding(ROW, modes)
    encoding.fit(lambda: [Batch(rows())])
    return Mixed(encoding)


@torch.no_grad()
def test_a_row_law_integrates_to_one():
    observation = fitted()
    raw = torch.randn(1, observation.outputs, generator=torch.Generator().manual_seed(1))
    heights = torch.linspace(-12, 15, 4001)
    total = 0.0
    for child in range(-12, 16):
        for colour, none in [(0, 0), (1, 0), (2, 0), (0, 1)]:
            for short in (0, 1):
                grid = heights if not short else heights[:1] * 0
                x = torch.zeros(len(grid), 5)
                x[:, 0], x[:, 1], x[:, 2], x[:, 3], x[:, 4] = grid, (child - 1) / 2, colour, none, short
                p = observation.log_prob(raw.expand(len(x), -1), x).double().exp()
                # an integer's density is constant over a step of 1 / scale
                total += float(p[0] if short else torch.trapezoid(p, grid.double())) / 2
    assert total == pytest.approx(1, abs=2e-3)


def test_what_is_missing_does_not_count():
    observation = fitted()
    raw = torch.randn(1, observation.outputs)
    x = torch.tensor([[0.0, 0.0, 1.0, 1.0, 1.0]])
    y = torch.tensor([[9.0, 0.0, 2.0, 1.0, 1.0]])
    torch.testing.assert_close(observation.log_prob(raw, x), observation.log_prob(raw, y))


def test_drawn_rows_are_of_the_form():
    observation = fitted()
    x = observation.draw(torch.randn(500, observation.outputs), ItemNoise(0, 500))
    children = x[:, 1] * 2 + 1
    torch.testing.assert_close(children, children.round(), atol=1e-4, rtol=0)
    assert set(x[:, 2].tolist()) <= {0.0, 1.0, 2.0}
    assert (x[x[:, 4] == 1, 0] == 0).all()
    assert (x[x[:, 3] == 1, 2] == 0).all()
    scores = observation.log_prob(torch.zeros(500, observation.outputs), x)
    assert torch.isfinite(scores).all()
