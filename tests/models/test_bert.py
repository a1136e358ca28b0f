"""BERT: its network is the paper's to the last digit, its masks are what the recipe says, and it fills what is asked."""

import itertools

import pytest
import torch

from pieria.data.batch import Batch
from pieria.errors import FormError, UsageError
from pieria.forms import Tokens
from pieria.models.bert import BERT, BERTSettings
from pieria.models.contract import Embeds, Explains, FillsSymbols, Validates, abilities
from pieria.noise import ItemNoise, StepNoise
from pieria.sampling import lengths
from pieria.sampling.filling import Filling

ITEMS, STREAM = Tokens(11, 9, 10), Tokens(7, 8)


def build(form=ITEMS, spread=0.3, **settings):
    """A network with weights large enough for its odds to differ from a uniform draw."""
    model = BERT(BERTSettings(**{"layers": 2, "heads": 2, "width": 16, "precision": "float32", **settings}), form)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * spread
    return model.eval()


# ---- the network -----------------------------------------------------------------------------------------------------


def from_transformers(theirs, config):
    """The same weights here: ``begin`` is [CLS] (id 2), the mask is [MASK] (id 4), an item ends with [SEP] (id 3)."""
    settings = BERTSettings(
        layers=config.num_hidden_layers, heads=config.num_attention_heads, width=config.hidden_size,
        hidden=config.intermediate_size / config.hidden_size, types=config.type_vocab_size, norm_first=False,
        eps=config.layer_norm_eps, dropout=0.0, activation="gelu", precision="float32",
    )  # fmt: skip
    model = BERT(settings, Tokens(config.vocab_size, config.max_position_embeddings - 1, end=3))
    state = theirs.state_dict()
    weights = {
        "symbol.weight": torch.cat([state["bert.embeddings.word_embeddings.weight"]] + [
            state["bert.embeddings.word_embeddings.weight"][[special]] for special in (2, 4)
        ]),
        "place.weight": state["bert.embeddings.position_embeddings.weight"],
        "kind.weight": state["bert.embeddings.token_type_embeddings.weight"],
        "head.bias": state["cls.predictions.bias"],
        "lengths": model.lengths, "starts": model.starts,
    }  # fmt: skip
    names = {
        "first": "bert.embeddings.LayerNorm",
        "head.transform": "cls.predictions.transform.dense",
        "head.norm": "cls.predictions.transform.LayerNorm",
    }
    for layer in range(config.num_hidden_layers):
        there, here = f"bert.encoder.layer.{layer}", f"encoder.layers.{layer}"
        names |= {
            f"{here}.look.output": f"{there}.attention.output.dense",
            f"{here}.look_norm": f"{there}.attention.output.LayerNorm",
            f"{here}.enter": f"{there}.intermediate.dense",
            f"{here}.leave": f"{there}.output.dense",
            f"{here}.think_norm": f"{there}.output.LayerNorm",
        }
        for kind in ("weight", "bias"):
            weights[f"{here}.look.project.{kind}"] = torch.cat(
                [state[f"{there}.attention.self.{name}.{kind}"] for name in ("query", "key", "value")]
            )
    for (here, there), kind in itertools.product(names.items(), ("weight", "bias")):
        weights[f"{here}.{kind}"] = state[f"{there}.{kind}"]
    model.load_state_dict(weights)
    return model.eval()


def test_the_network_is_that_of_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=50,
        max_position_embeddings=16, initializer_range=0.4,
    )  # fmt: skip
    torch.manual_seed(3)
    theirs = transformers.BertForMaskedLM(config).eval()
    ours = from_transformers(theirs, config)
    x = torch.randint(5, 40, (4, 15))
    for row, length in enumerate((15, 9, 3, 12)):
        x[row, length - 1 :] = 3
    real = torch.arange(15) < torch.tensor([15, 9, 3, 12])[:, None]
    masked = torch.zeros_like(real)
    masked[:, 1] = masked[0, 7] = True
    with_cls = torch.cat([torch.full((4, 1), 2), x.masked_fill(masked, 4)], dim=1)
    attended = torch.cat([torch.ones(4, 1), real], dim=1)
    with torch.no_grad():
        wanted = theirs(with_cls, attention_mask=attended, output_hidden_states=True)
        hidden = ours.hidden(x.masked_fill(masked, ours.mask_symbol), real)
        odds = ours.odds(x, masked, masked)
    seen = attended.bool()
    assert float((hidden - wanted.hidden_states[-1])[seen].abs().max()) <= 1e-5
    assert float((hidden[~seen]).abs().max()) == 0
    there = wanted.logits[:, 1:][masked]
    assert float((odds - there).abs().max()) <= 1e-4 * float(there.abs().max())


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_padding_changes_nothing(norm_first, positions):
    """An item alone, in a batch of longer ones, in bfloat16's explicit products: the same vectors."""
    model = build(norm_first=norm_first, positions=positions)
    x = torch.tensor([[1, 2, 10, 10, 10, 10, 10, 10, 10], [3, 4, 5, 6, 7, 8, 9, 0, 10]])
    with torch.no_grad():
        both = model.hidden(x, model.real(x))
        alone = model.hidden(x[:1, :3], None)
        padded = model.double().hidden(x, model.real(x))
    assert torch.allclose(both[0, :4], alone[0], atol=1e-5)
    assert torch.allclose(both.double(), padded, atol=1e-4)
    assert float(both[0, 4:].abs().max()) == 0


