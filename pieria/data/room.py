"""How much memory and disk there is to use: of the machine, and of the container that may have been given less."""

import shutil
from pathlib import Path

CONTAINER = Path("/sys/fs/cgroup")


def memory() -> int:
    """Bytes of memory that can be taken without pushing anything else out."""
    import psutil

    free = int(psutil.virtual_memory().available)
    try:
        most = (CONTAINER / "memory.max").read_text().strip()
        if most.isdigit():
            # pages of files that were read are counted as used, and are given back when they are wanted
            said = dict(line.split() for line in (CONTAINER / "memory.stat").read_text().splitlines())
            used = int((CONTAINER / "memory.current").read_text()) - int(said.get("inactive_file", 0))
            free = min(free, max(0, int(most) - used))
    except (OSError, ValueError):  # no such container, or nothing to be learned of it
        pass
    return free


def disk(folder: Path) -> int:
    """Bytes that can be written at a place that may not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
