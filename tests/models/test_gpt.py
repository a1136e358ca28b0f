"""GPT: what is streamed is what is scored, its probabilities add up, and its draws follow them."""

import itertools
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from scipy import stats

from pieria.data.batch import Batch, mask_after_end
from pieria.data.packing import rows_of
from pieria.errors import FormError, UsageError
from pieria.forms import Grid, Label, Tokens
from pieria.layers.reading import MANY, PACKED
from pieria.losses.symbols import symbol_log_prob
from pieria.models import weights
from pieria.models.contract import Explains, Predicts, Scores, ScoresSymbols, Trains, abilities
from pieria.models.gpt import GPT, GPTSettings
from pieria.noise import ItemNoise, StepNoise
from pieria.sampling.decoding import Decoding, generate

VARIANTS = {
    "default": {},
    "learned": {"positions": "learned", "unit_queries": False, "bias": True},
    "llama": {"norm": "rms", "activation": "swiglu", "key_heads": 2, "tied": False, "unit_queries": False},
    "gpt2": {"positions": "learned", "unit_queries": False, "bias": True, "activation": "gelu-tanh", "norm_epsilon": 1e-3},
    "gpt3": {"positions": "learned", "unit_queries": False, "bias": True, "window": 3, "windowed": "alternate"},
    "mistral": {
        "norm": "rms", "activation": "swiglu", "key_heads": 2, "window": 4, "unit_queries": False, "rotary_base": 1e6,
        "inner": 44,
    },
    "qwen2": {"norm": "rms", "activation": "swiglu", "key_heads": 2, "unit_queries": False, "query_bias": True},
    "qwen3": {"norm": "rms", "activation": "swiglu", "key_heads": 2, "head_size": 12, "query_scales": True},
    "one key head": {"key_heads": 1, "unit_queries": True, "activation": "relu2"},
}  # fmt: skip


