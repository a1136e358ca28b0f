"""A checkpoint of the model hub by its id: its JSON and safetensors, kept where ``huggingface_hub`` keeps them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pieria.errors import DataError
from pieria.hub import reading

ABOUT = ["*.json", "*.jinja", "README.md"]  # read before any weights, so that what cannot be used is not fetched


@dataclass(frozen=True)
class Fetched:
    """Where a checkpoint lies now, which commit it is, and the licence that the hub states."""

    path: Path
    revision: str
    licence: str | None


def is_id(name: str) -> bool:
    """Whether ``name`` could be the id of a model: ``gpt2``, ``someone/some-model``.

    >>> is_id("someone/some-model"), is_id("./here"), is_id("a/b/c")
    (True, False, False)
    """
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", name) is not None


def fetch(name: str, revision: str | None = None, *, check: Callable[[Mapping[str, Any]], None]) -> Fetched:
    """The checkpoint's directory; ``check`` is shown its ``config.json`` before any weights are fetched.

    What was fetched before is found again without a network. Raises `DataError` for an id that the hub does not know or
    does not let one read, for pickled weights, and without a connection.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    files: list[str] = []
    licence = None
    try:
        if not constants.HF_HUB_OFFLINE:
            about = HfApi().model_info(name, revision=revision)
            files = [file.rfilename for file in about.siblings or []]
            licence = about.card_data.get("license") if about.card_data else None
        first = Path(snapshot_download(name, revision=revision, allow_patterns=ABOUT, ignore_patterns=["*/*"]))
        config = reading.json_of(first / reading.CONFIG)
        check(config)
        if files and not any(file.endswith(".safetensors") for file in files):
            pickled = [file for file in files if Path(file).suffix in reading.PICKLED]
            if pickled:
                raise reading.pickled_refused(f"{name} holds {pickled[0]}")
        patterns = [*ABOUT, "*.safetensors"]
        path = Path(snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=["*/*"]))
    except DataError:
        raise
    except Exception as error:  # the errors of its transport differ between versions of the library
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(
            f"{name} is no file or directory here, and could not be fetched from the hub ({said})",
            "a path, or the id of a model that you may read",
            "Check the name and the connection; 'hf auth login' for a model that asks for consent",
        ) from None
    # a snapshot's folder is called by its commit
    return Fetched(path, path.name, licence if isinstance(licence, str) else None)
