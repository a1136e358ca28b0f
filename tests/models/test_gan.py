import copy

import pytest
import torch

from pieria.data.batch import Batch
from pieria.errors import FormError, UsageError
from pieria.forms import Column, Grid, Label, Row
from pieria.models import weights
from pieria.models.gan import GAN, GANSampling, GANSettings
from pieria.noise import ItemNoise, StepNoise
from tests.models.game import move, play

POINTS = Row((Column("x", "number"), Column("y", "number")))
MIXED = Row(
    (
        Column("pay", "number"),
        Column("job", "category", levels=3),
        Column("job?", "missing", of="job"),
        Column("hours", "integer", scale=5.0, shift=40.0),
    )
)
FORMS = [
    Grid(1, 8, 6, levels=17),
    Grid(1, 3, 3, levels=2),
    Grid(1, 4, 5, levels=3, ordered=False),
    Grid(1, 8, 8, levels=None),
]


def tiny(form, condition=None, **settings):
    torch.manual_seed(0)
    return GAN(GANSettings.of({**GAN.presets["tiny"], **settings}), form, condition).eval()


def some(form, n=16):
    generator = torch.Generator().manual_seed(0)
    if isinstance(form, Grid):
        if form.levels is None:
            return torch.rand(n, *form.shape, generator=generator) * 2 - 1
        return torch.randint(form.levels, (n, *form.shape), generator=generator)
    x = torch.randn(n, len(form.columns), generator=generator)
    if form is MIXED:
        x[:, 1] = torch.randint(3, (n,), generator=generator)
        x[:, 2] = (torch.rand(n, generator=generator) < 0.2).float()
        x[:, 1] *= 1 - x[:, 2]
        x[:, 3] = torch.randint(-5, 6, (n,), generator=generator) / 5
    return x


@pytest.mark.parametrize("form", [*FORMS, POINTS, MIXED])
@pytest.mark.parametrize("condition", [None, Label(("a", "b"))])
def test_every_form_is_drawn_saved_and_explained(form, condition, tmp_path):
    model, x = tiny(form, condition), some(form)
    labels = None if condition is None else torch.arange(2).repeat(8)
    model = play(model, x, 2, labels=labels, batch=8)
    noise = ItemNoise(3, 6)
    asked = None if labels is None else labels[:6]
    drawn = model.sample(6, GANSampling(), noise, asked)
    assert drawn.dtype == x.dtype
    assert drawn.shape[1:] == x.shape[1:]
    part = model.sample(2, GANSampling(), noise.part(2, 4), None if asked is None else asked[2:4])
    torch.testing.assert_close(part, drawn[2:4], atol=1e-5, rtol=1e-5)
    if isinstance(form, Grid) and form.levels is not None:
        assert 0 <= drawn.min() <= drawn.max() < form.levels
    weights.save(model, tmp_path / "model.safetensors")
    assert torch.equal(weights.load(tmp_path / "model.safetensors").sample(6, GANSampling(), noise, asked), drawn)
    one = ItemNoise(3, 1)
    steps = list(model.trace(GANSampling(), one))
    assert torch.equal(steps[-1].x, model.sample(1, GANSampling(), one))
    assert steps[0].x is None
    assert torch.equal(
        model.decode(model.prior(6, noise), condition=asked), model.decode(model.prior(6, noise), condition=asked)
    )


VARIANTS = [
    {"loss": "non-saturating"},
    {"loss": "least-squares"},
    {"loss": "hinge", "spectral": True, "penalty": "none"},
    {"loss": "wasserstein"},
    {"loss": "wasserstein", "critic_steps": 2},
    {"penalty_every": 4},
]


