import pytest
import torch

from pieria.data.batch import Batch
from pieria.errors import FormError, UsageError
from pieria.forms import Column, Grid, Label, Row
from pieria.layers import grids
from pieria.layers.convolution import Decoder, Encoder, halvings
from pieria.layers.labels import Labels
from pieria.layers.rows import RowEncoding
from pieria.noise import ItemNoise

ROW = Row(
    (
        Column("pay", "number"),
        Column("hours", "integer", scale=12.0, shift=40.0),
        Column("job", "category", levels=3),
        Column("job?", "missing", of="job"),
        Column("pay?", "missing", of="pay"),
    )
)


def rows(n=1000):
    generator = torch.Generator().manual_seed(0)
    pay = torch.where(torch.rand(n, generator=generator) < 0.5, torch.zeros(n), torch.randn(n, generator=generator))
    hours = (torch.randint(10, 71, (n,), generator=generator) - 40) / 12
    job = torch.randint(3, (n,), generator=generator).float()
    none, poor = (torch.rand(2, n, generator=generator) < 0.1).float()
    return torch.stack([pay * (1 - poor), hours, job * (1 - none), none, poor], dim=1)


def fitted(modes):
    encoding = RowEncoding(ROW, modes)
    encoding.fit(lambda: [Batch(rows()[:500]), Batch(rows()[500:])])
    return encoding


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (7, 3), (8, 8), (28, 28), (5, 40)])
def test_convolutions_fit_any_rectangle(size):
    height, width = size
    encoder, decoder = Encoder(2, height, width, 16), Decoder(5, 3, height, width, 16, norm=True)
    assert encoder(torch.randn(4, 2, height, width)).shape == (4, encoder.outputs)
    steps = decoder.steps(torch.randn(4, 5))
    assert steps[-1].shape == (4, 3, height, width)
    sizes = halvings(height, width)[::-1]
    # a large picture has no features at its full size
    assert [tuple(s.shape[2:]) for s in steps] == ([*sizes, sizes[-1]] if max(size) <= 16 else sizes)


def test_a_grid_is_read_and_written_back():
    for form in (Grid(1, 2, 3, levels=17), Grid(2, 2, 3, levels=4, ordered=False), Grid(1, 2, 3, levels=2)):
        x = torch.randint(form.levels, (5, *form.shape))
        read = grids.read(form, x)
        assert read.shape[1] == grids.channels(form)
        assert read.abs().max() <= 1
        assert torch.equal(grids.write(form, read), x)
    with pytest.raises(FormError, match="2 × 3"):
        grids.read(Grid(1, 2, 3), torch.zeros(1, 1, 3, 3, dtype=torch.long))


@pytest.mark.parametrize("modes", [1, 8])
def test_a_row_survives_its_code(modes):
    encoding, x = fitted(modes), rows()
    back = encoding.decode(encoding.code(x))
    assert torch.equal(back[:, 2:], x[:, 2:])
    # within the reach of the bumps every number comes back
    assert ((back - x)[:, :2].abs() < 1e-3).float().mean() > 0.97


def test_what_many_rows_share_is_a_bump_of_its_own():
    encoding = fitted(8)
    spike = int(encoding.shares[0].argmax())
    assert encoding.centres[0, spike] == 0
    assert encoding.widths[0, spike] == pytest.approx(0.01 * float(encoding.spread[0]), rel=1e-4)
    assert encoding.shares.sum(dim=1).tolist() == pytest.approx([1.0, 1.0], rel=1e-4)


def test_choices_are_hard_forwards_and_soft_backwards():
    encoding = fitted(4)
    raw = torch.randn(64, encoding.outputs, requires_grad=True)
    code = encoding.soften(raw, ItemNoise(0, 64).gumbel("choice", (encoding.outputs,)))
    x = encoding.decode(code.detach())
    torch.testing.assert_close(encoding.decode(encoding.code(x)), x, atol=2e-3, rtol=1e-3)
    gone = x[:, 4] == 1
    assert gone.any()
    assert code[gone, 0].abs().max() < 1e-6
    (slope,) = torch.autograd.grad((code * torch.randn_like(code)).sum(), raw)
    assert (slope.abs().sum(dim=0) > 0).all()


def test_an_encoding_ignores_what_is_missing():
    encoding, x = fitted(4), rows()[:50].clone()
    x[:, 4] = 1
    moved = x.clone()
    moved[:, 0] = 7
    assert torch.equal(encoding.encode(x), encoding.encode(moved))
    assert torch.equal(encoding.code(x), encoding.code(moved))


def test_labels_are_drawn_as_often_as_in_training():
    labels = Labels(Label(("a", "b", "c")))
    labels.fit(lambda: [Batch(torch.zeros(8, 1), condition=torch.tensor([0, 0, 0, 0, 0, 0, 2, 2]))])
    drawn = labels.chosen(None, ItemNoise(0, 4000), 4000)
    assert torch.bincount(drawn, minlength=3).tolist() == pytest.approx([3000, 0, 1000], abs=120)
    assert labels.chosen(None, None, 2).tolist() == [0, 0]
    with pytest.raises(UsageError, match="2 labels for 3 items"):
        labels.chosen(torch.tensor([0, 1]), None, 3)
    with pytest.raises(FormError, match="symbol 3"):
        labels.chosen(torch.tensor([3]), None, 1)
    with pytest.raises(UsageError, match="without a condition"):
        Labels(None).chosen(torch.tensor([0]), None, 1)
