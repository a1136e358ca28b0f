"""Distances between two sets of points, and how to say how sure one is of them.

Everything takes two float64 arrays ``[n, d]`` and ``[m, d]`` of points in the same space, the real ones first.
"""

from collections.abc import Callable

import numpy as np
from scipy import linalg
from scipy.spatial.distance import cdist

AT_ONCE = 1_000  # rows of a matrix of pairs held at once


def frechet(real: np.ndarray, made: np.ndarray) -> float:
    """Fréchet distance between two normal distributions with the sets' means and covariances.

    ``|μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½)``; it shrinks as the sets grow, so the floor is taken with sets of the same
    size. With fewer points than dimensions the covariances have no full rank: the distance is still defined, and much
    larger. Heusel et al. 2017, https://arxiv.org/abs/1706.08500.

    Where ``Σᵢ = AᵢᵀAᵢ``, the trace of the root is the sum of the singular values of ``A₁A₂ᵀ``: no covariance is formed and
    no root is taken of an eigenvalue that should be 0 and is not for rounding.
    """
    gap = real.mean(axis=0) - made.mean(axis=0)
    first, second = _root(real), _root(made)
    cross = linalg.svdvals(first @ second.T, overwrite_a=True, check_finite=False).sum()
    return float(gap @ gap + np.square(first).sum() + np.square(second).sum() - 2 * cross)


def _root(points: np.ndarray) -> np.ndarray:
    """``A`` with ``AᵀA`` the covariance of points ``[n, d]``, and at most ``min(n, d)`` rows."""
    centred = (points - points.mean(axis=0)) / np.sqrt(max(len(points) - 1, 1))
    if len(centred) <= centred.shape[1]:
        return centred
    upper: np.ndarray = linalg.qr(centred, mode="r", overwrite_a=True, check_finite=False)[0][: centred.shape[1]]
    return upper


def kernel_distance(real: np.ndarray, made: np.ndarray) -> float:
    """Squared maximum mean discrepancy with the kernel ``(x·y / d + 1)³``, unbiased, so it can be a little below zero.

    Over all pairs, where other programs average over subsets. Bińkowski et al. 2018, https://arxiv.org/abs/1801.01401 (KID).
    """
    return kernel_interval(real, made)[0]


def kernel_interval(real: np.ndarray, made: np.ndarray) -> tuple[float, float]:
    """`kernel_distance` and half the width of its 95 % interval, from how much each point adds to it (jackknife)."""
    n, m = len(real), len(made)
    rr, mm = _within(real), _within(made)
    rm, mr = _kernel_sums(real, made)
    rm, mr = rm / m, mr / n
    value = rr.mean() + mm.mean() - 2 * rm.mean()
    spread = 4 * np.var(rr - rm, ddof=1) / n + 4 * np.var(mm - mr, ddof=1) / m
    return float(value), float(1.96 * np.sqrt(spread))


def _within(points: np.ndarray) -> np.ndarray:
    """The mean kernel of each point with all others, ``[n]``."""
    itself = (np.square(points).sum(axis=1) / points.shape[1] + 1) ** 3
    return (_kernel_sums(points, points)[0] - itself) / max(len(points) - 1, 1)


