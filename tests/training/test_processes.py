import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pieria.errors import UsageError
from pieria.training.loop import learn
from pieria.training.plan import Plan
from pieria.training.processes import Processes, choose_device
from pieria.training.watch import Watch
from tests.training.runs import examples, model

ROOT = Path(__file__).parents[2]
PLAN = {"steps": 12, "batch": 10, "rate": 0.02, "warmup": 3, "evaluate_every": 4, "report_every": 3, "accumulate": 2}
NAMES = ("affine", "duel", "windows")


def test_slices_cover_the_batch_once():
    cpu = torch.device("cpu")
    for world in (1, 2, 3):
        pieces = [s for rank in range(world) for s in Processes(cpu, rank, world).slices(10, 2)]
        assert [place for s in pieces for place in range(s.start, s.stop)] == list(range(10))
    with pytest.raises(UsageError, match="a batch of 3 cannot be shared by 2 processes × 2 parts"):
        Processes(cpu, 0, 2).slices(3, 2)


def test_a_device_that_is_not_there():
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match=r"'cuda' is not there.*auto, .*cpu"):
            choose_device("cuda")
    assert choose_device("cpu") == torch.device("cpu")
    for asked in ("cpu:3", "cuda:99", "tpu"):
        with pytest.raises(UsageError, match=f"'{asked}' is not there"):
            choose_device(asked)


def test_stages_and_their_order_do_not_depend_on_threads():
    first, second = model("staged"), model("staged")
    learn(first, examples("staged"), None, Plan.of({**PLAN, "threads": 1}))
    learn(second, examples("staged"), None, Plan.of({**PLAN, "threads": 1}))
    assert torch.equal(first.second.mean, second.second.mean)


def losses(name: str) -> dict:
    net, lines = model(name, **({"jitter": 0.1} if name == "affine" else {})), []
    history = learn(net, examples(name), examples(name, 50, 1), Plan.of(PLAN), watch=Watch(report=lines.append))
    return {
        "losses": [line["losses"] for line in lines],
        "held_out": history.held_out,
        "weights": {key: value.tolist() for key, value in net.state_dict().items()},
    }


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    done = subprocess.run(
        [*command, "-m", "tests.training.test_processes", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name in NAMES:
        alone = losses(name)
        for rank in (0, 1):
            shared = json.loads((tmp_path / f"{name}-{rank}.json").read_text())
            assert _close(shared["weights"], alone["weights"])
            if rank == 0:
                assert len(shared["losses"]) == len(alone["losses"]) > 3
                assert all(_close(a, b) for a, b in zip(shared["losses"], alone["losses"], strict=True))
            assert (alone["held_out"] is None) or shared["held_out"] == pytest.approx(alone["held_out"], rel=1e-5)


def _close(first: dict, second: dict) -> bool:
    assert first.keys() == second.keys()
    return all(
        torch.allclose(torch.tensor(first[key]).float(), torch.tensor(second[key]).float(), rtol=1e-4, atol=1e-5)
        for key in first
    )


if __name__ == "__main__":
    import os

    torch.set_num_threads(1)
    for each in NAMES:
        told = losses(each)
        Path(sys.argv[1], f"{each}-{os.environ['RANK']}.json").write_text(json.dumps(told))
    torch.distributed.destroy_process_group()
