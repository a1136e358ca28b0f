"""CycleGAN: pictures of one kind become pictures of another, learned from two heaps that nobody has paired.

Two **generators**, G from A to B and F back, and two **discriminators**, one for each kind of picture. Each generator learns
to make what its discriminator takes for real pictures of the other kind. That alone would let G give any picture of B,
whatever it was shown; so there and back again has to be where one began, F(G(a)) = a and G(F(b)) = b: the *cycle loss*. A
picture that is already of the kind that a generator makes should stay as it is: the *identity loss*.

There is no latent space and no likelihood: what it makes follows from the picture that it is shown, by networks that look
at a neighbourhood. Colours, textures and styles change well; what has to move or to be turned does not, since the cycle is
just as well closed by a map that moves nothing. Where pairs are to be had, take `pix2pix`, which needs fewer pictures.

Papers: Zhu et al. 2017 (arXiv 1703.10593); Johnson et al. 2016 (1603.08155, the generator); Isola et al. 2017 (1611.07004,
the discriminator); Mao et al. 2017 (1611.04076, least squares); Shrivastava et al. 2017 (1612.07828, the pool of pictures).
"""

from collections import deque
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from pieria.data.batch import Batch, check
from pieria.errors import FormError, UsageError
from pieria.forms import Form, Grid
from pieria.layers import grids
from pieria.layers.image_translation import WIDE, PatchDiscriminator, ResNetGenerator, halvings_of
from pieria.layers.picture_pool import PicturePool
from pieria.layers.precision import Precision, products
from pieria.losses import adversarial
from pieria.models.contract import Losses, Phase, Step, picture_given
from pieria.models.translator import PATCHES, Translator
from pieria.noise import Noise
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

Turned = tuple[Tensor, Tensor]  # what was made of B's pictures, and of A's


class CycleGANSettings(AnySettings):
    """What a CycleGAN is made of."""

    channels: int = Field(32, ge=1, le=512, description="generators: features at the full size; doubled at each halving")
    blocks: int = Field(0, ge=0, le=32, description="residual blocks; 0 chooses 9 from 256 pixels on, 6 from 32 on, else 4")
    halvings: int = Field(
        -1, ge=-1, le=4, description="how often a generator halves the picture; -1 chooses 2 from 48 pixels on, 1 from 16 on"
    )
    judge_channels: int = Field(32, ge=1, le=512, description="discriminators: features of the first layer")
    patch: int = Field(
        -1,
        ge=-1,
        le=5,
        description="halvings of a discriminator: 3 judges patches of 70 × 70 pixels, 2 of 34 × 34, 1 of 16 × 16, 0 of 7 × "
        "7; -1 chooses by the size of the pictures",
    )
    loss: Literal["least-squares", "non-saturating", "hinge"] = Field("least-squares", description="the game that is played")
    cycle: float = Field(
        5.0,
        ge=0,
        description="weight of the cycle loss, the mean difference there and back (5 of halved squares: the paper's 10)",
    )
    identity: float = Field(
        0.5, ge=0, description="weight of the identity loss, as a share of the cycle's; 0 where colours are to change freely"
    )
    pool: int = Field(50, ge=0, le=1000, description="made pictures kept for the discriminators to see again; 0 keeps none")
    precision: Precision = Field(
        "auto", description="of products in training: float32, bfloat16, or auto, which is bfloat16 where it is native"
    )


