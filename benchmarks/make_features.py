"""Makes the weights of the feature network in `pieria/evaluation/features.py` again, from public pictures.

``PIERIA_DATA=DIR python -m benchmarks.make_features [FILE]``: about five minutes on one core. The same seed on another
machine gives weights that differ in their last digits, hence in their hash; the shipped file is the reference.
"""

import argparse
import gzip
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from pieria.evaluation.features import SIZE, FeatureNetwork

DAMAGES = ("none", "noise", "blur", "coarse", "shuffled", "ghost", "hole", "dots", "bent")


def _idx(path: Path) -> np.ndarray:
    raw = gzip.decompress(path.read_bytes())
    dimensions = raw[3]
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    return np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _to_size(x: np.ndarray) -> Tensor:
    """uint8 ``[n, h, w]`` or ``[n, h, w, 3]`` as uint8 ``[n, 3, 32, 32]``."""
    tensor = torch.from_numpy(np.array(x))
    tensor = tensor[:, None].expand(-1, 3, -1, -1) if tensor.ndim == 3 else tensor.movedim(-1, 1)
    mode = "area" if tensor.shape[-1] > SIZE else "bilinear"
    return functional.interpolate(tensor.float(), (SIZE, SIZE), mode=mode).round().byte()


def pictures(root: Path, each: int = 14_000) -> tuple[Tensor, Tensor, int]:
    """All pictures uint8 ``[n, 3, 32, 32]``, their classes, and how many classes there are."""
    xs: list[Tensor] = []
    ys: list[Tensor] = []
    classes = 0

    def add(x: np.ndarray, y: np.ndarray) -> None:
        nonlocal classes
        _, codes = np.unique(y, return_inverse=True)
        xs.append(_to_size(x))
        ys.append(torch.from_numpy(codes) + classes)
        classes += int(codes.max()) + 1

    for name in ("mnist", "fashion-mnist"):
        folder = root / "images" / name
        add(_idx(folder / "train-images-idx3-ubyte.gz")[:each], _idx(folder / "train-labels-idx1-ubyte.gz")[:each])
    with np.load(root / "images/omniglot/omniglot_small1.npz", allow_pickle=False) as drawn:
        add(drawn["images"] * np.uint8(255), drawn["character"].astype(int) + 1000 * drawn["alphabet"].astype(int))
    captions = json.loads((root / "images/emoji/captions.json").read_text(encoding="utf-8"))
    groups = np.asarray([caption["group"] for caption in captions])
    for name in ("twemoji", "noto"):
        with np.load(root / f"images/emoji/{name}.npz", allow_pickle=False) as drawn:
            add(drawn[next(key for key in drawn if drawn[key].ndim == 4)], groups)
    return torch.cat(xs), torch.cat(ys), classes


