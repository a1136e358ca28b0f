import itertools

import pytest
import torch

from pieria.data.batch import Batch
from pieria.data.examples import ItemExamples
from pieria.errors import FormError, PieriaError, UsageError
from pieria.forms import Column, Grid, Label, Row
from pieria.models import weights
from pieria.models.vae import VAE, VAESampling, VAESettings
from pieria.noise import ItemNoise, StepNoise
from pieria.training.loop import learn
from pieria.training.plan import Plan
from tests.models.game import play

BINARY = Grid(1, 1, 2, levels=2)
ROW = Row(
    (
        Column("pay", "number"),
        Column("hours", "integer", scale=12.0, shift=40.0),
        Column("job", "category", levels=3),
        Column("job?", "missing", of="job"),
    )
)


def tiny(form, condition=None, **settings):
    torch.manual_seed(0)
    return VAE(VAESettings(**{**VAE.presets["tiny"], **settings}), form, condition).eval()


def rows(n=600):
    generator = torch.Generator().manual_seed(0)
    job = torch.randint(3, (n,), generator=generator).float()
    pay = job - 1 + 0.2 * torch.randn(n, generator=generator)
    none = (torch.rand(n, generator=generator) < 0.1).float()
    return torch.stack([pay, (torch.randint(30, 51, (n,), generator=generator) - 40) / 12, job * (1 - none), none], dim=1)


def truth(model, x):
    """log p(x) by quadrature over a latent space of one dimension."""
    z = torch.linspace(-8, 8, 4001)[None, :, None].expand(len(x), -1, -1)
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z[..., 0]).double()
    with torch.no_grad():
        written = model.observation.log_prob(model.generate(z, z.new_zeros(len(x), 0)), x).double()
    return (prior + written).logsumexp(dim=1) + torch.log(torch.tensor(16 / 4000).double())


def correlated(n=2000):
    one = torch.randint(2, (n, 1, 1, 1), generator=torch.Generator().manual_seed(0))
    return torch.cat([one, one], dim=3)


def test_the_bound_lies_below_the_truth_and_rises_towards_it():
    model = play(tiny(BINARY, latent=1), correlated(), 150, rate=1e-2)
    x = torch.tensor(list(itertools.product([0, 1], repeat=2))).reshape(4, 1, 1, 2)
    exact = truth(model, x)
    assert float(exact.logsumexp(dim=0)) == pytest.approx(0, abs=1e-4)
    means, repeated = [], Batch(x.repeat(1000, 1, 1, 1))
    for samples in (1, 5, 50):
        bound = model.bound(repeated, samples, ItemNoise(3, 4000)).double().reshape(1000, 4)
        error = bound.std(dim=0) / 1000**0.5
        assert (bound.mean(dim=0) <= exact + 4 * error + 1e-5).all()
        means.append(float(bound.mean()))
    assert means[0] < means[1] < means[2]
    assert means[2] == pytest.approx(float(exact.mean()), abs=0.02)
    assert exact[0] > -1.2  # it has learned that the two cells agree
    assert exact[1] < -2


def test_samples_are_as_frequent_as_the_truth():
    model = tiny(BINARY, latent=1)
    x = torch.tensor(list(itertools.product([0, 1], repeat=2))).reshape(4, 1, 1, 2)
    drawn = model.sample(10_000, VAESampling(), ItemNoise(0, 10_000)).reshape(-1, 2)
    seen = torch.bincount(drawn[:, 0] * 2 + drawn[:, 1], minlength=4).double()
    expected = truth(model, x).exp() * 10_000
    assert float(((seen - expected).square() / expected).sum()) < 16.3  # chi-squared, 3 degrees of freedom, 1e-3


def test_the_loss_is_the_negative_bound():
    model, x = tiny(BINARY, latent=1), correlated(4000)
    for draws in (1, 5):
        other = tiny(BINARY, latent=1, draws=draws)
        loss = float(other.loss(Batch(x), StepNoise(0, 0, "bound", len(x))).loss.detach())
        assert loss == pytest.approx(-float(model.bound(Batch(x), draws, ItemNoise(1, len(x))).mean()), abs=0.03)


LEARNED = [{"prior": "vamp", "made_up": 5}, {"top": 1}, {"prior": "vamp", "made_up": 3, "draws": 3}]


@pytest.mark.parametrize("settings", LEARNED)
def test_a_learned_prior_is_drawn_from_as_it_is_scored(settings):
    model = play(tiny(BINARY, latent=1, **settings), correlated(), 100, rate=1e-2)
    x = torch.tensor(list(itertools.product([0, 1], repeat=2))).reshape(4, 1, 1, 2)
    drawn = model.sample(10_000, VAESampling(), ItemNoise(0, 10_000)).reshape(-1, 2)
    seen = torch.bincount(drawn[:, 0] * 2 + drawn[:, 1], minlength=4).double() / 10_000
    single, many = (model.bound(Batch(x.repeat(400, 1, 1, 1)), k, ItemNoise(3, 1600)).view(400, 4) for k in (1, 200))
    assert (single.mean(dim=0) <= many.mean(dim=0) + 0.02).all()
    assert torch.allclose(many.exp().mean(dim=0).double(), seen, atol=0.015)
    assert float(many.exp().mean(dim=0).sum()) == pytest.approx(1, abs=0.02)
    assert model.decode(model.encode(x)).shape == x.shape
    assert model.prior(3, ItemNoise(0, 3)).shape == (3, *model.latents["z"])
    last = list(model.trace(VAESampling(), ItemNoise(5, 1)))[-1]
    assert torch.equal(last.x, model.sample(1, VAESampling(), ItemNoise(5, 1)))


