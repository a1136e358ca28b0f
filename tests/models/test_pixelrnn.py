import itertools

import pytest
import torch

from pieria.data.batch import Batch
from pieria.forms import Grid, Label
from pieria.models.pixelrnn import PixelRNN, PixelRNNSettings
from pieria.noise import ItemNoise
from pieria.sampling.raster import Raster, scan

BINARY, COLOUR = Grid(1, 5, 6, levels=2), Grid(3, 4, 3, levels=256)
VARIANTS = [{"network": "row"}, {"network": "row", "kernel": 5, "layers": 2}, {"network": "diagonal", "layers": 2}]


def rough(form, condition=None, **settings):
    """A network whose weights are far from zero, so that what it sees matters."""
    torch.manual_seed(0)
    small = {"features": 8, "first": 3, "bumps": 3}
    model = PixelRNN(PixelRNNSettings(**{**small, **settings}), form, condition).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def some(form, n=3):
    return torch.randint(form.levels, (n, *form.shape), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("form", [BINARY, COLOUR], ids=["binary", "colour"])
def test_cached_and_naive_reading_say_the_same(form, variant):
    model = rough(form, Label(("a", "b")), **variant)
    labels = model.labels(torch.tensor([0, 1, 1]), 3)
    uniform, said, drawn = torch.rand(3, *form.shape, 2), [], []
    with torch.no_grad():
        for cached in (True, False):
            x = model._blank(3)
            cells = scan(model.reader(labels, cached), model.law, x, uniform)
            said.append(torch.stack([cell.raw.clone() for cell in cells]))
            drawn.append(x)
    assert float((said[0] - said[1]).abs().max()) <= 1e-5
    assert torch.equal(*drawn)


def seen(model, row, column):
    """How far what is said of a cell moves with each other cell, ``[height · width]``."""
    x, none = some(model.form, 1), torch.zeros(1, 0)
    with torch.no_grad():
        plain = model.network(x, none)[0, :, row, column]
        moves = []
        for other in range(x.numel()):
            changed = x.clone()
            changed.view(-1)[other] ^= 1
            moves.append(float((model.network(changed, none)[0, :, row, column] - plain).abs().max()))
    return torch.tensor(moves)


def test_the_diagonal_network_sees_every_cell_before_in_one_layer():
    model = rough(Grid(1, 4, 7, levels=2), network="diagonal")
    for row, column in ((2, 3), (3, 0), (3, 6)):
        moves = seen(model, row, column)
        assert float(moves[row * 7 + column :].max()) == 0
        assert float(moves[: row * 7 + column].min()) > 0


def test_the_row_network_sees_a_triangle():
    model = rough(Grid(1, 4, 9, levels=2), network="row")
    moves = seen(model, 3, 4).view(4, 9) > 0
    assert not moves[3, 4:].any()
    assert moves[2, 3:6].all()
    assert moves[0, 2:7].all()
    assert not moves[2, 8]  # of the row above, only what is near


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_it_is_a_distribution_over_pictures(variant):
    model = rough(Grid(1, 2, 3, levels=3), **variant)
    x = torch.tensor(list(itertools.product(range(3), repeat=6))).view(-1, 1, 2, 3)
    assert float(model.log_prob(Batch(x)).double().exp().sum()) == pytest.approx(1, abs=1e-5)


def test_filling_goes_on_with_the_right_states():
    model, x = rough(BINARY, network="diagonal"), some(BINARY)
    mask = torch.zeros_like(x, dtype=torch.bool)
    mask[:, :, 3:] = True
    made = {cached: model.fill(x, mask, Raster(particles=8, cached=cached), ItemNoise(0, 3)) for cached in (True, False)}
    assert torch.equal(made[True], made[False])  # particles were exchanged on the way
    assert torch.equal(made[True][mask], x[mask])
