import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as to_bytes

from pieria.errors import RunError
from pieria.models import weights
from pieria.training import workspace
from pieria.training.plan import Plan
from pieria.training.workspace import Workspace, read_log, read_record
from tests.training.runs import lasting, model, run

ROOT = Path(__file__).parents[2]
QUICK = {"steps": 40, "batch": 8, "warmup": 5, "checkpoint_every": 7, "evaluate_every": 10, "report_every": 3}


def test_runs_are_numbered_and_appear_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        with Workspace.create(None, "gpt-names", {"seed": 3}, {"modality/modality.json": {"a": 1}}) as space:
            assert space.path == tmp_path / "runs" / f"{number:04d}-gpt-names"
            assert read_record(space.path)["state"] == "running"
            assert json.loads((space.path / "modality" / "modality.json").read_text()) == {"a": 1}
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["0001-gpt-names", "0002-gpt-names"]
    assert workspace.next_path("x") == Path("runs/0003-x")


def test_a_directory_with_something_in_it_is_not_overwritten(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep")
    with pytest.raises(RunError, match="exists already"):
        Workspace.create(tmp_path / "run", "", {})
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_one_writer_at_a_time(tmp_path):
    code = (
        "import sys; from pathlib import Path; from pieria.training.workspace import Workspace\n"
        "with Workspace.open(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with Workspace.create(tmp_path / "run", "", {}):
        pass
    assert workspace.holder(tmp_path / "run") is None
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=rf"written by process {other.pid} on .*one writer"):
            Workspace.open(tmp_path / "run")
        assert f"process {other.pid}" in (workspace.holder(tmp_path / "run") or "")
        other.kill()
    with Workspace.open(tmp_path / "run"):
        pass


def test_what_a_killed_writer_left_half_written_is_removed(tmp_path):
    with Workspace.create(tmp_path / "run", "", {}) as space:
        (space.path / "checkpoints").mkdir()
        half = [space.path / ".run.json.x1", space.path / "checkpoints" / ".00000007.safetensors.x2"]
        kept = [space.path / "checkpoints" / "00000006.safetensors", space.path / ".mine", space.path / "run.json"]
        for file in (*half, *kept[:2]):
            file.write_text("half")
        with pytest.raises(RunError, match="is being written"):
            Workspace.open(tmp_path / "run")
        assert all(file.exists() for file in half)
    with Workspace.open(tmp_path / "run"):
        assert not any(file.exists() for file in half)
        assert all(file.exists() for file in kept)


def test_errors_and_interrupts_are_noted(tmp_path):
    with pytest.raises(RuntimeError), Workspace.create(tmp_path / "a", "", {}):
        raise RuntimeError("the cause")
    assert (read_record(tmp_path / "a")["state"], read_record(tmp_path / "a")["error"]) == ("failed", "the cause")
    with pytest.raises(KeyboardInterrupt), Workspace.create(tmp_path / "b", "", {}):
        raise KeyboardInterrupt
    assert read_record(tmp_path / "b")["state"] == "stopped"


def test_a_newer_format_is_refused_and_an_older_one_upgraded(tmp_path, monkeypatch):
    with Workspace.create(tmp_path / "run", "", {"old": 1}):
        pass
    file = tmp_path / "run" / "run.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "format": 99}))
    with pytest.raises(RunError, match=r"format 99.*Upgrade"):
        read_record(tmp_path / "run")
    file.write_text(json.dumps(record))
    monkeypatch.setattr(workspace, "FORMAT", 2)
    monkeypatch.setitem(workspace.UPGRADES, 1, lambda old: {**old, "new": old["old"]})
    assert read_record(tmp_path / "run")["new"] == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": "done"}', "\x80"])
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(RunError, match=r"run\.json"):
        read_record(tmp_path / "run")


def test_a_directory_that_is_no_run_is_named(tmp_path):
    with pytest.raises(RunError, match="is not a run"):
        read_record(tmp_path)
    with pytest.raises(RunError, match="is not a run"):
        Workspace.open(tmp_path / "nowhere")


def test_a_line_cut_short_is_dropped(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert read_log(tmp_path) == [{"step": 1}, {"step": 2}]
    with Workspace.create(tmp_path / "run", "", {}) as space:
        (space.path / "log.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"ste')
        space.cut_log(1)
        assert (space.path / "log.jsonl").read_text() == '{"step": 1}\n'


def test_the_newest_checkpoints_are_kept_and_the_best_weights_they_name(tmp_path):
    run("affine", tmp_path / "run", Plan.of({**QUICK, "keep": 2}))
    names = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert [name for name in names if name[0].isdigit()] == ["00000035.safetensors", "00000040.safetensors"]
    best = read_record(tmp_path / "run")["result"]["best_step"]
    assert f"best-{best:08d}.safetensors" in names
    assert len(names) <= 4


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path):
    whole, again = model("affine"), model("affine")
    run("affine", tmp_path / "whole", Plan.of(QUICK), net=whole)
    run("affine", tmp_path / "run", Plan.of(QUICK))
    newest = sorted((tmp_path / "run" / "checkpoints").glob("[0-9]*"))[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    run("affine", tmp_path / "run", Plan.of(QUICK), net=again)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))
    for file in (tmp_path / "run" / "checkpoints").glob("[0-9]*"):
        file.write_bytes(b"not weights")
    with pytest.raises(RunError, match=r"no checkpoint of .* can be read.*Delete .*checkpoints"):
        run("affine", tmp_path / "run", Plan.of(QUICK))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the open file's name is asked of /proc")
def test_a_full_disk_leaves_the_old_files(tmp_path, monkeypatch):
    run("affine", tmp_path / "run", Plan.of({**QUICK, "steps": 20}))
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    real = os.fsync

    def full(handle: int) -> None:
        real(handle)
        if "safetensors" in os.readlink(f"/proc/self/fd/{handle}"):  # the record still fits, tensors do not
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"safetensors could not be written \(No space left on device\)"):
        run("affine", tmp_path / "run", Plan.of(QUICK))
    monkeypatch.undo()
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before
    assert not list((tmp_path / "run").rglob(".*safetensors*"))
    again, whole = model("affine"), model("affine")
    run("affine", tmp_path / "run", Plan.of(QUICK), net=again)
    run("affine", tmp_path / "whole", Plan.of(QUICK), net=whole)
    assert torch.equal(again.played, whole.played)


