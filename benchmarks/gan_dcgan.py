"""GAN with its default settings against a plain DCGAN, MNIST and Fashion-MNIST at 32 × 32, the same seconds each, by C-FID.

The DCGAN is the published one (Radford et al. 2016, arXiv 1511.06434) at 32 pixels, in plain torch and in this file: 64
base features, so 256, 128 and 64 in the generator and 64, 128 and 256 in the discriminator, 4 × 4 convolutions, batch
normalisation, weights that begin as N(0, 0.02), codes of 100 uniform numbers, batches of 128, Adam at 2e-4 with β₁ = 0.5.
Neither reads labels. Both learn from the same 54,000 training pictures on the same machine, with torch's own number of
threads, for the same seconds of training steps; ours as `pieria fit --model gan` does, without looks at held-out data.

C-FID is the Fréchet distance of 10,000 samples to the 10,000 test pictures in the features that ship with Pieria; beside it
stands that of as many training pictures (the floor). Our settings were chosen on validation pictures. Goal: in the mean over
three seeds at most 0.8 times the DCGAN's after 150 seconds, on both sets. The gate: one seed, Fashion-MNIST, 120 seconds.
"""

import time
from statistics import mean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import Outcome
from pieria.data.examples import Examples, without_condition
from pieria.evaluation.distances import frechet
from pieria.evaluation.features import network, picture_features
from pieria.forms import Grid
from pieria.modalities.opening import open_data
from pieria.models.gan import GAN, GANSampling, GANSettings
from pieria.noise import ItemNoise, seeded
from pieria.training.loop import learn
from pieria.training.plan import Plan

SETS, SEEDS, SECONDS, GATE_SECONDS = ("fashion-mnist", "mnist"), 3, 150.0, 120.0
SAMPLES, AT_ONCE, RATIO = 10_000, 500, 0.8
CODE, BASE, BATCH = 100, 64, 128


def dcgan() -> tuple[nn.Sequential, nn.Sequential]:
    """Generator and discriminator as published, one doubling shorter than for 64 pixels."""
    make = nn.Sequential(
        *(nn.ConvTranspose2d(CODE, 4 * BASE, 4, 1, 0, bias=False), nn.BatchNorm2d(4 * BASE), nn.ReLU()),  # 4 × 4
        *(nn.ConvTranspose2d(4 * BASE, 2 * BASE, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * BASE), nn.ReLU()),
        *(nn.ConvTranspose2d(2 * BASE, BASE, 4, 2, 1, bias=False), nn.BatchNorm2d(BASE), nn.ReLU()),
        *(nn.ConvTranspose2d(BASE, 1, 4, 2, 1, bias=False), nn.Tanh()),  # 32 × 32
    )
    judge = nn.Sequential(
        *(nn.Conv2d(1, BASE, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)),  # 16 × 16
        *(nn.Conv2d(BASE, 2 * BASE, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * BASE), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(2 * BASE, 4 * BASE, 4, 2, 1, bias=False), nn.BatchNorm2d(4 * BASE), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(4 * BASE, 1, 4, 1, 0, bias=False), nn.Flatten(0)),
    )
    for layer in [*make, *judge]:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
    return make, judge


def plain(x: Tensor, seconds: float, seed: int) -> tuple[Tensor, int]:
    """What a DCGAN makes that learned from bytes ``x`` for so many seconds, as levels; and its steps."""
    torch.manual_seed(seed)
    make, judge = dcgan()
    making = torch.optim.Adam(make.parameters(), lr=2e-4, betas=(0.5, 0.999))
    judging = torch.optim.Adam(judge.parameters(), lr=2e-4, betas=(0.5, 0.999))
    begun, steps = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        real = x[torch.randint(len(x), (BATCH,))].float() / 127.5 - 1
        fake = make(torch.rand(BATCH, CODE, 1, 1) * 2 - 1)
        judging.zero_grad()
        (F.softplus(-judge(real)).mean() + F.softplus(judge(fake.detach())).mean()).backward()
        judging.step()
        making.zero_grad()
        F.softplus(-judge(fake)).mean().backward()
        making.step()
        steps += 1
    make.eval()
    with torch.no_grad():
        made = torch.cat([make(torch.rand(AT_ONCE, CODE, 1, 1) * 2 - 1) for _ in range(SAMPLES // AT_ONCE)])
    return ((made + 1) * 127.5).round().clamp(0, 255).long(), steps


def ours(train: Examples, seconds: float, seed: int) -> tuple[Tensor, int]:
    """What the family makes with its default settings after so many seconds; and its steps."""
    with seeded(seed, "weights"):
        model = GAN(GANSettings(), train.form)
    given = {"seconds": seconds, "evaluate_every": 0, "seed": seed}
    history = learn(model, train, None, Plan.layered(GAN.training_defaults, given))
    model.eval()
    parts = [model.sample(AT_ONCE, GANSampling(), ItemNoise(seed, AT_ONCE, at)) for at in range(0, SAMPLES, AT_ONCE)]
    return torch.cat(parts), history.steps


def measure(gate: bool) -> Outcome:
    """``gate`` learns Fashion-MNIST alone, with one seed, for 120 seconds each."""
    seconds, seeds = (GATE_SECONDS, 1) if gate else (SECONDS, SEEDS)
    measured: dict[str, Any] = {}
    goal, notes, passed = {}, [], True
    for name in SETS[:1] if gate else SETS:
        data = open_data(name, settings={"size": 32})
        train, test = without_condition(data.examples("train")), data.examples("test")
        form = train.form
        assert isinstance(form, Grid)
        x = torch.cat([batch.x for batch in train.sweep(1000)])
        held = picture_features(torch.cat([batch.x for batch in test.sweep(1000)]), form)
        floor = frechet(held, picture_features(x[torch.linspace(0, len(x) - 1, SAMPLES).round().long()], form))
        found: dict[str, list[float]] = {"gan": [], "dcgan": []}
        steps: dict[str, list[int]] = {"gan": [], "dcgan": []}
        for seed in range(seeds):
            for who, (made, many) in (
                ("gan", ours(train, seconds, seed)),
                ("dcgan", plain(x.to(torch.uint8), seconds, seed)),
            ):
                found[who].append(round(frechet(held, picture_features(made, form)), 3))
                steps[who].append(many)
        ratio = mean(found["gan"]) / mean(found["dcgan"])
        passed = passed and ratio <= RATIO
        goal[f"{name}: gan over DCGAN"] = f"≤ {RATIO}"
        measured |= {
            f"{name}: gan over DCGAN": round(ratio, 3),
            f"{name}: C-FID of gan": found["gan"],
            f"{name}: C-FID of DCGAN": found["dcgan"],
            f"{name}: floor (training pictures)": round(floor, 3),
            f"{name}: steps": steps,
        }
    notes.append(f"{seconds:.0f} seconds each, {SAMPLES:,} samples against the test pictures, features {network()[1]}")
    return Outcome(measured, goal, passed, notes)
