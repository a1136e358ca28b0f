"""A perceptron whose outputs for a variable see only the variables before it, in one pass for all of them."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedLinear(nn.Linear):
    """A linear layer without the connections where ``mask [outputs, inputs]`` is False."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[..., inputs] → [..., outputs]``."""
        return F.linear(x, self.weight * self.mask, self.bias)


class MaskedMLP(nn.Module):
    """A perceptron that keeps an order of variables (MADE, Germain et al. 2015, arXiv 1502.03509).

    ``inputs`` and ``outputs`` give the place in the order, from 1, of the variable that each number belongs to. A hidden
    feature of place ``m`` sees variables up to ``m``, an output of place ``d`` sees hidden features below ``d``. All of them
    see the ``context``, which is read beside the inputs.
    """

    def __init__(
        self, inputs: Sequence[int], outputs: Sequence[int], widths: Sequence[int], context: int = 0, *, zero: bool = True
    ) -> None:
        super().__init__()
        last = max([*inputs, *outputs], default=1)
        # without a context, what the first variable is told is its bias alone
        lowest = 0 if context else min(1, last - 1)
        before = torch.tensor([*inputs, *[0] * context])
        layers: list[nn.Module] = []
        for width in widths:
            places = lowest + _spread(width, max(1, last - lowest))
            layers += [MaskedLinear(places[:, None] >= before), nn.SiLU()]
            before = places
        layers.append(MaskedLinear(torch.tensor(outputs)[:, None] > before))
        self.layers = nn.Sequential(*layers)
        if zero:
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)

    @property
    def last(self) -> MaskedLinear:
        """The layer that writes the outputs."""
        layer = self.layers[-1]
        assert isinstance(layer, MaskedLinear)
        return layer

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Float ``[batch, inputs]``, ``[batch, context] → [batch, outputs]``."""
        out: Tensor = self.layers(torch.cat([x, context], dim=-1))
        return out


def _spread(width: int, places: int) -> Tensor:
    """Which of so many ``places`` each hidden feature has; fewer features lie evenly, so that the last place is seen too."""
    if width >= places:
        return torch.arange(width) % places
    return torch.linspace(0, places - 1, width).round().long() if width > 1 else torch.tensor([places - 1])