@pytest.mark.parametrize("settings", VARIANTS)
@pytest.mark.parametrize("labels", ["projection", "concatenation"])
def test_a_phase_moves_its_own_group_alone(settings, labels):
    model, x = tiny(Grid(1, 6, 6, levels=4), Label(("a", "b")), labels=labels, **settings), some(Grid(1, 6, 6, levels=4))
    model.train()
    groups = {name: [p for g in entries for p in g["params"]] for name, entries in model.groups().items()}
    assert {id(p) for ps in groups.values() for p in ps} == {id(p) for p in model.parameters()}
    for phase in model.phases():
        before = {name: copy.deepcopy(parameters) for name, parameters in groups.items()}
        optimiser = torch.optim.SGD(groups[phase.group], lr=0.1)
        losses = move(model, optimiser, phase, Batch(x, condition=torch.arange(2).repeat(8)))
        assert torch.isfinite(losses.loss.detach())
        for name, parameters in groups.items():
            same = all(torch.equal(p, q) for p, q in zip(parameters, before[name], strict=True))
            assert same == (name != phase.group)


def test_lazy_penalties_weigh_as_much_as_regular_ones():
    x, form = some(POINTS), POINTS
    eager, lazy = tiny(form, penalty_every=1), tiny(form, penalty_every=4)
    assert [p.name for p in eager.phases()] == ["discriminator", "generator"]
    assert [(p.name, p.every) for p in lazy.phases()] == [("discriminator", 1), ("penalty", 4), ("generator", 1)]
    noise = StepNoise(0, 0, "any", len(x))
    bare = float(lazy.judge(Batch(x), noise).loss.detach())
    penalty = float(lazy.smooth(Batch(x), noise).loss.detach())
    assert float(eager.judge(Batch(x), noise).loss.detach()) == pytest.approx(bare + penalty / 4, rel=1e-5)


def test_labels_are_honoured():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(2).repeat(500)
    x = torch.stack([y * 4 - 2 + 0.1 * torch.randn(1000, generator=generator), torch.randn(1000, generator=generator)], 1)
    model = play(tiny(POINTS, Label(("left", "right"))), x, 150, labels=y, betas=(0.0, 0.99), rate=2e-3)
    wanted = torch.arange(2).repeat(100)
    drawn = model.sample(200, GANSampling(), ItemNoise(0, 200), wanted)
    assert ((drawn[:, 0] > 0).long() == wanted).float().mean() > 0.95


@pytest.mark.parametrize("settings", VARIANTS)
def test_it_learns_two_clusters(settings):
    generator = torch.Generator().manual_seed(0)
    side = torch.randint(2, (2000, 1), generator=generator) * 4.0 - 2
    x = torch.cat([side, side], dim=1) + 0.2 * torch.randn(2000, 2, generator=generator)
    model = play(tiny(POINTS, modes=1, **settings), x, 500, betas=(0.0, 0.99), rate=1e-3)
    drawn = model.sample(1000, GANSampling(), ItemNoise(0, 1000))
    left, right = (drawn < 0).all(dim=1), (drawn > 0).all(dim=1)
    assert (left | right).float().mean() > 0.7  # half of them by chance
    assert 0.05 < left.float().mean() < 0.95


def test_a_mixed_row_is_of_its_form():
    model = play(tiny(MIXED), some(MIXED, 500), 60, batch=64)
    drawn = model.sample(300, GANSampling(), ItemNoise(0, 300))
    assert set(drawn[:, 1].tolist()) <= {0.0, 1.0, 2.0}
    assert (drawn[drawn[:, 2] == 1, 1] == 0).all()
    hours = drawn[:, 3] * 5
    torch.testing.assert_close(hours, hours.round(), atol=1e-4, rtol=0)


def test_nonsense_is_refused():
    with pytest.raises(UsageError, match="latent space"):
        tiny(POINTS).decode(torch.zeros(1, 4), space="w")
    with pytest.raises(UsageError, match="without a condition"):
        tiny(POINTS).sample(1, GANSampling(), ItemNoise(0, 1), torch.zeros(1).long())
    with pytest.raises(FormError, match="5 × 5"):
        tiny(Grid(1, 4, 4, levels=2)).real(torch.zeros(1, 1, 5, 5).long())


@pytest.mark.parametrize("preset", GAN.presets)
def test_every_preset_is_built(preset):
    model = GAN(GANSettings.of(GAN.presets[preset]), Grid(1, 8, 8, levels=17))
    assert model.sample(2, GAN.Sampling.of({}), ItemNoise(0, 2)).shape == (2, 1, 8, 8)
