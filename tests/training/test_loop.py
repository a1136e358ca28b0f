import math
import threading
import time

import pytest
import torch

from pieria.errors import TrainingError
from pieria.models.contract import Stage
from pieria.training.heldout import HeldOut
from pieria.training.loop import learn
from pieria.training.plan import Plan
from pieria.training.watch import Watch
from pieria.training.workspace import read_log, read_record
from tests.training.families.affine import Affine
from tests.training.runs import FORM, examples, lasting, model, run

QUICK = {"steps": 60, "batch": 16, "rate": 0.02, "warmup": 5, "evaluate_every": 10, "report_every": 5}
FAMILIES = ("affine", "duel", "staged", "moments", "windows")


def state(net) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def same(first, second) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def stopped_after(steps: int) -> Watch:
    """Somebody presses Ctrl-C during the step after these."""
    import os
    import signal

    done = [0]

    def progress(pace) -> None:
        done[0] += 1
        if done[0] == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    return Watch(progress=progress)


def test_it_learns_the_planted_density():
    net = model("affine")
    history = learn(net, examples("affine", 2000), examples("affine", 500, 1), Plan(steps=400, batch=64, rate=0.05))
    assert net.mean.tolist() == pytest.approx([1.0, -2.0], abs=0.15)
    assert net.log_scale.exp().tolist() == pytest.approx([0.5, 2.0], rel=0.1)
    # entropy of the planted Gaussian: log(0.5 · 2 · 2πe)
    assert history.held_out == pytest.approx(2.8379, abs=0.08)
    assert history.unit == "nats per item (exact)"


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(name):
    states = []
    for seed in (0, 0, 1):
        net = model(name)
        learn(net, examples(name), examples(name, 50, 1), Plan.of({**QUICK, "seed": seed}))
        states.append(state(net))
    assert same(states[0], states[1])
    assert name == "moments" or not same(states[0], states[2])


def test_the_callers_random_state_and_torch_settings_are_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    learn(model("affine", dropout=0.2), examples("affine"), None, Plan.of(QUICK))
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("name", ["affine", "duel", "staged", "windows"])
@pytest.mark.parametrize("after", [1, 23, 59])
def test_a_stopped_run_goes_on_to_the_same_bits(name, after, tmp_path):
    plan = Plan.of({**QUICK, "average": 0.9, "patience": 6})
    whole, halves = model(name), model(name)
    run(name, tmp_path / "whole", plan, net=whole)
    first = run(name, tmp_path / "halves", plan, net=halves, watch=stopped_after(after))
    assert first.ended == "stopped"
    again = model(name)
    assert run(name, tmp_path / "halves", plan, net=again).ended != "stopped"
    assert same(state(whole), state(again))
    logs = [[lasting(line) for line in read_log(tmp_path / place)] for place in ("whole", "halves")]
    assert logs[0] == logs[1]


def test_steps_repeat_a_budget_in_seconds(tmp_path):
    plan = Plan.of({**QUICK, "steps": None, "seconds": 0.4, "evaluate_every": None})
    timed, counted = model("affine", dropout=0.1), model("affine", dropout=0.1)
    history = run("affine", tmp_path / "timed", plan, net=timed)
    total = history.totals[0]
    plan = Plan.of({**QUICK, **total, "average": 0.0})
    run("affine", tmp_path / "counted", plan, net=counted)
    assert total["steps"] > 10
    assert same(state(timed), state(counted))
    logs = [[lasting(line) for line in read_log(tmp_path / place)] for place in ("timed", "counted")]
    assert logs[0] == logs[1]


def test_a_budget_in_seconds_is_about_kept():
    net = model("affine")
    net.density, played = _slow(net.density), net.played
    history = learn(net, examples("affine"), None, Plan(seconds=1.0, batch=16))
    assert 0.6 < history.seconds < 1.6
    assert int(played) == history.steps == history.totals[0]["steps"]


def _slow(loss):
    def slower(batch, noise):
        time.sleep(0.004)
        return loss(batch, noise)

    return slower


def test_epochs_meet_every_item_that_often():
    history = learn(model("affine"), examples("affine", 100), None, Plan(epochs=3, batch=20))
    assert history.steps == 15


