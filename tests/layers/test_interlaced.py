import pytest
import torch

from pieria.layers.interlaced import Interlaced, passes


def test_every_cell_but_those_of_the_coarse_grid_is_told_once():
    for height, width, coarse in ((8, 8, 16), (28, 28, 49), (32, 16, 32), (12, 20, 60)):
        told = torch.zeros(height, width)
        known = torch.zeros(height, width)
        for (row, column, stride), before in passes(height, width):
            told[row::stride, column::stride] += 1
            for r, c, s in before:
                known[r::s, c::s] = 1
                assert (told[r::s, c::s] <= 1).all()
            assert known[row::stride, column::stride].sum() == 0  # nothing is told by itself
        assert told.max() == 1
        assert (told == 0).sum() == coarse
    assert passes(9, 8) == []


@pytest.mark.parametrize("context", [0, 3])
def test_it_comes_back_and_its_determinant_is_that_of_the_jacobian(context):
    torch.manual_seed(0)
    couplings = Interlaced((8, 8, 2), 2, context, 16, 5).double()
    for parameter in couplings.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    x, given = torch.randn(2, 8, 8, 2).double(), torch.randn(2, context).double()

    def read(field):
        return (2 * field).round()  # what is shown of a cell is its level

    z, rises = (part.detach() for part in couplings(x, read(x), given))
    assert not torch.allclose(z, x)
    torch.testing.assert_close(couplings.inverse(z, read, given).detach(), x, atol=1e-8, rtol=0)
    jacobian = torch.autograd.functional.jacobian(
        lambda value: couplings(value[None], read(value[None].detach()), given[:1])[0].flatten(), x[0]
    )
    assert float(rises[0]) == pytest.approx(float(torch.linalg.slogdet(jacobian.reshape(128, 128))[1]), abs=1e-8)
