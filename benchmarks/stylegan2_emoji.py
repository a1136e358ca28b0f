"""StyleGAN2 on emoji (Twemoji, 32 × 32): how much nearer to the data its pictures come, and what augmentation is worth.

Protocol: the preset ``narrow`` on the 1,542 training pictures at 32 × 32. C-FID of 4,000 pictures, drawn without truncation
from the running average of the weights, to the training pictures, in the features that ship with Pieria; beside it the
floor (a random half of the training pictures to the other). Goal: after an hour at most half of its value after 5
minutes. The gate trains for 7 minutes and compares with its value after one; its goal is the same. ψ = 0 must give
one picture, and modulated, demodulated features must begin with a variance of 1 ± 0.02. The full version also draws the
picture of the documentation: 64 emoji, ψ = 0.7.
"""

from pathlib import Path

import torch

from benchmarks import Outcome
from pieria.data.examples import Examples
from pieria.evaluation.distances import frechet
from pieria.evaluation.features import network, picture_features
from pieria.forms import Grid
from pieria.layers.modulation import Modulated
from pieria.modalities.opening import open_data
from pieria.modalities.sheets import sheet
from pieria.models.stylegan2 import StyleGAN2, StyleGAN2Sampling, StyleGAN2Settings
from pieria.noise import ItemNoise, seeded
from pieria.training.loop import learn
from pieria.training.plan import Plan

PAGE = Path(__file__).parents[1] / "docs/images/stylegan2-emoji.png"
DRAWN, AT_ONCE = 4000, 250
SECONDS = {True: (60.0, 420.0), False: (300.0, 3600.0)}


def learned(train: Examples, seconds: float) -> tuple[StyleGAN2, int]:
    """The preset after so many seconds, and how many steps they were."""
    assert isinstance(train.form, Grid)
    with seeded(0, "weights"):
        model = StyleGAN2(StyleGAN2Settings(), train.form)
    given = {"seconds": seconds, "patience": 0, "evaluate_every": 0}
    history = learn(model, train, None, Plan.layered(StyleGAN2.training_defaults, given))
    return model.eval(), history.steps


def drawn(model: StyleGAN2, n: int, **options: float) -> torch.Tensor:
    """``n`` pictures, in parts."""
    chosen = StyleGAN2Sampling(**options)
    parts = [model.sample(AT_ONCE, chosen, ItemNoise(0, AT_ONCE, first)) for first in range(0, n, AT_ONCE)]
    return torch.cat(parts)


def measure(gate: bool) -> Outcome:
    dataset = open_data("emoji-twemoji", settings={"size": 32})
    train = dataset.examples("train")
    assert isinstance(train.form, Grid)
    x = train.batch(range(len(train))).x
    data = picture_features(x, train.form)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).numpy()
    floor = frechet(data[order[: len(data) // 2]], data[order[len(data) // 2 :]])

    found = []
    for seconds in SECONDS[gate]:
        model, steps = learned(train, seconds)
        found.append((frechet(data, picture_features(drawn(model, DRAWN), train.form)), steps))
    (early, early_steps), (late, late_steps) = found
    if not gate:
        shown = model.sample(64, StyleGAN2Sampling(truncation=0.7), ItemNoise(1, 64, 0))
        sheet(list(dataset.modality.decode(shown)), scale=2).save(PAGE)
    same = drawn(model, AT_ONCE, truncation=0.0)
    with seeded(0, "weights"), torch.no_grad():
        layer = Modulated(64, 64, 3, 32)
        variance = float(layer(torch.randn(64, 64, 16, 16), torch.randn(64, 32))[..., 1:-1, 1:-1].var())
    one, unit = bool((same == same[:1]).all()), abs(variance - 1) <= 0.02
    return Outcome(
        measured={
            "C-FID late over early": round(late / early, 3),
            "C-FID early": round(early, 3),
            "C-FID late": round(late, 3),
            "floor, half against half": round(floor, 3),
            "minutes (early, late)": [seconds / 60 for seconds in SECONDS[gate]],
            "steps (early, late)": [early_steps, late_steps],
            "one picture at ψ = 0": one,
            "variance after modulation and demodulation": round(variance, 4),
            "augmentation at the end": round(float(model.strength), 3),
        },
        goal={
            "C-FID late over early": "≤ 0.5",
            "one picture at ψ = 0": "True",
            "variance after modulation and demodulation": "1 ± 0.02",
        },
        passed=late <= 0.5 * early and one and unit,
        notes=[f"{DRAWN} pictures, features {network()[1]}"],
    )
