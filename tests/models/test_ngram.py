"""The n-gram: a law that sums to one, drawn from as it says, the same however it was counted."""

import itertools
import math
import os
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from pieria.data.batch import Batch
from pieria.data.examples import StreamExamples
from pieria.errors import FormError, PieriaError, TrainingError, UsageError
from pieria.forms import Row, Tokens
from pieria.layers.backoff import discounts
from pieria.models.contract import Estimates, Explains, Predicts, abilities
from pieria.models.ngram import Ngram, NgramSettings
from pieria.models.weights import load, save
from pieria.noise import ItemNoise
from pieria.sampling.decoding import Decoding, generate

SMOOTHINGS = ("kneser-ney", "witten-bell", "add-k")
ITEMS = Tokens(vocabulary=3, length=4, end=0)
STREAM = Tokens(vocabulary=4, length=5)


def data_folder() -> Path:
    for folder in (os.environ.get("PIERIA_DATA"), Path(__file__).parents[2] / ".." / "shared" / "data"):
        if folder and Path(folder).is_dir():
            return Path(folder)
    pytest.skip("no local data: neither PIERIA_DATA nor ../shared/data exists")


def some_items(count: int = 60, seed: int = 0) -> torch.Tensor:
    x = torch.from_numpy(np.random.default_rng(seed).choice(3, size=(count, 4), p=[0.25, 0.6, 0.15]))
    ended = (x == 0).cumsum(dim=1) > 0
    return torch.where(ended, 0, x)


def fitted(smoothing: str = "kneser-ney", order: int = 3, form: Tokens = ITEMS) -> Ngram:
    model = Ngram(NgramSettings(order=order, smoothing=smoothing, k=0.5), form)
    if form.end is None:
        stream = np.random.default_rng(1).choice(form.vocabulary, size=300, p=[0.5, 0.3, 0.15, 0.05])
        stream[::3] = stream[1::3]
        examples = StreamExamples(form, stream)
        model.estimate(lambda: examples.sweep(7, context=model.reach))
    else:
        model.estimate(lambda: [Batch(some_items())])
    return model


def complete_items() -> torch.Tensor:
    """Every item that ends, padded with `end`, and every unfinished one."""
    found = {}
    for symbols in itertools.product(range(3), repeat=4):
        stop = symbols.index(0) if 0 in symbols else 4
        found[symbols[:stop] + (0,) * (4 - stop)] = None
    return torch.tensor(list(found))


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 3, 6])
def test_all_items_together_have_probability_one(smoothing: str, order: int) -> None:
    total = fitted(smoothing, order).log_prob(Batch(complete_items())).exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_samples_follow_the_stated_law(smoothing: str) -> None:
    model, items = fitted(smoothing), complete_items()
    drawn = Counter(map(tuple, model.sample(20_000, Decoding(), ItemNoise(5, 20_000)).tolist()))
    expected = model.log_prob(Batch(items)).exp().numpy() * 20_000
    seen = np.array([drawn[tuple(item)] for item in items.tolist()])
    assert seen.sum() == 20_000
    enough = expected >= 5
    pooled = lambda x: np.append(x[enough], x[~enough].sum() + 1e-9)  # noqa: E731
    assert (
        chisquare(pooled(seen), pooled(expected) * 20_000 / pooled(expected).sum() * pooled(seen).sum() / 20_000).pvalue
        > 1e-3
    )


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_samples_of_a_stream_follow_the_stated_law(smoothing: str) -> None:
    form = Tokens(vocabulary=4, length=3)
    model = Ngram(NgramSettings(order=3, smoothing=smoothing), form)
    examples = StreamExamples(form, np.random.default_rng(2).choice(4, size=200, p=[0.5, 0.3, 0.15, 0.05]))
    model.estimate(lambda: examples.sweep(7, context=2))
    items = torch.tensor(list(itertools.product(range(4), repeat=3)))
    expected = model.log_prob(Batch(items)).exp().numpy() * 20_000
    drawn = Counter(map(tuple, model.sample(20_000, Decoding(), ItemNoise(6, 20_000)).tolist()))
    seen = np.array([drawn[tuple(item)] for item in items.tolist()])
    order = np.argsort(expected)
    few = np.cumsum(expected[order]) < 5
    few[few.sum()] = True  # the pooled cell holds at least five as well
    pool = lambda x: np.append(x[order][~few], x[order][few].sum())  # noqa: E731
    assert chisquare(pool(seen), pool(expected) / expected.sum() * seen.sum()).pvalue > 1e-3


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("form", [ITEMS, STREAM], ids=["items", "stream"])
@pytest.mark.parametrize("order", [1, 2, 4])
def test_steps_logits_and_scores_agree(smoothing: str, form: Tokens, order: int) -> None:
    model = fitted(smoothing, order, form)
    x = some_items(9, seed=3)
    tokens = torch.cat([torch.full((9, 1), form.begin), x], dim=1)
    whole = model.logits(tokens)
    state, rows = model.start(9), []
    for place in range(tokens.shape[1]):
        logits, state = model.step(tokens[:, place : place + 1], state)
        rows.append(logits)
    torch.testing.assert_close(torch.stack(rows, dim=1), whole, rtol=1e-10, atol=0)
    at_once, _ = model.step(tokens, model.start(9))
    torch.testing.assert_close(at_once, whole[:, -1], rtol=1e-10, atol=0)
    torch.testing.assert_close(whole.exp().sum(-1), torch.ones(9, 5, dtype=torch.float64), rtol=1e-12, atol=0)
    told = whole[:, :-1].gather(-1, x[:, :, None])[..., 0]
    mask = torch.ones_like(x, dtype=torch.bool)
    torch.testing.assert_close(model.symbol_log_prob(Batch(x, mask=mask)), told, rtol=1e-10, atol=0)


