"""The encoder-decoder: what is streamed is what is scored, padding is not looked at, and the source is."""

import copy

import pytest
import torch

from pieria.data.batch import Batch, mask_after_end
from pieria.data.examples import ItemExamples
from pieria.errors import FormError, UsageError
from pieria.forms import Label, Tokens
from pieria.models import weights
from pieria.models.contract import Explains, Predicts, Scores, Trains, abilities
from pieria.models.transformer import Transformer, TransformerSettings
from pieria.noise import ItemNoise, StepNoise, seeded
from pieria.sampling.answering import answers
from pieria.sampling.decoding import Decoding
from pieria.training.loop import learn
from pieria.training.plan import Plan

FORM, ASKED = Tokens(11, 12, end=10), Tokens(9, 8, end=8)
VARIANTS = {
    "default": {},
    "original": {"positions": "sinusoidal", "activation": "relu", "bias": True, "tied": False},
    "learned": {"positions": "learned", "unit_queries": True, "decoder_layers": 1},
    "gated": {"norm": "rms", "activation": "swiglu"},
}


def build(form=FORM, asked=ASKED, dtype=torch.float32, spread=0.3, **settings):
    """A network with weights large enough for its odds to differ from a uniform draw."""
    values = {"layers": 2, "heads": 4, "width": 32, "precision": "float32", "dropout": 0.0, "smoothing": 0.0, **settings}
    model = Transformer(TransformerSettings(**values), form, asked)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * spread
    return model.to(dtype).eval()