@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95 a pickle", b'\x08\x00\x00\x00\x00\x00\x00\x00{"a":1}}'])
def test_weights_that_are_not_safetensors_are_named(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(RunError, match=r"model\.safetensors"):
        weights.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("said", ["{", "[]", "{}", '{"format": 1}'])
def test_weights_whose_header_is_damaged_are_named(tmp_path, said):
    (tmp_path / "model.safetensors").write_bytes(to_bytes({"a": torch.zeros(1)}, metadata={"pieria": said}))
    with pytest.raises(RunError, match=r"model\.safetensors"):
        weights.load(tmp_path / "model.safetensors")


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bits(tmp_path):
    plan = {**QUICK, "steps": 400, "average": 0.9, "patience": 0}
    whole = model("duel")
    run("duel", tmp_path / "whole", Plan.of(plan), net=whole)
    words = [f"{name}={value}" for name, value in plan.items()]
    command = [sys.executable, "-m", "tests.training.runs", "duel", str(tmp_path / "run"), *words]
    kills = 0
    for wait in (0.05, 0.4, 0.7):
        with subprocess.Popen(command, cwd=ROOT) as child:
            limit = time.monotonic() + 30
            while child.poll() is None and time.monotonic() < limit:
                if (tmp_path / "run").exists() and workspace.holder(tmp_path / "run"):
                    time.sleep(wait)
                    break
                time.sleep(0.01)
            if child.poll() is None:
                kills += 1
            child.send_signal(signal.SIGKILL)
        read_record(tmp_path / "run")
        read_log(tmp_path / "run")
    assert kills
    again = model("duel")
    run("duel", tmp_path / "run", Plan.of(plan), net=again)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    logs = [[lasting(line) for line in read_log(tmp_path / place)] for place in ("whole", "run")]
    assert logs[0] == logs[1]
