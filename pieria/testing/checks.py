"""The checks, one function each. A check returns when all is well, raises `AssertionError` when the family breaks a
promise (saying what was got and wanted), and raises `Skipped` when it has nothing to ask of this family or form.
"""

import copy
import hashlib
import itertools
import math
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, runtime_checkable

import torch
from pydantic.fields import FieldInfo
from scipy.stats import chi2
from torch import Tensor

from pieria import registry
from pieria.data.batch import Batch, check, mask_after_end
from pieria.data.examples import Examples, ItemExamples, StreamExamples
from pieria.errors import PieriaError
from pieria.forms import Column, Curve, Form, Grid, Label, Row, Tokens
from pieria.models import weights
from pieria.models.contract import (
    Decodes,
    Encodes,
    Estimates,
    Explains,
    Fills,
    Learns,
    Model,
    Predicts,
    Scores,
    ScoresSymbols,
    Trains,
    abilities,
)
from pieria.noise import ItemNoise, Noise
from pieria.testing.subject import Check, Subject, fitting, preset
from pieria.training.plan import Plan

# stated figures: how near the planted distribution a `tiny` model must come in the subject's steps, or in closed form
NEAR_ENOUGH = 0.08  # nats, Kullback-Leibler divergence of the truth to an exact model
# total variation between the truth and 20,000 samples, where there is no exact likelihood; independent cells or columns
# would be 0.29 (binary grid) to 0.48 (continuous grid) away
LIKE_ENOUGH, LIKE_ENOUGH_CONTINUOUS = 0.25, 0.40


class Skipped(Exception):
    """The check has nothing to ask here."""


def _expect(holds: bool | Tensor, got: str, wanted: str) -> None:
    if not bool(holds):
        raise AssertionError(f"got {got}; wanted {wanted}")


def _skip(why: str) -> NoReturn:
    raise Skipped(why)


# ---- 0: it says what it is -------------------------------------------------------------------------------------------


