import itertools

import pytest
import torch

from pieria.data.batch import Batch
from pieria.errors import FormError
from pieria.forms import Grid, Label
from pieria.models.pixelcnn import PixelCNN, PixelCNNSettings
from pieria.noise import ItemNoise, StepNoise
from pieria.sampling.raster import Raster, scan
from tests.models.game import play

BINARY, COLOUR, TILES = Grid(1, 6, 7, levels=2), Grid(3, 4, 5, levels=256), Grid(2, 4, 4, levels=5, ordered=False)
VARIANTS = [{}, {"network": "masked"}, {"attention": 1}, {"network": "masked", "attention": 2, "places": False}]


def rough(form, condition=None, **settings):
    """A network whose weights are far from zero, so that what it sees matters."""
    torch.manual_seed(0)
    small = {"features": 8, "layers": 2, "first": 5, "kernel": 3, "bumps": 3, "heads": 2}
    model = PixelCNN(PixelCNNSettings(**{**small, **settings}), form, condition).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def some(form, n=3):
    return torch.randint(form.levels, (n, *form.shape), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("form", [BINARY, COLOUR, TILES], ids=["binary", "colour", "tiles"])
def test_cached_and_naive_reading_say_the_same(form, variant):
    model = rough(form, Label(("a", "b")), **variant)
    labels = model.labels(torch.tensor([0, 1, 1]), 3)
    uniform, said, drawn = torch.rand(3, *form.shape, 2), [], []
    with torch.no_grad():
        for cached in (True, False):
            x = model._blank(3)
            said.append(
                torch.stack([cell.raw.clone() for cell in scan(model.reader(labels, cached), model.law, x, uniform)])
            )
            drawn.append(x)
    assert float((said[0] - said[1]).abs().max()) <= 1e-5
    assert torch.equal(*drawn)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_pixel_sees_all_that_stands_before_it_and_nothing_after(variant):
    # six layers reach over the whole of this picture
    model = rough(Grid(1, 5, 5, levels=2), layers=6, **variant)
    x, place = some(model.form, 1), 12  # the middle
    with torch.no_grad():
        plain = model.network(x, torch.zeros(1, 0))[0, :, 2, 2]
        moves = []
        for other in range(25):
            changed = x.clone()
            changed.view(-1)[other] ^= 1
            moves.append(float((model.network(changed, torch.zeros(1, 0))[0, :, 2, 2] - plain).abs().max()))
    assert max(moves[place:]) == 0
    if variant.get("network") != "masked":
        assert min(moves[:place]) > 1e-6  # no blind spot


def test_masked_convolutions_alone_have_a_blind_spot():
    model = rough(Grid(1, 5, 9, levels=2), network="masked", layers=6, first=3)
    x = some(model.form, 1)
    changed = x.clone()
    changed[0, 0, 3, 6] ^= 1  # in the row above, two to the right of where the window ends
    with torch.no_grad():
        seen = [model.network(given, torch.zeros(1, 0))[0, :, 4, 4] for given in (x, changed)]
    assert torch.equal(*seen)


def test_nats_of_pixels_add_up_to_the_likelihood():
    model, x = rough(COLOUR), some(COLOUR)
    reader, total = model.reader(torch.zeros(3, 0)), torch.zeros(3, dtype=torch.float64)
    with torch.no_grad():
        for row, column in itertools.product(range(4), range(5)):
            if column == 0:
                reader.row(row)
            raw, values = reader.cell(row, column), x[:, :, row, column]
            total += sum(model.law.nats(raw, values[:, :c], values[:, c]) for c in range(3))
            reader.put(row, column, values)
        assert torch.allclose(total.float(), model.log_prob(Batch(x)), rtol=1e-5)


@pytest.mark.parametrize("law", ["categorical", "logistic"])
def test_either_law_is_a_distribution_over_pictures(law):
    model = rough(Grid(2, 1, 2, levels=4), law=law)
    x = torch.tensor(list(itertools.product(range(4), repeat=4))).view(-1, 2, 1, 2)
    assert float(model.log_prob(Batch(x)).double().exp().sum()) == pytest.approx(1, abs=1e-5)


def test_the_log_says_nats_of_a_pixel_with_all_its_colours():
    model = rough(COLOUR, precision="float32")
    losses = model.loss(Batch(some(COLOUR)), StepNoise(0, 0, "likelihood", 3))
    assert float(losses.parts["nats a pixel"]) == pytest.approx(float(losses.loss.detach()) / 20, rel=1e-5)


def test_dropout_is_of_training_alone():
    model, x = rough(BINARY, dropout=0.5), some(BINARY)
    first = model.log_prob(Batch(x))
    assert torch.equal(first, model.log_prob(Batch(x)))
    model.train()
    assert not torch.equal(first, model.log_prob(Batch(x)))


def mirrored(n=4000):
    """The lower row equals the upper one, which is anything."""
    top = torch.randint(2, (n, 1, 1, 3), generator=torch.Generator().manual_seed(0))
    return torch.cat([top, top], dim=2)


def test_filling_goes_by_what_stands_after_as_well():
    torch.manual_seed(0)
    settings = {**PixelCNN.presets["tiny"], "precision": "float32"}
    model = play(PixelCNN(PixelCNNSettings(**settings), Grid(1, 2, 3, levels=2)), mirrored(), 120, rate=1e-2)
    x = mirrored(60)
    mask = torch.zeros_like(x, dtype=torch.bool)
    mask[:, :, 1] = True  # the lower row is given, the upper one is to be found
    agree = {}
    for particles in (1, 64):
        made = model.fill(x, mask, Raster(particles=particles), ItemNoise(0, 60))
        assert torch.equal(made[mask], x[mask])
        agree[particles] = float((made[:, :, 0] == x[:, :, 0]).double().mean())
    assert agree[1] < 0.65  # in reading order nothing was known yet
    assert agree[64] > 0.97
    one = model.fill(x[7:8], mask[7:8], Raster(particles=8), ItemNoise(0, 1, first=7))
    all_of_them = model.fill(x, mask, Raster(particles=8), ItemNoise(0, 60))
    assert torch.equal(one, all_of_them[7:8])


def test_a_mask_of_another_size_is_refused():
    model, x = rough(BINARY), some(BINARY)
    with pytest.raises(FormError, match=r"a mask of \[3, 1, 5, 7\]"):
        model.fill(x, torch.ones(3, 1, 5, 7, dtype=torch.bool), Raster(), ItemNoise(0, 3))
    with pytest.raises(FormError, match="5 × 7"):
        model.log_prob(Batch(x[:, :, :5]))


def test_the_trace_tells_the_odds_of_every_pixel():
    model = rough(BINARY)
    steps = list(model.trace(Raster(), ItemNoise(0, 1)))
    assert len(steps) == 6 * 7 + 1
    assert all(float(step.data["odds"].sum()) == pytest.approx(1, abs=1e-5) for step in steps[:-1])
    nats = float(steps[-1].data["surprise"].sum())
    assert nats == pytest.approx(-float(model.log_prob(Batch(steps[-1].x))), rel=1e-4)
