"""pix2pix: a picture becomes its partner, learned from pairs of pictures.

A **generator** turns the picture that is given into the other one of the pair; a **discriminator** is shown both, the given
one beside the real or the made one, and says of each patch whether they belong together. The generator learns to pass, and
to make what was wanted, pixel by pixel (the *L1 loss*). That loss settles what goes where; alone it would blur whatever is
not certain, and the discriminator is what asks for sharp edges and real textures.

The generator is a U-Net: what is at a place in the picture that is given can go straight to that place in the one that is
made. Its only noise is the dropout of its inner layers, in drawing too, and it changes little. It has no likelihood and no
latent space, and goes one way alone. Without pairs, take `cyclegan`.

Papers: Isola et al. 2017 (arXiv 1611.07004); Ronneberger et al. 2015 (1505.04597, the U-Net).
"""

from collections import deque
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from pieria.data.batch import Batch, check
from pieria.errors import FormError, UsageError
from pieria.forms import Form, Grid
from pieria.layers import grids
from pieria.layers.image_translation import PatchDiscriminator, UNetGenerator, halvings_of
from pieria.layers.precision import Precision, products
from pieria.losses import adversarial
from pieria.models.contract import Losses, Phase, Step, picture_given
from pieria.models.translator import PATCHES, Translator
from pieria.noise import Noise
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

DEEPEST = 8  # halvings of a U-Net, as in the paper for 256 pixels


class Pix2PixSettings(AnySettings):
    """What a pix2pix is made of."""

    channels: int = Field(
        32, ge=1, le=512, description="generator: features at the full size; doubled at each halving, to 8×"
    )
    depth: int = Field(0, ge=0, le=DEEPEST, description="generator: halvings; 0 chooses as many as leave at least 2 pixels")
    dropout: float = Field(0.5, ge=0, lt=1, description="share of the inner features that are left out: the only noise")
    judge_channels: int = Field(32, ge=1, le=512, description="discriminator: features of the first layer")
    patch: int = Field(
        -1,
        ge=-1,
        le=5,
        description="halvings of the discriminator: 3 judges patches of 70 × 70 pixels, 2 of 34 × 34, 1 of 16 × 16, 0 of "
        "7 × 7; -1 chooses by the size of the pictures",
    )
    loss: Literal["non-saturating", "least-squares", "hinge"] = Field(
        "non-saturating", description="the game that is played"
    )
    pixels: float = Field(100.0, ge=0, description="weight of the L1 loss: mean absolute difference to the partner")
    precision: Precision = Field(
        "auto", description="of products in training: float32, bfloat16, or auto, which is bfloat16 where it is native"
    )


class Pix2PixSampling(AnySettings):
    """How a pix2pix draws."""

    dropout: bool = Field(
        True, description="leave features out in drawing too, as in training; false: one picture for all seeds"
    )


