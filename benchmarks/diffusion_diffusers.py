"""Sampling against diffusers: the same U-Net weights, the same noise, 50 DDIM steps; same pictures, and how fast.

Weights are matched one by one: a `UNet2DModel` of diffusers (64 features, sizes of 1, 2, 2 and 2 times as many, two blocks
each, attention at 16 cells and below; its own first weights, seed 0) is copied into our U-Net, name for name. Both draw
pictures of 3 × 32 × 32 from the same noise: diffusers by the loop of its `DDIMPipeline` over `UNet2DModel` and
`DDIMScheduler` (cosine, v, trailing steps, clipped), we by `Diffusion.decode`. The runs alternate; the median ratio counts.
Goal: pictures within 1e-4 of each other, and at least its speed. The gate draws 8 pictures, the full version 32.
"""

import importlib
import importlib.metadata
import os
import time

import torch
from torch import Tensor

from benchmarks import Outcome, alternate
from pieria.forms import Grid
from pieria.layers.unet import Look, Residual, UNet
from pieria.models.diffusion import Diffusion, DiffusionSampling, DiffusionSettings
from pieria.noise import ItemNoise

STEPS, CHANNELS, MULTIPLES, BLOCKS, ATTENTION, HEAD = 50, 64, (1, 2, 2, 2), 2, 16, 32
FORM = Grid(3, 32, 32, levels=None)
PAIRS = 3


def theirs() -> torch.nn.Module:
    """diffusers' U-Net of this size with its own first weights."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sides = [FORM.height // 2**stage for stage in range(len(MULTIPLES))]
    kinds = ["Attn" if side <= ATTENTION else "" for side in sides]
    torch.manual_seed(0)
    network: torch.nn.Module = importlib.import_module("diffusers").UNet2DModel(
        sample_size=FORM.height,
        in_channels=FORM.channels,
        out_channels=FORM.channels,
        block_out_channels=tuple(CHANNELS * m for m in MULTIPLES),
        layers_per_block=BLOCKS,
        down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
        up_block_types=tuple(f"{kind}UpBlock2D" for kind in kinds[::-1]),
        attention_head_dim=HEAD,
        norm_num_groups=16,
    )
    return network.eval()


def _residual(ours: str, their: str) -> dict[str, str]:
    names = {"norm1": "norm1", "conv1": "conv1", "level": "time_emb_proj", "norm2": "norm2", "conv2": "conv2"}
    return {f"{ours}.{a}": f"{their}.{b}" for a, b in {**names, "shortcut": "conv_shortcut"}.items()}


def _look(ours: str, their: str) -> dict[str, str]:
    names = {"norm": "group_norm", "query": "to_q", "key": "to_k", "value": "to_v", "out": "to_out.0"}
    return {f"{ours}.{a}": f"{their}.{b}" for a, b in names.items()}


def names(network: UNet) -> dict[str, str]:
    """Our name of each layer, and theirs."""
    found = {
        "embed.first": "time_embedding.linear_1",
        "embed.second": "time_embedding.linear_2",
        "first": "conv_in",
        "norm": "conv_norm_out",
        "last": "conv_out",
    }
    for side, changes in (("down", "downsamplers.0.conv"), ("up", "upsamplers.0.conv")):
        for place, stage in enumerate(getattr(network, side)):
            at, there = f"{side}.{place}", f"{side}_blocks.{place}"
            for row in range(len(stage.blocks)):
                found |= _residual(f"{at}.blocks.{row}", f"{there}.resnets.{row}")
                if len(stage.looks):
                    found |= _look(f"{at}.looks.{row}", f"{there}.attentions.{row}")
            found[f"{at}.change"] = f"{there}.{changes}"
    blocks = looks = 0
    for place, part in enumerate(network.middle):
        if isinstance(part, Residual):
            found |= _residual(f"middle.{place}", f"mid_block.resnets.{blocks}")
            blocks += 1
        elif isinstance(part, Look):
            found |= _look(f"middle.{place}", f"mid_block.attentions.{looks}")
            looks += 1
    return found


def copied(their: torch.nn.Module) -> Diffusion:
    """Our model with their weights; fails unless every number on both sides has its place."""
    settings = {"network": "unet", "channels": CHANNELS, "multiples": MULTIPLES, "blocks": BLOCKS, "attention": ATTENTION}
    model = Diffusion(DiffusionSettings.of({**settings, "patch": 1}), FORM)
    assert isinstance(model.network, UNet)
    state, given, used = model.network.state_dict(), their.state_dict(), set()
    for ours, there in names(model.network).items():
        for kind in ("weight", "bias"):
            if f"{ours}.{kind}" in state:
                state[f"{ours}.{kind}"] = given[f"{there}.{kind}"]
                used.add(f"{there}.{kind}")
    assert used == set(given), sorted(set(given) - used)[:3]
    model.network.load_state_dict(state)
    model.low.fill_(-1)
    model.high.fill_(1)
    return model.eval()


@torch.no_grad()
def drawn_by_them(network: torch.nn.Module, z: Tensor) -> Tensor:
    """The loop of diffusers' DDIM pipeline from given noise."""
    scheduler = importlib.import_module("diffusers").DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=True,
        set_alpha_to_one=True,
    )
    scheduler.set_timesteps(STEPS)
    x = z
    for t in scheduler.timesteps:
        told = network(x, t).sample
        x = scheduler.step(told, t, x, eta=0.0, use_clipped_model_output=True).prev_sample
    return x


def measure(gate: bool) -> Outcome:
    """``gate`` draws 8 pictures instead of 32."""
    n = 8 if gate else 32
    network = theirs()
    model = copied(network)
    z = model.prior(n, ItemNoise(0, n))
    options = DiffusionSampling(solver="ddim", steps=STEPS)
    made: dict[str, Tensor] = {}

    def rate(side: str) -> float:
        begun = time.perf_counter()
        made[side] = model.decode(z, options=options) if side == "ours" else drawn_by_them(network, z)
        return n / (time.perf_counter() - begun)

    speed = alternate(lambda: rate("ours"), lambda: rate("theirs"), PAIRS)
    apart = float((made["ours"] - made["theirs"]).abs().max())
    measured = {
        "largest difference": round(apart, 7),
        "speed, times diffusers'": speed["ratio"],
        "lowest and highest of the pairs": f"{speed['ratio_min']} to {speed['ratio_max']}",
        "ours, pictures a second": speed["first"],
        "diffusers, pictures a second": speed["second"],
    }
    goal = {"largest difference": "<= 1e-4", "speed, times diffusers'": ">= 1.0"}
    version = importlib.metadata.version("diffusers")
    numbers = sum(p.numel() for p in model.network.parameters())
    notes = [
        f"{numbers:,} weights matched one by one with the UNet2DModel of diffusers {version}; {n} pictures at "
        f"once; {PAIRS} pairs of alternating runs; standard deviation of the pictures {float(made['ours'].std()):.2f}."
    ]
    return Outcome(measured, goal, apart <= 1e-4 and speed["ratio"] >= 1.0, notes)
