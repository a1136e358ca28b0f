"""What families share that turn pictures of one kind, A, into pictures of another, B, each place staying where it is."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from pieria.data.batch import Batch
from pieria.errors import FormError
from pieria.forms import Form, Grid
from pieria.layers import grids
from pieria.models.contract import Model, picture_given
from pieria.noise import Noise
from pieria.settings import Settings as AnySettings

PATCHES = (12, 48, 192)  # pixels on the shorter side from which a discriminator halves once more


class Translator(Model):
    """Pictures of A, the condition, become pictures of B, the form; a family adds its networks and `translate`.

    Raises `FormError` for tiles, between which nothing lies.
    """

    consumes = frozenset({Grid})
    conditions = frozenset({Grid})
    requires_condition: ClassVar = True
    training_defaults: ClassVar[dict[str, Any]] = {
        "batch": 8,
        "rate": 4e-4,
        "schedule": "linear",
        "hold": 0.5,
        "final": 0.0,
        "warmup": 50,
        "weight_decay": 0.0,
        "beta1": 0.5,
        "beta2": 0.999,
        "clip": 0.0,
        "average": 0.99,
    }

    form: Grid
    condition: Grid

    def __init__(self, settings: AnySettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        if not self.form.ordered or not self.condition.ordered:
            raise FormError("a grid of tiles, which have no order", "pictures, whose levels do", "Take a family of tiles")

    def pair(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's pictures of B and of A as networks read them, ``[batch, channel, height, width]`` in [-1, 1]."""
        assert batch.condition is not None
        return grids.read(self.form, batch.x), grids.read(self.condition, batch.condition)

    @abstractmethod
    def translate(self, x: Tensor, to: str, options: AnySettings, noise: Noise) -> Tensor:
        """Pictures ``x`` of any size, turned into the kind ``to``, "b" or "a"; the same size."""

    @torch.no_grad()
    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """What becomes of the pictures of A that are given as ``condition`` ``[n, channel, height, width]``."""
        return self.translate(picture_given(self, condition, n), "b", options, noise)
