"""The loop that draws, on a small table of odds whose every probability is known."""

import itertools

import pytest
import torch
from scipy import stats
from torch import nn

from pieria.errors import FormError, UsageError
from pieria.forms import Grid, Tokens
from pieria.noise import ItemNoise
from pieria.sampling.decoding import Decoding, choices, drawn, generate, stream, trace_symbols
from pieria.sampling.outlines import distinct, longest_repeated_run
from pieria.sampling.rules import Bias, NoRepeat

END = 2


class Table(nn.Module):
    """A chain of order 1 over ``vocabulary`` symbols: the odds after each symbol, and after `begin` in the last row."""

    def __init__(self, form, seed=0):
        super().__init__()
        self.form = form
        self.reach = 1
        draw = torch.randn(form.vocabulary + 1, form.vocabulary, generator=torch.Generator().manual_seed(seed))
        self.odds = nn.Parameter(1.5 * draw)

    def start(self, n, condition=None):
        return n

    def step(self, tokens, state):
        return self.odds[tokens[:, -1]], state


@pytest.fixture
def items():
    return Table(Tokens(4, 5, end=END))


@pytest.fixture
def flow():
    return Table(Tokens(4, 6))


def probability(model, row, options=None):
    """Of one item, up to its end, under the odds that the options leave."""
    odds = choices(model.odds.detach(), options or Decoding()).softmax(-1)
    total, before = 1.0, model.form.begin
    for symbol in row:
        total *= float(odds[before, symbol])
        before = symbol
        if symbol == model.form.end:
            break
    return total


def possible(form):
    """Every item of the form: ended and padded, or unfinished at full length."""
    every = set()
    for row in itertools.product(range(form.vocabulary), repeat=form.length):
        cut = row.index(form.end) if form.end in row else form.length
        every.add(row[:cut] + (form.end,) * (form.length - cut))
    return sorted(every)


@pytest.mark.parametrize(
    "options", [Decoding(), Decoding(temperature=0.6, top_k=3), Decoding(top_p=0.8), Decoding(min_p=0.2)]
)
def test_draws_follow_the_odds(items, options):
    drawn = generate(items, 20_000, options, ItemNoise(3, 20_000))
    rows, counts = drawn.unique(dim=0, return_counts=True)
    found = {tuple(row): count for row, count in zip(rows.tolist(), counts.tolist(), strict=True)}
    expected = {row: 20_000 * probability(items, row, options) for row in possible(items.form)}
    assert sum(expected.values()) == pytest.approx(20_000, rel=1e-6)
    assert all(expected[row] > 0 for row in found)
    large = [row for row, count in expected.items() if count >= 5]
    seen, wanted = [found.get(row, 0) for row in large], [expected[row] for row in large]
    if 20_000 - sum(wanted) > 1e-6:
        seen.append(20_000 - sum(seen))
        wanted.append(20_000 - sum(wanted))
    assert stats.chisquare(seen, wanted).pvalue > 1e-3


def test_a_wrong_temperature_would_be_noticed(items):
    """The test above has the power that it claims."""
    drawn = generate(items, 20_000, Decoding(temperature=1.1), ItemNoise(3, 20_000))
    rows, counts = drawn.unique(dim=0, return_counts=True)
    found = {tuple(row): count for row, count in zip(rows.tolist(), counts.tolist(), strict=True)}
    expected = {row: 20_000 * probability(items, row) for row in possible(items.form)}
    large = [row for row, count in expected.items() if count >= 5]
    rest = 20_000 - sum(expected[row] for row in large)
    seen = [found.get(row, 0) for row in large]
    assert stats.chisquare([*seen, 20_000 - sum(seen)], [*[expected[r] for r in large], rest]).pvalue < 1e-6


def test_items_end_once_and_are_padded(items):
    drawn = generate(items, 200, Decoding(), ItemNoise(0, 200))
    assert drawn.shape == (200, 5)
    assert drawn.dtype == torch.int64
    ended = (drawn == END).cumsum(dim=1) > 0
    assert (drawn[ended] == END).all()
    assert ended.any()
    assert not ended[:, -1].all()


def test_streams_have_exactly_the_length_asked_for(flow):
    assert generate(flow, 3, Decoding(), ItemNoise(0, 3)).shape == (3, 6)
    assert generate(flow, 3, Decoding(length=150), ItemNoise(0, 3)).shape == (3, 150)


def test_an_item_does_not_depend_on_its_batch(flow):
    options = Decoding(length=100, repetition_penalty=1.1)
    whole = generate(flow, 700, options, ItemNoise(5, 700))  # more than are drawn together
    assert torch.equal(whole[:3], generate(flow, 3, options, ItemNoise(5, 3)))
    assert torch.equal(whole[600:602], generate(flow, 2, options, ItemNoise(5, 2, first=600)))


