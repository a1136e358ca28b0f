"""AdamW whose groups may ask for orthogonal steps: for the matrices of a network, most progress for each example seen."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# a quintic whose iteration drives every singular value towards 1, steep at 0 so that few rounds do (Jordan et al. 2024)
QUINTIC = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
MOMENTUM = 0.95


def orthogonalised(matrix: Tensor) -> Tensor:
    """The nearest matrix whose singular values are all about 1 (0.7 to 1.2), of the same shape.

    Newton-Schulz rounds X ← aX + (bXXᵀ + c(XXᵀ)²)X on ``matrix`` divided by its norm. In bfloat16, which is exact enough for
    a direction.
    """
    a, b, c = QUINTIC
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(ROUNDS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)


class OrthogonalAdamW(torch.optim.AdamW):
    """AdamW; in groups with ``"orthogonal": scale``, the momentum of each matrix is made orthogonal before it is applied.

    m ← 0.95 m + 0.05 g;  w ← (1 - lr · decay) w - lr · scale · 0.2 √max(rows, columns) · orthogonalised(0.95 m + 0.05 g), so
    that a step has ``scale`` times the root-mean-square size of AdamW's (Jordan et al. 2024, *Muon*; Liu et al. 2025, arXiv
    2502.16982). A convolution's weights are one matrix, a row for each channel that it makes. Tensors that are neither, and
    groups that do not ask, are moved as AdamW moves them.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient; gradients of orthogonal groups are used up."""
        for group in self.param_groups:
            if group.get("orthogonal"):
                for parameter in group["params"]:
                    if parameter.grad is not None and parameter.dim() in (2, 4):
                        self._turn(parameter, group)
                        parameter.grad = None  # AdamW, which comes next, leaves such parameters alone
        return super().step(closure)

    def _turn(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
            state["step"] = torch.zeros(())  # AdamW looks for it when a state is loaded
        gradient, momentum = parameter.grad, state["momentum"]
        assert gradient is not None
        momentum.lerp_(gradient, 1 - MOMENTUM)
        direction = orthogonalised(gradient.lerp(momentum, MOMENTUM).flatten(1))
        size = 0.2 * max(direction.shape) ** 0.5 * group["orthogonal"]
        parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction.view_as(parameter), alpha=-group["lr"] * size)
