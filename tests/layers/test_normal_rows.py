import pytest
import torch

from pieria.data.batch import Batch
from pieria.forms import Column, Row
from pieria.layers.normal_rows import NormalRows
from pieria.losses.around import row_around

FORM = Row(
    (
        Column("pay", "number"),
        Column("pay?", "missing", of="pay"),
        Column("job", "category", levels=3),
        Column("hours", "integer", scale=5.0, shift=40.0),
    )
)


def fitted(modes=6, n=3000):
    g = torch.Generator().manual_seed(0)
    # most pay nothing, others by a law with a long tail; hours pile up at 40
    pay = torch.where(torch.rand(n, generator=g) < 0.4, torch.zeros(n), torch.randn(n, generator=g).exp())
    hours = torch.where(torch.rand(n, generator=g) < 0.5, torch.full((n,), 40.0), torch.randint(20, 60, (n,), generator=g))
    gone = (torch.rand(n, generator=g) < 0.1).float()
    job = torch.randint(3, (n,), generator=g).float()
    x = torch.stack([pay * (1 - gone), gone, job, (hours - 40) / 5], dim=1)
    rows = NormalRows(FORM, modes)
    rows.rows.fit(lambda: [Batch(x)])
    return rows, x


def test_rows_come_back_and_numbers_become_gaussian():
    rows, x = fitted()
    code = rows.encode(x)
    assert code.shape == (len(x), rows.width) == (len(x), 2 + 3 + 1)
    torch.testing.assert_close(rows.decode(code), x, atol=1e-4, rtol=1e-4)
    there = code[x[:, 1] == 0, 0]
    spread = there[x[x[:, 1] == 0, 0] > 0.05]  # beside the spike
    assert abs(float(there.mean())) < 0.3
    assert float(spread.abs().max()) < 6
    assert float(code[x[:, 1] == 1, 0].abs().max()) == 0


def test_one_bump_only_scales():
    rows, x = fitted(modes=1)
    numbers = x[:, rows.rows.numbers]
    torch.testing.assert_close(
        rows.normal(numbers).float(), ((numbers - rows.rows.middle) / rows.rows.spread), atol=1e-4, rtol=1e-4
    )


def test_far_out_is_still_one_to_one():
    rows, _ = fitted()
    values = torch.tensor([[-3.0, -4.0], [0.0, 0.0], [30.0, 8.0]])
    torch.testing.assert_close(rows.value(rows.normal(values)), values.double(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("scale", [0.02, 0.5])
def test_a_law_around_a_guess_adds_up_to_one(scale):
    rows, x = fitted()
    guess = rows.encode(x[:1])
    guess[:, 2:5] = torch.tensor([0.2, 0.1, 0.15]) * scale
    guess[:, 5] = -0.1 * scale
    chance = float(torch.sigmoid(torch.tensor(2 * float(guess[0, 5]) / scale**2)))  # of pay being missing
    hours = torch.arange(-120.0, 200)

    def mass(x):  # an integer has a density over its steps of a fifth
        return 0.2 * row_around(rows, guess.expand(len(x), -1), scale, x, torch.ones(len(x), rows.width)).exp()

    jobs = torch.arange(3.0).repeat_interleave(len(hours))
    plain = torch.stack([torch.zeros_like(jobs), torch.ones_like(jobs), jobs, (hours.repeat(3) - 40) / 5], dim=1)
    assert float(mass(plain).sum()) == pytest.approx(chance, rel=1e-3)
    # where pay is there, by quadrature over the Gaussian that it was made of
    u = torch.linspace(-10, 10, 4001, dtype=torch.float64) * scale + guess[0, 0]
    pay = rows.value(torch.stack([u, torch.zeros_like(u)], dim=1))[:, 0]
    likeliest = plain[mass(plain).argmax()]
    there = likeliest.repeat(len(u), 1)
    there[:, 0], there[:, 1] = pay.float(), 0
    whole = float((mass(there) * torch.gradient(pay)[0]).sum())
    assert whole == pytest.approx(float(mass(likeliest[None])[0]) * (1 - chance) / chance, rel=0.02)
