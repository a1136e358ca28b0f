"""BERT of the hub: an encoder whose norms stand behind its parts, and the head that says what a mask hides.

A text is read between ``[CLS]`` and ``[SEP]``: Pieria's ``begin`` and the end of an item. What is read at a masked place is
a row of its own here, as ``begin`` is; both are the vectors of those tokens. A checkpoint without the head (one for
sentence vectors) gets a new one, which knows nothing yet.
"""

from typing import Any

import torch
from torch import Tensor

from pieria.forms import Tokens
from pieria.hub.gpt2 import Rows
from pieria.hub.reading import Checkpoint, number, only
from pieria.models.bert import BERT, BERTSettings

TYPE = "bert"
ROLES = {"begin": "cls", "end": "sep", "mask": "mask"}
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
BUFFERS = (".position_ids", "pooler.dense.weight", "pooler.dense.bias")
HEAD = ("cls.predictions.bias", "cls.predictions.decoder.weight", "cls.predictions.decoder.bias")
SENTENCES = ("cls.seq_relationship.weight", "cls.seq_relationship.bias")  # a head that is asked whether sentences follow
NEVER = -1e4  # log-odds of what is never to be predicted
_PARTS = {
    "look.output": "attention.output.dense",
    "look_norm": "attention.output.LayerNorm",
    "enter": "intermediate.dense",
    "leave": "output.dense",
    "think_norm": "output.LayerNorm",
}
_QUERIES = ("query", "key", "value")


def longest(config: dict[str, Any]) -> int:
    """The largest item: ``[CLS]`` takes a place."""
    return number(config, "max_position_embeddings", 512) - 1


def settings(config: dict[str, Any]) -> BERTSettings:
    """Our settings for a ``config.json``."""
    only(config, hidden_act=tuple(ACTIVATIONS), position_embedding_type="absolute", is_decoder=False)
    only(config, add_cross_attention=False)
    width = number(config, "hidden_size", 768)
    return BERTSettings.of(
        {
            "layers": number(config, "num_hidden_layers", 12),
            "heads": number(config, "num_attention_heads", 12),
            "width": width,
            "hidden": number(config, "intermediate_size", 3072) / width,
            "positions": "learned",
            "types": number(config, "type_vocab_size", 2),
            "norm_first": False,
            "eps": config.get("layer_norm_eps", 1e-12),
            "activation": ACTIVATIONS[config.get("hidden_act", "gelu")],
            "tied": config.get("tie_word_embeddings", True),
            "dropout": config.get("hidden_dropout_prob", 0.1),
            "writing": 0.0,
            "optimiser": "adamw",
        }
    )


def build(settings: BERTSettings, form: Tokens) -> BERT:
    """The model, with its first weights."""
    return BERT(settings, form)


def state(found: Checkpoint, model: BERT, tokens: dict[str, Any], findings: list[str]) -> dict[str, Tensor]:
    """Our weights from the checkpoint's."""
    width, rows = model.settings.width, model.form.vocabulary
    head = "bert." if "bert.embeddings.word_embeddings.weight" in found else ""
    table = f"{head}embeddings"
    symbol = found.take(f"{table}.word_embeddings.weight", (rows, width))
    place = found.take(f"{table}.position_embeddings.weight", (longest(found.config) + 1, width))
    taken = {
        **model.state_dict(),
        "symbol.weight": torch.cat([symbol, symbol[[tokens["begin"], tokens["mask"]]]]),
        "place.weight": place[: model.form.length + 1].clone(),
        "kind.weight": found.take(f"{table}.token_type_embeddings.weight", (model.settings.types, width)),
        **_both(found, "first", f"{table}.LayerNorm", (width,)),
    }
    for number_, layer in enumerate(model.encoder.layers):
        theirs, ours = f"{head}encoder.layer.{number_}", f"encoder.layers.{number_}"
        for mine, name in _PARTS.items():
            shape = tuple(layer.get_submodule(mine).get_parameter("weight").shape)
            taken |= _both(found, f"{ours}.{mine}", f"{theirs}.{name}", shape)
        for kind, shape in (("weight", (width, width)), ("bias", (width,))):
            parts = [found.take(f"{theirs}.attention.self.{name}.{kind}", shape) for name in _QUERIES]
            taken[f"{ours}.look.project.{kind}"] = torch.cat(parts)
    if HEAD[0] in found:
        taken |= _both(found, "head.transform", "cls.predictions.transform.dense", (width, width))
        taken |= _both(found, "head.norm", "cls.predictions.transform.LayerNorm", (width,))
        # transformers ties the bias as it ties the vectors, and reads the decoder's where it does not
        own = not model.settings.tied and HEAD[2] in found
        taken["head.bias"] = found.take(HEAD[2] if own else HEAD[0], (rows,))
        if not model.settings.tied:
            taken["head.odds.weight"] = found.take(HEAD[1], (rows, width))
    else:
        findings.append(
            "it has no head that fills in masks, so that is new and knows nothing: embed with it, or fit it first"
        )
    found.left((*BUFFERS, *HEAD, *SENTENCES))
    return taken