def test_products_of_bfloat16_agree_with_float32():
    model = build(spread=0.1)
    x = torch.tensor([[1, 2, 10, 10, 10, 10, 10, 10, 10], [3, 4, 5, 6, 7, 8, 9, 0, 10]])
    with torch.no_grad():
        exact = model.hidden(x, model.real(x))
        with torch.autocast("cpu", torch.bfloat16):
            near = model.hidden(x, model.real(x)).float()
    assert float((near - exact).abs().max()) < 0.05 * float(exact.abs().max())


# ---- what is masked --------------------------------------------------------------------------------------------------


def test_the_recipe_of_the_paper():
    """15 % of the places; of these 80 % become the mask, 10 % another symbol, 10 % stay; ends are never told."""
    model = build(Tokens(50, 40, 49), writing=0.0)
    x = torch.randint(0, 49, (4000, 40), generator=torch.Generator().manual_seed(0))
    x[:, 30:] = 49
    read, told = model.corrupted(x, StepNoise(0, 0, "masked symbols", 4000))
    assert abs(float(told[:, :30].double().mean()) - 0.15) < 0.003
    assert not told[:, 30:].any()
    assert torch.equal(read[~told], x[~told])
    assert abs(float((read[told] == model.mask_symbol).double().mean()) - 0.8) < 0.01
    assert abs(float((read[told] == x[told]).double().mean()) - (0.1 + 0.1 / 50)) < 0.01


def test_some_items_are_masked_by_any_share():
    model = build(Tokens(50, 40, None), writing=1.0)
    x = torch.zeros(3000, 40, dtype=torch.int64)
    read, told = model.corrupted(x, StepNoise(0, 0, "masked symbols", 3000))
    shares = told.double().mean(dim=1)
    assert float(shares.min()) > 0
    assert float(shares.max()) == 1
    assert abs(float(shares.mean()) - 0.5) < 0.03
    assert bool((read[told] == model.mask_symbol).all())


def test_spans_and_whole_words_are_masked_together():
    x = torch.arange(8).repeat(2000, 5)
    _, told = build(Tokens(9, 40), span=4.0, writing=0.0, masked=0.3).corrupted(x, StepNoise(0, 0, "a", 2000))
    again = float((told[:, 1:] & told[:, :-1]).sum() / told[:, :-1].sum())
    assert again > 0.6  # place by place it would be 0.3
    model = build(Tokens(9, 40), whole_words=True, writing=0.0)
    model.spell([" a", "b", "c", " d", "e", "f", "g", "h", "."])
    _, told = model.corrupted(x, StepNoise(0, 0, "a", 2000))
    words = told.view(2000, 5, 8)
    whole = (words[:, :, :3].all(2) | ~words[:, :, :3].any(2)).double().mean()
    assert float(whole) > 0.85  # only the last one may be cut by the share
    model.spell([*"abcdefgh", "ends"])
    assert bool(model.starts.all()), "symbols that are whole words each begin one"
    model.spell(["a", "##b", "c", "d", "e", "f", "g", "h", "[SEP]"])
    assert model.starts.tolist() == [True, False, *[True] * 7]


# ---- scoring, filling, vectors ---------------------------------------------------------------------------------------


def test_the_pseudo_likelihood_masks_one_place_at_a_time():
    model = build()
    x = torch.tensor([[1, 2, 3, 10, 10, 10, 10, 10, 10]])
    wanted = float(lengths.law_of(model.lengths)[3].log())
    with torch.no_grad():
        for place in range(3):
            one = torch.zeros_like(x, dtype=torch.bool)
            one[0, place] = True
            wanted += float(model.odds(x, one, one).double().log_softmax(1)[0, x[0, place]])
        assert float(model.log_prob(Batch(x))) == pytest.approx(wanted, abs=1e-5)


