import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pieria.layers.image_translation import (
    PatchDiscriminator,
    ResNetGenerator,
    UNetGenerator,
    mirrored,
    reflected,
)
from pieria.layers.picture_pool import PicturePool
from pieria.noise import ItemNoise


def networks():
    torch.manual_seed(0)
    return ResNetGenerator(2, 3, 4, 1, 1, wide=True).eval(), UNetGenerator(2, 3, 4, 3, 0.5).eval()


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (16, 16), (13, 30)])
def test_a_picture_of_any_size_keeps_its_size(size):
    for network in networks():
        made = network(torch.rand(2, 2, *size) * 2 - 1)
        assert made.shape == (2, 3, *size)
        assert made.abs().max() <= 1


def test_a_picture_does_not_depend_on_the_others():
    x = torch.rand(3, 2, 16, 16) * 2 - 1
    for network in networks():
        assert torch.allclose(network(x)[1:2], network(x[1:2]), atol=1e-5)


def test_slices_mirror_as_torch_does():
    x = torch.rand(1, 2, 5, 7)
    assert torch.equal(mirrored(x, 1, 4, 2, 0), F.pad(x, (1, 4, 2, 0), mode="reflect"))
    assert torch.equal(reflected(x, 0, 9, 0, 0), F.pad(x, (0, 9, 0, 0), mode="replicate"))


@pytest.mark.parametrize(("halvings", "patch"), [(0, 7), (1, 16), (2, 34), (3, 70)])
def test_a_score_is_of_a_patch_of_the_stated_size(halvings, patch):
    judge = PatchDiscriminator(1, 2, halvings)
    for name, layer in list(judge.layers.named_children()):
        if isinstance(layer, nn.InstanceNorm2d | nn.LeakyReLU):  # a norm looks at the whole picture
            setattr(judge.layers, name, nn.Identity())
    x = torch.zeros(1, 1, 160, 160, requires_grad=True)
    scores = judge(x)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    seen = x.grad[0, 0] != 0
    assert (int(seen.any(dim=0).sum()), int(seen.any(dim=1).sum())) == (patch, patch)


def test_dropout_is_the_noise_of_a_unet_and_follows_the_item():
    _, network = networks()
    x = (torch.rand(1, 2, 16, 16) * 2 - 1).expand(3, -1, -1, -1)
    made = network(x, ItemNoise(0, 3))
    assert not torch.equal(made[0], made[1])
    assert torch.allclose(network(x[:1], ItemNoise(0, 1, first=2)), made[2:], atol=1e-5)
    assert torch.allclose(network(x)[0], network(x)[1], atol=1e-6)


def test_a_pool_fills_up_and_then_gives_older_pictures_half_of_the_time():
    pool = PicturePool(4, (1,))
    assert pool.exchanged(torch.arange(4.0)[:, None], ItemNoise(0, 4), "a").flatten().tolist() == [0, 1, 2, 3]
    shown = pool.exchanged(torch.full((100, 1), 9.0), ItemNoise(1, 100), "a").flatten()
    assert {0.0, 1.0, 2.0, 3.0} <= set(shown.tolist())  # each was shown again once, and its place taken
    assert (shown == 9).sum() == 96
    again = PicturePool(4, (1,))
    again.load_state_dict(pool.state_dict())
    fresh = torch.arange(100.0, 110.0)[:, None]
    assert torch.equal(again.exchanged(fresh, ItemNoise(2, 10), "a"), pool.exchanged(fresh, ItemNoise(2, 10), "a"))
    older = PicturePool(50, (1,)).exchanged(fresh, ItemNoise(2, 10), "a")
    assert torch.equal(older, fresh)
    swaps = [PicturePool(1, (1,)) for _ in range(200)]
    kept = [one.exchanged(torch.tensor([[1.0], [2.0]]), ItemNoise(seed, 2), "a")[1].item() for seed, one in enumerate(swaps)]
    assert 70 < kept.count(1.0) < 130
    assert torch.equal(PicturePool(0, (1,)).exchanged(fresh, ItemNoise(2, 10), "a"), fresh)
