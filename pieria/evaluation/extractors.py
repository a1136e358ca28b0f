"""Which frozen network looks at pictures when sets of them are compared, and what it saw of real ones, kept.

A distance in one network's features says nothing beside a distance in another's. So a network's name, with the beginning of
its weights' SHA-256, is part of every figure's name, and only in Inception features is the Fréchet distance called FID.

What a network sees of real pictures never changes, so it is kept in the cache. The key is the SHA-256 of what it was shown:
the encoded pictures themselves, their form, and its weights. That tells more than the fingerprint of the data, the split
and the settings would: what reads them may change too.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pieria.data import cache
from pieria.data.fingerprint import of_file
from pieria.errors import DataError, unknown
from pieria.evaluation import features, inception
from pieria.forms import Grid

SHIPPED, INCEPTION = "pieria", "inception"
ROOM = 2 * 2**30  # bytes that kept features may take; the longest unread go first
TOLD_AFTER, TOLD_EVERY = 5.0, 15.0  # seconds: looking that takes longer is told on stderr


@dataclass(frozen=True, eq=False)
class Extractor:
    """A frozen network, and how it is shown a picture.

    Attributes:
        name: as it stands in figures, with the beginning of the hash of its weights: "pieria-c1 ab12cd34".
        sha256: of its weights.
        distance: what the Fréchet distance in its features is called.
        width: how many features.
        network: pictures as it wants them to float32 ``[batch, width]``.
        shown: any grid as it wants pictures.
        classes: float64 ``[class, width]``: features times these are the logits of its classes; None where a score of
            classes means nothing.
        at_once: pictures looked at together.
    """

    name: str
    sha256: str
    distance: str
    width: int
    network: nn.Module
    shown: Callable[[Tensor, Grid], Tensor]
    classes: np.ndarray | None = None
    at_once: int = 500


@lru_cache(maxsize=1)
def shipped() -> Extractor:
    """The small network that comes with the package (`pieria.evaluation.features`)."""
    frozen, name = features.network()
    return Extractor(name, of_file(features.WEIGHTS), "C-FID", frozen.width, frozen, features.as_pictures)


@lru_cache(maxsize=1)
def _inception(path: Path | None) -> Extractor:
    frozen, sha256 = inception.load(path)
    return Extractor(
        f"{inception.NAME} {sha256[:8]}",
        sha256,
        "FID",
        inception.FEATURES,
        frozen,
        inception.as_shown,
        frozen.fc.weight.double().numpy(),
        at_once=20,
    )


def find(what: str) -> Extractor:
    """The extractor called ``what``: "pieria", "inception", or the path of Inception's published weights.

    Raises `UsageError` for another name, `DataError` for weights that cannot be fetched or are not the published ones.
    """
    if what == SHIPPED:
        return shipped()
    if what == INCEPTION:
        return _inception(None)
    path = Path(what).expanduser()
    if path.is_file():
        return _inception(path)
    raise unknown(
        "feature network", what, (SHIPPED, INCEPTION), f"A path of {Path(inception.PUBLISHED.path).name} works too"
    )


def seen(extractor: Extractor, x: Tensor, form: Grid, device: torch.device | str = "cpu", what: str = "") -> np.ndarray:
    """Features float64 ``[batch, width]`` of any grid; ``what`` they are is told on stderr where it takes long."""
    return _look(extractor, x, form, torch.device(device), what).astype(np.float64)


def seen_once(extractor: Extractor, x: Tensor, form: Grid, device: torch.device | str = "cpu", what: str = "") -> np.ndarray:
    """As `seen`, for pictures that will be asked for again: from the cache if they were looked at before."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file, save_file

    device = torch.device(device)
    room = cache.folder("features", extractor.name.replace(" ", "-"))
    place = room / f"{_key(extractor, x, form, device)}.safetensors"
    try:
        kept: np.ndarray = load_file(place)["features"]
        if kept.shape == (len(x), extractor.width):
            place.touch()
            return kept.astype(np.float64)
    except (OSError, SafetensorError, KeyError):
        pass  # not there, or damaged: looked at again
    found = _look(extractor, x, form, device, what)
    try:
        place.unlink(missing_ok=True)
        cache.made_once(place, lambda path: save_file({"features": found}, path))
        _make_room(room.parent)
    except (OSError, DataError):
        pass  # a cache that cannot be written only costs time
    return found.astype(np.float64)


def _key(extractor: Extractor, x: Tensor, form: Grid, device: torch.device) -> str:
    said = [extractor.sha256, form.to_json(), device.type, str(x.dtype), list(x.shape)]
    total = hashlib.sha256(json.dumps(said).encode())
    for start in range(0, len(x), 1_000):
        total.update(x[start : start + 1_000].detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def _make_room(room: Path) -> None:
    files = sorted(((stat := file.stat()).st_mtime, stat.st_size, file) for file in room.rglob("*.safetensors"))
    over = sum(size for _, size, _ in files) - ROOM
    for _, size, file in files:
        if over <= 0:
            return
        file.unlink(missing_ok=True)
        over -= size


def _look(extractor: Extractor, x: Tensor, form: Grid, device: torch.device, what: str) -> np.ndarray:
    begun = told = time.monotonic()
    network = extractor.network.to(device)
    parts: list[np.ndarray] = []
    with torch.no_grad():
        for start in range(0, len(x), extractor.at_once):
            shown = extractor.shown(x[start : start + extractor.at_once], form)
            parts.append(network(shown.to(device)).float().cpu().numpy())
            now = time.monotonic()
            if what and now - begun > TOLD_AFTER and now - told > (TOLD_EVERY if told > begun else 0):
                told = now
                done = min(start + extractor.at_once, len(x))
                left = (now - begun) * (len(x) - done) / done
                sys.stderr.write(f"{extractor.name}: {done:,} of {len(x):,} {what} pictures seen, about {left:.0f} s more\n")
    return np.concatenate(parts) if parts else np.empty((0, extractor.width), np.float32)
