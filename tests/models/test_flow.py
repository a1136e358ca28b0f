import math

import pytest
import torch

from benchmarks.flow_zuko import VARIANTS, gap
from pieria.data.batch import Batch
from pieria.errors import FormError, PieriaError, UsageError
from pieria.forms import Column, Grid, Label, Row
from pieria.models import weights
from pieria.models.flow import Flow, FlowSampling, FlowSettings
from pieria.noise import ItemNoise, StepNoise, by_content
from tests.models.game import play

LABEL = Label(("a", "b"))
ROW = Row(
    (
        Column("pay", "number"),
        Column("hours", "integer", scale=12.0, shift=40.0),
        Column("job", "category", levels=3),
        Column("job?", "missing", of="job"),
        Column("age", "number", scale=10.0, shift=40.0),
        Column("age?", "missing", of="age"),
    )
)
CLOUD = Row((Column("x", "number"), Column("y", "number")))


def tiny(form, condition=None, **settings):
    torch.manual_seed(0)
    return Flow(FlowSettings.of({**Flow.presets["tiny"], **settings}), form, condition).eval()


def rows(n=600):
    generator = torch.Generator().manual_seed(0)
    job = torch.randint(3, (n,), generator=generator).float()
    pay = job - 1 + 0.2 * torch.randn(n, generator=generator)
    none, gone = ((torch.rand(n, generator=generator) < share).float() for share in (0.1, 0.3))
    hours = (torch.randint(30, 51, (n,), generator=generator) - 40) / 12
    age = pay + 0.1 * torch.randn(n, generator=generator)
    return torch.stack([pay, hours, job * (1 - none), none, age * (1 - gone), gone], dim=1)


def moons(n=2000):
    generator = torch.Generator().manual_seed(0)
    angle = math.pi * torch.rand(n, generator=generator)
    upper = (torch.arange(n) % 2).float()
    x = torch.where(upper > 0, angle.cos(), 1 - angle.cos())
    y = torch.where(upper > 0, angle.sin(), 0.5 - angle.sin())
    return torch.stack([x, y], dim=1) + 0.08 * torch.randn(n, 2, generator=generator)


def some(form, n=6):
    if isinstance(form, Row):
        return rows(n)
    return torch.rand(n, *form.shape) if form.levels is None else torch.randint(form.levels, (n, *form.shape))


FORMS = [
    (Grid(1, 8, 12, levels=17), {}),
    (Grid(1, 8, 8, levels=17), {"dequantisation": "variational", "importance": 3}),
    (Grid(1, 5, 4, levels=2), {"dequantisation": "variational"}),
    (Grid(2, 4, 4, levels=3, ordered=False), {"structure": "autoregressive", "law": "affine"}),
    (Grid(3, 8, 8, levels=None), {"law": "spline"}),
    (ROW, {}),
    (ROW, {"structure": "autoregressive", "law": "affine"}),
]


@pytest.mark.parametrize(("form", "settings"), FORMS)
@pytest.mark.parametrize("condition", [None, LABEL])
def test_every_form_is_scored_drawn_encoded_saved_and_explained(form, settings, condition, tmp_path):
    model = tiny(form, condition, **settings)
    x = some(form)
    labels = None if condition is None else torch.tensor([0, 1, 0, 1, 0, 1])
    batch = Batch(x, condition=labels)
    model.prepare(lambda: [batch])
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.loss(batch, StepNoise(0, 0, "likelihood", 6)).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    scores = model.log_prob(batch)
    assert torch.isfinite(scores).all()
    assert torch.equal(scores, model.log_prob(batch))
    exact = isinstance(form, Grid) and form.levels is None
    assert model.likelihood == ("exact" if exact else "bound")
    z = model.encode(x, condition=labels)
    assert z.shape == (6, *model.latents["z"])
    torch.testing.assert_close(model.decode(z, condition=labels), x, atol=1e-4, rtol=1e-4)
    noise = ItemNoise(5, 6)
    drawn = model.sample(6, FlowSampling(), noise, labels)
    assert drawn.dtype == x.dtype
    assert drawn.shape == x.shape
    weights.save(model, tmp_path / "model.safetensors")
    again = weights.load(tmp_path / "model.safetensors")
    assert again.likelihood == model.likelihood
    assert torch.equal(again.log_prob(batch), scores)
    assert torch.equal(again.sample(6, FlowSampling(), noise, labels), drawn)
    one = ItemNoise(5, 1)
    steps = list(model.trace(FlowSampling(), one))
    assert len(steps) >= 2
    assert torch.equal(steps[-1].x, model.sample(1, FlowSampling(), one))


