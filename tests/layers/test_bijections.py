import pytest
import torch

from pieria.layers import bijections as b
from pieria.layers.splines import BOUND, Affine, Spline

EVEN, ODD = slice(0, None, 2), slice(1, None, 2)


def field(law, maps=False):
    network = b.FieldNetwork(2, 3, 8, 2 * law.parameters, maps=maps)
    return b.Coupling(4, slice(0, 2), slice(2, 4), network, law)


def vector(law, size=5, given=3):
    network = b.VectorNetwork(len(range(size)[ODD]), given, (16,), len(range(size)[EVEN]) * law.parameters)
    return b.Coupling(size, ODD, EVEN, network, law)


def aside(channels):
    half = channels // 2
    return b.Coupling(channels, slice(0, half), slice(half, None), b.FieldNetwork(half, 3, 8, half * 2), Affine())


def scales():
    def level(channels):
        half = channels // 2
        coupling = b.Coupling(channels, slice(0, half), slice(half, None), b.FieldNetwork(half, 3, 8, half * 2), Affine())
        return b.Chain([b.ActNorm(channels), b.Mixing(channels), coupling])

    return b.Scales((8, 16, 1), [level(4), level(16), level(32)], [None, aside(16)], b.Squeeze())


MAPS = {
    "actnorm": (lambda: b.ActNorm(5), (5,)),
    "actnorm of a field": (lambda: b.ActNorm(4), (2, 3, 4)),
    "mixing": (lambda: b.Mixing(4), (2, 3, 4)),
    "squeeze": (b.Squeeze, (2, 4, 3)),
    "affine coupling": (lambda: vector(Affine()), (5,)),
    "spline coupling": (lambda: vector(Spline(6)), (5,)),
    "coupling without context": (lambda: vector(Spline(6), given=0), (5,)),
    "coupling of one number": (
        lambda: b.Coupling(1, ODD, EVEN, b.VectorNetwork(0, 0, (8,), 8), Spline(3)),
        (1,),
    ),
    "affine coupling of a field": (lambda: field(Affine()), (2, 3, 4)),
    "spline coupling of a field": (lambda: field(Spline(4)), (2, 3, 4)),
    "autoregressive": (lambda: b.Autoregressive(4, 3, (16, 16), Affine()), (4,)),
    "autoregressive, backwards": (lambda: b.Autoregressive(4, 0, (16, 16), Spline(5), backwards=True), (4,)),
    "scales": (scales, (8, 16, 1)),
}


def made(name):
    """A map with weights that are not those of the start, in float64."""
    torch.manual_seed(0)
    build, shape = MAPS[name]
    bijection = build().double()
    for parameter in bijection.parameters():
        if parameter.ndim < 3 or parameter.abs().max() == 0:
            parameter.data += 0.3 * torch.randn_like(parameter) / parameter.shape[-1] ** 0.5
    given = 0 if "without" in name or "backwards" in name or "of one" in name else 3
    return bijection, 1.5 * torch.randn(4, *shape).double(), torch.randn(4, given).double()


