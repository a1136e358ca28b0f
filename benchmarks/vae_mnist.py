"""VAE on dynamically binarised MNIST: nats of the test digits by 5,000 importance samples, after ten minutes of training.

Protocol of Burda et al. 2016: each pixel is one with the probability of its grey value, drawn anew whenever a training
digit is met; one stochastic layer of 50 units between perceptrons; the test digits are binarised once, with a fixed seed.
Goal: at most 88.5 nats (their VAE reached 86.76 after 3,280 passes over the data; IWAE with 5 draws 85.54).
The gate trains two minutes and scores the first 500 digits with 1,000 samples: at most 93 nats.
"""

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks import Outcome
from pieria.data.batch import Batch
from pieria.data.examples import Examples
from pieria.forms import Grid
from pieria.models.vae import VAE, VAESettings
from pieria.noise import Noise, key_of, seeded
from pieria.training.loop import learn
from pieria.training.plan import Plan

FORM = Grid(1, 28, 28, levels=2)
SETTINGS = VAESettings.of({"network": "mlp", "latent": 50, "widths": (200, 200), "draws": 5})
SECONDS, SAMPLES = 600, 5000
AT_ONCE = 100  # digits scored together


class Binarised(Examples):
    """Grey digits ``uint8 [n, 1, 28, 28]``, binarised anew each time that they are met in training."""

    def __init__(self, grey: Tensor, seed: int) -> None:
        self.form, self.condition = FORM, None
        self.grey, self.seed = grey, seed

    def __len__(self) -> int:
        return len(self.grey)

    def batch(self, places: Sequence[int] | np.ndarray | Tensor, noise: Noise | None = None) -> Batch:
        """The digits at these places; in training from one stream a batch, which is quicker than one an item."""
        index = torch.as_tensor(np.asarray(places), dtype=torch.int64)
        met = getattr(noise, "items", None) if noise is not None else "held out"
        generator = np.random.Generator(np.random.SFC64(key_of(self.seed, met, index.tolist())))
        # one with probability grey / 255: a uniform draw of 0 … 254 lies below it
        drawn = torch.from_numpy(generator.integers(0, 255, tuple(self.grey[index].shape), dtype=np.uint8))
        return Batch(x=(drawn < self.grey[index]).long(), index=index)

    def sweep(self, size: int, *, length: int | None = None, context: int = 0) -> Iterator[Batch]:
        """Every digit once, each as it always is when held out."""
        del length, context
        for start in range(0, len(self), size):
            yield self.batch(np.arange(start, min(start + size, len(self))))

    def scored(self) -> int:
        """The digits."""
        return len(self)


def digits(part: str) -> Tensor:
    """The grey pictures of a published part of MNIST."""
    from pieria.modalities.opening import open_data

    collection = open_data("mnist").parts[part]
    return torch.from_numpy(np.stack([np.asarray(picture.convert("L")) for picture in collection.artifacts]))[:, None]


def score(model: VAE, test: Examples, samples: int) -> tuple[float, float, float]:
    """Mean nats by ``samples`` importance samples and by one, and the seconds that the first took."""
    begun, total, single = time.perf_counter(), 0.0, 0.0
    for batch in test.sweep(AT_ONCE):
        model.importance = samples
        total -= float(model.log_prob(batch).double().sum())
    seconds = time.perf_counter() - begun
    for batch in test.sweep(AT_ONCE):
        model.importance = 1
        single -= float(model.log_prob(batch).double().sum())
    return total / len(test), single / len(test), seconds


def measure(gate: bool) -> Outcome:
    """``gate`` trains two minutes and scores 500 digits with 1,000 samples."""
    seconds, samples, goal = (120, 1000, 93.0) if gate else (SECONDS, SAMPLES, 88.5)
    train = Binarised(torch.cat([digits("train"), digits("validation")]), seed=0)
    test = Binarised(digits("test")[: 500 if gate else None], seed=1)
    with seeded(0, "weights"):
        model = VAE(SETTINGS, FORM)
    # clean constant statistics: no held-out looks, so that the whole budget is training
    plan = Plan.of({**VAE.training_defaults, "seconds": seconds, "average": 0.999, "final": 0.01, "evaluate_every": 0})
    begun = time.perf_counter()
    learn(model, train, None, plan)
    trained = time.perf_counter() - begun
    model.eval()
    nats, single, scoring = score(model, test, samples)
    measured = {
        "nats": round(nats, 3),
        "evidence lower bound, nats": round(single, 3),
        "training seconds": round(trained, 1),
        "scoring seconds": round(scoring, 1),
        "digits": len(test),
        "importance samples": samples,
    }
    network = "-".join(map(str, (784, *SETTINGS.widths, SETTINGS.latent)))
    notes = [f"{network}, {SETTINGS.draws} draw(s) in training, batch {plan.batch}."]
    return Outcome(measured, {"nats": f"<= {goal}"}, nats <= goal, notes)
