"""PixelCNN's cached sampling against its own naive sampler, on 28 × 28 binary pictures.

Protocol: the network of the preset ``small``, its untrained weights moved far from zero (it is the same work), sampled with
the same noise by both readers on the machine's threads: the naive one computes the whole network for each of the 784 pixels,
the cached one what the pixel alone needs. The largest difference of logits and of the raw outputs that they follow from is
taken over all pixels of 64 pictures drawn by the cached reader. The naive sampler is timed over every 28th pixel, in order,
since each of its steps is the same work; the cached one over whole pictures. Goals: at least 30 times as fast at batch 64;
logits equal to 1e-5; batch 1 is reported. The gate is quick: without it, also the preset ``mnist``, and attention.
"""

import time
from typing import Any

import torch

from benchmarks import Outcome
from pieria.forms import Grid
from pieria.models.pixelcnn import PixelCNN, PixelCNNSettings
from pieria.noise import ItemNoise, seeded
from pieria.sampling.raster import Raster, scan
from pieria.testing.subject import preset

FORM = Grid(1, 28, 28, levels=2)
GOAL, APART = 30.0, 1e-5
EVERY = 28  # of the naive sampler's pixels, so many are left out between two that are timed


def made(name: str, **settings: Any) -> PixelCNN:
    """A network with weights far enough from zero that what it has seen matters."""
    with seeded(0, "weights"):
        model = PixelCNN(PixelCNNSettings.of({**preset(PixelCNN, name)[0], **settings}), FORM).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def cached_seconds(model: PixelCNN, n: int, times: int = 3) -> float:
    """Of whole pictures, the best of a few times."""
    found = []
    for seed in range(times):
        begun = time.perf_counter()
        model.sample(n, Raster(), ItemNoise(seed, n))
        found.append(time.perf_counter() - begun)
    return min(found)


@torch.no_grad()
def naive_seconds(model: PixelCNN, n: int) -> float:
    """Of whole pictures, from every 28th pixel."""
    x, labels, spent, steps = model._blank(n), torch.zeros(n, 0), 0.0, 0
    reader, uniform = model.reader(labels, cached=False), ItemNoise(0, n).uniform("pixel", (*FORM.shape, 2)).double()
    reader.cell(0, 0)  # the first call also prepares the convolutions
    for pixel in range(EVERY // 2, 784, EVERY):
        row, column = divmod(pixel, 28)
        begun = time.perf_counter()
        raw = reader.cell(row, column)
        x[:, 0, row, column] = model.law.draw(raw, x[:, :0, row, column], uniform[:, 0, row, column])
        reader.put(row, column, x[:, :, row, column])
        spent, steps = spent + time.perf_counter() - begun, steps + 1
    return spent / steps * 784


@torch.no_grad()
def apart(model: PixelCNN, n: int) -> tuple[float, float]:
    """The largest difference of raw outputs and of logits, over all pixels of ``n`` drawn pictures; and in float64."""
    x, labels = model._blank(n), torch.zeros(n, 0)
    uniform = ItemNoise(0, n).uniform("pixel", (*FORM.shape, 2))
    raw = torch.stack([cell.raw for cell in scan(model.reader(labels), model.law, x, uniform)], dim=2)
    whole = model.network(x, labels).flatten(2)  # what stands later changes nothing: the naive sampler's outputs at once
    logits = [model.law.odds(each.transpose(1, 2).flatten(0, 1), x.new_zeros(n * 784, 0), 2) for each in (raw, whole)]
    return float((raw - whole).abs().max()), float((logits[0] - logits[1]).abs().max())


def measure(gate: bool) -> Outcome:
    """``gate`` measures the small network alone."""
    measured: dict[str, Any] = {}
    tried = {"small": made("small")}
    if not gate:
        tried |= {"mnist": made("mnist"), "small with attention": made("small", attention=2)}
    worst, fastest = 0.0, []
    for name, model in tried.items():
        gaps = apart(model, 64)
        worst = max(worst, *gaps)
        measured[f"{name}: largest difference of logits"] = float(f"{gaps[1]:.2g}")
        for n in (64, 1):
            quick, slow = cached_seconds(model, n), naive_seconds(model, n)
            measured[f"{name}: times as fast, batch {n}"] = round(slow / quick, 1)
            measured[f"{name}: seconds cached, batch {n}"] = round(quick, 3)
            measured[f"{name}: seconds naive, batch {n}"] = round(slow, 1)
            if n == 64:
                fastest.append(slow / quick)
    goal = {f"{name}: times as fast, batch 64": f">= {GOAL}" for name in tried}
    goal |= {f"{name}: largest difference of logits": f"<= {APART}" for name in tried}
    return Outcome(measured, goal, min(fastest) >= GOAL and worst <= APART, [f"{torch.get_num_threads()} threads"])
