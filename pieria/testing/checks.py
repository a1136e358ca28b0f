"""The checks, one function each. A check returns when all is well, raises `AssertionError` when the family breaks a
promise (saying what was got and wanted), and raises `Skipped` when it has nothing to ask of this family or form.
"""

import copy
import hashlib
import itertools
import math
import subprocess
import sys
from typing import Any, Protocol, runtime_checkable

import torch
from pydantic.fields import FieldInfo
from scipy.stats import chi2
from torch import Tensor

from pieria import registry
from pieria.data.batch import Batch, check
from pieria.errors import PieriaError
from pieria.forms import Tokens
from pieria.models import weights
from pieria.models.contract import (
    Estimates,
    Explains,
    Learns,
    Model,
    Scores,
    Trains,
    abilities,
)
from pieria.noise import ItemNoise, Noise
from pieria.testing.subject import Subject, fitting, preset
from pieria.testing.verdicts import alike, expect, same, skip
from pieria.training.plan import Plan

# stated figures: how near the planted distribution a `tiny` model must come in the subject's steps, or in closed form
NEAR_ENOUGH = 0.08  # nats, Kullback-Leibler divergence of the truth to an exact model
# total variation between the truth and 20,000 samples, where there is no exact likelihood; independent cells or columns
# would be 0.29 (binary grid) to 0.48 (continuous grid) away
LIKE_ENOUGH, LIKE_ENOUGH_CONTINUOUS = 0.25, 0.40


# ---- 0: it says what it is -------------------------------------------------------------------------------------------


def check_described(subject: Subject) -> None:
    """Settings are described and bounded, presets are real, and the class agrees with what its source says of it."""
    family = subject.family
    for owner in (family.Settings, family.Sampling):
        for name, field in owner.model_fields.items():
            bounded = (
                field.annotation not in (int, float, int | None, float | None) or _bounded(field) or owner is family.Sampling
            )
            expect(bounded, f"the number {name} without bounds", "Field(..., ge=…, le=…)")
    expect("tiny" in family.presets, f"presets {sorted(family.presets)}", "one called 'tiny'")
    known = {*family.Settings.model_fields, *Plan.model_fields}
    for name in family.presets:
        expect(
            set(family.presets[name]) <= known, f"preset {name} with {set(family.presets[name]) - known}", "known settings"
        )
        mine, training = preset(family, name)
        settings = family.Settings.of(mine)
        Plan.layered(family.training_defaults, training)
        if name != "tiny":
            with torch.device("meta"):  # shapes only: a preset may be large
                _built(family, settings, subject, name)
    kinds = [kind.__name__ for kind in (Estimates, Trains, Learns) if isinstance(subject.untrained(), kind)]
    expect(len(kinds) == 1, f"{kinds or 'no way to learn'}", "exactly one of Estimates, Trains, Learns")
    scores = isinstance(subject.untrained(), Scores)
    expect(scores == (family.likelihood != "none"), f"likelihood {family.likelihood!r}, Scores: {scores}", "both or neither")
    said = registry.describe(registry.name_of(family))
    expect(bool(said.summary) and bool(said.paper), "no summary or no paper", "a docstring and paper = …")
    expect(said.likelihood == family.likelihood, f"{said.likelihood!r} in the source", f"{family.likelihood!r}")
    expect(said.presets == family.presets, f"presets {said.presets} in the source", "a literal equal to the class's")
    expect(said.holds_data == family.holds_data, f"holds_data {said.holds_data} in the source", f"{family.holds_data}")
    able = sorted(abilities(family))
    expect(sorted(said.abilities) == able, f"abilities {sorted(said.abilities)} in the source", f"{able}, as the class has")


def _bounded(field: FieldInfo) -> bool:
    return any(hasattr(limit, name) for limit in field.metadata for name in ("ge", "gt", "le", "lt"))


def _built(family: type[Model], settings: Any, subject: Subject, name: str) -> None:
    try:
        family(settings, subject.case.form, subject.case.condition)
    except PieriaError:
        return  # a large preset may refuse a form of a few symbols, in words
    except (NotImplementedError, RuntimeError):
        # some constructors compute with numbers, which a meta tensor does not have
        with torch.device("cpu"):
            family(settings, subject.case.form, subject.case.condition)


# ---- 1: it is a distribution -----------------------------------------------------------------------------------------


