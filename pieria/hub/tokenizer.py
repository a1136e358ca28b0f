"""The tokenizer of a checkpoint: ``tokenizer.json``, and what ``tokenizer_config.json`` says of its special tokens."""

import json
from pathlib import Path
from typing import Any

from pieria.errors import DataError
from pieria.hub.reading import CONFIG, json_of

FILE, ABOUT, TEMPLATE, GENERATION = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
)
UNUSED = 0.05  # the largest share of an embedding's rows that no token of a tokenizer stands for; or this many of a small one
FEW = 64


def read(path: Path, rows: int, config: dict[str, Any], *, begins: str = "bos", ends: str = "eos") -> dict[str, Any]:
    """The state of `modalities.symbols.Imported`: the tokenizer, its special tokens, and the ``rows`` of the embedding.

    ``begins`` and ``ends`` are the roles of the tokens that begin and end a text ("cls" and "sep" in BERT). Where nothing
    begins a text, what ends one does: the token that lies between two texts.

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
    end = _special(ends, about, [generation, config], symbols, rows)
    begin = _special(begins, about, [config], symbols, rows)
    return {"tokenizer": said, "config": about, "size": rows, "begin": end if begin is None else begin, "end": end}


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
