"""Normalisations of a hidden vector, by name."""

from typing import Literal

from torch import nn

NormName = Literal["layer", "rms"]


def norm(name: NormName, width: int, bias: bool = False, epsilon: float = 1e-5) -> nn.LayerNorm | nn.RMSNorm:
    """A normalisation over the last axis: ``layer`` centres and scales (Ba et al. 2016, arXiv 1607.06450), ``rms`` scales.

    Root-mean-square normalisation (Zhang & Sennrich 2019, arXiv 1910.07467) has no bias. Torch fuses ``layer`` on every
    device, ``rms`` on GPUs only. ``epsilon`` is added to the variance (to the mean square) before its root is divided by.
    """
    return nn.LayerNorm(width, eps=epsilon, bias=bias) if name == "layer" else nn.RMSNorm(width, eps=epsilon)
