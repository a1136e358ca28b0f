"""Training steps a second of a VAE, against pythae with the same networks and batch.

Protocol: 784-256-256-16 perceptrons with SiLU both ways (pythae is given these very modules), Bernoulli cells, 10,000 digits
of MNIST binarised once, batch 128, Adam with the same rate, float32, one thread. Each side takes the same number of passes
through its own public way to train (`learn`, `BaseTrainer.train`), which is timed whole; both sides in turn, five times,
and the ratio's median and spread are told. Goal: at least 1.5 times pythae's steps a second. Also with our default
precision, which is bfloat16 where the processor multiplies it natively; that one is told and has no goal. The gate: fewer
passes. Needs ``pip install pieria[bench]``.
"""

import logging
import tempfile
import time

import torch
from torch import Tensor, nn

from benchmarks import Outcome, alternate
from pieria.data.examples import ItemExamples
from pieria.forms import Grid
from pieria.layers.mlp import MLP
from pieria.models.vae import VAE, VAESettings
from pieria.noise import seeded
from pieria.training.loop import learn
from pieria.training.plan import Plan

FORM = Grid(1, 28, 28, levels=2)
DIGITS, BATCH, RATE, LATENT, WIDTHS = 10_000, 128, 1e-3, 16, (256, 256)
STEPS_A_PASS = -(-DIGITS // BATCH)


def digits() -> Tensor:
    """The first digits of MNIST, black or white: uint8 ``[digit, 1, 28, 28]``."""
    from benchmarks.vae_mnist import digits as grey

    return (grey("train")[:DIGITS] > 127).to(torch.uint8)


def ours(x: Tensor, passes: int, precision: str) -> float:
    """Steps a second of `learn`."""
    settings = {"network": "mlp", "latent": LATENT, "widths": WIDTHS, "importance": 1, "precision": precision}
    with seeded(0, "weights"):
        model = VAE(VAESettings.of(settings), FORM)
    steps = passes * STEPS_A_PASS
    plan = {"steps": steps, "batch": BATCH, "rate": RATE, "average": 0.0, "evaluate_every": 0, "threads": 1}
    examples = ItemExamples(FORM, x)
    begun = time.perf_counter()
    learn(model, examples, None, Plan.of({**VAE.training_defaults, **plan}))
    return steps / (time.perf_counter() - begun)


def theirs(x: Tensor, passes: int) -> float:
    """Steps a second of pythae's trainer."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE as PythaeVAE
    from pythae.models import VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            BaseEncoder.__init__(self)
            self.read = MLP(784, WIDTHS, None)
            self.posterior = nn.Linear(WIDTHS[-1], 2 * LATENT)

        def forward(self, x: Tensor) -> ModelOutput:
            mean, log_variance = self.posterior(self.read(x.flatten(1))).chunk(2, dim=1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            BaseDecoder.__init__(self)
            self.write = MLP(LATENT, WIDTHS[::-1], 784)

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.write(z).sigmoid().reshape(-1, 1, 28, 28))

    logging.getLogger("pythae").setLevel(logging.ERROR)
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce")
    with seeded(0, "weights"):
        model = PythaeVAE(config, Encoder(), Decoder())
    data = BaseDataset(x.float(), torch.zeros(len(x)))
    with tempfile.TemporaryDirectory() as folder:
        training = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=passes,
            learning_rate=RATE,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=BATCH,
            optimizer_cls="AdamW",
            optimizer_params={"weight_decay": 0.0},
            steps_saving=None,
            no_cuda=True,
        )
        trainer = BaseTrainer(model=model, train_dataset=data, training_config=training)
        begun = time.perf_counter()
        trainer.train()
        return passes * STEPS_A_PASS / (time.perf_counter() - begun)


def measure(gate: bool) -> Outcome:
    """``gate`` takes two passes a turn instead of ten."""
    torch.set_num_threads(1)
    passes = 2 if gate else 10
    x = digits()
    ours(x, 1, "float32")  # what torch makes on first use belongs to neither side
    theirs(x, 1)
    found = alternate(lambda: ours(x, passes, "float32"), lambda: theirs(x, passes))
    default = alternate(lambda: ours(x, passes, "auto"), lambda: theirs(x, passes), pairs=3)
    measured = {
        "ratio": found["ratio"],
        "ratio, lowest": found["ratio_min"],
        "ratio, highest": found["ratio_max"],
        "steps a second": found["first"],
        "pythae's steps a second": found["second"],
        "ratio at the default precision": default["ratio"],
    }
    notes = [f"One thread, batch {BATCH}, {passes * STEPS_A_PASS} steps a turn, {DIGITS:,} digits; pythae 0.1.2."]
    return Outcome(measured, {"ratio": ">= 1.5"}, found["ratio"] >= 1.5, notes)
