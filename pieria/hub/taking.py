"""What other tools can read, made from a run: an ARPA file of an n-gram, a checkpoint of a transformer."""

from pathlib import Path
from typing import Any

from pieria.errors import DataError, UsageError
from pieria.forms import Tokens
from pieria.hub import arpa
from pieria.modalities.contract import Modality
from pieria.models.contract import Model
from pieria.models.ngram import Ngram


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
