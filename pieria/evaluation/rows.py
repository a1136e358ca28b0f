"""Figures of table rows: columns and pairs of columns, usefulness for prediction, distance to the closest record.

Numbers are compared by their rank among the training values, so that no unit and no outlier outweighs the rest.
"""

from functools import cached_property

import numpy as np
import torch
from scipy.stats import ks_2samp
from torch import Tensor

from pieria.data.examples import Examples, without_condition
from pieria.evaluation.comparison import (
    Comparison,
    Nearness,
    copies_by_ratio,
    everything,
    nats,
    nearest,
    spread,
)
from pieria.evaluation.distances import EnergyDistance, mean_interval
from pieria.evaluation.scorecard import Figure, likelihood_name
from pieria.forms import Column, Row
from pieria.models.contract import Model, Scores

MOST_SCORED = 20_000
MOST_SEARCHED = 200_000
MOST_LEVELS = 64
BINS = 8
CODES = 1 << 20  # more than a column has categories, so that a pair of codes is one number


def nats_of(model: Model, examples: Examples, most: int = MOST_SCORED, size: int = 1_000) -> np.ndarray:
    """Minus ``log_prob`` of each row, in the table's own units.

    A density of ``(value - shift) / scale`` is one of the value after division by ``scale``: the nats of a row grow by
    ``log scale`` for each number in it that is not missing.
    """
    form = examples.form
    assert isinstance(form, Row)
    places = spread(len(examples), most)
    batches = (examples.batch(places[start : start + size]) for start in range(0, len(places), size))
    return np.concatenate([(nats(model, batch) + jacobian(form, batch.x)).numpy() for batch in batches])


def jacobian(form: Row, x: Tensor) -> Tensor:
    """What each row's nats grow by when its numbers go back to the table's own units, float64 ``[row]``."""
    total = torch.zeros(len(x), dtype=torch.float64)
    for place, column in enumerate(form.columns):
        if column.kind in ("number", "integer"):
            missing = form.missing_of(place)
            there = 1.0 if missing is None else 1.0 - x[:, missing].double()
            total = total + there * float(np.log(column.scale))
    return total


def figures(model: Model, held: Examples, baseline: Model | None, split: str) -> list[Figure]:
    """Nats per row in the table's own units, with the baseline's beside them."""
    if not isinstance(model, Scores) or model.likelihood == "none":
        return []
    each = nats_of(model, held)
    mean, low, high = mean_interval(each)
    note = "in the table's own units, integers as densities; it can be below zero"
    if len(each) < len(held):
        note += f"; {len(each):,} of {len(held):,} rows, spread evenly"
    return [
        Figure(
            likelihood_name("nats per row", model.likelihood),
            mean,
            "nats",
            model.likelihood,
            "lower",
            split,
            len(each),
            baseline=None if baseline is None else float(nats_of(baseline, without_condition(held)).mean()),
            low=low,
            high=high,
            note=note,
        )
    ]


