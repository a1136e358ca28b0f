"""minGRU trained by the parallel scan against the same cell stepped through time in a Python loop.

Protocol: one cell (gates by one matrix product for all steps on both sides, then h_t = (1 - z_t) h_{t-1} + z_t v_t), forward
and backward in float32, on two threads of the processor, or on the GPU where there is one. The loop takes its steps from
``unbind`` and makes each by one ``torch.lerp``, as fast as autograd can be looped over; both give the same states and
gradients to 1e-5. Sides run in turns, five pairs: the median of the ratios, with the least and the largest. Beside them
torch's own fused GRU of the same size. Goals: 4 times at 512 steps and 20 times at 4,096 on the processor (batch 1, width
64); 20 and 100 times on a GPU (batch 16, width 256).
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import Outcome, alternate
from pieria.models.rnn import Minimal, RNNSettings

Size = tuple[int, int, int]  # batch, width, steps
CPU: dict[Size, float | None] = {
    (1, 64, 512): 4,
    (1, 64, 4096): 20,
    (1, 256, 4096): None,
    (16, 128, 512): None,
    (32, 256, 256): None,
}
GPU: dict[Size, float | None] = {(16, 256, 512): 20, (16, 256, 4096): 100, (1, 64, 4096): None}


def by_scan(cell: Minimal, x: Tensor, start: Tensor) -> Tensor:
    return cell.recurrence(cell.gates(x), start)


def by_loop(cell: Minimal, x: Tensor, start: Tensor) -> Tensor:
    gate, value = cell.gates(x).chunk(2, dim=-1)
    h, states = start, []
    for z, v in zip(torch.sigmoid(gate).unbind(1), value.unbind(1), strict=True):
        h = torch.lerp(h, v, z)
        states.append(h)
    return torch.stack(states, dim=1)


def by_fused_gru(cell: nn.GRU, x: Tensor, start: Tensor) -> Tensor:
    out: Tensor = cell(x, start[None])[0]
    return out


def rate(way: Callable[[Any, Tensor, Tensor], Tensor], cell: nn.Module, x: Tensor, start: Tensor) -> float:
    """Training passes a second, from as many as take a tenth of a second."""
    passes, begun = 0, time.perf_counter()
    while passes < 2 or time.perf_counter() - begun < 0.1:
        way(cell, x, start).sum().backward()
        passes += 1
        if x.is_cuda:
            torch.cuda.synchronize()
    return passes / (time.perf_counter() - begun)


def apart(cell: Minimal, x: Tensor, start: Tensor) -> float:
    """The largest difference of states and gradients between the two ways, as a share of the largest number."""
    both = []
    for way in (by_scan, by_loop):
        h = way(cell, x, start)
        given = [cell.gates.weight, x]
        both.append([h, *torch.autograd.grad(h.square().sum(), given)])
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(*both, strict=True))


def measure(gate: bool) -> Outcome:
    """The gate is the whole: it takes a minute or two."""
    del gate
    gpu = torch.cuda.is_available()
    threads, device = torch.get_num_threads(), torch.device("cuda" if gpu else "cpu")
    torch.set_num_threads(2)
    measured: dict[str, Any] = {}
    goal: dict[str, Any] = {"largest difference": "≤ 1e-5"}
    passed, worst = True, 0.0
    for (batch, width, steps), wanted in (GPU if gpu else CPU).items():
        torch.manual_seed(0)
        cell = Minimal(RNNSettings(cell="mingru", width=width)).to(device)
        fused = nn.GRU(width, width, batch_first=True).to(device)
        x = torch.randn(batch, steps, width, device=device, requires_grad=True)
        start = torch.randn(batch, width, device=device)
        worst = max(worst, apart(cell, x, start))
        name = f"batch {batch}, width {width}, {steps} steps"
        sides = [
            partial(rate, way, owner, x, start) for way, owner in ((by_scan, cell), (by_loop, cell), (by_fused_gru, fused))
        ]
        for side in sides:
            side()
        found = alternate(sides[0], sides[1])
        ratio = found["ratio"]
        measured[f"{name}: scan / loop"] = ratio
        measured[f"{name}: least and largest ratio"] = [found["ratio_min"], found["ratio_max"]]
        measured[f"{name}: scan, ms"] = round(1000 / found["first"], 2)
        measured[f"{name}: scan / torch's GRU"] = alternate(sides[0], sides[2], pairs=3)["ratio"]
        if wanted is not None:
            goal[f"{name}: scan / loop"] = f"≥ {wanted}"
            passed = passed and ratio >= wanted
    torch.set_num_threads(threads)
    measured["largest difference"] = float(f"{worst:.2g}")
    return Outcome(measured, goal, passed and worst <= 1e-5)
