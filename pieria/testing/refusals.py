"""It fails honestly: bad input is a `PieriaError` in words, and what was given is as it was."""

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from pieria.data.batch import Batch, check
from pieria.data.examples import Examples, ItemExamples, StreamExamples
from pieria.errors import PieriaError
from pieria.forms import Column, Curve, Form, Grid, Label, Row, Tokens
from pieria.models.contract import Estimates, Scores
from pieria.noise import ItemNoise
from pieria.testing.subject import Subject
from pieria.testing.verdicts import expect


def check_refuses(subject: Subject) -> None:
    """Bad input is a `PieriaError` that says what was got and wanted; nothing given is changed."""
    form, model, some = subject.case.form, subject.model, subject.some()
    for what, x in bad_items(form):
        if isinstance(model, Scores):
            _refused(f"log_prob of {what}", model.log_prob, Batch(x, condition=subject.case.labels(len(x))))
        fresh = subject.untrained()
        if isinstance(fresh, Estimates):
            batches = [Batch(x, condition=subject.case.labels(len(x)))]
            _refused(f"learning from {what}", fresh.estimate, batches.copy)
    for other in (Tokens(4, 4, 3), Grid(1, 2, 2), Row((Column("size", "number"),)), Curve(), Label(("a", "b"))):
        if type(other) not in subject.family.consumes:
            _refused(f"a form it does not consume ({other.kind})", subject.untrained, other)
    if isinstance(subject.case.condition, Label):
        labels = torch.tensor([0, 7])
        _refused("a label that is not there", model.sample, 2, subject.options, ItemNoise(0, 2), labels)
    elif isinstance(subject.case.condition, Tokens):
        if subject.family.requires_condition:
            _refused("no prompt", model.sample, 2, subject.options, ItemNoise(0, 2))
        unknown = torch.full((2, 3), subject.case.condition.vocabulary)
        _refused("a prompt with an unknown symbol", model.sample, 2, subject.options, ItemNoise(0, 2), unknown)
        prompts = subject.case.labels(3)
        _refused("three prompts for two items", model.sample, 2, subject.options, ItemNoise(0, 2), prompts)
    elif isinstance(subject.case.condition, Grid):
        pictures = subject.case.labels(3)
        assert pictures is not None
        _refused("no picture", model.sample, 2, subject.options, ItemNoise(0, 2))
        _refused("three pictures for two items", model.sample, 2, subject.options, ItemNoise(0, 2), pictures)
        strange = torch.cat([pictures[:2]] * 2, dim=1)
        _refused("pictures of other channels", model.sample, 2, subject.options, ItemNoise(0, 2), strange)
        _refused("a condition it does not take", type(model), model.settings, form, Label(("a", "b")))
        wider = Grid(form.channels + 1, form.height, form.width + 1) if isinstance(form, Grid) else Grid(1, 2, 2)
        _refused("pictures of another size to learn from", type(model), model.settings, form, wider)
    elif Label not in subject.family.conditions and subject.case.where is None:
        _refused("a condition it does not take", type(model), model.settings, form, Label(("a", "b")))
    if isinstance(form, Tokens) and form.end is not None and "length" in subject.model.Sampling.model_fields:
        options = subject.options.changed(length=form.length + 1)
        condition = subject.condition(ItemNoise(0, 2))
        _refused("more symbols than an item has", model.sample, 2, options, ItemNoise(0, 2), condition)
    # nothing that was given is changed
    kept = copy.deepcopy(some)
    if isinstance(model, Scores):
        model.log_prob(some)
    again = subject.untrained()
    if isinstance(again, Estimates):
        again.estimate(lambda: [some])
    for name in ("x", "mask", "context", "condition"):
        before, after = getattr(kept, name), getattr(some, name)
        expect(before is None or torch.equal(before, after), f"{name} changed by the model", "input as it was given")
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


def _refused(what: str, act: Callable[..., Any], *given: Any) -> None:
    try:
        with torch.no_grad():
            act(*given)
    except PieriaError as error:
        said = str(error)
        expect(bool(error.got) and bool(error.wanted or error.do), f"{what}: {said!r}", "what was got, and wanted or to do")
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
