"""The idx format of MNIST: a magic number, the sizes, then the bytes; often gzipped.

    00 00 08 nd | nd big-endian 32-bit sizes | values

``08`` is unsigned bytes, the one type that pictures and their labels come in. Format: Y. LeCun, C. Cortes, C. Burges,
"The MNIST database of handwritten digits".
"""

import gzip
import struct
import zlib
from io import BufferedReader
from pathlib import Path

import numpy as np

from pieria.errors import DataError

# more than this many bytes after decompression is not a data set of small pictures but an attack or a mistake
LARGEST = 8 * 1024**3


def _open(path: Path) -> gzip.GzipFile | BufferedReader:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else path.open("rb")


def sizes(path: Path) -> tuple[int, ...] | None:
    """The sizes that an idx file of bytes declares, or None if it is not one; reads a few bytes only."""
    try:
        with _open(path) as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:3] != b"\x00\x00\x08" or not 1 <= magic[3] <= 4:
                return None
            raw = file.read(4 * magic[3])
            return struct.unpack(f">{magic[3]}I", raw) if len(raw) == 4 * magic[3] else None
    except (OSError, EOFError, zlib.error):
        return None


def read(path: Path) -> np.ndarray:
    """The array of an idx file, uint8 in the declared shape.

    Raises `DataError` for a file that is not idx, that ends too early or that goes on too long.
    """
    shape = sizes(path)
    if shape is None:
        raise DataError(f"{path} is not an idx file of bytes", "a file that begins with 00 00 08", "Choose another file")
    wanted = int(np.prod(shape, dtype=np.int64))
    if wanted > LARGEST:
        raise DataError(f"{path} declares {wanted:,} bytes", f"at most {LARGEST:,}", "Cut it into smaller files")
    try:
        with _open(path) as file:
            file.read(4 + 4 * len(shape))
            raw = file.read(wanted + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read to its end ({error})", "a whole file", "Fetch it again") from None
    if len(raw) != wanted:
        found = "more" if len(raw) > wanted else f"{len(raw):,}"
        raise DataError(
            f"{path} declares {' × '.join(map(str, shape))} = {wanted:,} bytes and holds {found}",
            "as many as it declares",
            "Fetch it again",
        )
    return np.frombuffer(raw, dtype=np.uint8).reshape(shape)


def labels_beside(path: Path) -> Path | None:
    """The labels file that stands beside an images file, as MNIST names them."""
    name = path.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    bare = name.removesuffix(".gz")
    for candidate in (path.with_name(bare), path.with_name(bare + ".gz")):
        if candidate != path and candidate.is_file():
            return candidate
    return None
