"""Writing so that a reader finds the old file or the new one, never half of one."""

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

from pieria.errors import RunError


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write to a temporary name beside ``path``, sync, rename.

    Raises `RunError` (a full disk, no permission) that names the file; the old file, if any, is untouched.
    """
    raw = content.encode() if isinstance(content, str) else content
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException as error:  # Ctrl-C too leaves nothing half-written behind
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise RunError(
            f"{path} could not be written ({error.strerror or error})",
            "a writable place with enough room",
            "Free some space or choose another --out",
        ) from None


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """Plain values with None in the place of every number that is not finite: JSON has no word for it.

    >>> finite({"a": [1.5, float("-inf")]})
    {'a': [1.5, None]}
    """
    if isinstance(value, dict):
        return {key: finite(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inside) for inside in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> Any:
    """The value in a JSON file; `RunError` names the file if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path} does not exist", "a file that Pieria wrote") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error})", "JSON as Pieria wrote it", "Restore it from a copy") from None
