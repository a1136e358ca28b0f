"""StyleGAN2: a GAN whose generator is told by a style, at every size of the picture, what each feature is worth.

A code ``z`` is mapped to a **style** ``w`` by a small network, and from there on nothing but styles and noise comes in: the
generator begins with the same learned field for every picture, doubles it until it is whole, and at each size scales its
features by what an affine map of ``w`` says. Coarse sizes decide pose and shape, fine ones colour and texture, and ``w`` can
be another one at each (space ``w+``), which is how two pictures are mixed. Noise with a learned strength gives what is
random in them.

Four moves a step, of which two are lazy: the generator; its **path length** (equal steps in w are to change the picture
equally, every 4th step); the discriminator; its **slope** at the data (R1, every 16th). With few pictures, the
discriminator sees all of them changed at random, as strongly as it takes to keep it from being sure of the data.

Choose it for sharp pictures of one kind of thing (faces, emoji, clothes) and for walking through their latent space. It has
no likelihood. Papers: Karras et al. 2020, arXiv 1912.04958 (StyleGAN2); 2019, arXiv 1812.04948 (mapping, truncation);
2020, arXiv 2006.06676 (augmentation); Shen & Zhou 2021, arXiv 2007.06600 (directions in closed form).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from pieria.data.batch import Batch
from pieria.forms import Form, Grid, Label
from pieria.layers import grids
from pieria.layers.augmentation import adapt, augment, notice
from pieria.layers.convolution import halvings
from pieria.layers.labels import Labels
from pieria.layers.modulation import Modulated
from pieria.layers.precision import Precision, products
from pieria.layers.styled import Discriminator, Mapping, Synthesis
from pieria.losses import adversarial
from pieria.models.contract import Losses, Model, Phase, Step, check_space
from pieria.noise import ItemNoise, Noise
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

PATH_EVERY, SLOPE_EVERY = 4, 16  # steps
PATH_MEMORY = 0.99
FEW = 16  # levels: what lies between them would give a made picture away
TYPICAL = 1024  # styles whose mean is the typical one


class StyleGAN2Settings(AnySettings):
    """The two networks and the game."""

    latent: int = Field(128, ge=1, description="numbers in a code z")
    style: int = Field(128, ge=1, description="numbers in a style w")
    mapping: int = Field(4, ge=1, description="layers from z to w")
    channels: int = Field(128, ge=1, description="features at most, at any size")
    budget: int = Field(1024, ge=1, description="features times the longer side at most: how features halve as sizes double")
    mixing: float = Field(0.9, ge=0, le=1, description="share of made pictures whose finer sizes have a style of their own")
    slope_weight: float = Field(0.0, ge=0, description="weight of the discriminator's squared slope at the data, halved; "
                                "0 chooses it by the number of cells")  # fmt: skip
    path_weight: float = Field(2.0, ge=0, description="weight of the path length's squared distance from its mean")
    group: int = Field(4, ge=1, description="pictures whose variety the discriminator sees together")
    augment: Literal["adaptive", "none"] = Field("adaptive", description="change what the discriminator sees, as strongly "
                                                 "as needed")  # fmt: skip
    augment_target: float = Field(0.6, gt=0, lt=1, description="mean sign of the scores of data that augmentation keeps to")
    augment_items: int = Field(100_000, ge=1, description="items in which the strength can go from 0 to 1")
    precision: Precision = Field("auto", description="of products in training")


class StyleGAN2Sampling(AnySettings):
    """How it draws."""

    truncation: float = Field(1.0, ge=0, le=2, description="ψ: how far styles go from the mean; less is more typical")
    detail: float | None = Field(
        None, ge=0, description="scale of the noise at each size; as truncation if unset, at most 1"
    )


class StyleGAN2(Model):
    """Mapping, synthesis and discriminator.

    >>> model = StyleGAN2(StyleGAN2Settings(latent=4, style=8, channels=8), Grid(1, 6, 9, levels=2))
    >>> model.sample(3, StyleGAN2Sampling(truncation=0.7), ItemNoise(seed=0, size=3)).shape
    torch.Size([3, 1, 6, 9])
    """

    Settings = StyleGAN2Settings
    Sampling = StyleGAN2Sampling
    consumes = frozenset({Grid})
    conditions = frozenset({Label})
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {
            "latent": 8, "style": 32, "mapping": 2, "channels": 32, "slope_weight": 1.0, "path_weight": 0.0,
            "augment": "none", "rate": 5e-3,
        },
        "narrow": {},
        "paper": {"latent": 512, "style": 512, "mapping": 8, "channels": 512, "budget": 16384, "augment_items": 500_000},
    }  # fmt: skip
    training_defaults: ClassVar[dict[str, Any]] = {
        "batch": 32,
        "rate": 2.5e-3,
        "schedule": "constant",
        "warmup": 50,
        "weight_decay": 0.0,
        "beta1": 0.0,
        "beta2": 0.99,
        "clip": 0.0,
        "average": 0.998,
    }
    paper = "Karras et al. 2020, Analyzing and Improving the Image Quality of StyleGAN, arXiv:1912.04958"

    settings: StyleGAN2Settings
    form: Grid
    path: Tensor
    strength: Tensor
    signs: Tensor

    def __init__(self, settings: StyleGAN2Settings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        self.labels = Labels(condition)
        cells = grids.channels(self.form)
        sizes = halvings(self.form.height, self.form.width)[::-1]
        widths = [max(1, min(settings.channels, settings.budget // max(size))) for size in sizes]
        classes = self.labels.width
        self.mapping = Mapping(settings.latent, settings.style, settings.mapping, classes)
        self.synthesis = Synthesis(sizes, widths, settings.style, cells)
        self.discriminator = Discriminator(sizes, widths, cells, classes, settings.group)
        # the paper's rule: by the number of cells, for batches of 32
        self.slope_weight = settings.slope_weight or 2e-4 * self.form.height * self.form.width / 32
        self.register_buffer("path", torch.zeros(()))  # the mean length of a path so far
        self.register_buffer("strength", torch.zeros(()))  # the probability of each augmentation
        self.register_buffer("signs", torch.zeros(3))  # sum of the signs of real scores, how many, and steps since

    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Count the labels."""
        self.labels.fit(batches)

    # ---- from codes to pictures --------------------------------------------------------------------------------------

    def styles(self, z: Tensor, labels: Tensor) -> Tensor:
        """The style ``[batch, style]`` of each code ``[batch, latent]``."""
        w: Tensor = self.mapping(z, labels)
        return w

    def _picture(self, styles: Tensor, noise: Noise | None, detail: float = 1.0) -> Tensor:
        """What styles ``[batch, place, style]`` make, as the discriminator reads it."""
        raw = self.synthesis(styles, self._details(noise, detail, styles)).float()
        if noise is None or self._continuous:
            return self._finish(raw, None)
        return self._finish(raw, noise.gumbel("choice", raw.shape[1:]).to(raw))

    @property
    def _continuous(self) -> bool:
        return self.form.ordered or self.form.levels is None

    def _details(self, noise: Noise | None, detail: float, like: Tensor) -> Callable[[int, tuple[int, int]], Tensor | None]:
        if noise is None or detail == 0:
            return lambda place, size: None
        return lambda place, size: detail * noise.normal(f"detail {place}", (1, *size)).to(like)

    def _finish(self, raw: Tensor, gumbel: Tensor | None) -> Tensor:
        """Many levels as they are (the paper bounds nothing), few bounded; of symbols a choice that has a gradient."""
        if not self._continuous:
            return grids.chosen(self.form, raw, gumbel)
        return raw.tanh() if self.form.levels is not None and self.form.levels <= FEW else raw

    # ---- learning ----------------------------------------------------------------------------------------------------

    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """An optimiser for each player, slowed down by as much as its lazy penalty steps more often."""
        players: dict[str, tuple[list[nn.Parameter], int]] = {
            "generator": ([*self.mapping.parameters(), *self.synthesis.parameters()], PATH_EVERY),
            "discriminator": (list(self.discriminator.parameters()), SLOPE_EVERY),
        }
        found = {}
        for name, (parameters, every) in players.items():
            share = every / (every + 1)
            found[name] = [{"params": parameters, "lr_scale": share, "beta_power": share}]
        return found

    def phases(self) -> list[Phase]:
        """The generator moves, now and then its paths are evened; the same of the discriminator and its slope."""
        moves = [Phase("generator", "generator", self.fool)]
        if self.settings.path_weight:
            moves.append(Phase("path length", "generator", self.even_paths, every=PATH_EVERY))
        moves.append(Phase("discriminator", "discriminator", self.judge, after=self.adapt))
        return [*moves, Phase("slope", "discriminator", self.smooth, every=SLOPE_EVERY)]

    def _mixed(self, labels: Tensor, noise: Noise) -> Tensor:
        """Styles for all places, drawn; some items change to a second style on the way."""
        settings, places = self.settings, self.synthesis.styles
        codes = noise.normal("z", (2, settings.latent)).to(labels)
        first, second = (self.styles(codes[:, k], labels)[:, None] for k in range(2))
        mixes = noise.uniform("mixes").to(labels) < settings.mixing
        cut = 1 + noise.integers("cut", places - 1).to(labels.device)  # there are at least two places
        late = mixes[:, None] & (torch.arange(places, device=labels.device) >= cut[:, None])
        return torch.where(late[:, :, None], second, first)

    def _seen(self, picture: Tensor, noise: Noise, name: str) -> Tensor:
        """As the discriminator sees it: augmented."""
        return augment(picture, float(self.strength), noise, name, colours=self._continuous)

    def fool(self, batch: Batch, noise: Noise) -> Losses:
        """The generator learns to make what the discriminator takes for data."""
        with products(self.settings.precision, batch.x.device):
            labels = self.labels(batch.condition, len(batch))
            made = self._seen(self._picture(self._mixed(labels, noise), noise), noise, "made")
            scores = self.discriminator(made, labels)
        return Losses(adversarial.generator_loss("non-saturating", scores.float()), {}, count=len(batch))

    def even_paths(self, batch: Batch, noise: Noise) -> Losses:
        """A step in w changes the picture by as much wherever it is taken (equation 4), looked at for half the batch."""
        labels, half = self.labels(batch.condition, len(batch)), slice(0, max(1, len(batch) // 2))
        styles = self._mixed(labels, noise)[half]
        with products(self.settings.precision, batch.x.device):
            details = self._details(noise, 1.0, styles)
            picture = self.synthesis(styles, lambda place, size: _part(details(place, size), half)).float()
        direction = noise.normal("direction", picture.shape[1:]).to(picture)[half] / (picture[0, 0].numel()) ** 0.5
        (slope,) = torch.autograd.grad((picture * direction).sum(), styles, create_graph=True)
        lengths = slope.square().sum(dim=2).mean(dim=1).sqrt()
        self.path.lerp_(lengths.detach().mean(), 1 - PATH_MEMORY)
        distance = (lengths - self.path).square().mean()
        parts = {"length": lengths.detach().mean()}
        return Losses(self.settings.path_weight * PATH_EVERY * distance, parts, count=len(batch))

    def judge(self, batch: Batch, noise: Noise) -> Losses:
        """The discriminator learns to score data higher than what the generator makes now."""
        with products(self.settings.precision, batch.x.device):
            labels = self.labels(batch.condition, len(batch))
            with torch.no_grad():
                made = self._seen(self._picture(self._mixed(labels, noise), noise), noise, "made")
            on_made = self.discriminator(made, labels).float()
            real = self._seen(grids.read(self.form, batch.x), noise, "real")
            on_real = self.discriminator(real, labels).float()
        loss = adversarial.discriminator_loss("non-saturating", on_real, on_made)
        notice(self.signs, on_real)
        parts = {"real": on_real.mean().detach(), "made": on_made.mean().detach(), "augmentation": self.strength.clone()}
        return Losses(loss, parts, count=len(batch))

    def adapt(self) -> None:
        """Every few steps: more augmentation while the discriminator is too sure of the data, less otherwise."""
        if self.settings.augment != "none":
            adapt(self.strength, self.signs, target=self.settings.augment_target, items=self.settings.augment_items)

    def smooth(self, batch: Batch, noise: Noise) -> Losses:
        """The discriminator is flat at the data, as it sees them (R1)."""
        labels = self.labels(batch.condition, len(batch))
        real = self._seen(grids.read(self.form, batch.x), noise, "real")

        def score(item: Tensor) -> Tensor:
            with products(self.settings.precision, item.device):
                scored: Tensor = self.discriminator(item, labels)
            return scored.float()

        slope = adversarial.r1(score, real)
        return Losses(self.slope_weight * SLOPE_EVERY * slope, {"slope": slope.detach()}, count=len(batch))

    # ---- the latent space --------------------------------------------------------------------------------------------

    @property
    def latents(self) -> dict[str, tuple[int, ...]]:
        """``z``, standard Gaussian; ``w``, the style that it is mapped to; ``w+``, a style for each place."""
        style = self.settings.style
        return {"z": (self.settings.latent,), "w": (style,), "w+": (self.synthesis.styles, style)}

    def prior(self, n: int, noise: Noise) -> Tensor:
        """``n`` codes ``[n, latent]``."""
        assert len(noise) == n
        return noise.normal("z", (self.settings.latent,)).to(self.path)

    @torch.no_grad()
    def typical(self) -> Tensor:
        """The mean style ``[style]``, over many codes (and labels as often as in training)."""
        noise = ItemNoise(seed=0, size=TYPICAL)
        labels = self.labels(self.labels.chosen(None, noise, TYPICAL), TYPICAL)
        return self.styles(self.prior(TYPICAL, noise), labels).mean(dim=0)

    def directions(self, count: int, space: str = "w") -> Tensor:
        """The ``count`` directions of w, ``[count, style]``, in which the features' scales change most (SeFa).

        For "w+" the same step in all places at once, ``[count, place, style]``.
        """
        check_space(self, space)
        maps: list[Tensor] = [layer.affine.weight for layer in self.synthesis.modules() if isinstance(layer, Modulated)]
        _, _, found = torch.linalg.svd(torch.cat(maps).detach(), full_matrices=False)
        if space == "w+":
            return found[:count, None].expand(-1, self.synthesis.styles, -1) / self.synthesis.styles**0.5
        return found[:count]

    @torch.no_grad()
    def decode(
        self,
        z: Tensor,
        space: str = "z",
        options: AnySettings | None = None,
        noise: Noise | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """The pictures that codes stand for: ``[n, latent]``, ``[n, style]`` or ``[n, place, style]``, as ``space`` says.

        Without ``noise`` there is none at any size. Without a condition, a model that learned with one takes the label
        drawn with ``noise``, or the most frequent.
        """
        styles, detail = self._placed(z, space, options, noise, condition)
        return grids.write(self.form, self._picture(styles, noise, detail))

    def expected(self, z: Tensor, space: str = "z", condition: Tensor | None = None) -> Tensor:
        """What codes make without noise, ``[n, channel, height, width]``; it has a slope in ``z``, in every space."""
        return self._picture(self._placed(z, space, None, None, condition)[0], None)

    @torch.no_grad()
    def lift(self, z: Tensor, space: str, condition: Tensor | None = None) -> Tensor:
        """The style of each code (``w``), or that style for every place (``w+``)."""
        styles, _ = self._placed(z, "z", None, None, condition)
        return styles if space == "w+" else styles[:, 0]

    def _placed(
        self, z: Tensor, space: str, options: AnySettings | None, noise: Noise | None, condition: Tensor | None
    ) -> tuple[Tensor, float]:
        """Styles ``[n, place, style]`` of codes of any space, truncated, and the scale of the noise."""
        check_space(self, space)
        chosen = options if isinstance(options, StyleGAN2Sampling) else StyleGAN2Sampling()
        if space == "z":
            z = self.styles(z, self.labels(self.labels.chosen(condition, noise, len(z)), len(z)))
        if chosen.truncation != 1:
            z = torch.lerp(self.typical(), z, chosen.truncation)
        styles = z if space == "w+" else z[:, None].expand(-1, self.synthesis.styles, -1)
        return styles, min(chosen.truncation, 1.0) if chosen.detail is None else chosen.detail

    # ---- drawing -----------------------------------------------------------------------------------------------------

    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """A code from the prior, its style, and what the generator makes of it."""
        return self.decode(self.prior(n, noise), "z", options, noise, condition)

    @torch.no_grad()
    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """Code, style, the picture at each size, and the whole."""
        z = self.prior(1, noise)
        yield Step("prior", note="A code is drawn from a standard Gaussian, knowing nothing of the data.", data={"z": z})
        styles, detail = self._placed(z, "z", options, noise, condition)
        note = "The mapping network makes it a style, which scales the features at every size."
        yield Step("style", note=note, data={"w": styles[:, 0]})
        for features, picture in self.synthesis.steps(styles, self._details(noise, detail, styles)):
            size = f"{features.shape[2]} × {features.shape[3]}"
            note = f"At {size}: what was there, doubled, and what this size adds."
            yield Step(f"size {size}", note=note, data={"picture": picture, "features": features})
        item = grids.write(self.form, self._picture(styles, noise, detail))
        yield Step("item", item, "The sum over all sizes, put into the form of the data.")


def _part(noise: Tensor | None, part: slice) -> Tensor | None:
    return None if noise is None else noise[part]


MODEL = StyleGAN2
