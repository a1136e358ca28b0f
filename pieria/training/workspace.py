"""The run directory: what fitting leaves behind, readable at every moment, and one writer's at a time.

    run.json            state (running, done, stopped, failed), command, seed, versions, device, data, every setting
    model.safetensors   the weights; modality/ how artifacts become tensors and back
    log.jsonl           one line a report
    samples/            the same seeds at every preview
    checkpoints/        what resuming needs, the newest few; the best weights so far

Every file is written whole or not at all, except for the log, whose last line may be cut short; readers drop it.
"""

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from torch import Tensor

from pieria.data.storage import read_json, write_json
from pieria.errors import RunError
from pieria.training import checkpoints

try:
    import fcntl
except ImportError:  # Windows has no advisory locks of this kind; there, nothing keeps two writers apart
    fcntl = None  # type: ignore[assignment]  # in the place of a module

FORMAT = 1
UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}  # from format n to n + 1


def now() -> str:
    """The time of day in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_record(path: Path) -> dict[str, Any]:
    """``run.json`` of the run at ``path``, brought to today's format.

    Raises `RunError` if it is missing, damaged, or of a newer format.
    """
    file = path / "run.json"
    if not path.is_dir() or not file.exists():
        raise RunError(f"{path} is not a run: it has no run.json", "a directory that 'pieria fit' made")
    record = read_json(file)
    if not isinstance(record, dict) or not isinstance(record.get("format"), int):
        raise RunError(
            f"{file} is damaged: it has no format number", "run.json as Pieria wrote it", "Restore it from a copy"
        )
    if record["format"] > FORMAT:
        raise RunError(f"{file} has format {record['format']}", f"at most {FORMAT}", "Upgrade Pieria to read it")
    while record["format"] < FORMAT:
        number = record["format"]
        record = {**UPGRADES[number](record), "format": number + 1}
    return record


def read_log(path: Path) -> list[dict[str, Any]]:
    """The whole lines of the log of the run at ``path``."""
    file = path / "log.jsonl"
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []:
        if line.endswith("\n"):  # a line cut short by a kill was never finished
            with suppress(ValueError):
                lines.append(json.loads(line))
    return lines


class Workspace:
    """A run directory that is being written; use it in a ``with`` statement, which holds its lock.

    With ``writer=False`` (the other processes of a shared run) everything can be read and writing does nothing.
    """

    def __init__(self, path: Path, record: dict[str, Any], lock: IO[str] | None) -> None:
        self.path, self.record, self._lock = path, record, lock

    @classmethod
    def create(cls, out: Path | None, name: str, record: dict[str, Any], files: dict[str, Any] | None = None) -> "Workspace":
        """A new run directory: ``out``, or the next number in ``runs/`` with ``name``.

        It appears under its name all at once, with ``run.json`` and ``files`` (relative name to JSON) in it.
        """
        home = (Path("runs") if out is None else out.parent).resolve()
        if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise RunError(
                f"{out} exists already", "a new directory", f"Choose another --out, or go on with it by --resume {out}"
            )
        hidden = home / f".new-{secrets.token_hex(6)}"
        try:
            hidden.mkdir(parents=True)
            lock = _locked(hidden)
            for place, content in (files or {}).items():
                write_json(hidden / place, content)
            record = {"format": FORMAT, "name": "", "state": "running", **record}
            while True:
                path = out.resolve() if out is not None else next_path(name, home)
                write_json(hidden / "run.json", {**record, "name": path.name})
                try:
                    hidden.rename(path)
                    break
                except FileExistsError:
                    pass
                except OSError:
                    if not path.exists():
                        raise
                if out is not None:
                    raise RunError(f"{out} exists already", "a new directory", "Choose another --out")
        except OSError as error:
            shutil.rmtree(hidden, ignore_errors=True)
            raise RunError(
                f"no run directory could be made in {home} ({error.strerror or error})", "a writable place", "Choose --out"
            ) from None
        except BaseException:
            shutil.rmtree(hidden, ignore_errors=True)
            raise
        return cls(path, {**record, "name": path.name}, lock)

    @classmethod
    def open(cls, path: Path, *, writer: bool = True) -> "Workspace":
        """The run directory at ``path``, to go on with it. Raises `RunError` if another process is writing it."""
        if not writer:
            return cls(path, read_record(path), None)
        read_record(path)  # what is no run gets no lock
        lock = _locked(path)
        if fcntl is not None:
            _clear(path)
        return cls(path, read_record(path), lock)

    def __enter__(self) -> "Workspace":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # what could not even be noted (a full disk) must not hide the error itself
        with suppress(RunError):
            if kind is not None and self.record["state"] == "running":
                stopped = issubclass(kind, KeyboardInterrupt)
                self.note(state="stopped" if stopped else "failed", error=None if stopped else str(error) or kind.__name__)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def writes(self) -> bool:
        """Whether this process is the run's writer."""
        return self._lock is not None

    def note(self, **changes: Any) -> None:
        """Change entries of ``run.json``."""
        self.record = {**self.record, **changes}
        if self.writes:
            write_json(self.path / "run.json", self.record)

    def log(self, line: dict[str, Any]) -> None:
        """Add a line to the log."""
        if not self.writes:
            return
        try:
            with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
        except OSError as error:
            raise RunError(
                f"{self.path / 'log.jsonl'} could not be written ({error.strerror or error})",
                "room on the disk",
                f"Free some space, then go on with 'pieria fit --resume {self.path}'",
            ) from None

    def cut_log(self, lines: int) -> None:
        """Keep the first ``lines`` lines: what was written after the checkpoint is about to happen again."""
        from pieria.data.storage import write_atomically

        if self.writes:
            kept = read_log(self.path)[:lines]
            write_atomically(self.path / "log.jsonl", "".join(json.dumps(line) + "\n" for line in kept))

    # ---- checkpoints -------------------------------------------------------------------------------------------------

    def checkpoint(self, number: int, tensors: dict[str, Tensor], said: dict[str, Any], keep: int) -> None:
        """Write checkpoint ``number`` and drop the oldest ones, and best weights that none of the others names."""
        if not self.writes:
            return
        checkpoints.write(self.path / "checkpoints" / f"{number:08d}.safetensors", tensors, said)
        files = self._checkpoints()
        for file in files[: max(0, len(files) - keep)]:
            file.unlink(missing_ok=True)
        self._forget({number for file in self._checkpoints() for number in self._best_named_in(file)})

    def resumed(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The newest checkpoint that can be read; None if there is none at all.

        Raises `RunError` if there are some and none can be read.
        """
        damaged = None
        for file in reversed(self._checkpoints()):
            try:
                return checkpoints.read(file)
            except RunError as error:
                damaged = damaged or error
        if damaged is not None:
            raise RunError(
                f"no checkpoint of {self.path} can be read: {damaged.got}",
                "at least one whole checkpoint",
                f"Delete {self.path / 'checkpoints'} to begin this run again",
            )
        return None

    def keep_best(self, number: int, tensors: dict[str, Tensor]) -> None:
        """Write the best weights so far, which a later checkpoint will name by ``number``."""
        if self.writes:
            checkpoints.write(self._best(number), tensors, {"best": number})

    def best(self, number: int) -> dict[str, Tensor]:
        """The weights that `keep_best` wrote under ``number``."""
        return checkpoints.read(self._best(number))[0]

    def newest_checkpoint(self) -> Path | None:
        """The file that resuming would begin from."""
        return next(reversed(self._checkpoints()), None)

    def _best(self, number: int) -> Path:
        return self.path / "checkpoints" / f"best-{number:08d}.safetensors"

    def _checkpoints(self) -> list[Path]:
        return checkpoints_in(self.path)

    def _best_named_in(self, file: Path) -> list[int]:
        from pieria.models import weights

        try:
            best = weights.header(file)["best"]
        except (RunError, KeyError):
            return []
        return [] if best is None else [best]

    def _forget(self, named: set[int]) -> None:
        for file in (self.path / "checkpoints").glob("best-*.safetensors"):
            number = int(re.sub(r"\D", "", file.name))
            # newer than any checkpoint: the next checkpoint will name it
            if number not in named and number < max(named, default=0):
                file.unlink(missing_ok=True)


def checkpoints_in(path: Path) -> list[Path]:
    """The checkpoints of the run at ``path``, each named by its step, the newest last."""
    return sorted((path / "checkpoints").glob("[0-9]*.safetensors"))


def _clear(path: Path) -> None:
    """Remove what a killed writer left half-written; while the lock is held nobody else writes these files."""
    for pattern in (".run.json.*", ".log.jsonl.*", ".model.safetensors.*", "checkpoints/.*.safetensors.*"):
        for file in path.glob(pattern):
            file.unlink(missing_ok=True)


def next_path(name: str, home: Path | None = None) -> Path:
    """The next number in ``runs/`` (or ``home``) with this name, such as ``runs/0007-gpt-tinyshakespeare``."""
    home = Path("runs") if home is None else home
    taken = [
        int(found.group(1)) for p in (home.iterdir() if home.is_dir() else ()) if (found := re.match(r"(\d+)-", p.name))
    ]
    return home / f"{max(taken, default=0) + 1:04d}-{name}"


def _locked(path: Path) -> IO[str]:
    """The lock of a run directory, held until it is closed or the process ends. Raises `RunError` naming the holder."""
    try:
        file = (path / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror or error})", "a run of your own") from None
    if fcntl is not None and not _claimed(file):
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        raise RunError(
            f"{path} is being written by {holder}", "one writer at a time", "Wait until it is done, or stop it first"
        )
    file.truncate(0)
    file.write(f"process {os.getpid()} on {os.uname().nodename if hasattr(os, 'uname') else 'this machine'} since {now()}\n")
    file.flush()
    return file


def _claimed(file: IO[str]) -> bool:
    """Whether the lock could be had. Who asks `holder` has it for a moment, so it is tried more than once."""
    for wait in (0.01, 0.05, 0.1, 0.0):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            time.sleep(wait)
    return False


def holder(path: Path) -> str | None:
    """Who is writing the run at ``path`` now, or None if nobody is."""
    if fcntl is None or not (path / ".lock").exists():
        return None
    with (path / ".lock").open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return file.read().strip() or "another process"
    return None
