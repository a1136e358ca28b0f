import math
import weakref

import pytest
import torch
from sklearn.datasets import load_digits

from pieria.data.batch import Batch
from pieria.errors import FormError, UsageError
from pieria.evaluation.distances import frechet
from pieria.evaluation.features import picture_features
from pieria.forms import Column, Grid, Label, Row, Tokens
from pieria.models import weights
from pieria.models.contract import learned_numbers
from pieria.models.diffusion import Diffusion, DiffusionSampling, DiffusionSettings
from pieria.noise import ItemNoise
from pieria.sampling.solvers import SOLVERS
from tests.models.game import play

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
    Grid(1, 8, 9, levels=17),
    Grid(1, 3, 3, levels=2),
    Grid(1, 4, 5, levels=3, ordered=False),
    Grid(2, 8, 8, levels=None),
]
QUICK = DiffusionSampling(steps=4)


def tiny(form, condition=None, **settings):
    torch.manual_seed(0)
    small = {**Diffusion.presets["tiny"], "channels": 8, "width": 32, "terms": 8}
    return Diffusion(DiffusionSettings.of({**small, **settings}), form, condition).eval()


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


@pytest.mark.parametrize("process", ["ddpm", "edm", "flow"])
@pytest.mark.parametrize("form", [*FORMS, POINTS, MIXED])
def test_every_form_is_drawn_scored_filled_saved_and_explained(form, process, tmp_path):
    condition = Label(("a", "b")) if form in (FORMS[0], MIXED) else None
    model, x = tiny(form, condition, process=process), some(form)
    labels = None if condition is None else torch.arange(2).repeat(8)
    model = play(model, x, 2, labels=labels, batch=8)
    torch.testing.assert_close(model.write(model.read(x)), x, atol=1e-3, rtol=1e-3)
    noise = ItemNoise(3, 6)
    asked = None if labels is None else labels[:6]
    for solver in sorted(set(SOLVERS) - {"consistency"}):
        drawn = model.sample(6, QUICK.changed(solver=solver), noise, asked)
        assert drawn.dtype == x.dtype
        assert drawn.shape[1:] == x.shape[1:]
        assert torch.isfinite(drawn.float()).all()
    batch = Batch(x, condition=labels)
    assert torch.isfinite(model.log_prob(batch)).all()
    alone = model.log_prob(batch.rows(slice(3, 4)))
    torch.testing.assert_close(alone, model.log_prob(batch)[3:4], atol=1e-2, rtol=1e-3)
    mask = torch.zeros_like(x, dtype=torch.bool)
    mask.view(len(mask), -1)[:, ::2] = True
    filled = model.fill(x, mask, QUICK, ItemNoise(1, 16), labels)
    assert torch.equal(filled[mask], x[mask])
    assert not torch.equal(filled, x)
    again = model.sample(6, QUICK, noise, asked)
    weights.save(model, tmp_path / "model.safetensors")
    assert torch.equal(weights.load(tmp_path / "model.safetensors").sample(6, QUICK, noise, asked), again)
    for solver in ("dpm++", "ddpm"):
        one, options = ItemNoise(3, 1), QUICK.changed(solver=solver)
        steps = list(model.trace(options, one))
        assert torch.equal(steps[-1].x, model.sample(1, options, one))
        assert len(steps) == 5 + (condition is not None)
    assert model.encode(x, condition=labels).shape == (16, *model.latents["z"])


PREDICTIONS = [{"prediction": p, "noise_schedule": s} for p in ("v", "noise", "x") for s in ("cosine", "linear")]


