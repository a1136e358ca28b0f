"""CycleGAN on MNIST digits against a map that is known: unpaired halves, and what becomes of each digit.

The first half of the training digits is A; the second half, each digit changed by the map, is B, so that no digit stands in
both. The maps: *inversion* (black on white) and *recolouring* (white on black becomes orange on blue), which change every
pixel by itself, and a *quarter turn*, which moves them all. Measured on test digits: how many a small classifier, trained
here on real digits changed by the true map, tells rightly after the translation A → B, beside what it tells of digits
changed by the map itself; and the mean absolute difference to the true map, as a share of the range. Goal: of both local
maps >= 98 % kept and <= .05, the worst of three seeds; twenty minutes in all, where an hour is allowed. The quarter turn is
a documented limit: it is reported and has no goal. The preset "small" with two blocks at the full size, without the
identity loss, which asks that a picture of B stays as it is and so is against these maps. The gate: one seed, 100 seconds a
local map, 2,000 test digits, no quarter turn.
"""

import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import Outcome
from pieria.data.examples import ItemExamples, UnpairedExamples
from pieria.evaluation.translations import gaps, turned
from pieria.forms import Grid
from pieria.models.cyclegan import CycleGAN
from pieria.noise import seeded
from pieria.training.loop import learn
from pieria.training.plan import Plan

# each pixel counts, so nothing is halved; two blocks see as far as a stroke is wide
OWN = {"identity": 0.0, "halvings": 0, "blocks": 2}
INK, PAPER = (255.0, 150.0, 40.0), (20.0, 40.0, 110.0)


def plain(x: Tensor) -> Tensor:
    """Digits as they are."""
    return x


def inverted(x: Tensor) -> Tensor:
    """Black on white."""
    return 255 - x


def grey(x: Tensor) -> Tensor:
    """White on black in three channels."""
    return x.expand(-1, 3, -1, -1).contiguous()


def coloured(x: Tensor) -> Tensor:
    """Orange on blue: each pixel between the two as it was between white and black."""
    ink, paper = (torch.tensor(colour)[None, :, None, None] for colour in (INK, PAPER))
    return (paper + (ink - paper) * (x.float() / 255)).round().to(torch.uint8)


def quarter(x: Tensor) -> Tensor:
    """Turned to the left."""
    return torch.rot90(x, 1, (2, 3)).contiguous()


Change = Callable[[Tensor], Tensor]
MAPS: dict[str, tuple[Change, Change, float]] = {
    # name: what A looks like, what B looks like, its share of a seed's seconds
    "inversion": (plain, inverted, 0.4),
    "recolouring": (grey, coloured, 0.4),
    "quarter turn": (plain, quarter, 0.2),
}
LOCAL = ("inversion", "recolouring")


class Classifier(nn.Sequential):
    """Two convolutions and two linear layers: some 99 % of MNIST's test digits after three passes."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, 16, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 49, 128), nn.ReLU(), nn.Linear(128, 10),
        )  # fmt: skip

    def told(self, x: Tensor) -> Tensor:
        """The class of each digit, long ``[n]``; ``x`` are levels."""
        with torch.no_grad():
            return torch.cat([self(part.float() / 127.5 - 1).argmax(dim=1) for part in x.split(1000)])


def classifier(x: Tensor, labels: Tensor, passes: int = 4) -> Classifier:
    """A classifier of these digits."""
    with seeded("classifier"):
        net = Classifier(x.shape[1])
        steps = passes * len(x) // 128
        optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
        falling = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
        for step in range(steps):
            if step % (len(x) // 128) == 0:
                order = torch.randperm(len(x))
            places = order[(step * 128) % (len(x) - 127) :][:128]
            loss = F.cross_entropy(net(x[places].float() / 127.5 - 1), labels[places])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            falling.step()
    return net.eval()


def learned(a: Tensor, b: Tensor, seconds: float, seed: int) -> CycleGAN:
    """A CycleGAN of the preset "small" after this budget."""
    form = Grid(a.shape[1], a.shape[2], a.shape[3])
    values = {**CycleGAN.presets["small"], **OWN}
    plan = Plan.layered(
        CycleGAN.training_defaults,
        {name: value for name, value in values.items() if name in Plan.model_fields},
        {"seconds": seconds, "seed": seed, "evaluate_every": 0},
    )
    with seeded(seed, "weights"):
        own = {name: value for name, value in values.items() if name in CycleGAN.Settings.model_fields}
        model = CycleGAN(CycleGAN.Settings.of(own), form, form)
    learn(model, UnpairedExamples(ItemExamples(form, b), ItemExamples(form, a)), None, plan)
    return model.eval()


def measure(gate: bool) -> Outcome:
    """``gate``: one seed, 100 seconds for each of the two local maps, 2,000 test digits."""
    from pieria.modalities.opening import open_data

    data = open_data("mnist")
    train, test = (data.examples(part).batch(range(len(data.examples(part)))) for part in ("train+validation", "test"))
    digits, labels = train.x.to(torch.uint8), train.condition
    shown, truth = test.x.to(torch.uint8), test.condition
    assert labels is not None
    assert truth is not None
    if gate:
        shown, truth = shown[:2000], truth[:2000]
    half = len(digits) // 2
    measured: dict[str, float] = {}
    for name, (before, after, share) in MAPS.items():
        if gate and name not in LOCAL:
            continue
        judge = classifier(after(digits), labels)
        wanted = after(shown)
        measured[f"{name}: told of the true map"] = round(float((judge.told(wanted) == truth).float().mean()), 4)
        kept, apart = [], []
        for seed in range(1 if gate else 3):
            model = learned(before(digits[:half]), after(digits[half:]), 100.0 if gate else 400 * share, seed)
            made = turned(model, before(shown).long(), "b", 0)
            kept.append(float((judge.told(made) == truth).float().mean()))
            assert isinstance(model.form, Grid)
            apart.append(float(gaps(made, wanted.long(), model.form).mean()))
        measured |= {f"{name}: class kept": round(min(kept), 4), f"{name}: pixel error": round(max(apart), 4)}
    goal = {f"{name}: {what}" for name in LOCAL for what in ("class kept", "pixel error")}
    wanted_of = {name: 0.98 if name.endswith("kept") else 0.05 for name in sorted(goal)}
    passed = all(
        measured[name] >= value if name.endswith("kept") else measured[name] <= value for name, value in wanted_of.items()
    )
    notes = [
        "The worst of its seeds in each figure. A quarter turn moves every pixel, and no cycle keeps a digit what it was."
    ]
    return Outcome(measured, wanted_of, passed, notes)


def page(path: str, seconds: float = 100.0) -> None:
    """Write the picture of the documentation: test digits, each beside its inversion as learned from twice 10,000."""
    from pieria.modalities.opening import open_data
    from pieria.modalities.sheets import sheet

    data = open_data("mnist")
    digits = data.examples("train").batch(range(20_000)).x.to(torch.uint8)
    shown = data.examples("test").batch(range(18)).x
    model = learned(digits[:10_000], inverted(digits[10_000:]), seconds, 0)
    both = torch.stack([shown, turned(model, shown, "b", 0)], dim=1).flatten(0, 1)
    sheet(list(data.modality.decode(both))).save(path)


if __name__ == "__main__":
    page(sys.argv[1])
