"""The code whose item is nearest to a given one, found by optimisation.

Where the model gives its expected item (`Expects`), the search follows the slope of the squared error with Adam; where it
only decodes, it tries many codes around the best ones: an evolution strategy with one step size a number, sep-CMA-ES (Ros &
Hansen 2008, A simple modification in CMA-ES achieving linear time and space complexity). Both work on all items at once,
each by itself. Inverting a generator by its slope: Zhu et al. 2016 (arXiv:1609.03552).
"""

import math

import torch
from torch import Tensor

from pieria.errors import UsageError
from pieria.forms import Grid
from pieria.latent.distances import cells, reading, scaled
from pieria.latent.space import AT_ONCE, Space
from pieria.models.contract import Expects
from pieria.noise import ItemNoise

STARTS = 1024  # codes of the prior, among which a search without an encoder looks for its beginning
PULL = 1e-3  # mean squared error that a code of one standard unit in each number costs: it stays where codes are drawn
RATE = 0.1  # of Adam, in standard units of the prior
ROUNDS = 4  # evaluations of a generation of the evolution strategy, in the time of one step along a slope


def search(
    space: Space,
    x: Tensor,
    labels: Tensor | None = None,
    *,
    begin: Tensor | None = None,
    steps: int = 300,
    pull: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """The code ``[n, numbers]`` whose item is nearest to each of ``x``, on top of ``pull`` towards the prior's mean.

    It begins at ``begin``, or at the encoder's code, or at the best of many codes of the prior. No code is returned that is
    worse than the one that it began with.
    """
    if steps < 1:
        raise UsageError(f"a search of {steps} steps", "at least 1")
    if not space.drawn and begin is None and not space.encodes:
        raise UsageError(f"a search in the space {space.name!r}, which has no prior to begin from", "the space 'z'")
    x = x.to(space.device)
    wanted = reading(space.model.form, x)
    if begin is None:
        begin = space.encode(x, labels) if space.encodes else _nearest_draws(space, x, wanted, labels, seed)
    centre, spread = (space.centre, space.spread) if space.drawn else (torch.zeros(1), torch.ones(1))
    centre, spread = centre.to(begin), spread.to(begin)
    away = (begin - centre) / spread
    slope = isinstance(space.model, Expects) and isinstance(space.model.form, Grid)
    found = []
    for start in range(0, len(x), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        task = _Task(space, x[part], wanted[part], None if labels is None else labels[part], centre, spread, pull)
        count = (start, len(x))
        found.append(_descend(task, away[part], steps, count) if slope else _evolve(task, away[part], steps, seed, count))
    return torch.cat(found) * spread + centre


class _Task:
    """What is searched for some items, in standard units of the prior."""

    def __init__(
        self, space: Space, x: Tensor, wanted: Tensor, labels: Tensor | None, centre: Tensor, spread: Tensor, pull: float
    ) -> None:
        self.space, self.x, self.wanted, self.labels, self.pull = space, x, wanted, labels, pull
        self.centre, self.spread = centre, spread
        self.cells = cells(space.model.form, x)

    def tell(self, what: str, step: int, steps: int, count: tuple[int, int]) -> None:
        first, total = count
        self.space.progress(what, first * steps + step * len(self.x), total * steps)

    def expected_cost(self, away: Tensor) -> Tensor:
        """The mean squared error of each code's expected item, with a slope, ``[n]``."""
        model, form = self.space.model, self.space.model.form
        assert isinstance(model, Expects)
        assert isinstance(form, Grid)
        codes = self.space.shaped(away * self.spread + self.centre)
        made = scaled(form, model.expected(codes, self.space.name, self.labels))
        return (made - self.wanted).square().sum(dim=1) / self.cells + self.pull * away.square().mean(dim=1)

    def cost(self, away: Tensor) -> Tensor:
        """The mean squared error of the items of codes ``[n, tries, numbers]``, ``[n, tries]``."""
        tries = away.shape[1]
        labels = None if self.labels is None else self.labels.repeat_interleave(tries)
        made = self.space.decode((away * self.spread + self.centre).flatten(0, 1), labels).to(away.device)
        read = reading(self.space.model.form, made).unflatten(0, (-1, tries))
        error = (read - self.wanted[:, None]).square().sum(dim=2) / self.cells
        return error.to(away) + self.pull * away.square().mean(dim=2)


def _nearest_draws(space: Space, x: Tensor, wanted: Tensor, labels: Tensor | None, seed: int) -> Tensor:
    """For each item the code of the prior, of `STARTS`, whose item is nearest to it."""
    codes = space.draw(STARTS, seed)
    best = codes.new_empty(len(x), space.size)
    groups = [None] if labels is None else [int(label) for label in labels.unique()]
    for group in groups:
        rows = torch.arange(len(x), device=x.device)
        if labels is not None and group is not None:
            rows = rows[labels.eq(group)]
        asked = None if group is None else torch.full((STARTS,), group, device=space.device)
        made = reading(space.model.form, space.decode(codes, asked).to(x.device))
        for part in rows.split(AT_ONCE):
            best[part] = codes[torch.cdist(wanted[part], made).argmin(dim=1)]
    return best


def _descend(task: _Task, begin: Tensor, steps: int, count: tuple[int, int]) -> Tensor:
    """Adam on every code by itself, its rate falling to nothing; the best code met."""
    away = begin.detach().clone().requires_grad_(True)
    optimiser = torch.optim.Adam([away], lr=RATE, betas=(0.9, 0.99))
    best, least = begin.detach().clone(), torch.full((len(begin),), math.inf, device=begin.device)
    with torch.enable_grad():
        for step in range(steps + 1):
            cost = task.expected_cost(away)
            better = cost.detach() < least
            best[better], least[better] = away.detach()[better], cost.detach()[better]
            if step == steps:
                break
            # a share of the rate that falls from 1 to 0 along half a wave
            optimiser.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
            (away.grad,) = torch.autograd.grad(cost.sum(), away)
            optimiser.step()
            task.tell("searching for codes", step + 1, steps, count)
    return best


def _evolve(task: _Task, begin: Tensor, steps: int, seed: int, count: tuple[int, int]) -> Tensor:
    """sep-CMA-ES with its usual constants: mean, step size and a variance for each number, learned from the better half."""
    items, d = begin.shape
    tries = 2 * (4 + int(3 * math.log(d)))
    parents = tries // 2
    weight = math.log(parents + 0.5) - torch.arange(1, parents + 1, device=begin.device).double().log()
    weight = (weight / weight.sum()).to(begin)
    mass = float(1 / weight.square().sum())  # how many parents that counts as
    c_size, damping = (mass + 2) / (d + mass + 5), 1 + 2 * max(0.0, math.sqrt((mass - 1) / (d + 1)) - 1)
    damping += c_size
    c_path = (4 + mass / d) / (d + 4 + 2 * mass / d)
    c_one = 2 / ((d + 1.3) ** 2 + mass) * (d + 2) / 3
    c_many = min(1 - c_one, 2 * (mass - 2 + 1 / mass) / ((d + 2) ** 2 + mass) * (d + 2) / 3)
    usual = math.sqrt(d) * (1 - 1 / (4 * d) + 1 / (21 * d * d))  # the mean length of a standard Gaussian
    mean, size = begin.clone(), torch.full((items, 1), 0.3, device=begin.device)
    variance, path, size_path = torch.ones_like(mean), torch.zeros_like(mean), torch.zeros_like(mean)
    best, least = begin.clone(), task.cost(begin[:, None])[:, 0]
    noise = ItemNoise(seed, items, first=count[0])
    for step in range(steps * ROUNDS):
        drawn = noise.normal("search", (tries, d), step=step).to(begin) * variance.sqrt()[:, None]
        tried = mean[:, None] + size[:, None] * drawn
        cost = task.cost(tried)
        order = cost.argsort(dim=1)
        front = cost.gather(1, order[:, :1])[:, 0]
        better = front < least
        best[better] = tried[torch.arange(items, device=begin.device), order[:, 0]][better]
        least = torch.minimum(least, front)
        chosen = drawn.gather(1, order[:, :parents, None].expand(-1, -1, d))  # [item, parent, number]
        moved = (weight[:, None] * chosen).sum(dim=1)
        mean = mean + size * moved
        size_path = (1 - c_size) * size_path + math.sqrt(c_size * (2 - c_size) * mass) * moved / variance.sqrt()
        length = size_path.norm(dim=1, keepdim=True)
        steady = (length / math.sqrt(1 - (1 - c_size) ** (2 * step + 2)) < (1.4 + 2 / (d + 1)) * usual).to(begin)
        path = (1 - c_path) * path + steady * math.sqrt(c_path * (2 - c_path) * mass) * moved
        learned = c_one * path.square() + c_many * (weight[:, None] * chosen.square()).sum(dim=1)
        variance = ((1 - c_one - c_many) * variance + learned).clamp(min=1e-12)
        size = (size * ((c_size / damping) * (length / usual - 1)).exp()).clamp(1e-8, 10)
        task.tell("searching for codes", (step + 1) // ROUNDS, steps, count)
    return best
