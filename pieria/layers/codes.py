"""The law of the categories of a row, and of which values are missing: one column after the other, exactly.

Each column's odds are told by the columns before it (a masked perceptron), the flags of missing values first. What a flag
says is missing is not asked for, and nothing is said of it to later columns but that it is missing.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pieria.forms import Row
from pieria.layers.masked_perceptron import MaskedMLP

LEAST = 1e-12


class Codes(nn.Module):
    """Autoregressive odds of every code of a `Row`, conditional on a context ``[batch, context]``.

    Attributes:
        places: the columns that hold codes, in the order in which they are told.
        features: how many numbers `read` gives.
    """

    def __init__(self, form: Row, context: int, widths: Sequence[int]) -> None:
        super().__init__()
        kinds = [column.kind for column in form.columns]
        self.places = [i for i, kind in enumerate(kinds) if kind == "missing"]
        self.places += [i for i, kind in enumerate(kinds) if kind == "category"]
        self.levels = [form.columns[place].levels or 2 for place in self.places]
        self.flags = [form.missing_of(place) for place in self.places]
        self.features = sum(self.levels)
        order = [number for number, levels in enumerate(self.levels, start=1) for _ in range(levels)]
        self.network = MaskedMLP(order, order, widths, context) if self.places else None

    def fit(self, x: Tensor) -> None:
        """Begin with how frequent each code is in training rows ``[row, column]``."""
        if self.network is None:
            return
        counts = [
            torch.bincount(x[self._asked(x, number), place].long().cpu(), minlength=levels) + 1.0
            for number, (place, levels) in enumerate(zip(self.places, self.levels, strict=True))
        ]
        with torch.no_grad():
            self.network.last.bias.copy_(torch.cat([(each / each.sum()).log() for each in counts]))

    def _asked(self, x: Tensor, number: int) -> Tensor:
        """Bool ``[batch]``: whether there is a value in the column of this number."""
        flag = self.flags[number]
        return torch.ones(len(x), dtype=torch.bool, device=x.device) if flag is None else x[:, flag] < 0.5

    def read(self, x: Tensor) -> Tensor:
        """Rows ``[batch, column]`` as one-hot codes, 0 where there is none: ``[batch, features]``."""
        parts = [
            F.one_hot(x[:, place].long(), levels).to(x.dtype) * self._asked(x, number)[:, None]
            for number, (place, levels) in enumerate(zip(self.places, self.levels, strict=True))
        ]
        return torch.cat([x.new_zeros(len(x), 0), *parts], dim=1)

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        """Nats of the codes of each row, ``[batch]``."""
        total = x.new_zeros(len(x))
        if self.network is None:
            return total
        odds = self.network(self.read(x), context).float().split(self.levels, dim=1)
        for number, (place, part) in enumerate(zip(self.places, odds, strict=True)):
            nats = part.log_softmax(dim=1).gather(1, x[:, place : place + 1].long())[:, 0]
            total = total + torch.where(self._asked(x, number), nats, torch.zeros_like(nats))
        return total

    def encode(self, x: Tensor, context: Tensor) -> Tensor:
        """A standard Gaussian number for each code, ``[batch, code]``: the middle of the share that is the code's own."""
        if self.network is None:
            return x.new_zeros(len(x), 0)
        odds = self.network(self.read(x), context).split(self.levels, dim=1)
        codes = []
        for place, part in zip(self.places, odds, strict=True):
            shares = part.double().softmax(dim=1)
            own = x[:, place : place + 1].long()
            middle = (shares.cumsum(dim=1) - shares / 2).gather(1, own)
            codes.append(torch.special.ndtri(middle.clamp(LEAST, 1 - LEAST)))
        return torch.cat(codes, dim=1).to(x.dtype)

    def decode(self, z: Tensor, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Write into rows ``x`` the code whose share holds ``Φ(z)``, column by column; ``z [batch, code]``.

        Returns the rows, and the probability that each code had, ``[batch, code]``.
        """
        told = [x.new_ones(len(x), 0)]
        for number, (place, levels) in enumerate(zip(self.places, self.levels, strict=True)):
            assert self.network is not None
            odds = self.network(self.read(x), context).split(self.levels, dim=1)[number]
            shares = odds.double().softmax(dim=1)
            passed = torch.special.ndtr(z[:, number].double())[:, None] >= shares.cumsum(dim=1)
            code = passed.sum(dim=1).clamp(max=levels - 1) * self._asked(x, number)
            x = x.clone()
            x[:, place] = code.to(x.dtype)
            told.append(shares.gather(1, code[:, None]).to(x.dtype))
        return x, torch.cat(told, dim=1)
