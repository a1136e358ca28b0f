"""Fashion-MNIST: a diffusion model beside the GAN after the same training time, by C-FID at 5, 10, 20 and 50 steps.

Both families learn from the 28 × 28 pictures, the GAN with its default settings, diffusion with the preset `fashion`; seed
0, the same seconds each, no looks at held-out data. C-FID is the Fréchet distance of features of the small hashed
classifier, against the test pictures; beside it stands what as many training pictures show (the floor). The same 50-step
samples are measured by kernel distance. Seconds to draw are the whole drawing's. Then the diffusion model learns where its
paths end (preset `consistency`) for half as long again, and draws in 1, 2 and 4 steps; beside it stand 2 steps of DDIM.
Ten minutes each, 10,000 samples; reported, with the goal that 50 steps are better than the GAN. The gate trains 90 seconds
each and draws 1,000.
"""

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks import Outcome
from pieria.data.examples import Examples, without_condition
from pieria.evaluation.distances import frechet, kernel_distance
from pieria.evaluation.features import network, picture_features
from pieria.forms import Grid
from pieria.models.contract import Model
from pieria.models.diffusion import Diffusion
from pieria.models.gan import GAN
from pieria.models.weights import restore
from pieria.noise import ItemNoise, seeded
from pieria.training.loop import learn
from pieria.training.plan import Plan

SECONDS, SAMPLES, STEPS, JUMPS = 600, 10_000, (5, 10, 20, 50), (1, 2, 4)
GATE_SECONDS, GATE_SAMPLES = 90, 1_000


def trained(
    family: type[Model], preset: Mapping[str, Any], train: Examples, seconds: float, start: Model | None = None
) -> tuple[Model, int]:
    """A model after this many seconds, and the steps that it made in them; it may begin with the weights of another."""
    mine = {name: value for name, value in preset.items() if name in family.Settings.model_fields}
    others = {name: value for name, value in preset.items() if name not in mine}
    with seeded(0, "weights"):
        model = family(family.Settings.of(mine), train.form)
    if start is not None:
        restore(model, start.state_dict())
    plan = Plan.of({**family.training_defaults, **others, "seconds": seconds, "evaluate_every": 0, "seed": 0})
    history = learn(model, train, None, plan)
    return model.eval(), history.steps


def drawn(model: Model, count: int, **options: Any) -> tuple[Tensor, float]:
    """Samples of items 0 … count - 1 of seed 0, and the seconds they took."""
    begun = time.perf_counter()
    x = model.sample(count, model.Sampling.of(options), ItemNoise(0, count))
    return x, time.perf_counter() - begun


def measure(gate: bool) -> Outcome:
    """``gate`` trains 90 seconds each and draws 1,000."""
    from pieria.modalities.opening import open_data

    seconds, count = (GATE_SECONDS, GATE_SAMPLES) if gate else (SECONDS, SAMPLES)
    data = open_data("fashion-mnist")
    plan_of = {**Diffusion.training_defaults, **Diffusion.presets["fashion"]}
    train, test = without_condition(data.examples("train")), data.examples("test")
    form = train.form
    assert isinstance(form, Grid)
    real = torch.cat([batch.x for batch in test.sweep(1000)])
    held = picture_features(real, form)
    places = torch.linspace(0, len(train) - 1, count).round().long()
    floor = frechet(held, picture_features(train.batch(places).x, form))
    gan, gan_steps = trained(GAN, {}, train, seconds)
    model, steps = trained(Diffusion, Diffusion.presets["fashion"], train, seconds)
    made, took = drawn(gan, count)
    features = picture_features(made, form)
    measured: dict[str, Any] = {
        "floor (training pictures)": round(floor, 3),
        "GAN, C-FID": round(frechet(held, features), 3),
        "GAN, kernel distance": round(kernel_distance(held[:count], features), 5),
        "GAN, seconds to draw": round(took, 2),
    }
    for few in STEPS:
        made, took = drawn(model, count, steps=few)
        features = picture_features(made, form)
        measured[f"diffusion, {few} steps, C-FID"] = round(frechet(held, features), 3)
        measured[f"diffusion, {few} steps, seconds to draw"] = round(took, 2)
    measured["diffusion, 50 steps, kernel distance"] = round(kernel_distance(held[:count], features), 5)
    before, _ = drawn(model, count, steps=2, solver="ddim")
    measured["diffusion, 2 steps of ddim, C-FID"] = round(frechet(held, picture_features(before, form)), 3)
    further = {**Diffusion.presets["fashion"], **Diffusion.presets["consistency"]}
    quick, quick_steps = trained(Diffusion, further, train, seconds / 2, model)
    for few in JUMPS:
        made, took = drawn(quick, count, steps=few)
        measured[f"consistency, {few} steps, C-FID"] = round(frechet(held, picture_features(made, form)), 3)
        measured[f"consistency, {few} steps, seconds to draw"] = round(took, 2)
    goal = {f"diffusion, {STEPS[-1]} steps, C-FID": "below the GAN's"}
    better = measured[f"diffusion, {STEPS[-1]} steps, C-FID"] < measured["GAN, C-FID"]
    notes = [
        f"{seconds} seconds of training each ({gan_steps:,} steps of 64 and {steps:,} of {plan_of['batch']} pictures), "
        f"{quick_steps:,} of consistency; {count:,} samples against {len(held):,} test pictures; "
        f"solver dpm++; features {network()[1]}."
    ]
    return Outcome(measured, goal, better, notes)