class CycleGAN(Translator):
    """Two generators and two discriminators; its form is B's, its condition A's, and both are of one size.

    >>> from pieria.noise import ItemNoise
    >>> form = Grid(1, 9, 8)
    >>> model = CycleGAN(CycleGANSettings(channels=4, blocks=1, judge_channels=4), form, form)
    >>> model.sample(2, CycleGAN.Sampling(), ItemNoise(seed=0, size=2), torch.zeros(2, 1, 9, 8, dtype=torch.int64)).shape
    torch.Size([2, 1, 9, 8])
    """

    Settings = CycleGANSettings
    pairing: ClassVar = "unpaired"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"channels": 8, "blocks": 1, "judge_channels": 8},
        "small": {"channels": 16, "blocks": 3, "judge_channels": 24, "batch": 8},
        "paper": {"channels": 64, "judge_channels": 64, "batch": 1, "rate": 2e-4},
    }
    paper = (
        "Zhu et al. 2017, Unpaired Image-to-Image Translation with Cycle-Consistent Adversarial Networks, arXiv:1703.10593"
    )

    settings: CycleGANSettings

    def __init__(self, settings: CycleGANSettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        assert isinstance(form, Grid)
        assert isinstance(condition, Grid)
        if (form.height, form.width) != (condition.height, condition.width) or form.channels != condition.channels:
            raise FormError(
                f"pictures of {_size(condition)} to become pictures of {_size(form)}",
                "the same size and the same channels, since each generator is shown both kinds",
                "Bring both to one, with --set size=… and --set colour=…",
            )
        s, sides = settings, (form.height, form.width)
        halvings = halvings_of(*sides, (16, 48)) if s.halvings < 0 else s.halvings
        patch = halvings_of(*sides, PATCHES) if s.patch < 0 else s.patch
        blocks = s.blocks or (9 if min(sides) >= 256 else 6 if min(sides) >= 32 else 4)
        smallest = max(2 * 2**halvings, 3 * 2**patch if patch else 2)
        if min(sides) < smallest:
            raise FormError(
                f"pictures of {form.height} × {form.width} for {halvings} halvings of the generator and {patch} of the "
                "discriminator",
                f"at least {smallest} pixels on the shorter side",
                "Leave the settings halvings and patch out, or make the pictures larger with --set size=…",
            )

        def generator(inputs: Grid, outputs: Grid) -> ResNetGenerator:
            wide = min(sides) >= WIDE
            return ResNetGenerator(inputs.channels, outputs.channels, s.channels, blocks, halvings, wide=wide)

        self.to_b, self.to_a = generator(condition, form), generator(form, condition)
        self.judge_b = PatchDiscriminator(form.channels, s.judge_channels, patch)
        self.judge_a = PatchDiscriminator(condition.channels, s.judge_channels, patch)
        self.pool_b, self.pool_a = PicturePool(s.pool, form.shape), PicturePool(s.pool, condition.shape)
        self._made: deque[Turned] = deque()

    # ---- learning ----------------------------------------------------------------------------------------------------

    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """An optimiser for both generators, and one for both discriminators."""
        parts: dict[str, tuple[nn.Module, ...]] = {
            "generators": (self.to_b, self.to_a), "discriminators": (self.judge_b, self.judge_a)
        }  # fmt: skip
        return {name: [{"params": [p for part in two for p in part.parameters()]}] for name, two in parts.items()}

    def phases(self) -> list[Phase]:
        """The generators move, then the discriminators judge what these have just made, and what they made before."""
        self._made.clear()
        return [Phase("generators", "generators", self.turn), Phase("discriminators", "discriminators", self.judge)]

    def turn(self, batch: Batch, noise: Noise) -> Losses:
        """Both generators learn to pass for the other kind, to find the way back, and to leave their own kind alone."""
        del noise  # what they make follows from the pictures
        s = self.settings
        b, a = self.pair(batch)
        with products(s.precision, b.device):
            # a generator that should leave B alone is shown A and B at once
            seen_b, seen_a = (torch.cat([a, b]), torch.cat([b, a])) if s.identity else (a, b)
            made_b, made_a = self.to_b(seen_b), self.to_a(seen_a)
            (fake_b, same_b), (fake_a, same_a) = (
                (made.chunk(2) if s.identity else (made, made)) for made in (made_b, made_a)
            )
            back_a, back_b = self.to_a(fake_b), self.to_b(fake_a)
            passed = [
                adversarial.generator_loss(s.loss, judge(fake))
                for judge, fake in ((self.judge_b, fake_b), (self.judge_a, fake_a))
            ]
        cycle = (back_a - a).abs().mean() + (back_b - b).abs().mean()
        loss = passed[0] + passed[1] + s.cycle * cycle
        parts = {"to b": passed[0].detach(), "to a": passed[1].detach(), "cycle": cycle.detach()}
        if s.identity:
            same = (same_b - b).abs().mean() + (same_a - a).abs().mean()
            loss, parts["identity"] = loss + s.cycle * s.identity * same, same.detach()
        if torch.is_grad_enabled():
            self._made.append((fake_b.detach(), fake_a.detach()))
        return Losses(loss, parts, count=len(batch))

    def judge(self, batch: Batch, noise: Noise) -> Losses:
        """Both discriminators learn to tell real pictures from made ones, half of which are older ones, from the pool."""
        b, a = self.pair(batch)
        fake_b, fake_a = self._made.popleft()
        total = b.new_zeros(())
        parts: dict[str, Tensor] = {}
        with products(self.settings.precision, b.device):
            for name, judge, pool, real, fake in (
                ("b", self.judge_b, self.pool_b, b, fake_b),
                ("a", self.judge_a, self.pool_a, a, fake_a),
            ):
                on_real, on_fake = judge(torch.cat([real, pool.exchanged(fake, noise, name)])).chunk(2)
                total = total + adversarial.discriminator_loss(self.settings.loss, on_real, on_fake)
                parts |= {f"real {name}": on_real.mean().detach(), f"made {name}": on_fake.mean().detach()}
        return Losses(total, parts, count=len(batch))

    # ---- drawing -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def translate(self, x: Tensor, to: str, options: AnySettings, noise: Noise) -> Tensor:
        """Pictures of any size, turned into the kind ``to``, "b" or "a"; the same size, in the form's own levels."""
        del options, noise
        if to not in ("a", "b"):
            raise UsageError(f"to {to!r}", "to 'b' (what it was fitted --to) or back to 'a'", "Name one of them")
        given, made, generator = (
            (self.condition, self.form, self.to_b) if to == "b" else (self.form, self.condition, self.to_a)
        )
        check(given, x, "what is to be translated")
        return grids.write(made, generator(grids.cells(given, x)))

    @torch.no_grad()
    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """A picture of A, what the generator sees in it, the way back, and the translation."""
        x = picture_given(self, condition, 1)
        yield Step("picture of A", x, "It was never seen in training, and has no partner in B.", {})
        made = self.translate(x, "b", options, noise)
        given = grids.cells(self.condition, x)
        begun, done, _ = self.to_b.steps(given)
        yield Step("what is seen", None, "Feature maps where the residual blocks begin.", {"features": begun})
        yield Step("what is to be drawn", None, "And behind them, in B's manner.", {"features": done})
        back = self.translate(made, "a", options, noise)
        gap = (grids.cells(self.condition, back) - given).abs().mean() / 2
        note = f"The other generator turns the translation into A again; it misses by {100 * float(gap):.1f} % of the range."
        yield Step("and back again", back, note, {})
        score = self.judge_b(grids.cells(self.form, made))
        note = "The translation. The discriminator says of each patch how much it looks like B (dark: much)."
        yield Step("translation", made, note, {"score": score})


def _size(form: Grid) -> str:
    return f"{form.height} × {form.width} pixels and {form.channels} channel{'s' if form.channels > 1 else ''}"


MODEL = CycleGAN
