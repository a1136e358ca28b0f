"""The tokenizer of a checkpoint: ``tokenizer.json``, and what ``tokenizer_config.json`` says of its special tokens."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pieria.errors import DataError
from pieria.forms import Tokens
from pieria.hub.reading import CONFIG, json_of
from pieria.modalities.subwords import byte_alphabet
from pieria.modalities.symbols import UNKNOWN_WORD

FILE, ABOUT, TEMPLATE, GENERATION = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
)
UNUSED = (
    0.05  # the largest share of an embedding's rows that no token of a tokenizer stands for; or this many of a small one
)
FEW = 64


def read(path: Path, rows: int, config: dict[str, Any], roles: dict[str, str]) -> dict[str, Any]:
    """The state of `modalities.subwords.Imported`: the tokenizer, its special tokens, and the ``rows`` of the embedding.

    ``roles`` says what the tokens that begin and end a text, and the one that masks, are called there: "bos" or "cls".
    Where nothing begins a text, what ends one does: the token that lies between two texts.

    Raises `DataError` for a tokenizer that is missing, damaged, or not of this embedding.
    """
    import tokenizers

    file = path / FILE
    if not file.is_file():
        others = [name for name in ("tokenizer.model", "vocab.json", "vocab.txt", "spiece.model") if (path / name).is_file()]
        raise DataError(
            f"{path} holds no {FILE}" + (f" but {others[0]}" if others else ""),
            f"{FILE}, which says all of a tokenizer in one file",
            "Let transformers write it: AutoTokenizer.from_pretrained(…).save_pretrained(…)",
        )
    said = json_of(file)
    try:
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(said))
    except Exception as error:  # the library raises plain exceptions
        raise DataError(f"{file} is not a tokenizer ({error})", "the file of a tokenizer", "Fetch it again") from None
    symbols = tokenizer.get_vocab(with_added_tokens=True)
    last = max(symbols.values(), default=-1)
    if last >= rows:
        token = next(token for token, symbol in symbols.items() if symbol == last)
        raise DataError(
            f"{file} has the token {token!r} as number {last}, and the embedding has {rows} rows",
            "a tokenizer whose tokens all have a row",
            "Take tokenizer and weights from one model",
        )
    if rows - len(symbols) > max(FEW, UNUSED * rows):
        raise DataError(
            f"{file} has {len(symbols):,} tokens, and the embedding has {rows:,} rows",
            "a tokenizer for (nearly) every row",
            "Take tokenizer and weights from one model",
        )
    about = json_of(path / ABOUT) if (path / ABOUT).is_file() else {}
    if (path / TEMPLATE).is_file():
        about["chat_template"] = (path / TEMPLATE).read_text(encoding="utf-8")
    generation = json_of(path / GENERATION) if (path / GENERATION).is_file() else {}
    found = {mine: _special(theirs, about, [generation, config], symbols, rows) for mine, theirs in roles.items()}
    if "mask" in roles and None in found.values():
        raise DataError(
            f"{path} does not say which of its tokens are {', '.join(f'{role}_token' for role in roles.values())}",
            f"all of them, in {ABOUT}",
        )
    found["begin"] = found["end"] if found["begin"] is None else found["begin"]
    return {"tokenizer": said, "config": about, "size": rows, **found}


def _special(
    role: str, about: dict[str, Any], configs: list[dict[str, Any]], symbols: dict[str, int], rows: int
) -> int | None:
    """The number of the token in this role: by its name, else by the number that a configuration gives."""
    token = about.get(f"{role}_token")
    token = token.get("content") if isinstance(token, dict) else token
    if isinstance(token, str) and token in symbols:
        return symbols[token]
    for config in configs:
        number = config.get(f"{role}_token_id")
        number = number[0] if isinstance(number, list) and number else number
        if isinstance(number, int) and not isinstance(number, bool):
            if not 0 <= number < rows:
                raise DataError(f"{CONFIG} has {role}_token_id = {number}", f"a row of the embedding, 0 to {rows - 1}")
            return number
    return None


# ---- the other way ---------------------------------------------------------------------------------------------------

BEGIN, END, UNKNOWN, MASK = "<|begin|>", "<|end|>", "<|unknown|>", "<|mask|>"


@dataclass
class Written:
    """A tokenizer to be written.

    Attributes:
        tokenizer: the content of ``tokenizer.json``; ``about`` that of ``tokenizer_config.json``.
        numbers: the number of the token in each role ("begin", "end", "mask"), where there is one.
        rows: of the tokens that are new, number to row of our table: begin's follows the vocabulary's, then the mask's.
    """

    tokenizer: dict[str, Any]
    about: dict[str, Any]
    numbers: dict[str, int | None]
    rows: dict[int, int]


def written(state: dict[str, Any], form: Tokens, roles: dict[str, str], shared: set[str]) -> Written:
    """The tokenizer of a text modality with this ``state``, numbered as its symbols are; it puts `begin` before a text.

    ``roles`` are those of `read`; ``shared`` are those whose vector still is that of the imported token, so that they need
    no token of their own.
    """
    import tokenizers

    imported = state["kind"] == "imported"
    tokenizer: Any
    numbers: dict[str, int | None]
    if imported:
        tokenizer, about = tokenizers.Tokenizer.from_str(json.dumps(state["tokenizer"])), dict(state["config"])
        numbers = {role: state[role] for role in roles}
    else:
        tokenizer, about = _tokenizer(state), {"tokenizer_class": "PreTrainedTokenizerFast"}
        numbers = {"end": form.end}
        if form.end is not None:
            _add(tokenizer, END, form.end)
            about[f"{roles['end']}_token"] = END
    rows = {}
    for place, (role, token) in enumerate((("begin", BEGIN), ("mask", MASK))):
        if role in roles and role not in shared:
            # a row that no token stood for (embeddings are padded) may be the place of the new one
            number = _add(tokenizer, token, None if imported else form.vocabulary + place)
            numbers[role], rows[number] = number, form.vocabulary + place
            about[f"{roles[role]}_token"] = token
    if not rows:
        return Written(state["tokenizer"], about, numbers, rows)
    about |= {"model_max_length": form.length, "clean_up_tokenization_spaces": False}
    first = {role: tokenizer.id_to_token(numbers[role]) for role in ("begin", "end") if numbers.get(role) is not None}
    if "begin" in first:
        around = [first["begin"], "$A", *([first["end"]] if "mask" in roles and "end" in first else [])]
        tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
            single=" ".join(around), special_tokens=[(token, numbers[role]) for role, token in first.items()]
        )
    if "mask" in roles and "end" in first:
        about.setdefault("pad_token", first["end"])
    return Written(json.loads(tokenizer.to_str()), about, numbers, rows)


def _add(tokenizer: Any, token: str, wanted: int | None) -> int:
    """The number of a special token that is added; `DataError` unless it is the ``wanted`` one and new."""
    import tokenizers

    known = tokenizer.token_to_id(token) is not None
    tokenizer.add_special_tokens([tokenizers.AddedToken(token, special=True, normalized=False)])
    number: int = tokenizer.token_to_id(token)
    if known or (wanted is not None and number != wanted):
        raise DataError(f"the vocabulary holds {token!r}", "a vocabulary without it", "Change it in the data and fit again")
    return number


def _tokenizer(state: dict[str, Any]) -> Any:
    """What a tokenisation of Pieria's own is in the library's terms, its symbols numbered alike."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    kind = state["kind"]
    if kind == "bpe":
        return Tokenizer.from_str(json.dumps(state["tokenizer"]))
    if kind == "byte":
        symbols = {character: byte for byte, character in enumerate(byte_alphabet())}
        tokenizer = Tokenizer(models.BPE(vocab=symbols, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
        return tokenizer
    names = [*state["alphabet"], *([UNKNOWN] if state["unknown"] else [])] if kind == "char" else state["words"]
    unknown = UNKNOWN if kind == "char" else UNKNOWN_WORD
    lookup = {name: symbol for symbol, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(vocab=lookup, unk_token=unknown))
    if kind == "char":
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        tokenizer.decoder = decoders.Fuse()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n|\S+"), "removed", invert=True)
    return tokenizer
