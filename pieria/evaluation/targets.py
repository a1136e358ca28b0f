"""Figures of a discriminative model: how often, or how nearly, it tells the target of a text; beside counts of words.

The baseline of classes is NB-SVM: a linear support vector machine on which words and pairs of words a text has, each
weighted by how much more often it stands in one class than in the others (Wang & Manning 2012, *Baselines and bigrams*);
that of numbers is a ridge regression on the same counts. Both take seconds, and on short texts they are hard to beat.
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np
import torch

from pieria.data.examples import Examples
from pieria.errors import DataError
from pieria.evaluation.scorecard import Figure, Scorecard, plain
from pieria.models.contract import Discriminates, Model, device_of, learned_numbers

if TYPE_CHECKING:
    from pieria.modalities.opening import Dataset

TOGETHER = 256  # texts read at once
MOST_TEXTS = 200_000  # that a baseline learns from
WORD = r"(?u)\w+(?:'\w+)?|[^\w\s]"
BETA = 0.25  # NB-SVM: how far from equal weights, as its paper recommends
NAMES = {"classes": "NB-SVM on words and their pairs", "numbers": "ridge regression on words and their pairs"}


@runtime_checkable
class Targets(Protocol):
    """A modality of texts with targets."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes by their codes; empty for a number."""


def scorecard(model: Model, dataset: "Dataset", *, split: str, seed: int, cost: dict[str, Any]) -> Scorecard:
    """Accuracy, F1 and confusion of classes, error and correlation of numbers, and nats, each beside the baseline's."""
    assert isinstance(model, Discriminates)
    assert isinstance(dataset.modality, Targets)
    held, classes = dataset.examples(split), dataset.modality.classes
    if len(held) < 2:
        raise DataError(f"the {split} part has {len(held)} text(s)", "two or more", "Give more data")
    law, truth = judged(model, held), _targets(held)
    train, texts = dataset.parts["train"], list(dataset.parts[split].prompts or ())
    known = _targets(dataset.examples("train"))[:MOST_TEXTS]
    learned = list(train.prompts or ())[:MOST_TEXTS]
    if classes:
        figures, words, about = _of_classes(law, truth.astype(int), learned, known.astype(int), texts, classes, split)
    else:
        column = model.form.columns[0]  # type: ignore[attr-defined]  # a row of one column
        figures, words, about = _of_numbers(law, truth, learned, known, texts, column.scale, split)
    figures.append(Figure("parameters", float(learned_numbers(model)[0]), "numbers", note=learned_numbers(model)[1]))
    if cost.get("seconds") is not None:
        figures.append(Figure("training time", float(cost["seconds"]), "s"))
    if cost.get("joules") is not None:
        note = f"energy: {cost.get('source', 'source not stated')}"
        figures.append(Figure("training energy", float(cost["joules"]), "J", note=note))
    words.append(
        "This model is discriminative: these figures are of targets given texts, and none says how probable a text is."
    )
    if split == "train":
        words.append("They are taken on the training data themselves, and say nothing about new texts.")
    said = {"data": dataset.name, "split": split, "form": "row", "family": type(model).__name__, "seed": seed}
    return Scorecard(
        figures, words, neural=True, about={**said, "baseline": NAMES["classes" if classes else "numbers"], **about}
    )


def judged(model: Model, examples: Examples) -> np.ndarray:
    """What the model says of every text: float64 ``[text, class]``, or ``[text, 2]`` of mean and deviation."""
    device, found = device_of(model), []
    with torch.no_grad():
        for batch in examples.sweep(TOGETHER):
            assert batch.condition is not None
            found.append(cast(Discriminates, model).tell(batch.condition.to(device)).cpu().numpy())
    return np.concatenate(found)


def _targets(examples: Examples) -> np.ndarray:
    return np.concatenate([batch.x[:, 0].double().numpy() for batch in examples.sweep(4096)])


# ---- classes ---------------------------------------------------------------------------------------------------------


def _of_classes(
    law: np.ndarray,
    truth: np.ndarray,
    learned: list[str],
    known: np.ndarray,
    texts: list[str],
    classes: Sequence[str],
    split: str,
) -> tuple[list[Figure], list[str], dict[str, Any]]:
    told, count = law.argmax(axis=1), len(truth)
    other = nb_svm(learned, known, texts)
    frequent = Counter(known.tolist()).most_common(1)[0][0]
    share = np.bincount(known, minlength=len(classes)) / len(known)
    share = (share * len(known) + 1) / (len(known) + len(classes))
    right = told == truth
    note = f"the baseline is {NAMES['classes']}"
    nats = -np.log(np.maximum(law[np.arange(count), truth], 1e-300))
    low, high = _interval(right)
    figures = [
        _figure("accuracy", 100 * right.mean(), "%", "higher", split, count, 100 * (other == truth).mean(), note, low, high),
        _figure("F1", f1(told, truth), "macro", "higher", split, count, f1(other, truth), f"mean over classes; {note}"),
        Figure(
            "accuracy of the most frequent class", 100 * float((truth == frequent).mean()), "%", better="higher",
            split=split, count=count, note=f"always {classes[frequent]!r}",
        ),
        Figure(
            "nats per target", float(nats.mean()), "nats", "exact", "lower", split, count,
            baseline=float(-np.log(share[truth]).mean()), note="the baseline is how frequent each class is",
        ),
    ]  # fmt: skip
    confusion = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(confusion, (truth, told), 1)
    words = [_winner("accuracy", figures[0], NAMES["classes"])]
    if len(classes) <= 12:
        rows = [
            f"{name!r}: " + ", ".join(f"{n:,} as {classes[k]!r}" for k, n in enumerate(row) if n)
            for name, row in zip(classes, confusion.tolist(), strict=True)
        ]
        words.append("Confusion, what each class was told to be: " + "; ".join(rows) + ".")
    both = int((right & (other == truth)).sum())
    words.append(
        f"Of {count:,} texts both are right on {both:,}, only the network on {int(right.sum()) - both:,}, only the baseline "
        f"on {int((other == truth).sum()) - both:,}."
    )
    return figures, words, {"classes": list(classes), "confusion": confusion.tolist()}