def test_a_longer_sample_begins_like_a_shorter_one(flow):
    long = generate(flow, 4, Decoding(length=90), ItemNoise(1, 4))
    assert torch.equal(long[:, :20], generate(flow, 4, Decoding(length=20), ItemNoise(1, 4)))


def test_seeds_differ(flow):
    assert not torch.equal(generate(flow, 4, Decoding(), ItemNoise(0, 4)), generate(flow, 4, Decoding(), ItemNoise(1, 4)))


def test_temperature_zero_is_greedy(flow):
    drawn = generate(flow, 2, Decoding(temperature=0, length=8), ItemNoise(0, 2))
    symbol, expected = flow.form.begin, []
    for _ in range(8):
        symbol = int(flow.odds[symbol].argmax())
        expected.append(symbol)
    assert drawn.tolist() == [expected, expected]


def test_greedy_with_a_penalty_leaves_a_loop(flow):
    with torch.no_grad():
        flow.odds.copy_(torch.tensor([2.0, 1.9, 1.8, -3.0]))  # whatever stands before
    plain = generate(flow, 1, Decoding(temperature=0, length=4), ItemNoise(0, 1))
    varied = generate(flow, 1, Decoding(temperature=0, length=4, repetition_penalty=5), ItemNoise(0, 1))
    assert plain.tolist() == [[0, 0, 0, 0]]
    assert varied.tolist() == [[0, 1, 2, 0]]


def test_greedy_with_a_penalty_leaves_nothing_to_chance(flow):
    with torch.no_grad():
        flow.odds.zero_()  # all symbols that have not been drawn are equally likely
    options = Decoding(temperature=0, length=4, repetition_penalty=5)
    drawn = generate(flow, 6, options, ItemNoise(0, 6))
    assert drawn.tolist() == [drawn[0].tolist()] * 6


def test_the_prompt_is_what_stood_before(flow):
    drawn = generate(flow, 4000, Decoding(length=1), ItemNoise(2, 4000), prompt=torch.tensor([3, 1]))
    share = drawn[:, 0].bincount(minlength=4) / 4000
    torch.testing.assert_close(share, flow.odds.detach()[1].softmax(-1), atol=0.03, rtol=0)


def test_each_item_may_have_its_own_prompt(flow):
    prompts = torch.tensor([[0], [1], [3]])
    options = Decoding(temperature=0, length=1)
    drawn = generate(flow, 3, options, ItemNoise(0, 3), prompt=prompts)
    assert drawn[:, 0].tolist() == flow.odds.detach()[prompts[:, 0]].argmax(-1).tolist()


def test_stop_ends_items(items, flow):
    def after_two(made):
        return torch.full((made.shape[0],), made.shape[1] >= 2)

    stopped = generate(items, 5, Decoding(), ItemNoise(0, 5), stop=after_two)
    assert (stopped[:, 2:] == END).all()
    assert generate(flow, 5, Decoding(length=50), ItemNoise(0, 5), stop=after_two).shape == (5, 2)


@pytest.mark.parametrize("seed", range(6))
def test_streaming_gives_the_same_symbols(items, flow, seed):
    whole = generate(flow, 1, Decoding(length=80), ItemNoise(seed, 1))[0].tolist()
    assert list(stream(flow, Decoding(length=80), ItemNoise(seed, 1))) == whole
    item = generate(items, 1, Decoding(), ItemNoise(seed, 1))[0].tolist()
    assert list(stream(items, Decoding(), ItemNoise(seed, 1))) == [s for s in item if s != END]


@pytest.mark.parametrize("seed", range(6))
def test_the_last_step_of_a_trace_is_the_sample(items, flow, seed):
    for model in (items, flow):
        options = Decoding(temperature=0.8, top_k=3)
        steps = list(trace_symbols(model, options, ItemNoise(seed, 1)))
        assert torch.equal(steps[-1].x, generate(model, 1, options, ItemNoise(seed, 1)))
        for step in steps:
            assert float(step.data["odds"].sum()) == pytest.approx(1)
            assert float(step.data["kept"][step.data["symbol"][0]]) > 0


def test_samples_can_be_learned_from(flow):
    """Drawing happens in inference mode, whose tensors autograd refuses; what is returned must not be one of them."""
    drawn = generate(flow, 2, Decoding(), ItemNoise(0, 2))
    nn.functional.embedding(drawn, flow.odds).sum().backward()
    assert flow.odds.grad is not None
    assert flow.odds.grad.sum() == drawn.numel() * flow.odds.shape[1]


def test_dropout_is_off_while_drawing_and_training_goes_on(flow):
    flow.train()
    generate(flow, 1, Decoding(), ItemNoise(0, 1))
    assert flow.training