def test_kneser_ney_by_the_formula_written_out() -> None:
    """A second reading of the paper, with dictionaries and no vectors, for order 3."""
    x = some_items(200, seed=4)
    model = Ngram(NgramSettings(order=3), ITEMS)
    model.estimate(lambda: [Batch(x)])
    grams: list[Counter] = [Counter(), Counter(), Counter()]
    for row in x.tolist():
        row = row[: row.index(0) + 1] if 0 in row else row
        row = [3, *row]
        for n in (1, 2, 3):
            for end in range(1, len(row)):
                if end - n + 1 >= 0:
                    grams[n - 1][tuple(row[end - n + 1 : end + 1])] += 1
    adjusted: list[dict] = [{}, {}, dict(grams[2])]
    for n in (0, 1):
        for gram, seen in grams[n].items():
            left = sum(1 for longer in grams[n + 1] if longer[1:] == gram)
            adjusted[n][gram] = seen if gram[0] == 3 else left
    taken = [discounts(np.array(list(counts.values()), float)) for counts in adjusted]

    def law(symbol: int, history: tuple[int, ...]) -> float:
        n = len(history)
        lower = law(symbol, history[1:]) if n else 1 / 3
        after = {gram: seen for gram, seen in adjusted[n].items() if gram[:-1] == history}
        total = sum(after.values())
        if not total:
            return lower
        gamma = sum(taken[n][min(int(seen), 3)] for seen in after.values()) / total
        seen = after.get((*history, symbol), 0)
        return (seen - taken[n][min(int(seen), 3)]) / total + gamma * lower

    for history in [(3,), (3, 1), (3, 2), (1, 1), (1, 2), (2, 1), (2, 2)]:
        odds = model.logits(torch.tensor([history]))[0, -1].exp()
        assert odds.tolist() == pytest.approx([law(symbol, history) for symbol in range(3)], rel=1e-12)


def test_discounts_by_their_closed_form() -> None:
    counts = np.repeat([1.0, 2, 3, 4], [8, 4, 2, 1])
    y = 8 / (8 + 2 * 4)
    assert discounts(counts).tolist() == pytest.approx([0, 1 - 2 * y * 4 / 8, 2 - 3 * y * 2 / 4, 3 - 4 * y * 1 / 2])
    assert discounts(np.ones(3)).tolist() == [0, 0.5, 1, 1.5]


def test_add_one_bigram_is_counting() -> None:
    model = Ngram(NgramSettings(order=2, smoothing="add-k", k=1.0), ITEMS)
    x = torch.tensor([[1, 2, 1, 0], [1, 1, 0, 0]])
    model.estimate(lambda: [Batch(x)])
    pairs = Counter([(3, 1), (1, 2), (2, 1), (1, 0), (3, 1), (1, 1), (1, 0)])
    totals: dict[int, int] = defaultdict(int)
    for (before, _), seen in pairs.items():
        totals[before] += seen
    for before in (1, 2, 3):
        odds = model.logits(torch.tensor([[before]]))[0, 0].exp().tolist()
        assert odds == pytest.approx([(pairs[before, s] + 1) / (totals[before] + 3) for s in range(3)])


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_counting_more_later_is_counting_all_at_once(smoothing: str) -> None:
    x = some_items(90, seed=7)
    once, twice = (Ngram(NgramSettings(order=4, smoothing=smoothing), ITEMS) for _ in range(2))
    once.estimate(lambda: [Batch(x)])
    twice.estimate(lambda: [Batch(x[:30])])
    assert not torch.equal(twice.log_prob(Batch(complete_items())), once.log_prob(Batch(complete_items())))
    twice.add(lambda: [Batch(x[30:50]), Batch(x[50:])])
    for name, buffer in once.named_buffers():
        assert torch.equal(buffer, twice.get_buffer(name)), name
    twice.estimate(lambda: [Batch(x)])  # a new estimate forgets
    assert torch.equal(twice.count_1, once.count_1)