def build(form, dtype=torch.float32, condition=None, spread=0.3, **settings):
    """A network with weights large enough for its odds to differ from a uniform draw."""
    model = GPT(GPTSettings(**{"layers": 2, "heads": 4, "width": 32, "precision": "float32", **settings}), form, condition)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * spread
    return model.to(dtype).eval()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("items", [1, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_cached_equals_uncached(variant, items, dtype, tolerance):
    """Over random prefixes in random pieces, far beyond the window of 12."""
    model = build(Tokens(11, 12), dtype, **VARIANTS[variant])
    generator = torch.Generator().manual_seed(7)
    tokens = torch.randint(0, 12, (items, 61), generator=generator)
    with torch.no_grad():
        expected = model.logits(tokens)
        for _ in range(4):
            state, read = model.start(items), 0
            while read < 61:
                k = min(
                    int(torch.randint(1, 16, (), generator=generator)) if torch.rand((), generator=generator) < 0.3 else 1,
                    61 - read,
                )
                logits, state = model.step(tokens[:, read : read + k], state)
                read += k
                assert float((logits - expected[:, read - 1]).abs().max()) <= tolerance * float(expected.abs().max())


@pytest.mark.parametrize("variant", ["default", "gpt2", "qwen2"])
def test_packed_products_decode_alike(variant):
    """So many items of such a width that weights are packed."""
    items, settings = 64, {"width": 64, **VARIANTS[variant]}
    assert items * 64 * 256 >= PACKED
    model = build(Tokens(11, 12), spread=0.1, **settings)
    tokens = torch.randint(0, 12, (items, 20), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        expected, state = model.logits(tokens), model.start(items)
        for place in range(20):
            logits, state = model.step(tokens[:, place : place + 1], state)
            assert float((logits - expected[:, place]).abs().max()) <= 1e-5 * float(expected.abs().max())


def test_one_item_of_a_large_model_decodes_alike():
    model = build(Tokens(11, 12), spread=0.02, layers=1, width=512, bias=True)
    assert model.layers[0].think.enter.weight.numel() >= MANY
    tokens = torch.randint(0, 11, (1, 20), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        expected, state = model.logits(tokens), model.start(1)
        for place in range(20):
            logits, state = model.step(tokens[:, place : place + 1], state)
            assert float((logits - expected[:, place]).abs().max()) <= 1e-5 * float(expected.abs().max())


def test_a_copied_state_goes_its_own_way():
    model = build(Tokens(11, 12))
    with torch.no_grad():
        _, state = model.step(torch.tensor([[1, 2, 3]]), model.start(1))
        copy = deepcopy(state)
        model.step(torch.tensor([[4]]), state)
        there, _ = model.step(torch.tensor([[5]]), copy)
        torch.testing.assert_close(there[0], model.logits(torch.tensor([[1, 2, 3, 5]]))[0, -1])


@pytest.mark.parametrize(("windowed", "reach"), [("all", 4), ("alternate", 11)])
def test_a_window_bounds_what_is_seen(windowed, reach):
    """Two layers of windows of 3 reach 2 · 2 places back; where every second layer is dense, all."""
    model = build(Tokens(9, 12), torch.float64, window=3, windowed=windowed)
    tokens = torch.randint(0, 9, (1, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model.logits(tokens)[0, -1]
        for place in range(12):
            changed = tokens.clone()
            changed[0, place] = (changed[0, place] + 1) % 9
            assert torch.equal(model.logits(changed)[0, -1], before) == (11 - place > reach)


def test_gradient_checkpointing_changes_no_gradient():
    batch = Batch(torch.randint(0, 9, (2, 8), generator=torch.Generator().manual_seed(0)))
    found = []
    for again in (False, True):
        model = build(Tokens(9, 8), spread=0.1, dropout=0.1, gradient_checkpointing=again).train()
        torch.manual_seed(3)
        model.loss(batch, StepNoise(0, 0, "next symbol", 2)).loss.backward()
        found.append([p.grad for p in model.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("window", [1, 2, 5, 8])
def test_the_window_follows_its_rule(window):
    """Row t is computed from the symbols that the rule keeps, and from no others."""
    model = build(Tokens(7, window), torch.float64)
    tokens = torch.randint(0, 7, (1, 23), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        rows = model.logits(tokens)[0]
        held = []
        for place, symbol in enumerate(tokens[0].tolist()):
            if len(held) == window:
                held = held[window - window // 2 :]
            held.append(symbol)
            torch.testing.assert_close(rows[place], model.logits(torch.tensor([held]))[0, -1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_place_sees_what_comes_after_it(variant):
    model = build(Tokens(9, 8), torch.float64, **VARIANTS[variant])
    tokens = torch.randint(0, 9, (2, 8), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 9
    with torch.no_grad():
        before, after = model.logits(tokens), model.logits(changed)
    assert torch.equal(before[:, :5], after[:, :5])
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


@pytest.mark.parametrize("end", [2, None])
def test_draws_follow_the_probabilities(end):
    form = Tokens(3, 5, end=end)
    model = build(form)
    drawn = generate(model, 20_000, Decoding(), ItemNoise(11, 20_000))
    rows, counts = drawn.unique(dim=0, return_counts=True)
    with torch.no_grad():
        expected = 20_000 * model.log_prob(Batch(rows, mask=mask_after_end(rows, end))).exp()
    large = expected >= 5
    seen, wanted = counts[large].double(), expected[large]
    seen = torch.cat([seen, 20_000 - seen.sum()[None]])
    wanted = torch.cat([wanted, 20_000 - wanted.sum()[None]])
    assert stats.chisquare(seen[wanted > 1e-3], wanted[wanted > 1e-3], sum_check=False).pvalue > 1e-3


def test_scoring_reads_the_context_it_is_given():
    model = build(Tokens(9, 16), torch.float64)
    text = torch.randint(0, 9, (2, 14), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        whole = model.symbol_log_prob(Batch(text))
        # the first symbol was read after `begin`; read together with it as a context, the rest scores the same
        begun = torch.cat([torch.full((2, 1), 9), text], dim=1)
        part = model.symbol_log_prob(Batch(text[:, 6:], context=begun[:, :7]))
    torch.testing.assert_close(part, whole[:, 6:])


def test_masked_symbols_cost_nothing():
    form = Tokens(5, 6, end=4)
    model = build(form)
    x = torch.tensor([[0, 1, 4, 4, 4, 4], [3, 2, 1, 0, 3, 2]])
    mask = mask_after_end(x, 4)
    with torch.no_grad():
        scores = model.symbol_log_prob(Batch(x, mask=mask))
        losses = model.loss(Batch(x, mask=mask), StepNoise(0, 0, "next symbol", 2))
    assert (scores[~mask] == 0).all()
    assert losses.count == 9
    assert losses.unit == "symbols"
    assert float(losses.loss) == pytest.approx(-float(scores.sum()) / 9, rel=1e-5)


def test_a_tenth_of_the_windows_of_a_stream_begin_from_nothing(monkeypatch):
    model = build(Tokens(5, 4))
    read = []
    monkeypatch.setattr(
        model, "logits", lambda tokens, condition=None: (read.append(tokens), torch.zeros(*tokens.shape, 5))[1]
    )
    x = torch.zeros(4000, 4, dtype=torch.int64)
    model.loss(Batch(x, context=x[:, :1]), StepNoise(0, 0, "next symbol", 4000))
    assert float((read[0][:, 0] == 5).float().mean()) == pytest.approx(0.1, abs=0.02)
    assert (read[0][:, 1:] == 0).all()


def test_it_learns_a_planted_chain():
    """The odds of a chain of order 1 are found to within 0.02 nats of its entropy rate."""
    generator = torch.Generator().manual_seed(0)
    odds = torch.tensor([[0.1, 0.8, 0.1], [0.05, 0.05, 0.9], [0.6, 0.2, 0.2]])
    model = GPT(GPTSettings(layers=1, heads=2, width=16, precision="float32"), Tokens(3, 16))
    optimiser = torch.optim.AdamW(model.groups()["all"], lr=1e-2)

    def chain(n):
        rows = [torch.zeros(n, dtype=torch.int64)]
        for _ in range(16):
            rows.append(torch.multinomial(odds[rows[-1]], 1, generator=generator)[:, 0])
        return torch.stack(rows, dim=1)

    (phase,) = model.phases()
    for step in range(150):
        text = chain(32)
        optimiser.zero_grad()
        phase.loss(Batch(text[:, 1:], context=text[:, :1]), StepNoise(0, step, phase.name, 32)).loss.backward()
        optimiser.step()
    text = chain(500)
    truth = -odds[text[:, :-1], text[:, 1:]].log().mean()
    with torch.no_grad():
        found = -model.eval().symbol_log_prob(Batch(text[:, 1:], context=text[:, :1])).mean()
    assert float(found - truth) < 0.02


def of_lengths(lengths, form, labels=None):
    """A batch of random items of these lengths, each with its end."""
    x = torch.full((len(lengths), form.length), form.end)
    generator = torch.Generator().manual_seed(5)
    for row, length in enumerate(lengths):
        x[row, : length - 1] = torch.randint(0, form.end, (length - 1,), generator=generator)
    return Batch(x, condition=labels, mask=mask_after_end(x, form.end))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_packed_items_are_learned_as_in_rows_of_their_own(variant, checkpointing):
    """Each item's loss, the batch's, and every gradient."""
    form = Tokens(11, 16, end=10)
    lengths = [7, 3, 16, 2, 1, 9, 4, 4, 12, 5]
    batch, noise = of_lengths(lengths, form), StepNoise(0, 0, "next symbol", len(lengths))
    model = build(form, spread=0.15, gradient_checkpointing=checkpointing, **VARIANTS[variant]).train()
    rows = rows_of(batch.x, batch.mask, True, 32)
    assert rows.several
    before = torch.full((len(lengths),), form.begin)
    found = model._window(rows.read(before), None, rows.places, rows.seen())
    nats = symbol_log_prob(found @ model._head_weight().T, rows.x, rows.mask)
    each = torch.zeros(len(lengths)).index_add(0, rows.items.flatten(), nats.detach().flatten())
    assert each.tolist() == pytest.approx(model.log_prob(batch).tolist(), abs=1e-5, rel=1e-5)
    found = {}
    for packed in (True, False):
        model.settings = model.settings.changed(packed=packed)
        model.zero_grad()
        losses = model.loss(batch, noise)
        losses.loss.backward()
        found[packed] = losses, [parameter.grad.clone() for parameter in model.parameters()]
    assert found[True][0].loss.item() == pytest.approx(found[False][0].loss.item(), abs=1e-5)
    assert found[True][0].count == found[False][0].count == sum(lengths)
    for packed, apart in zip(found[True][1], found[False][1], strict=True):
        torch.testing.assert_close(packed, apart, rtol=1e-4, atol=1e-6)


def test_packed_items_keep_their_labels_and_what_stood_before_them():
    form, labels = Tokens(11, 16, end=10), Label(("soft", "loud"))
    batch = of_lengths([7, 3, 2, 9, 4, 12], form, torch.tensor([0, 1, 1, 0, 1, 0]))
    batch = replace(batch, context=torch.tensor([[11], [3], [11], [5], [11], [2]]))
    noise = StepNoise(0, 0, "next symbol", 6)
    losses = [
        build(form, condition=labels, packed=packed).train().loss(batch, noise).loss.item() for packed in (True, False)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    wanted = -build(form, condition=labels).log_prob(batch).sum() / batch.mask.sum()
    assert losses[0] == pytest.approx(wanted.item(), abs=1e-5)


def test_bfloat16_training_agrees_with_float32():
    form = Tokens(11, 32)
    x = torch.randint(0, 11, (4, 33), generator=torch.Generator().manual_seed(0))
    batch, noise = Batch(x[:, 1:], context=x[:, :1]), StepNoise(0, 0, "next symbol", 4)
    for key_heads, window in ((None, None), (2, 5)):
        found = {}
        for precision in ("float32", "bfloat16"):
            model = build(form, spread=0.1, precision=precision, key_heads=key_heads, window=window).train()
            loss = model.loss(batch, noise).loss
            loss.backward()
            found[precision] = (loss.item(), model.layers[0].look.project.weight.grad.flatten())
        assert found["bfloat16"][0] == pytest.approx(found["float32"][0], rel=0.02)
        assert float(torch.cosine_similarity(found["bfloat16"][1], found["float32"][1], dim=0)) > 0.98


def test_packed_items_in_bfloat16_agree_with_float32():
    form = Tokens(11, 16, end=10)
    batch, noise = of_lengths([7, 3, 16, 2, 9, 4, 12], form), StepNoise(0, 0, "next symbol", 7)
    for window in (None, 5):
        found = [
            build(form, spread=0.1, packed=True, precision=precision, window=window).train().loss(batch, noise).loss.item()
            for precision in ("float32", "bfloat16")
        ]
        assert found[1] == pytest.approx(found[0], rel=0.02)


def test_labels_condition_it():
    form, labels = Tokens(4, 5, end=3), Label(("soft", "loud"))
    model = build(form, condition=labels)
    classes = torch.tensor([0, 1, 0, 1])
    drawn = model.sample(4, Decoding(), ItemNoise(0, 4), condition=classes)
    assert drawn.shape == (4, 5)
    with torch.no_grad():
        odds = model.logits(torch.full((2, 1), form.begin), torch.tensor([0, 1]))
    assert not torch.equal(odds[0], odds[1])
    with pytest.raises(UsageError, match="no label"):
        model.sample(1, Decoding(), ItemNoise(0, 1))


def test_the_trace_ends_with_the_sample_and_its_attention_adds_up():
    for form in (Tokens(6, 9, end=2), Tokens(6, 9)):
        model = build(form, positions="learned", unit_queries=False, key_heads=2)
        steps = list(model.trace(Decoding(), ItemNoise(4, 1)))
        assert torch.equal(steps[-1].x, model.sample(1, Decoding(), ItemNoise(4, 1)))
        for place, step in enumerate(steps):
            assert step.data["attention"].shape == (2, 4, place + 1)
            torch.testing.assert_close(step.data["attention"].sum(-1), torch.ones(2, 4))


@pytest.mark.parametrize("preset", GPT.presets)
def test_presets_build_and_come_back_from_their_file(preset, tmp_path):
    chosen = {name: value for name, value in GPT.presets[preset].items() if name in GPTSettings.model_fields}
    model = GPT(GPTSettings.of(chosen), Tokens(65, 16)).eval()
    weights.save(model, tmp_path / "model.safetensors")
    again = weights.load(tmp_path / "model.safetensors")
    assert torch.equal(model.sample(2, Decoding(), ItemNoise(0, 2)), again.sample(2, Decoding(), ItemNoise(0, 2)))


def test_its_abilities():
    model = build(Tokens(5, 4))
    for ability in (Trains, Scores, ScoresSymbols, Predicts, Explains):
        assert isinstance(model, ability)
    assert abilities(model) == ["scores", "predicts", "explains"]


def test_what_is_asked_wrongly_is_said():
    with pytest.raises(FormError, match="learns from tokens"):
        GPT(GPTSettings(), Grid(1, 8, 8))
    with pytest.raises(UsageError, match="not a multiple of heads"):
        GPTSettings.of({"width": 30, "heads": 4})
    with pytest.raises(UsageError, match="not a multiple of key_heads"):
        GPTSettings.of({"heads": 4, "key_heads": 3})
    with pytest.raises(UsageError, match="set unit_queries too"):
        GPTSettings.of({"query_scales": True, "unit_queries": False})
    with pytest.raises(UsageError, match="even number"):
        GPTSettings.of({"width": 12, "heads": 4})
    model = build(Tokens(5, 4, end=4))
    with pytest.raises(FormError, match="at most 4"):
        model.log_prob(Batch(torch.zeros(1, 5, dtype=torch.int64)))
    with pytest.raises(UsageError, match="no symbols to read"):
        model.step(torch.zeros(1, 0, dtype=torch.int64), model.start(1))
