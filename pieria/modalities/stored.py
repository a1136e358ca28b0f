"""Sets of pictures that are larger than memory: decoded once into a file in the cache, or anew whenever they are wanted.

`stored` goes once through all pictures, in worker processes. It finds the digest of each, which the split is cut by, and
writes the decoded pictures one after the other into one flat file where the disk has room for them. `Pixels` fetches
pictures by place from that file, or has the workers decode them; what comes next can be announced, so that it is there.

The file is read, not mapped: a read costs one copy, as picking items from a map does, but leaves no pages in this process,
faults nothing in page by page, and ends in an error, not in a crash, if somebody cuts the file.
"""

import hashlib
import io
import json
import os
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL

from pieria.data import cache, fingerprint, progress, room
from pieria.errors import DataError
from pieria.modalities.decoding import DIGEST, Broken, Decoded, Workers, shared, wanted
from pieria.modalities.parting import Joined
from pieria.modalities.pictures import Look, PictureFiles
from pieria.modalities.shaping import Shape

Held = Literal["memory", "disk", "files"]

LOOKED_AT_ONCE = 1_000  # headers that one job of a worker looks at
MANY = 20_000  # pictures, from which on workers look at headers: fewer are looked at before a worker has begun
JOB = 4 * 2**20  # bytes of decoded pictures in one job of a worker
JOB_PICTURES = 64
AHEAD = 128 * 2**20  # bytes of decoded pictures that may wait to be fetched
SHARE = 4  # a set that takes more than one part in so many of the free memory is not held in it
DISK_SHARE = 0.8  # of the free disk that a file of decoded pictures may take


@dataclass(frozen=True)
class Stored:
    """One pass over all pictures of a set, kept in the cache.

    Attributes:
        shape: what they were brought to.
        file: the decoded pictures, one after the other; None where they are decoded whenever they are wanted.
        digests: uint8 ``[picture, 16]``.
        decoders: how many processes decode.
    """

    shape: Shape
    file: Path | None
    digests: np.ndarray
    decoders: int


def where(files: PictureFiles, shape: Shape, asked: Literal["auto"] | Held) -> Held:
    """Where the decoded pictures are to be held, and `DataError` for a disk without the room that was asked for."""
    total = len(files) * shape.bytes
    if asked == "memory" or asked == "files":  # noqa: PLR1714  `in` does not narrow the type
        return asked
    if asked == "auto" and total <= room.memory() // SHARE:
        return "memory"
    if _folder(files, shape).exists():
        return "disk"
    there = int(room.disk(cache.folder()) * DISK_SHARE)
    if total <= there:
        return "disk"
    if asked == "disk":
        raise DataError(
            f"{len(files):,} decoded pictures take {total / 1e9:.1f} GB",
            f"at most {there / 1e9:.1f} GB, four fifths of what is free in {cache.folder()}",
            f"Free some space, name another folder with {cache.VARIABLE}=DIR, set a smaller size, or held=files",
        )
    return "files"


def looks_of(files: PictureFiles, decoders: int | None, *, whole: bool) -> Iterator[Look | Broken]:
    """What each picture's header says, in order; ``whole``: each is decoded, to know whether it is broken."""
    with Workers(wanted(decoders)) as workers, progress.shown("looking at pictures", len(files)) as told:
        pieces = [range(start, min(start + LOOKED_AT_ONCE, len(files))) for start in range(0, len(files), LOOKED_AT_ONCE)]
        waiting = [workers.look(files, piece, whole=whole) for piece in pieces]
        for piece, future in zip(pieces, waiting, strict=True):
            looks, broken = future.result()
            at, rest = {one.place: one for one in broken}, iter(looks)
            yield from (at[place] if place in at else next(rest) for place in range(len(piece)))
            told(piece.stop)


