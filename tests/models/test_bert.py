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