def check_described(subject: Subject) -> None:
    """Settings are described and bounded, presets are real, and the class agrees with what its source says of it."""
    family = subject.family
    for owner in (family.Settings, family.Sampling):
        for name, field in owner.model_fields.items():
            bounded = (
                field.annotation not in (int, float, int | None, float | None) or _bounded(field) or owner is family.Sampling
            )
            _expect(bounded, f"the number {name} without bounds", "Field(..., ge=…, le=…)")
    _expect("tiny" in family.presets, f"presets {sorted(family.presets)}", "one called 'tiny'")
    known = {*family.Settings.model_fields, *Plan.model_fields}
    for name in family.presets:
        _expect(
            set(family.presets[name]) <= known, f"preset {name} with {set(family.presets[name]) - known}", "known settings"
        )
        mine, training = preset(family, name)
        settings = family.Settings.of(mine)
        Plan.layered(family.training_defaults, training)
        if name != "tiny" and not family.requires_condition:
            with torch.device("meta"):  # shapes only: a preset may be large
                _built(family, settings, subject, name)
    kinds = [kind.__name__ for kind in (Estimates, Trains, Learns) if isinstance(subject.untrained(), kind)]
    _expect(len(kinds) == 1, f"{kinds or 'no way to learn'}", "exactly one of Estimates, Trains, Learns")
    scores = isinstance(subject.untrained(), Scores)
    _expect(
        scores == (family.likelihood != "none"), f"likelihood {family.likelihood!r}, Scores: {scores}", "both or neither"
    )
    said = registry.describe(registry.name_of(family))
    _expect(bool(said.summary) and bool(said.paper), "no summary or no paper", "a docstring and paper = …")
    _expect(said.likelihood == family.likelihood, f"{said.likelihood!r} in the source", f"{family.likelihood!r}")
    _expect(said.presets == family.presets, f"presets {said.presets} in the source", "a literal equal to the class's")
    _expect(said.holds_data == family.holds_data, f"holds_data {said.holds_data} in the source", f"{family.holds_data}")
    able = sorted(abilities(family))
    _expect(sorted(said.abilities) == able, f"abilities {sorted(said.abilities)} in the source", f"{able}, as the class has")


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
    kind = subject.family.likelihood
    if kind == "bound":
        _bound_holds(subject)
        return
    if kind != "exact":
        _skip(f"its likelihood is {kind}")
    labels = subject.case.points.condition
    total = float(subject.believed.sum())
    _expect(abs(total - 1) <= 1e-5, f"probabilities that sum to {total:.6f}", "1 ± 1e-5")
    if labels is not None:
        half = float(subject.believed[: len(subject.believed) // 2].sum())
        _expect(abs(half - 0.5) <= 1e-5, f"probabilities of one label that sum to {2 * half:.6f}", "1 ± 1e-5")


@runtime_checkable
class Bounds(Protocol):
    """A likelihood from below whose noise can be drawn anew; ``log_prob`` may then keep to one draw an item."""

    def bound(self, batch: Batch, samples: int, noise: Noise) -> Tensor:
        """One draw of the bound by ``samples`` importance samples for each item, ``[batch]``."""


def _bound_holds(subject: Subject) -> None:
    """The mean of 1,000 draws of the bound against how often an item is drawn, which needs no knowledge of the model."""
    total = float(subject.believed.sum())
    _expect(total <= 1.02, f"bounds whose probabilities sum to {total:.4f}", "at most 1 (and 0.02 for the noise in them)")
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
        _expect(
            float(draws.mean()) <= truth + 4 * error,
            f"a mean bound of {float(draws.mean()):.4f} nats ({samples} samples) for item {row}",
            f"at most {truth:.4f} + 4 × {error:.4f}, from how often it is drawn",
        )


# ---- 2: it draws from what it says -----------------------------------------------------------------------------------


def check_draws(subject: Subject) -> None:
    """A chi-squared test of 20,000 samples against ``log_prob``, cells pooled to expected counts of at least 5."""
    if subject.family.likelihood != "exact":
        _skip(f"its likelihood is {subject.family.likelihood}")
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
    _expect(
        p > 1e-3,
        f"p = {p:.2g} (chi-squared {statistic:.0f} in {len(e)} cells; a cell expected {float(e[worst]):.0f} times came "
        f"{float(o[worst]):.0f} times)",
        "p > 0.001: samples that follow log_prob",
    )


# ---- 3: it learns ----------------------------------------------------------------------------------------------------


def check_learns(subject: Subject) -> None:
    """From a planted distribution: the divergence to the truth falls below the figure stated at the top of this file."""
    truth = subject.case.truth
    if subject.family.likelihood == "exact":
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
        _expect(divergence <= NEAR_ENOUGH, f"a divergence of {divergence:.4f} nats to the truth", f"at most {NEAR_ENOUGH}")
    else:
        shares = subject.drawn / subject.drawn.sum()
        apart = 0.5 * float((shares - truth).abs().sum())
        enough = LIKE_ENOUGH_CONTINUOUS if subject.case.continuous else LIKE_ENOUGH
        _expect(apart <= enough, f"samples {apart:.3f} from the truth in total variation", f"at most {enough}")


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
    _expect(torch.equal(torch.random.get_rng_state(), state), "a changed global random state", "draws from Noise alone")
    torch.manual_seed(12345)
    again = subject.draw(8, seed=3)
    torch.random.set_rng_state(state)
    _same(again, first, "the same seed twice")
    _expect(not torch.equal(subject.draw(8, seed=4), first), "the same items from another seed", "other items")
    noise = ItemNoise(3, 8)
    parts = [subject.draw(stop - start, noise=noise.part(start, stop)) for start, stop in ((0, 3), (3, 8))]
    _alike(torch.cat(parts), first, "items drawn in batches of 3 and 5, against one of 8")
    path = subject.folder / "model.safetensors"
    weights.save(subject.model, path)
    loaded = weights.load(path)
    _same(subject.draw(8, seed=3, model=loaded), first, "a saved and loaded model")
    if isinstance(subject.model, Scores) and isinstance(loaded, Scores):
        some = subject.some()
        _same(subject.log_prob(some, loaded), subject.log_prob(some), "log_prob of a saved and loaded model")
        single = torch.cat([subject.log_prob(some.rows(slice(row, row + 1))) for row in range(len(some))])
        if subject.family.likelihood == "exact":
            _alike(single, subject.log_prob(some), "log_prob item by item, against all at once")
    if subject.case.name == fitting(subject.family)[0]:
        _same_elsewhere(subject, first)
    if subject.estimates:
        _same(subject.draw(8, seed=3, model=subject.learned_from(subject.case.train)), first, "a model learned again")
    else:
        twice = [subject.learned_from(subject.case.train, steps=5).state_dict() for _ in range(2)]
        for name, tensor in twice[0].items():
            _expect(torch.equal(tensor, twice[1][name]), f"other weights {name} from the same seed", "the same bits")


def _same_elsewhere(subject: Subject, wanted: Tensor) -> None:
    asked = subject.folder / "asked.pt"
    torch.save({"options": subject.options.model_dump(), "condition": subject.condition(ItemNoise(3, 8))}, asked)
    command = [sys.executable, "-c", ELSEWHERE, str(subject.folder / "model.safetensors"), str(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    _expect(done.returncode == 0, f"in another process: {done.stderr[-400:]}", "a model that loads and draws there")
    here = hashlib.sha256(wanted.contiguous().numpy().tobytes()).hexdigest()
    _expect(done.stdout.strip() == here, "other bits in another process", "the same")


def _same(got: Tensor, wanted: Tensor, what: str) -> None:
    _expect(torch.equal(got, wanted), f"other bits from {what}", "the same bits")


def _alike(got: Tensor, wanted: Tensor, what: str) -> None:
    """Values within 1e-5; symbols equal, but for one draw in a hundred that may lie at a boundary."""
    _expect(got.shape == wanted.shape, f"shape {list(got.shape)} from {what}", f"{list(wanted.shape)}")
    if got.is_floating_point():
        apart = float((got.double() - wanted.double()).abs().max()) if got.numel() else 0.0
        scale = 1 + (float(wanted.double().abs().max()) if wanted.numel() else 0.0)
        _expect(apart <= 1e-5 * scale, f"values {apart:.2g} apart from {what}", "at most 1e-5")
    else:
        _expect(torch.equal(got, wanted), f"other symbols from {what}", "the same")


# ---- 5: it fails honestly --------------------------------------------------------------------------------------------


def check_refuses(subject: Subject) -> None:
    """Bad input is a `PieriaError` that says what was got and wanted; nothing given is changed."""
    form, model, some = subject.case.form, subject.model, subject.some()
    for what, x in bad_items(form):
        if isinstance(model, Scores):
            _refused(lambda x=x: model.log_prob(Batch(x, condition=_labels(subject, len(x)))), f"log_prob of {what}")
        if isinstance(model, Estimates):
            fresh = subject.untrained()
            batch = Batch(x, condition=_labels(subject, len(x)))
            _refused(lambda b=batch, m=fresh: m.estimate(lambda: [b]), f"learning from {what}")  # type: ignore[attr-defined]
    for other in (Tokens(4, 4, 3), Grid(1, 2, 2), Row((Column("size", "number"),)), Curve(), Label(("a", "b"))):
        if type(other) not in subject.family.consumes:
            _refused(lambda other=other: subject.untrained(other), f"a form it does not consume ({other.kind})")
    if isinstance(subject.case.condition, Label):
        _refused(
            lambda: model.sample(2, subject.options, ItemNoise(0, 2), torch.tensor([0, 7])), "a label that is not there"
        )
    elif Label not in subject.family.conditions and subject.case.where is None:
        labels = Label(("a", "b"))
        _refused(lambda: type(model)(model.settings, form, labels), "a condition it does not take")
    if isinstance(form, Tokens) and form.end is not None and "length" in subject.model.Sampling.model_fields:
        _refused(lambda: subject.draw(2, length=form.length + 1), "more symbols than an item has")
    # nothing that was given is changed
    kept = copy.deepcopy(some)
    if isinstance(model, Scores):
        model.log_prob(some)
    if isinstance(model, Estimates):
        subject.untrained().estimate(lambda: [some])  # type: ignore[attr-defined]
    for name in ("x", "mask", "context", "condition"):
        before, after = getattr(kept, name), getattr(some, name)
        _expect(before is None or torch.equal(before, after), f"{name} changed by the model", "input as it was given")
    _one_item(subject)


def bad_items(form: Form) -> Iterable[tuple[str, Tensor]]:
    """Tensors that are not of this form, each with a few words."""
    good = _plain(form)
    yield "no items", good[:0]
    yield "items of another shape", torch.zeros(2, 3, 1, 2, 2, 2, dtype=good.dtype)
    yield "another dtype", good.to(torch.int32)
    if good.is_floating_point():
        for what, value in (("NaN", math.nan), ("infinity", math.inf)):
            bad = good.clone()
            bad.view(len(bad), -1)[1, -1] = value
            yield what, bad
    symbols = form.vocabulary if isinstance(form, Tokens) else form.levels if isinstance(form, Grid) else None
    for symbol in (symbols, -1) if symbols is not None else ():
        bad = good.clone()
        bad.view(len(bad), -1)[1, 0] = symbol
        yield f"the unknown symbol {symbol}", bad
    if isinstance(form, Row):
        for place, column in enumerate(form.columns):
            if column.kind in ("category", "missing"):
                bad = good.clone()
                bad[1, place] = 9
                yield f"an unknown code in a {column.kind} column", bad


def _plain(form: Form) -> Tensor:
    if isinstance(form, Tokens):
        return torch.zeros(2, form.length, dtype=torch.int64)
    if isinstance(form, Grid):
        return torch.zeros(2, *form.shape, dtype=torch.float32 if form.levels is None else torch.int64)
    if isinstance(form, Row):
        return torch.zeros(2, len(form.columns))
    assert isinstance(form, Curve)
    return torch.arange(2 * 5 * (form.inputs + form.outputs), dtype=torch.float64).view(2, 5, -1)


def _labels(subject: Subject, n: int) -> Tensor | None:
    return subject.case.labels(n)


def _refused(act: Callable[[], Any], what: str) -> None:
    try:
        with torch.no_grad():
            act()
    except PieriaError as error:
        said = str(error)
        _expect(bool(error.got) and bool(error.wanted or error.do), f"{what}: {said!r}", "what was got, and wanted or to do")
    except Exception as error:
        raise AssertionError(f"{what}: got {type(error).__name__}: {error}; wanted a PieriaError") from error
    else:
        raise AssertionError(f"{what}: got a silent result; wanted a PieriaError")


def _one_item(subject: Subject) -> None:
    """One item is little, but no reason for a trace from inside torch: it learns, or says why not."""
    if subject.case.where is not None:
        return
    train: Examples
    if isinstance(subject.case.train, StreamExamples):
        train = StreamExamples(subject.case.train.form, subject.case.train.stream[:5])
    else:
        one = subject.case.train.batch([0])
        train = ItemExamples(subject.case.form, one.x, condition=subject.case.condition, conditions=one.condition)
    try:
        model = subject.learned_from(train, steps=3)
        x = subject.draw(4, model=model)
    except PieriaError:
        return
    except Exception as error:
        raise AssertionError(f"one item: got {type(error).__name__}: {error}; wanted a model or a PieriaError") from error
    check(subject.case.form, x, "a sample of a model of one item")


# ---- 6: it explains itself -------------------------------------------------------------------------------------------


def check_explains(subject: Subject) -> None:
    """The last step of ``trace`` is the sample of the same noise, bit for bit."""
    if not isinstance(subject.model, Explains):
        _skip("it has no trace")
    for item in (0, 5):
        noise = ItemNoise(2, 1, first=item)
        steps = list(subject.model.trace(subject.options, noise, subject.condition(noise)))
        _expect(len(steps) >= 1 and all(step.name for step in steps), f"{len(steps)} steps", "steps with a name each")
        shown = [step for step in steps if step.x is not None]
        _expect(bool(shown) and shown[-1] is steps[-1], "a last step without an item", "the sample")
        wanted = subject.draw(1, noise=noise)
        got = steps[-1].x
        assert got is not None
        _expect(got.dtype == wanted.dtype and torch.equal(got, wanted), f"a last step {_short(got)}", f"{_short(wanted)}")


def _short(x: Tensor) -> str:
    return str(x.flatten()[:6].tolist())


# ---- 7: it moves -----------------------------------------------------------------------------------------------------


def check_moves(subject: Subject) -> None:
    """A copy draws the same bits, here; on a GPU, where there is one and the family uses it, the same figures."""
    model = copy.deepcopy(subject.model).to("cpu")
    first = subject.draw(6, seed=5)
    _same(subject.draw(6, seed=5, model=model), first, "a copied model")
    check(subject.case.form, first, "a sample")
    if subject.estimates or not torch.cuda.is_available():
        return
    there = copy.deepcopy(subject.model).to("cuda")
    if isinstance(there, Scores) and subject.family.likelihood == "exact":
        some = subject.some()
        apart = float((there.log_prob(some.to("cuda")).cpu() - subject.log_prob(some)).abs().max())
        _expect(apart <= 1e-3, f"log_prob {apart:.2g} apart on the GPU", "at most 1e-3")
    drawn = there.sample(6, subject.options, ItemNoise(5, 6), _there(subject.condition(ItemNoise(5, 6)))).cpu()
    check(subject.case.form, drawn, "a sample from the GPU")


def _there(condition: Tensor | None) -> Tensor | None:
    return None if condition is None else condition.to("cuda")


# ---- what abilities promise ------------------------------------------------------------------------------------------


def check_symbols(subject: Subject) -> None:
    """``symbol_log_prob`` sums to ``log_prob``, is 0 where masked, and follows the chain rule over a context."""
    model = subject.model
    if not isinstance(model, ScoresSymbols):
        _skip("it does not score symbols")
    with torch.no_grad():
        points = subject.case.points
        each = model.symbol_log_prob(points)
        _expect(each.shape == points.x.shape, f"shape {list(each.shape)}", f"{list(points.x.shape)}")
        _alike(each.sum(1).double(), model.log_prob(points).double(), "symbol_log_prob summed, against log_prob")
        if points.mask is not None:
            _expect(bool((each[~points.mask] == 0).all()), "nats where the mask is False", "0")
        _expect(bool((each <= 1e-6).all()), "a symbol with more than certainty", "at most 0 nats")
        form = subject.case.form
        assert isinstance(form, Tokens)
        if form.end is None and subject.case.condition is None:
            before, after = points.x[:, :2], points.x[:, 2:]
            whole, head = model.log_prob(Batch(points.x)), model.log_prob(Batch(before))
            # begin is the context of an item that has none, so it may be said as well
            context = torch.cat([torch.full_like(before[:, :1], form.begin), before], dim=1)
            tail = model.log_prob(Batch(after, context=context))
            _alike(
                (head + tail).double(),
                whole.double(),
                "the nats of two halves, the second given the first, against the whole",
            )


def check_streams(subject: Subject) -> None:
    """Reading symbol by symbol, in pieces, or all at once gives the same odds, and they are those that are scored."""
    model = subject.model
    if not isinstance(model, Predicts):
        _skip("it does not stream")
    form = subject.case.form
    assert isinstance(form, Tokens)
    x = subject.some(6).x[:, : form.length - 1]
    labels = _labels(subject, len(x))
    read = torch.cat([torch.full_like(x[:, :1], form.begin), x], dim=1)
    with torch.no_grad():
        whole = model.logits(read, labels).double().log_softmax(-1)
        state = model.start(len(x), labels)
        for place in range(read.shape[1]):
            logits, state = model.step(read[:, place : place + 1], state)
            what = f"odds read symbol by symbol (place {place}), against logits"
            _alike(logits.double().log_softmax(-1), whole[:, place], what)
        logits, _ = model.step(read[:, 2:], model.step(read[:, :2], model.start(len(x), labels))[1])
        _alike(logits.double().log_softmax(-1), whole[:, -1], "odds read in two pieces, against logits")
        mask = mask_after_end(x, form.end)
        scored = model.symbol_log_prob(Batch(x, condition=labels, mask=mask)).double()
        said = whole[:, :-1].gather(-1, x[..., None])[..., 0] * mask
        _alike(scored, said, "symbol_log_prob, against the odds before each symbol")


def check_options(subject: Subject) -> None:
    """Temperature 0 takes the likeliest symbol; top-k takes none below the k likeliest."""
    model = subject.model
    if not isinstance(model, Predicts) or not {"top_k", "temperature"} <= set(model.Sampling.model_fields):
        _skip("it has no temperature and top-k")
    for options, k in (({"temperature": 0.0}, 1), ({"top_k": 1}, 1), ({"top_k": 2}, 2)):
        rank = _ranks(subject, subject.draw(1000, seed=6, **options))
        worst = int(rank.max())
        _expect(worst < k, f"a symbol of rank {worst + 1} with {options}", f"rank {k} at most")
    free, cool = (_ranks(subject, subject.draw(1000, seed=6, temperature=t)).double().mean() for t in (1.0, 0.5))
    _expect(float(cool) < float(free), f"a mean rank of {cool:.2f} at temperature 0.5", f"below that at 1 ({free:.2f})")


def _ranks(subject: Subject, x: Tensor) -> Tensor:
    """How many symbols were likelier than each one that was drawn (0 in the padding)."""
    model, form = subject.model, subject.case.form
    assert isinstance(model, Predicts)
    assert isinstance(form, Tokens)
    read = torch.cat([torch.full_like(x[:, :1], form.begin), x[:, :-1]], dim=1)
    with torch.no_grad():
        odds = model.logits(read, _labels(subject, len(x))).double()
    likelier = (odds > odds.gather(-1, x[..., None]) + 1e-9).sum(-1)
    return likelier * mask_after_end(x, form.end)


def check_latent(subject: Subject) -> None:
    """Codes have the shapes that ``latents`` says, decode to items of the form, and items encode to codes."""
    model, labels = subject.model, _labels(subject, 4)
    if not isinstance(model, Decodes):
        _skip("it has no latent space")
    with torch.no_grad():
        _expect("z" in model.latents, f"spaces {sorted(model.latents)}", "one called 'z'")
        z = model.prior(4, ItemNoise(7, 4))
        _expect(tuple(z.shape) == (4, *model.latents["z"]), f"codes of shape {list(z.shape)}", f"[4, *{model.latents['z']}]")
        x = model.decode(z, condition=labels)
        check(subject.case.form, x, "a decoded item")
        _same(model.decode(z, condition=labels), x, "decoding twice without noise")
        if isinstance(model, Encodes):
            some = subject.some(4)
            code = model.encode(some.x, condition=some.condition)
            _expect(code.shape == z.shape, f"codes of shape {list(code.shape)}", f"{list(z.shape)}")
            _same(model.encode(some.x, condition=some.condition), code, "encoding twice")


def check_fills(subject: Subject) -> None:
    """What was given stays; what was missing is drawn, and is of the form."""
    model = subject.model
    if not isinstance(model, Fills):
        _skip("it does not fill")
    some = subject.some(8)
    mask = torch.zeros_like(some.x, dtype=torch.bool)
    mask.view(len(mask), -1)[:, ::2] = True
    filled = model.fill(some.x, mask, subject.options, ItemNoise(8, 8), some.condition)
    _expect(torch.equal(filled[mask], some.x[mask]), "given values that were changed", "them as they were")
    check(subject.case.form, filled, "a filled item")


CHECKS: dict[str, Check] = {
    "described": check_described,
    "distribution": check_distribution,
    "draws": check_draws,
    "learns": check_learns,
    "repeats": check_repeats,
    "refuses": check_refuses,
    "explains": check_explains,
    "moves": check_moves,
    "symbols": check_symbols,
    "streams": check_streams,
    "options": check_options,
    "latent": check_latent,
    "fills": check_fills,
}


@dataclass(frozen=True)
class Result:
    """What one check of one form said: ``passed``, ``skipped`` or ``failed``, why, and after how many seconds."""

    check: str
    form: str
    outcome: str
    said: str
    seconds: float
