"""Which steps the parameters of a network of symbols take."""

from collections.abc import Iterable
from typing import Any, Literal

from torch import nn

Optimiser = Literal["orthogonal", "adamw"]


def groups(model: nn.Module, inside: Iterable[nn.Parameter], optimiser: Optimiser) -> list[dict[str, Any]]:
    """Matrices ``inside`` layers take orthogonal steps (twice as large: see `training.orthogonal`), or AdamW's as they ask.

    Tables of vectors take AdamW's; single vectors do not decay.
    """
    matrices = [p for p in inside if p.dim() >= 2]
    chosen = {id(p) for p in matrices}
    tables = [p for p in model.parameters() if p.dim() >= 2 and id(p) not in chosen]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    first = {"params": matrices, "orthogonal": 2.0} if optimiser == "orthogonal" else {"params": matrices}
    return [first, {"params": tables}, {"params": vectors, "weight_decay": 0.0}]