class Pix2Pix(Translator):
    """A U-Net generator and a conditional discriminator; its form is B's, its condition A's, and both are of one size.

    >>> from pieria.noise import ItemNoise
    >>> form = Grid(1, 9, 8)
    >>> model = Pix2Pix(Pix2PixSettings(channels=4, judge_channels=4), form, form)
    >>> model.sample(2, Pix2PixSampling(), ItemNoise(seed=0, size=2), torch.zeros(2, 1, 9, 8, dtype=torch.int64)).shape
    torch.Size([2, 1, 9, 8])
    """

    Settings = Pix2PixSettings
    Sampling = Pix2PixSampling
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"channels": 8, "judge_channels": 8},
        "small": {"channels": 16, "judge_channels": 24},
        "paper": {"channels": 64, "judge_channels": 64, "batch": 1, "rate": 2e-4},
    }
    training_defaults: ClassVar[dict[str, Any]] = {**Translator.training_defaults, "batch": 16, "patience": 0}
    paper = "Isola et al. 2017, Image-to-Image Translation with Conditional Adversarial Networks, arXiv:1611.07004"
    validation_unit: ClassVar[str] = "mean absolute difference to the partner, as a share of the range"

    settings: Pix2PixSettings

    def __init__(self, settings: Pix2PixSettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        assert isinstance(form, Grid)
        assert isinstance(condition, Grid)
        if (form.height, form.width) != (condition.height, condition.width):
            raise FormError(
                f"pictures of {condition.height} × {condition.width} to become pictures of {form.height} × {form.width}",
                "the same size, since each place becomes the same place",
                "Bring both to one, with --set size=…",
            )
        s, side = settings, min(form.height, form.width)
        patch = halvings_of(form.height, form.width, PATCHES) if s.patch < 0 else s.patch
        depth = s.depth or min(DEEPEST, max(1, side.bit_length() - 2))
        smallest = max(2**depth, 3 * 2**patch if patch else 2)
        if side < smallest:
            raise FormError(
                f"pictures of {form.height} × {form.width} for {depth} halvings of the generator and {patch} of the "
                "discriminator",
                f"at least {smallest} pixels on the shorter side",
                "Leave the settings depth and patch out, or make the pictures larger with --set size=…",
            )
        self.generator = UNetGenerator(condition.channels, form.channels, s.channels, depth, s.dropout)
        self.discriminator = PatchDiscriminator(condition.channels + form.channels, s.judge_channels, patch)
        self._made: deque[Tensor] = deque()

    # ---- learning ----------------------------------------------------------------------------------------------------

    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """An optimiser for each player."""
        return {
            "generator": [{"params": list(self.generator.parameters())}],
            "discriminator": [{"params": list(self.discriminator.parameters())}],
        }

    def phases(self) -> list[Phase]:
        """The generator moves, then the discriminator judges what it has just made."""
        self._made.clear()
        return [Phase("generator", "generator", self.turn), Phase("discriminator", "discriminator", self.judge)]

    def turn(self, batch: Batch, noise: Noise) -> Losses:
        """The generator learns to make the partner of what it is given, and to pass for it."""
        wanted, given = self.pair(batch)
        with products(self.settings.precision, wanted.device):
            made = self.generator(given, noise)
            passed = adversarial.generator_loss(self.settings.loss, self.discriminator(torch.cat([given, made], dim=1)))
        apart = (made - wanted).abs().mean()
        self._made.append(made.detach())
        parts = {"passed": passed.detach(), "pixels": apart.detach()}
        return Losses(passed + self.settings.pixels * apart, parts, count=len(batch))

    def judge(self, batch: Batch, noise: Noise) -> Losses:
        """The discriminator learns to tell real pairs from those whose second picture was made."""
        del noise
        wanted, given = self.pair(batch)
        pairs = torch.cat([torch.cat([given, other], dim=1) for other in (wanted, self._made.popleft())])
        with products(self.settings.precision, wanted.device):
            on_real, on_made = self.discriminator(pairs).chunk(2)
            # halved, as in the paper: it should not run ahead of the generator
            loss = 0.5 * adversarial.discriminator_loss(self.settings.loss, on_real, on_made)
        return Losses(loss, {"real": on_real.mean().detach(), "made": on_made.mean().detach()}, count=len(batch))

    def validate(self, batch: Batch, noise: Noise) -> Losses:
        """How far what it makes of held-out pictures is from their partners, in shares of the range."""
        wanted, given = self.pair(batch)
        return Losses((self.generator(given, noise) - wanted).abs().mean() / 2, {}, count=len(batch))

    # ---- drawing -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def translate(self, x: Tensor, to: str, options: AnySettings, noise: Noise) -> Tensor:
        """What becomes of pictures of any size, in the same size; ``to`` is "b", since it goes one way alone."""
        assert isinstance(options, Pix2PixSampling)
        if to != "b":
            raise UsageError(
                f"to {to!r}",
                "to 'b': pix2pix goes one way alone",
                "Fit the other way round: pieria fit B --to A",
            )
        check(self.condition, x, "what is to be translated")
        made = self.generator(grids.cells(self.condition, x), noise if options.dropout else None)
        return grids.write(self.form, made)

    @torch.no_grad()
    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """The picture that is given, what the generator sees in it, and its partner."""
        assert isinstance(options, Pix2PixSampling)
        x = picture_given(self, condition, 1)
        given = grids.cells(self.condition, x)
        shown = x if self.condition == self.form else None
        yield Step(
            "picture of A",
            shown,
            "It was never seen in training, nor was its partner.",
            {} if shown is not None else {"features": given},
        )
        smallest, _ = self.generator.steps(given, noise if options.dropout else None)
        size = f"{smallest.shape[2]} × {smallest.shape[3]}"
        note = (
            f"Feature maps at the bottom of the U-Net, {size}: the whole picture. What is seen larger goes straight across."
        )
        yield Step("what is seen of all of it", None, note, {"features": smallest})
        made = self.translate(x, "b", options, noise)
        score = self.discriminator(torch.cat([given, grids.cells(self.form, made)], dim=1))
        note = "The partner. The discriminator says of each patch how much the two belong together (dark: much)."
        yield Step("translation", made, note, {"score": score})


MODEL = Pix2Pix
