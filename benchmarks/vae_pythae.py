"""Training steps a second of a VAE, against pythae with the same networks and batch.

Protocol: 784-256-256-16 perceptrons with SiLU both ways (pythae is given these very modules), Bernoulli cells, 10,000 digits
of MNIST binarised once, batch 128, AdamW with the same rate, one thread. Each side takes the same number of passes through
its own public way to train (`learn`, `BaseTrainer.train`), which is timed whole; both sides in turn, five times, and the
ratio's median and spread are told. Each package has its default precision: pythae's is float32, ours bfloat16 where the
processor multiplies it natively, with weights and sums in float32. Goal: at least 1.5 times pythae's steps a second. With
both in float32, where nearly all the time is the same matrix products, the ratio is told beside it and has no goal, and so
is what each side's last pass cost in nats a digit, so that one sees that both learn alike. The gate: fewer passes. Needs
``pip install pieria[bench]``.
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
from pieria.noise import ItemNoise, seeded
from pieria.training.loop import learn
from pieria.training.plan import Plan

FORM = Grid(1, 28, 28, levels=2)
DIGITS, BATCH, RATE, LATENT, WIDTHS = 10_000, 128, 1e-3, 16, (256, 256)
STEPS_A_PASS = -(-DIGITS // BATCH)


def digits() -> Tensor:
    """The first digits of MNIST, black or white: uint8 ``[digit, 1, 28, 28]``."""
    from benchmarks.vae_mnist import digits as grey

    return (grey("train")[:DIGITS] > 127).to(torch.uint8)


def ours(x: Tensor, passes: int, precision: str, told: dict[str, float] | None = None) -> float:
    """Steps a second of `learn`; what a digit costs in the end goes to ``told``."""
    settings = {"network": "mlp", "latent": LATENT, "widths": WIDTHS, "importance": 1, "precision": precision}
    with seeded(0, "weights"):
        model = VAE(VAESettings.of(settings), FORM)
    steps = passes * STEPS_A_PASS
    plan = {"steps": steps, "batch": BATCH, "rate": RATE, "average": 0.0, "evaluate_every": 0, "threads": 1}
    examples = ItemExamples(FORM, x)
    begun = time.perf_counter()
    learn(model, examples, None, Plan.of({**VAE.training_defaults, **plan}))
    seconds = time.perf_counter() - begun
    if told is not None:
        with torch.no_grad():
            bound = model.bound(examples.batch(range(1000)), 1, ItemNoise(0, 1000))
        told["nats a digit"] = round(-float(bound.mean()), 1)
    return steps / seconds


def theirs(x: Tensor, passes: int, told: dict[str, float] | None = None) -> float:
    """Steps a second of pythae's trainer; what a digit costs in the end goes to ``told``."""
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

    logging.disable(logging.WARNING)  # its trainer prints its settings through the root logger
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
        seconds = time.perf_counter() - begun
    if told is not None:
        with torch.no_grad(), seeded(0, "nats"):
            told["pythae's nats a digit"] = round(float(model({"data": x[:1000].float()}).loss), 1)
    return passes * STEPS_A_PASS / seconds


def measure(gate: bool) -> Outcome:
    """``gate`` takes two passes a turn instead of ten."""
    torch.set_num_threads(1)
    passes = 2 if gate else 10
    x = digits()
    ours(x, 1, "float32")  # what torch makes on first use belongs to neither side
    theirs(x, 1)
    nats: dict[str, float] = {}
    found = alternate(lambda: ours(x, passes, "auto", nats), lambda: theirs(x, passes, nats))
    same = alternate(lambda: ours(x, passes, "float32"), lambda: theirs(x, passes), pairs=3)
    measured = {
        "ratio": found["ratio"],
        "ratio, lowest": found["ratio_min"],
        "ratio, highest": found["ratio_max"],
        "steps a second": found["first"],
        "pythae's steps a second": found["second"],
        "ratio, both in float32": same["ratio"],
        **nats,
    }
    notes = [f"One thread, batch {BATCH}, {passes * STEPS_A_PASS} steps a turn, {DIGITS:,} digits; pythae 0.1.2."]
    return Outcome(measured, {"ratio": ">= 1.5"}, found["ratio"] >= 1.5, notes)
