"""VQ-VAE on Fashion-MNIST: how many codes are used, and C-FID of its two-stage samples beside a VAE's of the same seconds.

Both families with their preset for pictures of this size and the same budget (the VQ-VAE's holds both of its stages), one
after the other, on the training part. Codes used: the perplexity of the symbols of the test pictures, as a share of the code
book. C-FID: Fréchet distance in the package's frozen feature network, named with its hash, of samples against as many test
pictures; its floor is that of as many training pictures. Each family is drawn twice, each cell from its law and at its
typical value (the mean), and its better figure is the one that counts. Goal: at least half of the
codes used, and a lower C-FID than the VAE's. Ten minutes each; the gate: 150 seconds each, 2,000 samples instead of 10,000.
"""

import time

import torch

from benchmarks import Outcome
from pieria import registry
from pieria.data.examples import Examples, without_condition
from pieria.evaluation.distances import frechet
from pieria.evaluation.features import network, picture_features
from pieria.forms import Grid
from pieria.layers.codebook import perplexity
from pieria.models.contract import Model
from pieria.models.vqvae import VQVAE
from pieria.noise import ItemNoise, seeded
from pieria.training.loop import learn
from pieria.training.plan import Plan

AT_ONCE = 500
PRESETS = {"vqvae": "fashion", "vae": None}


def learned(family: str, train: Examples, seconds: float) -> tuple[Model, float]:
    """A model with its family's defaults after this budget, and the seconds that all of it took."""
    kind = registry.find(family)
    preset = PRESETS[family]
    values = kind.presets[preset] if preset else {}
    with seeded(0, "weights"):
        model = kind(kind.Settings.of(values), train.form)
    # no held-out looks, so that the whole budget is training
    plan = Plan.of({**kind.training_defaults, "seconds": seconds, "evaluate_every": 0})
    begun = time.perf_counter()
    learn(model, train, None, plan)
    return model.eval(), time.perf_counter() - begun


def drawn(model: Model, count: int, observation: str) -> torch.Tensor:
    """Samples, with each cell drawn from its law or at its typical value."""
    options = model.Sampling.of({"observation": observation})
    with torch.no_grad():
        return torch.cat(
            [model.sample(AT_ONCE, options, ItemNoise(1, AT_ONCE, first=first)) for first in range(0, count, AT_ONCE)]
        )


def codes_used(model: VQVAE, test: Examples) -> tuple[float, float]:
    """The perplexity of the test pictures' symbols, and the share of codes met at all, each as a share of the code book."""
    counts = torch.zeros(model.settings.depth, model.settings.codes)
    for batch in test.sweep(AT_ONCE):
        codes = model.encode(batch.x, "codes").transpose(0, 1).flatten(1)
        counts += torch.stack([torch.bincount(level, minlength=counts.shape[1]) for level in codes])
    return float(perplexity(counts)) / counts.shape[1], float((counts > 0).float().mean())


def measure(gate: bool) -> Outcome:
    """``gate``: 150 seconds and 2,000 samples instead of ten minutes and 10,000."""
    from pieria.modalities.opening import open_data

    seconds, count = (150.0, 2000) if gate else (600.0, 10_000)
    data = open_data("fashion-mnist")
    train, test = (without_condition(data.examples(part)) for part in ("train", "test"))
    form = train.form
    assert isinstance(form, Grid)
    real, seen = (torch.cat([batch.x for batch in part.sweep(AT_ONCE)][: count // AT_ONCE]) for part in (test, train))
    wanted = picture_features(real, form)
    measured: dict[str, float] = {"C-FID floor": round(frechet(wanted, picture_features(seen, form)), 2)}
    best = {}
    for family in ("vae", "vqvae"):
        model, took = learned(family, train, seconds)
        for observation in ("draw", "typical"):
            made = picture_features(drawn(model, count, observation), form)
            measured[f"{family}: C-FID ({observation})"] = round(frechet(wanted, made), 2)
        best[family] = min(measured[f"{family}: C-FID ({how})"] for how in ("draw", "typical"))
        measured[f"{family}: seconds"] = round(took, 1)
        if isinstance(model, VQVAE):
            used, met = codes_used(model, test)
            measured |= {"codes used (perplexity)": round(used, 3), "codes met": round(met, 3)}
    measured["C-FID against the VAE's"] = round(best["vqvae"] / best["vae"], 3)
    goal = {"codes used (perplexity)": ">= 0.5", "C-FID against the VAE's": "< 1"}
    passed = measured["codes used (perplexity)"] >= 0.5 and measured["C-FID against the VAE's"] < 1
    notes = [
        f"Features: {network()[1]}; {count:,} samples against as many test pictures; each family's better figure counts."
    ]
    return Outcome(measured, goal, passed, notes)
