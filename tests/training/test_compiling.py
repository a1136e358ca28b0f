"""Compiled training: when, of what, and to the same bits after a resume."""

import numpy as np
import pytest
import torch

from pieria.data.examples import ItemExamples, StreamExamples
from pieria.errors import UsageError
from pieria.forms import Tokens
from pieria.keeping import repeat
from pieria.models.gpt import GPT, GPTSettings
from pieria.noise import seeded
from pieria.training import compiling
from pieria.training.compiling import Compiles, has_compiler
from pieria.training.loop import learn
from pieria.training.plan import Plan
from pieria.training.workspace import Workspace
from tests.training.runs import examples, model
from tests.training.test_loop import stopped_after

CPU = torch.device("cpu")
FORM = Tokens(5, 8)
QUICK = {"steps": 6, "batch": 4, "warmup": 2, "checkpoint_every": 3, "evaluate_every": 3, "threads": 1}


def stream(seed):
    return StreamExamples(FORM, np.random.default_rng(seed).integers(0, 5, 400).astype(np.uint8))


def network(**settings):
    with seeded(0, "initial weights"):
        return GPT(GPTSettings(**{"layers": 2, "heads": 2, "width": 8, "precision": "float32", **settings}), FORM)


@pytest.mark.parametrize(
    ("values", "device", "total", "wanted"),
    [
        ({}, "cuda", 10_000, True),
        ({"seconds": 3600}, "cuda", None, True),
        ({}, "cuda", 500, False),
        ({"seconds": 60}, "cuda", None, False),
        ({"lora_rank": 4}, "cuda", 10_000, False),
        ({}, "cpu", 10_000, False),
        ({}, "mps", 10_000, False),
        ({"compile": "on"}, "cpu", 10, True),
        ({"compile": "off"}, "cuda", 10_000, False),
    ],
)
def test_when_to_compile(values, device, total, wanted):
    assert Plan.of(values).compiles(device, total) is wanted


def test_the_same_number_of_steps_repeats_a_run_that_was_compiled_for_its_time():
    totals = [{"steps": 900, "evaluate_every": 45}]
    assert repeat(Plan(seconds=1200), totals, "cuda:0") == ["--steps", "900", "--set", "compile=on"]
    assert repeat(Plan(seconds=1200), totals, "cpu") == ["--steps", "900"]


def test_what_cannot_be_compiled_is_refused():
    plan = Plan.of({**QUICK, "compile": "on"})
    with pytest.raises(UsageError, match="names no blocks"):
        learn(model("affine"), examples("affine"), None, plan)
    form = Tokens(5, 8, end=4)
    items = ItemExamples(form, torch.full((9, 8), 4))
    net = GPT(GPTSettings(layers=1, heads=2, width=8), form)
    with pytest.raises(UsageError, match="different lengths"):
        learn(net, items, None, plan)


def test_auto_goes_without_where_compiling_fails(monkeypatch):
    def broken(*given, **options):
        def fails(*given):
            raise torch._dynamo.exc.TorchDynamoException("no such compiler")

        return fails

    plain, net, said = network(), network(), []
    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(Plan, "compiles", lambda self, device, total: True)
    with compiling.compiled(net, stream(0), Plan.of(QUICK), CPU, said.append):
        x = torch.ones(2, 4, dtype=torch.int64)
        found = net.train().logits(x)
    torch.testing.assert_close(found, plain.train().logits(x))
    assert said == ["training is not compiled: no such compiler"]
    assert "forward" not in vars(net.layers[0])


@pytest.mark.skipif(not has_compiler(CPU), reason="torch.compile needs a C++ compiler on the CPU, and there is none")
def test_a_compiled_run_learns_the_same_and_resumes_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    made = []
    original = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *given, **options: (made.append(given), original(*given, **options))[1])
    assert isinstance(network(), Compiles)

    def learned(name, watch=None):
        torch._dynamo.reset()  # as in a process of its own
        net, path = network(dropout=0.1), tmp_path / name
        resume = path.exists()
        with Workspace.open(path) if resume else Workspace.create(path, "", {"family": "gpt"}) as space:
            plan = Plan.of({**QUICK, "compile": "on"})
            history = learn(net, stream(0), stream(1), plan, workspace=space, resume=resume, watch=watch)
        return history, net

    _, whole = learned("whole")
    assert len(made) == 1  # both layers are of one class
    stopped, _ = learned("halves", stopped_after(3))
    assert stopped.ended == "stopped"
    _, again = learned("halves")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())

    # without dropout, whose draws are its own, it learns what plain training does
    plain, fast = network(), network()
    learn(plain, stream(0), None, Plan.of(QUICK))
    learn(fast, stream(0), None, Plan.of({**QUICK, "compile": "on"}))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(value, fast.state_dict()[name], rtol=1e-3, atol=1e-4)
