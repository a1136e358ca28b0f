"""Who is in the data, who is in the samples, and how well each is served.

A sample's group is read from it where the group is a column of the table, or where the model drew under it as its label.
Elsewhere a classifier, trained on held-out items, says it, and how often it is right on those that it was not trained on
stands beside (cross-validation).
"""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pieria.data.batch import Batch
from pieria.data.examples import Examples
from pieria.errors import unknown
from pieria.evaluation import comparison
from pieria.evaluation.comparison import Comparison, held_out, spread
from pieria.evaluation.distances import share_interval
from pieria.evaluation.rows import RowComparison, jacobian
from pieria.evaluation.scorecard import plain
from pieria.forms import Label, Row
from pieria.models.contract import Model, Scores

if TYPE_CHECKING:
    from pieria.modalities.opening import Dataset

FEWEST = 10
MOST_GROUPS = 30


def group_shares(
    dataset: "Dataset", compared: Comparison, model: Model, group: str, split: str, seed: int
) -> dict[str, Any]:
    """Each group's share in training data and in samples with its interval, its likelihood, and its likeness.

    Raises `UsageError` with the known names for an unknown ``group``.
    """
    training, held = dataset.examples("train"), dataset.examples(split)
    refuse_unknown(dataset, training, group, split)
    label = training.condition if isinstance(training.condition, Label) else None
    right = None
    if group in _columns(training):
        assert isinstance(compared, RowComparison)
        assert isinstance(compared.form, Row)
        place = [c.name for c in compared.form.columns].index(group)
        edges = _edges(compared, place)
        x_train = training.batch(spread(len(training), 50_000)).x
        names = {
            which: _of_column(dataset, compared, x, place, edges, group)
            for which, x in (("train", x_train), ("held", compared.held), ("made", compared.made))
        }
        how = "read from the column"
    elif group == "label" and label is not None:
        classes = np.asarray(label.classes)
        drawn_under = model.condition is not None
        rows = spread(len(training), 50_000)
        held_codes = held_out(held, len(compared.held)).condition
        assert held_codes is not None
        train_codes = training.batch(rows).condition
        assert train_codes is not None
        names = {"train": classes[train_codes.numpy()], "held": classes[held_codes.numpy()]}
        if drawn_under:
            names["made"] = names["held"][np.arange(len(compared.made)) % len(names["held"])]
            how = "drawn under this label, in the shares of the held-out data"
        else:
            names["made"], right = _judged(compared, held_codes.numpy(), classes, seed)
            how = "told by a classifier"
    else:
        parts = {name: dataset.parts[name].groups[group] for name in ("train", split)}
        everyone = np.asarray([str(value) for value in parts["train"]])
        values = np.asarray([str(value) for value in parts[split]])[spread(len(held), len(compared.held))]
        classes, codes = np.unique(values, return_inverse=True)
        made, right = _judged(compared, codes, classes, seed)
        names, how = {"train": everyone, "held": values, "made": made}, "told by a classifier"
    found: dict[str, Any] = {"column": group, "how": how, "classifier_accuracy": right, "groups": {}}
    nats = _nats(model, compared)
    common = sorted(set(names["train"]), key=lambda name: -int((names["train"] == name).sum()))
    for name in common[:MOST_GROUPS]:
        mine = {which: values == name for which, values in names.items()}
        one: dict[str, Any] = {}
        for word, which in (("data", "train"), ("samples", "made")):
            low, high = share_interval(float(mine[which].sum()), len(mine[which]))
            one[word] = {"share": float(mine[which].mean()), "low": low, "high": high, "count": len(mine[which])}
        if nats is not None and mine["held"].sum() >= FEWEST:
            one["nats"] = float(nats[mine["held"]].mean())
        one["likeness"] = _likeness(compared, mine["held"], mine["made"])
        found["groups"][str(name)] = one
    if len(common) > MOST_GROUPS:
        found["left_out"] = f"{len(common) - MOST_GROUPS} smaller groups"
    return found


