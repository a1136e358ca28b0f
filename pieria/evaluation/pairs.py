"""Figures of answers to prompts (translations, summaries): how much of the reference each answer has.

BLEU (Papineni et al. 2002) and chrF (Popović 2015) by `sacrebleu`, on the texts as they are read; ROUGE (Lin 2004) by
`rouge_score`. Beside them stands what costs nothing: the prompt copied, or its first words where ROUGE asks for a summary.
"""

import importlib.util
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pieria.data.examples import Examples
from pieria.evaluation.comparison import spread
from pieria.evaluation.scorecard import Figure
from pieria.forms import Tokens
from pieria.models.contract import Model, Predicts, device_of
from pieria.sampling.answering import answers

if TYPE_CHECKING:
    from pieria.modalities.opening import Dataset

MOST_ANSWERS = 2_000
MISSING = "BLEU, chrF and ROUGE were not taken: sacrebleu and rouge-score are missing (pip install 'pieria[text]')."


def figures(model: Model, dataset: "Dataset", held: Examples, split: str) -> tuple[list[Figure], list[str]]:
    """BLEU, chrF and ROUGE of the most probable symbols (greedy) for the prompts of a split, and what they mean in words."""
    if not isinstance(model.condition, Tokens) or not isinstance(model, Predicts):
        return [], []
    collection = dataset.parts[split]
    if collection.prompts is None:
        return [], []
    if importlib.util.find_spec("sacrebleu") is None or importlib.util.find_spec("rouge_score") is None:
        return [], [MISSING]
    places = spread(len(held), MOST_ANSWERS)
    asked = held.batch(places).condition
    assert asked is not None
    with torch.inference_mode():
        made = answers(model, model.condition, asked.to(device_of(model)))  # type: ignore[arg-type]  # a model with a form
    said = [str(text) for text in dataset.modality.decode(made)]
    wanted = [str(collection.artifacts[place]) for place in places]
    prompts = [str(collection.prompts[place]) for place in places]
    train = dataset.parts["train"].artifacts
    lead = round(float(np.mean([len(str(train[place]).split()) for place in spread(len(train), 2_000)])))
    openings = [" ".join(prompt.split()[:lead]) for prompt in prompts]
    small = bool(getattr(dataset.modality.settings, "lowercase", False))
    found = [
        *_overlap(said, wanted, prompts, small=small),
        *_rouge(said, wanted, openings, lead),
    ]
    same = int(sum(a == b for a, b in zip(said, wanted, strict=True)))
    words = [f"Of {len(said):,} answers (the most probable symbol at each step), {same:,} are the reference word for word."]
    cut = {"split": split, "count": len(said)}
    return [Figure(**{**figure, **cut}) for figure in found], words


def _overlap(said: list[str], wanted: list[str], prompts: list[str], *, small: bool) -> list[dict[str, Any]]:
    from sacrebleu.metrics import BLEU, CHRF

    found = []
    for name, metric in (("BLEU", BLEU(lowercase=small)), ("chrF", CHRF(lowercase=small))):
        score = metric.corpus_score(said, [wanted])
        copied = metric.corpus_score(prompts, [wanted])
        note = f"greedy; sacrebleu {metric.get_signature()}; baseline: the prompt copied"
        found.append(_figure(name, score.score, copied.score, "points of 100", note))
    return found


def _rouge(said: list[str], wanted: list[str], openings: list[str], lead: int) -> list[dict[str, Any]]:
    means = [rouge(texts, wanted) for texts in (said, openings)]
    note = (
        f"greedy; mean F-measure of words in small letters, without stemming; baseline: the prompt's first {lead} words, as "
        "many as a completion has"
    )
    return [_figure(kind, means[0][kind], means[1][kind], "points of 100", note) for kind in means[0]]


def rouge(said: list[str], wanted: list[str]) -> dict[str, float]:
    """ROUGE-1, ROUGE-2 and ROUGE-L of texts beside what was wanted: mean F-measure in points of 100, no stemming."""
    from rouge_score.rouge_scorer import RougeScorer

    kinds = ("rouge1", "rouge2", "rougeL")
    scorer = RougeScorer(list(kinds), tokenizer=_AnyWords())
    scores = [scorer.score(reference, text) for reference, text in zip(wanted, said, strict=True)]
    return {
        kind.replace("rouge", "ROUGE-"): 100 * float(np.mean([score[kind].fmeasure for score in scores])) for kind in kinds
    }


class _AnyWords:
    """Words of any alphabet: the library's own knows the letters a to z alone."""

    def tokenize(self, text: str) -> list[str]:
        """The words of a text in small letters."""
        return re.findall(r"\w+", text.lower())


def _figure(name: str, value: float, baseline: float, unit: str, note: str) -> dict[str, Any]:
    return {
        "name": name, "value": float(value), "unit": unit, "better": "higher", "baseline": float(baseline), "note": note
    }  # fmt: skip
