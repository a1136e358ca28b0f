"""Cached decoding against ``generate`` of transformers, with the same weights.

Protocol: 0.8 million parameters (4 layers, width 128) and 10.7 million (6 layers, width 384), windows of 256, batch 1 and
32; both draw 255 symbols at temperature 1 after one symbol, in turns, in float32 on two threads. The weights are ours,
mapped into a GPT-2; before timing, the odds of both must agree to 1e-4. Goal: at least twice the symbols a second.
"""

import time
from typing import Any

import torch

from benchmarks import Outcome, alternate
from pieria.forms import Tokens
from pieria.models.gpt import GPT, GPTSettings
from pieria.noise import ItemNoise
from pieria.sampling.decoding import Decoding, generate

LENGTH = 256
SIZES = {"0.8 M": {"layers": 4, "heads": 4, "width": 128}, "10.7 M": {"layers": 6, "heads": 6, "width": 384}}


def ours(size: dict[str, int]) -> GPT:
    torch.manual_seed(0)
    settings = GPTSettings.of({**size, "positions": "learned", "unit_queries": False, "precision": "float32"})
    return GPT(settings, Tokens(65, LENGTH)).eval()


@torch.no_grad()
def theirs(model: GPT) -> Any:
    """A GPT-2 of transformers with the same weights: its biases are zero, its matrices transposed, its head tied."""
    from transformers import GPT2Config, GPT2LMHeadModel

    settings = model.settings
    config = GPT2Config(
        vocab_size=66,
        n_positions=LENGTH,
        n_embd=settings.width,
        n_layer=settings.layers,
        n_head=settings.heads,
        activation_function="gelu",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )
    peer = GPT2LMHeadModel(config).eval()
    for parameter in peer.parameters():
        parameter.zero_()
    body = peer.transformer
    assert model.place is not None
    body.wte.weight.copy_(model.symbol.weight)
    body.wpe.weight.copy_(model.place.weight)
    body.ln_f.weight.copy_(model.last.weight)
    for block, layer in zip(body.h, model.each_layer(), strict=True):
        block.ln_1.weight.copy_(layer.before_look.weight)
        block.ln_2.weight.copy_(layer.before_thought.weight)
        block.attn.c_attn.weight.copy_(layer.look.project.weight.T)
        block.attn.c_proj.weight.copy_(layer.look.output.weight.T)
        block.mlp.c_fc.weight.copy_(layer.think.enter.weight.T)
        block.mlp.c_proj.weight.copy_(layer.think.leave.weight.T)
    return peer


def measure(gate: bool) -> Outcome:
    torch.set_num_threads(2)
    measured: dict[str, Any] = {}
    goal: dict[str, str] = {}
    ratios = []
    for name, size in SIZES.items():
        model = ours(size)
        peer = theirs(model)
        tokens = torch.randint(0, 65, (2, LENGTH), generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            apart = float((peer(tokens).logits[..., :65] - model.logits(tokens)).abs().max())
        if apart > 1e-4:
            return Outcome({f"{name}, odds apart by": apart}, {f"{name}, odds apart by": "≤ 1e-4"}, False)
        for n in (1, 32):

            def decode(model: GPT = model, n: int = n) -> float:
                begun = time.perf_counter()
                generate(model, n, Decoding.of({"length": LENGTH - 1}), ItemNoise(0, n))
                return n * (LENGTH - 1) / (time.perf_counter() - begun)

            def peer_decodes(peer: Any = peer, n: int = n) -> float:
                first = torch.full((n, 1), 65)
                begun = time.perf_counter()
                made = peer.generate(
                    first,
                    attention_mask=torch.ones_like(first),
                    do_sample=True,
                    top_k=0,
                    max_new_tokens=LENGTH - 1,
                    pad_token_id=0,
                )
                assert made.shape == (n, LENGTH)
                return n * (LENGTH - 1) / (time.perf_counter() - begun)

            decode()
            peer_decodes()
            found = alternate(decode, peer_decodes, 3 if gate else 7)
            ratios.append(found["ratio"])
            key = f"{name}, batch {n}: ratio"
            measured[key] = found["ratio"]
            measured[f"{name}, batch {n}: symbols a second (ours, transformers)"] = (
                f"{found['first']:.0f}, {found['second']:.0f} (ratios {found['ratio_min']} to {found['ratio_max']})"
            )
            goal[key] = "≥ 2"
    return Outcome(measured, goal, min(ratios) >= 2)
