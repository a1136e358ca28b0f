"""Noise depends on its address (seed, item, name, step) and on nothing else."""

import subprocess
import sys

import pytest
import torch
from scipy.stats import kstest

from pieria.noise import ItemNoise, StepNoise, key_of, seeded


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_an_item_does_not_depend_on_the_batch_around_it(kind):
    whole = getattr(ItemNoise(7, 10), kind)("z", (3,))
    assert torch.equal(getattr(ItemNoise(7, 4, first=3), kind)("z", (3,)), whole[3:7])
    assert torch.equal(getattr(ItemNoise(7, 10).part(2, 5), kind)("z", (3,)), whole[2:5])
    assert torch.equal(getattr(ItemNoise(7, 0, items=[8, 1]), kind)("z", (3,)), whole[[8, 1]])


def test_other_addresses_are_other_numbers():
    noise = ItemNoise(7, 4)
    draws = [noise.normal("z"), noise.normal("w"), noise.normal("z", step=1), ItemNoise(8, 4).normal("z")]
    draws += [StepNoise(0, step, phase, 4).normal("z") for step in (0, 1) for phase in ("a", "b")]
    for number, one in enumerate(draws):
        for other in draws[number + 1 :]:
            assert not torch.equal(one, other)
    assert len(set(noise.normal("z").tolist())) == 4


def test_two_processes_share_what_one_would_draw():
    whole = StepNoise(1, 5, "fit", 8).normal("z", (2,))
    halves = [StepNoise(1, 5, "fit", 4, first=first, total=8).normal("z", (2,)) for first in (0, 4)]
    assert torch.equal(torch.cat(halves), whole)


def test_the_laws_are_right():
    noise = ItemNoise(3, 4000)
    assert kstest(noise.normal("n").numpy(), "norm").pvalue > 1e-3
    assert kstest(noise.uniform("u").numpy(), "uniform").pvalue > 1e-3
    assert kstest(noise.gumbel("g").numpy(), "gumbel_r").pvalue > 1e-3
    assert kstest(StepNoise(3, 0, "p", 4000).normal("n").numpy(), "norm").pvalue > 1e-3
    counts = torch.bincount(noise.integers("i", 5), minlength=5)
    assert counts.sum() == 4000
    assert counts.min() > 700


def test_neighbouring_items_and_steps_are_independent():
    noise = ItemNoise(0, 4000)
    draws = torch.stack([noise.normal("z", (), step) for step in range(2)])
    assert abs(torch.corrcoef(draws)[0, 1]) < 0.06
    assert abs(torch.corrcoef(torch.stack([draws[0, 1:], draws[0, :-1]]))[0, 1]) < 0.06


def test_drawing_leaves_the_global_state_alone():
    before = torch.random.get_rng_state()
    ItemNoise(0, 3).normal("z")
    StepNoise(0, 0, "p", 3).uniform("z")
    with seeded("step", 1):
        first = torch.rand(3)
    assert torch.equal(torch.random.get_rng_state(), before)
    with seeded("step", 1):
        assert torch.equal(torch.rand(3), first)


def test_another_process_draws_the_same():
    code = "from pieria.noise import *; print(key_of('a', 1), ItemNoise(5, 2).normal('z', (2,)).flatten().tolist())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{key_of('a', 1)} {ItemNoise(5, 2).normal('z', (2,)).flatten().tolist()}"
