"""The blocks of a network compiled for training, where that saves more time than it takes.

Operations that go through memory one after the other become one kernel each, which GPUs gain most from. A block is compiled
for every shape that it meets, the same kernels for the same shape, so that a run that was resumed goes on to the same bits.
Windows of a stream have one shape, or two with ``accumulate``; items of different lengths have a new one at nearly every
step, and are not compiled. Looks at held-out data and drawing are not either.
"""

import importlib.util
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from pieria.data.examples import Examples
from pieria.errors import TrainingError, UsageError
from pieria.forms import Tokens
from pieria.models.contract import Model
from pieria.training.plan import Plan


@runtime_checkable
class Compiles(Protocol):
    """Is worth compiling in training."""

    def blocks(self) -> Iterable[nn.Module]:
        """The modules that the network is a stack of; those of one class and shape are compiled once."""


@contextmanager
def compiled(
    model: Model, examples: Examples, plan: Plan, device: torch.device, say: Callable[[str], None]
) -> Iterator[None]:
    """While inside, the blocks of ``model`` are compiled as ``plan.compile`` says, in training mode only.

    Raises `UsageError` if the plan wants what cannot be, `TrainingError` if the compiler fails; with ``auto`` neither.
    """
    form = examples.form
    stream = isinstance(form, Tokens) and form.end is None
    items = examples.scored() / form.length if isinstance(form, Tokens) and stream else float(len(examples))
    if not plan.compiles(device.type, plan.total(items)):
        yield
        return
    why = _hindrance(model, device, stream=stream)
    if why is not None:
        if plan.compile == "on":
            raise UsageError(f"compile=on, but {why}", "what the documents say of it", "Leave it at compile=auto")
        yield
        return
    assert isinstance(model, Compiles)
    blocks, classes = list(model.blocks()), _Classes(plan.compile == "on", say)
    for block in blocks:
        # an attribute of the instance goes before the method of its class, and is no part of what is saved
        object.__setattr__(block, "forward", partial(classes.run, block))
    try:
        with warnings.catch_warnings():
            # torch's own look at what enters a block
            warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
            yield
    finally:
        for block in blocks:
            object.__delattr__(block, "forward")


class _Classes:
    """The compiled ``forward`` of each class of block."""

    def __init__(self, wanted: bool, say: Callable[[str], None]) -> None:
        self.wanted, self.say = wanted, say
        self.compiled: dict[type[nn.Module], Callable[..., Tensor]] = {}
        self.met: set[tuple[object, ...]] = set()
        self.failed = False

    def run(self, block: nn.Module, x: Tensor, *given: Any) -> Tensor:
        plain: Callable[..., Tensor] = type(block).forward
        if self.failed or not block.training or not torch.is_grad_enabled():
            return plain(block, x, *given)
        if type(block) not in self.compiled:
            self.compiled[type(block)] = torch.compile(plain, dynamic=False)
        fast = self.compiled[type(block)]
        try:
            if (id(block), *x.shape) not in self.met:
                # compiling may draw, and what dropout draws in this step must not depend on whether it did
                with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
                    fast(block, x, *given)
                self.met.add((id(block), *x.shape))
            return fast(block, x, *given)
        except torch._dynamo.exc.TorchDynamoException as error:  # it failed, or the compiler behind it did
            reason = str(error).strip().partition("\n")[0]
            if self.wanted:
                raise TrainingError(
                    f"the network could not be compiled ({reason})", "a compiler that works", "Set compile=off"
                ) from error
            self.failed = True
            self.say(f"training is not compiled: {reason}")
            return plain(block, x, *given)


def _hindrance(model: Model, device: torch.device, *, stream: bool) -> str | None:
    """Why this cannot be compiled, if so."""
    if not isinstance(model, Compiles):
        return f"{type(model).__name__} names no blocks to compile"
    if not stream:
        return "items have different lengths, and each would be compiled anew"
    if device.type not in ("cpu", "cuda"):
        return f"on {device.type} it is not tried"
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if not has_compiler(device):
        return "there is no C++ compiler"
    return None


def has_compiler(device: torch.device) -> bool:
    """Whether the compiler is there that torch's kernels for this device need besides."""
    variable, *usual = ("CXX", "g++", "clang++") if device.type == "cpu" else ("CC", "gcc", "clang")
    return any(shutil.which(name) for name in (os.environ.get(variable, ""), *usual))
