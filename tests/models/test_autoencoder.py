"""Linear ones are principal components; noise and contraction do what they say; codes are drawn as they lie."""

import pytest
import torch

from pieria.data.batch import Batch
from pieria.data.examples import ItemExamples
from pieria.errors import FormError, UsageError
from pieria.forms import Grid, Label, Row
from pieria.models.autoencoder import Autoencoder, AutoencoderSampling, AutoencoderSettings
from pieria.noise import ItemNoise, StepNoise
from pieria.training.loop import learn
from pieria.training.plan import Plan
from tests.models.test_vae import ROW, rows

DIGITS = Grid(1, 8, 8, levels=17)


def digits(n=500):
    from sklearn.datasets import load_digits

    return torch.from_numpy(load_digits().images[:n]).long()[:, None]


def fitted(form, x, steps, *, batch=64, rate=1e-3, final=0.1, **settings):
    torch.manual_seed(0)
    model = Autoencoder(AutoencoderSettings.of({"precision": "float32", "components": 2, **settings}), form)
    plan = Plan.of({**Autoencoder.training_defaults, "steps": steps, "batch": batch, "rate": rate, "final": final})
    learn(model, ItemExamples(form, x), None, plan.changed(average=0.0, warmup=20))
    return model


def test_the_linear_one_spans_the_principal_components():
    x = digits()
    model = fitted(DIGITS, x, 300, batch=len(x), rate=3e-2, final=0.0, network="linear", latent=4, loss="squared")
    flat = x.flatten(1).double() / 8 - 1
    around = flat - flat.mean(dim=0)
    principal = torch.linalg.svd(around, full_matrices=False).Vh[:4]
    written = torch.linalg.qr(model.coder.write.layers[0].weight.detach().double()).Q
    angles = torch.linalg.svdvals(principal @ written).clamp(max=1).arccos()
    assert float(angles.max()) < 1e-2
    least = float((around - around @ principal.T @ principal).square().sum(dim=1).mean())
    assert float(model.coder.validate(Batch(x), ItemNoise(0, len(x))).loss) == pytest.approx(least, rel=1e-4)


def slope(model, x):
    """‖∂z/∂x‖², for codes of variance 1."""
    seen = model.coder.seen(x).requires_grad_()
    z = model.coder.infer(seen)
    slopes = [torch.autograd.grad(z[:, k].sum(), seen, retain_graph=True)[0].square().sum(dim=1) for k in range(z.shape[1])]
    return float((torch.stack(slopes).sum(dim=0).mean() / z.var(dim=0, correction=0).mean()).detach())


def test_contraction_makes_codes_flat_and_is_measured_as_it_says():
    x = digits(128)
    plain, contractive = (fitted(DIGITS, x, 150, network="mlp", latent=8, widths=(64,), contract=w) for w in (0.0, 3.0))
    assert slope(contractive, x) < 0.9 * slope(plain, x)
    told = [contractive.coder.loss(Batch(x), StepNoise(0, s, "", len(x))).parts["slope"] for s in range(30)]
    assert float(torch.stack(told).mean()) == pytest.approx(slope(contractive, x), rel=0.1)


def test_denoising_mends_what_is_damaged():
    x = digits(1700)
    damaged = (x + torch.randint(-6, 7, x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 16)
    errors = []
    for noise in (0.0, 0.3):
        model = fitted(DIGITS, x[:1500], 600, network="mlp", latent=32, widths=(128,), rate=3e-3, noise=noise)
        mended = model.decode(model.encode(damaged[1500:]))
        errors.append(float((mended - x[1500:]).square().double().mean()))
    assert errors[1] < 0.9 * errors[0]


def test_codes_are_drawn_as_those_of_the_training_items_lie():
    x = digits()
    model = fitted(DIGITS, x, 200, network="mlp", latent=3, widths=(64,), components=16)
    codes, drawn = model.encode(x), model.prior(4000, ItemNoise(0, 4000))
    spread = codes.std(dim=0)
    assert ((drawn.mean(dim=0) - codes.mean(dim=0)) / spread).abs().max() < 0.1
    assert torch.allclose(drawn.T.corrcoef(), codes.T.corrcoef(), atol=0.1)
    # a new code lies about as near to training codes as these do to each other; codes of one wide Gaussian do not
    within = torch.cdist(codes, codes).fill_diagonal_(torch.inf).min(dim=1).values.mean()
    assert float(torch.cdist(drawn[:500], codes).min(dim=1).values.mean()) < 1.5 * float(within)


@pytest.mark.parametrize(
    ("form", "settings"),
    [
        (Grid(1, 16, 17, levels=256), {"network": "auto", "channels": 8, "masked": 0.2}),
        (Grid(2, 3, 4, levels=3, ordered=False), {}),
        (Grid(2, 3, 4, levels=3, ordered=False), {"loss": "squared"}),
        (Grid(1, 3, 4, levels=4), {"loss": "cross-entropy", "contract": 0.1}),
        (Grid(1, 4, 4, levels=None), {"network": "linear", "noise": 0.1}),
        (ROW, {"contract": 0.1}),
    ],
)
def test_every_form_is_learned_drawn_and_explained(form, settings):
    if isinstance(form, Row):
        x = rows(50)
    else:
        x = torch.rand(50, *form.shape) if form.levels is None else torch.randint(form.levels, (50, *form.shape))
    model = fitted(form, x, 3, latent=4, widths=(16,), components=3, modes=4, **settings)
    drawn = model.sample(4, AutoencoderSampling(), ItemNoise(1, 4))
    assert drawn.dtype == x.dtype
    assert drawn.shape == (4, *x.shape[1:])
    assert model.decode(model.encode(x)).shape == x.shape
    noise = ItemNoise(1, 1)
    last = list(model.trace(AutoencoderSampling(), noise))[-1]
    assert torch.equal(last.x, model.sample(1, AutoencoderSampling(), noise))


def test_at_temperature_zero_the_centres_are_drawn():
    model = fitted(DIGITS, digits(100), 5, latent=2, widths=(8,), components=2)
    drawn = model.sample(40, AutoencoderSampling(temperature=0.0), ItemNoise(0, 40))
    assert len(drawn.flatten(1).unique(dim=0)) <= 2


def test_what_it_cannot_do_is_said():
    settings = AutoencoderSettings(latent=2, widths=(8,))
    with pytest.raises(UsageError, match="takes none"):
        Autoencoder(settings, DIGITS, Label(("a", "b")))
    model = Autoencoder(settings, DIGITS)
    with pytest.raises(UsageError, match="no latent space is called 'w'"):
        model.encode(digits(2), "w")
    with pytest.raises(FormError, match="9 × 8"):
        model.encode(torch.zeros(2, 1, 9, 8, dtype=torch.int64))
    with pytest.raises(UsageError, match="continuous cells"):
        Autoencoder(settings.changed(loss="cross-entropy"), Grid(1, 4, 4, levels=None))