def test_the_context_of_a_stream_is_read_and_not_scored():
    model = build(STREAM)
    x = torch.randint(0, 7, (2, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, tail = model.log_prob(Batch(x)), model.log_prob(Batch(x[:, 5:], context=x[:, :5]))
        short = model.log_prob(Batch(x[:, 5:], context=torch.cat([x, x], dim=1)[:, :13]))
        assert bool((tail > whole).all())
        assert torch.allclose(short, tail), "of a long context the last symbols are read"
    with pytest.raises(FormError, match="at most 8"):
        model.log_prob(Batch(torch.zeros(1, 9, dtype=torch.int64)))


def test_filling_keeps_what_is_given_and_finds_an_end_that_fits():
    model = build()
    model.lengths[:] = 1.0
    x = torch.full((64, 9), 10)
    x[:, 4] = 7
    given = torch.zeros_like(x, dtype=torch.bool)
    given[:, 4] = True
    filled = model.fill(x, given, Filling(), ItemNoise(0, 64))
    assert bool((filled[:, 4] == 7).all())
    ends = (filled == 10).long().argmax(1)
    assert set(ends[(filled == 10).any(1)].tolist()) <= {5, 6, 7, 8}
    assert bool(((filled == 10).long().diff(dim=1) >= 0).all()), "behind an end stands nothing else"


@pytest.mark.parametrize("order", ["random", "confidence", "left"])
@pytest.mark.parametrize("rounds", [None, 3])
def test_every_order_fills_everything(order, rounds):
    model = build(STREAM)
    options = Filling(order=order, rounds=rounds, sweeps=1)
    x = model.sample(5, options, ItemNoise(3, 5))
    parts = [model.sample(1, options, ItemNoise(3, 1, first=item)) for item in range(5)]
    assert torch.equal(torch.cat(parts), x)
    steps = list(model.trace(options, ItemNoise(3, 1, first=2)))
    assert torch.equal(steps[-1].x, x[2:3])
    assert len(steps) == 2 + (rounds or 8)
    long = model.sample(2, Filling(order=order, rounds=rounds, length=21), ItemNoise(3, 2))
    assert long.shape == (2, 21)


def test_the_surest_place_comes_first_and_takes_the_likeliest_symbol():
    model = build(STREAM, spread=0.6)
    options = Filling(order="confidence", temperature=0.0)
    x, masked = torch.zeros(1, 8, dtype=torch.int64), torch.ones(1, 8, dtype=torch.bool)
    with torch.no_grad():
        law = model.odds(x, masked, masked).softmax(1)
    step = list(model.trace(options, ItemNoise(0, 1)))[1]
    place = int(step.data["placed"].nonzero())
    assert place == int(law.amax(1).argmax())
    assert int(step.x[0, place]) == int(law[place].argmax())


def test_more_rounds_draw_nearer_to_what_was_learned():
    """After learning from two words that share no letter, filling place by place mixes them less than all places at once."""
    from pieria.data.examples import ItemExamples
    from pieria.training.loop import learn
    from pieria.training.plan import Plan

    rows = torch.tensor([[0, 1, 2, 6, 6], [3, 4, 5, 6, 6]]).repeat(200, 1)
    torch.manual_seed(0)
    model = BERT(BERTSettings(layers=1, heads=2, width=32, dropout=0.0, precision="float32"), Tokens(7, 5, 6))
    learn(model, ItemExamples(model.form, rows), None, Plan.of({"steps": 100, "rate": 5e-3, "batch": 64, "device": "cpu"}))

    def right(**options):
        x = model.sample(200, Filling(**options), ItemNoise(0, 200))
        return float(((x == rows[:1]).all(1) | (x == rows[1:2]).all(1)).double().mean())

    assert right() > 0.9
    assert right(rounds=1) < 0.5
    assert right(rounds=1, sweeps=4) > right(rounds=1)


def test_vectors_of_texts():
    model = build()
    x = torch.tensor([[1, 2, 10, 10, 10, 10, 10, 10, 10], [3, 4, 5, 6, 7, 8, 9, 0, 10]])
    with torch.no_grad():
        hidden = model.hidden(x, model.real(x))
        mean = model.embed(Batch(x))
    assert mean.shape == (2, 16)
    assert torch.allclose(mean[0], hidden[0, :4].mean(0), atol=1e-6)
    assert torch.allclose(build(pooling="first").embed(Batch(x)), hidden[:, 0], atol=1e-6)


def test_what_it_says_of_itself():
    assert set(abilities(BERT)) == {"scores", "fills", "embeds", "explains"}
    model = build()
    assert isinstance(model, Embeds)
    assert isinstance(model, Explains)
    assert isinstance(model, FillsSymbols)
    assert isinstance(model, Validates)
    with pytest.raises(UsageError, match="not a multiple"):
        BERTSettings.of({"width": 30, "heads": 4})


def test_a_model_of_a_stream_goes_on_with_items():
    """The same symbols, an end that is new, and as many places as are known."""
    stream, items = build(Tokens(7, 8)), build(Tokens(8, 6, 7), spread=0.1)
    items.adopt(stream)
    assert torch.equal(items.symbol.weight[:7], stream.symbol.weight[:7])
    assert torch.equal(items.symbol.weight[8:], stream.symbol.weight[7:]), "begin and the mask"
    x = torch.tensor([[1, 2, 3, 4, 5, 0]])
    with torch.no_grad():
        assert torch.allclose(items.hidden(x), stream.hidden(x))
    with pytest.raises(FormError, match="the same symbols"):
        build(Tokens(12, 6, 11)).adopt(stream)
