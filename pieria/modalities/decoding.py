"""Processes that look at and decode pictures, beside the one that learns.

Each is an interpreter of its own with no more in it than Pillow and numpy: it is told by a line of JSON which files to
decode, and answers with plain bytes (nothing is pickled). Decoded pictures go to a file that the worker writes itself, or
back through its pipe. Workers are started as a command, not by forking or by running the caller's script again, so that
``pieria.fit`` works from any script and beside the threads of torch. They ignore Ctrl-C and end with whoever started them.
"""

import atexit
import io
import json
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

import numpy as np

from pieria.data.fingerprint import of_item
from pieria.errors import DataError, PieriaError
from pieria.modalities.pictures import Look, PictureFiles
from pieria.modalities.shaping import Shape, shaped

MOST = 16  # processes that are begun by themselves; more would wait for the disk
DIGEST = 16  # bytes of a picture's digest
BEGIN = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from pieria.modalities.decoding import work; work()"


@dataclass(frozen=True)
class Broken:
    """A picture that cannot be used, by its place in the job; the rest is what its `DataError` said."""

    place: int
    got: str
    wanted: str
    do: str

    def error(self) -> DataError:
        """What to raise where such a picture is refused."""
        return DataError(self.got, self.wanted, self.do)


@dataclass(frozen=True)
class Decoded:
    """What became of the pictures of one job.

    Attributes:
        pixels: uint8 or uint16 ``[picture, channel, height, width]``; None where they went to a file or were not wanted.
            A broken picture's are zeros.
        digests: uint8 ``[picture, 16]``; None where they were not wanted.
        broken: those that cannot be decoded, or not be brought to the shape.
    """

    pixels: np.ndarray | None
    digests: np.ndarray | None
    broken: list[Broken]


def wanted(decoders: int | None) -> int:
    """How many processes decode, where it is not said: one on each processor that may be used."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return decoders or min(MOST, there)


class Workers:
    """A number of decoding processes; each has a thread here that talks to it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._all = [_Worker() for _ in range(count)]
        for worker in self._all:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="pictures")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def look(self, files: PictureFiles, places: range, *, whole: bool) -> "Future[tuple[list[Look], list[Broken]]]":
        """What the headers of these pictures say, of those that are not broken; ``whole``: decode them to know."""
        job = {"root": str(files.root), "names": files.names[places.start : places.stop], "look": True, "whole": whole}

        def ask() -> tuple[list[Look], list[Broken]]:
            answer, _ = self._ask(job, 0)
            return [Look(*look) for look in answer["looks"]], [Broken(*broken) for broken in answer["broken"]]

        return self._threads.submit(ask)

    def decode(
        self,
        files: PictureFiles,
        places: Sequence[int],
        shape: Shape | None,
        *,
        digest: bool = False,
        into: tuple[Path, int] | None = None,
    ) -> Future[Decoded]:
        """Decode these pictures; ``into`` is a file and the offset in it at which their pixels are written one by one."""
        names = [files.names[place] for place in places]
        job: dict[str, Any] = {"root": str(files.root), "names": names, "digest": digest}
        job |= {"shape": None if shape is None else asdict(shape), "into": into and [str(into[0]), into[1]]}
        back = shape is not None and into is None
        digests_size = DIGEST * len(names) if digest else 0

        def ask() -> Decoded:
            answer, raw = self._ask(job, digests_size + (len(names) * shape.bytes if shape is not None and back else 0))
            digests = np.frombuffer(raw, np.uint8, digests_size).reshape(-1, DIGEST) if digest else None
            pixels = None
            if shape is not None and back:
                pixels = np.frombuffer(raw, shape.kind, offset=digests_size).reshape(-1, *shape.array)
            return Decoded(pixels, digests, [Broken(*broken) for broken in answer["broken"]])

        return self._threads.submit(ask)

    def _ask(self, job: dict[str, Any], size: int) -> tuple[dict[str, Any], bytearray]:
        worker = self._idle.get()
        try:
            return worker.ask(job, size)
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """End the processes, in the middle of what they do if need be."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._all:
            worker.end()


@cache
def shared(count: int) -> Workers:
    """Workers that stay until the program ends, for everything that it learns from."""
    workers = Workers(count)
    atexit.register(workers.close)
    return workers


class _Worker:
    """One process, seen from here."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", BEGIN, json.dumps(sys.path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, job: dict[str, Any], size: int) -> tuple[dict[str, Any], bytearray]:
        """The answer to a job, and the ``size`` bytes that follow it."""
        assert self._process.stdin is not None
        raw = bytearray(size)
        said = cast(io.BufferedReader, self._process.stdout)
        try:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
            line = said.readline()
            answer = json.loads(line) if line.endswith(b"\n") else None
            whole = answer is not None and ("failed" in answer or said.readinto(raw) == size)
        except (OSError, ValueError):
            answer, whole = None, False
        if answer is None or not whole:
            raise DataError(
                f"a process that decodes pictures ended while it had {job['names'][0]} to {job['names'][-1]}",
                "one that goes on (was it killed for want of memory?)",
                "Set decoders=1, or make the pictures smaller",
            )
        if "failed" in answer:
            raise DataError(*answer["failed"])
        return answer, raw

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # what was still to be said to it
                assert pipe is not None
                pipe.close()


