"""Recurrent networks: a step is the whole at its last row, states go on, and streams are read in order."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from pieria.data.batch import Batch, mask_after_end
from pieria.data.examples import StreamExamples
from pieria.errors import FormError, UsageError
from pieria.forms import Grid, Label, Tokens
from pieria.models import weights
from pieria.models.contract import Explains, Predicts, Scores, ScoresSymbols, Trains, abilities
from pieria.models.rnn import RNN, RNNSettings, locked
from pieria.noise import ItemNoise, StepNoise
from pieria.sampling.decoding import Decoding, generate
from pieria.training.loop import learn
from pieria.training.plan import Plan
from pieria.training.workspace import Workspace

VARIANTS = {
    "lstm": {},
    "gru": {"cell": "gru", "tied": False},
    "vanilla": {"cell": "vanilla", "embedding": 12},
    "mingru": {"cell": "mingru"},
    "minlstm": {"cell": "minlstm", "convolution": 1, "tied": False},
}
TOLERANCE = [(torch.float32, 1e-5), (torch.float64, 1e-10)]


def build(form, dtype=torch.float32, condition=None, spread=0.3, **settings):
    """A network with weights large enough for its odds to differ from a uniform draw."""
    model = RNN(RNNSettings(**{"layers": 2, "width": 24, "precision": "float32", **settings}), form, condition)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * spread
    return model.to(dtype).eval()


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCE)
@pytest.mark.parametrize("variant", VARIANTS)
def test_steps_equal_the_whole(variant, dtype, tolerance):
    """Over random prefixes in random pieces: the state is carried from piece to piece."""
    model = build(Tokens(11, 12), dtype, **VARIANTS[variant])
    generator = torch.Generator().manual_seed(7)
    tokens = torch.randint(0, 12, (3, 61), generator=generator)
    with torch.no_grad():
        expected = model.logits(tokens)
        for _ in range(4):
            state, read = model.start(3), 0
            while read < 61:
                several = torch.rand((), generator=generator) < 0.3
                k = min(int(torch.randint(1, 16, (), generator=generator)) if several else 1, 61 - read)
                logits, state = model.step(tokens[:, read : read + k], state)
                read += k
                assert float((logits - expected[:, read - 1]).abs().max()) <= tolerance * float(expected.abs().max())


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCE)
@pytest.mark.parametrize("variant", VARIANTS)
def test_training_equals_steps_from_a_carried_state_and_with_padding(variant, dtype, tolerance):
    """What training computes all at once (with gradients) is what steps compute, item by item, as far as each is real."""
    model = build(Tokens(11, 40, end=0), dtype, **VARIANTS[variant])
    generator = torch.Generator().manual_seed(3)
    before = torch.randint(0, 11, (3, 9), generator=generator)
    lengths = (40, 17, 1)
    tokens = torch.randint(1, 11, (3, 40), generator=generator)
    for row, length in enumerate(lengths):
        tokens[row, length:] = 0
    _, carried = model._read(before, model._empty(3), None)
    features, _ = model._read(tokens, carried, None)
    together = model._head(features)
    assert together.requires_grad
    together = together.detach()
    for row, length in enumerate(lengths):
        state = model.start(1)
        for symbol in before[row]:
            _, state = model.step(symbol.view(1, 1), state)
        for place in range(length):
            logits, state = model.step(tokens[row, place].view(1, 1), state)
            assert float((logits - together[row, place]).abs().max()) <= tolerance * float(together.abs().max())


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_place_sees_what_comes_after_it(variant):
    model = build(Tokens(9, 8), torch.float64, **VARIANTS[variant])
    tokens = torch.randint(0, 9, (2, 8), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 9
    with torch.no_grad():
        before, after = model.logits(tokens), model.logits(changed)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).any(dim=-1).all()


@pytest.mark.parametrize("end", [2, None])
@pytest.mark.parametrize("variant", VARIANTS)
def test_probabilities_of_all_items_add_up_to_one(variant, end):
    form = Tokens(3, 6, end=end)
    model = build(form, **VARIANTS[variant])
    every = torch.tensor(list(itertools.product(range(3), repeat=6)))
    if end is not None:  # one canonical padding of each
        every = torch.where(mask_after_end(every, end), every, end).unique(dim=0)
    mask = mask_after_end(every, end)
    with torch.no_grad():
        total = model.log_prob(Batch(every, mask=mask)).exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("variant", ["lstm", "mingru"])
def test_draws_follow_the_probabilities(variant):
    form = Tokens(3, 5, end=2)
    model = build(form, **VARIANTS[variant])
    drawn = generate(model, 20_000, Decoding(), ItemNoise(11, 20_000))
    rows, counts = drawn.unique(dim=0, return_counts=True)
    with torch.no_grad():
        expected = 20_000 * model.log_prob(Batch(rows, mask=mask_after_end(rows, 2))).exp()
    large = expected >= 5
    seen, wanted = counts[large].double(), expected[large]
    seen = torch.cat([seen, 20_000 - seen.sum()[None]])
    wanted = torch.cat([wanted, 20_000 - wanted.sum()[None]])
    assert stats.chisquare(seen[wanted > 1e-3], wanted[wanted > 1e-3], sum_check=False).pvalue > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_scoring_reads_the_context_it_is_given_in_pieces_of_any_size(variant, monkeypatch):
    model = build(Tokens(9, 16), torch.float64, **VARIANTS[variant])
    text = torch.randint(0, 9, (2, 54), generator=torch.Generator().manual_seed(5))
    begun = torch.cat([torch.full((2, 1), 9), text], dim=1)
    with torch.no_grad():
        whole = model.symbol_log_prob(Batch(text))
        for size in (1, 5, 1000):
            monkeypatch.setattr("pieria.models.rnn.AT_ONCE", size * 2 * 4 * 24)
            torch.testing.assert_close(model.symbol_log_prob(Batch(text)), whole)
            part = model.symbol_log_prob(Batch(text[:, 13:], context=begun[:, :14]))
            torch.testing.assert_close(part, whole[:, 13:])


def test_masked_symbols_cost_nothing():
    form = Tokens(5, 6, end=4)
    model = build(form)
    x = torch.tensor([[0, 1, 4, 4, 4, 4], [3, 2, 1, 0, 3, 2]])
    mask = mask_after_end(x, 4)
    with torch.no_grad():
        scores = model.symbol_log_prob(Batch(x, mask=mask))
        losses = model.loss(Batch(x, mask=mask), StepNoise(0, 0, "next symbol", 2))
    assert (scores[~mask] == 0).all()
    assert (losses.count, losses.unit) == (9, "symbols")
    assert float(losses.loss) == pytest.approx(-float(scores.sum()) / 9, rel=1e-5)


# ---- regularisation


def test_dropout_is_the_same_at_all_steps_and_differs_between_items():
    torch.manual_seed(0)
    dropped = locked(torch.ones(50, 7, 40), 0.4, training=True)
    assert (dropped == dropped[:, :1]).all()
    assert float((dropped == 0).float().mean()) == pytest.approx(0.4, abs=0.05)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.1)
    assert len(dropped[:, 0].unique(dim=0)) == 50


def test_dropout_of_embeddings_leaves_out_a_symbol_wherever_it_stands():
    model = build(Tokens(50, 8), embedding_dropout=0.3).train()
    torch.manual_seed(0)
    tokens = torch.arange(50).repeat(2, 3)
    x = model._embed(tokens)
    gone = (x == 0).all(dim=2)
    assert (gone[:, :50] == gone[:, 50:100]).all()
    assert 5 < int(gone[0, :50].sum()) < 26
    torch.testing.assert_close(x[~gone], model.symbol(tokens)[~gone] / 0.7)
    assert not (model.eval()._embed(tokens) == 0).all(dim=2).any()


def test_dropout_of_weights_leaves_out_connections_in_training_alone():
    model = build(Tokens(5, 8), weight_dropout=0.5, layers=1)
    tokens = torch.randint(0, 5, (2, 8), generator=torch.Generator().manual_seed(0))
    at_rest = model.logits(tokens)
    torch.testing.assert_close(model.logits(tokens), at_rest)
    torch.manual_seed(0)
    one, other = model.train().logits(tokens), model.logits(tokens)
    assert not torch.allclose(one, other)
    # the first symbol is read from an empty state, which no weight from state to state can change
    torch.testing.assert_close(one[:, 0], at_rest[:, 0])


def test_the_penalties_are_what_the_papers_say():
    form, x = Tokens(7, 9, end=6), torch.randint(0, 6, (4, 9), generator=torch.Generator().manual_seed(0))
    plain = build(form)
    noise = StepNoise(0, 0, "next symbol", 4)
    with torch.no_grad():
        losses = {
            name: build(form, **{name: 2.0}).loss(Batch(x), noise) for name in ("activation_penalty", "change_penalty")
        }
        nats = plain.loss(Batch(x), noise).loss
        read = torch.cat([torch.full((4, 1), 7), x[:, :-1]], dim=1)
        h, _ = plain._read(read, plain._empty(4), None)
    wanted = {"activation_penalty": h.square().mean(), "change_penalty": (h[:, 1:] - h[:, :-1]).square().mean()}
    for name, found in losses.items():
        assert float(found.loss - nats) == pytest.approx(2 * float(wanted[name]), rel=1e-3)
        assert float(found.parts["nats"]) == pytest.approx(float(nats), rel=1e-6)


def test_bfloat16_training_agrees_with_float32():
    form = Tokens(11, 32)
    x = torch.randint(0, 11, (4, 33), generator=torch.Generator().manual_seed(0))
    batch, noise = Batch(x[:, 1:], context=x[:, :1]), StepNoise(0, 0, "next symbol", 4)
    for variant, settings in VARIANTS.items():
        found = {}
        for precision in ("float32", "bfloat16"):
            model = build(form, spread=0.1, **{**settings, "precision": precision}).train()
            loss = model.loss(batch, noise).loss
            loss.backward()
            first = model.layers[0]
            matrix = first.gates.weight if variant.startswith("min") else first.enter
            found[precision] = (loss.item(), matrix.grad.flatten())
        assert found["bfloat16"][0] == pytest.approx(found["float32"][0], rel=0.02)
        assert float(torch.cosine_similarity(found["bfloat16"][1], found["float32"][1], dim=0)) > 0.98


# ---- streams in order


def stream(count=700):
    """A text with a rhythm: digits that count up, now and then begun anew."""
    generator = np.random.default_rng(0)
    return (np.cumsum(np.where(generator.random(count) < 0.1, generator.integers(0, 7, count), 1)) % 7).astype(np.uint8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_windows_in_order_are_one_long_window(variant, monkeypatch):
    """The state goes on from window to window, and the odds are those of the whole text read at once."""
    for name in ("BEGINNINGS", "DROPPED_IN"):
        monkeypatch.setattr(f"pieria.models.rnn.{name}", 0.0)
    model = build(Tokens(7, 10), **VARIANTS[variant]).train()
    examples = StreamExamples(model.form, stream())
    losses = []
    for step in range(6):
        batch = examples.batch([100 + 10 * step, 300 + 10 * step])
        losses.append(model.loss(batch, StepNoise(0, step, "next symbol", 2)).loss.item())
    text = torch.from_numpy(np.stack([examples.stream[start : start + 61] for start in (100, 300)])).long()
    with torch.no_grad():
        whole = -model.eval().symbol_log_prob(Batch(text[:, 1:], context=text[:, :1])).view(2, 6, 10).mean(dim=(0, 2))
    assert losses == pytest.approx(whole.tolist(), rel=1e-4)


def test_a_column_that_starts_anew_starts_empty(monkeypatch):
    for name in ("BEGINNINGS", "DROPPED_IN"):
        monkeypatch.setattr(f"pieria.models.rnn.{name}", 0.0)
    model = build(Tokens(7, 10)).train()
    examples = StreamExamples(model.form, stream())
    fresh = model.loss(examples.batch([100, 300]), StepNoise(0, 0, "a", 2)).loss.item()
    model.loss(examples.batch([110, 310]), StepNoise(0, 1, "a", 2))
    again = model.loss(examples.batch([100, 300]), StepNoise(0, 2, "a", 2)).loss.item()
    assert again == fresh
    model.loss(examples.batch([110, 310]), StepNoise(0, 3, "a", 2))
    assert model.expected.tolist() == [120, 320]
    mixed = model._left(examples.batch([120, 50]), StepNoise(0, 4, "a", 2))
    assert (mixed[0] != 0).any()
    assert (mixed[1] == 0).all()


def test_a_share_of_windows_begins_from_nothing_and_is_dropped_in(monkeypatch):
    model = build(Tokens(5, 4)).train()
    read = []
    original = model._read
    monkeypatch.setattr(
        model, "_read", lambda tokens, state, label: (read.append((tokens, state)), original(tokens, state, label))[1]
    )
    x = torch.zeros(4000, 8, dtype=torch.int64)
    for step in range(2):
        batch = Batch(x[:, :4], context=x[:, :1], index=torch.arange(4000) * 10 + 4 * step)
        model.loss(batch, StepNoise(0, step, "next symbol", 4000))
    tokens, state = read[1]
    assert float((tokens[:, 0] == 5).float().mean()) == pytest.approx(0.05, abs=0.01)
    assert float((state == 0).all(dim=1).float().mean()) == pytest.approx(0.1, abs=0.015)


def train(path, steps=None, **settings):
    torch.manual_seed(0)
    model = RNN(
        RNNSettings(width=8, layers=1, precision="float32", dropout=0.2, weight_dropout=0.2, **settings), Tokens(7, 10)
    )
    plan = Plan(
        steps=40, batch=4, warmup=2, checkpoint_every=5, evaluate_every=10, evaluate_count=8, accumulate=2, patience=0
    )
    resume = path.exists()
    examples = StreamExamples(model.form, stream())
    with Workspace.open(path) if resume else Workspace.create(path, "", {"family": "rnn"}) as space:
        space.note(state="running")
        watch = None
        if steps is not None:
            inner = model.loss

            def stopping(batch, noise):
                if noise.step == steps:
                    raise KeyboardInterrupt
                return inner(batch, noise)

            model.loss = stopping
        try:
            learn(model, examples, examples, plan, workspace=space, resume=resume, watch=watch)
        except KeyboardInterrupt:
            return None
        space.note(state="done")
    return model


@pytest.mark.parametrize("cell", ["lstm", "mingru"])
def test_a_run_killed_in_the_middle_of_a_column_goes_on_to_the_same_bits(cell, tmp_path):
    """40 steps of 4 columns of 172 symbols are two and a half times the text; it is killed after 5, 22 and 38."""
    unbroken = train(tmp_path / "unbroken", cell=cell)
    for step in (7, 23, 39):
        assert train(tmp_path / "broken", step, cell=cell) is None
    broken = train(tmp_path / "broken", cell=cell)
    for name, value in unbroken.state_dict().items():
        assert torch.equal(value, broken.state_dict()[name]), name
    assert (unbroken.carried != 0).any()


def test_items_are_not_read_in_order():
    assert build(Tokens(5, 4)).reads_in_order
    assert not build(Tokens(5, 4), stateful=False).reads_in_order
    assert not build(Tokens(5, 4, end=0)).reads_in_order
    assert len(build(Tokens(5, 4, end=0)).train().carried) == 0


# ---- the rest


def test_labels_condition_it():
    form, labels = Tokens(4, 5, end=3), Label(("soft", "loud"))
    model = build(form, condition=labels)
    classes = torch.tensor([0, 1, 0, 1])
    drawn = model.sample(4, Decoding(), ItemNoise(0, 4), condition=classes)
    with torch.no_grad():
        one = model.log_prob(Batch(drawn, condition=classes))
        other = model.log_prob(Batch(drawn, condition=1 - classes))
    assert not torch.allclose(one, other)
    with pytest.raises(UsageError, match="no label was given"):
        model.log_prob(Batch(drawn))


def test_a_saved_model_is_the_same_model(tmp_path):
    for name, settings in VARIANTS.items():
        model = build(Tokens(7, 10), **settings).train()
        examples = StreamExamples(model.form, stream())
        model.loss(examples.batch([100, 300]), StepNoise(0, 0, "next symbol", 2))  # it carries a state now
        weights.save(model.eval(), tmp_path / name)
        loaded = weights.load(tmp_path / name)
        drawn = [m.sample(3, Decoding(), ItemNoise(0, 3)) for m in (model, loaded)]
        assert torch.equal(*drawn)


def test_what_it_can_do():
    model = build(Tokens(5, 4))
    for ability in (Scores, ScoresSymbols, Predicts, Explains, Trains):
        assert isinstance(model, ability)
    assert {"scores", "predicts", "explains"} <= set(abilities(RNN))
    assert model.reach == 512
    assert build(Tokens(5, 4, end=0)).reach == 4
    (step, *_), *_ = [list(model.trace(Decoding(), ItemNoise(0, 1)))]
    assert step.data["hidden"].shape == (2, 24)


def test_bad_input():
    model = build(Tokens(5, 4, end=0))
    with pytest.raises(FormError, match="at most 4"):
        model.log_prob(Batch(torch.ones(1, 5, dtype=torch.int64)))
    with pytest.raises(FormError, match="symbol 5"):
        model.log_prob(Batch(torch.full((1, 4), 5)))
    with pytest.raises(UsageError, match="no symbols to read"):
        model.step(torch.empty(1, 0, dtype=torch.int64), model.start(1))
    with pytest.raises(UsageError, match="Leave embedding out"):
        build(Tokens(5, 4), cell="mingru", embedding=12)
    with pytest.raises(FormError, match="tokens"):
        build(Grid(1, 2, 2))
