"""Encoded streams that are too large for memory: one flat file of symbols in the cache, mapped into memory when read."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pieria.data import cache


def smallest_type(vocabulary: int) -> np.dtype[Any]:
    """The narrowest unsigned integer that holds the symbols ``0 .. vocabulary - 1``."""
    return np.dtype(np.uint8 if vocabulary <= 2**8 else np.uint16 if vocabulary <= 2**16 else np.uint32)


def token_file(key: dict[str, Any], vocabulary: int, pieces: Iterable[np.ndarray]) -> np.ndarray:
    """The symbols of ``pieces`` one after the other, as a read-only memory map.

    ``key`` says what they are (which bytes of which content, under which tokenisation); the same key is encoded once.
    """
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    kind = smallest_type(vocabulary)

    def write(path: Path) -> None:
        with path.open("wb") as file:
            for piece in pieces:
                file.write(piece.astype(kind, copy=False).tobytes())

    return np.memmap(cache.made_once(cache.folder("tokens", f"{name}.bin"), write), dtype=kind, mode="r")