def _kernel_sums(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the kernels of each point of ``a`` with all of ``b``, ``[n]``; and of each point of ``b``, ``[m]``."""
    rows, columns = np.empty(len(a)), np.zeros(len(b))
    for start in range(0, len(a), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        inner = a[part] @ b.T / a.shape[1] + 1
        kernel = inner * inner * inner
        rows[part] = kernel.sum(axis=1)
        columns += kernel.sum(axis=0)
    return rows, columns


def prdc(real: np.ndarray, made: np.ndarray, k: int = 5) -> dict[str, float]:
    """Precision, recall, density and coverage by the balls that reach to each point's k-th nearest neighbour.

    Precision: the share of made points inside some real ball; recall: the share of real points inside some made ball
    (Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991). Density: in how many real balls a made point lies,
    over k; coverage: the share of real balls with a made point inside (Naeem et al. 2020,
    https://arxiv.org/abs/2002.09797). A point on the edge of a ball lies outside.
    """
    k = min(k, len(real) - 1, len(made) - 1)
    middle = real.mean(axis=0)
    real, made = real - middle, made - middle
    real_radius, made_radius = _radius(real, k), _radius(made, k)
    balls, inside_made, covered = np.zeros(len(made)), np.empty(len(real), bool), np.empty(len(real), bool)
    for start in range(0, len(real), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        between = _squares(real[part], made)
        inside = between < real_radius[part, None]
        balls += inside.sum(axis=0)
        inside_made[part] = (between < made_radius[None, :]).any(axis=1)
        covered[part] = inside.any(axis=1)
    return {
        "precision": float((balls > 0).mean()),
        "recall": float(inside_made.mean()),
        "density": float(balls.mean() / k),
        "coverage": float(covered.mean()),
    }


def _radius(points: np.ndarray, k: int) -> np.ndarray:
    """The squared distance from each point to its k-th nearest other one, less than rounding can tell: ``[n]``."""
    found = np.empty(len(points))
    for start in range(0, len(points), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        # column 0 of the sorted distances is the point itself
        found[part] = np.partition(_squares(points[part], points), k, axis=1)[:, k]
    # where items repeat, distances are equal: what lies on the edge must not be inside by the last digit of a sum
    return found * (1 - 1e-9)


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances ``[n, m]`` by one product of matrices; 0 where two points are equal but for rounding."""
    first, second = np.square(a).sum(axis=1), np.square(b).sum(axis=1)
    found = first[:, None] + second[None, :] - 2 * (a @ b.T)
    found[found < 1e-11 * (first[:, None] + second[None, :])] = 0.0
    return found


def inception_score(logits: np.ndarray, parts: int = 10) -> tuple[float, float]:
    """``exp E KL(p(y|x) ‖ p(y))`` of class logits ``[n, class]``: mean and spread over ``parts`` parts of equal size.

    From 1 (every picture is given the same classes) to the number of classes (each picture one class, all equally often);
    it grows with the size of a part. Salimans et al. 2016, https://arxiv.org/abs/1606.03498.
    """
    scores = []
    for places in np.array_split(np.arange(len(logits)), min(parts, len(logits))):
        # the divergence is the entropy of all pictures' classes together, less the mean entropy of one picture's
        logs = logits[places] - logits[places].max(axis=1, keepdims=True)
        weights = np.exp(logs)
        total = weights.sum(axis=1)
        own = np.log(total) - np.einsum("nc,nc->n", weights, logs) / total
        mixed = (1 / total) @ weights / len(places)
        together = -(mixed * np.log(np.where(mixed > 0, mixed, 1))).sum()
        scores.append(float(np.exp(together - own.mean())))
    return float(np.mean(scores)), float(np.std(scores))


class EnergyDistance:
    """How far apart two sets are, from 0 (the same) to 1: the energy coefficient ``D / 2E|X - Y|``.

    ``D = 2 E|X - Y| - E|X - X'| - E|Y - Y'|``, each mean over all pairs (a point with itself too, so that it is never
    negative). Székely and Rizzo 2013, https://doi.org/10.1016/j.jspi.2013.03.018.
    """

    def __init__(self, real: np.ndarray, made: np.ndarray) -> None:
        self.rr, self.mm, self.rm = cdist(real, real), cdist(made, made), cdist(real, made)

    def __call__(self, real: np.ndarray, made: np.ndarray) -> float:
        """The distance when each point counts as often as these weights (float, each summing to 1) say."""
        between = 2 * float(real @ self.rm @ made)
        if between <= 0:
            return 0.0
        return max(0.0, (between - float(real @ self.rr @ real) - float(made @ self.mm @ made)) / between)


class ProfileDistance:
    """Jensen-Shannon divergence, in bits, between the pooled profiles of two sets of items: 0 the same, 1 disjoint.

    ``JS = H((P + Q) / 2) - H(P) / 2 - H(Q) / 2``; rows are items, columns what was counted in them. Lin 1991.
    """

    def __init__(self, real: np.ndarray, made: np.ndarray) -> None:
        self.real, self.made = real, made

    def __call__(self, real: np.ndarray, made: np.ndarray) -> float:
        """The divergence when each item counts as often as these weights say."""
        p, q = np.asarray(real @ self.real).ravel(), np.asarray(made @ self.made).ravel()
        p, q = p / p.sum(), q / q.sum()

        def entropy(x: np.ndarray) -> float:
            x = x[x > 0]
            return float(-(x * np.log2(x)).sum())

        return entropy((p + q) / 2) - entropy(p) / 2 - entropy(q) / 2


def with_interval(
    statistic: Callable[[np.ndarray, np.ndarray], float], n: int, m: int, seed: int, draws: int = 100
) -> tuple[float, float, float]:
    """A weighted two-set statistic with its 95 % interval: value, low, high.

    The interval is the value ± 1.96 bootstrap standard deviations: resampling adds noise, and so moves a distance up, so
    its percentiles would not surround the value.
    """
    generator = np.random.default_rng([seed, 11])
    value = statistic(np.full(n, 1 / n), np.full(m, 1 / m))
    drawn = [
        statistic(generator.multinomial(n, np.full(n, 1 / n)) / n, generator.multinomial(m, np.full(m, 1 / m)) / m)
        for _ in range(draws)
    ]
    spread = 1.96 * float(np.std(drawn))
    return value, max(0.0, value - spread), value + spread


def share_interval(hits: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, which stays within 0 and 1 and is not empty at either end."""
    if count == 0:
        return 0.0, 1.0
    z, share = 1.959964, hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    # at the ends the bound is the end itself, without what rounding leaves
    low = 0.0 if hits <= 0 else max(0.0, middle - half)
    return float(low), float(1.0 if hits >= count else min(1.0, middle + half))


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """A mean of independent values with its 95 % interval: value, low, high."""
    mean = float(np.mean(values))
    half = 1.96 * float(np.std(values, ddof=1)) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return mean, float(mean - half), float(mean + half)