class RowComparison(Comparison):
    """Likeness and novelty in a space where each number is its rank and each category a corner of a simplex."""

    likeness_unit = "energy"
    likeness_note = "energy coefficient of rows, numbers by rank; 0 the same, 1 nothing in common"

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the form."""
        assert isinstance(self.form, Row)
        return self.form.columns

    @cached_property
    def _training(self) -> Tensor:
        return everything(self.training, MOST_SEARCHED)

    @cached_property
    def _sorted(self) -> list[np.ndarray]:
        """The training values of each column in order, where they are not missing."""
        return [np.sort(self._values(self._training, place)) for place in range(len(self.columns))]

    def _values(self, x: Tensor, place: int) -> np.ndarray:
        """One column of ``x`` without its missing values, integers on the integers."""
        assert isinstance(self.form, Row)
        missing = self.form.missing_of(place)
        rows = x if missing is None else x[x[:, missing] < 0.5]
        return self._whole(rows[:, place].double().numpy(), self.columns[place])

    @staticmethod
    def _whole(values: np.ndarray, column: Column) -> np.ndarray:
        # float32 holds (value - shift) / scale: rounding in the original unit makes equal integers equal again
        if column.kind != "integer":
            return values
        return (np.round(values * column.scale + column.shift) - column.shift) / column.scale

    def _ranks(self, x: Tensor, place: int) -> np.ndarray:
        """Each value's rank among the training values, 0 to 1; the middle where it is missing."""
        assert isinstance(self.form, Row)
        known = self._sorted[place]
        if not len(known):
            return np.full(len(x), 0.5)
        values = self._whole(x[:, place].double().numpy(), self.columns[place])
        below, above = np.searchsorted(known, values, "left"), np.searchsorted(known, values, "right")
        ranks = (below + above) / (2 * len(known))
        missing = self.form.missing_of(place)
        return ranks if missing is None else np.where(x[:, missing].numpy() > 0.5, 0.5, ranks)

    def embedded(self, x: Tensor) -> Tensor:
        """Rows as points: a difference of one category weighs as much as one over the whole range of a number."""
        parts = []
        for place, column in enumerate(self.columns):
            if column.kind in ("number", "integer"):
                parts.append(torch.from_numpy(self._ranks(x, place)).float()[:, None])
            elif column.kind == "missing":
                parts.append(x[:, place : place + 1])
            else:
                codes = x[:, place].long()
                levels = column.levels or int(self._training[:, place].max()) + 1
                if levels > MOST_LEVELS:  # the frequent ones each for itself, the rest together
                    frequent = torch.bincount(self._training[:, place].long(), minlength=levels).argsort(descending=True)
                    renamed = torch.full((levels,), MOST_LEVELS - 1)
                    renamed[frequent[: MOST_LEVELS - 1]] = torch.arange(MOST_LEVELS - 1)
                    codes, levels = renamed[codes], MOST_LEVELS
                parts.append(torch.nn.functional.one_hot(codes, levels).float() / 2**0.5)
        return torch.cat(parts, dim=1)

    @cached_property
    def _points(self) -> dict[str, Tensor]:
        return {name: self.embedded(getattr(self, name)) for name in ("held", "made", "seen")}

    def distance(self, first: str, second: str) -> tuple[EnergyDistance, int, int]:
        """The energy distance between two sets of rows."""
        a, b = (self._points[name].double().numpy() for name in (first, second))
        return EnergyDistance(a, b), len(a), len(b)

    @cached_property
    def _distances(self) -> dict[str, np.ndarray]:
        training = self.embedded(self._training)
        return {name: nearest(self._points[name], training) for name in ("made", "held")}

    @cached_property
    def nearness(self) -> Nearness:
        """Distance to the closest training record."""
        made, held = self._distances["made"], self._distances["held"]
        near, usual = copies_by_ratio(made, held)
        note = "near: the distance to the closest training record, numbers by rank; a copy is near to one alone"
        return Nearness(made[:, 0], held[:, 0], near, usual, 0.1, note)

    def features(self, which: str) -> np.ndarray:
        """The columns themselves, integers whole and missing numbers as NaN, which trees can read."""
        assert isinstance(self.form, Row)
        x = getattr(self, which)
        columns = []
        for place, column in enumerate(self.columns):
            values = self._whole(x[:, place].double().numpy(), column)
            missing = self.form.missing_of(place)
            columns.append(values if missing is None else np.where(x[:, missing].numpy() > 0.5, np.nan, values))
        return np.column_stack(columns)

    # ---- what tables are judged by ----

    def column_distances(self, which: str) -> dict[str, float]:
        """Each column's distance to the held-out rows: Kolmogorov-Smirnov for numbers, total variation for categories."""
        x, found = getattr(self, which), {}
        for place, column in enumerate(self.columns):
            real, made = self._values(self.held, place), self._values(x, place)
            if column.kind in ("number", "integer"):
                found[column.name] = float(ks_2samp(real, made).statistic) if len(real) and len(made) else 1.0
            else:
                name = column.name if column.kind == "category" else f"{column.name} (missing)"
                found[name] = _variation(real.astype(int), made.astype(int))
        return found

    def pair_distances(self, which: str, most: int = 200) -> np.ndarray:
        """The total variation between the joint distributions of pairs of columns, numbers in eighths of their ranks."""
        real, made = self._binned(self.held), self._binned(getattr(self, which))
        pairs = [(i, j) for i in range(real.shape[1]) for j in range(i)]
        chosen = spread(len(pairs), most)
        return np.asarray(
            [
                _variation(real[:, i] * CODES + real[:, j], made[:, i] * CODES + made[:, j])
                for i, j in (pairs[place] for place in chosen)
            ]
        )

    def _binned(self, x: Tensor) -> np.ndarray:
        columns = []
        for place, column in enumerate(self.columns):
            if column.kind in ("number", "integer"):
                columns.append(np.minimum((self._ranks(x, place) * BINS).astype(int), BINS - 1))
            else:
                columns.append(x[:, place].long().numpy())
        return np.column_stack(columns)

    def figures(self, split: str, target: str | None) -> tuple[list[Figure], dict[str, float]]:
        """Columns, pairs, usefulness and closest records; and each column's own distance by name."""

        def figure(name: str, value: float, floor: float, note: str, better: str = "lower", unit: str = "") -> Figure:
            return Figure(
                name,
                value,
                unit,
                "measure",
                "higher" if better == "higher" else "lower",
                split,
                len(self.made),
                self.seed,
                floor=floor,
                note=note,
            )

        own, usual = self.column_distances("made"), self.column_distances("seen")
        worst = max(own, key=lambda name: own[name])
        found = [
            figure(
                "column distance, mean",
                float(np.mean([*own.values()])),
                float(np.mean([*usual.values()])),
                "Kolmogorov-Smirnov for numbers, total variation for categories; 0 the same, 1 nothing in common",
            ),
            figure("column distance, worst", own[worst], max(usual.values()), f"the worst column is {worst!r}"),
        ]
        if len(self.columns) > 1:
            found.append(
                figure(
                    "pair distance, mean",
                    float(self.pair_distances("made").mean()),
                    float(self.pair_distances("seen").mean()),
                    "total variation between joint distributions of two columns, numbers in eighths of their ranks",
                )
            )
        useful = self.usefulness(target)
        if useful is not None:
            found.append(figure(useful[0], useful[1], useful[2], useful[3], "higher", useful[4]))
        made, held = self._distances["made"][:, 0], self._distances["held"][:, 0]
        found.append(
            figure(
                "distance to closest record, median",
                float(np.median(made)),
                float(np.median(held)),
                "much below real data means copies; much above, rows unlike any real one",
                "higher",
            )
        )
        return found, own

    def usefulness(self, target: str | None) -> tuple[str, float, float, str, str] | None:
        """Train on synthetic, test on real: name, value, the same trained on as many real rows, note, unit.

        The target is the named column, else the last category. Jordon, Yoon and van der Schaar 2018.
        """
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
        from sklearn.metrics import accuracy_score, r2_score, roc_auc_score

        names = [column.name if column.kind != "missing" else "" for column in self.columns]
        if target and target in names:
            place = names.index(target)
        else:
            categories = [place for place, column in enumerate(self.columns) if column.kind == "category"]
            if not categories or len(self.columns) < 2:
                return None
            place = categories[-1]
        column = self.columns[place]
        own_gap = self.form.missing_of(place) if isinstance(self.form, Row) else None
        others = [other for other in range(len(self.columns)) if other not in (place, own_gap)]

        def parts(which: str) -> tuple[np.ndarray, np.ndarray]:
            table = self.features(which)
            there = np.isfinite(table[:, place])
            return table[there][:, others], table[there, place]

        test_x, test_y = parts("held")

        def score(which: str) -> float:
            x, y = parts(which)
            settings = {"max_iter": 60, "learning_rate": 0.15, "max_leaf_nodes": 15, "random_state": self.seed}
            if column.kind != "category":
                return float(r2_score(test_y, HistGradientBoostingRegressor(**settings).fit(x, y).predict(test_x)))
            counts = {code: int((y == code).sum()) for code in np.unique(y)}
            kept = np.isin(y, [code for code, n in counts.items() if n >= 2])
            x, y = x[kept], y[kept]
            if len(np.unique(y)) < 2:  # one class only: such rows teach nothing
                return 0.5 if two else float((test_y == (y[0] if len(y) else -1)).mean())
            judge = HistGradientBoostingClassifier(**settings).fit(x, y)
            if two:
                return float(roc_auc_score(test_y == 1, judge.predict_proba(test_x)[:, list(judge.classes_).index(1)]))
            return float(accuracy_score(test_y, judge.predict(test_x)))

        # of three classes the samples may lack the second, so what the held-out rows happen to hold does not decide alone
        two = column.levels == 2 and set(np.unique(test_y)) == {0.0, 1.0}
        if column.kind == "category" and len(np.unique(test_y)) < 2:
            return None
        unit = "R²" if column.kind != "category" else "AUC" if two else "accuracy"
        note = f"gradient boosting predicts {column.name!r}; real data: trained on as many real rows"
        return "train on synthetic, test on real", score("made"), score("seen"), note, unit


def _variation(a: np.ndarray, b: np.ndarray) -> float:
    """Half the sum of absolute differences between two distributions over codes."""
    names, codes = np.unique(np.concatenate([a, b]), return_inverse=True)
    p = np.bincount(codes[: len(a)], minlength=len(names)) / max(len(a), 1)
    q = np.bincount(codes[len(a) :], minlength=len(names)) / max(len(b), 1)
    return float(np.abs(p - q).sum() / 2)
