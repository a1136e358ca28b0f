"""StyleGAN2: modulation, styles, penalties, augmentation."""

import pytest
import torch
import torch.nn.functional as F

from pieria.data.batch import Batch
from pieria.forms import Grid, Label
from pieria.latent.searching import search
from pieria.latent.space import Space
from pieria.layers.augmentation import augment
from pieria.layers.modulation import Modulated
from pieria.models.stylegan2 import StyleGAN2, StyleGAN2Sampling, StyleGAN2Settings
from pieria.noise import ItemNoise, StepNoise, seeded
from pieria.training.game import Game
from pieria.training.plan import Plan
from pieria.training.processes import Processes

SMALL = StyleGAN2Settings(latent=8, style=16, mapping=2, channels=16)


def small(form: Grid | None = None, condition: Label | None = None) -> StyleGAN2:
    with seeded(0, "weights"):
        return StyleGAN2(SMALL, form or Grid(1, 14, 14, levels=256), condition)


@pytest.mark.parametrize("double", [False, True])
def test_a_modulated_convolution_has_weights_of_its_own_for_each_item(double):
    layer = Modulated(5, 7, 3, 4, double=double).double()
    x, w = torch.randn(3, 5, 6, 6, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    style = layer.affine(w)
    weights = layer.weight[None] * layer.scale * style[:, None, :, None, None]
    weights = weights * (weights.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    found = layer(x, w)
    for item in range(3):
        if double:
            from pieria.layers.filters import blur

            wanted = blur(F.conv_transpose2d(x[item : item + 1], weights[item].transpose(0, 1), stride=2), (1, 1), gain=4.0)
        else:
            wanted = F.conv2d(x[item : item + 1], weights[item], padding=1)
        assert torch.allclose(found[item], wanted[0], atol=1e-6)


def test_demodulated_features_begin_with_unit_variance():
    with seeded(0, "weights"):
        layer = Modulated(64, 64, 3, 32)
        x, w = torch.randn(64, 64, 16, 16), torch.randn(64, 32)
    assert float(layer(x, w)[..., 1:-1, 1:-1].detach().var()) == pytest.approx(1.0, abs=0.02)


def test_without_truncation_codes_differ_and_at_zero_there_is_one_picture():
    model = small()
    noise = ItemNoise(seed=0, size=4)
    varied = model.sample(4, StyleGAN2Sampling(), noise)
    same = model.sample(4, StyleGAN2Sampling(truncation=0.0), noise)
    assert (varied[0] != varied[1]).any()
    assert (same == same[:1]).all()


def test_spaces_lead_to_the_same_picture():
    model = small()
    z = model.prior(2, ItemNoise(seed=1, size=2))
    w = model.styles(z, z.new_zeros(2, 0)).detach()
    places = w[:, None].expand(-1, *model.latents["w+"][:1], -1)
    wanted = model.decode(z)
    assert torch.equal(model.decode(w, "w"), wanted)
    assert torch.equal(model.decode(places, "w+"), wanted)
    mixed = places.clone()
    mixed[:, -2:] = w.flip(0)[:, None]
    assert (model.decode(mixed, "w+") != wanted).any()


def test_directions_are_orthonormal_and_move_the_picture_more_than_the_last_ones():
    model = small()
    directions = model.directions(16)
    assert torch.allclose(directions @ directions.t(), torch.eye(16), atol=1e-4)
    styles = model.typical().expand(2, -1)

    def change(direction: torch.Tensor) -> float:
        there = model._picture((styles + 3 * direction)[:, None].expand(-1, model.synthesis.styles, -1), None)
        return float((there - model._picture(styles[:, None].expand(-1, model.synthesis.styles, -1), None)).square().mean())

    with torch.no_grad():
        assert change(directions[0]) > change(directions[-1])


def test_every_penalty_has_a_gradient_for_its_player_alone():
    model = small(condition=Label(("a", "b")))
    batch = Batch(torch.randint(256, (8, 1, 14, 14)), condition=torch.arange(8) % 2)
    for phase in model.phases():
        model.zero_grad()
        phase.loss(batch, StepNoise(0, 0, phase.name, 8)).loss.backward()
        own = [p for entry in model.groups()[phase.group] for p in entry["params"]]
        assert sum(float(p.grad.abs().sum()) for p in own if p.grad is not None) > 0, phase.name


def test_augmentation_grows_while_the_discriminator_is_sure_and_shrinks_otherwise():
    model = small()
    for sign, wanted in ((1.0, 32 * 4 / 100_000), (-1.0, 0.0)):
        for _ in range(4):
            model.signs[0] += 32 * sign
            model.signs[1] += 32
            model.adapt()
        assert float(model.strength) == pytest.approx(wanted)


def test_augmentation_leaves_pictures_alone_without_strength_and_changes_all_with_it():
    picture = torch.rand(16, 3, 12, 12) * 2 - 1
    noise = StepNoise(0, 0, "judge", 16)
    assert augment(picture, 0.0, noise, "real") is picture
    rarely = augment(picture, 0.01, noise, "real")
    assert torch.allclose(rarely, picture, atol=1e-5, rtol=0) or (rarely - picture).abs().amax((1, 2, 3)).gt(0.1).sum() <= 3
    changed = augment(picture, 1.0, noise, "real")
    assert changed.shape == picture.shape
    assert ((changed - picture).abs().amax((1, 2, 3)) > 0.1).all()
    picture.requires_grad_(True)
    augment(picture, 0.7, noise, "real").sum().backward()
    assert picture.grad is not None
    assert picture.grad.abs().sum() > 0


def test_codes_of_every_space_lifted_from_z_make_the_same_picture():
    model = small()
    z = model.prior(3, ItemNoise(seed=2, size=3))
    for space in ("w", "w+"):
        assert torch.equal(model.decode(model.lift(z, space), space), model.decode(z))


def test_a_search_in_the_styles_of_each_place_finds_a_picture_better_than_one_among_codes():
    model = small(Grid(1, 8, 8, levels=None))
    wanted = model.decode(model.prior(2, ItemNoise(seed=5, size=2)) * 1.5)
    away = {}
    for name in ("z", "w+"):
        space = Space(model, name)
        found = search(space, wanted, steps=60)
        away[name] = float((space.decode(found) - wanted).square().mean())
    assert away["w+"] < away["z"]


def test_memories_of_gradients_are_the_plans_for_the_share_of_steps_that_each_player_has():
    game = Game(small(), Plan(beta1=0.5, beta2=0.9), Processes(torch.device("cpu")))
    for name, share in (("generator", 4 / 5), ("discriminator", 16 / 17)):
        assert game.optimisers[name].param_groups[0]["betas"] == pytest.approx((0.5**share, 0.9**share))
