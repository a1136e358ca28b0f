"""Llama, Mistral and Qwen of the hub: rotary places, root-mean-square norms, SwiGLU, queries that share keys.

They differ in little: Mistral sees a window, Qwen 2 adds a bias to queries, keys and values, Qwen 3 scales them to one
length. Ours holds queries, keys and values in one matrix, and SwiGLU's gate and value in another.
"""

from typing import Any

import torch
from torch import Tensor

from pieria.errors import DataError
from pieria.hub.gpt2 import ROLES, Rows, build, first_of, with_begin, with_zeros
from pieria.hub.reading import CONFIG, Checkpoint, number, only
from pieria.models.gpt import GPT, GPTSettings

__all__ = ["CLASSES", "ROLES", "build", "config", "kind_of", "longest", "settings", "state", "weights"]

CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
BUFFERS = (".rotary_emb.inv_freq",)  # older checkpoints hold what follows from the settings
_NORMS = {"input_layernorm": "before_look", "post_attention_layernorm": "before_thought"}
_QUERIES = ("q_proj", "k_proj", "v_proj")


def longest(config: dict[str, Any]) -> int:
    """The largest window."""
    return number(config, "max_position_embeddings", 2048)


def settings(config: dict[str, Any]) -> GPTSettings:
    """Our settings for a ``config.json``."""
    only(config, hidden_act="silu")
    kind = config["model_type"]
    heads, width = number(config, "num_attention_heads", 32), number(config, "hidden_size", 4096)
    biased = bool(config.get("attention_bias", False)), bool(config.get("mlp_bias", False))
    if len(set(biased)) > 1 or (any(biased) and kind != "llama"):
        raise DataError(f"{CONFIG} has attention_bias {biased[0]} and mlp_bias {biased[1]}", "both, or neither")
    return GPTSettings.of(
        {
            "layers": number(config, "num_hidden_layers", 32),
            "heads": heads,
            "key_heads": number(config, "num_key_value_heads", 8 if kind == "mistral" else heads),
            "width": width,
            "head_size": number(config, "head_dim", 128 if kind == "qwen3" else max(1, width // heads)),
            "inner": number(config, "intermediate_size", 11008),
            "positions": "rotary",
            "rotary_base": _base(config),
            "norm": "rms",
            "norm_epsilon": config.get("rms_norm_eps", 1e-6),
            "activation": "swiglu",
            "unit_queries": kind == "qwen3",
            "query_scales": kind == "qwen3",
            "bias": any(biased),
            "query_bias": True if kind == "qwen2" else None,
            "window": _window(config),
            "tied": config.get("tie_word_embeddings", False),
            "optimiser": "adamw",
        }
    )


def _base(config: dict[str, Any]) -> float:
    """What the slowest rotary place turns with; older files name it beside the others, newer ones in a record."""
    said = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = said.get("rope_type", said.get("type", "default")) if isinstance(said, dict) else said
    if kind != "default":
        raise DataError(
            f"{CONFIG} stretches rotary positions in the way {kind!r}", "'default': none", "Import a model without it"
        )
    return float(said.get("rope_theta", config.get("rope_theta", 10_000.0)))


def _window(config: dict[str, Any]) -> int | None:
    """The window that every layer sees through; `DataError` where some do and some do not."""
    window = config.get("sliding_window", 4096 if config["model_type"] == "mistral" else None)
    if config["model_type"] in ("qwen2", "qwen3") and not config.get("use_sliding_window", False):
        window = None
    if window is None or config["model_type"] == "mistral":
        return window
    layers = number(config, "num_hidden_layers", 32)
    sees = config.get("layer_types") or [
        "sliding_attention" if place >= config.get("max_window_layers", 28) else "full_attention" for place in range(layers)
    ]
    if len(set(sees)) > 1:
        raise DataError(f"{CONFIG} gives some layers a window of {window} and others none", "all layers, or none")
    return window if sees[0] == "sliding_attention" else None


def state(found: Checkpoint, model: GPT, tokens: dict[str, Any], findings: list[str]) -> dict[str, Tensor]:
    """Our weights from the checkpoint's; `begin` has the vector of the token that begins a text, zeros if none does."""
    settings, form = model.settings, model.form
    width, rows, size = settings.width, form.vocabulary, settings.size
    queries, keys = settings.heads * size, (settings.key_heads or settings.heads) * size
    inner = settings.inner or 0
    symbol = found.take("model.embed_tokens.weight", (rows, width))
    taken = {
        "symbol.weight": with_begin(symbol, tokens["begin"], findings),
        "last.weight": found.take("model.norm.weight", (width,)),
    }
    biased = settings.bias if settings.query_bias is None else settings.query_bias
    for place in range(settings.layers):
        theirs, ours = f"model.layers.{place}", f"layers.{place}"
        linear: dict[str, list[tuple[str, int, int, bool]]] = {
            "look.project": [
                (f"self_attn.{name}", many, width, biased)
                for name, many in zip(_QUERIES, (queries, keys, keys), strict=True)
            ],
            "look.output": [("self_attn.o_proj", width, queries, settings.bias)],
            "think.enter": [(f"mlp.{name}", inner, width, settings.bias) for name in ("gate_proj", "up_proj")],
            "think.leave": [("mlp.down_proj", width, inner, settings.bias)],
        }
        for mine, parts in linear.items():
            weight = [found.take(f"{theirs}.{name}.weight", (out, into)) for name, out, into, _ in parts]
            taken[f"{ours}.{mine}.weight"] = torch.cat(weight)
            if parts[0][3]:
                bias = [found.take(f"{theirs}.{name}.bias", (out,)) for name, out, _, _ in parts]
                taken[f"{ours}.{mine}.bias"] = torch.cat(bias)
        for name, mine in _NORMS.items():
            taken[f"{ours}.{mine}.weight"] = found.take(f"{theirs}.{name}.weight", (width,))
        if settings.query_scales:
            taken[f"{ours}.look.query_scale"] = found.take(f"{theirs}.self_attn.q_norm.weight", (size,))
            taken[f"{ours}.look.key_scale"] = found.take(f"{theirs}.self_attn.k_norm.weight", (size,))
    if not settings.tied:
        taken["odds.weight"] = found.take("lm_head.weight", (rows, width))
    found.left((*BUFFERS, *(["lm_head.weight"] if settings.tied else [])))
    return taken


# ---- the other way ---------------------------------------------------------------------------------------------------


def kind_of(settings: GPTSettings) -> str | None:
    """Which of them can be these settings' model, if one can."""
    if (settings.positions, settings.norm, settings.activation) != ("rotary", "rms", "swiglu"):
        return None
    if settings.window is not None and settings.windowed != "all":
        return None
    queries = settings.bias if settings.query_bias is None else settings.query_bias
    if settings.unit_queries:
        return None if queries or settings.bias else "qwen3"
    if settings.bias:
        return "llama" if queries and settings.window is None else None
    if queries:
        return "qwen2" if settings.size * settings.heads == settings.width else None
    return "llama" if settings.window is None else "mistral"


def config(model: GPT) -> dict[str, Any]:
    """``config.json`` of our model, but for its tokens."""
    settings = model.settings
    kind = kind_of(settings)
    assert kind is not None
    said = {
        "model_type": kind,
        "architectures": [CLASSES[kind]],
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.key_heads or settings.heads,
        "hidden_size": settings.width,
        "head_dim": settings.size,
        "intermediate_size": first_of(model).think.leave.in_features,
        "max_position_embeddings": model.form.length,
        "rms_norm_eps": settings.norm_epsilon,
        "hidden_act": "silu",
        "rope_theta": settings.rotary_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": settings.rotary_base},
        "attention_bias": settings.bias,
        "attention_dropout": settings.dropout,
        "tie_word_embeddings": settings.tied,
    }
    if kind == "llama":
        said["mlp_bias"] = settings.bias
    if kind == "mistral":
        said["sliding_window"] = settings.window
    if kind in ("qwen2", "qwen3"):
        said |= {"use_sliding_window": settings.window is not None, "sliding_window": settings.window}
        said["max_window_layers"] = 0 if settings.window is not None else settings.layers
    return said


def weights(model: GPT, rows: Rows) -> dict[str, Tensor]:
    """The checkpoint's weights from ours; ``rows`` arranges what has a row for each token, as it is to be written."""
    settings = model.settings
    size, keys = settings.size, (settings.key_heads or settings.heads) * settings.size
    written = {"model.embed_tokens.weight": rows(model.symbol.weight), "model.norm.weight": model.last.weight}
    for place, layer in enumerate(model.each_layer()):
        head = f"model.layers.{place}"
        split = {
            "look.project": (_QUERIES, [settings.heads * size, keys, keys], "self_attn"),
            "look.output": (("o_proj",), [settings.width], "self_attn"),
            "think.enter": (("gate_proj", "up_proj"), [layer.think.leave.in_features] * 2, "mlp"),
            "think.leave": (("down_proj",), [settings.width], "mlp"),
        }
        for mine, (names, sizes, where) in split.items():
            part = layer.get_submodule(mine)
            for kind in ("weight", "bias"):
                tensor = getattr(part, kind)
                if tensor is not None:
                    pieces = zip(names, tensor.split(sizes), strict=True)
                    written |= {f"{head}.{where}.{name}.{kind}": piece for name, piece in pieces}
        for name, mine in _NORMS.items():
            written[f"{head}.{name}.weight"] = layer.get_submodule(mine).get_parameter("weight")
        if settings.unit_queries:
            ones = model.last.weight.new_ones(size)
            look = layer.look
            written[f"{head}.self_attn.q_norm.weight"] = ones if look.query_scale is None else look.query_scale
            written[f"{head}.self_attn.k_norm.weight"] = ones if look.key_scale is None else look.key_scale
    if model.odds is not None:
        written["lm_head.weight"] = rows(with_zeros(model.odds.weight))
    return written
