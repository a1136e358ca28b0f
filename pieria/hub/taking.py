"""What other tools can read, made from a run: an ARPA file of an n-gram, a checkpoint of a transformer."""

import json
import secrets
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from pieria.data.storage import write_atomically, write_json
from pieria.errors import DataError, RunError, UsageError, unknown
from pieria.forms import Tokens
from pieria.hub import arpa, bert, gpt2, llama, reading, tokenizer
from pieria.modalities.contract import Modality
from pieria.models.bert import BERT
from pieria.models.contract import Model
from pieria.models.gpt import GPT
from pieria.models.ngram import Ngram

FORMATS = ("arpa", "transformers")
KENLM = 6  # the longest n-grams that KenLM reads as it is commonly built


def take(model: Model, modality: Modality, to: str, out: Path, card: str) -> list[str]:
    """Write what ``to`` names to ``out``: a file ("arpa") or a directory ("transformers", with ``card`` as its README).

    Returns what a reader of it must know, each a line.
    """
    if to not in FORMATS:
        raise unknown("format to export to", to, FORMATS)
    return to_arpa(model, modality, out) if to == "arpa" else to_transformers(model, modality, out, card)


def to_arpa(model: Model, modality: Modality, path: Path) -> list[str]:
    """Write an n-gram's law to ``path``; what a reader of the file must know, each a line.

    Raises `UsageError` for another family, or one whose symbols have no names in such a file.
    """
    if not isinstance(model, Ngram) or not isinstance(model.form, Tokens):
        raise UsageError(f"{type(model).__name__} was to be written as ARPA", "an n-gram", "Name a run of ngram")
    words = _names(modality)
    if model.form.end is not None:
        words.append(arpa.END)
    arpa.write(arpa.Arpa(words, model.told()), path)
    if model.order > KENLM:
        return [f"n-grams of {model.order} symbols: KenLM as it is commonly built reads up to {KENLM}"]
    return []


def _names(modality: Modality) -> list[str]:
    """What each symbol of a text is called in an ARPA file, where white space has names and each name is one symbol's."""
    state: dict[str, Any] = modality.state()
    if state.get("kind") == "word":
        names = list(state["words"])
    elif state.get("kind") == "char":
        names = [*state["alphabet"], *([arpa.UNKNOWN] if state["unknown"] else [])]
    else:
        raise UsageError(
            f"symbols of {modality.name} by {state.get('kind', 'another way')}",
            "text in words or characters: an ARPA file separates symbols by white space",
            "Fit with --set tokenizer=word or char",
        )
    names = [arpa.NAMES.get(name, name) for name in names]
    taken = {arpa.BEGIN, arpa.END} & set(names) or {name for name in arpa.NAMES.values() if names.count(name) > 1}
    if taken:
        raise DataError(
            f"the text holds the word {sorted(taken)[0]!r}, which has a meaning of its own in an ARPA file",
            "another word",
            "Change it in the data and fit again",
        )
    return names


# ---- checkpoints -----------------------------------------------------------------------------------------------------


def to_transformers(model: Model, modality: Modality, out: Path, card: str) -> list[str]:
    """Write a transformer's settings, weights and tokenizer to the new directory ``out``, as ``transformers`` reads them.

    Raises `UsageError` for a family, or for settings, that no architecture of that library has.
    """
    architecture = _architecture(model)
    if model.condition is not None:
        raise UsageError("a model with labels", "one without: no architecture of transformers takes them", "Fit one without")
    if modality.name != "text":
        raise UsageError(f"a model of {modality.name}", "one of text, which has a tokenizer")
    state, form = modality.state(), model.form
    assert isinstance(form, Tokens)
    table = model.get_parameter("symbol.weight").detach().cpu()
    shared = {
        role
        for role, row in (("begin", form.vocabulary), ("mask", form.vocabulary + 1))
        if state.get(role) is not None and row < len(table) and torch.equal(table[row], table[state[role]])
    }
    words = tokenizer.written(state, form, architecture.ROLES, shared)

    def rows(ours: Tensor) -> Tensor:
        """What has a row for each symbol, and then for begin and the mask, with a row for each token."""
        new = ours.new_zeros(max([form.vocabulary, *(number + 1 for number in words.rows)]), *ours.shape[1:])
        new[: form.vocabulary] = ours[: form.vocabulary]
        for number, row in words.rows.items():
            new[number] = ours[row]
        return new

    with torch.no_grad():
        tensors = {name: t.detach().cpu().float() for name, t in architecture.weights(model, rows).items()}
    called = {f"{architecture.ROLES[role]}_token_id": number for role, number in words.numbers.items()}
    config = {
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        **architecture.config(model),
        **called,
        "vocab_size": len(rows(model.get_parameter("symbol.weight"))),
        "dtype": "float32",
    }
    generation: dict[str, Any] | None = None
    findings = []
    if isinstance(model, GPT):
        generation = {name: number for name, number in called.items() if number is not None}
        if words.rows:
            begin = words.numbers["begin"]
            generation["suppress_tokens"] = [begin]
            findings.append(
                f"token {begin} ({tokenizer.BEGIN}) begins a text, and is never to be drawn: {tokenizer.GENERATION} rules "
                "it out; leave its column out of probabilities"
            )
    _write(out, config, generation, words, tensors, card)
    return findings


def _architecture(model: Model) -> Any:
    """The file of this room that knows how to write the model."""
    if isinstance(model, GPT):
        found = gpt2 if gpt2.fits(model.settings) else llama if llama.kind_of(model.settings) else None
        if found is None:
            raise UsageError(
                "these settings of gpt (positions, norm, activation, unit_queries together) are of no architecture that "
                "transformers has",
                "those of GPT-2, Llama, Mistral or Qwen",
                "Fit with --preset gpt2, nano, baby or llama",
            )
        return found
    if isinstance(model, BERT):
        if not bert.fits(model.settings):
            raise UsageError(
                "a bert that normalises first, or with rotary positions", "norms behind and learned positions",
                "Fit with --preset base, or --set norm_first=no",
            )  # fmt: skip
        return bert
    raise UsageError(f"{type(model).__name__} was to be written for transformers", "a run of gpt or bert", "Name one")


def _write(
    out: Path,
    config: dict[str, Any],
    generation: dict[str, Any] | None,
    words: tokenizer.Written,
    tensors: dict[str, Tensor],
    card: str,
) -> None:
    """The directory, whole or not at all."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} exists already", "a new directory", "Choose another --out")
    hidden = out.parent / f".new-{secrets.token_hex(6)}"
    about = dict(words.about)
    template = about.pop("chat_template", None)
    try:
        hidden.mkdir(parents=True)
        write_json(hidden / reading.CONFIG, config)
        if generation is not None:
            write_json(hidden / tokenizer.GENERATION, generation)
        write_json(hidden / tokenizer.ABOUT, about)
        write_atomically(hidden / tokenizer.FILE, json.dumps(words.tokenizer, ensure_ascii=False))
        if isinstance(template, str):
            write_atomically(hidden / tokenizer.TEMPLATE, template)
        write_atomically(hidden / "README.md", card)
        whole = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
        write_atomically(hidden / reading.WEIGHTS, to_bytes(whole, metadata={"format": "pt"}))
        if out.exists():
            out.rmdir()
        hidden.rename(out)
    except OSError as error:
        raise RunError(
            f"{out} could not be written ({error.strerror or error})", "a writable place", "Choose --out"
        ) from None
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