def stored(
    files: PictureFiles, shape: Shape, held: Held, decoders: int | None, *, skip: bool
) -> tuple[Stored, list[tuple[int, str]]]:
    """The pictures of a set as they are kept in the cache, made if they are not there; and the broken ones among them.

    Raises `DataError` for a broken one unless they may be skipped, and where the disk turns out to be full. Ctrl-C, or
    any error, leaves nothing behind.
    """
    count = wanted(decoders)
    total = len(files)

    def make(folder: Path) -> None:
        folder.mkdir()
        file = folder / "pixels.bin" if held == "disk" else None
        if file is not None:
            file.touch()
        digests, found = np.zeros((total, DIGEST), np.uint8), list[tuple[int, str]]()
        size = max(1, min(JOB_PICTURES, JOB // shape.bytes))
        starts = deque(range(0, total, size))
        with Workers(min(count, len(starts))) as workers, progress.shown("decoding pictures", total) as told:
            waiting: deque[tuple[int, Future[Decoded]]] = deque()
            # some jobs ahead, not all of them: what a large set waits for would be many gigabytes
            while starts or waiting:
                while starts and len(waiting) < 4 * count:
                    start = starts.popleft()
                    places = range(start, min(start + size, total))
                    into = None if file is None else (file, start * shape.bytes)
                    brought = None if file is None else shape
                    waiting.append((start, workers.decode(files, places, brought, digest=True, into=into)))
                start, future = waiting.popleft()
                answer = future.result()
                for one in answer.broken:
                    if not skip:
                        raise one.error()
                    found.append((start + one.place, one.got))
                assert answer.digests is not None
                digests[start : start + len(answer.digests)] = answer.digests
                told(start + len(answer.digests))
        (folder / "digests.bin").write_bytes(digests.tobytes())
        (folder / "about.json").write_text(json.dumps({"pictures": total, "shape": asdict(shape), "broken": found}))

    made = cache.made_once(_folder(files, shape if held == "disk" else None), make)
    about = json.loads((made / "about.json").read_text(encoding="utf-8"))
    broken = [(place, got) for place, got in about["broken"]]
    digests = np.fromfile(made / "digests.bin", np.uint8).reshape(-1, DIGEST)
    file = made / "pixels.bin" if held == "disk" else None
    if len(digests) != total or (file is not None and file.stat().st_size != total * shape.bytes):
        raise DataError(f"{made} is damaged", "what Pieria wrote there", "Remove it; it is made again")
    return Stored(shape, file, digests, count), broken


def _folder(files: PictureFiles, shape: Shape | None) -> Path:
    """Where the cache keeps what was made of these pictures: another version of Pillow may decode to other values."""
    listed = hashlib.sha256("\0".join(files.names).encode("utf-8", "surrogatepass")).hexdigest()
    key = {
        "content": fingerprint.of_path(files.root),
        "names": listed,
        "shape": None if shape is None else asdict(shape),
        "pillow": PIL.__version__,
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    return cache.folder("pictures", name)


class Pixels:
    """Pictures of one set as arrays, fetched by place: from the file that holds them decoded, or by decoding them now."""

    def __init__(self, files: PictureFiles, shape: Shape, store: Stored | None) -> None:
        self.files, self.shape = files, shape
        self._decoders = store.decoders if store is not None else wanted(None)
        self._file = None
        if store is not None and store.file is not None and store.shape == shape:
            self._file = store.file.open("rb", buffering=0)
            weakref.finalize(self, self._file.close)
            # in shuffled order, what lies behind a picture is not wanted next
            _advise(self._file, 0, 0, "POSIX_FADV_RANDOM")
        self._coming: OrderedDict[int, tuple[Future[Decoded], int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.files)

    def fetch(self, places: np.ndarray) -> np.ndarray:
        """``[picture, channel, height, width]``, uint8 or uint16, in the order of ``places``.

        Raises `DataError` for a picture that can no longer be decoded, and for a file that somebody cut.
        """
        out = np.empty((len(places), *self.shape.array), self.shape.kind)
        if self._file is None:
            self._decode(places, out)
            return out
        first = 0
        for row, count in self._runs(places):
            self._read(row, out[first : first + count])
            first += count
        return out

    def _runs(self, places: np.ndarray) -> Iterator[tuple[int, int]]:
        """Rows of the file and how many follow each without a gap: a pass in order is one long read."""
        rows = self.files.rows_of(places)
        borders = np.flatnonzero(np.diff(rows) != 1) + 1
        for first, stop in zip([0, *borders], [*borders, len(rows)], strict=True):
            yield int(rows[first]), int(stop - first)

    def _read(self, row: int, out: np.ndarray) -> None:
        assert self._file is not None
        self._file.seek(row * self.shape.bytes)
        rest = out.data.cast("B")
        while rest:
            got = self._file.readinto(rest)
            if not got:
                raise DataError(f"{self._file.name} ends too early", "what Pieria wrote there", "Remove its folder")
            rest = rest[got:]

    def _decode(self, places: np.ndarray, out: np.ndarray) -> None:
        wanted_now = list(dict.fromkeys(map(int, places)))  # a batch may hold a picture twice
        found = {place: self._coming.pop(place) for place in wanted_now if place in self._coming}
        if not found:
            self._coming.clear()  # what was announced is not what is asked for
        found.update(self._submit([place for place in wanted_now if place not in found]))
        for row, place in enumerate(places):
            future, at = found[int(place)]
            answer = future.result()
            for one in answer.broken:
                if one.place == at:
                    raise one.error()
            assert answer.pixels is not None
            out[row] = answer.pixels[at]

    def ahead(self, places: np.ndarray) -> None:
        """Say what will be asked for soon, so that it is read or decoded meanwhile."""
        if self._file is not None:
            for row, count in self._runs(places):
                _advise(self._file, row * self.shape.bytes, count * self.shape.bytes, "POSIX_FADV_WILLNEED")
            return
        room_for = max(len(places), AHEAD // self.shape.bytes) - len(self._coming)
        new = [place for place in dict.fromkeys(map(int, places)) if place not in self._coming]
        self._coming.update(self._submit(new[: max(0, room_for)]))

    def _submit(self, places: Sequence[int]) -> Iterator[tuple[int, tuple[Future[Decoded], int]]]:
        """Each place with the job that decodes it and where in this job it stands; every worker gets a part."""
        workers = shared(self._decoders)
        size = max(1, min(JOB // self.shape.bytes, -(-len(places) // workers.count)))
        for start in range(0, len(places), size):
            piece = places[start : start + size]
            future = workers.decode(self.files, piece, self.shape)
            yield from ((place, (future, at)) for at, place in enumerate(piece))


class Together:
    """Several sets of pictures, one behind the other."""

    def __init__(self, parts: Sequence[Pixels]) -> None:
        self.parts = parts
        self._starts = np.cumsum([0, *map(len, parts)])
        self.shape = parts[0].shape

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _each(self, places: np.ndarray) -> Iterator[tuple[Pixels, np.ndarray, np.ndarray]]:
        which = np.searchsorted(self._starts, places, side="right") - 1
        for number, part in enumerate(self.parts):
            if (mine := which == number).any():
                yield part, mine, places[mine] - self._starts[number]

    def fetch(self, places: np.ndarray) -> np.ndarray:
        """``[picture, channel, height, width]`` in the order of ``places``."""
        out = np.empty((len(places), *self.shape.array), self.shape.kind)
        for part, mine, inside in self._each(places):
            out[mine] = part.fetch(inside)
        return out

    def ahead(self, places: np.ndarray) -> None:
        """Say what will be asked for soon."""
        for part, _, inside in self._each(places):
            part.ahead(inside)


def pixels_of(artifacts: Any, shape: Shape) -> Pixels | Together | None:
    """The pictures as they are fetched from where they are kept; None where all of them are held in memory."""
    parts = list(_parts(artifacts))
    if not any(isinstance(part, PictureFiles) and part.store is not None for part in parts):
        return None
    if not all(isinstance(part, PictureFiles) for part in parts):
        return None
    found = [Pixels(part, shape, part.store) for part in parts]
    return found[0] if len(found) == 1 else Together(found)


def _parts(artifacts: Any) -> Iterator[Any]:
    """The sequences that lie one behind the other in ``artifacts``."""
    if isinstance(artifacts, Joined):
        yield from _parts(artifacts.first)
        yield from _parts(artifacts.second)
    else:
        yield artifacts


def _advise(file: io.FileIO, start: int, length: int, how: str) -> None:
    """Tell the operating system how a file will be read, where it listens to that."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), start, length, getattr(os, how))
