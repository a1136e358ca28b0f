import math

import pytest
import torch

from pieria.noise import ItemNoise
from pieria.sampling.noise_schedules import Discrete, Exploding, Straight
from pieria.sampling.solvers import SOLVERS, dpm_solver, heun, invert, last, repaint

SCHEDULES = {"cosine": Discrete("cosine"), "linear": Discrete("linear"), "edm": Exploding(), "flow": Straight()}
MIDDLE, VARIANCE = 0.7, 0.09  # of the data: the best guess and the solution of the equation are known


def gaussian(schedule):
    def denoise(x, t):
        a, s = schedule.at(t)
        return MIDDLE + a * VARIANCE / (a * a * VARIANCE + s * s) * (x - a * MIDDLE)

    return denoise


def begin(schedule, times, z):
    a, s = schedule.at(times[0])
    return math.hypot(a, s) * z


def solved(schedule, solver, steps, z, noise=None):
    times = schedule.times(steps)
    return last(SOLVERS[solver](gaussian(schedule), schedule, times, begin(schedule, times, z), noise))


@pytest.mark.parametrize("name", SCHEDULES)
def test_levels_go_from_clean_to_noise(name):
    schedule = SCHEDULES[name]
    alpha, sigma = schedule.level(schedule.chain())
    ratio = alpha.log() - sigma.log()
    assert (ratio[1:] < ratio[:-1]).all()
    assert ratio[0] > 4
    assert ratio[-1] < -4
    for steps in (1, 7, 50):
        times = schedule.times(steps)
        assert len(times) == steps + 1
        assert schedule.at(times[-1]) == (1.0, 0.0)
        assert times == sorted(times, reverse=True)
    t = schedule.learned(torch.tensor([0.0, 0.3, 1 - 1e-7]))
    assert torch.isfinite(torch.stack(schedule.level(t))).all()


def test_discrete_chains_keep_the_variance_and_match_published_figures():
    for shape in ("cosine", "linear"):
        alpha, sigma = Discrete(shape).level(torch.arange(1000.0))
        torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones(1000, dtype=torch.float64))
    # Ho et al. 2020: the betas go from 1e-4 to 0.02
    left = Discrete("linear").left
    assert float(1 - left[1]) == pytest.approx(1e-4)
    assert float(1 - left[1000] / left[999]) == pytest.approx(0.02)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("solver", "order"), [("ddim", 1), ("euler", 1), ("heun", 2), ("dpm++", 2)])
def test_more_steps_come_as_much_nearer_as_the_order_says(name, solver, order):
    schedule = SCHEDULES[name]
    z = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    a, s = schedule.at(schedule.times(5)[0])
    # the equation carries a Gaussian over into a Gaussian, each point at its own deviation
    exact = MIDDLE + math.sqrt(VARIANCE / (a * a * VARIANCE + s * s)) * (begin(schedule, schedule.times(5), z) - a * MIDDLE)
    coarse, fine = (float((solved(schedule, solver, steps, z) - exact).abs().max()) for steps in (25, 100))
    assert fine < 0.05
    assert fine < coarse / (2.5 if order == 1 else 4)


def test_the_flow_and_the_deterministic_chain_are_the_same():
    z = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for schedule in SCHEDULES.values():
        torch.testing.assert_close(solved(schedule, "euler", 13, z), solved(schedule, "ddim", 13, z))


@pytest.mark.parametrize("name", SCHEDULES)
def test_ancestral_samples_have_the_law_of_the_data(name):
    n, widths = 1000, []
    noise = ItemNoise(0, n)
    for steps in (25, 250):
        x = solved(SCHEDULES[name], "ddpm", steps, noise.normal("z", (1,)), noise)
        assert float(x.mean()) == pytest.approx(MIDDLE, abs=0.04)
        widths.append(float(x.std()))
    # few steps draw too narrowly: the noise of a step is as if the guess were the item
    assert widths[0] < widths[1]
    assert widths[1] == pytest.approx(VARIANCE**0.5, rel=0.12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_items_go_back_to_their_noise(name):
    schedule = SCHEDULES[name]
    times = schedule.times(200)
    x = MIDDLE + 0.3 * torch.linspace(-1.5, 1.5, 7, dtype=torch.float64)[:, None]
    z = invert(gaussian(schedule), schedule, times, x)
    back = last(dpm_solver(gaussian(schedule), schedule, times, z))
    torch.testing.assert_close(back, x, atol=0.05, rtol=0)


def test_what_is_filled_in_agrees_with_what_is_known():
    # two numbers that hang together: given one, the other is known up to a little
    covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]])
    schedule = SCHEDULES["cosine"]

    def denoise(x, t):
        a, s = schedule.at(t)
        gain = a * covariance @ torch.linalg.inv(a * a * covariance + s * s * torch.eye(2))
        return x @ gain.T

    n, means = 500, {}
    noise = ItemNoise(3, n)
    known, mask = torch.tensor([1.5, 0.0]).expand(n, 2), torch.tensor([True, False]).expand(n, 2)
    for rounds in (1, 8):
        z, times = noise.normal("z", (2,)), schedule.times(40)
        x = last(repaint(denoise, schedule, times, z, noise, known, mask, rounds))
        assert torch.equal(x[:, 0], known[:, 0])
        means[rounds] = float(x[:, 1].mean())
    assert means[8] == pytest.approx(0.9 * 1.5, abs=0.08)
    assert abs(means[8] - 1.35) <= abs(means[1] - 1.35) + 0.02
    assert float(x[:, 1].std()) == pytest.approx(math.sqrt(1 - 0.81), rel=0.2)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_time_of_a_level_is_found(name):
    schedule = SCHEDULES[name]
    ratio = torch.tensor([0.05, 0.3, 1.0, 4.0], dtype=torch.float64)
    alpha, sigma = schedule.level(schedule.when(ratio))
    torch.testing.assert_close(sigma / alpha, ratio, rtol=0.04, atol=0)
    turns = schedule.turns(4)
    assert turns[0] == schedule.times(4)[0]
    assert schedule.at(turns[-1]) == (1.0, 0.0)
    angles = [math.atan2(*reversed(schedule.at(t))) for t in turns]
    assert angles[1:4] == pytest.approx([math.pi / 2 * share for share in (0.75, 0.5, 0.25)], abs=0.01)


@pytest.mark.parametrize("name", SCHEDULES)
def test_churn_keeps_the_law_and_forgets_the_first_noise(name):
    schedule, n = SCHEDULES[name], 2000
    times, noise = schedule.times(60), ItemNoise(0, n)
    z = noise.normal("z", (1,))
    x = last(heun(gaussian(schedule), schedule, times, begin(schedule, times, z), noise, churn=18.0))
    still = last(heun(gaussian(schedule), schedule, times, begin(schedule, times, z), noise))
    assert float(x.mean()) == pytest.approx(MIDDLE, abs=0.03)
    assert float(x.std()) == pytest.approx(VARIANCE**0.5, rel=0.1)
    alike = float(torch.corrcoef(torch.cat([z, x], dim=1).T)[0, 1])
    assert alike < 0.9
    assert float(torch.corrcoef(torch.cat([z, still], dim=1).T)[0, 1]) > 0.999
