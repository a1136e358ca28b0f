"""The two-sample classifier: can a machine tell samples from held-out data?

A classifier is trained to tell them apart and asked about items it has not seen (five folds). The area under its ROC curve
is the chance that it ranks a random sample above a random real item: 0.5 when it cannot tell, 1 when it always can.
Lopez-Paz and Oquab 2017, https://arxiv.org/abs/1610.06545.
"""

import warnings

import numpy as np

from pieria.evaluation.comparison import Comparison
from pieria.evaluation.scorecard import Figure
from pieria.forms import Row


def told_apart(real: np.ndarray, made: np.ndarray, seed: int, trees: bool) -> float:
    """Cross-validated area under the ROC curve, between 0 and 1; the features are standardised within each fold."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # as many of each, so that the classifier learns what they are and not how many
    size = min(len(real), len(made))
    x = np.concatenate([real[:size], made[:size]])
    y = np.concatenate([np.zeros(size), np.ones(size)])
    judge = (
        HistGradientBoostingClassifier(max_iter=60, learning_rate=0.15, max_leaf_nodes=15, random_state=seed)
        if trees
        else make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=200))
    )
    folds = StratifiedKFold(min(5, size), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # a constant column, or an optimiser that wanted more steps, is no reason to stop: the area is still honest
        warnings.simplefilter("ignore")
        judged = cross_val_predict(judge, x, y, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(y, judged))


def area_interval(area: float, n: int, m: int) -> tuple[float, float]:
    """The 95 % interval of an area under the curve by Hanley and McNeil's formula (1982)."""
    q1, q2 = area / (2 - area), 2 * area * area / (1 + area)
    variance = (area * (1 - area) + (n - 1) * (q1 - area * area) + (m - 1) * (q2 - area * area)) / (n * m)
    half = 1.96 * float(np.sqrt(max(variance, 0.0)))
    return max(0.0, area - half), min(1.0, area + half)


def two_sample(sets: Comparison, split: str) -> Figure:
    """The classifier's area for samples against held-out data, beside that for training items against them."""
    trees = isinstance(sets.form, Row)
    held, made, seen = sets.features("held"), sets.features("made"), sets.features("seen")
    area = told_apart(held, made, sets.seed, trees)
    size = min(len(held), len(made))
    low, high = area_interval(area, size, size)
    return Figure(
        "two-sample classifier",
        area,
        "AUC",
        "measure",
        "lower",
        split,
        size,
        sets.seed,
        floor=told_apart(held, seen, sets.seed, trees),
        low=low,
        high=high,
        note=f"{'gradient boosting on columns' if trees else 'logistic regression on features'}, 5 folds; 0.5: cannot tell",
    )
