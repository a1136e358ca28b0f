import pytest
import torch

from pieria.errors import UsageError
from pieria.forms import Column, Curve, Grid, Label, Row, Tokens
from pieria.latent.distances import apart, unit
from pieria.latent.searching import search
from pieria.latent.space import Space
from pieria.models.gan import GAN, GANSettings
from pieria.models.vqvae import VQVAE, VQVAESettings
from pieria.noise import ItemNoise
from tests.latent.planted import FORM, Encoding, Planted, Sloped

CODES = torch.tensor([[0.9, -0.4, 0.7], [-1.5, 0.2, -0.3]])
# rounding to levels of 1/255 leaves the third number, which changes the picture least, the least certain
NEAR = torch.tensor([0.01, 0.02, 0.06])


@pytest.mark.parametrize(("family", "steps"), [(Planted, 40), (Sloped, 200), (Encoding, 50)])
def test_a_planted_code_is_found(family, steps):
    space = Space(family())
    x = space.decode(CODES)
    found = search(space, x, steps=steps)
    assert ((found - CODES).abs() < NEAR).all()
    assert float(apart(FORM, space.decode(found), x).max()) < 0.002


@pytest.mark.parametrize("family", [Planted, Sloped])
def test_it_is_seeded_and_each_item_is_searched_for_by_itself(family):
    space = Space(family())
    x = space.decode(CODES)
    both = search(space, x, steps=10, seed=3)
    assert torch.equal(both, search(space, x, steps=10, seed=3))
    assert torch.allclose(both[:1], search(space, x[:1], steps=10, seed=3), atol=1e-5)


def test_a_pull_shortens_codes_and_what_was_begun_with_is_never_made_worse():
    space = Space(Sloped())
    x = space.decode(CODES)
    assert (search(space, x, steps=200, pull=0.1).norm(dim=1) < 0.9 * CODES.norm(dim=1)).all()
    held = search(space, x, begin=CODES.clone(), steps=3)
    assert float(apart(FORM, space.decode(held), x).max()) <= float(apart(FORM, space.decode(CODES), x).max()) + 1e-6


def test_a_search_says_how_far_it_is():
    told = []
    space = Space(Sloped(), progress=lambda *said: told.append(said))
    search(space, space.decode(CODES), steps=5)
    assert told[-1] == ("searching for codes", 10, 10)


def test_a_generator_without_an_encoder_is_inverted():
    torch.manual_seed(0)
    model = GAN(GANSettings(latent=4, network="mlp", widths=(16,)), Grid(1, 4, 4, levels=256)).eval()
    space = Space(model)
    wanted = space.decode(space.draw(3, seed=5))
    found = search(space, wanted, steps=150, seed=1)
    assert float(apart(model.form, space.decode(found), wanted).max()) < 0.02


def test_truncation_moves_codes_towards_the_mean_of_the_prior():
    space = Space(Planted())
    assert torch.equal(space.centre, torch.zeros(3))  # a standard prior is taken for one
    assert torch.equal(space.spread, torch.ones(3))
    whole = space.draw(4, seed=2)
    assert torch.equal(whole, ItemNoise(2, 4).normal("z", (3,)))
    assert torch.allclose(space.draw(4, seed=2, truncation=0.5), 0.5 * whole)
    assert not space.draw(4, seed=2, truncation=0).any()
    with pytest.raises(UsageError, match="truncation 5"):
        space.draw(1, 0, truncation=5)


def test_a_prior_that_is_not_standard_is_measured():
    class Elsewhere(Planted):
        def prior(self, n, noise):
            return 5 + 3 * noise.normal("z", (3,))

    space = Space(Elsewhere())
    assert torch.allclose(space.centre, torch.full((3,), 5.0), atol=0.2)
    assert torch.allclose(space.spread, torch.full((3,), 3.0), atol=0.2)


@pytest.mark.parametrize(
    ("form", "first", "second", "distance"),
    [
        (Grid(1, 2, 2, levels=5), torch.zeros(1, 1, 2, 2).long(), torch.full((1, 1, 2, 2), 4), 1.0),
        (Grid(1, 2, 2, levels=5, ordered=False), torch.zeros(1, 1, 2, 2).long(), torch.full((1, 1, 2, 2), 4), 1.0),
        (Grid(1, 2, 2, levels=None), torch.full((1, 1, 2, 2), -1.0), torch.zeros(1, 1, 2, 2), 0.5),
        (Row((Column("a", "number"), Column("b", "category", levels=3))), [[0.0, 1.0]], [[1.0, 2.0]], 1.0),
        (Row((Column("a", "number"), Column("b", "category", levels=3))), [[0.0, 1.0]], [[0.0, 2.0]], 0.5**0.5),
        (Curve(), [[[0.0, 1.0]]], [[[0.0, 3.0]]], 2.0),
        (Tokens(4, 2), torch.tensor([[0, 1]]), torch.tensor([[0, 2]]), 0.5**0.5),
    ],
)
def test_how_far_items_of_each_form_are_apart(form, first, second, distance):
    assert float(apart(form, torch.as_tensor(first), torch.as_tensor(second))) == pytest.approx(distance, abs=1e-6)
    assert unit(form)


def test_a_family_without_a_latent_space_names_those_that_have_one():
    from pieria.models.ngram import MODEL

    model = MODEL(MODEL.Settings.of({}), Tokens(4, 4))
    with pytest.raises(UsageError, match=r"ngram has no latent space.*gan.*vae"):
        Space(model)


def test_symbols_have_no_paths_between_them_and_spaces_have_names():
    class Coded(Planted):
        def prior(self, n, noise):
            return noise.integers("z", 5, (3,))

    with pytest.raises(UsageError, match="symbols"):
        Space(Coded())
    with pytest.raises(UsageError, match="no latent space is called 'w'"):
        Space(Planted(), "w")
    pictures = VQVAE(VQVAESettings.of(VQVAE.presets["tiny"]), Grid(1, 4, 4, levels=2), Label(("a", "b")))
    with pytest.raises(UsageError, match="leave --space out"):
        Space(pictures.eval(), "codes")