def test_windows_of_a_stream_count_like_the_whole() -> None:
    stream = np.random.default_rng(8).integers(0, 4, 101)
    whole, windows = (Ngram(NgramSettings(order=4), STREAM) for _ in range(2))
    whole.estimate(lambda: [Batch(torch.from_numpy(stream)[None])])
    windows.estimate(lambda: StreamExamples(STREAM, stream).sweep(3, context=3))
    for name, buffer in whole.named_buffers():
        assert torch.equal(buffer, windows.get_buffer(name)), name


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    model = fitted()
    save(model, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert torch.equal(again.log_prob(Batch(complete_items())), model.log_prob(Batch(complete_items())))
    noise = ItemNoise(1, 50)
    assert torch.equal(again.sample(50, Decoding(), noise), model.sample(50, Decoding(), noise))


def test_an_item_does_not_depend_on_the_batch_around_it() -> None:
    model = fitted()
    together = model.sample(12, Decoding(), ItemNoise(3, 12))
    apart = torch.cat([model.sample(4, Decoding(), ItemNoise(3, 4, first=first)) for first in (0, 4, 8)])
    assert torch.equal(together, apart)


def test_truncation_goes_through_the_shared_decoding() -> None:
    model, options = fitted(), Decoding(temperature=0)
    assert torch.equal(model.sample(3, options, ItemNoise(0, 3)), generate(model, 3, options, ItemNoise(0, 3)))
    assert model.sample(3, Decoding(length=2), ItemNoise(0, 3)).shape == (3, 2)


@pytest.mark.parametrize("options", [Decoding(), Decoding(temperature=0.5)])
@pytest.mark.parametrize("form", [ITEMS, STREAM], ids=["items", "stream"])
def test_the_trace_ends_with_the_sample(form: Tokens, options: Decoding) -> None:
    model = fitted(form=form)
    steps = list(model.trace(options, ItemNoise(4, 1)))
    sample = model.sample(1, options, ItemNoise(4, 1))
    assert steps[-1].x is not None
    assert torch.equal(steps[-1].x, sample)
    told = torch.tensor([float(step.data["odds"][int(step.data["symbol"])]) for step in steps]).log().sum()
    assert float(told) == pytest.approx(float(model.log_prob(Batch(sample))[0]), rel=1e-5)
    for step in steps:
        assert float(step.data["by order"][-1]) == pytest.approx(float(step.data["odds"][int(step.data["symbol"])]))


def test_its_abilities() -> None:
    model = fitted()
    assert isinstance(model, Estimates)
    assert isinstance(model, Predicts)
    assert isinstance(model, Explains)
    assert abilities(model) == ["scores", "predicts", "explains"]


def test_bad_input_is_told_in_plain_words() -> None:
    with pytest.raises(FormError, match="symbol 7"):
        fitted().log_prob(Batch(torch.full((1, 4), 7)))
    with pytest.raises(FormError, match="dtype"):
        fitted().log_prob(Batch(torch.zeros(1, 4)))
    with pytest.raises(FormError, match="no items"):
        fitted().log_prob(Batch(torch.zeros(0, 4, dtype=torch.int64)))
    with pytest.raises(TrainingError, match="nothing"):
        Ngram(NgramSettings(), ITEMS).estimate(list)
    with pytest.raises(PieriaError, match="counted nothing"):
        Ngram(NgramSettings(), ITEMS).sample(1, Decoding(), ItemNoise(0, 1))
    with pytest.raises(FormError, match="learns from tokens"):
        Ngram(NgramSettings(), Row(()))
    with pytest.raises(UsageError, match="order"):
        NgramSettings.of({"order": 0})


@pytest.mark.parametrize(("order", "figure"), [(2, 185.70), (3, 148.28), (5, 141.19)])
def test_penn_treebank_as_kenlm(order: int, figure: float) -> None:
    folder = data_folder() / "text" / "ptb"
    lines = {part: (folder / f"{part}.txt").read_text().splitlines() for part in ("train", "test")}
    codes: dict[str, int] = {"</s>": 0}
    for line in lines["train"]:
        for word in line.split():
            codes.setdefault(word, len(codes))
    assert len(codes) == 10_000

    def items(part: str) -> torch.Tensor:
        rows = [torch.tensor([codes[word] for word in line.split()] + [0]) for line in lines[part]]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)

    x = items("train")
    model = Ngram(NgramSettings(order=order), Tokens(len(codes), x.shape[1], end=0))
    model.estimate(lambda: [Batch(x)])
    log = model.symbol_log_prob(Batch(items("test")))
    assert math.exp(-float(log.sum()) / 82_430) == pytest.approx(figure, abs=0.05)
