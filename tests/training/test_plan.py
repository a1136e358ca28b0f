import math

import pytest

from pieria.errors import UsageError
from pieria.training.plan import Plan, seconds_of


def test_later_layers_win_and_a_budget_replaces_a_budget():
    plan = Plan.layered({"batch": 32, "steps": 10}, {"rate": 0.1}, {"seconds": 5.0, "batch": None})
    assert (plan.batch, plan.rate, plan.steps, plan.seconds) == (32, 0.1, None, 5.0)


def test_two_budgets_are_refused():
    with pytest.raises(UsageError, match="only one of steps and seconds"):
        Plan.layered({"epochs": 3}, {"steps": 10, "seconds": 5})
    with pytest.raises(UsageError, match="Did you mean 'batch'"):
        Plan.layered({"bach": 3})


@pytest.mark.parametrize("total", [1, 2, 7, 30, 99, 1000, 12345])
@pytest.mark.parametrize("warmup", [1, 50, 400])
def test_the_first_tenth_does_not_know_the_total(total, warmup):
    plan = Plan(rate=2.0, warmup=warmup)
    rates = [plan.rate_at(step, total) for step in range(total)]
    for step in range(plan.timed(total)):
        assert rates[step] == plan.rate_at(step, None)
    assert max(rates) <= 2.0
    assert min(rates) > 0
    if total >= 30:
        assert max(rates) == 2.0
        assert rates[-1] == pytest.approx(0.2)
        top = rates.index(2.0)
        assert rates[:top] == sorted(rates[:top])
        assert rates[top:] == sorted(rates[top:], reverse=True)
        steepest = max(b - a for a, b in zip([0.0, *rates], rates, strict=False))
        assert steepest <= 2.0 / min(warmup, plan.timed(total)) + 1e-9


def test_a_constant_schedule_stays_at_the_top():
    plan = Plan(rate=1.0, warmup=10, schedule="constant")
    assert [plan.rate_at(step, 1000) for step in (0, 9, 500, 999)] == [0.1, 1.0, 1.0, 1.0]


def test_seconds_become_steps_by_what_the_first_steps_took():
    plan = Plan(seconds=10.0)
    assert plan.settled([0.1]) is None
    assert plan.settled([0.3, 0.1, 0.1]) == 98  # (10 - 0.5) / 0.1, and the three that are done
    assert plan.settled([30.0]) == 1
    # however wrong the estimate, the steps already done lie within the tenth that does not depend on the total
    assert plan.settled([0.01, 0.01, 9.9]) == 30
    for seconds in ([0.3, 0.1, 0.1], [0.01, 0.01, 9.9], [1.0]):
        total = plan.settled(seconds)
        assert total is not None
        assert len(seconds) <= plan.timed(total)


def test_epochs_become_steps():
    assert Plan(epochs=2, batch=30).total(100) == math.ceil(200 / 30)
    assert Plan().total(100) == 1000


def test_stages_share_the_budget():
    assert Plan(steps=100).part(0.3).steps == 30
    assert Plan(epochs=10).part(0.5).epochs == 5
    assert Plan(seconds=10).part(0.5).seconds == 5


@pytest.mark.parametrize("time", ["", "soon", "10x", "0s", "-5s", "1h-5m"])
def test_times_that_cannot_be_read(time):
    with pytest.raises(UsageError, match="time"):
        seconds_of(time)


def test_a_straight_line_begins_after_its_hold():
    plan = Plan(rate=1.0, warmup=10, schedule="linear", hold=0.5, final=0.0)
    rates = [plan.rate_at(step, 1001) for step in range(1001)]
    assert rates[9:501] == [1.0] * 492
    assert rates[750] == pytest.approx(0.5)
    assert rates[1000] == 0
    assert Plan(rate=1.0, warmup=10, schedule="linear").rate_at(999, 1000) == pytest.approx(0.1)
