import copy
import os
import signal

import pytest
import torch

from pieria.data.batch import Batch
from pieria.data.examples import ItemExamples
from pieria.errors import FormError, UsageError
from pieria.forms import Column, Grid, Label, Row
from pieria.models import weights
from pieria.models.gan import GAN, GANSampling, GANSettings
from pieria.noise import ItemNoise, StepNoise
from pieria.settings import assign
from pieria.training.loop import learn
from pieria.training.plan import Plan
from pieria.training.watch import Watch
from pieria.training.workspace import Workspace, read_log
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
NETWORKS = [
    {"discriminator_rate": 2.0},
    {"network": "dcgan"},
    {"network": "dcgan", "penalty": "none"},
    {"network": "resnet"},
    {"network": "mlp", "augment": "differentiable"},
    {"augment": "differentiable"},
    {"augment": "adaptive"},
    {"precision": "bfloat16"},
]


@pytest.mark.parametrize("settings", [*VARIANTS, *NETWORKS])
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


@pytest.mark.parametrize(
    "form", [Grid(1, 5, 9, levels=256), Grid(3, 33, 20, levels=None), Grid(1, 17, 4, levels=3, ordered=False)]
)
@pytest.mark.parametrize("network", ["dcgan", "resnet"])
def test_networks_for_pictures_of_any_size_are_played_drawn_and_explained(form, network):
    model, x = tiny(form, Label(("a", "b")), network=network, augment="differentiable"), some(form)
    model = play(model, x, 2, labels=torch.arange(2).repeat(8), batch=8)
    drawn = model.sample(4, GANSampling(), ItemNoise(3, 4))
    assert drawn.shape[1:] == x.shape[1:]
    torch.testing.assert_close(model.sample(2, GANSampling(), ItemNoise(3, 4).part(2, 4)), drawn[2:], atol=1e-4, rtol=1e-4)
    one = ItemNoise(3, 1)
    assert torch.equal(list(model.trace(GANSampling(), one))[-1].x, model.sample(1, GANSampling(), one))


def test_the_players_learn_at_their_own_rates():
    x = some(Grid(1, 6, 6, levels=4))
    moved = {}
    for pace in (1.0, 4.0):
        model = tiny(Grid(1, 6, 6, levels=4), discriminator_rate=pace)
        before = copy.deepcopy(model.state_dict())
        learn(
            model, ItemExamples(model.form, x), None, Plan(steps=1, batch=8, rate=1e-3, warmup=1, beta1=0.0, weight_decay=0)
        )
        for player in ("generator", "discriminator"):
            name = f"{player}.score.weight" if player == "discriminator" else f"{player}.first.weight"
            moved[player, pace] = float((model.state_dict()[name] - before[name]).abs().max())
    assert moved["generator", 4.0] == pytest.approx(moved["generator", 1.0], rel=1e-3)
    assert moved["discriminator", 4.0] == pytest.approx(4 * moved["discriminator", 1.0], rel=1e-3)