def check_distribution(subject: Subject) -> None:
    """An exact likelihood over every item (by quadrature, where continuous) sums to 1; a bound does not exceed the truth."""
    kind = subject.likelihood
    if kind == "bound":
        _bound_holds(subject)
        return
    if kind != "exact":
        skip(f"its likelihood is {kind}")
    labels = subject.case.points.condition
    total = float(subject.believed.sum())
    expect(abs(total - 1) <= 1e-5, f"probabilities that sum to {total:.6f}", "1 ± 1e-5")
    if labels is not None:
        half = float(subject.believed[: len(subject.believed) // 2].sum())
        expect(abs(half - 0.5) <= 1e-5, f"probabilities of one label that sum to {2 * half:.6f}", "1 ± 1e-5")


@runtime_checkable
class Bounds(Protocol):
    """A likelihood from below whose noise can be drawn anew; ``log_prob`` may then keep to one draw an item."""

    def bound(self, batch: Batch, samples: int, noise: Noise) -> Tensor:
        """One draw of the bound by ``samples`` importance samples for each item, ``[batch]``."""


def _bound_holds(subject: Subject) -> None:
    """The mean of 1,000 draws of the bound against how often an item is drawn, which needs no knowledge of the model."""
    total = float(subject.believed.sum())
    expect(total <= 1.02, f"bounds whose probabilities sum to {total:.4f}", "at most 1 (and 0.02 for the noise in them)")
    model = subject.model
    if subject.case.continuous or not isinstance(model, Bounds):
        return
    count = int(subject.drawn.sum())
    for samples, place in itertools.product((1, 8), subject.drawn.topk(5).indices.tolist()):
        times = float(subject.drawn[place])
        if times < 100:
            continue
        row = int((subject.case.cells == place).nonzero()[0])
        with torch.no_grad():
            draws = model.bound(subject.case.points.rows(torch.full((1000,), row)), samples, ItemNoise(9, 1000)).double()
        share = times / count
        truth = math.log(share / float(subject.case.weights[row]))
        error = math.sqrt(float(draws.var()) / 1000 + (1 - share) / times)
        expect(
            float(draws.mean()) <= truth + 4 * error,
            f"a mean bound of {float(draws.mean()):.4f} nats ({samples} samples) for item {row}",
            f"at most {truth:.4f} + 4 × {error:.4f}, from how often it is drawn",
        )


# ---- 2: it draws from what it says -----------------------------------------------------------------------------------


def check_draws(subject: Subject) -> None:
    """A chi-squared test of 20,000 samples against ``log_prob``, cells pooled to expected counts of at least 5."""
    if subject.likelihood != "exact":
        skip(f"its likelihood is {subject.likelihood}")
    count = float(subject.drawn.sum())
    expected = subject.believed * count
    order = expected.argsort(descending=True)
    expected, observed = expected[order], subject.drawn[order]
    large = int((expected >= 5).sum())
    # everything small becomes one cell; what lies outside all cells belongs to it
    e = torch.cat([expected[:large], (count - expected[:large].sum()).clamp_min(0).view(1)])
    o = torch.cat([observed[:large], observed[large:].sum().view(1)])
    if float(e[-1]) < 5:
        e[-2] += e[-1]
        o[-2] += o[-1]
        e, o = e[:-1], o[:-1]
    statistic = float(((o - e) ** 2 / e).sum())
    p = float(chi2.sf(statistic, len(e) - 1))
    worst = int(((o - e) ** 2 / e).argmax())
    expect(
        p > 1e-3,
        f"p = {p:.2g} (chi-squared {statistic:.0f} in {len(e)} cells; a cell expected {float(e[worst]):.0f} times came "
        f"{float(o[worst]):.0f} times)",
        "p > 0.001: samples that follow log_prob",
    )


# ---- 3: it learns ----------------------------------------------------------------------------------------------------


def check_learns(subject: Subject) -> None:
    """From a planted distribution: the divergence to the truth falls below the figure stated at the top of this file."""
    truth = subject.case.truth
    if subject.likelihood == "exact":
        form = subject.case.form
        if isinstance(form, Tokens) and form.end is None:
            # a long stream begins but once, so what is learned is what follows: the last symbol, given those before it
            x = subject.case.points.x
            share = truth[subject.case.cells].view(
                -1, form.vocabulary
            )  # items are listed in order: the last symbol runs first
            wanted = (share / share.sum(1, keepdim=True)).log().flatten()
            said = subject.log_prob(Batch(x[:, -1:], context=x[:, :-1])).double()
            divergence = form.length * float((share.flatten() * (wanted - said)).sum())
        else:
            held = truth > 0
            divergence = float((truth[held] * (truth[held] / subject.believed[held].clamp_min(1e-300)).log()).sum())
        expect(divergence <= NEAR_ENOUGH, f"a divergence of {divergence:.4f} nats to the truth", f"at most {NEAR_ENOUGH}")
    else:
        shares = subject.drawn / subject.drawn.sum()
        apart = 0.5 * float((shares - truth).abs().sum())
        enough = LIKE_ENOUGH_CONTINUOUS if subject.case.continuous else LIKE_ENOUGH
        expect(apart <= enough, f"samples {apart:.3f} from the truth in total variation", f"at most {enough}")


# ---- 4: it is reproducible -------------------------------------------------------------------------------------------

ELSEWHERE = """
import sys, hashlib, torch
from pathlib import Path
from pieria.models import weights
from pieria.noise import ItemNoise, Noise
model = weights.load(Path(sys.argv[1]))
asked = torch.load(sys.argv[2], weights_only=True)
options = model.Sampling.of(asked["options"])
x = model.sample(8, options, ItemNoise(3, 8), asked["condition"])
print(hashlib.sha256(x.contiguous().numpy().tobytes()).hexdigest())
"""


def check_repeats(subject: Subject) -> None:
    """Same seed, same bits: again, after saving and loading, in another process; the same items in any batch."""
    state = torch.random.get_rng_state()
    first = subject.draw(8, seed=3)
    expect(torch.equal(torch.random.get_rng_state(), state), "a changed global random state", "draws from Noise alone")
    torch.manual_seed(12345)
    again = subject.draw(8, seed=3)
    torch.random.set_rng_state(state)
    same(again, first, "the same seed twice")
    if not subject.case.settled:
        expect(not torch.equal(subject.draw(8, seed=4), first), "the same items from another seed", "other items")
    noise = ItemNoise(3, 8)
    parts = [subject.draw(stop - start, noise=noise.part(start, stop)) for start, stop in ((0, 3), (3, 8))]
    alike(torch.cat(parts), first, "items drawn in batches of 3 and 5, against one of 8")
    path = subject.folder / "model.safetensors"
    weights.save(subject.model, path)
    loaded = weights.load(path)
    same(subject.draw(8, seed=3, model=loaded), first, "a saved and loaded model")
    if isinstance(subject.model, Scores) and isinstance(loaded, Scores):
        some = subject.some()
        same(subject.log_prob(some, loaded), subject.log_prob(some), "log_prob of a saved and loaded model")
        single = torch.cat([subject.log_prob(some.rows(slice(row, row + 1))) for row in range(len(some))])
        if subject.likelihood == "exact":
            alike(single, subject.log_prob(some), "log_prob item by item, against all at once")
    if subject.case.name == fitting(subject.family)[0]:
        _same_elsewhere(subject, first)
    held = subject.case.validation if isinstance(subject.model, Learns) else None  # a stage may learn from it
    if subject.estimates:
        same(
            subject.draw(8, seed=3, model=subject.learned_from(subject.case.train, validation=held)),
            first,
            "a model learned again",
        )
    else:
        twice = [subject.learned_from(subject.case.train, steps=5, validation=held).state_dict() for _ in range(2)]
        for name, tensor in twice[0].items():
            expect(torch.equal(tensor, twice[1][name]), f"other weights {name} from the same seed", "the same bits")


def _same_elsewhere(subject: Subject, wanted: Tensor) -> None:
    asked = subject.folder / "asked.pt"
    torch.save({"options": subject.options.model_dump(), "condition": subject.condition(ItemNoise(3, 8))}, asked)
    command = [sys.executable, "-c", ELSEWHERE, str(subject.folder / "model.safetensors"), str(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    expect(done.returncode == 0, f"in another process: {done.stderr[-400:]}", "a model that loads and draws there")
    here = hashlib.sha256(wanted.contiguous().numpy().tobytes()).hexdigest()
    expect(done.stdout.strip() == here, "other bits in another process", "the same")


# ---- 6: it explains itself -------------------------------------------------------------------------------------------


def check_explains(subject: Subject) -> None:
    """The last step of ``trace`` is the sample of the same noise, bit for bit."""
    if not isinstance(subject.model, Explains):
        skip("it has no trace")
    for item in (0, 5):
        noise = ItemNoise(2, 1, first=item)
        steps = list(subject.model.trace(subject.options, noise, subject.condition(noise)))
        expect(len(steps) >= 1 and all(step.name for step in steps), f"{len(steps)} steps", "steps with a name each")
        shown = [step for step in steps if step.x is not None]
        expect(bool(shown) and shown[-1] is steps[-1], "a last step without an item", "the sample")
        wanted = subject.draw(1, noise=noise)
        got = steps[-1].x
        assert got is not None
        expect(got.dtype == wanted.dtype and torch.equal(got, wanted), f"a last step {_short(got)}", f"{_short(wanted)}")


def _short(x: Tensor) -> str:
    return str(x.flatten()[:6].tolist())


# ---- 7: it moves -----------------------------------------------------------------------------------------------------


def check_moves(subject: Subject) -> None:
    """A copy draws the same bits, here; on a GPU, where there is one and the family uses it, the same figures."""
    model = copy.deepcopy(subject.model).to("cpu")
    first = subject.draw(6, seed=5)
    same(subject.draw(6, seed=5, model=model), first, "a copied model")
    check(subject.case.form, first, "a sample")
    if subject.estimates or not torch.cuda.is_available():
        return
    there = copy.deepcopy(subject.model).to("cuda")
    if isinstance(there, Scores) and subject.likelihood == "exact":
        some = subject.some()
        apart = float((there.log_prob(some.to("cuda")).cpu() - subject.log_prob(some)).abs().max())
        expect(apart <= 1e-3, f"log_prob {apart:.2g} apart on the GPU", "at most 1e-3")
    drawn = there.sample(6, subject.options, ItemNoise(5, 6), _there(subject.condition(ItemNoise(5, 6)))).cpu()
    check(subject.case.form, drawn, "a sample from the GPU")


def _there(condition: Tensor | None) -> Tensor | None:
    return None if condition is None else condition.to("cuda")
