"""Low-rank fine-tuning: what it may change, that it is merged, and that a killed run goes on to the same bits."""

import numpy as np
import pytest
import torch

import pieria
from pieria.data.examples import StreamExamples
from pieria.data.storage import write_json
from pieria.errors import UsageError
from pieria.forms import Tokens
from pieria.models.gpt import GPT
from pieria.models.ngram import Ngram
from pieria.training import low_rank
from pieria.training.loop import learn
from pieria.training.plan import Plan
from pieria.training.watch import Watch
from pieria.training.workspace import read_record

pytest.importorskip("peft")
FORM = Tokens(11, 16)
STREAM = StreamExamples(FORM, np.tile(np.arange(11), 60))
PLAN = {"steps": 12, "batch": 4, "rate": 1e-2, "threads": 1, "warmup": 1}


def tiny(**settings):
    torch.manual_seed(0)
    values = {"layers": 2, "heads": 2, "width": 16, "precision": "float32", **settings}
    return GPT(GPT.Settings.of(values), FORM)


def weights_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("settings", [{}, {"tied": False, "bias": True, "activation": "swiglu"}])
def test_only_linear_layers_change_and_by_no_more_than_the_rank(settings):
    model = tiny(**settings)
    before = weights_of(model)
    learn(model, STREAM, STREAM, Plan.of({**PLAN, "lora_rank": 2}))
    after = weights_of(model)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed <= {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert len(changed) >= 8  # four matrices in each of two layers
    for name in changed:
        values = torch.linalg.svdvals((after[name] - before[name]).double())
        assert values[0] > 1e-4
        assert values[2:].max() < 1e-5 * values[0]
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any("lora" in name for name, _ in model.named_modules())


def test_it_learns_and_says_how_little_it_trains():
    model, said = tiny(), []
    learn(model, STREAM, None, Plan.of({**PLAN, "steps": 30}))  # a base to start from
    other = StreamExamples(FORM, np.tile(np.array([3, 1, 4, 1, 5, 9, 2, 6]), 80))
    with torch.no_grad():
        before = -float(model.log_prob(other.batch([0, 1])).sum())
    learn(model, other, None, Plan.of({**PLAN, "steps": 60, "lora_rank": 4}), watch=Watch(say=said.append))
    with torch.no_grad():
        assert -float(model.log_prob(other.batch([0, 1])).sum()) < 0.5 * before
    (sentence,) = [line for line in said if line.startswith("low-rank")]
    trained, whole = int(sentence.split()[1].replace(",", "")), sum(p.numel() for p in model.parameters())
    assert 0 < trained < whole


def test_inside_code_that_reads_weights_sees_them_whole_and_the_bits_come_back():
    model = tiny()
    batch = STREAM.batch([0, 5])
    with low_rank.adapters(model, 2, 0) as said:
        assert said
        for parameter in low_rank._products(model).values():
            torch.nn.init.normal_(parameter)
        inside = model.eval().log_prob(batch)
        before = weights_of(model)
        with low_rank.merged(model):
            assert torch.allclose(model.log_prob(batch), inside, atol=1e-4)
            read, _ = model.step(batch.x, model.start(2))
        assert all(torch.equal(before[name], tensor) for name, tensor in weights_of(model).items())
        assert torch.allclose(model.logits(batch.x)[:, -1], read, atol=1e-4)
    assert torch.allclose(model.log_prob(batch), inside, atol=1e-4)


def test_a_resumed_run_is_the_unbroken_one(tmp_path):
    (tmp_path / "a.txt").write_text("to be or not to be that is the question\n\n" * 40)
    (tmp_path / "b.txt").write_text("whether tis nobler in the mind to suffer\n\n" * 40)
    told = {"items": "stream", "unknown": "yes", "length": 16, "vocabulary": 0}
    pieria.fit(tmp_path / "a.txt", "gpt", preset="tiny", steps=5, settings=told, out=tmp_path / "base", quiet=True)
    asked = {"lora_rank": 2, "checkpoint_every": 4, "keep": 10}
    whole = pieria.fit(
        tmp_path / "b.txt", "gpt", steps=8, start_from=tmp_path / "base", settings=asked, out=tmp_path / "whole", quiet=True
    )
    pieria.fit(
        tmp_path / "b.txt", "gpt", steps=8, start_from=tmp_path / "base", settings=asked, out=tmp_path / "cut", quiet=True
    )
    (tmp_path / "cut" / "model.safetensors").unlink()
    for file in (tmp_path / "cut" / "checkpoints").glob("*8.safetensors"):
        file.unlink()
    assert [file.stem for file in (tmp_path / "cut" / "checkpoints").glob("*.safetensors")]
    # the run as a kill after step 4 would have left it
    record = {**read_record(tmp_path / "cut"), "state": "running"}
    write_json(tmp_path / "cut" / "run.json", record)
    resumed = pieria.fit(resume=tmp_path / "cut", quiet=True)
    ours, theirs = resumed.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    base = pieria.load(tmp_path / "base").model.state_dict()
    assert torch.equal(base["symbol.weight"], theirs["symbol.weight"])
    assert not torch.equal(base["layers.0.think.enter.weight"], theirs["layers.0.think.enter.weight"])


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(UsageError, match="lora_rank=2 for Ngram"):
        learn(Ngram(Ngram.Settings.of({}), FORM), STREAM, None, Plan.of({**PLAN, "lora_rank": 2}))
    (tmp_path / "a.txt").write_text("to be or not to be\n\n" * 40)
    with pytest.raises(UsageError, match="has learned nothing yet"):
        pieria.fit(tmp_path / "a.txt", "gpt", steps=5, settings={"lora_rank": 2}, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
