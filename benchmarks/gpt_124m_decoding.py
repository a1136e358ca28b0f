"""Decoding at the size of GPT-2 (124 million), one item, beside what reading its weights once a token allows.

Protocol: GPT-2's settings (12 layers, 12 heads, width 768, 50,257 symbols, windows of 1,024) with random weights, batch 1,
float32, two threads (OMP_NUM_THREADS, where it is set); 16 symbols are read, 96 are drawn greedily. Each token must read
every weight of the layers and of the output once, so the limit is the memory's bandwidth divided by their bytes; it is the
best of two ways of reading 512 MB (a sum, a matrix times a vector), measured before and after each decoding. transformers'
``generate`` decodes the same model, imported from its own checkpoint, and must draw the same symbols. Goal: at least 85 % of
the limit.
"""

import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import Outcome
from pieria.forms import Tokens
from pieria.hub import gpt2
from pieria.hub.reading import Checkpoint
from pieria.models.gpt import GPT
from pieria.models.weights import restore
from pieria.noise import ItemNoise
from pieria.sampling.decoding import Decoding, generate

READ, DRAWN, ROWS = 16, 96, 4096
GOAL = 0.85


def both() -> tuple[GPT, Any]:
    """Ours, imported from the checkpoint that transformers' model was saved to, and theirs."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(GPT2Config()).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        found = Checkpoint(Path(folder))
        model = GPT(gpt2.settings(found.config), Tokens(50_257, 1024))
        restore(model, gpt2.state(found, model, {"begin": 50_256}, []))
    return model.eval(), theirs


def bandwidth(block: torch.Tensor, vector: torch.Tensor) -> float:
    """Bytes a second that the memory gives: the faster of a sum and a matrix times a vector, the best of three."""
    best = 0.0
    for read in (block.sum, lambda: torch.mv(block, vector)) * 3:
        begun = time.perf_counter()
        read()
        best = max(best, block.numel() * 4 / (time.perf_counter() - begun))
    return best


def measure(gate: bool) -> Outcome:
    threads = int(os.environ.get("OMP_NUM_THREADS", "2"))
    torch.set_num_threads(threads)
    model, theirs = both()
    prompt = torch.randint(0, 50_257, (READ,), generator=torch.Generator().manual_seed(0))
    begun = torch.cat([torch.tensor([50_256]), prompt])[None]
    layers = sum(p.numel() for p in model.layers.parameters())
    needed = 4 * (layers + 50_257 * model.settings.width)
    block, vector = torch.ones(512 * 2**20 // 4 // ROWS, ROWS), torch.ones(ROWS)

    def ours() -> tuple[float, list[int]]:
        start = time.perf_counter()
        drawn = generate(model, 1, Decoding(temperature=0, length=DRAWN), ItemNoise(0, 1), prompt=prompt)
        return DRAWN / (time.perf_counter() - start), drawn[0].tolist()

    def peer() -> tuple[float, list[int]]:
        start = time.perf_counter()
        with torch.inference_mode():
            made = theirs.generate(
                begun,
                attention_mask=torch.ones_like(begun),
                do_sample=False,
                max_new_tokens=DRAWN,
                min_new_tokens=DRAWN,
                pad_token_id=50_256,
            )
        return DRAWN / (time.perf_counter() - start), made[0, begun.shape[1] :].tolist()

    same = ours()[1] == peer()[1]
    limits: list[float] = []
    rates: list[float] = []
    shares: list[float] = []
    peers: list[float] = []
    peer_shares: list[float] = []
    before = bandwidth(block, vector) / needed
    for _ in range(3 if gate else 7):
        for side, found, parts in ((ours, rates, shares), (peer, peers, peer_shares)):
            rate = side()[0]
            after = bandwidth(block, vector) / needed
            limits.append((before + after) / 2)
            found.append(rate)
            parts.append(rate / limits[-1])
            before = after
    share = round(median(shares), 3)
    measured = {
        "share of the limit": share,
        "tokens a second": round(median(rates), 1),
        "limit, tokens a second": round(median(limits), 1),
        "memory bandwidth, GB a second": round(median(limits) * needed / 1e9, 1),
        "transformers, tokens a second": round(median(peers), 1),
        "transformers, share of the limit": round(median(peer_shares), 3),
        "threads": threads,
        "same symbols as transformers": same,
    }
    goal = {"share of the limit": f"≥ {GOAL}", "same symbols as transformers": True}
    spread = f"shares from {min(shares):.3f} to {max(shares):.3f}; {needed / 1e6:.0f} MB of weights a token"
    return Outcome(measured, goal, share >= GOAL and same, [spread])