def _both(found: Checkpoint, ours: str, theirs: str, shape: tuple[int, ...]) -> dict[str, Tensor]:
    return {
        f"{ours}.weight": found.take(f"{theirs}.weight", shape),
        f"{ours}.bias": found.take(f"{theirs}.bias", shape[:1]),
    }


# ---- the other way ---------------------------------------------------------------------------------------------------


def fits(settings: BERTSettings) -> bool:
    """Whether a BERT of transformers can be these settings' model; biases that ours lacks are zeros in it."""
    return settings.positions == "learned" and not settings.norm_first


def config(model: BERT) -> dict[str, Any]:
    """``config.json`` of our model, but for its tokens."""
    settings = model.settings
    names = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    return {
        "model_type": TYPE,
        "architectures": ["BertForMaskedLM"],
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "hidden_size": settings.width,
        "intermediate_size": round(settings.width * settings.hidden),
        "max_position_embeddings": model.form.length + 1,
        "type_vocab_size": max(1, settings.types),
        "layer_norm_eps": settings.eps,
        "hidden_act": names[settings.activation],
        "hidden_dropout_prob": settings.dropout,
        "attention_probs_dropout_prob": settings.dropout,
        "tie_word_embeddings": settings.tied,
    }


def weights(model: BERT, rows: Rows) -> dict[str, Tensor]:
    """The checkpoint's weights from ours; ``rows`` arranges what has a row for each token, as it is to be written."""
    width = model.settings.width
    assert model.place is not None
    assert model.first is not None
    zeros = model.place.weight.new_zeros
    kind = zeros(1, width) if model.kind is None else model.kind.weight
    written = {
        "bert.embeddings.word_embeddings.weight": rows(model.symbol.weight),
        "bert.embeddings.position_embeddings.weight": model.place.weight,
        "bert.embeddings.token_type_embeddings.weight": kind,
        **_parts("bert.embeddings.LayerNorm", model.first),
        **_parts("cls.predictions.transform.dense", model.head.transform),
        **_parts("cls.predictions.transform.LayerNorm", model.head.norm),
    }
    bias = rows(torch.cat([model.head.bias, model.head.bias.new_full((2,), NEVER)])[:, None])[:, 0]
    written |= {"cls.predictions.bias": bias, "cls.predictions.decoder.bias": bias}
    if model.head.odds is not None:
        written["cls.predictions.decoder.weight"] = rows(torch.cat([model.head.odds.weight, zeros(2, width)]))
    for place, layer in enumerate(model.encoder.layers):
        head = f"bert.encoder.layer.{place}"
        for mine, name in _PARTS.items():
            written |= _parts(f"{head}.{name}", layer.get_submodule(mine))
        for name, part in _parts("", layer.get_submodule("look.project")).items():
            pieces = zip(_QUERIES, part.chunk(3), strict=True)
            written |= {f"{head}.attention.self.{query}{name}": piece for query, piece in pieces}
    return written


def _parts(name: str, part: torch.nn.Module) -> dict[str, Tensor]:
    """A part's weight and bias; zeros for a bias that it does without."""
    weight, bias = part.get_parameter("weight"), getattr(part, "bias", None)
    return {f"{name}.weight": weight, f"{name}.bias": weight.new_zeros(weight.shape[0]) if bias is None else bias}