def test_a_cloud_is_learned_and_its_density_is_exact():
    model = play(tiny(CLOUD, widths=(64, 64)), moons(), 300, rate=3e-3)
    held = moons(6000)[2000:]
    nats = -float(model.log_prob(Batch(held)).mean())
    gaussian = torch.distributions.MultivariateNormal(held.mean(dim=0), held.T.cov())
    assert nats < -float(gaussian.log_prob(held).mean()) - 0.7
    # summed over a fine grid the density is one
    at = torch.linspace(-3, 4, 500)
    x = torch.cartesian_prod(at, at)
    total = float(model.log_prob(Batch(x)).double().exp().sum()) * float(at[1] - at[0]) ** 2
    assert total == pytest.approx(1, abs=2e-3)
    # and what is drawn lies on the two moons
    drawn = model.sample(1000, FlowSampling(), ItemNoise(0, 1000))
    near = torch.cdist(drawn, moons(4000)).min(dim=1).values
    assert float((near < 0.15).float().mean()) > 0.95


def test_a_missing_number_says_nothing_of_the_others_density():
    model = play(tiny(ROW), rows(), 60, rate=3e-3)
    x = rows(40)[rows(40)[:, 5] == 1]
    assert len(x) > 3
    # its column holds 0 where it is missing; whatever stands there, nothing changes
    other = x.clone()
    other[:, 4] = 3.0
    noise = by_content(x)
    torch.testing.assert_close(model.bound(Batch(other), 1, noise), model.bound(Batch(x), 1, noise))
    drawn = model.sample(400, FlowSampling(), ItemNoise(0, 400))
    assert (drawn[drawn[:, 5] == 1][:, 4] == 0).all()
    assert float(drawn[:, 5].mean()) == pytest.approx(0.3, abs=0.08)


def test_rows_keep_what_belongs_together():
    model = play(tiny(ROW), rows(2000), 250, rate=3e-3)
    drawn = model.sample(2000, FlowSampling(), ItemNoise(0, 2000))
    there = (drawn[:, 3] == 0) & (drawn[:, 5] == 0)
    assert torch.corrcoef(drawn[there][:, [0, 2, 4]].T)[0, 1:].min() > 0.7
    hours = drawn[:, 1] * 12 + 40
    torch.testing.assert_close(hours, hours.round(), atol=1e-4, rtol=0)
    assert (hours >= 30 - 1e-3).all()
    assert float(drawn[:, 3].mean()) == pytest.approx(0.1, abs=0.04)


def test_labels_are_honoured():
    x = torch.cat([torch.zeros(300, 1, 8, 8), torch.full((300, 1, 8, 8), 3)]).long()
    y = torch.arange(2).repeat_interleave(300)
    flip = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.2
    x = torch.where(flip, 3 - x, x)
    model = play(tiny(Grid(1, 8, 8, levels=4), LABEL, layers=2), x, 120, labels=y, rate=5e-3)
    wanted = torch.arange(2).repeat(50)
    drawn = model.sample(100, FlowSampling(), ItemNoise(0, 100), wanted).float().mean(dim=(1, 2, 3)) / 3
    assert (drawn.round() == wanted).float().mean() > 0.9
    with pytest.raises(UsageError, match="without their labels"):
        model.log_prob(Batch(x))


