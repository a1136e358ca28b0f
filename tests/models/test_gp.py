"""Exact regression against scikit-learn's formulas, the kernel language, learning, drawing, and real series."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("gpytorch")

from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process import kernels as sk

from pieria.data.batch import Batch
from pieria.errors import DataError, FormError, UsageError
from pieria.forms import Curve
from pieria.layers.kernels import Expression
from pieria.models.gp import Gp, GpSampling, facts
from pieria.noise import ItemNoise

FACTS = {"span": 8.0, "gap": 0.1, "season": 2.0}


def covariance(text, x1, x2, facts=FACTS):
    kernel = Expression(text, x1.shape[1])
    kernel.begin(facts, 1.0)
    return kernel(x1, x2, x1 / 8, x2 / 8).detach().numpy()


def positions(n=17, inputs=1):
    return torch.from_numpy(np.random.default_rng(n).uniform(0, 8, (n, inputs)))


@pytest.mark.parametrize(
    ("text", "theirs"),
    [
        ("2*rbf(length=1.5)", 2.0 * sk.RBF(1.5)),
        ("matern12(length=0.7)", sk.Matern(0.7, nu=0.5)),
        ("matern32(length=0.7)", sk.Matern(0.7, nu=1.5)),
        ("3*matern52(0.7)", 3.0 * sk.Matern(0.7, nu=2.5)),
        ("0.5*rational(length=2, alpha=0.3)", 0.5 * sk.RationalQuadratic(2, 0.3)),
        ("periodic(length=1.3, period=2.5)", sk.ExpSineSquared(1.3, 2.5)),
        ("4*rbf(9)*periodic(1.2, season/2) + 2*rational(1, 1)",
         4.0 * sk.RBF(9) * sk.ExpSineSquared(1.2, 1.0) + 2.0 * sk.RationalQuadratic(1, 1)),
        ("1*(1*rbf(1) + 2*matern32(span/4))*rational(3, 2)",
         (sk.RBF(1) + 2.0 * sk.Matern(2, nu=1.5)) * sk.RationalQuadratic(3, 2)),
        ("5 + 1*rbf(1)", 5.0 + 1.0 * sk.RBF(1)),
    ],
)  # fmt: skip
def test_a_kernel_is_what_its_formula_says(text, theirs):
    text = text if text[0].isdigit() else f"1*{text}"
    x1, x2 = positions(), positions(9)
    assert covariance(text, x1, x2) == pytest.approx(theirs(x1.numpy(), x2.numpy()), abs=1e-6)
    assert covariance(text, x1, x1) == pytest.approx(theirs(x1.numpy()), abs=1e-6)


def test_linear_and_polynomial_see_inputs_as_shares_of_their_span():
    x = positions()
    u = x.numpy() / 8
    assert covariance("2*linear", x, x) == pytest.approx(2 * u @ u.T)
    assert covariance("1*polynomial(offset=0.5, degree=3)", x, x) == pytest.approx((u @ u.T + 0.5) ** 3)


def test_each_input_has_a_length_of_its_own():
    kernel = Expression("rbf(length=1)*periodic(1, 2)", 3)
    limits = kernel.begin(FACTS, 1.0)
    assert sorted(p.numel() for p in limits) == [1, 1, 3, 3, 3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rbff", "Did you mean 'rbf'"),
        ("rbf(lenght=2)", "Did you mean 'length'"),
        ("rbf(length=spam)", "Did you mean 'span'"),
        ("rbf(1, 2)", "was given 2 values"),
        ("rbf - noise", "no covariance function"),
        ("rbf*noise", "noise stands once"),
        ("noise + noise + rbf", "noise stands once"),
        ("noise", "nothing but noise"),
        ("rbf(length=(1, 2))", "2 values"),
        ("rbf(length=(5, 1, 2))", "outside 1 to 2"),
        ("rbf(length=-1)", "not positive"),
        ("rbf(length=1/0)", "not a number"),
        ("rbf(length=9**9**9)", "not a number"),
        ("polynomial(degree=1.5)", "whole number"),
        ("__import__('os').system('true')", "no covariance function"),
        ("rbf.__class__", "no covariance function"),
        ("rbf(", "cannot be read"),
        ("", "cannot be read"),
        ("-2*rbf", "not positive"),
    ],
)
def test_a_wrong_kernel_says_what_is_wrong(text, said):
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        Expression(text, 1).begin(FACTS, 1.0)


def curve(n=40, seed=0, error=0.1):
    generator = np.random.default_rng(seed)
    x = np.sort(generator.uniform(0, 10, n))
    y = 50 + 7 * np.sin(x) + 7 * error * generator.standard_normal(n)
    return torch.from_numpy(np.stack([x, y], axis=1))[None]


def fitted(x, **settings):
    model = Gp(Gp.Settings.of({"restarts": 0, **settings}), Curve(1, x.shape[2] - 1))
    model.estimate(lambda: [Batch(x)])
    return model


def test_learning_reaches_scikit_learns_likelihood_and_predicts_the_same():
    x, later = curve(), curve(9, seed=1)
    model = fitted(x, kernel="10*rbf(length=1) + 0.5*noise")
    mean = x[0, :, 1].mean()
    theirs = GaussianProcessRegressor(10.0 * sk.RBF(1.0) + sk.WhiteKernel(0.5), n_restarts_optimizer=0)
    theirs.fit(x[0, :, :1].numpy(), (x[0, :, 1] - mean).numpy())
    assert model.log_marginal_likelihood() == pytest.approx(theirs.log_marginal_likelihood_value_, abs=1e-3)
    m, v = model.predict(later[0, :, :1])
    n, s = theirs.predict(later[0, :, :1].numpy(), return_std=True)
    assert m[:, 0].numpy() == pytest.approx(n + mean.item(), abs=1e-2)
    # scikit-learn's deviation counts the noise, since its kernel holds it
    assert v[:, 0].sqrt().numpy() == pytest.approx(s, rel=1e-2)


def test_the_gradient_is_that_of_the_likelihood():
    x = curve(12)
    model = fitted(x, kernel="rbf*periodic(period=6) + linear + rational + noise", iterations=1)
    functions = [(x[0, :, :1], (x[0, :, 1:] - model.shift) / model.scale)]
    places = list(model.kernel.begin(facts(*functions[0]), 1.0))
    _, gradient = model._loss(functions, places)
    step = 1e-5
    for place, slope in zip(places, np.split(gradient, np.cumsum([p.numel() for p in places])[:-1]), strict=True):
        for number in range(place.numel()):
            with torch.no_grad():
                place.view(-1)[number] += step
                up = model._loss(functions, places)[0]
                place.view(-1)[number] -= 2 * step
                down = model._loss(functions, places)[0]
                place.view(-1)[number] += step
            assert (up - down) / (2 * step) == pytest.approx(slope[number], rel=1e-4, abs=1e-5)


def test_the_joint_density_follows_the_chain_rule():
    model = fitted(curve(), kernel="rbf + noise")
    later = curve(5, seed=2)
    joint = model.log_prob(Batch(later))
    single = model.log_prob(Batch(later[:, :1]))
    both = torch.cat([curve(), later[:, :1]], dim=1)
    # condition on the first point as well, with the same hyperparameters and units
    model.x, model.y = both[0, :, :1], (both[0, :, 1:] - model.shift) / model.scale
    model.factor = None
    rest = model.log_prob(Batch(later[:, 1:]))
    assert joint.item() == pytest.approx((single + rest).item(), abs=1e-8)


def test_masked_points_do_not_count():
    model = fitted(curve())
    later = curve(6, seed=3)
    mask = torch.tensor([[True, True, False, True, False, True]])
    wanted = model.log_prob(Batch(later[:, mask[0]]))
    assert torch.equal(model.log_prob(Batch(later, mask=mask)), wanted)


def test_several_functions_share_what_is_learned_and_are_not_kept():
    functions = torch.cat([curve(15, seed=s) - 50 * torch.tensor([0.0, 1.0]) for s in range(6)])
    model = fitted(functions, kernel="rbf(length=1) + noise")
    assert len(model.x) == 0
    strange = functions.clone()
    strange[..., 1] = strange[..., 1].flip(1)[:, torch.randperm(15, generator=torch.Generator().manual_seed(0))]
    assert (model.log_prob(Batch(functions)) > model.log_prob(Batch(strange))).all()


def test_several_outputs_are_independent_given_the_kernel():
    one, other = curve(seed=4), curve(seed=5)
    both = torch.cat([one, one[:, :, 1:].flip(1) * 3], dim=2)
    model = fitted(both, kernel="rbf(length=1) + noise")
    mean, variance = model.predict(other[0, :, :1])
    assert mean.shape == variance.shape == (40, 2)
    assert variance[0, 1].item() == pytest.approx(9 * variance[0, 0].item())
    assert model.sample(3, GpSampling(points=7), ItemNoise(0, 3)).shape == (3, 7, 3)


def test_posterior_functions_pass_near_the_data_and_prior_ones_do_not():
    x = curve(error=0.01)
    model = fitted(x, kernel="rbf(length=1) + noise")
    noise = ItemNoise(0, 50)
    given = model.sample(50, GpSampling(), noise, x[0, :, :1])
    prior = model.sample(50, GpSampling(posterior=False), noise, x[0, :, :1])
    assert (given[..., 1] - x[..., 1]).abs().max() < 1
    assert (prior[..., 1] - x[..., 1]).abs().max() > 7


def test_positions_may_differ_from_item_to_item_and_are_checked():
    model = fitted(curve())
    own = torch.linspace(0, 5, 12, dtype=torch.float64).view(3, 4, 1)
    drawn = model.sample(3, GpSampling(), ItemNoise(1, 3), own)
    assert torch.equal(drawn[..., :1], own)
    assert torch.equal(drawn[1:2], model.sample(1, GpSampling(), ItemNoise(1, 1, first=1), own[1]))
    for wrong in (own[..., 0, 0], torch.zeros(2, 4, 1), torch.full((4, 1), math.nan), torch.zeros(0, 1)):
        with pytest.raises(FormError):
            model.sample(3, GpSampling(), ItemNoise(1, 3), wrong)
    with pytest.raises(UsageError, match="after stop"):
        model.sample(1, GpSampling(start=5, stop=1), ItemNoise(1, 1))


def test_drawing_goes_beyond_the_data_when_asked():
    drawn = fitted(curve()).sample(1, GpSampling(points=5, start=10, stop=20), ItemNoise(0, 1))
    assert drawn[0, :, 0].tolist() == [10, 12.5, 15, 17.5, 20]


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(DataError, match="most_points"):
        fitted(curve(30), most_points=20)
    with pytest.raises(FormError, match="at least 2"):
        fitted(curve(1))
    flat = curve()
    flat[..., 1] = 3.0
    mean, _ = fitted(flat, kernel="rbf + noise").predict(flat[0, :, :1])
    assert mean.mean().item() == pytest.approx(3.0)


def test_learning_again_forgets_and_repeats():
    first, second = curve(seed=6), curve(seed=7)
    model = fitted(first, restarts=1, iterations=20)
    model.estimate(lambda: [Batch(second)])
    fresh = fitted(second, restarts=1, iterations=20)
    for name, tensor in fresh.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_the_season_is_found():
    t = np.linspace(1950, 1962, 144, endpoint=False)
    y = 100 + 5 * (t - 1950) ** 1.5 + 10 * np.sin(2 * np.pi * t) + np.random.default_rng(0).standard_normal(144)
    found = facts(torch.from_numpy(t)[:, None], torch.from_numpy(y)[:, None])
    assert found["season"] == pytest.approx(1.0, rel=0.01)
    assert found["gap"] == pytest.approx(1 / 12)


def _series(name):
    for root in (os.environ.get("PIERIA_DATA", ""), Path(__file__).parents[3] / "shared" / "data"):
        if root and (Path(root) / "series" / name).exists():
            return np.genfromtxt(Path(root) / "series" / name, delimiter=",", skip_header=1, usecols=-1)
    return pytest.skip(f"{name} is not here: set PIERIA_DATA")


def test_the_default_kernel_forecasts_airline_passengers_better_than_last_year():
    values = _series("airline-passengers-monthly.csv")
    x = torch.from_numpy(np.stack([1949 + np.arange(144) / 12, values], axis=1))[None]
    model = fitted(x[:, :120], iterations=60)
    mean, _ = model.predict(x[0, 120:, :1])
    wrong = (mean[:, 0] - x[0, 120:, 1]).square().mean().sqrt()
    last_year = (x[0, 108:120, 1].repeat(2) - x[0, 120:, 1]).square().mean().sqrt()
    assert wrong < last_year
