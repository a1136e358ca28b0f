"""Two coordinates for each code: principal components, and UMAP where it is installed; and the picture of both."""

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL.Image import Image

MOST_COLOURS = 20
LEAST = 3  # codes that make a map


def components(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Principal components of ``codes`` ``[n, numbers]``: their mean, directions ``[k, numbers]``, variances ``[k]``.

    The sign of a direction is chosen so that its largest number is positive: the same codes give the same map.
    """
    mean = codes.mean(axis=0)
    _, singular, directions = np.linalg.svd(codes - mean, full_matrices=False)
    signs = np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)])
    return mean, directions * signs[:, None], singular**2 / max(1, len(codes) - 1)


def umap_of(codes: np.ndarray, seed: int) -> np.ndarray | None:
    """Two coordinates by UMAP (McInnes et al. 2018, arXiv:1802.03426), or None where umap-learn is not installed.

    It keeps who is near to whom and bends the rest: distances between far groups mean little. One seed, one map.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import umap
    except ImportError:
        return None
    with warnings.catch_warnings():
        # it says that a seed costs it its threads, which is what was asked for
        warnings.simplefilter("ignore")
        reducer = umap.UMAP(n_components=2, n_neighbors=min(15, len(codes) - 1), random_state=seed, n_jobs=1)
        return np.asarray(reducer.fit_transform(codes), dtype=np.float64)


def drawn(
    panels: Sequence[tuple[str, np.ndarray, tuple[str, str]]],
    labels: Sequence[str] | None,
    decoded: Image | None,
    about: str,
    said: dict[str, str],
) -> bytes:
    """The map as PNG: scatter panels (title, ``[n, 2]``, axes) coloured by label with one legend, and the decoded grid."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(panels) + (decoded is not None)
    figure = Figure(figsize=(6.2 * count, 6.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(1, count))
    groups = _groups(labels, len(panels[0][1]))
    for (title, points, (x, y)), ax in zip(panels, axes, strict=False):
        for name, where, colour in groups:
            ax.scatter(*points[where].T, s=9, color=colour, alpha=0.65, linewidths=0, label=name)
        ax.set_title(title)
        ax.set_xlabel(x)
        ax.set_ylabel(y)
        ax.spines[["top", "right"]].set_visible(False)
    if labels is not None:
        handles, names = axes[0].get_legend_handles_labels()
        legend = figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 10), frameon=False)
        for handle in legend.legend_handles:
            if handle is not None:
                handle.set_alpha(1)
                _larger(handle)
    if decoded is not None:
        axes[-1].imshow(np.asarray(decoded))
        axes[-1].set_title("What codes along the two principal directions decode to")
        axes[-1].set_xlabel(about)
        axes[-1].set_xticks([])
        axes[-1].set_yticks([])
        axes[-1].spines[:].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={str(key): str(value) for key, value in said.items()})
    return buffer.getvalue()


def _larger(handle: Any) -> None:
    handle.set_sizes([45])


def _groups(labels: Sequence[str] | None, count: int) -> list[tuple[str, np.ndarray, Any]]:
    """Name, places and colour of each class; beyond the most frequent ones, all others in grey."""
    from matplotlib import colormaps

    if labels is None:
        return [("", np.arange(count), "#2c6fbb")]
    found = np.asarray(labels)
    names, frequent = np.unique(found, return_counts=True)
    kept = sorted(names[np.argsort(-frequent, kind="stable")][:MOST_COLOURS].tolist(), key=_natural)
    colours = colormaps["tab10" if len(kept) <= 10 else "tab20"].colors  # type: ignore[attr-defined]
    groups: list[tuple[str, np.ndarray, Any]] = []
    if rest := [place for place, name in enumerate(labels) if name not in kept]:
        groups.append((f"{len(names) - len(kept)} others", np.asarray(rest), "#bbbbbb"))
    groups += [(name, np.flatnonzero(found == name), colours[place]) for place, name in enumerate(kept)]
    return groups


def _natural(name: str) -> tuple[int, float, str]:
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)
