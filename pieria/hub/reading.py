"""A checkpoint in the model hub's format, read without executing any of it: config.json and safetensors, also in shards."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pieria.errors import DataError

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
OTHERS = (".h5", ".msgpack", ".onnx", ".gguf")
READABLE = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def json_of(path: Path) -> dict[str, Any]:
    """A JSON file of a checkpoint; `DataError` names it if it is missing, damaged, or asks for code to be run."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", "a directory in the hub's format", "Check the path") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error})", "JSON", "Fetch it again") from None
    if not isinstance(said, dict):
        raise DataError(f"{path} holds no record", "a JSON object with names", "Fetch it again")
    if said.get("auto_map") or said.get("trust_remote_code"):
        raise DataError(
            f"{path} asks for code of the checkpoint's own to be run (auto_map)",
            "an architecture that Pieria knows",
            "Code from a checkpoint is never run; import a model that needs none",
        )
    return said


class Checkpoint:
    """The settings and the weights of a directory; tensors are read one by one, as they are asked for.

    Attributes:
        path: the directory.
        config: ``config.json``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = json_of(path / CONFIG)
        if self.config.get("quantization_config"):
            raise DataError(
                f"the weights of {path} are quantised", "weights in float32, float16 or bfloat16", "Import the original"
            )
        self._files = self._found()
        self._taken: set[str] = set()

    @property
    def architecture(self) -> str:
        """What ``config.json`` calls its kind of model, such as "gpt2"."""
        return str(self.config.get("model_type"))

    def _found(self) -> dict[str, Path]:
        """The file of each tensor."""
        if (self.path / INDEX).is_file():
            return self._shards()
        if not (self.path / WEIGHTS).is_file():
            raise self._no_weights()
        return dict.fromkeys(_names_in(self.path / WEIGHTS), self.path / WEIGHTS)

    def _shards(self) -> dict[str, Path]:
        index = json_of(self.path / INDEX)
        listed = index.get("weight_map")
        if not isinstance(listed, dict) or not listed or not all(isinstance(file, str) for file in listed.values()):
            raise DataError(f"{self.path / INDEX} has no weight_map", "the file of each tensor", "Fetch it again")
        shards = sorted(set(listed.values()))
        if outside := [file for file in shards if Path(file).name != file or not file.endswith(".safetensors")]:
            raise DataError(f"{self.path / INDEX} names {outside[0]!r}", "safetensors files that lie beside it")
        if missing := [file for file in shards if not (self.path / file).is_file()]:
            raise DataError(
                f"{len(missing)} of {len(shards)} shards of {self.path} are missing: {', '.join(missing[:3])}",
                f"every file that {INDEX} names",
                "Fetch the missing ones",
            )
        held = {file: _names_in(self.path / file) for file in shards}
        for name, file in listed.items():
            if name not in held[file]:
                raise DataError(f"{self.path / file} lacks the tensor {name!r}", f"what {INDEX} says", "Fetch it again")
        return {name: self.path / file for name, file in listed.items()}

    def _no_weights(self) -> DataError:
        inside = sorted(file.name for file in self.path.iterdir() if file.is_file())
        if pickled := [name for name in inside if Path(name).suffix in PICKLED]:
            return pickled_refused(f"{self.path} holds {pickled[0]}")
        if "adapter_model.safetensors" in inside:
            return DataError(f"{self.path} holds an adapter alone", "a whole model", "Merge it into its base model first")
        other = next((name for name in inside if Path(name).suffix in OTHERS), None)
        return DataError(
            f"{self.path} holds no weights" + (f" but {other}" if other else ""), f"{WEIGHTS} or {INDEX}", "Check the path"
        )

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def take(self, name: str, shape: Sequence[int]) -> Tensor:
        """The tensor of this name in float32; `DataError` if it is missing, of another shape, or not finite."""
        if name not in self._files:
            near = sorted(self._files)[:2]
            raise DataError(
                f"{self.path} lacks the tensor {name!r} (it has {', '.join(near)} …)",
                f"the weights of a whole {self.architecture}",
                "Fetch the checkpoint again",
            )
        with safe_open(self._files[name], framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
        if tuple(tensor.shape) != tuple(shape):
            raise DataError(
                f"{name} of {self._files[name]} has shape {list(tensor.shape)}",
                f"{list(shape)}, as {CONFIG} says",
                "Take weights and config.json from one model",
            )
        if tensor.dtype not in READABLE:
            raise DataError(
                f"{name} of {self._files[name]} holds {tensor.dtype}", "float32, float16 or bfloat16", "Import the original"
            )
        if not torch.isfinite(tensor).all():
            raise DataError(f"{name} of {self._files[name]} holds NaN or infinity", "finite weights", "Fetch it again")
        self._taken.add(name)
        return tensor.float()

    def left(self, known: Sequence[str] = ()) -> None:
        """Raise `DataError` if a tensor was not taken, but for those whose names end with one of ``known``."""
        left = sorted(name for name in self._files if name not in self._taken and not name.endswith(tuple(known)))
        if left:
            raise DataError(
                f"{self.path} holds {len(left)} tensor(s) that {self.architecture} as {CONFIG} describes it has no place "
                f"for, such as {left[0]!r}",
                "weights that all have a meaning",
                "Take weights and config.json from one model",
            )


def pickled_refused(got: str) -> DataError:
    """The error for weights in a format that can run code."""
    return DataError(
        f"{got}, which is pickled: opening it can run any code that its maker put there",
        "safetensors, which hold numbers alone",
        "Where you trust it, let transformers convert it: AutoModel.from_pretrained(…).save_pretrained(…)",
    )


def _names_in(path: Path) -> set[str]:
    try:
        with safe_open(path, framework="pt") as file:
            return set(file.keys())
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path} is not a readable safetensors file ({error})", "whole weights", "Fetch it again") from None


def number(config: dict[str, Any], name: str, default: int | None = None) -> int:
    """A count that ``config.json`` must (or may) name; `DataError` for anything but a number above 0."""
    value = config.get(name, default)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise DataError(f"{CONFIG} has {name} = {value!r}", "a number above 0", "Fetch it again")
    return value


def only(config: dict[str, Any], **wanted: Any) -> None:
    """Raise `DataError` unless each of these entries of ``config.json`` is absent or has one of the values given."""
    for name, allowed in wanted.items():
        values = allowed if isinstance(allowed, tuple) else (allowed,)
        if name in config and config[name] not in values:
            said = " or ".join(map(repr, values))
            raise DataError(f"{CONFIG} has {name} = {config[name]!r}", f"{said}, which is what Pieria's gpt can do")
