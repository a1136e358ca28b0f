"""One model in one file: weights in safetensors, and in its header all that rebuilds the model without other files.

Nothing is ever unpickled. A buffer whose size is learned (an n-gram's tables) is registered empty, and loading replaces it.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import nn

from pieria import forms, registry
from pieria.data.storage import write_atomically
from pieria.errors import RunError
from pieria.models.contract import Model

FORMAT = 1


def describe(model: Model) -> dict[str, Any]:
    """What a model is besides its weights, as JSON: family, settings, form and condition."""
    return {
        "family": registry.name_of(type(model)),
        "settings": model.settings.model_dump(mode="json"),
        "form": model.form.to_json(),
        "condition": None if model.condition is None else model.condition.to_json(),
    }


def build(description: dict[str, Any]) -> Model:
    """An untrained model from what `describe` wrote."""
    family = registry.find(description["family"])
    condition = description["condition"]
    return family(
        family.Settings.of(description["settings"]),
        forms.from_json(description["form"]),
        None if condition is None else forms.from_json(condition),
    )


def save(model: Model, path: Path) -> None:
    """Write ``model`` to ``path`` (safetensors), whole or not at all. Tied weights are written once."""
    tensors: dict[str, torch.Tensor] = {}
    seen: dict[tuple[int, tuple[int, ...], tuple[int, ...]], str] = {}
    ties: dict[str, str] = {}
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()))
        if tensor.numel() and place in seen:
            ties[name] = seen[place]
        else:
            seen[place] = name
            tensors[name] = tensor.detach().cpu().contiguous().clone()
    header = {"pieria": json.dumps({"format": FORMAT, "ties": ties, **describe(model)})}
    write_atomically(path, to_bytes(tensors, metadata=header))


def header(path: Path) -> dict[str, Any]:
    """What the header of a model file says, without reading its weights.

    Raises `RunError` for a file that is missing, damaged, not safetensors, or of a newer format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            said = (file.metadata() or {}).get("pieria")
    except FileNotFoundError:
        raise RunError(f"{path} does not exist", "the weights of a run", "Fit the model first") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise RunError(
            f"{path} is not a readable safetensors file ({error})",
            "weights as Pieria writes them; pickled weights are never opened",
            "Restore the file from a copy, or fit again",
        ) from None
    if said is None:
        raise RunError(f"{path} has no Pieria header", "a model that Pieria wrote", "Import other checkpoints instead")
    try:
        read = json.loads(said)
    except ValueError:
        read = None
    if not isinstance(read, dict) or not isinstance(read.get("format"), int):
        raise RunError(
            f"the header of {path} is damaged", "a header as Pieria writes it", "Restore the file from a copy, or fit again"
        )
    if read["format"] > FORMAT:
        raise RunError(f"{path} has format {read['format']}", f"at most {FORMAT}", "Upgrade Pieria to read it")
    return read


def load(path: Path, device: torch.device | str = "cpu") -> Model:
    """The model in the file at ``path``, in evaluation mode."""
    said = header(path)
    if not {"family", "settings", "form", "condition", "ties"} <= said.keys():
        raise RunError(f"{path} does not say what model it holds", "the weights of a run", "Name its model.safetensors")
    model = build(said)
    with safe_open(path, framework="pt", device=str(device)) as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    for name, source in said["ties"].items():
        state[name] = state[source]
    restore(model, state)
    return model.to(device).eval()


def restore(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Load ``state`` into ``model``; buffers of learned size (registered empty) take the size that is loaded."""
    for name, buffer in list(model.named_buffers()):
        if name in state and buffer.shape != state[name].shape:
            owner = model.get_submodule(name.rpartition(".")[0])
            setattr(owner, name.rpartition(".")[2], torch.empty_like(state[name], device=buffer.device))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise RunError(
            f"the weights do not fit the model that the header describes ({error})",
            "weights and header of one run",
            "Restore the file from a copy, or fit again",
        ) from None
