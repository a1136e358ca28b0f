"""Forms so small that every item can be counted, each with a planted distribution to learn.

A case is a table of points that cover all there is: every item of a discrete form (complete ones and unfinished prefixes
of full length), or the nodes of a quadrature of a continuous one. Each point has a weight (1, or its volume) and belongs to
a cell; summed over a cell's points, ``weight · exp(log_prob)`` is the probability that a model gives to the cell. That one
table answers whether a model is a distribution, whether it draws from what it says, and how far it is from the truth.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from pieria.data.batch import Batch, mask_after_end
from pieria.data.examples import Examples, ItemExamples, StreamExamples
from pieria.forms import Column, Curve, Form, Grid, Label, Row, Tokens

TRAINING_ITEMS = 4000


@dataclass(frozen=True, eq=False)
class Case:
    """A form, a planted distribution over it, and every item.

    Attributes:
        name: what messages and test items call it.
        form: the form; ``condition``: that of the label or the prompt, or None; ``conditions``: the two that there are.
        train: examples drawn from the planted distribution; ``validation``: more of them.
        points: all items, or quadrature nodes.
        weights: float64 ``[point]``: 1 or the volume, times the label's share.
        cells: long ``[point]``: the cell of each point; ``count`` cells in all.
        truth: float64 ``[cell]``: the planted probability of each cell.
        locate: a tensor of items to their cells, long ``[item]`` (without a label); the last cell is "elsewhere".
        where: for a `Curve`, the positions at which functions are looked at.
    """

    name: str
    form: Form
    train: Examples
    validation: Examples
    points: Batch
    weights: Tensor
    cells: Tensor
    truth: Tensor
    locate: Callable[[Tensor], Tensor]
    condition: Form | None = None
    conditions: Tensor | None = None
    where: Tensor | None = None

    @property
    def settled(self) -> bool:
        """Whether the condition settles the item, so that there is nothing left to draw."""
        return self.conditions is not None and int((self.truth > 0).sum()) == len(self.conditions)

    @property
    def continuous(self) -> bool:
        """Whether the points are nodes of a quadrature."""
        return self.points.x.is_floating_point()

    def probabilities(self, log_prob: Tensor) -> Tensor:
        """What a model with this ``log_prob`` of each point gives to each cell."""
        mass = self.weights * log_prob.double().exp()
        return torch.zeros(len(self.truth), dtype=torch.float64).index_add_(0, self.cells, mass)

    def labels(self, n: int) -> Tensor | None:
        """A condition for ``n`` items: every class (or prompt) as often as every other."""
        return None if self.conditions is None else self.conditions[torch.arange(n) % len(self.conditions)]

    def cells_of(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """The cell of each drawn item, long ``[item]``."""
        place = self.locate(x)
        if labels is None or self.conditions is None:
            return place
        same = labels.view(len(labels), 1, -1) == self.conditions.view(1, len(self.conditions), -1)
        return same.all(dim=2).long().argmax(dim=1) * (len(self.truth) // 2) + place


def _generator(name: str) -> np.random.Generator:
    return np.random.default_rng([len(name), *name.encode()])


def _discrete(
    name: str, form: Form, items: Tensor, truths: list[Tensor], prompts: tuple[Form, Tensor] | None = None
) -> Case:
    """A case from all items ``[item, …]`` and their planted probabilities (one list, or one for each of two labels).

    With ``prompts`` (a form, and two of it) the two conditions are these instead of labels.
    """
    flat = items.flatten(1)
    place = {tuple(row): number for number, row in enumerate(flat.tolist())}
    count = len(flat) + 1  # the last cell is for what is no item at all

    def locate(x: Tensor) -> Tensor:
        rows = torch.unique(x.flatten(1), dim=0, return_inverse=True)
        return torch.tensor([place.get(tuple(row), count - 1) for row in rows[0].tolist()])[rows[1]]

    labelled = len(truths) > 1
    condition: Form | None = Label(("first", "second")) if labelled else None
    conditions = torch.arange(2) if labelled else None
    if prompts is not None:
        condition, conditions = prompts
    truth = torch.cat([torch.cat([t / t.sum(), t.new_zeros(1)]) for t in truths]) / len(truths)
    x = items.repeat(len(truths), *[1] * (items.ndim - 1))
    which = torch.arange(len(truths)).repeat_interleave(len(items))
    label = None if conditions is None else conditions[which]
    cells = torch.arange(len(items)).repeat(len(truths)) + which * count
    generator = _generator(name)

    def drawn(size: int) -> ItemExamples:
        chosen = torch.from_numpy(generator.choice(len(x), size=size, p=truth[cells].numpy()))
        return ItemExamples(form, x[chosen], condition=condition, conditions=None if label is None else label[chosen])

    mask = mask_after_end(x, form.end) if isinstance(form, Tokens) else None
    return Case(
        name, form, drawn(TRAINING_ITEMS), drawn(500), Batch(x, condition=label, mask=mask),
        torch.full((len(x),), 1.0 / len(truths), dtype=torch.float64), cells, truth, locate, condition, conditions,
    )  # fmt: skip


# ---- tokens: a chain that prefers to go round, so that every symbol depends on the one before it ----


def _chain(symbols: int, onward: float, ending: float) -> tuple[Tensor, Tensor]:
    first = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    rest = (1 - onward - ending) / (symbols - 1)
    step = torch.full((symbols, symbols), rest, dtype=torch.float64)
    for symbol in range(symbols):
        step[symbol, (symbol + 1) % symbols] = onward
    return first, step


def _items_of_chain(onward: float) -> tuple[Tensor, Tensor, Tokens]:
    form, ending = Tokens(vocabulary=4, length=4, end=3), 0.12
    first, step = _chain(3, onward, ending)
    rows, truth = [], []
    for length in range(form.length + 1):  # how many symbols stand before the end; all: an unfinished prefix
        for word in itertools.product(range(3), repeat=length):
            p = 0.03 if not word else 0.97 * float(first[word[0]])
            p *= math.prod(float(step[a, b]) for a, b in itertools.pairwise(word))
            if word and length < form.length:
                p *= ending
            rows.append([*word, *[3] * (form.length - length)])
            truth.append(p)
    return torch.tensor(rows), torch.tensor(truth, dtype=torch.float64), form


def _tokens() -> Case:
    items, truth, form = _items_of_chain(0.7)
    return _discrete("tokens", form, items, [truth])


def _tokens_labelled() -> Case:
    items, one, form = _items_of_chain(0.7)
    _, other, _ = _items_of_chain(0.05)
    return _discrete("tokens with a label", form, items, [one, other])


def _tokens_prompted() -> Case:
    items, one, form = _items_of_chain(0.7)
    _, other, _ = _items_of_chain(0.05)
    # prompts of other symbols and of different length, so that one of them is padded
    asked = Tokens(vocabulary=6, length=5, end=5)
    return _discrete(
        "tokens with a prompt", form, items, [one, other], (asked, torch.tensor([[0, 4, 2, 1, 5], [3, 2, 5, 5, 5]]))
    )


def _stream() -> Case:
    form = Tokens(vocabulary=3, length=4)
    _, step = _chain(3, 0.75, 0.0)
    generator = _generator("stream")
    jumps = generator.choice(3, size=3 * TRAINING_ITEMS, p=step[0].numpy())  # the chain is the same seen from any symbol
    stream = np.cumsum(jumps) % 3
    items = torch.tensor(list(itertools.product(range(3), repeat=4)))
    truth = torch.tensor(
        [math.prod(float(step[a, b]) for a, b in itertools.pairwise(row)) for row in items.tolist()], dtype=torch.float64
    )
    case = _discrete("stream", form, items, [truth])
    cut = len(stream) - 1000
    return Case(
        **{**vars(case), "train": StreamExamples(form, stream[:cut]), "validation": StreamExamples(form, stream[cut:])}
    )


# ---- grids: a few templates, blurred ----


def _grid(name: str, levels: int, ordered: bool, labelled: bool = False) -> Case:
    form = Grid(1, 2, 2, levels=levels, ordered=ordered)
    items = torch.tensor(list(itertools.product(range(levels), repeat=4))).view(-1, 1, 2, 2)
    top = levels - 1
    templates = [(top, top, 0, 0), (0, top, 0, top), (0, 0, 0, 0)]

    def truth(shares: tuple[float, ...]) -> Tensor:
        total = torch.zeros(len(items), dtype=torch.float64)
        for share, template in zip(shares, templates, strict=True):
            kept = (items.flatten(1) == torch.tensor(template)).double()
            total += share * (kept * 0.9 + (1 - kept) * 0.1 / top).prod(1)
        return total

    shares = [(0.5, 0.3, 0.2), (0.1, 0.1, 0.8)] if labelled else [(0.5, 0.3, 0.2)]
    return _discrete(name, form, items, [truth(s) for s in shares])


def _grid_of_grid() -> Case:
    """Two pictures of grey ink, and what becomes of each: the same in black, which is found without knowing the pairs."""
    form = Grid(1, 2, 2, levels=3)
    items = torch.tensor(list(itertools.product(range(3), repeat=4))).view(-1, *form.shape)
    given = torch.tensor([[[[1, 0], [0, 0]]], [[[1, 1], [0, 1]]]])
    truths = [(items == one).flatten(1).all(dim=1).double() for one in 2 * given]
    return _discrete("grid of a grid", form, items, truths, (form, given))


def _nodes(reach: float, count: int, low: float, high: float, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """Nodes ``½ sinh u``, their trapezoid weights, and the edges of ``bins`` cells from ``low`` to ``high``.

    Nodes are dense in the middle and thin far out, where densities are smooth. An edge lies midway between two nodes, so
    that a cell is exactly the stretch that its nodes stand for.
    """
    top = math.asinh(2 * reach)
    u = torch.linspace(-top, top, count, dtype=torch.float64)
    between = 0.5 * ((u[1:] + u[:-1]) / 2).sinh()
    wanted = torch.linspace(low, high, bins + 1, dtype=torch.float64)
    return 0.5 * u.sinh(), 0.5 * u.cosh() * (u[1] - u[0]), between[(between[None] - wanted[:, None]).abs().argmin(1)]


def _bins(values: Tensor, edges: Tensor) -> Tensor:
    return torch.bucketize(values.double().contiguous(), edges)


def _normal(x: Tensor, mean: float, deviation: float) -> Tensor:
    return torch.exp(-0.5 * ((x - mean) / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi))


def _continuous_grid() -> Case:
    form = Grid(1, 1, 2, levels=None)
    nodes, weights, edges = _nodes(20.0, 420, -1.2, 1.2, 8)
    a, b = torch.meshgrid(nodes, nodes, indexing="ij")
    blobs = [(0.6, -0.5, 0.4, 0.2), (0.4, 0.4, -0.3, 0.15)]
    density = torch.stack([s * _normal(a, m, d) * _normal(b, n, d) for s, m, n, d in blobs]).sum(0)

    def locate(x: Tensor) -> Tensor:
        return _bins(x[:, 0, 0, 0], edges) * 10 + _bins(x[:, 0, 0, 1], edges)

    generator = _generator("continuous grid")

    def drawn(size: int) -> ItemExamples:
        which = generator.choice(2, size=size, p=[blob[0] for blob in blobs])
        table = np.asarray(blobs)[which]
        x = table[:, 1:3] + table[:, 3:] * generator.standard_normal((size, 2))
        return ItemExamples(form, torch.from_numpy(x).float().view(size, 1, 1, 2))

    x = torch.stack([a, b], dim=-1).view(-1, 1, 1, 2)
    volume = (weights[:, None] * weights[None]).flatten()
    cells = locate(x)
    truth = torch.zeros(100, dtype=torch.float64).index_add_(0, cells, volume * density.flatten())
    return Case("continuous grid", form, drawn(TRAINING_ITEMS), drawn(500), Batch(x.float()), volume, cells, truth, locate)


# ---- rows: a number that depends on a category, and a number that may be missing ----


def _row() -> Case:
    form = Row((Column("size", "number"), Column("kind", "category", levels=3)))
    kinds = [(0.5, -0.8, 0.4), (0.3, 0.6, 0.3), (0.2, 1.8, 0.5)]
    nodes, weights, edges = _nodes(50.0, 2400, -2.5, 3.5, 24)

    def locate(x: Tensor) -> Tensor:
        known = (x[:, 1] >= 0) & (x[:, 1] <= 2) & (x[:, 1] == x[:, 1].round())
        return torch.where(known, x[:, 1].clamp(0, 2).long() * 26 + _bins(x[:, 0], edges), 3 * 26)

    generator = _generator("row")

    def drawn(size: int) -> ItemExamples:
        which = generator.choice(3, size=size, p=[kind[0] for kind in kinds])
        table = np.asarray(kinds)[which]
        number = table[:, 1] + table[:, 2] * generator.standard_normal(size)
        return ItemExamples(form, torch.from_numpy(np.stack([number, which], axis=1)).float())

    x = torch.stack([nodes.repeat(3), torch.arange(3.0, dtype=torch.float64).repeat_interleave(len(nodes))], dim=1)
    density = torch.cat([s * _normal(nodes, m, d) for s, m, d in kinds])
    cells = locate(x)
    truth = torch.zeros(79, dtype=torch.float64).index_add_(0, cells, weights.repeat(3) * density)
    return Case("row", form, drawn(TRAINING_ITEMS), drawn(500), Batch(x.float()), weights.repeat(3), cells, truth, locate)


def _row_prompted() -> Case:
    form = Row((Column("kind", "category", levels=3),))
    asked = Tokens(vocabulary=6, length=5, end=5)
    truths = [torch.tensor(shares, dtype=torch.float64) for shares in ((0.7, 0.2, 0.1), (0.1, 0.3, 0.6))]
    prompts = torch.tensor([[0, 4, 2, 1, 5], [3, 2, 5, 5, 5]])
    return _discrete("row with a prompt", form, torch.arange(3.0)[:, None], truths, (asked, prompts))


def _row_missing() -> Case:
    form = Row(
        (Column("size", "number"), Column("size missing", "missing", of="size"), Column("kind", "category", levels=2))
    )
    nodes, weights, edges = _nodes(50.0, 2400, -2.5, 2.5, 20)
    # kind: share, how often the size is missing, its mean and deviation
    kinds = [(0.6, 0.1, -0.7, 0.5), (0.4, 0.5, 0.8, 0.4)]

    def locate(x: Tensor) -> Tensor:
        known = ((x[:, 1:] == 0) | (x[:, 1:] == 1)).all(1) & ((x[:, 1] == 0) | (x[:, 0] == 0))
        place = torch.where(x[:, 1] == 1, 22, _bins(x[:, 0], edges))
        return torch.where(known, x[:, 2].clamp(0, 1).long() * 23 + place, 46)

    generator = _generator("row with missing values")

    def drawn(size: int) -> ItemExamples:
        which = generator.choice(2, size=size, p=[kind[0] for kind in kinds])
        table = np.asarray(kinds)[which]
        missing = generator.random(size) < table[:, 1]
        number = np.where(missing, 0.0, table[:, 2] + table[:, 3] * generator.standard_normal(size))
        return ItemExamples(form, torch.from_numpy(np.stack([number, missing, which], axis=1)).float())

    rows, volume, density = [], [], []
    for kind, (share, gone, mean, deviation) in enumerate(kinds):
        rows.append(torch.stack([nodes, torch.zeros_like(nodes), torch.full_like(nodes, kind)], dim=1))
        volume.append(weights)
        density.append(share * (1 - gone) * _normal(nodes, mean, deviation))
        rows.append(torch.tensor([[0.0, 1.0, kind]], dtype=torch.float64))
        volume.append(torch.ones(1, dtype=torch.float64))
        density.append(torch.tensor([share * gone], dtype=torch.float64))
    x, volumes = torch.cat(rows), torch.cat(volume)
    cells = locate(x)
    truth = torch.zeros(47, dtype=torch.float64).index_add_(0, cells, volumes * torch.cat(density))
    name = "row with missing values"
    return Case(name, form, drawn(TRAINING_ITEMS), drawn(500), Batch(x.float()), volumes, cells, truth, locate)


# ---- curves: one measured function, looked at in two places between its points ----


def _curve() -> Case:
    form = Curve(1, 1)
    generator = _generator("curve")
    error = 0.2

    def drawn(places: np.ndarray) -> ItemExamples:
        values = np.sin(2 * places) + error * generator.standard_normal(places.shape)
        return ItemExamples(form, torch.from_numpy(np.stack([places, values], axis=-1))[None])

    train, validation = drawn(np.linspace(0, 5, 80)), drawn(np.sort(generator.uniform(0, 5, 20)))
    where = torch.tensor([[1.23], [2.34]], dtype=torch.float64)
    middle = torch.sin(2 * where[:, 0])
    nodes, weights, edges = _nodes(10.0, 160, -0.8, 0.8, 8)
    a, b = torch.meshgrid(nodes + middle[0], nodes + middle[1], indexing="ij")

    def locate(x: Tensor) -> Tensor:
        return _bins(x[:, 0, 1] - middle[0], edges) * 10 + _bins(x[:, 1, 1] - middle[1], edges)

    values = torch.stack([a.flatten(), b.flatten()], dim=1)
    x = torch.stack([where[:, 0].expand_as(values), values], dim=-1)
    volume = (weights[:, None] * weights[None]).flatten()
    density = (_normal(a, float(middle[0]), error) * _normal(b, float(middle[1]), error)).flatten()
    cells = locate(x)
    truth = torch.zeros(100, dtype=torch.float64).index_add_(0, cells, volume * density)
    return Case("curve", form, train, validation, Batch(x), volume, cells, truth, locate, where=where)


CASES: dict[str, tuple[type[Form], type[Form] | None, Callable[[], Case]]] = {
    # name: (form, condition, how it is made)
    "tokens": (Tokens, None, _tokens),
    "stream": (Tokens, None, _stream),
    "tokens with a label": (Tokens, Label, _tokens_labelled),
    "tokens with a prompt": (Tokens, Tokens, _tokens_prompted),
    "binary grid": (Grid, None, lambda: _grid("binary grid", 2, True)),
    "grid of levels": (Grid, None, lambda: _grid("grid of levels", 3, True)),
    "grid of tiles": (Grid, None, lambda: _grid("grid of tiles", 3, False)),
    "binary grid with a label": (Grid, Label, lambda: _grid("binary grid with a label", 2, True, labelled=True)),
    "grid of a grid": (Grid, Grid, _grid_of_grid),
    "continuous grid": (Grid, None, _continuous_grid),
    "row": (Row, None, _row),
    "row with a prompt": (Row, Tokens, _row_prompted),
    "row with missing values": (Row, None, _row_missing),
    "curve": (Curve, None, _curve),
}


@lru_cache
def case(name: str) -> Case:
    """The case of this name; made once."""
    return CASES[name][2]()
