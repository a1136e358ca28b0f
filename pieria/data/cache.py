"""Where Pieria keeps what it can make or fetch again, and how something appears there whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pieria.errors import DataError

VARIABLE = "PIERIA_CACHE"


def folder(*parts: str) -> Path:
    """A folder in the cache: ``$PIERIA_CACHE``, or the place that the operating system gives to caches."""
    told = os.environ.get(VARIABLE)
    if told:
        root = Path(told).expanduser()
    else:
        import platformdirs

        root = Path(platformdirs.user_cache_dir("pieria", appauthor=False))
    return root.joinpath(*parts)


@contextmanager
def unfinished(target: Path) -> Iterator[Path]:
    """A temporary path beside ``target`` that is renamed to it when the block ends well, and removed when it does not.

    Raises `DataError` that names the place if it cannot be written (no permission, a full disk).
    """
    temporary = None
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            holder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
            temporary = holder / target.name
            yield temporary
            # another process may have been faster: what it made is as good as this
            if not target.exists():
                temporary.replace(target)
        except OSError as error:
            raise DataError(
                f"{target} could not be written ({error.strerror or error})",
                "a cache folder with enough room",
                f"Free some space, or name another folder with {VARIABLE}=DIR",
            ) from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary.parent, ignore_errors=True)


def made_once(target: Path, make: Callable[[Path], None]) -> Path:
    """``target``, a file or a folder, made by ``make(path)`` if it is not there yet."""
    if not target.exists():
        with unfinished(target) as path:
            make(path)
    return target
