"""VQ-VAE: symbols and back, a bound that is one, two stages in one fit, any family as the prior, resumed alike."""

import itertools

import pytest
import torch

from pieria.data.batch import Batch
from pieria.data.examples import ItemExamples
from pieria.errors import FormError, UsageError
from pieria.forms import Grid, Label, Tokens
from pieria.models import weights
from pieria.models.contract import Learns
from pieria.models.vqvae import VQVAE, VQVAESampling, VQVAESettings
from pieria.noise import ItemNoise, seeded
from pieria.training.loop import learn
from pieria.training.plan import Plan
from pieria.training.stages import course
from pieria.training.workspace import Workspace

SMALL = Grid(1, 4, 4, levels=2)


def tiny(form=SMALL, condition=None, **settings):
    with seeded(0, "weights"):
        return VQVAE(VQVAESettings.of({**VQVAE.presets["tiny"], "codes": 8, **settings}), form, condition).eval()


def plan(steps, **more):
    return Plan.of({**VQVAE.training_defaults, "steps": steps, "batch": 16, "warmup": 5, "evaluate_every": 0, **more})


def pictures(n=120, form=SMALL):
    """Bars that stand at one of four places, upright or not."""
    x = torch.zeros(n, *form.shape, dtype=torch.int64)
    for item in range(n):
        place = item // 2 % 4
        if item % 2:
            x[item, 0, place] = 1
        else:
            x[item, 0, :, place] = 1
    return x


def test_one_fit_teaches_both_stages():
    model, x = tiny(), pictures()
    assert isinstance(model, Learns)
    assert [stage.name for stage in model.stages()] == ["code book", "prior"]
    assert sum(stage.share for stage in model.stages()) == pytest.approx(1)
    learn(model, ItemExamples(SMALL, x), None, plan(500, rate=4e-3, batch=32))
    codes = model.encode(x, "codes")
    assert codes.shape == (len(x), 1, 2, 2)
    assert torch.equal(model.decode(codes, "codes"), model.decode(model.encode(x)))
    assert float((model.decode(codes, "codes") == x).double().mean()) > 0.97
    drawn = model.sample(200, VQVAESampling(observation="typical"), ItemNoise(0, 200))
    real = {tuple(row) for row in x.flatten(1).tolist()}
    assert sum(tuple(row) in real for row in drawn.flatten(1).tolist()) > 140


@torch.no_grad()
def test_the_bound_is_one():
    form = Grid(1, 2, 2, levels=2)
    model = tiny(form, halvings=1, width=2)
    x = torch.tensor(list(itertools.product((0, 1), repeat=4))).view(-1, 1, 2, 2)
    told = model.log_prob(Batch(x)).exp()
    # the whole law: every symbol that there is, times every picture
    codes = torch.arange(8).view(8, 1, 1, 1)
    prior = model.prior_model.log_prob(Batch(codes.flatten(1))).double()
    raw = model.coder.generate(model.coder.vectors(codes))
    law = model.coder.observation.log_prob(raw[None].expand(16, *raw.shape), x).double()
    truth = (prior + law).exp().sum(dim=1)
    assert (told <= truth + 1e-9).all()
    assert (told > 0).all()
    assert float(truth.sum()) == pytest.approx(float(prior.exp().sum()), abs=1e-5)
    drawn = model.sample(8000, VQVAESampling(), ItemNoise(3, 8000)).flatten(1)
    seen = torch.bincount((drawn * torch.tensor([8, 4, 2, 1])).sum(dim=1), minlength=16).double()
    expected = truth / truth.sum() * 8000  # no end is drawn, so the symbols share its probability
    assert float(((seen - expected).square() / expected).sum()) < 37.7  # chi-squared, 15 degrees of freedom, 1e-3


@pytest.mark.parametrize(
    ("prior", "settings"),
    [
        ("ngram:tiny", {}),
        ("mixture:tiny", {}),
        ("rnn:tiny", {}),
        ("gpt:tiny", {"depth": 2}),
        ("mixture:tiny", {"depth": 2}),
        ("gpt:tiny", {"quantiser": "gumbel"}),
        ("gpt:tiny", {"prior_settings": "layers=1,width=16"}),
    ],
)
def test_any_family_of_symbols_is_a_prior(prior, settings, tmp_path):
    model, x = tiny(prior=prior, **settings), pictures(40)
    learn(model, ItemExamples(SMALL, x), ItemExamples(SMALL, x[:8]), plan(8, evaluate_every=2))
    noise = ItemNoise(1, 5)
    drawn = model.sample(5, VQVAESampling(), noise)
    assert drawn.shape == (5, *SMALL.shape)
    assert torch.isfinite(model.log_prob(Batch(x))).all()
    assert model.prior(3, ItemNoise(0, 3)).shape == (3, *model.latents["z"])
    weights.save(model, tmp_path / "model.safetensors")
    again = weights.load(tmp_path / "model.safetensors")
    assert torch.equal(again.sample(5, VQVAESampling(), noise), drawn)
    one = ItemNoise(1, 1)
    assert torch.equal(list(model.trace(VQVAESampling(), one))[-1].x, model.sample(1, VQVAESampling(), one))