def test_the_bound_rises_with_draws_and_variational_dequantisation_is_a_bound_too():
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(2000, 1, 2, 2, generator=generator) < torch.tensor([0.2, 0.8])).long()
    share = [0.2, 0.8]
    truth = 2 * sum(p * math.log(p) + (1 - p) * math.log(1 - p) for p in share)
    for how in ("uniform", "variational"):
        model = play(tiny(Grid(1, 2, 2, levels=2), dequantisation=how), x, 150, rate=3e-3)
        means = [float(model.bound(Batch(x), k, ItemNoise(1, len(x))).mean()) for k in (1, 10)]
        assert truth - 0.4 < means[0] < means[1] < truth + 0.05


def test_rows_are_decoded_within_the_range_of_the_training_rows_unless_asked_otherwise():
    model, x = tiny(CLOUD), moons(200)
    model.prepare(lambda: [Batch(x)])
    far = torch.tensor([[9.0, -9.0], [-9.0, 9.0]])
    inside = model.decode(far)
    assert (inside >= x.min(dim=0).values).all()
    assert (inside <= x.max(dim=0).values).all()
    assert not torch.allclose(model.decode(far, options=FlowSampling(inside=False)), inside, atol=0.1)


def test_temperature_makes_items_typical():
    model = play(tiny(CLOUD), moons(), 100, rate=3e-3)
    spread = [model.sample(300, FlowSampling(temperature=t), ItemNoise(0, 300)).std(dim=0) for t in (0.0, 0.5, 1.0)]
    assert (spread[0] == 0).all()
    assert (spread[1] < spread[2]).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_log_densities_are_those_of_zuko(variant):
    pytest.importorskip("zuko")
    assert gap(variant, torch.float64)[0] < 1e-9
    assert gap(variant, torch.float32)[0] < 1e-3


def test_nonsense_is_refused():
    model = tiny(Grid(1, 8, 8, levels=4))
    for x in (torch.full((1, 1, 8, 8), 4), torch.zeros(1, 1, 8, 8), torch.zeros(0, 1, 8, 8).long()):
        with pytest.raises(PieriaError):
            model.log_prob(Batch(x))
    with pytest.raises(FormError, match="10 × 8"):
        model.log_prob(Batch(torch.zeros(1, 1, 10, 8).long()))
    with pytest.raises(FormError, match="learned from 8 × 8"):
        tiny(Grid(1, 8, 8, levels=None)).encode(torch.zeros(1, 1, 10, 8))
    with pytest.raises(FormError, match="Resize to 10 × 8"):
        tiny(Grid(1, 9, 7), network="convolution")
    with pytest.raises(UsageError, match="autoregressive"):
        tiny(Grid(1, 8, 8), structure="autoregressive")
    with pytest.raises(UsageError, match="latent space"):
        model.encode(torch.zeros(1, 1, 8, 8).long(), space="w")


@pytest.mark.parametrize("preset", Flow.presets)
def test_every_preset_is_built(preset):
    known = {name: value for name, value in Flow.presets[preset].items() if name in FlowSettings.model_fields}
    model = Flow(FlowSettings.of(known), Grid(1, 16, 16))
    assert model.sample(2, Flow.Sampling.of({}), ItemNoise(0, 2)).shape == (2, 1, 16, 16)


@pytest.mark.parametrize("how", ["uniform", "variational"])
def test_the_levels_of_a_picture_have_a_probability_of_one_in_all(how):
    # too many to enumerate, so by importance: Σ p(x) is the mean of p(x) / q(x) over draws from any q
    model = tiny(Grid(1, 8, 8, levels=2), layers=2, dequantisation=how)
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    draws = 4000
    x = torch.randint(2, (draws, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        # one draw of the bound is right on average, before its logarithm is taken
        ratio = (model.bound(Batch(x), 1, ItemNoise(2, draws)).double() + 64 * math.log(2)).exp()
    error = float(ratio.std()) / draws**0.5
    assert error < 0.1
    assert float(ratio.mean()) == pytest.approx(1, abs=4 * error)
