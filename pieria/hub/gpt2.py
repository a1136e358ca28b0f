"""GPT-2 of the hub: learned places, biases, an approximated GELU, matrices written in before out.

Its vocabulary begins a text with a token of its own; Pieria's ``begin`` is one more row of the input's vectors, and is that
token's. A Pieria model whose ``begin`` is a row of its own is written with one more token.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pieria.forms import Tokens
from pieria.hub.reading import Checkpoint, number, only
from pieria.layers.decoder import Layer
from pieria.models.gpt import GPT, GPTSettings

Rows = Callable[[Tensor], Tensor]

TYPE = "gpt2"
ROLES = {"begin": "bos", "end": "eos"}
ACTIVATIONS = {"gelu_new": "gelu-tanh", "gelu_pytorch_tanh": "gelu-tanh", "gelu": "gelu"}
BUFFERS = (".attn.bias", ".attn.masked_bias")  # masks that older checkpoints hold


def longest(config: dict[str, Any]) -> int:
    """The largest window."""
    return number(config, "n_positions", 1024)


def settings(config: dict[str, Any]) -> GPTSettings:
    """Our settings for a ``config.json``."""
    only(config, activation_function=tuple(ACTIVATIONS), scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False)
    only(config, add_cross_attention=False)
    width = number(config, "n_embd", 768)
    return GPTSettings.of(
        {
            "layers": number(config, "n_layer", 12),
            "heads": number(config, "n_head", 12),
            "width": width,
            "inner": number(config, "n_inner", 4 * width),
            "positions": "learned",
            "norm_epsilon": config.get("layer_norm_epsilon", 1e-5),
            "activation": ACTIVATIONS[config.get("activation_function", "gelu_new")],
            "unit_queries": False,
            "bias": True,
            "tied": config.get("tie_word_embeddings", True),
            "optimiser": "adamw",
        }
    )


def build(settings: GPTSettings, form: Tokens) -> GPT:
    """The model, with its first weights."""
    return GPT(settings, form)


def state(found: Checkpoint, model: GPT, tokens: dict[str, Any], findings: list[str]) -> dict[str, Tensor]:
    """Our weights from the checkpoint's; `begin` has the vector of the token that begins a text, zeros if none does."""
    settings, form = model.settings, model.form
    width, inner, rows = settings.width, settings.inner or 0, form.vocabulary
    head = "transformer." if "transformer.wte.weight" in found else ""
    symbol = found.take(f"{head}wte.weight", (rows, width))
    taken = {
        "symbol.weight": with_begin(symbol, tokens["begin"], findings),
        "place.weight": found.take(f"{head}wpe.weight", (longest(found.config), width))[: form.length].clone(),
        "last.weight": found.take(f"{head}ln_f.weight", (width,)),
        "last.bias": found.take(f"{head}ln_f.bias", (width,)),
    }
    for place in range(settings.layers):
        theirs, ours = f"{head}h.{place}", f"layers.{place}"
        shapes = {"attn.c_attn": 3 * width, "attn.c_proj": width, "mlp.c_fc": inner, "mlp.c_proj": width}
        entries = {"mlp.c_proj": inner}
        for name, mine in _LINEAR.items():
            shape = (entries.get(name, width), shapes[name])
            taken[f"{ours}.{mine}.weight"] = found.take(f"{theirs}.{name}.weight", shape).T.contiguous()
            taken[f"{ours}.{mine}.bias"] = found.take(f"{theirs}.{name}.bias", shape[1:])
        for name, mine in _NORMS.items():
            for part in ("weight", "bias"):
                taken[f"{ours}.{mine}.{part}"] = found.take(f"{theirs}.{name}.{part}", (width,))
    if not settings.tied:
        taken["odds.weight"] = found.take("lm_head.weight", (rows, width))
    found.left((*BUFFERS, "lm_head.weight"))
    return taken


_LINEAR = {
    "attn.c_attn": "look.project",
    "attn.c_proj": "look.output",
    "mlp.c_fc": "think.enter",
    "mlp.c_proj": "think.leave",
}
_NORMS = {"ln_1": "before_look", "ln_2": "before_thought"}


def with_begin(symbol: Tensor, begin: int | None, findings: list[str]) -> Tensor:
    """The input's vectors with one more row, for `begin`."""
    if begin is None:
        findings.append("no token begins or ends a text: a text begins with a vector of zeros")
        return torch.cat([symbol, symbol.new_zeros(1, symbol.shape[1])])
    return torch.cat([symbol, symbol[begin : begin + 1]])


# ---- the other way ---------------------------------------------------------------------------------------------------


def fits(settings: GPTSettings) -> bool:
    """Whether a GPT-2 can be these settings' model; biases that ours lacks are zeros in it."""
    plain = not settings.unit_queries and settings.window is None and settings.size * settings.heads == settings.width
    shared = (settings.key_heads or settings.heads) == settings.heads
    same = settings.query_bias in (None, settings.bias)
    known = settings.activation in ("gelu", "gelu-tanh")
    return settings.positions == "learned" and settings.norm == "layer" and plain and shared and same and known


def config(model: GPT) -> dict[str, Any]:
    """``config.json`` of our model, but for its tokens."""
    settings = model.settings
    names = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    return {
        "model_type": TYPE,
        "architectures": ["GPT2LMHeadModel"],
        "n_positions": model.form.length,
        "n_embd": settings.width,
        "n_layer": settings.layers,
        "n_head": settings.heads,
        "n_inner": first_of(model).think.leave.in_features,
        "activation_function": names[settings.activation],
        "layer_norm_epsilon": settings.norm_epsilon,
        "tie_word_embeddings": settings.tied,
        "resid_pdrop": settings.dropout,
        "embd_pdrop": settings.dropout,
        "attn_pdrop": settings.dropout,
    }


def weights(model: GPT, rows: Rows) -> dict[str, Tensor]:
    """The checkpoint's weights from ours; ``rows`` arranges what has a row for each token, as it is to be written."""
    assert model.place is not None
    written = {"transformer.wte.weight": rows(model.symbol.weight), "transformer.wpe.weight": model.place.weight}
    written |= _both("transformer.ln_f", model.last)
    for place, layer in enumerate(model.each_layer()):
        for name, mine in _LINEAR.items():
            part = layer.get_submodule(mine)
            made = _both(f"transformer.h.{place}.{name}", part)
            written |= {key: tensor.T if tensor.dim() == 2 else tensor for key, tensor in made.items()}
        for name, mine in _NORMS.items():
            written |= _both(f"transformer.h.{place}.{name}", layer.get_submodule(mine))
    if model.odds is not None:
        written["lm_head.weight"] = rows(with_zeros(model.odds.weight))
    return written


def with_zeros(odds: Tensor) -> Tensor:
    """The output's rows with one more, of zeros, for `begin`, which is never predicted."""
    return torch.cat([odds, odds.new_zeros(1, odds.shape[1])])


def _both(name: str, part: torch.nn.Module) -> dict[str, Tensor]:
    """A part's weight and bias; zeros for a bias that it does without."""
    weight = part.get_parameter("weight")
    bias = getattr(part, "bias", None)
    return {f"{name}.weight": weight, f"{name}.bias": weight.new_zeros(weight.shape[0]) if bias is None else bias}


def first_of(model: GPT) -> Layer:
    """The first layer."""
    return next(model.each_layer())