def refuse_unknown(dataset: "Dataset", training: Examples, group: str, split: str) -> None:
    """Raise `UsageError` with the known names unless ``group`` is a column, a group of both parts, or "label"."""
    seen, held = (getattr(dataset.parts.get(name), "groups", {}) for name in ("train", split))
    known = [*_columns(training), *(name for name in seen if name in held)]
    if isinstance(training.condition, Label):
        known.append("label")
    if group not in known:
        raise unknown("group", group, known, "Name a column of the table, or 'label' where the data have classes")


def _columns(training: Examples) -> list[str]:
    return [c.name for c in training.form.columns if c.kind != "missing"] if isinstance(training.form, Row) else []


def _edges(compared: RowComparison, place: int) -> np.ndarray | None:
    """Quartiles of a column of numbers with many values; None for one whose values are groups themselves."""
    column = compared.columns[place]
    values = compared._sorted[place]
    if column.kind == "category" or len(np.unique(values)) <= 12:
        return None
    return np.unique(np.quantile(values, [0.25, 0.5, 0.75]))


def _of_column(
    dataset: "Dataset", compared: RowComparison, x: torch.Tensor, place: int, edges: np.ndarray | None, group: str
) -> np.ndarray:
    column = compared.columns[place]
    values = compared._whole(x[:, place].double().numpy(), column)
    if edges is not None:
        ends = [plain(float(edge * column.scale + column.shift)) for edge in edges]
        words = [f"up to {ends[0]}", *[f"{a} to {b}" for a, b in pairwise(ends)], f"above {ends[-1]}"]
        found = np.asarray(words, dtype=object)[np.searchsorted(edges, values)]
    else:
        found = np.empty(len(values), dtype=object)
        for value in np.unique(values):
            rows = np.flatnonzero(values == value)
            found[rows] = _spelled(dataset, x[rows[:1]], group, float(value * column.scale + column.shift))
    assert isinstance(compared.form, Row)
    missing = compared.form.missing_of(place)
    return found if missing is None else np.where(x[:, missing].numpy() > 0.5, "missing", found)


def _spelled(dataset: "Dataset", row: torch.Tensor, group: str, value: float) -> str:
    """The value as the table has it, where the modality can say so."""
    decode = getattr(dataset.modality, "decode", None)
    artifact = decode(row)[0] if decode is not None else {}
    return str(artifact[group]) if isinstance(artifact, dict) and group in artifact else plain(value)


def _judged(compared: Comparison, codes: np.ndarray, classes: np.ndarray, seed: int) -> tuple[np.ndarray, float | None]:
    """The group of each sample by a classifier on the form's features, and its cross-validated accuracy."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(codes)) < 2:  # nothing to tell apart
        return np.full(len(compared.made), classes[codes[0]]), None
    x = np.nan_to_num(compared.features("held"))
    judge = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000, random_state=seed))
    fewest = int(np.bincount(codes)[np.unique(codes)].min())
    right = float(cross_val_score(judge, x, codes, cv=min(5, fewest)).mean()) if fewest >= 2 else None
    judge.fit(x, codes)
    return classes[judge.predict(np.nan_to_num(compared.features("made")))], right


def _nats(model: Model, compared: Comparison) -> np.ndarray | None:
    if not isinstance(model, Scores) or model.likelihood == "none" or model.condition is not None:
        return None
    # in parts: a bound takes many passes for each item
    parts = [comparison.nats(model, Batch(x=x)) for x in compared.held.split(100)]
    nats = torch.cat(parts)
    if isinstance(compared.form, Row):
        nats = nats + jacobian(compared.form, compared.held)
    return nats.numpy()


def _likeness(compared: Comparison, held: np.ndarray, made: np.ndarray) -> float | None:
    """The distance of a group's samples to its held-out items; None where there are too few to say."""
    if min(held.sum(), made.sum()) < FEWEST:
        return None
    statistic, n, m = compared.distance("held", "made")
    if n != len(held) or m != len(made):
        return None
    return statistic(held / held.sum(), made / made.sum())
