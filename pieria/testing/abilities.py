"""What abilities promise: scoring symbols, streaming, options of drawing, a latent space, filling."""

import copy
import math

import torch
from torch import Tensor

from pieria.data.batch import Batch, check, mask_after_end
from pieria.forms import Grid, Tokens
from pieria.layers import grids
from pieria.models.contract import Decodes, Encodes, Expects, Fills, Predicts, ScoresSymbols, device_of
from pieria.noise import ItemNoise
from pieria.sampling.states import reordered
from pieria.testing.subject import Subject
from pieria.testing.verdicts import alike, expect, same, skip

PREFIXES = 7  # random beginnings that are read both ways


def check_symbols(subject: Subject) -> None:
    """``symbol_log_prob`` sums to ``log_prob``, is 0 where masked, and follows the chain rule over a context."""
    model = subject.model
    if not isinstance(model, ScoresSymbols):
        skip("it does not score symbols")
    with torch.no_grad():
        points = subject.case.points
        each = model.symbol_log_prob(points)
        expect(each.shape == points.x.shape, f"shape {list(each.shape)}", f"{list(points.x.shape)}")
        alike(each.sum(1).double(), model.log_prob(points).double(), "symbol_log_prob summed, against log_prob")
        if points.mask is not None:
            expect(bool((each[~points.mask] == 0).all()), "nats where the mask is False", "0")
        expect(bool((each <= 1e-6).all()), "a symbol with more than certainty", "at most 0 nats")
        form = subject.case.form
        assert isinstance(form, Tokens)
        if form.end is None and subject.case.condition is None:
            before, after = points.x[:, :2], points.x[:, 2:]
            whole, head = model.log_prob(Batch(points.x)), model.log_prob(Batch(before))
            # begin is the context of an item that has none, so it may be said as well
            context = torch.cat([torch.full_like(before[:, :1], form.begin), before], dim=1)
            tail = model.log_prob(Batch(after, context=context))
            alike(
                (head + tail).double(),
                whole.double(),
                "the nats of two halves, the second given the first, against the whole",
            )


def check_streams(subject: Subject) -> None:
    """Reading symbol by symbol, in pieces, or all at once gives the same odds, and they are those that are scored."""
    model = subject.model
    if not isinstance(model, Predicts):
        skip("it does not stream")
    form = subject.case.form
    assert isinstance(form, Tokens)
    x = subject.some(6).x[:, : form.length - 1]
    labels = subject.case.labels(len(x))
    read = torch.cat([torch.full_like(x[:, :1], form.begin), x], dim=1)
    with torch.no_grad():
        whole = model.logits(read, labels).double().log_softmax(-1)
        state = model.start(len(x), labels)
        for place in range(read.shape[1]):
            logits, state = model.step(read[:, place : place + 1], state)
            what = f"odds read symbol by symbol (place {place}), against logits"
            alike(logits.double().log_softmax(-1), whole[:, place], what)
        _, state = model.step(read[:, :2], model.start(len(x), labels))
        copied = copy.deepcopy(state)
        for kept, what in ((state, "odds read in two pieces"), (copied, "odds read on from a copy of a state used up")):
            logits, _ = model.step(read[:, 2:], kept)
            alike(logits.double().log_softmax(-1), whole[:, -1], f"{what}, against logits")
        mask = mask_after_end(x, form.end)
        scored = model.symbol_log_prob(Batch(x, condition=labels, mask=mask)).double()
        said = whole[:, :-1].gather(-1, x[..., None])[..., 0] * mask
        alike(scored, said, "symbol_log_prob, against the odds before each symbol")


def check_cached(subject: Subject) -> None:
    """Step by step over random prefixes, in pieces of any size, the logits are those of reading all at once.

    Within 1e-5 of the largest logit as it is, 1e-10 in float64; also after the items were reordered, as in a beam search.
    """
    model = subject.model
    if not isinstance(model, Predicts):
        skip("it does not stream")
    labels = subject.condition(ItemNoise(0, PREFIXES))
    for most, asked in ((1e-5, model), (1e-10, copy.deepcopy(model).double())):
        gap = cached_gap(asked, labels)
        expect(gap <= most, f"a gap of {gap:.2g} of the largest logit", f"at most {most:g}")


