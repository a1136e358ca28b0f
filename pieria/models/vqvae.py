"""VQ-VAE: a picture becomes a small grid of symbols out of a code book, and a second model learns how symbols go together.

An encoder turns a picture into a small field of features; each is replaced by the nearest vector of a **code book**, so
that a picture is a few dozen symbols; a decoder writes the picture back from their vectors. The gradient passes through
the replacement as if it were not there, features are drawn to their vectors (``commitment``), and vectors are running means
of the features that chose them. Then the encoder rests, and a **prior** learns the grids of symbols: any family that takes
symbols in order (``gpt``, ``ngram``, …) or grids of them (``mixture``, …). One ``fit`` teaches both. A new picture is a
grid of symbols drawn from the prior, decoded: the code says what goes where, so pictures are sharper than a VAE's.

- ``depth`` above 1 names what is left over by further symbols (residual quantisation).
- ``quantiser=gumbel`` learns the book by gradient through drawn choices instead (the discrete VAE of DALL-E).

Its likelihood is a bound. A picture is drawn as symbols ``c`` with ``p(c)``, then cells with ``p(x | c)``; of all the ways
to ``x`` the encoder knows one, ``ĉ``, so ``log p(x) ≥ log p(ĉ) + log p(x | ĉ)``. There is none if the prior has none.

Papers: van den Oord et al. 2017 (arXiv 1711.00937); Razavi et al. 2019 (1906.00446); Lee et al. 2022 (2203.01941, residual);
Ramesh et al. 2021 (2102.12092, dVAE).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from pieria.data.batch import Batch, check
from pieria.errors import UsageError
from pieria.forms import Form, Grid, Label, Tokens
from pieria.layers import grids
from pieria.layers.code_grids import Grow, Shrink, sizes
from pieria.layers.codebook import CodeBook, SoftCodeBook
from pieria.layers.labels import Labels
from pieria.layers.precision import Precision, products
from pieria.losses.observation import over_grid
from pieria.models import parts
from pieria.models.contract import Likelihood, Losses, Model, Phase, Scores, Stage, Step, check_space, device_of
from pieria.noise import ItemNoise, Noise, StepNoise, key_of
from pieria.settings import Field
from pieria.settings import Settings as AnySettings

STARTING_FEATURES = 20_000  # features of training items that the code book starts from
SMALL = 8  # the longer side of the grid of symbols, which halving stops at


class VQVAESettings(AnySettings):
    """What a VQ-VAE is made of."""

    codes: int = Field(256, ge=2, description="vectors in the code book (in each, of several levels)")
    width: int = Field(32, ge=1, description="numbers in a vector")
    depth: int = Field(1, ge=1, description="symbols for each place, each naming what the one before left over")
    quantiser: Literal["nearest", "gumbel"] = Field(
        "nearest", description="the nearest vector, or drawn by odds that are learned (the discrete VAE)"
    )
    halvings: int | None = Field(
        None, ge=0, description="how often height and width are halved; unset goes on to 8 at most, and once from 4"
    )
    channels: int = Field(64, ge=2, description="features of each place inside the networks")
    blocks: int = Field(2, ge=0, description="residual blocks in each network")
    observation: Literal["auto", "bernoulli", "gaussian", "logistic", "categorical"] = Field(
        "auto", description="the law of a grid's cells; auto goes by the levels"
    )
    commitment: float = Field(0.25, ge=0, description="how strongly features are drawn to their vectors")
    decay: float = Field(0.99, ge=0, lt=1, description="memory of the running means that the vectors are")
    revive: float = Field(
        0.1, ge=0, lt=1, description="a vector chosen less than this share of its equal part is moved to a feature; 0: never"
    )
    kl: float = Field(1.0, ge=0, description="gumbel: weight of the nats that the choices tell")
    cooling: float = Field(1000.0, gt=0, description="gumbel: steps in which the softmax's temperature falls by a factor e")
    prior: str = Field("gpt", description="the family that learns the symbols, as gpt, gpt:nano or mixture (family:preset)")
    prior_settings: tuple[str, ...] = Field((), description="what differs from its preset, as width=128,layers=3")
    share: float = Field(0.5, gt=0, lt=1, description="of the budget, the code book's; the prior has the rest")
    precision: Precision = Field(
        "auto", description="of matrix products in training; auto is bfloat16 where the processor multiplies it natively"
    )


class VQVAESampling(AnySettings):
    """How a VQ-VAE draws."""

    temperature: float = Field(1.0, ge=0, description="the prior's: below 1 more typical symbols, 0 the likeliest")
    top_p: float = Field(1.0, gt=0, le=1, description="the prior's: only symbols that together have this share")
    observation: Literal["draw", "typical"] = Field(
        "draw", description="draw each cell from its law (what the model says), or take the most typical (cleaner)"
    )


class VQVAE(Model):
    """A code book between two networks, and a prior over grids of its symbols.

    ``log_prob`` is a lower bound in nats of the form's own tensors, if the prior has a likelihood that is exact or a bound.

    >>> model = VQVAE(VQVAESettings(codes=4, width=2, channels=4, prior="gpt:tiny"), Grid(1, 4, 4, levels=2))
    >>> model.sample(3, VQVAESampling(), ItemNoise(seed=0, size=3)).shape
    torch.Size([3, 1, 4, 4])
    """

    Settings = VQVAESettings
    Sampling = VQVAESampling
    consumes = frozenset({Grid})
    conditions = frozenset({Label})
    likelihood: ClassVar[Likelihood] = "bound"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {
            "codes": 32, "width": 4, "channels": 16, "blocks": 1, "prior": "gpt:tiny", "precision": "float32",
        },
        "small": {"codes": 64, "channels": 32, "prior_settings": ("layers=3", "width=96", "dropout=0.3")},
        "fashion": {"codes": 256, "channels": 64, "share": 0.4, "prior_settings": ("layers=4", "width=128")},
        "residual": {"codes": 128, "depth": 2, "prior_settings": ("layers=4", "width=128")},
        "dvae": {"quantiser": "gumbel", "prior_settings": ("layers=4", "width=128")},
        "counted": {"prior": "ngram:tiny", "share": 0.99},
    }  # fmt: skip
    training_defaults: ClassVar[dict[str, Any]] = {
        "batch": 64,
        "rate": 1e-3,
        "schedule": "cosine",
        "warmup": 100,
        "final": 0.02,
        "weight_decay": 0.1,
        "beta2": 0.99,
    }
    paper = "van den Oord, Vinyals and Kavukcuoglu 2017, Neural discrete representation learning, arXiv:1711.00937"

    settings: VQVAESettings

    def __init__(self, settings: VQVAESettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form, condition)
        self.coder = Coder(settings, form, condition)
        family, preset = parts.family_of(settings.prior)
        height, width = self.coder.field
        self.flat = Tokens in family.consumes
        if not self.flat and Grid not in family.consumes:
            raise UsageError(
                f"prior = {settings.prior}, which learns from {' and '.join(sorted(k.kind for k in family.consumes))}",
                "a family that learns from tokens or grids",
                "'pieria models' lists what each learns from",
            )
        # an item's symbols, none of which ends it: one symbol more stands for the end, and is never seen nor drawn
        codes: Form = (
            Tokens(settings.codes + 1, height * width * settings.depth, end=settings.codes)
            if self.flat
            else Grid(settings.depth, height, width, levels=settings.codes, ordered=False)
        )
        own = dict(_pair(said) for said in settings.prior_settings)
        self.prior_model = parts.named(settings.prior, codes, condition, own)
        # the prior learns at its own family's rate where the code book learns at its own
        rate = preset.get("rate", family.training_defaults.get("rate", 1e-3))
        self.pace = float(rate) / float(self.training_defaults["rate"])
        if self.prior_model.likelihood not in ("exact", "bound"):
            self.likelihood = "none"  # type: ignore[misc]  # as true of the whole as of its part

    def stages(self) -> list[Stage]:
        """The code book with its two networks, then the prior over what they make of the training pictures."""
        share = self.settings.share
        return [
            Stage("code book", self.coder, _same, share),
            Stage("prior", self.prior_model, self._symbols, 1 - share, rate=self.pace),
        ]

    # ---- pictures, grids of symbols, and what the prior calls them ------------------------------------------------------

    def _symbols(self, batch: Batch) -> Batch:
        """The pictures as the prior reads them."""
        return Batch(self._given(self.coder.encode(batch.x.to(device_of(self.coder)))), condition=batch.condition)

    def _given(self, codes: Tensor) -> Tensor:
        """Codes ``[batch, depth, height, width]`` in the prior's form: place by place, each with all its levels."""
        return codes.permute(0, 2, 3, 1).flatten(1) if self.flat else codes

    def _taken(self, x: Tensor) -> Tensor:
        """What the prior drew, as codes ``[batch, depth, height, width]``."""
        if not self.flat:
            return x
        # an end cannot be drawn where the prior can be told so; elsewhere it counts as the last symbol
        x = x.clamp(max=self.settings.codes - 1)
        return x.unflatten(1, (*self.coder.field, self.settings.depth)).permute(0, 3, 1, 2)

    def _drawn(self, n: int, options: VQVAESampling, noise: Noise, condition: Tensor | None) -> Tensor:
        """Codes ``[n, depth, height, width]`` from the prior."""
        prior = self.prior_model
        wanted: dict[str, Any] = {"temperature": options.temperature, "top_p": options.top_p}
        for name, value in wanted.items():
            if value != 1 and name not in prior.Sampling.model_fields:
                got = f"{name} = {value:g} with prior = {self.settings.prior}"
                raise UsageError(got, f"a prior that draws with {name}, as gpt does", "Leave it out")
        if isinstance(prior.form, Tokens):
            wanted["min_length"] = prior.form.length
        own = prior.Sampling.of({name: value for name, value in wanted.items() if name in prior.Sampling.model_fields})
        # draws of its own: what both call by one name is not one number
        if isinstance(noise, ItemNoise):
            noise = ItemNoise(key_of(noise.seed, "prior"), 0, items=noise.items)
        with torch.no_grad():
            return self._taken(prior.sample(n, own, noise, condition).to(device_of(self.coder)))

    # ---- likelihood --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def log_prob(self, batch: Batch) -> Tensor:
        """A lower bound in nats ``[batch]``: what the prior says of the picture's symbols, and they of the picture."""
        prior = self.prior_model
        if self.likelihood == "none" or not isinstance(prior, Scores):
            raise UsageError(f"prior = {self.settings.prior} has no likelihood", "a prior that has", "Such as gpt or ngram")
        check(self.form, batch.x)
        labels = self.coder.labels.required(batch.condition, len(batch))
        codes = self.coder.encode(batch.x)
        told = prior.log_prob(Batch(self._given(codes), condition=labels)).to(batch.x.device).double()
        return told + self.coder.observation.log_prob(self.coder.generate(self.coder.vectors(codes)), batch.x)

    # ---- the latent space --------------------------------------------------------------------------------------------

    @property
    def latents(self) -> dict[str, tuple[int, ...]]:
        """Two spaces: ``z``, the vectors of the symbols, and ``codes``, the symbols themselves."""
        return {"z": (self.settings.width, *self.coder.field), "codes": (self.settings.depth, *self.coder.field)}

    def prior(self, n: int, noise: Noise) -> Tensor:
        """The vectors of ``n`` grids of symbols, ``[n, width, h, w]``."""
        labels = self.coder.labels.chosen(None, noise, n)
        return self.coder.vectors(self._drawn(n, VQVAESampling(), noise, labels)).detach()

    @torch.no_grad()
    def encode(self, x: Tensor, space: str = "z", condition: Tensor | None = None) -> Tensor:
        """The symbols of each picture, long ``[batch, depth, h, w]``, or their vectors ``[batch, width, h, w]``."""
        check_space(self, space)
        check(self.form, x)
        codes = self.coder.encode(x)
        return codes if space == "codes" else self.coder.vectors(codes)

    @torch.no_grad()
    def decode(
        self,
        z: Tensor,
        space: str = "z",
        options: AnySettings | None = None,
        noise: Noise | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """The pictures of symbols or of vectors; without ``noise`` the most typical ones."""
        check_space(self, space)
        if space == "codes":
            check(Grid(self.settings.depth, *self.coder.field, levels=self.settings.codes, ordered=False), z, "the codes")
            z = self.coder.vectors(z)
        raw = self.coder.generate(z)
        options = options if isinstance(options, VQVAESampling) else VQVAESampling.of({})
        if noise is None or options.observation == "typical":
            return self.coder.observation.typical(raw)
        return self.coder.observation.draw(raw, noise)

    # ---- drawing -----------------------------------------------------------------------------------------------------

    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """Symbols from the prior, and the picture that they stand for."""
        assert isinstance(options, VQVAESampling)
        labels = self.coder.labels.chosen(condition, noise, n)
        return self.decode(self._drawn(n, options, noise, labels), "codes", options, noise)

    @torch.no_grad()
    def trace(self, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Iterator[Step]:
        """The symbols row by row, each time with the picture that they stand for; then cells are drawn."""
        assert isinstance(options, VQVAESampling)
        label = self.coder.labels.chosen(condition, noise, 1)
        if label is not None and isinstance(self.condition, Label):
            yield Step("label", note=f"The class is {self.condition.classes[int(label)]!r}.", data={"label": label})
        codes = self._drawn(1, options, noise, label)
        vectors = self.coder.vectors(codes)
        note = "The prior draws symbols; where there are none yet, the decoder is given zeros."
        for row in range(codes.shape[2]):
            so_far = vectors.clone()
            so_far[:, :, row + 1 :] = 0
            yield Step(f"row {row + 1} of the symbols", self.decode(so_far), note, {"codes": codes[:, :, : row + 1]})
        x = self.decode(codes, "codes", options, noise)
        drawn = options.observation == "draw"
        yield Step("observation", x, "Each cell is drawn from its law." if drawn else "The most typical picture is taken.")


class Coder(Model):
    """The two networks with the code book between them: what the first stage learns (it is not a family of its own)."""

    Settings = VQVAESettings
    consumes = VQVAE.consumes
    presets: ClassVar = {"tiny": {}}
    paper = VQVAE.paper
    validation_unit: ClassVar[str] = "nats per item written back"

    settings: VQVAESettings
    form: Grid

    def __init__(self, settings: VQVAESettings, form: Form, condition: Form | None = None) -> None:
        super().__init__(settings, form)
        s, form = settings, self.form
        if s.quantiser == "gumbel" and s.depth > 1:
            raise UsageError(f"quantiser=gumbel with depth={s.depth}", "depth=1", "Residual quantisation takes the nearest")
        self.labels = Labels(condition)
        self.observation = over_grid(form, s.observation)
        halvings = _halvings(form) if s.halvings is None else s.halvings
        self.field = sizes(form.height, form.width, halvings)[-1]
        self.book: CodeBook | SoftCodeBook = (
            CodeBook(s.codes, s.width, s.depth, decay=s.decay, revive=s.revive)
            if s.quantiser == "nearest"
            else SoftCodeBook(s.codes, s.width, decay=s.decay, cooling=s.cooling)
        )
        self.read = Shrink(grids.channels(form), self.book.inputs, s.channels, halvings, s.blocks)
        self.write = Grow(s.width, self.observation.outputs, form.height, form.width, s.channels, halvings, s.blocks)

    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """The code book starts from k-means of the features of some training items; labels are counted."""
        self.labels.fit(batches)
        found, points = [], 0
        for batch in batches():
            with torch.no_grad():
                found.append(self.features(batch.x.to(device_of(self))).flatten(0, 1))
            points += len(found[-1])
            if points >= STARTING_FEATURES:
                break
        self.book.begin(torch.cat(found)[:STARTING_FEATURES], StepNoise(0, 0, "code book", 1))

    # ---- the networks ------------------------------------------------------------------------------------------------

    def features(self, x: Tensor) -> Tensor:
        """What the encoder sees at each place of the field, ``[batch, place, feature]``."""
        seen: Tensor = self.read(grids.read(self.form, x))
        return seen.flatten(2).transpose(1, 2)

    def encode(self, x: Tensor) -> Tensor:
        """The symbols, long ``[batch, depth, h, w]``."""
        with torch.no_grad():
            return self.book.codes(self.features(x)).transpose(1, 2).unflatten(2, self.field)

    def vectors(self, codes: Tensor) -> Tensor:
        """The vectors of symbols ``[batch, depth, h, w]``, summed over the levels: ``[batch, width, h, w]``."""
        return self.book.look_up(codes.movedim(1, -1)).movedim(-1, 1)

    def generate(self, vectors: Tensor) -> Tensor:
        """What the observation law reads: ``[batch, width, h, w]`` to ``[batch, channel, height, width]``."""
        raw: Tensor = self.write(vectors)
        return raw

    # ---- learning ----------------------------------------------------------------------------------------------------

    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """One optimiser for the networks; the vectors are running means."""
        return {"model": [{"params": list(self.parameters()), "weight_decay": 0.0}]}

    def phases(self) -> list[Phase]:
        """Write the picture back; then the code book takes in what chose its vectors."""
        return [Phase("writing back", "model", self.loss, after=self.book.update)]

    def loss(self, batch: Batch, noise: Noise) -> Losses:
        """Nats a cell to write the picture back from its symbols, plus what keeps features near to their vectors."""
        with products(self.settings.precision, batch.x.device):
            features = self.features(batch.x).float()
        chosen, kept = self.book.learn(features, noise)
        with products(self.settings.precision, batch.x.device):
            raw = self.generate(chosen.transpose(1, 2).unflatten(2, self.field)).float()
        cells, places = batch.x[0].numel(), features.shape[1]
        written = -self.observation.log_prob(raw, batch.x).mean() / cells
        weight = self.settings.commitment if self.settings.quantiser == "nearest" else self.settings.kl * places / cells
        told = {"reconstruction": written.detach(), "features": kept.detach(), "codes used": self.book.used().detach()}
        return Losses(written + weight * kept, told, count=len(batch))

    @torch.no_grad()
    def validate(self, batch: Batch, noise: Noise) -> Losses:
        """Nats to write each picture back from its symbols."""
        raw = self.generate(self.vectors(self.encode(batch.x)))
        return Losses(-self.observation.log_prob(raw, batch.x).mean(), count=len(batch))

    def sample(self, n: int, options: AnySettings, noise: Noise, condition: Tensor | None = None) -> Tensor:
        """Not drawn from by itself: `VQVAE` draws."""
        raise UsageError("a code book was asked to draw", "a prior over its symbols", "Ask the VQVAE")


def _halvings(form: Grid) -> int:
    """How often a picture is halved: to at most 8 places a side, and at least once where there are four cells."""
    count = 0
    while max(sizes(form.height, form.width, count)[-1]) > SMALL:
        count += 1
    return max(count, 1) if min(form.height, form.width) >= 4 else count


def _pair(said: str) -> tuple[str, str]:
    name, sign, value = said.partition("=")
    if not sign:
        raise UsageError(f"prior_settings has {said!r}", "name=value, with commas between several", "Such as width=128")
    return name.strip(), value.strip()


def _same(batch: Batch) -> Batch:
    return batch


MODEL = VQVAE
