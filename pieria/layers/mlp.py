"""A multilayer perceptron: the network of everything that is not a picture."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

ACTIVATIONS: dict[str, type[nn.Module]] = {"silu": nn.SiLU, "relu": nn.ReLU, "leaky": nn.LeakyReLU, "elu": nn.ELU}


def activation(name: str) -> nn.Module:
    """The non-linearity of this name; leaky ones leak a fifth."""
    return nn.LeakyReLU(0.2) if name == "leaky" else ACTIVATIONS[name]()


def bounded(layer: nn.Module, spectral: bool) -> nn.Module:
    """The layer, its weight divided by its largest singular value if ``spectral`` (Miyato et al. 2018)."""
    return spectral_norm(layer) if spectral else layer


class MLP(nn.Module):
    """``inputs → widths → outputs`` with a non-linearity after each hidden layer: float ``[..., inputs] → [..., outputs]``.

    With ``outputs=None`` it ends with the last hidden layer's features. ``dropout`` is the share of hidden features that
    training sets to zero.
    """

    def __init__(
        self,
        inputs: int,
        widths: Sequence[int],
        outputs: int | None,
        *,
        nonlinear: str = "silu",
        spectral: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip([inputs, *widths], widths, strict=False):
            layers += [bounded(nn.Linear(before, after), spectral), activation(nonlinear)]
            if dropout:
                layers.append(nn.Dropout(dropout))
        last = widths[-1] if widths else inputs
        if outputs is not None:
            layers.append(bounded(nn.Linear(last, outputs), spectral))
        self.outputs = last if outputs is None else outputs
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[..., inputs] → [..., outputs]``."""
        out: Tensor = self.layers(x)
        return out