@pytest.mark.parametrize("name", MAPS)
def test_the_inverse_comes_back(name):
    bijection, x, context = made(name)
    z, _ = bijection(x, context)
    assert not torch.allclose(z.flatten(), x.flatten())
    torch.testing.assert_close(bijection.inverse(z, context), x, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", MAPS)
def test_the_determinant_is_that_of_the_jacobian(name):
    bijection, x, context = made(name)
    rises = bijection(x, context)[1].detach()
    for item in range(2):
        jacobian = torch.autograd.functional.jacobian(
            lambda value, item=item: bijection(value[None], context[item : item + 1])[0][0].flatten(), x[item]
        )
        square = jacobian.reshape(x[item].numel(), -1)
        assert float(rises[item]) == pytest.approx(float(torch.linalg.slogdet(square)[1]), abs=1e-9)


@pytest.mark.parametrize("name", ["affine coupling", "spline coupling", "autoregressive", "actnorm"])
def test_what_is_missing_has_no_part(name):
    bijection, x, context = made(name)
    there = torch.tensor([1.0, 0, 1, 1, 0])[: x.shape[1]].expand_as(x).double()
    x = x * there
    z, rises = (part.detach() for part in bijection(x, context, there))
    assert (z[there == 0] == 0).all()
    torch.testing.assert_close(bijection.inverse(z, context, there), x)
    kept = there[0] > 0

    def some(value):
        whole = torch.zeros_like(x[0]).masked_scatter(kept, value)
        return bijection(whole[None], context[:1], there[:1])[0][0][kept]

    jacobian = torch.autograd.functional.jacobian(some, x[0][kept])
    assert float(rises[0]) == pytest.approx(float(torch.linalg.slogdet(jacobian)[1]), abs=1e-9)


def test_actnorm_begins_with_a_standardised_batch():
    x = 5 + 3 * torch.randn(200, 4, 4, 2)
    chain = b.Chain([b.Mixing(2), b.ActNorm(2)])
    z = chain.start(x, x.new_zeros(200, 0))
    torch.testing.assert_close(z.flatten(0, 2).mean(dim=0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.flatten(0, 2).std(dim=0), torch.ones(2), atol=1e-3, rtol=0)


@pytest.mark.parametrize("law", [Affine(), Spline(7)])
def test_a_law_is_the_identity_at_first_and_outside_the_bound_of_a_spline(law):
    x = torch.linspace(-8, 8, 101)
    y, rise = law.forward(x, torch.zeros(101, law.parameters))
    torch.testing.assert_close(y, x, atol=2e-6, rtol=0)
    torch.testing.assert_close(rise, torch.zeros(101), atol=2e-6, rtol=0)
    if isinstance(law, Spline):
        raw = torch.randn(101, law.parameters)
        y, rise = law.forward(x, raw)
        out = x.abs() >= BOUND
        assert torch.equal(y[out], x[out])
        assert (rise[out] == 0).all()
        assert (y[1:] > y[:-1]).sum() > 0


def test_a_steep_spline_rises_and_has_gradients_everywhere():
    x = torch.linspace(-5.5, 5.5, 4001, dtype=torch.float64)
    raw = (20 * torch.randn(1, 11, generator=torch.Generator().manual_seed(1)).double()).expand(4001, -1).requires_grad_()
    law = Spline(4)
    y, rise = law.forward(x, raw)
    assert (y.diff() > 0).all()
    (y.sum() + rise.sum()).backward()
    assert torch.isfinite(raw.grad).all()
    torch.testing.assert_close(law.inverse(y, raw), x, atol=1e-8, rtol=0)


def test_the_last_step_back_through_the_scales_is_the_inverse():
    bijection, x, context = made("scales")
    z, _ = bijection(x, context)
    steps = list(bijection.steps(z, context))
    assert len(steps) == 3
    assert all(step.shape == x.shape for step in steps)


@pytest.mark.parametrize("maps", [False, True])
@pytest.mark.parametrize("spread", [False, True])
def test_a_field_network_is_a_convolution(maps, spread):
    torch.manual_seed(0)
    network = b.FieldNetwork(2, 3, 8, 5, maps=maps, spread=spread)
    network.last.weight.data = torch.randn_like(network.last.weight)
    x, context = torch.randn(2, 4, 6, 2), torch.randn(2, 4, 6, 3) if maps else torch.randn(2, 3)
    read = torch.cat([x, context], dim=-1) if maps else x
    # weights of windows are [out, 3, 3, in]; what is written is meant for the places around, so that kernel is turned
    first = network.first.weight.view(8, 3, 3, -1).permute(0, 3, 1, 2)
    features = torch.conv2d(read.permute(0, 3, 1, 2), first, network.first.bias, padding=1)
    if not maps:
        features = features + network.given(context)[:, :, None, None]
    features = torch.conv2d(features.relu(), network.middle.weight[:, :, None, None], network.middle.bias).relu()
    last = (
        network.last.weight.view(3, 3, 5, 8).flip(0, 1).permute(2, 3, 0, 1)
        if spread
        else network.last.weight[..., None, None]
    )
    wanted = torch.conv2d(features, last, network.bias, padding=1 if spread else 0).permute(0, 2, 3, 1)
    torch.testing.assert_close(network(x, context), wanted, atol=1e-5, rtol=1e-5)


def test_an_autoregressive_layer_of_few_features_still_sees_all_numbers_before():
    torch.manual_seed(0)
    layer = b.Autoregressive(10, 0, (4,), Affine())
    torch.nn.init.normal_(layer.network.last.weight)
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x, torch.zeros(1, 0))[0][0], torch.randn(1, 10))[:, 0]
    assert (jacobian[-1] != 0).all()
    assert (jacobian.triu(1) == 0).all()
