"""Which items a decoder goes on with: the state of some rows, repeated or left out as a search wishes."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import Tensor

from pieria.errors import UsageError
from pieria.models.contract import Predicts, Reorders


def reordered(model: Predicts, state: Any, rows: Tensor) -> Any:
    """The state that ``model.start`` or ``model.step`` gave, of the items ``rows`` (long ``[m]``).

    By the model's own ``reorder`` if it has one. Else by looking: tensors inside tuples, lists, dictionaries and dataclasses
    are indexed at their first axis, and all that is no tensor is shared.

    Raises `UsageError` for a state whose tensors do not have the items in front, which only its family can read.
    """
    if isinstance(model, Reorders):
        return model.reorder(state, rows)
    sizes = {tensor.shape[0] for tensor in _tensors(state)}
    if len(sizes) > 1:
        raise UsageError(
            f"{type(model).__name__} keeps tensors of {', '.join(map(str, sorted(sizes)))} rows while it reads",
            "one row an item in each",
            "Give the family a method reorder(state, rows)",
        )
    return _picked(state, rows)


def _picked(state: Any, rows: Tensor) -> Any:
    if isinstance(state, Tensor):
        return state if state.dim() == 0 else state.index_select(0, rows.to(state.device))
    if is_dataclass(state) and not isinstance(state, type):
        return replace(state, **{f.name: _picked(getattr(state, f.name), rows) for f in fields(state) if f.init})
    if isinstance(state, Mapping):
        return {name: _picked(value, rows) for name, value in state.items()}
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return type(state)(*(_picked(value, rows) for value in state))
    if isinstance(state, list | tuple):
        return type(state)(_picked(value, rows) for value in state)
    return state


def _tensors(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state] if state.dim() else []
    if is_dataclass(state) and not isinstance(state, type):
        return _tensors([getattr(state, f.name) for f in fields(state)])
    if isinstance(state, Mapping):
        return _tensors(list(state.values()))
    if isinstance(state, Sequence) and not isinstance(state, str | bytes):
        return [tensor for value in state for tensor in _tensors(value)]
    return []
