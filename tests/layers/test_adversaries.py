"""The players of adversarial games on pictures of any size."""

import pytest
import torch

from pieria.layers.adversaries import (
    BatchNorm,
    ClassNorm,
    DeepDiscriminator,
    DeepGenerator,
    ResidualDiscriminator,
    ResidualGenerator,
)

SIZES = [(4, 4), (5, 9), (7, 16), (17, 23), (32, 32), (4, 33)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cells", [1, 3])
def test_any_rectangle_is_made_and_read_and_every_weight_takes_part(size, cells):
    torch.manual_seed(0)
    codes = torch.randn(3, 7)
    codes[:, 5:] = torch.eye(2)[[0, 1, 1]]
    players = [
        (DeepGenerator(7, cells, *size, 16), DeepDiscriminator(cells, *size, 16, norm=True)),
        (DeepGenerator(7, cells, *size, 16), DeepDiscriminator(cells, *size, 16, spectral=True)),
        (ResidualGenerator(7, 2, cells, *size, 16), ResidualDiscriminator(cells, *size, 16)),
    ]
    for generator, discriminator in players:
        *maps, picture = generator.steps(codes)
        assert picture.shape == (3, cells, *size)
        assert max(maps[0].shape[2:]) <= 4
        features = discriminator(picture)
        assert features.shape == (3, discriminator.outputs)
        (features * torch.randn_like(features)).sum().backward()
        for name, parameter in [*generator.named_parameters(), *discriminator.named_parameters()]:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0 or name.endswith("bias"), name


def test_the_published_networks_at_32_pixels():
    generator, discriminator = DeepGenerator(100, 1, 32, 32, 256), DeepDiscriminator(1, 32, 32, 256, norm=True)
    shapes = [tuple(features.shape[1:]) for features in generator.steps(torch.randn(2, 100))]
    assert shapes == [(256, 4, 4), (128, 8, 8), (64, 16, 16), (1, 32, 32)]
    assert discriminator.outputs == 256 * 4 * 4
    assert sum(isinstance(layer, BatchNorm) for layer in discriminator.layers) == 2  # not behind the first convolution
    deviations = [float(stage.weight.detach().std()) for stage in generator.stages]
    assert deviations == pytest.approx([0.02] * 3, rel=0.1)


def test_each_class_has_its_own_gain_and_shift():
    norm = ClassNorm(3, 2).train()
    with torch.no_grad():
        norm.gain.copy_(torch.tensor([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]))
        norm.shift.copy_(torch.tensor([[0.0, 0.0, 0.0], [5.0, 5.0, 5.0]]))
    x = torch.randn(8, 3, 4, 4).repeat(2, 1, 1, 1)
    first, second = norm(x, torch.eye(2).repeat_interleave(8, 0)).chunk(2)
    torch.testing.assert_close(second, 2 * first + 5)


def test_statistics_for_drawing_forget_the_first_batches():
    norm = BatchNorm(1).train()
    norm(torch.full((4, 1, 2, 2), 1000.0) + torch.randn(4, 1, 2, 2))
    for _ in range(50):
        norm(7 + torch.randn(4, 1, 2, 2))
    assert float(norm.running_mean) == pytest.approx(7, abs=0.5)
    norm.eval()
    x = torch.randn(4, 1, 2, 2)
    torch.testing.assert_close(norm(x)[:2], norm(x[:2]))  # an item does not depend on the batch around it
