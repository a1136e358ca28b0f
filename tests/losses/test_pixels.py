import itertools

import pytest
import torch

from pieria.errors import UsageError
from pieria.forms import Grid
from pieria.losses.pixels import Categorical, LogisticMixture, law_of

COLOUR = Grid(3, 1, 1, levels=5)
LAWS = {"categorical": lambda form: Categorical(form, 7), "logistic": lambda form: LogisticMixture(form, 3)}


def law_and_raw(name, form, n=4):
    torch.manual_seed(1)
    law = LAWS[name](form)
    return law, torch.randn(n, law.outputs)


def every(form):
    return torch.tensor(list(itertools.product(range(form.levels), repeat=form.channels)))


@pytest.mark.parametrize("name", LAWS)
def test_the_levels_of_all_channels_sum_to_one(name):
    law, raw = law_and_raw(name, COLOUR)
    cells = every(COLOUR)
    with torch.no_grad():
        for one in raw:
            said = law.log_prob(one.expand(len(cells), -1)[:, :, None, None], cells[:, :, None, None])
            assert float(said.double().exp().sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", LAWS)
def test_channels_in_order_multiply_to_the_whole(name):
    law, raw = law_and_raw(name, COLOUR)
    x = torch.tensor([[0, 4, 2], [1, 1, 1], [4, 0, 0], [3, 2, 4]])
    with torch.no_grad():
        parts = [law.nats(raw, x[:, :c], x[:, c]) for c in range(3)]
        whole = law.log_prob(raw[:, :, None, None], x[:, :, None, None])
        assert torch.allclose(sum(parts).float(), whole, atol=1e-5)
        odds = law.odds(raw, x[:, :2], 5)
        assert torch.allclose(odds.gather(1, x[:, 2:])[:, 0], parts[2])
        assert torch.allclose(odds.exp().sum(1), torch.ones(4, dtype=torch.float64), atol=1e-5)


@pytest.mark.parametrize("name", LAWS)
def test_draws_follow_the_law_and_the_channels_before(name):
    law, raw = law_and_raw(name, COLOUR, n=1)
    n = 20_000
    before, uniform = torch.tensor([[3, 0]]).expand(n, -1), torch.rand(n, 2, dtype=torch.float64)
    with torch.no_grad():
        drawn = law.draw(raw.expand(n, -1), before, uniform)
        expected = law.odds(raw, before[:1], 5).exp()[0] * n
    seen = torch.bincount(drawn, minlength=5).double()
    assert (
        float(((seen - expected).square() / expected.clamp(min=1)).sum()) < 18.5
    )  # chi-squared, 4 degrees of freedom, 1e-3


def test_a_later_channel_depends_on_an_earlier_one():
    for name in LAWS:
        law, raw = law_and_raw(name, COLOUR, n=1)
        with torch.no_grad():
            first, other = (law.odds(raw, torch.tensor([[level]]), 5) for level in (0, 4))
        assert float((first - other).abs().max()) > 1e-2, name


def test_temperature_zero_is_the_same_for_every_number():
    for name in LAWS:
        law, raw = law_and_raw(name, COLOUR, n=1)
        none = torch.zeros(9, 0, dtype=torch.long)
        with torch.no_grad():
            drawn = law.draw(raw.expand(9, -1), none, torch.rand(9, 2, dtype=torch.float64), 0.0)
        assert len(set(drawn.tolist())) == 1, name


def test_far_tails_stay_finite_and_have_gradients():
    law = LogisticMixture(Grid(1, 1, 1, levels=256), 2)
    raw = torch.tensor([[0.0, 0.0, 60.0, -60.0, -30.0, -30.0]], requires_grad=True)
    for level in (0, 1, 128, 254, 255):
        said = law.log_prob(raw[:, :, None, None], torch.tensor([[[[level]]]]))
        said.sum().backward()
        assert torch.isfinite(said).all()
    assert torch.isfinite(raw.grad).all()


def test_many_levels_are_drawn_without_listing_them():
    law = LogisticMixture(Grid(1, 1, 1, levels=65536), 2)
    raw = torch.zeros(3, law.outputs)
    drawn = law.draw(raw, torch.zeros(3, 0, dtype=torch.long), torch.rand(3, 2, dtype=torch.float64))
    assert ((drawn >= 0) & (drawn < 65536)).all()


@pytest.mark.parametrize(
    ("form", "asked", "made"),
    [
        (Grid(1, 2, 2, levels=2), "auto", Categorical),
        (Grid(1, 2, 2, levels=256), "auto", LogisticMixture),
        (Grid(1, 2, 2, levels=200, ordered=False), "auto", Categorical),
        (Grid(1, 2, 2, levels=None), "auto", LogisticMixture),
        (Grid(1, 2, 2, levels=200, ordered=False), "logistic", None),
        (Grid(1, 2, 2, levels=None), "categorical", None),
    ],
)
def test_which_law_fits_which_levels(form, asked, made):
    if made is None:
        with pytest.raises(UsageError, match="law = "):
            law_of(form, asked, features=4, bumps=2)
    else:
        assert isinstance(law_of(form, asked, features=4, bumps=2), made)
