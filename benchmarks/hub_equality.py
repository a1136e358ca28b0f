"""Imported checkpoints against transformers: the same logits, the same greedy text, and again after exporting back.

Protocol: small random models that transformers makes and saves in shards (3 layers, width 48, 300 byte pairs; weights with
a deviation of 0.1, so that logits differ): GPT-2, Llama (four queries share two keys), Mistral (a window of 10), Qwen 2
(biases on queries, keys and values), Qwen 3 (scaled queries) and BERT. Each is imported as a run, read on 3 × 100 random
symbols in float32, drawn from greedily for 64 symbols after 10, exported, and loaded by AutoModel. Goals: logits within 1e-4
(BERT's hidden states within 1e-5), the same 64 symbols, and the exported model's logits within 1e-4 of the first one's. The
gate is the whole.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch

import pieria
from benchmarks import Outcome
from pieria.models.bert import BERT
from pieria.models.gpt import GPT

LENGTH, DRAWN = 128, 64
TEXTS = ["the quick brown fox jumps over the lazy dog. " * 20, "to be or not to be, that is the question; " * 20]
ROPE = {"rope_type": "default", "rope_theta": 5000.0}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT-2": ("GPT2", {}),
    "Llama, grouped queries": ("Llama", {"num_key_value_heads": 2}),
    "Mistral, a window": ("Mistral", {"num_key_value_heads": 2, "sliding_window": 10}),
    "Qwen 2, biases": ("Qwen2", {"num_key_value_heads": 2}),
    "Qwen 3, scaled queries": ("Qwen3", {"num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": True}),
    "BERT": ("Bert", {}),
}


def tokenizer(folder: Path, pieces: bool = False) -> Any:
    """A small tokenizer, saved as transformers does: byte pairs, or word pieces for BERT."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    if pieces:
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        made.decoder = decoders.WordPiece()
        made.train_from_iterator(
            TEXTS, trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
        )
        marks = [("[CLS]", 2), ("[SEP]", 3)]
        made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=marks)
        named = {f"{name.strip('[]').lower()}_token": name for name in special}
    else:
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        made.train_from_iterator(
            TEXTS,
            trainers.BpeTrainer(
                vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
            ),
        )
        named = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=made, **named)
    fast.save_pretrained(folder)
    return fast


def checkpoint(kind: str, folder: Path, **changes: Any) -> Any:
    """A random model of transformers of this kind ("GPT2", "Llama", "Bert" …), saved to ``folder`` in shards."""
    import transformers

    words = tokenizer(folder, pieces=kind == "Bert")
    shape: dict[str, Any] = {"vocab_size": len(words)}
    if kind == "GPT2":
        shape |= {"n_positions": LENGTH, "n_embd": 48, "n_layer": 3, "n_head": 4}
    else:
        shape |= {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 100}
        shape |= {"max_position_embeddings": LENGTH}
    if kind not in ("GPT2", "Bert"):
        shape["rope_parameters"] = ROPE
    if kind != "Bert":
        shape |= {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
    config = getattr(transformers, f"{kind}Config")(**{**shape, **changes})
    head = {"GPT2": "LMHeadModel", "Bert": "ForMaskedLM"}.get(kind, "ForCausalLM")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, f"{kind}{head}")(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder, max_shard_size="60KB")
    return model


@torch.no_grad()
def gaps(kind: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """How far an imported model and its export are from transformers' own; ``folder`` is to be empty."""
    import transformers

    theirs = checkpoint(kind, folder / "theirs", **changes)
    run = pieria.import_model(folder / "theirs", out=folder / "run")
    assert run is not None
    run.export("transformers", folder / "back")
    loader = transformers.AutoModelForMaskedLM if kind == "Bert" else transformers.AutoModelForCausalLM
    again = loader.from_pretrained(folder / "back").eval()
    vocabulary = theirs.config.vocab_size
    x = torch.randint(5, vocabulary, (3, 100), generator=torch.Generator().manual_seed(0))
    if kind == "Bert":
        x[:, 0] = 2
        wanted = theirs(x, output_hidden_states=True)
        assert isinstance(run.model, BERT)
        found = run.model.hidden(x[:, 1:])
        back = float((again(x).logits - wanted.logits).abs().max())
        masked = torch.ones_like(x[:, 1:], dtype=torch.bool)
        hidden = torch.cat([x[:, :1], torch.full_like(x[:, 1:], 4)], dim=1)
        logits = run.model.odds(x[:, 1:], masked, masked).view(3, 99, -1) - theirs(hidden).logits[:, 1:]
        states = float((found - wanted.hidden_states[-1]).abs().max())
        return {"logits": float(logits.abs().max()), "hidden states": states, "exported back": back}
    wanted = theirs(x).logits
    assert isinstance(run.model, GPT)
    apart = {"logits": float((run.model.logits(x) - wanted).abs().max())}
    apart["exported back"] = float((again(x).logits - wanted).abs().max())
    first = x[:1, :10]
    made = theirs.generate(
        first,
        attention_mask=torch.ones_like(first),
        do_sample=False,
        max_new_tokens=DRAWN,
        min_new_tokens=DRAWN,
        suppress_tokens=[theirs.config.eos_token_id],
        pad_token_id=0,
    )
    odds, state = run.model.step(first, run.model.start(1))
    drawn: list[int] = []
    for _ in range(DRAWN):
        odds[:, theirs.config.eos_token_id] = -torch.inf
        drawn.append(int(odds.argmax()))
        odds, state = run.model.step(torch.tensor([drawn[-1:]]), state)
    return {**apart, "greedy": drawn == made[0, 10:].tolist()}


def measure(gate: bool) -> Outcome:
    """The gate is the whole: it takes seconds."""
    del gate
    measured: dict[str, Any] = {}
    goal: dict[str, Any] = {}
    passed = True
    for name, (kind, changes) in SHAPES.items():
        with tempfile.TemporaryDirectory() as folder:
            found = gaps(kind, Path(folder), **changes)
        for what, value in found.items():
            figure = f"{name}: {what}"
            if what == "greedy":
                measured[figure], goal[figure] = f"{DRAWN} symbols the same" if value else "not the same", "the same"
                passed &= value
            else:
                limit = 1e-5 if what == "hidden states" else 1e-4
                measured[figure], goal[figure] = float(f"{value:.2g}"), f"≤ {limit:g}"
                passed &= value <= limit
    return Outcome(measured, goal, passed)