def damaged(x: Tensor, kind: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture of ``x`` with its ``kind`` of damage done to it, by a random amount."""

    def amount(n: int, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand((n, 1, 1, 1), generator=generator)

    out = x.clone()
    for code, name in enumerate(DAMAGES):
        rows = (kind == code).nonzero()[:, 0]
        n = len(rows)
        if n == 0 or name == "none":
            continue
        part = x[rows]
        if name == "noise":
            part = part + amount(n, 0.1, 0.8) * torch.randn(part.shape, generator=generator)
        elif name == "blur":
            width = int(torch.randint(1, 3, (), generator=generator)) * 2 + 1
            blurred = functional.avg_pool2d(functional.avg_pool2d(part, width, 1, width // 2), width, 1, width // 2)
            weight = amount(n, 0.5, 1.0)
            part = weight * blurred + (1 - weight) * part
        elif name == "coarse":
            part = functional.interpolate(functional.avg_pool2d(part, 4), SIZE, mode="nearest")
        elif name == "shuffled":
            tiles = functional.unfold(part, 8, stride=8)  # [n, 3 * 64, 16]
            order = torch.rand((n, 1, 16), generator=generator).argsort(dim=2).expand_as(tiles)
            part = functional.fold(tiles.gather(2, order), SIZE, 8, stride=8)
        elif name == "ghost":
            weight = amount(n, 0.3, 0.5)
            part = (1 - weight) * part + weight * part[torch.randperm(n, generator=generator)]
        elif name == "hole":
            top, left = torch.randint(0, 16, (2,), generator=generator).tolist()
            part = part.clone()
            part[:, :, top : top + 16, left : left + 16] = part.flip(0)[:, :, :16, :16]
        elif name == "dots":
            hit = torch.rand((n, 1, SIZE, SIZE), generator=generator) < amount(n, 0.02, 0.2)
            part = torch.where(hit, torch.rand((n, 1, SIZE, SIZE), generator=generator) * 2 - 1, part)
        else:
            coarse = (torch.rand((n, 2, 5, 5), generator=generator) - 0.5) * amount(n, 0.2, 0.6)
            shift = functional.interpolate(coarse, SIZE, mode="bicubic").movedim(1, -1)
            line = torch.linspace(-1, 1, SIZE)
            grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)
            part = functional.grid_sample(part, grid + shift, padding_mode="border", align_corners=True)
        out[rows] = part.clamp(-1, 1)
    return out


def train(root: Path, out: Path, epochs: int = 18, size: int = 128, seed: int = 0) -> None:
    """Two heads on one network: what is shown, and what was done to it."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    x, y, classes = pictures(root)
    network = FeatureNetwork()
    shown, done = nn.Linear(network.width, classes), nn.Linear(network.width, len(DAMAGES))
    parameters = [*network.parameters(), *shown.parameters(), *done.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=1e-2)
    steps = epochs * (len(x) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    step, begun = 0, time.perf_counter()
    for epoch in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        right = seen = 0.0
        for start in range(0, len(x) - size + 1, size):
            rows = order[start : start + size]
            batch = x[rows].float() / 127.5 - 1
            # inverted and tinted pictures: the network should not depend on what is ink and what is paper
            flip = torch.where(torch.rand((size, 1, 1, 1), generator=generator) < 0.3, -1.0, 1.0)
            tint = torch.where(torch.rand((size, 1, 1, 1), generator=generator) < 0.3, 1.0, 0.0)
            batch = batch * flip
            batch = (batch - 0.6 * tint * torch.rand((size, 3, 1, 1), generator=generator) * (batch + 1)).clamp(-1, 1)
            kind = torch.randint(-len(DAMAGES) + 1, len(DAMAGES), (size,), generator=generator).clamp(min=0)
            features = network(damaged(batch, kind, generator))
            loss = functional.cross_entropy(shown(features), y[rows]) + functional.cross_entropy(done(features), kind)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            step += 1
            right += float((done(features).argmax(1) == kind).sum() + (shown(features).argmax(1) == y[rows]).sum()) / 2
            seen += size
        print(f"epoch {epoch + 1}: {right / seen:.3f} right, {time.perf_counter() - begun:.0f} s", flush=True)
    standardise(network, x)
    save_file(network.state_dict(), str(out))
    print(f"{out}: {out.stat().st_size} bytes")


def standardise(network: FeatureNetwork, x: Tensor) -> None:
    """Set the mean and the spread of each feature from undamaged pictures; the heads are not needed any more."""
    with torch.no_grad():
        found = torch.cat([network(part.float() / 127.5 - 1) for part in x[:: max(1, len(x) // 10_000)].split(1_000)])
    network.mean.copy_(found.mean(dim=0))
    network.spread.copy_(found.std(dim=0).clamp_min(1e-3))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", default="features-c1.safetensors", type=Path)
    parser.add_argument("--epochs", type=int, default=18)
    asked = parser.parse_args()
    train(Path(os.environ["PIERIA_DATA"]), asked.out, asked.epochs)
