"""Three sets of items of one form, the same number of each, that every comparison starts from.

``held`` was never seen in training, ``made`` was drawn from the model, ``seen`` is a random part of the training data.
Made against held is the figure; seen against held is its floor: what a perfect model would show with as many items. The
whole of the training data stands behind them, since a copy may be of any item.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from pieria.data.batch import Batch, check
from pieria.data.examples import Examples, ItemExamples, StreamExamples, without_condition
from pieria.errors import UsageError
from pieria.evaluation.distances import EnergyDistance, ProfileDistance
from pieria.forms import Form
from pieria.models.contract import Model, Scores, device_of
from pieria.noise import ItemNoise


@dataclass(frozen=True)
class Drawn:
    """Samples, and what drawing them took."""

    x: Tensor
    seconds: float


def draw(model: Model, n: int, seed: int, condition: Tensor | None = None, batch: int = 250) -> Drawn:
    """``n`` items from ``model`` with its default options, under the conditions given, and the seconds that it took.

    The items are those of ``sample(n, …, ItemNoise(seed, n))``: they do not depend on the batch.
    """
    options = type(model).Sampling.of({})
    model.eval()
    parts: list[Tensor] = []
    if condition is not None:
        condition = condition.to(device_of(model))
    begun = perf_counter()
    with torch.no_grad():
        for start in range(0, n, batch):
            size = min(batch, n - start)
            part = None if condition is None else condition[start : start + size]
            parts.append(model.sample(size, options, ItemNoise(seed, size, first=start), part).cpu())
    seconds = perf_counter() - begun
    widest = max(part.shape[1] for part in parts) if parts[0].ndim == 2 else 0
    end = getattr(model.form, "end", None)
    if end is not None:  # batches that stop early give shorter tensors
        parts = [torch.nn.functional.pad(part, (0, widest - part.shape[1]), value=end) for part in parts]
    x = torch.cat(parts)
    check(model.form, x, "what the model drew")
    return Drawn(x, seconds)


def nats(model: Model, batch: Batch) -> Tensor:
    """Minus ``log_prob`` of each item, float64 on the processor, wherever the model is."""
    assert isinstance(model, Scores)
    with torch.no_grad():
        return -model.log_prob(batch.to(device_of(model))).detach().cpu().double()


def spread(count: int, wanted: int) -> np.ndarray:
    """``wanted`` places, evenly over ``0 .. count - 1``: a part of a split that does not depend on a seed."""
    if count <= wanted:
        return np.arange(count)
    return np.floor((np.arange(wanted) + 0.5) * count / wanted).astype(np.int64)


def held_out(examples: Examples, count: int, length: int | None = None) -> Batch:
    """``count`` items (windows of ``length`` symbols of a stream, not overlapping) spread evenly over a split."""
    if isinstance(examples, StreamExamples):
        return Batch(x=_windows(examples, count, length or examples.form.length, None))
    return examples.batch(spread(len(examples), count))


def random_items(examples: Examples, count: int, seed: int, length: int | None = None) -> Batch:
    """``count`` items or windows drawn from a split without replacement."""
    generator = np.random.default_rng([seed, 7])
    if isinstance(examples, StreamExamples):
        return Batch(x=_windows(examples, count, length or examples.form.length, generator))
    places = generator.permutation(len(examples))[:count]
    return examples.batch(np.sort(places))


def _windows(examples: StreamExamples, count: int, length: int, generator: np.random.Generator | None) -> Tensor:
    whole = max(1, len(examples.stream) // length)
    length = min(length, len(examples.stream))
    chosen = spread(whole, count) if generator is None else np.sort(generator.permutation(whole)[:count])
    rows = examples.stream[(chosen * length)[:, None] + np.arange(length)[None, :]]
    return torch.from_numpy(np.asarray(rows, dtype=np.int64))


def everything(examples: Examples, most: int | None = None) -> Tensor:
    """All items of a split as one tensor, or ``most`` of them, spread evenly."""
    count = len(examples) if most is None else min(len(examples), most)
    if isinstance(examples, ItemExamples) and count == len(examples):
        return torch.as_tensor(examples.x)
    return examples.batch(spread(len(examples), count)).x


def as_learned(model: Model, examples: Examples) -> Examples:
    """The examples as ``model`` knows them: without their labels if it learned without."""
    return examples if model.condition is not None else without_condition(examples)


@dataclass(frozen=True)
class Nearness:
    """How near items lie to the training data.

    Attributes:
        made, held: the distance of each made and each held-out item to what is nearest to it in the training data.
        made_copy, held_copy: bool: the item lies on one training item alone, not merely where many lie.
        limit: the share of copies from which on the model is called a memoriser.
        note: the rule, in words.
    """

    made: np.ndarray
    held: np.ndarray
    made_copy: np.ndarray
    held_copy: np.ndarray
    limit: float
    note: str


def copies_by_ratio(made: np.ndarray, held: np.ndarray, fifth: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Which made and which held-out items lie on one training item, from their sorted distances ``[n, ≥ 5]``.

    A copy lies nearer to one training item than 95 % of held-out items do, *and* its fifth neighbour is much farther
    away than for 95 % of them: an average of many items, or a row that many people share, is near to all five.
    """

    def ratio(distances: np.ndarray) -> np.ndarray:
        far = distances[:, min(fifth, distances.shape[1] - 1)]
        return np.where(far > 0, distances[:, 0] / np.where(far > 0, far, 1), 1.0)

    near, lone = np.quantile(held[:, 0], 0.05), np.quantile(ratio(held), 0.05)
    return (
        (made[:, 0] <= near) & (ratio(made) <= lone),
        (held[:, 0] <= near) & (ratio(held) <= lone),
    )


