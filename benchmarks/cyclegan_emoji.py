"""CycleGAN from Twemoji to Noto: is the translation of an emoji nearer to its true partner than the emoji itself is?

Both sets are learned from without their pairs, at 32 px, by the defaults; the 169 test emoji of each were seen by nobody.
Each test picture of A, as it is and translated, looks for its partner among all test pictures of B: the nearest in the
package's frozen feature network, each feature in units of its spread over B. Measured: how often the partner is the
nearest, how often among the nearest five, and the mean reciprocal rank of the partner, each beside that of the untranslated
picture; goal: the translated picture's reciprocal rank above the untranslated one's, with the paired 95 % interval (2,000
resamplings of the test pictures) not reaching 0. Also the C-FID of the translations, with that of the untranslated pictures
beside it. Ten minutes, and the picture of the documentation; the gate: six.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import Outcome
from pieria.evaluation.distances import frechet
from pieria.evaluation.features import network, picture_features
from pieria.evaluation.translations import turned
from pieria.forms import Grid
from pieria.modalities.sheets import sheet
from pieria.models.cyclegan import CycleGAN
from pieria.noise import seeded
from pieria.training.loop import learn
from pieria.training.plan import Plan

SIDE = 32
PAGE, SHOWN = Path(__file__).parents[1] / "docs/images/cyclegan-emoji.png", slice(0, 160, 5)


def ranks(asked: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The rank, from 1, at which each picture finds its partner (the row of the same number)."""
    spread = wanted.std(axis=0)
    scale = np.where(spread > 1e-6, spread, 1.0)
    apart = np.linalg.norm((asked[:, None] - wanted[None]) / scale, axis=2)
    return 1 + (apart < np.diag(apart)[:, None]).sum(axis=1)


def interval(difference: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of a mean of paired differences, by resampling the pictures."""
    draw = np.random.default_rng(0)
    means = difference[draw.integers(0, len(difference), (2000, len(difference)))].mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def measure(gate: bool) -> Outcome:
    """``gate``: six minutes of training instead of ten."""
    from pieria.modalities.opening import open_data

    data = open_data("emoji-twemoji", to="emoji-noto", settings={"size": SIDE})
    train, test = data.examples("train", training=True), data.examples("test")
    form = train.form
    assert isinstance(form, Grid)
    with seeded(0, "weights"):
        model = CycleGAN(CycleGAN.Settings.of({}), form, form)
    plan = Plan.layered(CycleGAN.training_defaults, {"seconds": 360.0 if gate else 600.0, "evaluate_every": 0})
    learn(model, train, None, plan)
    model.eval()
    batch = test.batch(range(len(test)))
    a, b = batch.condition, batch.x
    assert isinstance(a, Tensor)
    with torch.no_grad():
        made = turned(model, a, "b", 0)
    if not gate:
        both = torch.stack([a[SHOWN], made[SHOWN]], dim=1).flatten(0, 1)
        sheet(list(data.modality.decode(both)), scale=2).save(PAGE)
    of_a, of_b, of_made = (picture_features(x, form) for x in (a, b, made))
    before, after = ranks(of_a, of_b), ranks(of_made, of_b)
    low, high = interval(1 / after - 1 / before)
    measured: dict[str, float] = {"test pictures": len(a)}
    for name, found in (("untranslated", before), ("translated", after)):
        measured |= {
            f"{name}: partner nearest": round(float((found == 1).mean()), 4),
            f"{name}: among five": round(float((found <= 5).mean()), 4),
            f"{name}: reciprocal rank": round(float((1 / found).mean()), 4),
        }
    measured |= {"gain in reciprocal rank, low": round(low, 4), "gain in reciprocal rank, high": round(high, 4)}
    measured |= {
        "untranslated: C-FID": round(frechet(of_b, of_a), 2), "translated: C-FID": round(frechet(of_b, of_made), 2)
    }  # fmt: skip
    goal = {"gain in reciprocal rank, low": "> 0"}
    return Outcome(measured, goal, low > 0, [f"Features: {network()[1]}; {SIDE} px; chance would be 1 of {len(a)}."])