def clustered(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randint(16, (10, 1, 8, 8), generator=torch.Generator().manual_seed(9))
    noise = torch.randint(-1, 2, (n, 1, 8, 8), generator=generator)
    return (kinds[torch.randint(10, (n,), generator=generator)] + noise).clamp(0, 15)


@pytest.mark.parametrize("network", ["convolution", "mlp", "dcgan"])
def test_a_collapsed_generator_is_told_as_collapsed(network):
    form = Grid(1, 8, 8, levels=16)
    model, x = tiny(form, network=network), clustered(300)
    batch, noise = Batch(x, index=torch.arange(300)), ItemNoise(0, 300)
    model.sample = lambda n, options, noise, condition=None: clustered(n, 1)
    varied = model.validate(batch, noise)
    model.sample = lambda n, options, noise, condition=None: clustered(1, 1).expand(n, -1, -1, -1)
    collapsed = model.validate(batch, noise)
    assert float(varied.loss) < 0.1
    assert float(varied.parts["covered"]) > 0.8 * float(varied.parts["clusters"])
    assert float(collapsed.loss) > 0.8
    assert float(collapsed.parts["covered"]) == 1


def test_looks_tell_how_many_clusters_are_covered_all_at_once_and_the_same_in_parts():
    form = Grid(1, 8, 8, levels=16)
    lines = []
    model = tiny(form)
    plan = Plan.layered(GAN.training_defaults, {"steps": 50, "batch": 16, "evaluate_every": 25})
    train, held = ItemExamples(form, clustered(200)), ItemExamples(form, clustered(100, 1))
    history = learn(model, train, held, plan, watch=Watch(report=lines.append))
    seen = [line for line in lines if "validation" in line]
    assert [line["step"] for line in seen] == [25, 50]
    assert all(set(line["validation_parts"]) == {"clusters", "covered"} for line in seen)
    assert all(0 <= line["validation"] <= 1 for line in seen)
    assert history.ended == "done"
    assert history.unit == GAN.validation_unit
    batch = held.batch(range(100))
    assert float(model.validate(batch, ItemNoise(0, 100)).loss) == pytest.approx(history.held_out)


def stopped_after(steps):
    """Somebody presses Ctrl-C in the step after these."""
    done = []

    def progress(pace):
        done.append(pace)
        if len(done) == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    return Watch(progress=progress)


@pytest.mark.parametrize("network", ["dcgan", "resnet"])
def test_a_stopped_run_goes_on_to_the_same_bits_statistics_strength_and_looks(network, tmp_path):
    form = Grid(1, 8, 8, levels=16)
    train, held = ItemExamples(form, clustered(200)), ItemExamples(form, clustered(60, 1))
    given = {"steps": 15, "batch": 8, "evaluate_every": 4, "report_every": 2, "threads": 1}
    steered = {"augment_items": 100, "augment_target": 0.01}
    plan, ends, logs = Plan.layered(GAN.training_defaults, given), [], []
    for name, after in (("whole", 99), ("halves", 7)):
        for begun in (False, True)[: 1 if after == 99 else 2]:
            model, path = tiny(form, network=network, augment="adaptive", **steered), tmp_path / name
            with Workspace.open(path) if begun else Workspace.create(path, "", {"family": "gan"}) as space:
                watch = Watch() if begun else stopped_after(after)
                learn(model, train, held, plan, workspace=space, resume=begun, watch=watch)
        ends.append(model.state_dict())
        lines = [line for line in read_log(path) if "validation_parts" in line]
        logs.append([(line["step"], line["validation"], line["validation_parts"]) for line in lines])
    assert float(ends[0]["strength"]) > 0 or float(ends[0]["signs"][1]) > 0
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert logs[0] == logs[1]
    assert [step for step, *_ in logs[0]] == [4, 8, 12, 15]


def test_rows_have_clusters_too():
    model, x = tiny(MIXED), some(MIXED, 300)
    model.prepare(lambda: [Batch(x)])
    looked = model.validate(Batch(x), ItemNoise(0, 300))
    assert 0 <= float(looked.loss) <= 1
    assert float(looked.parts["clusters"]) > 5


def test_adaptive_augmentation_grows_while_the_discriminator_is_sure():
    form = Grid(1, 6, 6, levels=4)
    model = tiny(form, augment="adaptive", augment_items=500)
    with torch.no_grad():
        model.discriminator.score.bias.fill_(100.0)  # every score is high
    x = some(form)
    phase = model.phases()[0]
    before = model._seen(model.real(x), StepNoise(0, 0, "a", 16), "real")
    assert torch.equal(before, model.real(x))
    for step in range(8):
        phase.loss(Batch(x), StepNoise(0, step, phase.name, 16))
        phase.after()
    assert float(model.strength) == pytest.approx(8 * 16 / 500)
    after = model._seen(model.real(x), StepNoise(0, 0, "a", 16), "real")
    assert not torch.equal(after, model.real(x))


@pytest.mark.parametrize(("loss", "bias"), [("least-squares", 0.4), ("wasserstein", 100.0)])
def test_a_discriminator_that_cannot_tell_is_not_sure_whatever_its_scores_are(loss, bias):
    form = Grid(1, 6, 6, levels=4)
    model = tiny(form, augment="adaptive", augment_items=500, loss=loss)
    with torch.no_grad():
        model.discriminator.score.weight.zero_()  # one score for all: below what least squares want of data, or anywhere
        model.discriminator.score.bias.fill_(bias)
    phase = model.phases()[0]
    for step in range(4):
        phase.loss(Batch(some(form)), StepNoise(0, step, phase.name, 16))
        phase.after()
    assert float(model.strength) == 0


def test_nonsense_is_refused():
    with pytest.raises(UsageError, match="at least 4"):
        tiny(Grid(1, 3, 8, levels=2), network="resnet")
    with pytest.raises(UsageError, match="for rows"):
        tiny(POINTS, augment="adaptive")
    with pytest.raises(UsageError, match="make and read pictures"):
        tiny(POINTS, network="resnet")
    with pytest.raises(UsageError, match="latent space"):
        tiny(POINTS).decode(torch.zeros(1, 4), space="w")
    with pytest.raises(UsageError, match="without a condition"):
        tiny(POINTS).sample(1, GANSampling(), ItemNoise(0, 1), torch.zeros(1).long())
    with pytest.raises(FormError, match="5 × 5"):
        tiny(Grid(1, 4, 4, levels=2)).real(torch.zeros(1, 1, 5, 5).long())


@pytest.mark.parametrize("preset", GAN.presets)
def test_every_preset_is_built(preset):
    mine, _ = assign(GAN.presets[preset], (GANSettings, Plan))
    model = GAN(GANSettings.of(mine), Grid(1, 8, 8, levels=17))
    assert model.sample(2, GAN.Sampling.of({}), ItemNoise(0, 2)).shape == (2, 1, 8, 8)
