"""How much the output moves when the input moves a little.

A model that encodes: an item is moved by noise of 2 % of its range, encoded and decoded, and the movement of what comes out
is divided by that of what went in. A model that predicts: one earlier symbol is changed, and the total variation distance
between the two distributions of the next symbol says how much of its belief moved.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pieria.data.batch import Batch
from pieria.data.examples import Examples
from pieria.evaluation.comparison import held_out
from pieria.evaluation.features import as_values
from pieria.forms import Grid, Row, Tokens
from pieria.models.contract import Encodes, Model, Predicts, device_of
from pieria.noise import ItemNoise

ITEMS = 64
STEP = 0.02
BACK = (1, 4, 16)


def sensitivity(model: Model, held: Examples, seed: int) -> dict[str, Any]:
    """The ratio of movements (`Encodes`), or the movement of the next symbol's distribution (`Predicts`), with counts."""
    batch = held_out(held, ITEMS)
    if isinstance(model, Predicts) and isinstance(model.form, Tokens):
        return _next_symbol(model, batch, seed)
    if isinstance(model, Encodes) and isinstance(model.form, Grid | Row):
        return _reconstruction(model, batch, seed)
    return {"measured": False, "why": "this family neither encodes an item nor predicts the next symbol"}


def _reconstruction(model: Model, batch: Batch, seed: int) -> dict[str, Any]:
    assert isinstance(model, Encodes)
    form, x = model.form, batch.x
    drawn = ItemNoise(seed, len(x)).normal("nudge", tuple(x.shape[1:]))
    if isinstance(form, Row):
        numbers = torch.tensor([column.kind in ("number", "integer") for column in form.columns])
        moved = x + STEP * drawn * numbers
        there = _present(form, x) * numbers
        if not bool(numbers.any()):
            return {"measured": False, "why": "the table has no numbers to move a little"}
        moved = torch.where(there.bool(), moved, x)
    elif isinstance(form, Grid) and form.levels is not None:
        if not form.ordered:
            return {"measured": False, "why": "kinds without order cannot be moved a little"}
        # at least one level: the smallest movement that levels allow, of as many pixels as make 2 % of the range
        step = max(1, round(STEP * (form.levels - 1)))
        often = min(1.0, STEP * (form.levels - 1) / step)
        hit = ItemNoise(seed, len(x)).uniform("hit", tuple(x.shape[1:])) < often
        moved = torch.where(hit, (x + step * drawn.sign().long()).clamp(0, form.levels - 1), x)
    else:
        moved = x + STEP * drawn
    place = device_of(model)
    condition = None if batch.condition is None else batch.condition.to(place)
    with torch.no_grad():
        before, after = (
            _values(form, model.decode(model.encode(item.to(place), condition=condition), condition=condition).cpu())
            for item in (x, moved)
        )
    into = (_values(form, moved) - _values(form, x)).flatten(1).norm(dim=1)
    out = (after - before).flatten(1).norm(dim=1)
    kept = into > 0
    if not bool(kept.any()):
        return {"measured": False, "why": "no item could be moved"}
    ratios = (out[kept] / into[kept]).double().numpy()
    ratio, high = float(np.median(ratios)), float(np.quantile(ratios, 0.95))
    return {
        "measured": True,
        "what": "encode and decode",
        "ratio": ratio,
        "ratio_95": high,
        "count": int(kept.sum()),
        "seed": seed,
        "words": f"When an item moves a little, its reconstruction moves {ratio:.2g} times as far (95 % of items: below "
        f"{high:.2g} times).",
    }


def _present(form: Row, x: Tensor) -> Tensor:
    there = torch.ones_like(x)
    for place in range(len(form.columns)):
        missing = form.missing_of(place)
        if missing is not None:
            there[:, place] = 1 - x[:, missing]
    return there


def _values(form: Any, x: Tensor) -> Tensor:
    return as_values(x, form) if isinstance(form, Grid) and form.levels is not None else x.float()


def _next_symbol(model: Model, batch: Batch, seed: int) -> dict[str, Any]:
    assert isinstance(model, Predicts)
    form = model.form
    assert isinstance(form, Tokens)
    lengths = torch.full((len(batch),), batch.x.shape[1]) if batch.mask is None else batch.mask.sum(dim=1)
    length = int(lengths.double().median())
    rows = (lengths >= length).nonzero()[:, 0]
    x = batch.x[rows, :length]
    condition = None if batch.condition is None else batch.condition[rows]
    begun = torch.cat([torch.full((len(x), 1), form.begin), x], dim=1)[:, -max(1, model.reach) :]
    if form.end is not None and begun.shape[1] > 1:
        begun = begun[:, :-1]  # what follows the end is nothing
    other = ItemNoise(seed, len(x)).integers("symbol", max(1, form.vocabulary - 1))
    moved: dict[str, float] = {}
    place = device_of(model)
    condition = None if condition is None else condition.to(place)

    def odds(read: Tensor) -> Tensor:
        return model.logits(read.to(place), condition)[:, -1].cpu().double().softmax(dim=-1)

    with torch.no_grad():
        before = odds(begun)
        for back in BACK:
            if back > begun.shape[1] - 1 or back > model.reach:
                continue
            changed = begun.clone()
            changed[:, -back] = other + (other >= begun[:, -back])  # any symbol but the one that stood there
            after = odds(changed)
            moved[str(back)] = float((before - after).abs().sum(dim=-1).mean() / 2)
    if not moved:
        return {"measured": False, "why": "the model reads nothing before the next symbol"}
    told = ", ".join(f"{value:.0%} when it stands {back} before" for back, value in moved.items())
    return {
        "measured": True,
        "what": "next symbol",
        "moved": moved,
        "count": len(x),
        "seed": seed,
        "words": f"When one symbol is replaced by a random one, so much of the next symbol's distribution moves: {told}.",
    }
