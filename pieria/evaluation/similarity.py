"""Similar, not identical: the two figures that every scorecard opens with, for any form.

Likeness is how far samples are from held-out data, beside how far the training data are from it. Novelty is how many
samples lie nearer to the training data than all but 5 % of held-out items do: about 5 % for an honest model, nearly all for
one that memorised. Low likeness with all copies is a photocopier; high novelty far from the data is noise; both are needed.
"""

import numpy as np

from pieria.evaluation.comparison import Comparison
from pieria.evaluation.distances import share_interval, with_interval
from pieria.evaluation.scorecard import Figure, plain

QUANTILE = 0.05


def likeness(sets: Comparison, split: str) -> Figure:
    """The distance of samples to held-out data, beside that of as many training items to them."""
    statistic, n, m = sets.distance("held", "made")
    value, low, high = with_interval(statistic, n, m, sets.seed)
    real, n_real, m_real = sets.distance("held", "seen")
    floor = real(np.full(n_real, 1 / n_real), np.full(m_real, 1 / m_real))
    return Figure(
        "likeness",
        value,
        sets.likeness_unit,
        "measure",
        "lower",
        split,
        len(sets.made),
        sets.seed,
        floor=floor,
        low=low,
        high=high,
        note=sets.likeness_note,
    )


def novelty(sets: Comparison, split: str) -> list[Figure]:
    """Two figures: the share of samples that lie near to the training data, and the share that are copies."""
    near = sets.nearness
    edge = float(np.quantile(near.held, QUANTILE))
    hits, expected = near.made <= edge, near.held <= edge

    def figure(name: str, made: np.ndarray, held: np.ndarray, note: str) -> Figure:
        low, high = share_interval(float(made.sum()), len(made))
        return Figure(
            name,
            float(made.mean()),
            "share",
            "measure",
            "lower",
            split,
            len(made),
            sets.seed,
            floor=float(held.mean()),
            low=low,
            high=high,
            note=note,
        )

    rule = "share of samples that lie as near to the training data as only the nearest 5 % of held-out items do; "
    return [
        figure("novelty", hits, expected, rule + near.note),
        figure("copies", near.made_copy, near.held_copy, near.note),
    ]


def memorised(sets: Comparison) -> bool:
    """True where so many samples are copies that honest chance does not explain it.

    The low end of the interval of copies lies above the form's limit, and above three times the share of copies among
    held-out items or twice the high end of that share's interval.
    """
    near = sets.nearness
    low, _ = share_interval(float(near.made_copy.sum()), len(near.made_copy))
    _, usual = share_interval(float(near.held_copy.sum()), len(near.held_copy))
    return low > near.limit and (low > 3 * float(near.held_copy.mean()) or low > 2 * usual)


def in_words(sets: Comparison, like: Figure, new: list[Figure]) -> list[str]:
    """What likeness and novelty say, in sentences."""
    words = []
    assert like.value is not None
    assert like.floor is not None
    assert like.low is not None
    if like.low <= like.floor:
        words.append("Likeness: the samples cannot be told from real data by this distance.")
    else:
        times = f"{plain(float(f'{like.value / like.floor:.2g}'))} times as far" if like.floor > 1e-9 else "farther"
        words.append(f"Likeness: the samples lie {times} from held-out data as real training items do.")
    near, copies = new
    assert near.value is not None
    assert near.low is not None
    assert near.floor is not None
    assert copies.value is not None
    if memorised(sets):
        words.append(
            f"Novelty: {copies.value:.0%} of the samples are copies of training items "
            f"({copies.floor:.0%} among held-out items): this model memorised its training data."
        )
    elif near.low > max(0.1, 2 * near.floor):
        words.append(
            f"Novelty: {near.value:.0%} of the samples lie nearer to a training item than 95 % of held-out items do, and "
            f"{copies.value:.0%} are copies: look at the nearest training items before you publish samples."
        )
    elif near.low > near.floor:
        words.append(
            f"Novelty: {near.value:.0%} of the samples lie very near to a training item, and {near.floor:.0%} of held-out "
            f"items do: somewhat nearer than new data would, with {copies.value:.0%} copies."
        )
    else:
        words.append("Novelty: the samples lie no nearer to the training data than held-out items do.")
    return words
