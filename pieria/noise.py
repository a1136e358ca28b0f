"""Every random draw comes from here, by name.

`ItemNoise` serves sampling: item *i* of a sample depends on ``(seed, i)`` alone, not on the batch around it, and is drawn
on the CPU, so that every device agrees. `StepNoise` serves training: a function of ``(seed, step, phase)``, drawn on the
device for the whole global batch and sliced by process. Draws are addressed by ``name`` and ``step``, so that a new draw
does not shift the old ones.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def key_of(*words: object) -> int:
    """A stable 128-bit number for any words (``hash`` would differ between processes)."""
    return int.from_bytes(hashlib.blake2b(repr(words).encode(), digest_size=16).digest(), "little")


class Noise(ABC):
    """A source of random tensors for one batch."""

    size: int

    @abstractmethod
    def normal(self, name: str, shape: Sequence[int] = (), step: int = 0) -> Tensor:
        """Standard normal float32 ``[size, *shape]``."""

    @abstractmethod
    def uniform(self, name: str, shape: Sequence[int] = (), step: int = 0) -> Tensor:
        """Uniform float32 on [0, 1), ``[size, *shape]``."""

    def __len__(self) -> int:
        return self.size

    def integers(self, name: str, high: int, shape: Sequence[int] = (), step: int = 0) -> Tensor:
        """Uniform long on ``0 .. high - 1``, ``[size, *shape]``."""
        return (self.uniform(name, shape, step).double() * high).long().clamp_(max=high - 1)

    def gumbel(self, name: str, shape: Sequence[int] = (), step: int = 0) -> Tensor:
        """Standard Gumbel, ``[size, *shape]``: ``argmax(logits + gumbel)`` draws from ``softmax(logits)``."""
        uniform = self.uniform(name, shape, step).double().clamp_(1e-12, 1 - 1e-12)
        return -(-uniform.log()).log()


class ItemNoise(Noise):
    """Noise of the items ``first .. first + size - 1`` (or of the listed ``items``) of the sample with this ``seed``."""

    def __init__(self, seed: int, size: int, first: int = 0, items: Sequence[int] | None = None) -> None:
        self.seed = seed
        self.items = list(items) if items is not None else list(range(first, first + size))
        self.size = len(self.items)

    def part(self, start: int, stop: int) -> "ItemNoise":
        """The noise of a part of these items: what sampling in smaller batches uses."""
        return ItemNoise(self.seed, 0, items=self.items[start:stop])

    def _generators(self, name: str, step: int) -> Iterator[np.random.Generator]:
        # Philox is counter-based: the item and the step are places in one sequence, far apart. One generator is sent to
        # each item's place in turn: making a new one costs five times as much as most draws.
        philox = np.random.Philox(key=key_of(self.seed, name))
        fresh, generator = philox.state, np.random.Generator(philox)
        for item in self.items:
            fresh["state"]["counter"][:] = (0, 0, step, item)
            philox.state = fresh
            yield generator

    def normal(self, name: str, shape: Sequence[int] = (), step: int = 0) -> Tensor:
        """Standard normal float32 ``[size, *shape]`` on the CPU."""
        draws = np.empty((self.size, *shape), dtype=np.float32)
        for row, generator in enumerate(self._generators(name, step)):
            draws[row] = generator.standard_normal(tuple(shape), dtype=np.float32)
        return torch.from_numpy(draws)

    def uniform(self, name: str, shape: Sequence[int] = (), step: int = 0) -> Tensor:
        """Uniform float32 on [0, 1), ``[size, *shape]`` on the CPU."""
        draws = np.empty((self.size, *shape), dtype=np.float32)
        for row, generator in enumerate(self._generators(name, step)):
            draws[row] = generator.random(tuple(shape), dtype=np.float32)
        return torch.from_numpy(draws)


def by_content(x: Tensor) -> ItemNoise:
    """Noise that follows from each item of ``x`` alone, so that an item always has the same: what bounds are scored with."""
    raw = x.detach().cpu().contiguous().numpy()
    items = [int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=7).digest(), "little") for row in raw]
    return ItemNoise(seed=0, size=0, items=items)


class StepNoise(Noise):
    """Noise of one training step and phase: the same whether one process draws it or several share it.

    ``size`` items of this process start at ``first`` in a global batch of ``total``.
    """

    def __init__(
        self,
        seed: int,
        step: int,
        phase: str,
        size: int,
        *,
        first: int = 0,
        total: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.seed, self.step, self.phase = seed, step, phase
        self.size, self.first, self.total = size, first, size if total is None else total
        self.device = torch.device(device)

    def _generator(self, name: str, step: int) -> torch.Generator:
        generator = torch.Generator(self.device)
        generator.manual_seed(key_of(self.seed, self.step, self.phase, name, step) & (2**63 - 1))
        return generator

    def normal(self, name: str, shape: Sequence[int] = (), step: int = 0) -> Tensor:
        """Standard normal float32 ``[size, *shape]`` on the device."""
        drawn = torch.randn((self.total, *shape), generator=self._generator(name, step), device=self.device)
        return drawn[self.first : self.first + self.size]

    def uniform(self, name: str, shape: Sequence[int] = (), step: int = 0) -> Tensor:
        """Uniform float32 on [0, 1), ``[size, *shape]`` on the device."""
        drawn = torch.rand((self.total, *shape), generator=self._generator(name, step), device=self.device)
        return drawn[self.first : self.first + self.size]


@contextmanager
def seeded(*words: object) -> Iterator[None]:
    """Fork torch's global random state and seed it from ``words``: dropout reads it; the caller's state is unchanged."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(key_of(*words) & (2**63 - 1))
        yield