def test_a_prior_without_a_likelihood_leaves_none():
    model = tiny(prior="gan:tiny")
    assert model.likelihood == "none"
    assert tiny().likelihood == VQVAE.likelihood == "bound"
    with pytest.raises(UsageError, match="has no likelihood"):
        model.log_prob(Batch(pictures(2)))


def test_symbols_of_a_picture_stand_place_by_place():
    model = tiny(depth=3)
    codes = torch.randint(8, (5, 3, 2, 2))
    given = model._given(codes)
    assert isinstance(model.prior_model.form, Tokens)
    assert model.prior_model.form == Tokens(vocabulary=9, length=12, end=8)
    assert torch.equal(given[:, :3], codes[:, :, 0, 0])
    assert torch.equal(model._taken(given), codes)


def test_labels_reach_the_prior():
    x = torch.cat([torch.zeros(60, 1, 4, 4), torch.ones(60, 1, 4, 4)]).long()
    y = torch.arange(2).repeat_interleave(60)
    label = Label(("dark", "light"))
    model = tiny(SMALL, label, share=0.5)
    train = ItemExamples(SMALL, x, condition=label, conditions=y)
    learn(model, train, None, plan(160, rate=4e-3, batch=32))
    wanted = torch.arange(2).repeat(50)
    drawn = model.sample(100, VQVAESampling(), ItemNoise(0, 100), wanted).float().mean(dim=(1, 2, 3))
    assert float((drawn.round() == wanted).float().mean()) > 0.9
    assert model.sample(4, VQVAESampling(), ItemNoise(0, 4)).shape == (4, 1, 4, 4)
    with pytest.raises(UsageError, match="without their labels"):
        model.log_prob(Batch(x))
    with pytest.raises(UsageError, match="takes none"):
        tiny(SMALL, label, prior="ngram:tiny")


@pytest.mark.parametrize("settings", [{"revive": 0.5}, {"quantiser": "gumbel"}])
def test_a_resumed_run_has_the_same_bits(settings, tmp_path):
    x = pictures(60)

    def run(path, stop_at):
        model = tiny(**settings)
        resume = path.exists()
        with Workspace.open(path) if resume else Workspace.create(path, "", {"family": "vqvae"}) as space:
            made = plan(24, checkpoint_every=3)
            if stop_at is None:
                learn(model, ItemExamples(SMALL, x), None, made, workspace=space, resume=resume)
                return model
            with pytest.raises(_Stopped):
                learn(model, _Until(SMALL, x, stop_at), None, made, workspace=space)
        return None

    whole = run(tmp_path / "whole", None)
    for stop_at in (8, 17):  # in the first stage, and in the second
        path = tmp_path / f"broken-{stop_at}"
        run(path, stop_at)
        again = run(path, None)
        for name, tensor in whole.state_dict().items():
            assert torch.equal(tensor, again.state_dict()[name]), name


class _Stopped(Exception):
    pass


class _Until(ItemExamples):
    """Examples that end the run at the given batch, as a crash would."""

    def __init__(self, form, x, batches):
        super().__init__(form, x)
        self.left = batches

    def batch(self, places, noise=None):
        if noise is not None:
            self.left -= 1
            if self.left < 0:
                raise _Stopped
        return super().batch(places, noise)


def test_what_does_not_fit_is_said():
    with pytest.raises(UsageError, match="no model is called 'gtp'"):
        tiny(prior="gtp")
    with pytest.raises(UsageError, match="preset of gpt"):
        tiny(prior="gpt:tinny")
    with pytest.raises(UsageError, match="learns from curve"):
        tiny(prior="gp")
    with pytest.raises(UsageError, match="name=value"):
        tiny(prior_settings="layers")
    with pytest.raises(UsageError, match="no setting is called 'widht'"):
        tiny(prior_settings="widht=8")
    with pytest.raises(UsageError, match="depth=1"):
        tiny(quantiser="gumbel", depth=2)
    with pytest.raises(UsageError, match=r"top_p = 0\.5 with prior = mixture:tiny"):
        tiny(prior="mixture:tiny").sample(1, VQVAESampling(top_p=0.5), ItemNoise(0, 1))
    model = tiny()
    with pytest.raises(UsageError, match="no latent space is called 'w'"):
        model.decode(torch.zeros(1, 4, 2, 2), "w")
    with pytest.raises(FormError, match="the symbol 8"):
        model.decode(torch.full((1, 1, 2, 2), 8), "codes")
    with pytest.raises(FormError, match="5 × 4"):
        model.encode(torch.zeros(1, 1, 5, 4, dtype=torch.int64))


def test_a_stage_learns_at_the_rate_of_its_own_family():
    assert plan(100).part(0.5, 3.0) == plan(50).changed(rate=3e-3)
    assert [stage.rate for stage in course(tiny(prior="gpt"))] == pytest.approx([1.0, 3.0])
    assert [stage.rate for stage in course(tiny(prior="gpt:tiny"))] == pytest.approx([1.0, 5.0])