# ---- what a worker does ----------------------------------------------------------------------------------------------


def work() -> None:
    """Answer jobs from standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else is printed does not come between the answers
    sets: dict[str, PictureFiles] = {}
    for line in sys.stdin.buffer:
        job = json.loads(line)
        # one set is open at a time: the list of what is in a zip can be long
        files = sets.get(job["root"]) or PictureFiles(Path(job["root"]), [])
        sets = {job["root"]: files}
        files.names = job["names"]
        try:
            _look(files, job, answers) if "look" in job else _decode(files, job, answers)
        except BrokenPipeError:
            return
        except OSError as error:  # a full disk
            why = [f"decoded pictures could not be written ({error.strerror or error})", "a cache folder with enough room"]
            answers.write(json.dumps({"failed": [*why, "Free some space, or set held=files"]}).encode() + b"\n")
        answers.flush()


def _look(files: PictureFiles, job: dict[str, Any], answers: IO[bytes]) -> None:
    looks, broken = [], []
    for place in range(len(files)):
        try:
            look = files.look(place)
            if job["whole"]:
                files[place]
        except DataError as error:
            broken.append((place, error.got, error.wanted, error.do))
        else:
            looks.append(astuple(look))
    answers.write(json.dumps({"looks": looks, "broken": broken}).encode() + b"\n")


def _decode(files: PictureFiles, job: dict[str, Any], answers: IO[bytes]) -> None:
    shape = Shape(**job["shape"]) if job["shape"] else None
    digests = np.zeros((len(files), DIGEST), np.uint8) if job["digest"] else None
    pixels = None if shape is None else np.zeros((len(files), *shape.array), shape.kind)
    broken = []
    for place, name in enumerate(files.names):
        try:
            image = files[place]
            if digests is not None:
                digests[place] = np.frombuffer(of_item(image), np.uint8)
            if pixels is not None and shape is not None:
                pixels[place] = shaped(image, files.title(name), shape)
        except PieriaError as error:
            broken.append((place, error.got, error.wanted, error.do))
    if job["into"] and pixels is not None:
        path, offset = job["into"]
        with Path(path).open("r+b", buffering=0) as file:
            file.seek(offset)
            rest = pixels.data.cast("B")
            while rest:
                rest = rest[file.write(rest) :]
    answers.write(json.dumps({"broken": broken}).encode() + b"\n")
    if digests is not None:
        answers.write(digests.data.cast("B"))
    if pixels is not None and not job["into"]:
        answers.write(pixels.data.cast("B"))