def test_the_kl_term_is_warmed_up_and_has_free_bits(tmp_path):
    x, noise = correlated(200), StepNoise(0, 0, "bound", 200)
    cold, warm = tiny(BINARY, kl_warmup=10), tiny(BINARY)
    for step in (0, 4, 20):
        cold.steps.fill_(step)
        told, wanted = cold.loss(Batch(x), noise), warm.loss(Batch(x), noise)
        share = min(1.0, (step + 1) / 10)
        assert float(told.loss.detach()) == pytest.approx(
            float(wanted.parts["reconstruction"] + share * wanted.parts["kl"]), rel=1e-5
        )
    cold.steps.fill_(0)
    learn(cold, ItemExamples(BINARY, x), None, Plan.of({"steps": 7}))
    weights.save(cold, tmp_path / "model.safetensors")
    assert int(weights.load(tmp_path / "model.safetensors").steps) == 7
    free = tiny(BINARY, free_bits=50.0)
    loss = free.loss(Batch(x), noise)
    assert float(loss.loss.detach()) == pytest.approx(float(loss.parts["reconstruction"]) + 2 * 50.0, rel=1e-5)


def test_settings_that_do_not_go_together_are_refused():
    for settings in ({"top": 2, "prior": "vamp"}, {"free_bits": 1.0, "draws": 2}, {"free_bits": 1.0, "top": 2}):
        with pytest.raises(UsageError):
            tiny(BINARY, **settings)
    with pytest.raises(UsageError, match="labels"):
        tiny(BINARY, Label(("a", "b")), prior="vamp")


def test_log_prob_depends_on_the_item_alone():
    model, x = tiny(Grid(1, 4, 4, levels=5)), torch.randint(5, (9, 1, 4, 4))
    together = model.log_prob(Batch(x))
    assert torch.equal(together, model.log_prob(Batch(x)))
    torch.testing.assert_close(together.flip(0)[:4], model.log_prob(Batch(x.flip(0)[:4])), atol=1e-5, rtol=1e-5)


FORMS = [
    (Grid(1, 8, 6, levels=17), "convolution"),
    (Grid(1, 5, 4, levels=2), "mlp"),
    (Grid(2, 4, 4, levels=3, ordered=False), "mlp"),
    (Grid(1, 4, 4, levels=None), "convolution"),
    (ROW, "mlp"),
]


def some(form, n=6):
    if isinstance(form, Row):
        return rows(n)
    return torch.rand(n, *form.shape) if form.levels is None else torch.randint(form.levels, (n, *form.shape))


@pytest.mark.parametrize(("form", "network"), FORMS)
@pytest.mark.parametrize("condition", [None, Label(("a", "b"))])
def test_every_form_is_scored_drawn_encoded_saved_and_explained(form, network, condition, tmp_path):
    model = tiny(form, condition, network=network, channels=16)
    x = some(form)
    labels = None if condition is None else torch.tensor([0, 1, 0, 1, 0, 1])
    model.prepare(lambda: [Batch(x, condition=labels)])
    scores = model.log_prob(Batch(x, condition=labels))
    assert torch.isfinite(scores).all()
    noise = ItemNoise(5, 6)
    drawn = model.sample(6, VAESampling(), noise, labels)
    assert drawn.dtype == x.dtype
    assert drawn.shape == x.shape
    part = model.sample(2, VAESampling(), noise.part(2, 4), None if labels is None else labels[2:4])
    torch.testing.assert_close(part, drawn[2:4], atol=1e-5, rtol=1e-5)
    z = model.encode(x, condition=labels)
    assert z.shape == (6, *model.latents["z"])
    assert model.decode(z, condition=labels).shape == x.shape
    weights.save(model, tmp_path / "model.safetensors")
    again = weights.load(tmp_path / "model.safetensors")
    assert torch.equal(again.log_prob(Batch(x, condition=labels)), scores)
    assert torch.equal(again.sample(6, VAESampling(), noise, labels), drawn)
    one = ItemNoise(5, 1)
    last = list(model.trace(VAESampling(), one))[-1]
    assert torch.equal(last.x, model.sample(1, VAESampling(), one))


def test_labels_are_honoured():
    x = torch.cat([torch.zeros(300, 1, 2, 2), torch.ones(300, 1, 2, 2)]).long()
    y = torch.arange(2).repeat_interleave(300)
    model = play(tiny(Grid(1, 2, 2, levels=2), Label(("dark", "light"))), x, 150, labels=y, rate=1e-2)
    wanted = torch.arange(2).repeat(200)
    drawn = model.sample(400, VAESampling(), ItemNoise(0, 400), wanted).float().mean(dim=(1, 2, 3))
    assert (drawn.round() == wanted).float().mean() > 0.95
    with pytest.raises(UsageError, match="without their labels"):
        model.log_prob(Batch(x))


