"""Memory that a training step frees is kept for the next one, instead of going back to the system.

A step makes and frees the same tensors again and again. The C library gives large blocks back at once, and the system hands
out fresh pages of zeros for the next ones: up to a fifth of the time of a step on a processor (docs/log.md).
"""

import ctypes
import sys

# of <malloc.h>: when the top of the heap is given back, how much is asked for at a time, what is too large for the heap
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
LARGEST = 2**25  # bytes, the most that glibc lets into its heap


def keep_freed() -> bool:
    """Ask the C library to keep what is freed, in this process from now on; False where it cannot be asked (not glibc)."""
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    wanted = ((MMAP_THRESHOLD, LARGEST), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, 2**26))
    return all(library.mallopt(option, value) for option, value in wanted)
