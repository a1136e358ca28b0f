"""Checkpoints of the hub's format: equal to transformers, out again, and refused in words where they cannot be read."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import pieria
from benchmarks.hub_equality import SHAPES, checkpoint, gaps
from pieria.data.batch import Batch
from pieria.errors import DataError, PieriaError, UsageError
from pieria.modalities.text import Text
from pieria.models.bert import BERT
from pieria.models.gpt import GPT


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 in shards, as transformers saved it."""
    folder = tmp_path_factory.mktemp("hub") / "small-gpt2"
    checkpoint("GPT2", folder)
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "checkpoint"))


@pytest.mark.parametrize("name", SHAPES)
def test_logits_and_greedy_texts_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    kind, changes = SHAPES[name]
    found = gaps(kind, tmp_path, **changes)
    assert found.pop("greedy", True)
    assert found.pop("hidden states", 0.0) <= 1e-5
    assert max(found.values()) <= 1e-4


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("GPT2", {"tie_word_embeddings": False, "n_inner": 77, "activation_function": "gelu"}),
        ("Llama", {"tie_word_embeddings": True, "head_dim": 20, "attention_bias": True, "mlp_bias": True}),
        ("Qwen2", {"num_key_value_heads": 4, "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 0}),
        ("Mistral", {"num_key_value_heads": 1, "sliding_window": None}),
        ("Bert", {"tie_word_embeddings": False, "type_vocab_size": 1, "hidden_act": "gelu_new"}),
    ],
)
def test_their_other_settings_are_kept(kind: str, changes: dict[str, Any], tmp_path: Path) -> None:
    found = gaps(kind, tmp_path, **changes)
    assert found.pop("greedy", True)
    assert max(found.values()) <= 1e-4


def test_an_imported_run_is_a_run(copy: Path, tmp_path: Path) -> None:
    (copy / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    (tmp_path / "novel.txt").write_text("to be or not to be, that is the question\n" * 60)
    run = pieria.import_model(copy, out=tmp_path / "run", data=tmp_path / "novel.txt", length=32)
    assert isinstance(run.model, GPT)
    assert isinstance(run.modality, Text)
    assert run.record["imported"] == {
        "from": str(copy),
        "format": "transformers",
        "architecture": "gpt2",
        "licence": "mit",
    }
    again = pieria.load(tmp_path / "run")
    text = again.sample(1, prompt="to be", length=5, temperature=0)[0]
    assert text.startswith("to be")
    assert run.modality.encode(["to be\n\tor"]).tolist() == again.modality.encode(["to be\n\tor"]).tolist()
    symbols = run.modality.encode(["that is the question"])
    assert run.modality.decode(symbols) == ["that is the question"]
    assert run.modality.characters(symbols) == len("that is the question")
    assert "mit" in run.card()
    scores = again.score(["to be", "or not"]).to_json()
    assert len(json.dumps(scores)) > 10
    fitted = pieria.fit(
        tmp_path / "novel.txt", "gpt", start_from=run.path, steps=2, out=tmp_path / "further", quiet=True,
        settings={"batch": 2, "rate": 1e-3, "precision": "float32"},
    )  # fmt: skip
    assert fitted.record["imported"]["licence"] == "mit"
    # `begin` has moved away from the token that it was, and becomes one of its own
    assert "begins a text" in fitted.export("transformers", tmp_path / "out")[0]
    theirs = loaded(tmp_path / "out")
    rows = fitted.model.form.vocabulary
    with torch.no_grad():
        ours = fitted.model.logits(torch.cat([torch.tensor([[rows]]), symbols], dim=1))
        wanted = theirs(torch.cat([torch.tensor([[theirs.config.bos_token_id]]), symbols], dim=1)).logits
    torch.testing.assert_close(ours, wanted[..., :rows], rtol=0, atol=1e-5)


def loaded(folder: Path) -> Any:
    import transformers

    masked = json.loads((folder / "config.json").read_text())["model_type"] == "bert"
    kind = transformers.AutoModelForMaskedLM if masked else transformers.AutoModelForCausalLM
    return kind.from_pretrained(folder).eval()


def test_a_model_that_chats_ends_its_texts(copy: Path, tmp_path: Path) -> None:
    (copy / "chat_template.jinja").write_text("{{ messages }}")
    run = pieria.import_model(copy, out=tmp_path / "run")
    assert run.modality.form.end == 0
    assert run.modality.state()["config"]["chat_template"] == "{{ messages }}"
    assert run.modality.encode(["to be"]).shape == (1, 128)
    assert run.modality.decode(run.modality.encode(["to be", "or not to be"])) == ["to be", "or not to be"]
    run.export("transformers", tmp_path / "out")
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == "{{ messages }}"
    assert pieria.import_model(copy, out=tmp_path / "stream", items="stream").modality.form.end is None


def test_half_precision_is_read_as_float32(copy: Path, tmp_path: Path) -> None:
    for file in copy.glob("*.safetensors"):
        save_file({name: t.bfloat16() for name, t in load_file(file).items()}, file, metadata={"format": "pt"})
    run = pieria.import_model(copy, out=tmp_path / "run")
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}