@pytest.mark.parametrize("settings", [*PREDICTIONS, {"process": "edm"}, {"process": "flow"}])
def test_what_is_told_is_turned_into_the_clean_item(settings):
    model = tiny(POINTS, **settings)
    t = model.process.chain()[[0, 300, 700, 990]]
    alpha, sigma = model.process.level(t)
    x, noise = torch.randn(4, 2), torch.randn(4, 2)
    a, b = model.target(alpha, sigma)
    seen = (alpha[:, None] * x + sigma[:, None] * noise).float()
    told = (a[:, None] * x + b[:, None] * noise).float()
    torch.testing.assert_close(model._guess(seen, told, t), x, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("settings", [{}, PREDICTIONS[3], {"process": "edm"}, {"process": "flow"}])
def test_it_learns_two_clusters(settings):
    generator = torch.Generator().manual_seed(0)
    side = torch.randint(2, (2000, 1), generator=generator) * 4.0 - 2
    x = torch.cat([side, side], dim=1) + 0.2 * torch.randn(2000, 2, generator=generator)
    model = play(tiny(POINTS, modes=1, **settings), x, 300, rate=4e-3)
    drawn = model.sample(1000, DiffusionSampling(), ItemNoise(0, 1000))
    near = torch.cdist(drawn, torch.tensor([[-2.0, -2.0], [2.0, 2.0]])) < 0.8
    assert near.any(dim=1).float().mean() > 0.9
    assert 0.35 < near[:, 0].float().mean() < 0.65


def test_the_bound_is_near_the_likelihood_of_a_gaussian():
    # the network says nothing more than that the data are Gaussian, of which edm's scaling makes the best denoiser
    model = tiny(Grid(1, 2, 2, levels=None), process="edm", terms=256)
    spread = 0.5
    model.spread.fill_(spread)
    x = spread * torch.randn(200, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    exact = (-0.5 * (x / spread).square() - math.log(spread) - 0.5 * math.log(2 * math.pi)).flatten(1).sum(dim=1)
    bound = model.log_prob(Batch(x))
    gap = exact - bound
    assert 0 <= float(gap.mean()) < 0.3  # a chain of a thousand levels costs a hundredth more than one of ever more
    # the straight-line denoiser, whose error is known, is what denoises here: little is left to chance
    assert float(gap.std()) < 0.1


def test_levels_are_scored_as_probabilities():
    form = Grid(1, 1, 1, levels=5)
    x = torch.arange(5).view(5, 1, 1, 1).repeat(200, 1, 1, 1)
    model = play(tiny(form, terms=64), x, 300, rate=4e-3)
    each = model.log_prob(Batch(torch.arange(5).view(5, 1, 1, 1))).double().exp()
    assert 0.35 < float(each.sum()) < 1.02  # a bound: less than everything
    assert float(each.max() / each.min()) < 3  # all are as frequent


def test_labels_are_honoured_and_guidance_makes_samples_typical():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(2).repeat(500)
    x = torch.stack([y * 2 - 1 + 1.0 * torch.randn(1000, generator=generator), torch.randn(1000, generator=generator)], 1)
    model = play(tiny(POINTS, Label(("left", "right")), modes=1), x, 400, labels=y, rate=4e-3)
    wanted = torch.arange(2).repeat(200)
    sides = []
    for guidance in (0.0, 1.0, 4.0):
        drawn = model.sample(400, DiffusionSampling(guidance=guidance), ItemNoise(0, 400), wanted)
        sides.append(float(((drawn[:, 0] > 0).long() == wanted).float().mean()))
    assert 0.4 < sides[0] < 0.6  # the label is not followed
    assert 0.75 < sides[1] < 0.93  # 0.84 of the data
    assert sides[2] > sides[1]


def test_noise_of_an_item_leads_back_to_it():
    x = some(Grid(1, 8, 8, levels=17), 64) // 6
    model = play(tiny(Grid(1, 8, 8, levels=17)), x, 30, batch=16)
    z = model.encode(x[:4])
    assert 0.05 < float(z.std()) < 3
    back = model.decode(z, options=DiffusionSampling(solver="ddim", steps=100))
    assert float((back - x[:4]).abs().float().mean()) < 2


def test_nonsense_is_refused():
    with pytest.raises(UsageError, match="learned without labels"):
        tiny(POINTS).sample(1, DiffusionSampling(guidance=2.0), ItemNoise(0, 1))
    with pytest.raises(UsageError, match="latent space"):
        tiny(POINTS).decode(torch.zeros(1, 2), space="w")
    with pytest.raises(UsageError, match="rows"):
        tiny(POINTS, network="unet")
    with pytest.raises(UsageError, match="multiple of 32"):
        tiny(FORMS[0], network="dit", width=40)
    for multiples in ("", "0,1"):
        with pytest.raises(UsageError, match=f"multiples ={multiples and ' 0,1'}"):
            tiny(FORMS[0], multiples=multiples)
    with pytest.raises(FormError, match="at least 4 cells"):
        tiny(Grid(1, 3, 3), network="unet", patch=2)
    with pytest.raises(FormError, match="a mask of"):
        tiny(POINTS).fill(torch.zeros(2, 2), torch.zeros(2, 3, dtype=torch.bool), QUICK, ItemNoise(0, 2))
    with pytest.raises(FormError, match="5 × 5"):
        tiny(Grid(1, 4, 4, levels=2)).log_prob(Batch(torch.zeros(1, 1, 5, 5).long()))


@pytest.mark.parametrize("channels", [50, 56, 100])
def test_any_number_of_channels_is_divided_among_heads(channels):
    model = tiny(Grid(1, 8, 8, levels=2), channels=channels)
    assert model.sample(1, DiffusionSampling(steps=1), ItemNoise(0, 1)).shape == (1, 1, 8, 8)


def test_the_middle_and_the_spread_are_taken_without_holding_all_items():
    held, x = [], some(FORMS[3], 64)

    def batches():
        for start in range(0, 64, 8):
            assert sum(other() is not None for other in held) <= 1
            part = x[start : start + 8].clone()
            held.append(weakref.ref(part))
            yield Batch(part)

    model = tiny(FORMS[3])
    model.prepare(batches)
    torch.testing.assert_close(model.middle, x.mean(dim=0))
    torch.testing.assert_close(model.spread, (x - x.mean(dim=0)).square().mean().sqrt())
    torch.testing.assert_close(model.high, x.max() + 3 * model.spread)


@pytest.mark.parametrize("preset", Diffusion.presets)
def test_every_preset_is_built(preset):
    mine = {name: value for name, value in Diffusion.presets[preset].items() if name in DiffusionSettings.model_fields}
    with torch.device("meta"):
        model = Diffusion(DiffusionSettings.of(mine), Grid(1, 28, 28, levels=256))
    assert learned_numbers(model)[0] > 10_000


def test_two_jumps_after_learning_consistency_are_nearer_to_the_data_than_two_steps_before():
    form, x = Grid(1, 8, 8, levels=17), torch.from_numpy(load_digits().images).long()[:, None]
    train, real = x[:1300], picture_features(x[1300:], form)

    def far(model, **options):
        drawn = model.sample(400, DiffusionSampling(steps=2, **options), ItemNoise(0, 400))
        return frechet(real, picture_features(drawn, form))

    settings = {"network": "mlp", "width": 128, "depth": 3}
    teacher = play(tiny(form, **settings), train, 400, rate=2e-3)
    quick = tiny(form, **settings, objective="consistency")
    with pytest.raises(UsageError, match="has learned nothing yet"):
        play(quick, train, 1)
    quick.load_state_dict(teacher.state_dict())
    quick = play(quick, train, 150)
    assert far(quick) < 0.7 * far(teacher, solver="ddim")
    for name, weight in teacher.network.state_dict().items():
        assert torch.equal(quick.teacher.state_dict()[name], weight)


def test_the_way_back_to_the_noise_of_an_item_is_its_teachers():
    x = some(FORMS[1], 3)
    teacher, quick = tiny(FORMS[1]), tiny(FORMS[1], objective="consistency")
    quick.load_state_dict(teacher.state_dict())
    with torch.no_grad():
        for parameter in quick.network.parameters():  # what learning to jump changes
            parameter.add_(0.1 * torch.randn_like(parameter))
    assert torch.equal(quick.encode(x), teacher.encode(x))


def test_a_word_in_the_caption_decides_and_none_is_a_law_of_its_own():
    # one number, -1 for the word 0 and 1 for the word 1; the word 2 says nothing; 3 is the end
    form = Row((Column("x", "number"),))
    generator = torch.Generator().manual_seed(0)
    side = torch.arange(2).repeat(400)
    other = torch.full_like(side, 2)
    said = torch.stack([side, other, torch.full_like(side, 3)], dim=1)
    said[::3] = torch.stack([other, side, torch.full_like(side, 3)], dim=1)[::3]
    x = side[:, None] * 2.0 - 1 + 0.2 * torch.randn(800, 1, generator=generator)
    model = play(tiny(form, Tokens(4, 3, end=3), modes=1, unlabelled=0.2), x, 300, labels=said, rate=3e-3)
    drawn = model.sample(200, DiffusionSampling(guidance=2.0), ItemNoise(0, 200), said[:200])
    assert float(((drawn[:, 0] > 0).long() == side[:200]).float().mean()) > 0.95
    free = model.sample(400, DiffusionSampling(), ItemNoise(0, 400))
    assert 0.3 < float((free > 0).float().mean()) < 0.7
    assert torch.isfinite(model.log_prob(Batch(x[:8], condition=said[:8]))).all()
    with pytest.raises(UsageError, match="without their captions"):
        model.log_prob(Batch(x[:8]))


def test_options_that_this_model_cannot_do_are_refused():
    z = torch.zeros(1, 2)
    for options, message in (
        ({"solver": "consistency"}, "learned to denoise"),
        ({"churn": 1.0}, "churn = 1 with solver"),
        ({"guidance": 2.0}, "without labels or captions"),
    ):
        with pytest.raises(UsageError, match=message):
            tiny(POINTS).decode(z, options=DiffusionSampling(**options))
    always_told = tiny(POINTS, Label(("a", "b")), unlabelled=0.0)
    with pytest.raises(UsageError, match="always learned with a label"):
        always_told.sample(1, DiffusionSampling(guidance=2.0), ItemNoise(0, 1))
    quick = tiny(POINTS, objective="consistency")
    assert len(list(quick.trace(DiffusionSampling(), ItemNoise(0, 1)))) == 3  # the noise and two jumps
    assert quick.state_dict().keys() > tiny(POINTS).state_dict().keys()
