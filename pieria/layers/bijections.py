"""Invertible maps with known log-determinants: what normalizing flows are chained from.

``forward`` goes from data to code, ``z = f(x)``, and says ``log |det ∂z/∂x|``, so that ``log p(x) = log N(z) + log |det|``;
``inverse`` goes back. The numbers of an item stand in the last dimension: ``[batch, number]``, or ``[batch, height, width,
channel]`` for a field that shares a map at all its places. ``context`` is what the map is conditional on.

Vectors may have gaps: where ``present`` is 0 a number does not exist. It is 0 on the way in and on the way out, and has no
part in the determinant, so that what remains is a flow of its own over the numbers that are there.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pieria.layers.masked_perceptron import MaskedMLP
from pieria.layers.mlp import MLP
from pieria.layers.splines import Elementwise

LEAST_SPREAD = 0.05  # a channel that hardly varies is not blown up beyond twentyfold


class Bijection(nn.Module, ABC):
    """An invertible map of items, conditional on a context."""

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``x [batch, …, n]`` to the code of the same shape, and the log-determinant ``[batch]``."""

    @abstractmethod
    def inverse(self, z: Tensor, context: Tensor, present: Tensor | None = None) -> Tensor:
        """What `forward` made ``z`` of."""

    def start(self, x: Tensor, context: Tensor) -> Tensor:
        """Set what depends on data by a first batch, and return its codes."""
        return self(x, context)[0]  # type: ignore[no-any-return]