def test_a_bert_without_a_head_embeds(tmp_path: Path) -> None:
    checkpoint("Bert", tmp_path / "whole").bert.save_pretrained(tmp_path / "body")
    shutil.copy(tmp_path / "whole" / "tokenizer.json", tmp_path / "body")
    shutil.copy(tmp_path / "whole" / "tokenizer_config.json", tmp_path / "body")
    runs = [pieria.import_model(tmp_path / name, out=tmp_path / f"run-{name}") for name in ("whole", "body")]
    assert "no head" in runs[1].record["data"]["findings"][0]
    assert runs[0].record["data"]["findings"] == []
    vectors = [run.model.embed(Batch(run.modality.encode(["to be", "or not"]))) for run in runs]
    torch.testing.assert_close(vectors[0], vectors[1])


# ---- out: models of our own ------------------------------------------------------------------------------------------

GPT2 = {"layers": 1, "width": 32, "heads": 2, "length": 16, "precision": "float32"}
LLAMA = {**GPT2, "key_heads": 1}


@pytest.mark.parametrize(
    ("preset", "settings", "text"),
    [
        ("gpt2", {**GPT2, "tokenizer": "char", "unknown": "yes"}, "to be,\n not  z"),
        ("nano", {**GPT2, "tokenizer": "byte"}, "to bé\t"),
        ("llama", {**LLAMA, "tokenizer": "bpe", "vocabulary": 270, "query_bias": True}, "to be  or é"),
        ("llama", {**LLAMA, "tokenizer": "word", "items": "lines", "window": 5}, "to be zzz or"),
        ("llama", {**LLAMA, "items": "lines", "unit_queries": True, "query_scales": True, "tied": True}, "to be"),
        ("base", {**GPT2, "hidden": 2, "items": "lines"}, "to be"),
        ("base", {**GPT2, "hidden": 2, "items": "lines", "types": 0, "bias": False, "tied": False}, "to be"),
    ],
)
def test_a_model_of_our_own_is_loaded_by_transformers(
    tmp_path: Path, preset: str, settings: dict[str, Any], text: str
) -> None:
    import transformers

    lines = ["to be or not to be,", "that is the question", "whether 'tis nobler in the mind to suffer"]
    (tmp_path / "novel.txt").write_text("\n".join(f"{line} {i % 7}" for i in range(40) for line in lines))
    family = "bert" if preset == "base" else "gpt"
    run = pieria.fit(
        tmp_path / "novel.txt", family, preset=preset, steps=1, out=tmp_path / "run", quiet=True,
        settings={**settings, "batch": 2, "length": 64 if "items" in settings else 16},
    )  # fmt: skip
    for parameter in run.model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    run.export("transformers", tmp_path / "out")
    theirs, words = loaded(tmp_path / "out"), transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    begin, vocabulary = run.model.form.begin, run.model.form.vocabulary
    symbols = run.modality.beginning(text)
    assert words(text, add_special_tokens=False).input_ids == symbols.tolist()
    end = [run.model.form.end] if family == "bert" else []
    assert words(text).input_ids == [begin, *symbols.tolist(), *end]
    read = torch.tensor([[begin, *symbols.tolist(), *end]])
    with torch.no_grad():
        wanted = theirs(read).logits[..., :vocabulary]
        if isinstance(run.model, BERT):
            x = read[:, 1:]
            masked = torch.zeros_like(x, dtype=torch.bool)
            masked[:, 2] = True
            found = run.model.odds(x, masked, masked)
            wanted = theirs(read.index_fill(1, torch.tensor([3]), words.mask_token_id)).logits[:, 3, :vocabulary]
        else:
            found = run.model.logits(read)
    assert float((found - wanted).abs().max()) <= 1e-5 * max(1.0, float(wanted.abs().max()))


def test_settings_of_no_architecture_and_a_full_directory_are_refused(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\n".join(["emma", "olivia", "ava"] * 20))
    run = pieria.fit(tmp_path / "names.txt", "gpt", preset="tiny", steps=1, out=tmp_path / "run", quiet=True)
    with pytest.raises(UsageError, match="of no architecture"):
        run.export("transformers", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="an n-gram"):
        run.export("arpa", tmp_path / "out")
    with pytest.raises(UsageError, match="is a run of Pieria already"):
        pieria.import_model(tmp_path / "run")
    nano = pieria.fit(tmp_path / "names.txt", "gpt", preset="nano", steps=1, out=tmp_path / "nano", quiet=True)
    with pytest.raises(PieriaError, match="exists already"):
        nano.export("transformers", tmp_path / "run")


# ---- refused ---------------------------------------------------------------------------------------------------------


def edited(file: str, **changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **changes}))

    return change