def test_a_batch_in_parts_is_the_same_batch():
    whole, parts = model("affine", jitter=0.1), model("affine", jitter=0.1)
    learn(whole, examples("affine"), None, Plan.of({**QUICK, "batch": 18}))
    learn(parts, examples("affine"), None, Plan.of({**QUICK, "batch": 18, "accumulate": 4}))
    for name, tensor in state(whole).items():
        torch.testing.assert_close(tensor, state(parts)[name], rtol=1e-4, atol=1e-5)


def test_lazy_phases_act_every_so_many_steps():
    net = model("duel")
    learn(net, examples("duel"), None, Plan.of({**QUICK, "steps": 10}))
    assert int(net.penalties) == 3  # steps 0, 4 and 8
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_group_settings_reach_the_optimiser():
    from pieria.training.game import Game
    from pieria.training.processes import Processes

    game = Game(model("affine"), Plan(rate=0.1), Processes(torch.device("cpu")))
    first, second = game.optimisers["all"].param_groups
    batch = examples("affine").batch(range(8))
    game.play(0, 0.1, [(0, batch)])
    assert (first["lr"], second["lr"]) == pytest.approx((0.1, 0.05))
    assert (first["weight_decay"], second["weight_decay"]) == (0.01, 0.0)


def test_the_first_loss_that_is_not_a_number_stops_it(tmp_path):
    net = model("affine", break_at=7)
    with pytest.raises(TrainingError, match=r"loss of phase 'density' became nan at step 8.*checkpoint"):
        run("affine", tmp_path / "run", Plan.of({**QUICK, "checkpoint_every": 3}), net=net)
    assert all(torch.isfinite(p).all() for p in net.parameters())
    assert read_record(tmp_path / "run")["state"] == "failed"
    assert "step 8" in read_record(tmp_path / "run")["error"]


def test_early_stopping_keeps_the_best_weights(tmp_path):
    # from few examples, and for long: it overfits the scale of its 6 items
    plan = Plan(steps=2000, batch=6, rate=0.05, evaluate_every=25, patience=3, schedule="constant")
    net = model("affine")
    said = []
    history = learn(net, examples("affine", 6), examples("affine", 200, 1), plan, watch=Watch(say=said.append))
    assert history.ended == "early"
    assert history.best_step == history.steps - 3 * 25
    assert "early stopping is on: 3 looks" in said[0]
    assert "stopped early" in said[-1]
    held = examples("affine", 200, 1)
    with torch.no_grad():
        found = -float(net.log_prob(held.batch(range(200))).double().mean())
    assert found == pytest.approx(history.best, rel=1e-6)
    assert history.held_out == history.best


class Twice(Affine):
    """Two densities, one after the other."""

    def __init__(self, settings, form, condition=None):
        super().__init__(settings, form, condition)
        self.first, self.second = Affine(settings, form), Affine(settings, form)

    def stages(self):
        return [Stage(name, getattr(self, name), lambda batch: batch, 0.5) for name in ("first", "second")]


def test_a_stage_that_ends_early_does_not_end_the_next():
    plan = Plan(steps=4000, batch=6, rate=0.05, evaluate_every=25, patience=3, schedule="constant")
    net = Twice(Affine.Settings(), FORM)
    said = []
    learn(net, examples("affine", 6), examples("affine", 200, 1), plan, watch=Watch(say=said.append))
    assert "stopped early" in said[1]  # said[0]: that early stopping is on
    assert int(net.second.played) >= 200  # nothing is looked at, and so nothing ends, in the first tenth of its 2,000


def test_a_run_killed_between_two_stages_goes_on_to_the_same_bits(tmp_path):
    def killed(pace) -> None:
        raise RuntimeError("killed")

    plan = Plan.of({**QUICK, "patience": 0})
    whole, again = model("staged"), model("staged")
    run("staged", tmp_path / "whole", plan, net=whole)
    with pytest.raises(RuntimeError, match="killed"):
        run("staged", tmp_path / "halves", plan, watch=Watch(progress=killed))
    assert [file.name for file in (tmp_path / "halves" / "checkpoints").iterdir()] == ["00000001.safetensors"]
    run("staged", tmp_path / "halves", plan, net=again)
    assert same(state(whole), state(again))