def nb_svm(texts: Sequence[str], classes: np.ndarray, asked: Sequence[str]) -> np.ndarray:
    """The class of each text ``asked``, by NB-SVM on which words and pairs of words it has (Wang & Manning 2012).

    One class against the rest: with counts of texts that have a feature, p in the class and q in the others, each one more,
    features are weighted by r = log((p / |p|) / (q / |q|)); the machine's weights w become (1 - β) mean |w| + β w.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.svm import LinearSVC

    counter = CountVectorizer(ngram_range=(1, 2), token_pattern=WORD, binary=True)
    seen, new = counter.fit_transform(texts), counter.transform(asked)
    names = np.unique(classes)
    if len(names) == 1:
        return np.full(len(asked), names[0])
    scores = []
    for name in names if len(names) > 2 else names[1:]:
        inside = classes == name
        p, q = (1 + np.asarray(seen[rows].sum(axis=0)).ravel() for rows in (inside, ~inside))
        ratio = np.log(p / p.sum()) - np.log(q / q.sum())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            machine = LinearSVC(C=1.0, random_state=0).fit(seen.multiply(ratio).tocsr(), inside)
        weights = (1 - BETA) * np.abs(machine.coef_).mean() + BETA * machine.coef_.ravel()
        scores.append(new @ (ratio * weights) + machine.intercept_[0])
    if len(names) == 2:
        return names[(scores[0] > 0).astype(int)]
    return names[np.argmax(np.stack(scores), axis=0)]


def f1(told: np.ndarray, truth: np.ndarray) -> float:
    """The mean over classes of the harmonic mean of precision and recall; 0 for a class that was never told right."""
    from sklearn.metrics import f1_score

    return float(f1_score(truth, told, average="macro", zero_division=0.0))


# ---- numbers ---------------------------------------------------------------------------------------------------------


def _of_numbers(
    law: np.ndarray,
    truth: np.ndarray,
    learned: list[str],
    known: np.ndarray,
    texts: list[str],
    scale: float,
    split: str,
) -> tuple[list[Figure], list[str], dict[str, Any]]:
    mean, width, count = law[:, 0], law[:, 1], len(truth)
    other = _ridge(learned, known, texts)
    note = f"the baseline is {NAMES['numbers']}"
    # a table's own units: the density of a number is divided by its scale
    nats = 0.5 * ((truth - mean) / width) ** 2 + np.log(width * scale) + 0.5 * np.log(2 * np.pi)
    spread = max(float(known.std()), 1e-9)
    simple = 0.5 * ((truth - known.mean()) / spread) ** 2 + np.log(spread * scale) + 0.5 * np.log(2 * np.pi)
    inside = np.abs(truth - mean) <= 1.96 * width
    figures = [
        _figure("root-mean-square error", scale * _rms(truth - mean), "target's unit", "lower", split, count,
                scale * _rms(truth - other), note),
        _figure("correlation r", _correlation(truth, mean), "", "higher", split, count, _correlation(truth, other), note),
        Figure("error of the mean", scale * _rms(truth - known.mean()), "target's unit", split=split, count=count,
               note="root-mean-square error of always saying the mean of the training part"),
        Figure("coverage of 95 % intervals", 100 * float(inside.mean()), "%", better="higher", split=split, count=count,
               note="95 % would be right"),
        Figure("nats per target", float(nats.mean()), "nats", "exact", "lower", split, count, baseline=float(simple.mean()),
               note="a density in the target's unit; the baseline is one normal law for all"),
    ]  # fmt: skip
    return figures, [_winner("error", figures[0], NAMES["numbers"])], {}


def _ridge(texts: Sequence[str], targets: np.ndarray, asked: Sequence[str]) -> np.ndarray:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge

    counter = TfidfVectorizer(ngram_range=(1, 2), token_pattern=WORD, sublinear_tf=True)
    seen = counter.fit_transform(texts)
    found: np.ndarray = (
        Ridge(alpha=1.0, solver="sparse_cg", random_state=0).fit(seen, targets).predict(counter.transform(asked))
    )
    return found


def _rms(errors: np.ndarray) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0


# ---- both ------------------------------------------------------------------------------------------------------------


def _figure(
    name: str, value: float, unit: str, better: Any, split: str, count: int, baseline: float, note: str,
    low: float | None = None, high: float | None = None,
) -> Figure:  # fmt: skip
    return Figure(
        name, float(value), unit, "measure", better, split, count, baseline=float(baseline), low=low, high=high, note=note
    )


def _interval(right: np.ndarray) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, in per cent."""
    n, share, z = len(right), right.mean(), 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return 100 * float(middle - half), 100 * float(middle + half)


def _winner(what: str, figure: Figure, baseline: str) -> str:
    assert figure.value is not None
    assert figure.baseline is not None
    own, other = plain(figure.value), plain(figure.baseline)
    if figure.value == figure.baseline:
        return f"Baseline: as good as {baseline}, {own} {figure.unit} ({what})."
    better = figure.value > figure.baseline if figure.better == "higher" else figure.value < figure.baseline
    if better:
        return f"Baseline: it beats {baseline}, {own} against {other} {figure.unit} ({what})."
    return f"Baseline: {baseline} wins, {other} against {own} {figure.unit} ({what}), and takes seconds to fit."