def reweighted(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file = sorted(folder.glob("*.safetensors"))[-1]
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file, metadata={"format": "pt"})

    return apply


def pickled(folder: Path) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {folder / 'executed'}",)

    for file in [*folder.glob("*.safetensors"), folder / "model.safetensors.index.json"]:
        file.unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))


def code(folder: Path) -> None:
    (folder / "modeling.py").write_text(f"open({str(folder / 'executed')!r}, 'w')")
    edited("config.json", auto_map={"AutoModelForCausalLM": "modeling.Model"})(folder)


def first(folder: Path) -> Path:
    return sorted(folder.glob("*.safetensors"))[0]


def last_norm(tensors: dict[str, torch.Tensor]) -> str:
    return next(iter(tensors))


def fewer_tokens(folder: Path) -> None:
    said = json.loads((folder / "tokenizer.json").read_text())
    said["model"]["merges"] = []
    said["model"]["vocab"] = {name: n for name, n in said["model"]["vocab"].items() if n < 100}
    (folder / "tokenizer.json").write_text(json.dumps(said))


def more_tokens(folder: Path) -> None:
    said = json.loads((folder / "tokenizer.json").read_text())
    said["model"]["vocab"]["zzz"] = 300
    (folder / "tokenizer.json").write_text(json.dumps(said))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (pickled, "pytorch_model.bin, which is pickled: opening it can run any code"),
        (code, "asks for code of the checkpoint's own"),
        (edited("tokenizer_config.json", auto_map={"AutoTokenizer": ["x.T", None]}), "asks for code"),
        (edited("config.json", trust_remote_code=True), "asks for code"),
        (lambda folder: first(folder).unlink(), "1 of 10 shards of .* are missing: model-00001-of-"),
        (lambda folder: first(folder).write_bytes(first(folder).read_bytes()[:500]), "not a readable safetensors file"),
        (reweighted(lambda t: t.update({last_norm(t): torch.zeros(3, 5)})), "has shape \\[3, 5\\]"),
        (reweighted(lambda t: t[last_norm(t)].fill_(np.nan)), "NaN or infinity"),
        (reweighted(lambda t: t.update({last_norm(t): t[last_norm(t)].to(torch.int8)})), "holds torch.int8"),
        (reweighted(lambda t: t.pop(last_norm(t))), "lacks the tensor"),
        (edited("config.json", n_layer=2), "tensor\\(s\\) that gpt2 .* has no place for, such as 'transformer.h.2"),
        (edited("config.json", n_layer=4), "lacks the tensor 'transformer.h.3"),
        (edited("config.json", model_type="mamba"), "model_type = 'mamba'"),
        (edited("config.json", n_head=0), "n_head = 0"),
        (edited("config.json", n_head=5), "describes no network .*not a multiple of heads"),
        (edited("config.json", activation_function="swish"), "activation_function = 'swish'"),
        (edited("config.json", quantization_config={"bits": 4}), "quantised"),
        (edited("config.json", vocab_size=299), "has shape|a row"),
        (more_tokens, "'zzz' as number 300, and the embedding has 300 rows"),
        (fewer_tokens, "has 100 tokens, and the embedding has 300 rows"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "holds no tokenizer.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "is not a tokenizer"),
        (lambda folder: (folder / "config.json").unlink(), "config.json does not exist"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be read"),
        (edited("model.safetensors.index.json", weight_map={"a": "../x.safetensors"}), "names '../x.safetensors'"),
        (edited("model.safetensors.index.json", weight_map={}), "no weight_map"),
    ],
)
def test_what_cannot_be_read_is_refused_and_nothing_is_run_or_left(
    copy: Path, tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    change(copy)
    with pytest.raises(PieriaError, match=said):
        pieria.import_model(copy, out=tmp_path / "run")
    assert not (copy / "executed").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint"]


def test_other_refusals(copy: Path, tmp_path: Path) -> None:
    for source, said in (
        (copy / "config.json", "one file of a checkpoint"),
        (tmp_path / "weights.bin", "pickled"),
        (tmp_path / "a" / "b" / "c", "does not exist"),
    ):
        if source.suffix == ".bin":
            source.write_bytes(b"x")
        with pytest.raises(PieriaError, match=said):
            pieria.import_model(source)
    with pytest.raises(UsageError, match="at most 128"):
        pieria.import_model(copy, length=129)
    edited("config.json", rope_parameters={"rope_type": "yarn", "rope_theta": 1e4}, model_type="llama")(copy)
    with pytest.raises(DataError, match="in the way 'yarn'"):
        pieria.import_model(copy)