def test_a_time_that_is_settled_stays_so_in_every_stage(tmp_path):
    def killed(pace) -> None:
        if pace.total is not None:
            raise RuntimeError("killed")

    plan = Plan.of({**QUICK, "steps": None, "seconds": 0.3})
    with pytest.raises(RuntimeError, match="killed"):
        run("staged", tmp_path / "run", plan, watch=Watch(progress=killed))
    settled = read_record(tmp_path / "run")["totals"]
    assert [total["steps"] > 0 for total in settled] == [False, True]
    assert run("staged", tmp_path / "run", plan).totals == settled


def test_a_held_out_figure_that_is_not_finite_is_no_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(HeldOut, "look", lambda self: math.inf)
    history = run("affine", tmp_path / "run", Plan.of({**QUICK, "patience": 2}))
    assert (history.ended, history.best, history.held_out) == ("done", None, None)
    assert read_record(tmp_path / "run")["result"]["held_out"] is None


def test_without_patience_it_goes_on_to_the_end():
    plan = Plan(steps=300, batch=6, rate=0.05, evaluate_every=25, patience=0, schedule="constant")
    assert learn(model("affine"), examples("affine", 6), examples("affine", 200, 1), plan).ended == "done"


def test_the_average_is_the_running_average_of_the_weights():
    seen = []
    net = model("affine")
    plan = Plan.of({**QUICK, "steps": 30, "average": 0.9})
    learn(net, examples("affine"), None, plan, watch=Watch(progress=lambda pace: seen.append(net.mean.detach().clone())))
    expected = model("affine").mean.detach().clone()
    for step, weights in enumerate(seen):
        decay = min(0.9, (1 + step) / (10 + step))
        expected += (1 - decay) * (weights - expected)
    torch.testing.assert_close(net.mean.detach(), expected, rtol=1e-5, atol=1e-6)


def test_stages_learn_in_order_and_prepare_looks_once():
    net = model("staged")
    seen = torch.cat([batch.x for batch in examples("staged").sweep(64)])
    learn(net, examples("staged"), examples("staged", 50, 1), Plan.of({**QUICK, "patience": 0}))
    assert net.first.seen.shape == (200, 2)
    assert int(net.second.played) == 60
    standard = (seen - seen.mean(dim=0)) / seen.std(dim=0)
    torch.testing.assert_close(net.second.largest, standard.amax(dim=0))


def test_a_stage_that_learns_from_validation_needs_it():
    net = model("moments")
    type(net).learns_from = "validation"
    try:
        learn(net, examples("moments"), examples("moments", 50, 1), Plan())
        assert len(net.seen) == 50
        with pytest.raises(TrainingError, match="held-out"):
            learn(net, examples("moments"), None, Plan())
    finally:
        del type(net).learns_from


def test_previews_show_the_model_at_rest_and_leave_no_trace():
    steps = []

    def preview(net, step) -> None:
        assert not net.training
        torch.randn(3)
        steps.append(step)

    plain, watched = model("affine", dropout=0.2), model("affine", dropout=0.2)
    learn(plain, examples("affine"), None, Plan.of(QUICK))
    learn(watched, examples("affine"), None, Plan.of(QUICK), watch=Watch(preview=preview))
    assert same(state(plain), state(watched))
    assert steps[0] == 0
    assert steps[-1] == 60
    assert len(steps) > 5


def test_it_learns_outside_the_main_thread():
    history = []
    thread = threading.Thread(target=lambda: history.append(learn(model("affine"), examples("affine"), None, Plan(steps=3))))
    thread.start()
    thread.join()
    assert history[0].steps == 3


def test_a_report_means_over_the_steps_since_the_last(tmp_path):
    losses = []
    watch = Watch(progress=lambda pace: losses.append(pace.losses["density"]["loss"]))
    run("affine", tmp_path / "run", Plan.of({**QUICK, "evaluate_every": 0}), watch=watch)
    log = read_log(tmp_path / "run")
    assert [line["step"] for line in log] == list(range(5, 61, 5))
    assert log[1]["losses"]["density"] == pytest.approx(sum(losses[5:10]) / 5)
    assert "density/scale" in log[1]["losses"]
    assert log[1]["memory_mb"] > 10
    assert "validation" not in log[-1]
