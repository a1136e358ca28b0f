"""Low-rank fine-tuning: the weights that a model came with stay, and each linear layer learns a small product beside them.

W x becomes W x + B A x with A ``[rank, in]`` and B ``[out, rank]``, B from zero, and A and B alone are trained (Hu et al.
2021, arXiv 2106.09685). The layers are those of the library ``peft``; they are there while the model learns, and merged
into its weights afterwards, so that what is saved is the plain model that its family knows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from pieria.errors import UsageError
from pieria.noise import seeded

NAME = "low_rank"  # of the adapter; peft puts it behind lora_A and lora_B


@contextmanager
def adapters(model: nn.Module, rank: int, seed: int) -> Iterator[str]:
    """Inside, every linear layer of ``model`` has a product of this rank beside it; afterwards it is merged (0: none).

    Gives a sentence about how much is trained. Raises `UsageError` for a model without linear layers, or without ``peft``.
    """
    if not rank:
        yield ""
        return
    required = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    whole = sum(parameter.numel() for parameter in model.parameters())
    _inject(model, rank, seed)
    mine = sum(parameter.numel() for parameter in _products(model).values())
    try:
        yield f"low-rank: {mine:,} numbers in products of rank {rank} are trained, {whole:,} stay as they were"
    finally:
        _merge(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(required[name])


def trained(model: nn.Module, groups: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """The parameter groups of a model that has adapters: the adapters alone. Of any other model, the same groups."""
    products = {id(parameter): parameter for parameter in _products(model).values()}
    if not products:
        return groups
    chosen: dict[str, list[dict[str, Any]]] = {}
    for group, entries in groups.items():
        # a product of two matrices is not moved well by orthogonal steps of each
        plain = [{name: value for name, value in entry.items() if name != "orthogonal"} for entry in entries]
        kept = [
            {**entry, "params": [p for p in entry["params"] if products.pop(id(p), None) is not None]} for entry in plain
        ]
        chosen[group] = [entry for entry in kept if entry["params"]]
    if products:  # a family that lists its layers one by one does not know of them
        chosen[next(iter(groups))].append({"params": list(products.values())})
    if bare := [group for group, entries in chosen.items() if not entries]:
        raise UsageError(f"lora_rank for a model whose {bare[0]} has no linear layers", "a full fit", "Leave lora_rank out")
    return chosen


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Inside, the adapters are part of the weights, for code that reads weights itself; the old bits are put back after."""
    layers = _layers(model)
    before = [layer.get_base_layer().weight.detach().clone() for layer in layers]
    for layer in layers:
        layer.merge()
    try:
        yield
    finally:
        with torch.no_grad():
            for layer, weight in zip(layers, before, strict=True):
                layer.get_base_layer().weight.copy_(weight)  # to take the product off again would round
                layer.merged_adapters.clear()


def _inject(model: nn.Module, rank: int, seed: int) -> None:
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise UsageError(
            f"lora_rank={rank} for {type(model).__name__}", "a family with linear layers", "Leave lora_rank out"
        )
    try:
        import peft
    except ImportError:
        raise UsageError("lora_rank needs the library peft", "pip install 'pieria[text]'") from None
    # alpha = rank: the product is taken as it is
    settings = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=names)
    with seeded(seed, NAME):
        peft.inject_adapter_in_model(settings, model, adapter_name=NAME)


def _products(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if f"lora_A.{NAME}" in name or f"lora_B.{NAME}" in name}


def _layers(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if NAME in getattr(module, "lora_A", {})]


def _merge(model: nn.Module) -> None:
    for name, module in list(model.named_modules()):
        if NAME in getattr(module, "lora_A", {}):
            layer: Any = module
            layer.merge()
            owner, _, last = name.rpartition(".")
            setattr(model.get_submodule(owner), last, layer.get_base_layer())