def prompts(n, form=ASKED, seed=0):
    """Prompts of different lengths, each padded with its end."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, form.vocabulary - 1, (n, form.length), generator=generator)
    lengths = torch.arange(n) % (form.length - 1) + 1
    return torch.where(torch.arange(form.length) < lengths[:, None], x, form.end)


def test_it_is_what_it_says():
    model = build()
    assert isinstance(model, Trains)
    assert isinstance(model, Scores)
    assert isinstance(model, Predicts)
    assert isinstance(model, Explains)
    assert abilities(model) == ["scores", "predicts", "explains"]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_cached_equals_uncached(variant, dtype, tolerance):
    model = build(dtype=dtype, **VARIANTS[variant])
    tokens = torch.randint(0, 12, (5, 12), generator=torch.Generator().manual_seed(7))
    asked = prompts(5)
    with torch.no_grad():
        expected = model.logits(tokens, asked)
        for pieces in ([1] * 12, [5, 1, 4, 2], [12]):
            state, read = model.start(5, asked), 0
            for k in pieces:
                logits, state = model.step(tokens[:, read : read + k], state)
                read += k
                assert float((logits - expected[:, read - 1]).abs().max()) <= tolerance * float(expected.abs().max())


def test_a_state_goes_on_with_the_items_that_are_chosen():
    model = build(dtype=torch.float64)
    tokens, asked = torch.randint(0, 11, (4, 6), generator=torch.Generator().manual_seed(2)), prompts(4)
    rows = torch.tensor([3, 1, 1, 0, 3])
    with torch.no_grad():
        _, state = model.step(tokens[:, :4], model.start(4, asked))
        kept = copy.deepcopy(state)
        got, _ = model.step(tokens[rows, 4:], model.reorder(state, rows))
        torch.testing.assert_close(got, model.logits(tokens, asked)[rows, -1])
        # the copy is the state as it was
        torch.testing.assert_close(model.step(tokens[:, 4:], kept)[0], model.logits(tokens, asked)[:, -1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_is_not_looked_at(variant):
    """An item scores the same alone, without padding, and beside longer ones."""
    model = build(dtype=torch.float64, **VARIANTS[variant])
    x, asked = prompts(6, FORM, seed=3), prompts(6)
    mask = mask_after_end(x, 10)
    with torch.no_grad():
        together = model.symbol_log_prob(Batch(x, condition=asked, mask=mask))
        for row in range(6):
            source = asked[row : row + 1, : int(mask_after_end(asked, 8)[row].sum())]
            real = int(mask[row].sum())
            alone = model.symbol_log_prob(Batch(x[row : row + 1, :real], condition=source))
            torch.testing.assert_close(together[row, :real], alone[0])
    assert (together[~mask] == 0).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_place_sees_the_whole_source_and_nothing_that_comes_later(variant):
    model = build(dtype=torch.float64, **VARIANTS[variant])
    tokens, asked = torch.randint(0, 11, (2, 12), generator=torch.Generator().manual_seed(0)), prompts(7)[5:7]
    later, other = tokens.clone(), asked.clone()
    later[:, 5] = (later[:, 5] + 1) % 11
    other[:, 0] = (other[:, 0] + 1) % 8
    with torch.no_grad():
        before = model.logits(tokens, asked)
        assert torch.equal(before[:, :5], model.logits(later, asked)[:, :5])
        assert (before[:, 5:] != model.logits(later, asked)[:, 5:]).any(dim=-1).all()
        assert (before != model.logits(tokens, other)).any(dim=-1).all()


def test_one_table_serves_all_where_there_is_one_vocabulary():
    same = Tokens(11, 8, end=10)
    assert build(asked=same).source_symbol is None
    assert build(asked=same, tied=False).source_symbol is not None
    assert build().source_symbol is not None  # another vocabulary


def test_the_loss_is_minus_the_mean_log_probability_of_what_counts():
    model = build()
    x, asked = prompts(6, FORM), prompts(6)
    batch = Batch(x, condition=asked, mask=mask_after_end(x, 10))
    with torch.no_grad():
        losses, scores = model.loss(batch, StepNoise(0, 0, "completion", 6)), model.log_prob(batch)
    assert losses.count == int(batch.mask.sum())
    assert float(losses.loss) == pytest.approx(-float(scores.sum()) / losses.count, rel=1e-5)


def test_bfloat16_training_agrees_with_float32():
    x, asked = prompts(8, FORM), prompts(8)
    batch, found = Batch(x, condition=asked, mask=mask_after_end(x, 10)), {}
    for precision in ("float32", "bfloat16"):
        model = build(spread=0.1, precision=precision).train()
        loss = model.loss(batch, StepNoise(0, 0, "completion", 8)).loss
        loss.backward()
        found[precision] = (loss.item(), model.decoder[0].ask.offer.weight.grad.flatten())
    assert found["bfloat16"][0] == pytest.approx(found["float32"][0], rel=0.02)
    assert float(torch.cosine_similarity(found["bfloat16"][1], found["float32"][1], dim=0)) > 0.98


def test_it_learns_to_turn_round():
    """Reversed sequences of digits that it has not seen: only a model that looks at the right place of the source can."""
    form = Tokens(11, 8, end=10)

    def pairs(n, seed):
        generator = torch.Generator().manual_seed(seed)
        source, target = torch.full((n, 8), 10), torch.full((n, 8), 10)
        for row in range(n):
            length = int(torch.randint(3, 6, (), generator=generator))
            source[row, :length] = torch.randint(0, 10, (length,), generator=generator)
            target[row, :length] = source[row, :length].flip(0)
        return ItemExamples(form, target, condition=form, conditions=source)

    with seeded(0, "weights"):
        model = build_new(form)
    plan = Plan.layered(Transformer.training_defaults, {"steps": 300, "batch": 64, "rate": 5e-3, "warmup": 20, "threads": 1})
    learn(model, pairs(4000, 0), None, plan)
    held = pairs(200, 1)
    made = answers(model.eval(), form, held.conditions)
    assert float((made == held.x).all(dim=1).float().mean()) > 0.9


def build_new(form):
    settings = {"layers": 1, "heads": 4, "width": 64, "precision": "float32", "dropout": 0.0, "smoothing": 0.0}
    return Transformer(TransformerSettings(**settings), form, form)


def test_answers_do_not_depend_on_what_stands_beside_them():
    model, asked = build(), prompts(9)
    together = answers(model, ASKED, asked, Decoding(), seed=4)
    assert together.shape == (9, 12)
    assert torch.equal(together, answers(model, ASKED, asked, Decoding(), seed=4, batch=2))
    greedy = answers(model, ASKED, asked)
    for row in range(9):
        alone = model.sample(1, Decoding(temperature=0), ItemNoise(0, 1), asked[row : row + 1])
        assert greedy[row, : alone.shape[1]].tolist() == alone[0].tolist()


def test_the_trace_shows_where_in_the_source_it_looks():
    model, asked = build(), prompts(5)[4:]
    steps = list(model.trace(Decoding(), ItemNoise(4, 1), asked))
    assert torch.equal(steps[-1].x, model.sample(1, Decoding(), ItemNoise(4, 1), asked))
    real = int(mask_after_end(asked, 8).sum())
    for step in steps:
        assert step.data["attention"].shape == (2, 4, real)
        assert step.data["read"].tolist() == asked[0, :real].tolist()
        torch.testing.assert_close(step.data["attention"].sum(-1), torch.ones(2, 4))


def test_what_it_cannot_do_is_told():
    model = build()
    with pytest.raises(UsageError, match="no condition"):
        Transformer(TransformerSettings(), FORM)
    with pytest.raises(UsageError, match="none of that kind"):
        Transformer(TransformerSettings(), FORM, Label(("a", "b")))
    with pytest.raises(FormError, match="items that end"):
        Transformer(TransformerSettings(), Tokens(11, 12), ASKED)
    with pytest.raises(UsageError, match="no prompt"):
        model.sample(2, Decoding(), ItemNoise(0, 2))
    with pytest.raises(FormError, match="a prompt of 9 symbols"):
        model.logits(torch.tensor([[11]]), torch.zeros(1, 9, dtype=torch.int64))
    with pytest.raises(FormError, match="at most 12"):
        model.logits(torch.zeros(1, 13, dtype=torch.int64), prompts(1))
    with pytest.raises(UsageError, match="not a multiple"):
        TransformerSettings.of({"width": 30, "heads": 4})


@pytest.mark.parametrize("preset", sorted(set(Transformer.presets) - {"base"}))  # whose file is large
def test_presets_build_and_come_back_from_their_file(preset, tmp_path):
    chosen = {name: value for name, value in Transformer.presets[preset].items() if name in TransformerSettings.model_fields}
    model = Transformer(TransformerSettings.of(chosen), FORM, ASKED).eval()
    weights.save(model, tmp_path / "model.safetensors")
    again, asked = weights.load(tmp_path / "model.safetensors"), prompts(2)
    drawn = model.sample(2, Decoding(), ItemNoise(0, 2), asked)
    assert torch.equal(drawn, again.sample(2, Decoding(), ItemNoise(0, 2), asked))
