"""StyleGAN2's training step beside NVIDIA's public PyTorch code (its reference operations): same networks, same batch.

Protocol: colour pictures of 32 × 32 (in the full version 64 × 64 too), batch 16, codes and styles of 128 numbers, a mapping
network of 4 layers, 128 features at each size, style mixing, path length every 4th step, R1 every 16th, no augmentation.
Sixteen steps are one turn, so that each lazy move is in it; turns alternate. Theirs multiplies in float32 on a processor,
ours in bfloat16 where the processor does so natively; the ratio with both in float32 is measured too. The peak of memory is
of one process each, over what it held before its first step. Goals: 1.2 times its steps a second, no more memory.

``STYLEGAN2`` names a checkout of https://github.com/NVlabs/stylegan2-ada-pytorch; without it only our side is measured.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import Outcome, alternate
from pieria.data.batch import Batch
from pieria.forms import Grid
from pieria.models.stylegan2 import PATH_EVERY, SLOPE_EVERY, StyleGAN2, StyleGAN2Settings
from pieria.noise import seeded
from pieria.training.game import Game
from pieria.training.plan import Plan
from pieria.training.processes import Processes

BATCH, CODE, MAPPING, FEATURES, TURN = 16, 128, 4, 128, SLOPE_EVERY
SLOPE_WEIGHT = 0.05


def pictures(side: int) -> torch.Tensor:
    return torch.randint(256, (BATCH, 3, side, side), generator=torch.Generator().manual_seed(0))


def ours(side: int, precision: str) -> Callable[[int], None]:
    """Play so many steps."""
    settings = StyleGAN2Settings.of(
        {"latent": CODE, "style": CODE, "mapping": MAPPING, "channels": FEATURES, "budget": FEATURES * side,
         "augment": "none", "slope_weight": SLOPE_WEIGHT, "precision": precision}
    )  # fmt: skip
    with seeded(0, "weights"):
        model = StyleGAN2(settings, Grid(3, side, side)).train()
    game = Game(model, Plan.of({**StyleGAN2.training_defaults, "batch": BATCH}), Processes.join("cpu"))
    batch, done = Batch(pictures(side)), 0

    def play(steps: int) -> None:
        nonlocal done
        for step in range(done, done + steps):
            game.play(step, 2.5e-3, [(0, batch)])
        done += steps

    return play


def theirs(side: int) -> Callable[[int], None]:
    """The same, with their networks, loss and phases, as their training loop plays them."""
    checkout = Path(os.environ["STYLEGAN2"])
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    from training.loss import StyleGAN2Loss  # type: ignore[import-not-found]  # of the checkout
    from training.networks import Discriminator, Generator  # type: ignore[import-not-found]  # of the checkout

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"channel_base": FEATURES * side, "channel_max": FEATURES, "num_fp16_res": 0}
    generator = Generator(
        z_dim=CODE, c_dim=0, w_dim=CODE, img_resolution=side, img_channels=3,
        mapping_kwargs={"num_layers": MAPPING}, synthesis_kwargs=sizes,
    ).train()  # fmt: skip
    discriminator = Discriminator(
        c_dim=0, img_resolution=side, img_channels=3, epilogue_kwargs={"mbstd_group_size": 4}, **sizes
    ).train()
    loss = StyleGAN2Loss("cpu", generator.mapping, generator.synthesis, discriminator, r1_gamma=SLOPE_WEIGHT)
    phases = []
    for name, module, every in (("G", generator, PATH_EVERY), ("D", discriminator, SLOPE_EVERY)):
        share = every / (every + 1)
        optimiser = torch.optim.Adam(module.parameters(), lr=2.5e-3 * share, betas=(0.0, 0.99**share), eps=1e-8)
        phases += [(f"{name}main", module, optimiser, 1), (f"{name}reg", module, optimiser, every)]
    generator.requires_grad_(False)
    discriminator.requires_grad_(False)
    real, none, done = pictures(side).float() / 127.5 - 1, torch.zeros(BATCH, 0), 0

    def play(steps: int) -> None:
        nonlocal done
        for step in range(done, done + steps):
            for name, module, optimiser, every in phases:
                if step % every:
                    continue
                optimiser.zero_grad(set_to_none=True)
                module.requires_grad_(True)
                loss.accumulate_gradients(
                    phase=name, real_img=real, real_c=none, gen_z=torch.randn(BATCH, CODE), gen_c=none, sync=True, gain=every
                )
                module.requires_grad_(False)
                for parameter in module.parameters():
                    if parameter.grad is not None:
                        torch.nan_to_num(parameter.grad, nan=0, posinf=1e5, neginf=-1e5, out=parameter.grad)
                optimiser.step()
        done += steps

    return play


def peak(side: int, who: str) -> float:
    """Megabytes that a process of its own held at most in a turn, over what it held before it."""
    code = f"from benchmarks.stylegan2_step import held; held({side}, {who!r})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def held(side: int, who: str) -> None:
    """Prints what `peak` reads; runs in a process of its own."""
    torch.set_num_threads(2)
    play = theirs(side) if who == "theirs" else ours(side, who)
    before = most_held()
    play(TURN)
    print(json.dumps((most_held() - before) / 1024))


def most_held() -> int:
    """Kilobytes that this program held at most; what getrusage tells counts in the process that started it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measure(gate: bool) -> Outcome:
    """``gate``: 32 × 32 alone."""
    torch.set_num_threads(2)
    measured: dict[str, Any] = {}
    goal: dict[str, str] = {}
    passed = "STYLEGAN2" in os.environ
    for side in (32,) if gate else (32, 64):

        def pace(play: Callable[[int], None]) -> Callable[[], float]:
            def turn() -> float:
                begun = time.perf_counter()
                play(TURN)
                return TURN / (time.perf_counter() - begun)

            return turn

        for precision in ("auto", "float32"):
            us, label = ours(side, precision), f"{side} × {side}" + (", both in float32" if precision != "auto" else "")
            us(2)
            if "STYLEGAN2" not in os.environ:
                measured[f"{label}: steps a second, ours"] = round(median(pace(us)() for _ in range(3)), 3)
                continue
            them = theirs(side)
            them(2)
            found = alternate(pace(us), pace(them), pairs=3 if gate else 5)
            measured[f"{label}: ratio"] = found["ratio"]
            measured[f"{label}: steps a second (ours, theirs; ratios)"] = (
                f"{found['first']}, {found['second']} ({found['ratio_min']} to {found['ratio_max']})"
            )
            if precision == "auto":
                goal[f"{label}: ratio"] = "≥ 1.2"
                passed = passed and found["ratio"] >= 1.2
        if "STYLEGAN2" in os.environ:
            mine, other = peak(side, "auto"), peak(side, "theirs")
            measured[f"{side} × {side}: memory of a turn, MB (ours, theirs)"] = f"{mine:.0f}, {other:.0f}"
            measured[f"{side} × {side}: memory ratio"] = round(mine / other, 3)
            goal[f"{side} × {side}: memory ratio"] = "≤ 1"
            passed = passed and mine <= other
    return Outcome(measured, goal, passed, [f"batch {BATCH}, {FEATURES} features at each size"])
