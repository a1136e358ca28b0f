"""Numbers that vary together as Gaussians, of which some are missing or known.

``mean`` is ``[number, k]``, ``covariance`` ``[k, number, number]``: k Gaussians over the same numbers.
"""

import numpy as np
from scipy.linalg import solve_triangular

Array = np.ndarray


def log_density(mean: Array, covariance: Array, values: Array, seen: Array) -> Array:
    """Log-density under each Gaussian, ``[item, k]``, of the numbers (``[item, number]``) that are ``seen`` (bool)."""
    found = np.zeros((len(values), mean.shape[1]))
    patterns, which = np.unique(seen, axis=0, return_inverse=True)
    for number, there in enumerate(patterns):
        rows = which.reshape(-1) == number
        for k in range(mean.shape[1]):
            factor = np.linalg.cholesky(covariance[k][np.ix_(there, there)])
            apart = solve_triangular(factor, (values[rows][:, there] - mean[there, k]).T, lower=True)
            found[rows, k] = -0.5 * ((apart**2).sum(axis=0) + there.sum() * np.log(2 * np.pi))
            found[rows, k] -= np.log(np.diag(factor)).sum()
    return found


def drawn(mean: Array, covariance: Array, normal: Array, values: Array | None = None, known: Array | None = None) -> Array:
    """One item ``[number]`` of one Gaussian (``[number]``, ``[number, number]``) from standard normals.

    Given ``values`` where they are ``known`` (bool); those places are 0 in what is returned.
    """
    there = np.zeros(len(mean), bool) if known is None else known
    rest, here = np.ix_(~there, there), np.ix_(there, there)
    middle, spread = mean[~there], covariance[np.ix_(~there, ~there)]
    if values is not None and there.any():
        pull = np.linalg.solve(covariance[here], covariance[rest].T).T  # of what is known on what is not
        middle = middle + pull @ (values[there] - mean[there])
        spread = spread - pull @ covariance[rest].T
    item = np.zeros(len(mean))
    if len(middle):
        item[~there] = middle + np.linalg.cholesky(spread) @ normal[~there]
    return item
