"""What a check can say: nothing (it passed), that it has nothing to ask, or what was got and wanted."""

from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor


class Skipped(Exception):
    """The check has nothing to ask here."""


def expect(holds: bool | Tensor, got: str, wanted: str) -> None:
    """Fail, saying what was ``got`` and ``wanted``, unless it ``holds``."""
    if not bool(holds):
        raise AssertionError(f"got {got}; wanted {wanted}")


def skip(why: str) -> NoReturn:
    """There is nothing to ask, and ``why``."""
    raise Skipped(why)


def same(got: Tensor, wanted: Tensor, what: str) -> None:
    """Equal, bit for bit."""
    expect(torch.equal(got, wanted), f"other bits from {what}", "the same bits")


def alike(got: Tensor, wanted: Tensor, what: str) -> None:
    """Values within 1e-5; symbols equal."""
    expect(got.shape == wanted.shape, f"shape {list(got.shape)} from {what}", f"{list(wanted.shape)}")
    if got.is_floating_point():
        apart = float((got.double() - wanted.double()).abs().max()) if got.numel() else 0.0
        scale = 1 + (float(wanted.double().abs().max()) if wanted.numel() else 0.0)
        expect(apart <= 1e-5 * scale, f"values {apart:.2g} apart from {what}", "at most 1e-5")
    else:
        expect(torch.equal(got, wanted), f"other symbols from {what}", "the same")


@dataclass(frozen=True)
class Result:
    """What one check of one form said: ``passed``, ``skipped`` or ``failed``, why, and after how many seconds."""

    check: str
    form: str
    outcome: str
    said: str
    seconds: float
