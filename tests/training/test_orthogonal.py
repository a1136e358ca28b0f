"""Orthogonal steps against a singular-value decomposition, and their state across a checkpoint."""

import copy

import pytest
import torch

from pieria.training.orthogonal import OrthogonalAdamW, orthogonalised


@pytest.mark.parametrize("shape", [(24, 24), (12, 40), (40, 12)])
def test_singular_values_become_about_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonalised(matrix)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.4
    assert values.max() < 1.35
    assert float(torch.cosine_similarity(found.flatten(), (u @ v).flatten(), dim=0)) > 0.97


def problem():
    torch.manual_seed(0)
    layer = torch.nn.Linear(8, 6)
    groups = [{"params": [layer.weight], "orthogonal": 2.0}, {"params": [layer.bias]}]
    return layer, OrthogonalAdamW(groups, lr=0.01, weight_decay=0.0)


def advance(layer, optimiser, seed):
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(seed))
    optimiser.zero_grad()
    (layer(x) - x[:, :6]).square().mean().backward()
    optimiser.step()


def test_the_step_has_the_stated_size_and_other_groups_are_adamw():
    layer, optimiser = problem()
    twin = torch.nn.Linear(8, 6)
    twin.load_state_dict(layer.state_dict())
    plain = torch.optim.AdamW([twin.bias], lr=0.01, weight_decay=0.0)
    before = layer.weight.detach().clone()
    advance(layer, optimiser, 1)
    advance(twin, plain, 1)
    moved = (layer.weight.detach() - before).square().mean().sqrt()
    # an orthogonal 6 × 8 matrix has root-mean-square 1 / √8, which the step multiplies by 0.01 · 2 · 0.2 · √8
    assert float(moved) == pytest.approx(0.004, rel=0.25)
    assert torch.equal(layer.bias, twin.bias)


def test_it_goes_on_from_its_state():
    layer, optimiser = problem()
    for seed in range(3):
        advance(layer, optimiser, seed)
    again, resumed = problem()
    again.load_state_dict(layer.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    for seed in range(3, 6):
        advance(layer, optimiser, seed)
        advance(again, resumed, seed)
    assert torch.equal(layer.weight, again.weight)
    assert torch.equal(layer.bias, again.bias)


def test_a_convolution_is_moved_as_the_matrix_of_its_windows():
    torch.manual_seed(0)
    layer, flat = torch.nn.Conv2d(4, 6, 3, bias=False), torch.nn.Linear(36, 6, bias=False)
    flat.weight.data.copy_(layer.weight.flatten(1))
    x = torch.randn(5, 4, 3, 3)
    for each, given in ((layer, x), (flat, x.flatten(1))):
        optimiser = OrthogonalAdamW([{"params": [each.weight], "orthogonal": 2.0}], lr=0.01, weight_decay=0.0)
        for _ in range(2):
            optimiser.zero_grad()
            each(given).flatten(1).square().mean().backward()
            optimiser.step()
    torch.testing.assert_close(layer.weight.flatten(1), flat.weight, atol=1e-4, rtol=0)