def nearest(points: Tensor, training: Tensor, k: int = 5, chunk: int = 20_000) -> np.ndarray:
    """Euclidean distances of each point to its ``k`` nearest training points, ascending, float64 ``[points, k]``.

    The candidates come from the fast product form, and their distances are taken again exactly, so that a copy's is 0.
    """
    squares = training.square().sum(dim=1)
    candidates = []
    wanted = min(2 * k, len(training))
    for start in range(0, len(training), chunk):
        part = training[start : start + chunk]
        scores = squares[start : start + chunk] - 2 * points @ part.T
        values, places = scores.topk(min(wanted, len(part)), dim=1, largest=False)
        candidates.append((values, places + start))
    values, places = (torch.cat(side, dim=1) for side in zip(*candidates, strict=True))
    best = places.gather(1, values.topk(wanted, dim=1, largest=False).indices)
    exact = torch.stack([(training[rows] - point).double().norm(dim=1) for point, rows in zip(points, best, strict=True)])
    return exact.sort(dim=1).values[:, :k].numpy()


class Comparison(ABC):
    """What one form must say of itself so that likeness, novelty and the two-sample classifier can be taken."""

    least = 4  # of each set

    def __init__(self, training: Examples, held: Tensor, made: Tensor, seen: Tensor, seed: int) -> None:
        if min(len(held), len(made), len(seen)) < self.least:
            raise UsageError(
                f"{len(held)} held-out, {len(made)} made and {len(seen)} training items to compare",
                f"at least {self.least} of each",
                "Ask for more samples with --count, or evaluate on a larger split",
            )
        self.form: Form = training.form
        self.training, self.held, self.made, self.seen, self.seed = training, held, made, seen, seed

    likeness_unit: str

    @property
    @abstractmethod
    def likeness_note(self) -> str:
        """What was compared."""

    @abstractmethod
    def distance(self, first: str, second: str) -> tuple[EnergyDistance | ProfileDistance, int, int]:
        """A weighted statistic of two of the sets ("held", "made", "seen"), and the number of points in each."""

    @cached_property
    @abstractmethod
    def nearness(self) -> Nearness:
        """How near the made and the held-out items lie to the training data."""

    @abstractmethod
    def features(self, which: str) -> np.ndarray:
        """One row of numbers for each item of a set: what the two-sample classifier is shown."""