def cached_gap(model: Predicts, condition: Tensor | None = None, *, prefixes: int = PREFIXES, seed: int = 0) -> float:
    """The largest difference between logits read step by step and at once, as a share of the largest logit.

    Over ``prefixes`` random ones (``condition`` one a row), twice as long as the form for streams, so that windows fill and
    move; read in random pieces, and once with the rows in another order.
    """
    form = model.form  # type: ignore[attr-defined]
    assert isinstance(form, Tokens)
    draw = torch.Generator().manual_seed(seed)
    symbols = torch.tensor([symbol for symbol in range(form.vocabulary) if symbol != form.end])
    time = 2 * form.length + 1 if form.end is None else form.length
    x = symbols[torch.randint(len(symbols), (prefixes, time - 1), generator=draw)]
    read = torch.cat([torch.full((prefixes, 1), form.begin), x], dim=1).to(device_of(model))  # type: ignore[arg-type]
    rows = torch.randint(prefixes, (prefixes,), generator=draw).to(read.device)
    with torch.no_grad():
        whole = model.logits(read, condition)
        state, place, apart = model.start(prefixes, condition), 0, 0.0
        turn = time // 2
        while place < time:
            size = int(torch.randint(1, 4, (1,), generator=draw)) if place else 1
            size = min(size, (turn if place < turn else time) - place)
            logits, state = model.step(read[:, place : place + size], state)
            place += size
            apart = max(apart, _apart(logits, whole[:, place - 1]))
            if place == turn:
                state = reordered(model, state, rows)
                if condition is not None and len(condition) == prefixes:
                    condition = condition[rows]
                read, whole = read[rows], model.logits(read[rows], condition)
        finite = whole[torch.isfinite(whole)]
        return apart / float(finite.abs().max())


def _apart(got: Tensor, wanted: Tensor) -> float:
    never = torch.isneginf(wanted)
    if not torch.equal(torch.isneginf(got), never):
        return math.inf
    return float((got.double() - wanted.double()).masked_fill(never, 0).abs().max())


def check_options(subject: Subject) -> None:
    """Temperature 0 takes the likeliest symbol; top-k takes none below the k likeliest."""
    model = subject.model
    if not isinstance(model, Predicts) or not {"top_k", "temperature"} <= set(model.Sampling.model_fields):
        skip("it has no temperature and top-k")
    for options, k in (({"temperature": 0.0}, 1), ({"top_k": 1}, 1), ({"top_k": 2}, 2)):
        rank = _ranks(subject, subject.draw(1000, seed=6, **options))
        worst = int(rank.max())
        expect(worst < k, f"a symbol of rank {worst + 1} with {options}", f"rank {k} at most")
    free, cool = (_ranks(subject, subject.draw(1000, seed=6, temperature=t)).double().mean() for t in (1.0, 0.5))
    expect(float(cool) < float(free), f"a mean rank of {cool:.2f} at temperature 0.5", f"below that at 1 ({free:.2f})")


def _ranks(subject: Subject, x: Tensor) -> Tensor:
    """How many symbols were likelier than each one that was drawn (0 in the padding)."""
    model, form = subject.model, subject.case.form
    assert isinstance(model, Predicts)
    assert isinstance(form, Tokens)
    read = torch.cat([torch.full_like(x[:, :1], form.begin), x[:, :-1]], dim=1)
    with torch.no_grad():
        odds = model.logits(read, subject.case.labels(len(x))).double()
    likelier = (odds > odds.gather(-1, x[..., None]) + 1e-9).sum(-1)
    return likelier * mask_after_end(x, form.end)


def check_latent(subject: Subject) -> None:
    """Codes have the shapes that ``latents`` says, decode to items of the form, and items encode to codes."""
    model, labels = subject.model, subject.case.labels(4)
    if not isinstance(model, Decodes):
        skip("it has no latent space")
    with torch.no_grad():
        expect("z" in model.latents, f"spaces {sorted(model.latents)}", "one called 'z'")
        z = model.prior(4, ItemNoise(7, 4))
        expect(tuple(z.shape) == (4, *model.latents["z"]), f"codes of shape {list(z.shape)}", f"[4, *{model.latents['z']}]")
        x = model.decode(z, condition=labels)
        check(subject.case.form, x, "a decoded item")
        same(model.decode(z, condition=labels), x, "decoding twice without noise")
        if isinstance(model, Encodes):
            some = subject.some(4)
            code = model.encode(some.x, condition=some.condition)
            expect(code.shape == z.shape, f"codes of shape {list(code.shape)}", f"{list(z.shape)}")
            same(model.encode(some.x, condition=some.condition), code, "encoding twice")
    form = subject.case.form
    if isinstance(model, Expects) and isinstance(form, Grid):
        with torch.enable_grad():
            z = z.detach().clone().requires_grad_(True)
            expected = model.expected(z, condition=labels)
            (slope,) = torch.autograd.grad(expected.square().sum(), z)
        wanted = (4, grids.channels(form), form.height, form.width)
        expect(tuple(expected.shape) == wanted, f"an expected item of shape {list(expected.shape)}", f"{list(wanted)}")
        expect(bool(torch.isfinite(slope).all() and slope.any()), "no slope of the expected item", "one in the code")
        same(grids.write(form, expected.detach()), x, "the expected item, rounded, against the decoded one")


def check_fills(subject: Subject) -> None:
    """What was given stays; what was missing is drawn, and is of the form."""
    model = subject.model
    if not isinstance(model, Fills):
        skip("it does not fill")
    some = subject.some(8)
    mask = torch.zeros_like(some.x, dtype=torch.bool)
    mask.view(len(mask), -1)[:, ::2] = True
    filled = model.fill(some.x, mask, subject.options, ItemNoise(8, 8), some.condition)
    expect(torch.equal(filled[mask], some.x[mask]), "given values that were changed", "them as they were")
    check(subject.case.form, filled, "a filled item")