def test_rows_keep_what_belongs_together():
    model = play(tiny(ROW, latent=4, modes=6), rows(2000), 500, rate=3e-3)
    drawn = model.sample(2000, VAESampling(), ItemNoise(0, 2000))
    there = drawn[:, 3] == 0
    assert torch.corrcoef(drawn[there][:, [0, 2]].T)[0, 1] > 0.4  # the job says what is paid
    assert float(drawn[:, 3].mean()) == pytest.approx(0.1, abs=0.04)
    assert drawn[:, 1].min() >= rows(2000)[:, 1].min() - 1e-5


def test_nonsense_is_refused():
    model = tiny(Grid(1, 2, 2, levels=2))
    for x in (torch.full((1, 1, 2, 2), 2), torch.zeros(1, 1, 2, 2), torch.zeros(0, 1, 2, 2).long()):
        with pytest.raises(PieriaError):
            model.log_prob(Batch(x))
    with pytest.raises(FormError, match="3 × 3"):
        model.log_prob(Batch(torch.zeros(1, 1, 3, 3).long()))
    with pytest.raises(UsageError, match="latent space"):
        model.encode(torch.zeros(1, 1, 2, 2).long(), space="w")


@pytest.mark.parametrize("preset", VAE.presets)
def test_every_preset_is_built(preset):
    model = VAE(VAESettings.of(VAE.presets[preset]), Grid(1, 8, 8, levels=2))
    assert model.sample(2, VAE.Sampling.of({}), ItemNoise(0, 2)).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("settings", [{}, {"draws": 4}, {"draws": 4, "prior": "vamp", "made_up": 3}])
def test_the_slope_through_the_codes_alone_is_the_same_on_average_and_quieter(settings):
    whole = play(tiny(BINARY, latent=1, **settings), correlated(), 100, rate=1e-2)
    path = tiny(BINARY, latent=1, gradient="path", **settings)
    path.load_state_dict(whole.state_dict())
    x = torch.tensor([1, 1]).expand(400, 1, 1, 2)  # one item many times: its slope, averaged over noise
    slopes = {}
    for model in (whole, path):
        means = []
        for step in range(60):
            model.zero_grad()
            found = model.loss(Batch(x), StepNoise(0, step, "bound", len(x)))
            found.loss.backward()
            means.append(torch.cat([p.grad.flatten() for p in model.posterior.parameters()]))
        slopes[model.settings.gradient] = torch.stack(means)
        value = float(found.loss.detach())
    assert value == pytest.approx(float(whole.loss(Batch(x), StepNoise(0, 59, "bound", len(x))).loss.detach()), abs=0.03)
    mean, error = {}, {}
    for name, all_ in slopes.items():
        mean[name], error[name] = all_.mean(dim=0), all_.std(dim=0) / 60**0.5
    gap = (mean["whole"] - mean["path"]).abs()
    assert (gap < 4 * (error["whole"].square() + error["path"].square()).sqrt() + 1e-5).all()
    assert float(error["path"].norm()) < 0.9 * float(error["whole"].norm()) or not settings
    decoder = [
        torch.cat([p.grad.flatten() for p in model.write.parameters()]) for model in (whole, path)
    ]  # what is not the encoder's learns as ever, from the same noise
    whole.zero_grad()
    whole.loss(Batch(x), StepNoise(0, 59, "bound", len(x))).loss.backward()
    decoder[0] = torch.cat([p.grad.flatten() for p in whole.write.parameters()])
    assert torch.allclose(decoder[0], decoder[1], atol=1e-6)


def test_a_path_slope_is_of_the_usual_bound():
    for settings in ({"top": 2}, {"beta": 2.0}, {"kl_warmup": 5}):
        with pytest.raises(UsageError, match="gradient=path"):
            tiny(BINARY, gradient="path", **settings)


def test_orthogonal_steps_are_for_the_matrices_of_the_networks():
    model = tiny(BINARY, prior="vamp", made_up=3, optimiser="orthogonal")
    first, *others = model.groups()["model"]
    assert all(p.dim() == 2 for p in first["params"])
    assert first["orthogonal"]
    assert all(model.vamp.items is not p for p in first["params"])
    listed = [p for group in (first, *others) for p in group["params"]]
    assert {id(p) for p in listed} == {id(p) for p in model.parameters()}
    assert len(listed) == len(list(model.parameters()))
    widths = tiny(ROW, optimiser="orthogonal")
    assert all(widths.observation.scale is not p for p in widths.groups()["model"][0]["params"])
    plain = tiny(BINARY, latent=1)
    assert [list(group) for group in plain.groups()["model"]] == [["params"]]  # as it always was: runs can be resumed
    learned = play(tiny(BINARY, latent=1, optimiser="orthogonal"), correlated(), 100, rate=1e-2)
    assert float(learned.log_prob(Batch(correlated(50))).mean()) > -1.1  # two independent cells have -1.39
