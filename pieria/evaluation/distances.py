"""Distances between two sets of points, and how to say how sure one is of them.

Everything takes two float64 arrays ``[n, d]`` and ``[m, d]`` of points in the same space, the real ones first.
"""

from collections.abc import Callable

import numpy as np
from scipy import linalg
from scipy.spatial.distance import cdist


def frechet(real: np.ndarray, made: np.ndarray) -> float:
    """Fréchet distance between two normal distributions with the sets' means and covariances.

    ``|μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½)``; at least as many points as dimensions are needed for it to mean
    something, and it shrinks as the sets grow, so the floor is taken with sets of the same size.
    Heusel et al. 2017, https://arxiv.org/abs/1706.08500.
    """
    gap = real.mean(axis=0) - made.mean(axis=0)
    first, second = np.cov(real, rowvar=False), np.cov(made, rowvar=False)
    # the eigenvalues of Σ₁Σ₂ are those of a symmetric product, hence real and not negative but for rounding
    root = linalg.eigvals(first @ second)
    cross = np.sqrt(np.clip(root.real, 0, None)).sum()
    return float(gap @ gap + np.trace(first) + np.trace(second) - 2 * cross)


def kernel_distance(real: np.ndarray, made: np.ndarray) -> float:
    """Squared maximum mean discrepancy with the kernel ``(x·y / d + 1)³``, unbiased, so it can be a little below zero.

    Bińkowski et al. 2018, https://arxiv.org/abs/1801.01401 (KID).
    """
    n, m, d = len(real), len(made), real.shape[1]

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / d + 1) ** 3

    rr, mm, rm = kernel(real, real), kernel(made, made), kernel(real, made)
    within = (rr.sum() - np.trace(rr)) / (n * (n - 1)) + (mm.sum() - np.trace(mm)) / (m * (m - 1))
    return float(within - 2 * rm.mean())


def prdc(real: np.ndarray, made: np.ndarray, k: int = 5) -> dict[str, float]:
    """Precision, recall, density and coverage by the balls that reach to each point's k-th nearest neighbour.

    Precision: the share of made points inside some real ball; recall: the share of real points inside some made ball
    (Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991). Density: in how many real balls a made point lies,
    over k; coverage: the share of real balls with a made point inside (Naeem et al. 2020,
    https://arxiv.org/abs/2002.09797).
    """
    k = min(k, len(real) - 1, len(made) - 1)
    # the k-th nearest other point; column 0 of the sorted distances is the point itself
    real_radius = np.partition(cdist(real, real), k, axis=1)[:, k]
    made_radius = np.partition(cdist(made, made), k, axis=1)[:, k]
    between = cdist(real, made)
    inside = between < real_radius[:, None]
    return {
        "precision": float(inside.any(axis=0).mean()),
        "recall": float((between < made_radius[None, :]).any(axis=1).mean()),
        "density": float(inside.sum(axis=0).mean() / k),
        "coverage": float((between.min(axis=1) < real_radius).mean()),
    }


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
