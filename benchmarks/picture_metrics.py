"""Figures of pictures against other people's on the same features: torchmetrics, prdc, torch-fidelity's network.

Protocol: features of Fashion-MNIST by the shipped network (test pictures against training pictures with 8 % of their pixels
drawn anew), and normal points of 2,048 dimensions, as Inception has, once fewer and once more than dimensions. Each figure
is taken by the public class of torchmetrics 1.9 in float64 too (for KID one subset of all, for the Inception score one part
of all) and by prdc 0.2. Goal: every relative difference at most 1e-5, the four shares equal, and none slower in processor
seconds (1.1 times allows for noise). With TORCH_FIDELITY=DIR (made by ``pip install --no-deps --target DIR
torch-fidelity``, which needs no torchvision that way) its Inception network, with random weights that are ours too, is asked
about the same pictures of three sizes: the largest difference of a feature, relative to the largest feature, at most 1e-5.
The gate leaves out the sets of 3,000 points.
"""

import contextlib
import hashlib
import importlib
import io
import os
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import Outcome
from pieria.data.fetched import File
from pieria.evaluation import inception
from pieria.evaluation.distances import frechet, inception_score, kernel_distance, prdc
from pieria.evaluation.extractors import seen, shipped
from pieria.forms import Grid
from pieria.modalities.opening import open_data

GOAL = 1e-5


class AsItIs(nn.Module):
    """What torchmetrics takes for a network: the features themselves."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x``."""
        return x


def sets(gate: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pairs of sets of points by what they are, the real ones first."""
    data = open_data("fashion-mnist")
    form = data.examples("test").form
    assert isinstance(form, Grid)
    assert form.levels is not None
    real, made = data.examples("test").batch(range(1_000)).x, data.examples("train").batch(range(1_000)).x
    generator = np.random.default_rng(0)
    torn = torch.from_numpy(generator.random(tuple(made.shape)) < 0.08)
    made = torch.where(torn, torch.from_numpy(generator.integers(0, form.levels, tuple(made.shape))), made)
    found = {"96 features of 1,000 pictures": (seen(shipped(), real, form), seen(shipped(), made, form))}
    for points, width in ((1_000, 2_048),) if gate else ((1_000, 2_048), (3_000, 2_048)):
        turn = generator.normal(size=(width, width)) / width**0.5 * np.exp(generator.normal(size=width))
        pair = [generator.normal(size=(points, width)) @ turn for _ in range(2)]
        found[f"{width:,} features of {points:,} points"] = (pair[0], pair[1] + 0.05)
    return found


def by_torchmetrics(name: str, real: np.ndarray, made: np.ndarray) -> float:
    """A figure as torchmetrics gives it, in float64."""
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.image.kid import KernelInceptionDistance

    a, b = torch.from_numpy(real), torch.from_numpy(made)
    network = AsItIs(real.shape[1])
    if name == "Inception score":
        score = InceptionScore(feature=network, splits=1)
        score.update(b)
        return float(score.compute()[0])
    metric: Any = (
        FrechetInceptionDistance(feature=network).set_dtype(torch.float64)
        if name == "FID"
        else KernelInceptionDistance(feature=network, subsets=1, subset_size=len(real))
    )
    metric.update(a, real=True)
    metric.update(b, real=False)
    found = metric.compute()
    return float(found[0] if isinstance(found, tuple) else found)


def timed(what: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and its processor seconds."""
    begun = time.process_time()
    return what(), time.process_time() - begun


def network_difference(place: Path) -> float:
    """The largest relative difference between features of torch-fidelity's Inception and of ours, for the same weights."""
    package = types.ModuleType("torch_fidelity")  # its own first file asks for torchvision
    package.__path__ = [str(place / "torch_fidelity")]
    sys.modules["torch_fidelity"] = package
    theirs = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    torch.manual_seed(0)
    drawn = inception.Inception()
    for part in drawn.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
        elif isinstance(part, inception.Normalised):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 2)
            part.weight.uniform_(0.5, 1.5)
            part.bias.normal_(0, 0.1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save(drawn.state_dict(), path)
        other = theirs.FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(path))
        published = inception.PUBLISHED
        inception.PUBLISHED = File(path.name, hashlib.sha256(path.read_bytes()).hexdigest())
        try:
            own, _ = inception.load(path)
        finally:
            inception.PUBLISHED = published
    worst = 0.0
    for height, width in ((28, 28), (32, 40), (400, 310)):
        x = torch.randint(0, 256, (4, 3, height, width))
        with torch.no_grad():
            wanted, found = other(x.to(torch.uint8))[0], own(inception.as_shown(x, Grid(3, height, width)))
        worst = max(worst, float((wanted - found).abs().max() / wanted.abs().max()))
    return worst


def measure(gate: bool) -> Outcome:
    """``gate`` leaves out the largest sets."""
    from prdc import compute_prdc

    warnings.simplefilter("ignore")
    measured: dict[str, Any] = {}
    worst, slowest, same = 0.0, 0.0, True
    ours: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "FID": frechet,
        "KID": kernel_distance,
        "Inception score": lambda real, made: inception_score(made, parts=1)[0],
    }
    by_torchmetrics("FID", np.ones((4, 2)), np.ones((4, 2)))  # its first import takes seconds
    for where, (real, made) in sets(gate).items():
        for name, own in ours.items():
            found, seconds = timed(lambda own=own, real=real, made=made: own(real, made))  # type: ignore[misc]
            wanted, others = timed(lambda name=name, real=real, made=made: by_torchmetrics(name, real, made))  # type: ignore[misc]
            difference, ratio = abs(found - wanted) / abs(wanted), seconds / max(others, 1e-9)
            worst, slowest = max(worst, difference), max(slowest, ratio if seconds > 0.1 else 0.0)
            measured[f"{name}, {where}"] = f"{found:.6g}, off by {difference:.1e}, {seconds:.2f} against {others:.2f} s"
        found_shares, seconds = timed(lambda real=real, made=made: prdc(real, made))  # type: ignore[misc]
        with contextlib.redirect_stdout(io.StringIO()):  # prdc prints how many points it was given
            wanted_shares, others = timed(lambda real=real, made=made: compute_prdc(real, made, nearest_k=5))  # type: ignore[misc]
        equal = all(abs(found_shares[name] - float(wanted_shares[name])) < 1e-12 for name in found_shares)
        same = same and equal
        measured[f"precision … coverage, {where}"] = (
            f"{'equal to' if equal else 'unlike'} prdc's, {seconds:.2f} against {others:.2f} s"
        )
    measured |= {"largest relative difference": worst, "slowest, times theirs": round(slowest, 3)}
    goal = {"largest relative difference": f"<= {GOAL}", "slowest, times theirs": "<= 1.1"}
    passed = worst <= GOAL and slowest <= 1.1 and same
    notes = ["Where ours takes under 0.1 s, speed is told and not judged."]
    if place := os.environ.get("TORCH_FIDELITY"):
        measured["Inception network, largest relative difference"] = network_difference(Path(place))
        goal["Inception network, largest relative difference"] = f"<= {GOAL}"
        passed = passed and measured["Inception network, largest relative difference"] <= GOAL
    else:
        notes.append("Inception's network was not compared: TORCH_FIDELITY=DIR is not set.")
    return Outcome(measured, goal, passed, notes)