class Chain(Bijection):
    """One map after the other."""

    def __init__(self, links: Iterable[Bijection]) -> None:
        super().__init__()
        self.links: Sequence[Bijection] = nn.ModuleList(links)  # type: ignore[assignment]  # a list of bijections

    def forward(self, x: Tensor, context: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Log-determinants add up."""
        total = x.new_zeros(len(x))
        for link in self.links:
            x, rise = link(x, context, present)
            total = total + rise
        return x, total

    def inverse(self, z: Tensor, context: Tensor, present: Tensor | None = None) -> Tensor:
        """The last link first."""
        for link in reversed(list(self.links)):
            z = link.inverse(z, context, present)
        return z

    def start(self, x: Tensor, context: Tensor) -> Tensor:
        """Each link by what the ones before it made."""
        for link in self.links:
            x = link.start(x, context)
        return x


class ActNorm(Bijection):
    """A shift and a scale for each channel, by which a first batch gets mean 0, deviation 1 (Kingma & Dhariwal 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, context: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same determinant for every item."""
        z, rise = (x + self.shift) * self.log_scale.exp(), self.log_scale.expand(x.shape)
        return _there(z, present), _there(rise, present).flatten(1).sum(dim=1)

    def inverse(self, z: Tensor, context: Tensor, present: Tensor | None = None) -> Tensor:
        """Scale, then shift."""
        return _there(z * (-self.log_scale).exp() - self.shift, present)

    @torch.no_grad()
    def start(self, x: Tensor, context: Tensor) -> Tensor:
        """Standardise this batch."""
        seen = x.flatten(0, -2)
        self.shift.copy_(-seen.mean(dim=0))
        self.log_scale.copy_(-seen.std(dim=0, correction=0).clamp(min=LEAST_SPREAD).log())
        return self(x, context)[0]  # type: ignore[no-any-return]


class Mixing(Bijection):
    """Channels mixed by an invertible matrix ``P L (U + diag)``, a 1 × 1 convolution (Kingma & Dhariwal 2018).

    The permutation ``P`` and the signs of the diagonal stay as they begin, those of a random rotation; the triangles ``L``
    and ``U`` and the size of the diagonal are learned, and the determinant is a sum.
    """

    order: Tensor
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels))[0]
        permutation, lower, upper = torch.linalg.lu(rotation)
        self.register_buffer("order", permutation.argmax(dim=1))
        self.register_buffer("sign", upper.diagonal().sign())
        self.lower = nn.Parameter(lower.tril(-1))
        self.upper = nn.Parameter(upper.triu(1))
        self.log_diagonal = nn.Parameter(upper.diagonal().abs().log())

    def matrix(self) -> Tensor:
        """``[channels, channels]``."""
        lower = self.lower.tril(-1) + torch.eye(len(self.lower), dtype=self.lower.dtype, device=self.lower.device)
        upper = self.upper.triu(1) + torch.diag(self.sign * self.log_diagonal.exp())
        return (lower @ upper)[self.order]

    def forward(self, x: Tensor, context: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Every place by the same matrix, in full precision."""
        _whole(present)
        with torch.autocast(x.device.type, enabled=False):
            z = F.linear(x, self.matrix())
        return z, (self.log_diagonal.sum() * (x[0].numel() // x.shape[-1])).expand(len(x))

    def inverse(self, z: Tensor, context: Tensor, present: Tensor | None = None) -> Tensor:
        """By the inverse matrix, found in float64."""
        _whole(present)
        return F.linear(z, torch.linalg.inv(self.matrix().double()).to(z.dtype))


class Squeeze(Bijection):
    """Blocks of 2 × 2 places become one with four times the channels (Dinh et al. 2017)."""

    def forward(self, x: Tensor, context: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Float ``[batch, height, width, channel] → [batch, height / 2, width / 2, 4 channel]``."""
        n, height, width, channels = x.shape
        blocks = x.reshape(n, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 2, 4, 5)
        return blocks.reshape(n, height // 2, width // 2, 4 * channels), x.new_zeros(n)

    def inverse(self, z: Tensor, context: Tensor, present: Tensor | None = None) -> Tensor:
        """Back to twice the height and the width."""
        n, height, width, channels = z.shape
        blocks = z.reshape(n, height, width, 2, 2, channels // 4).permute(0, 1, 3, 2, 4, 5)
        return blocks.reshape(n, 2 * height, 2 * width, channels // 4)


class Coupling(Bijection):
    """Some numbers stay, and tell how each of the others is changed (Dinh et al. 2015, 1410.8516; 2017, 1605.08803).

    ``network(stay, context)`` writes ``[batch, …, changed × parameters]`` of ``law``, the function of one number.
    """

    def __init__(self, size: int, kept: slice, changed: slice, network: nn.Module, law: Elementwise) -> None:
        super().__init__()
        self.kept, self.changed, self.network, self.law = kept, changed, network, law
        self.count = len(range(size)[changed])

    def _raw(self, x: Tensor, context: Tensor) -> Tensor:
        raw: Tensor = self.network(x[..., self.kept], context)
        return raw.to(x.dtype).unflatten(-1, (self.count, -1))

    def _with(self, x: Tensor, part: Tensor) -> Tensor:
        return torch.slice_scatter(x, part, -1, self.changed.start, self.changed.stop, self.changed.step or 1)

    def forward(self, x: Tensor, context: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The determinant is that of the numbers that change."""
        there = None if present is None else present[..., self.changed]
        part, rise = self.law.forward(x[..., self.changed], self._raw(x, context))
        return self._with(x, _there(part, there)), _there(rise, there).flatten(1).sum(dim=1)

    def inverse(self, z: Tensor, context: Tensor, present: Tensor | None = None) -> Tensor:
        """What stayed tells how the others were changed."""
        there = None if present is None else present[..., self.changed]
        return self._with(z, _there(self.law.inverse(z[..., self.changed], self._raw(z, context)), there))


class Autoregressive(Bijection):
    """Each number is changed as those before it tell (Papamakarios et al. 2017, arXiv 1705.07057).

    All at once on the way to the code, one after the other on the way back.
    """

    def __init__(self, size: int, context: int, widths: Sequence[int], law: Elementwise, *, backwards: bool = False) -> None:
        super().__init__()
        places = list(range(size, 0, -1)) if backwards else list(range(1, size + 1))
        self.size, self.law, self.backwards = size, law, backwards
        outputs = [place for place in places for _ in range(law.parameters)]
        self.network = MaskedMLP(places, outputs, widths, context)

    def _raw(self, x: Tensor, context: Tensor) -> Tensor:
        raw: Tensor = self.network(x, context)
        return raw.to(x.dtype).unflatten(-1, (self.size, -1))

    def forward(self, x: Tensor, context: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The Jacobian is triangular."""
        z, rise = self.law.forward(x, self._raw(x, context))
        return _there(z, present), _there(rise, present).sum(dim=1)

    def inverse(self, z: Tensor, context: Tensor, present: Tensor | None = None) -> Tensor:
        """One pass of the network for each number."""
        x = torch.zeros_like(z)
        for place in reversed(range(self.size)) if self.backwards else range(self.size):
            back = _there(self.law.inverse(z, self._raw(x, context)), present)
            x = torch.slice_scatter(x, back[:, place : place + 1], 1, place, place + 1)
        return x


class Scales(Bijection):
    """A field from fine to coarse: squeeze, some layers, put half of the channels aside as code, go on (Dinh et al. 2017).

    What is put aside is changed once more, by what goes on; where ``asides`` has None, all goes on. Codes are flat,
    ``[batch, height × width × channel]``, the finest first; ``sizes`` says how many numbers each scale puts aside.
    """

    def __init__(
        self, shape: tuple[int, int, int], levels: Sequence[Chain], asides: Sequence[Bijection | None], squeeze: Squeeze
    ) -> None:
        super().__init__()
        self.levels: Sequence[Chain] = nn.ModuleList(levels)  # type: ignore[assignment]  # a list of chains
        self.squeeze = squeeze
        self.asides = nn.ModuleDict({str(place): aside for place, aside in enumerate(asides) if aside is not None})
        height, width, channels = shape
        self.shapes: list[tuple[int, int, int]] = []
        for place in range(len(levels)):
            height, width, channels = height // 2, width // 2, 4 * channels
            last = place == len(levels) - 1
            aside = channels if last else channels // 2 if str(place) in self.asides else 0
            self.shapes.append((height, width, aside))
            channels -= aside
        self.sizes = [height * width * channels for height, width, channels in self.shapes]

    def forward(self, x: Tensor, context: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Float ``[batch, height, width, channel]`` to ``[batch, number]``."""
        codes, total = [], x.new_zeros(len(x))
        for place, level in enumerate(self.levels):
            x, rise = level(self.squeeze(x, context)[0], context)
            total = total + rise
            if (told := self._aside(place)) is not None:
                x, rise = told(x, context)
                total = total + rise
                x, aside = x.chunk(2, dim=-1)
                codes.append(aside.flatten(1))
        return torch.cat([*codes, x.flatten(1)], dim=1), total

    def inverse(self, z: Tensor, context: Tensor, present: Tensor | None = None) -> Tensor:
        """The coarsest scale first."""
        *_, (_, _, x) = self._back(z, context)
        return self.squeeze.inverse(x, context)

    def steps(self, z: Tensor, context: Tensor) -> Iterator[Tensor]:
        """The field at its full size after each coupling on the way back, as if what is not undone yet did nothing."""
        parts = self._parts(z)
        for place, link, x in self._back(z, context):
            if not isinstance(link, Coupling):
                continue
            whole = self.squeeze.inverse(x, context)
            for finer in reversed(range(place)):
                whole = self.squeeze.inverse(torch.cat([whole, parts[finer]], dim=-1), context)
            yield whole

    def _aside(self, place: int) -> Bijection | None:
        """What tells the half that is put aside at this scale how to change."""
        if str(place) not in self.asides:
            return None
        told = self.asides[str(place)]
        assert isinstance(told, Bijection)
        return told

    def _parts(self, z: Tensor) -> list[Tensor]:
        return [part.unflatten(1, shape) for part, shape in zip(z.split(self.sizes, dim=1), self.shapes, strict=True)]

    def _back(self, z: Tensor, context: Tensor) -> Iterator[tuple[int, Bijection | None, Tensor]]:
        """Each link of each scale that was undone, and the field then; None when all of a scale are."""
        parts = self._parts(z)
        x = parts[-1]
        for place in reversed(range(len(self.levels))):
            if place < len(self.levels) - 1:
                x = self.squeeze.inverse(x, context)
            if (told := self._aside(place)) is not None:
                x = told.inverse(torch.cat([x, parts[place]], dim=-1), context)
            for link in reversed(list(self.levels[place].links)):
                x = link.inverse(x, context)
                yield place, link, x
            yield place, None, x

    def start(self, x: Tensor, context: Tensor) -> Tensor:
        """Each scale by what the finer ones made."""
        for place, level in enumerate(self.levels):
            x = level.start(self.squeeze(x, context)[0], context)
            if (told := self._aside(place)) is not None:
                x = told(x, context)[0].chunk(2, dim=-1)[0]
        return x


class VectorNetwork(nn.Module):
    """A perceptron over numbers and their context, ``[batch, inputs]`` and ``[batch, context]``, writing 0 at first."""

    def __init__(self, inputs: int, context: int, widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        # with nothing to read, it reads one zero: what it writes is then a constant
        self.empty = inputs + context == 0
        self.network = MLP(max(1, inputs + context), widths, outputs)
        last = self.network.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Float ``[batch, outputs]``."""
        read = x.new_zeros(len(x), 1) if self.empty else torch.cat([x, context], dim=1)
        out: Tensor = self.network(read)
        return out


class Windows(torch.autograd.Function):
    """The ``reach × reach`` places around each place of a field, side by side; 0 outside.

    Float ``[batch, height, width, c] → [batch, height, width, reach² c]``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, reach: int) -> Tensor:
        """Shifted copies."""
        ctx.reach = reach
        height, width = x.shape[1:3]
        edge = reach // 2
        padded = F.pad(x, (0, 0, edge, edge, edge, edge))
        shifts = [padded[:, i : i + height, j : j + width] for i in range(reach) for j in range(reach)]
        return torch.cat(shifts, dim=-1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        """The adjoint."""
        return Gathered.apply(grad, ctx.reach), None


class Gathered(torch.autograd.Function):
    """The adjoint of `Windows`: each place sums what was written to it from the places around it."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, reach: int) -> Tensor:
        """Shifted sums."""
        ctx.reach = reach
        n, height, width, channels = y.shape
        edge = reach // 2
        total = y.new_zeros(n, height + 2 * edge, width + 2 * edge, channels // reach**2)
        for place, part in enumerate(y.chunk(reach**2, dim=-1)):
            i, j = divmod(place, reach)
            total[:, i : i + height, j : j + width] += part
        return total[:, edge : edge + height, edge : edge + width].contiguous()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        """The adjoint."""
        return Windows.apply(grad, ctx.reach), None


class FieldNetwork(nn.Module):
    """Three convolutions over a field, ``[batch, height, width, inputs] → [.., outputs]``; what is written is 0 at first.

    The first sees ``reach × reach`` places, the second one, the last writes to 3 × 3, without ``spread`` to its own. With
    ``places`` (height, width) each place has a bias of its own. The context is a vector ``[batch, context]``, the same at
    every place, or with ``maps`` a field beside the inputs.

    Few channels go in and come out, so each layer is one matrix product over all places, beside sums of shifted copies: on a
    processor that is several times quicker than convolutions are.
    """

    def __init__(
        self,
        inputs: int,
        context: int,
        hidden: int,
        outputs: int,
        *,
        maps: bool = False,
        reach: int = 3,
        spread: bool = True,
        places: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.maps, self.reach, self.spread = maps, reach, spread
        self.first = nn.Linear(reach**2 * (inputs + (context if maps else 0)), hidden)
        self.given = nn.Linear(context, hidden, bias=False) if context and not maps else None
        self.place = None if places is None else nn.Parameter(torch.zeros(*places, hidden))
        self.middle = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, 9 * outputs if spread else outputs, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Float ``[batch, height, width, outputs]``."""
        read = torch.cat([x, context], dim=-1) if self.maps else x
        if torch.is_autocast_enabled(read.device.type) and not read.requires_grad:
            read = read.to(torch.get_autocast_dtype(read.device.type))  # before it is copied, not after
        features = self.first(Windows.apply(read, self.reach))
        if self.given is not None:
            features = features + self.given(context)[:, None, None]
        if self.place is not None:
            features = features + self.place.to(features.dtype)
        written = self.last(F.relu(self.middle(F.relu(features)))).to(x.dtype)
        out: Tensor = (Gathered.apply(written, 3) if self.spread else written) + self.bias
        return out


def _there(values: Tensor, present: Tensor | None) -> Tensor:
    return values if present is None else torch.where(present > 0, values, torch.zeros_like(values))


def _whole(present: Tensor | None) -> None:
    assert present is None, "numbers cannot be mixed where some are missing"