def test_what_is_asked_wrongly_is_said(items, flow):
    with pytest.raises(UsageError, match="at most 5 symbols"):
        generate(items, 1, Decoding(length=9), ItemNoise(0, 1))
    with pytest.raises(UsageError, match="at most 5 symbols"):
        generate(items, 1, Decoding(), ItemNoise(0, 1), prompt=torch.zeros(5, dtype=torch.int64))
    with pytest.raises(UsageError, match="noise for 2"):
        generate(flow, 1, Decoding(), ItemNoise(0, 2))
    with pytest.raises(UsageError, match="2 prompts for 3"):
        generate(flow, 3, Decoding(), ItemNoise(0, 3), prompt=torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(FormError, match="symbol 4"):
        generate(flow, 1, Decoding(), ItemNoise(0, 1), prompt=torch.tensor([4]))
    with pytest.raises(UsageError, match="temperature"):
        Decoding.of({"temperature": -1})
    grid = Table(Tokens(4, 6))
    grid.form = Grid(1, 2, 2)
    with pytest.raises(FormError, match="tokens"):
        generate(grid, 1, Decoding(), ItemNoise(0, 1))


def test_rules_are_followed_in_batches_and_streams(items, flow):
    """A bias moves odds, a least length holds back the end, and a stream that a rule ends says how much of it counts."""
    banned = Bias({3: -100.0}, 4)
    assert not (generate(flow, 200, Decoding(), ItemNoise(0, 200), rules=[banned]) == 3).any()
    long = drawn(items, 300, Decoding(min_length=4), ItemNoise(0, 300))
    assert int(long.lengths.min()) >= 5 or bool((long.lengths == 5).all())
    assert not (long.symbols[:, :4] == END).any()
    free = drawn(items, 300, Decoding(), ItemNoise(0, 300))
    assert torch.equal(free.lengths, ((free.symbols == END).cumsum(1) - (free.symbols == END).long() == 0).sum(1))


def test_a_bias_is_added_to_the_odds(flow):
    plain = flow.odds.detach()[flow.form.begin].double()
    moved = drawn(flow, 20_000, Decoding(length=1), ItemNoise(1, 20_000), rules=[Bias({0: 1.5}, 4)]).symbols[:, 0]
    wanted = torch.softmax(plain + torch.tensor([1.5, 0, 0, 0]), -1)
    torch.testing.assert_close(moved.bincount(minlength=4) / 20_000, wanted.float(), atol=0.015, rtol=0)
    with pytest.raises(UsageError, match="between -100 and 100"):
        Bias({0: 1e9}, 4)


def brute_runs(row):
    """For each place, how many symbols up to it are also the last ones."""
    found = []
    for place in range(len(row) - 1):
        length = 0
        while length <= place and row[place - length] == row[len(row) - 1 - length]:
            length += 1
        found.append(length)
    return found


def test_repeated_runs_are_found_as_by_looking():
    rows = torch.randint(3, (5, 40), generator=torch.Generator().manual_seed(0))
    for given in (0, 1, 2, 17):
        following = NoRepeat(4, 0.5).start(rows[:, :given])
        for place in range(given, 40):
            following.read(rows[:, place])
            if place % 7 == 3:
                wanted = torch.zeros(5, 3)
                for row in range(5):
                    for where, run in enumerate(brute_runs(rows[row, : place + 1].tolist())):
                        after = int(rows[row, where + 1])
                        wanted[row, after] = max(float(wanted[row, after]), 0.5 * max(0, run + 1 - 4))
                torch.testing.assert_close(following.change(torch.zeros(5, 3)), -wanted)
        following.reorder(torch.tensor([3, 3]))
        assert following.change(torch.zeros(2, 3)).shape == (2, 3)


def test_no_repeat_leaves_a_loop_and_spares_what_is_short(flow):
    with torch.no_grad():
        flow.odds.copy_(torch.tensor([[-9.0, 9, 0, 0], [9.0, -9, 0, 0], [0.0] * 4, [0.0] * 4, [9.0, 0, 0, 0]]))
    looping = generate(flow, 1, Decoding(temperature=0, length=30), ItemNoise(0, 1))[0]
    assert looping.tolist() == [0, 1] * 15
    left = generate(flow, 1, Decoding(temperature=0, length=30, no_repeat=5, repeat_cost=4), ItemNoise(0, 1))[0]
    assert longest_repeated_run(looping) == 28
    assert longest_repeated_run(left) < 10
    assert left.tolist()[:7] == [0, 1] * 3 + [0]  # what stands twice for nothing


def test_longest_runs_and_distinct_shares():
    assert longest_repeated_run(torch.tensor([1, 2, 3, 4])) == 0
    assert longest_repeated_run(torch.tensor([1, 2, 3, 9, 1, 2, 3, 4])) == 3
    assert distinct(torch.tensor([1, 2, 1, 2, 1]), 2) == pytest.approx(0.5)
