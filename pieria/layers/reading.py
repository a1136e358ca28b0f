"""Reading symbol by symbol: a stack of layers with what was read kept, so that each new place costs one place's work.

At one row the time goes into calling, not into computing: so weights are looked up once, modules are not called, and every
operation on small tensors counts. At many rows it goes into products: so weights are packed where that is quicker.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.weak import WeakIdKeyDictionary

from pieria.layers.attention import rotate, visible
from pieria.layers.decoder import Layer

Map = Callable[[Tensor], Tensor]

# From so many multiply-adds on, packing the weights for oneDNN pays if there is more than one item; from so many numbers on
# it does for one, since they come from memory: of the 38 GB/s that two threads of an EPYC can read, packed weights are read
# at 32 to 36, others at 21 to 27, and torch's own products read 16. From so many rows on oneDNN is quicker in any case.
PACKED, MANY, ROWS = 2**19, 2**17, 8
_packed: WeakIdKeyDictionary = WeakIdKeyDictionary()  # tensor that holds the weights -> (what they were, packed)


def product(weight: Tensor, bias: Tensor | None, items: int) -> Map:
    """x Wᵀ + b, by the quickest routine for rows of so many items; ``weight`` is ``[outputs, inputs]``.

    On processors large ones are oneDNN's, whose weights are packed once, for as long as they do not change.
    """
    holder = weight if weight._base is None else weight._base
    weight, turned = weight.detach(), weight.detach().t()
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
        return lambda x: functional.linear(x, weight, bias)
    multiply = torch.ops.mkldnn._linear_pointwise
    if (items > 1 or weight.numel() >= MANY) and items * weight.numel() >= PACKED:
        packed = _pack(weight, holder, items)
        return lambda x: multiply(x, packed, bias, "none", [], "")

    few = ROWS if weight.numel() < MANY else 1

    def either(x: Tensor) -> Tensor:
        if x.shape[0] >= few:
            return multiply(x, weight, bias, "none", [], "")
        return torch.mm(x, turned) if bias is None else torch.addmm(bias, x, turned)

    return either


def _pack(weight: Tensor, holder: Tensor, items: int) -> Tensor:
    """The weights as oneDNN wants them; as they are where memory is short, or the model would be held twice for it."""
    if weight.is_inference() or psutil.virtual_memory().available < 4 * weight.nbytes:
        return weight
    items = max(items, 2)  # what is packed for one row is read more slowly than what is packed for two
    state = (weight.data_ptr(), weight.shape, items, weight._version, _digest(weight))
    if state[-1] is None or holder not in _packed or _packed[holder][0] != state:
        _packed[holder] = state, torch.ops.mkldnn._reorder_linear_weight(weight, items)
    found: Tensor = _packed[holder][1]
    return found


def _digest(weight: Tensor) -> int | None:
    """Of all bits: fused optimisers and running averages change weights without counting a version. None where torch < 2.9.

    It is read at memory's speed, six times as quickly as weights are packed.
    """
    return int(torch.hash_tensor(weight).view(torch.int64)) if hasattr(torch, "hash_tensor") else None


def normaliser(module: nn.LayerNorm | nn.RMSNorm) -> Map:
    """What a normalisation computes, without calling the module."""
    weight, epsilon, shape = module.weight.detach(), module.eps or 0.0, module.normalized_shape
    if isinstance(module, nn.LayerNorm):
        bias = module.bias
        return lambda x: torch.layer_norm(x, shape, weight, bias, epsilon)
    if weight.device.type != "cpu":
        return lambda x: torch.rms_norm(x, shape, weight, epsilon)
    return root_mean_square(shape[0], epsilon, weight)


def root_mean_square(size: int, epsilon: float, weight: Tensor) -> Map:
    """x / √(mean x² + ε) · weight over the last axis, in half the operations of torch's own on processors."""
    scaled, floor = weight * size**0.5, weight.new_tensor((size * epsilon) ** 0.5)
    return lambda x: x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), floor) * scaled


class Reader:
    """A layer as a decoder uses it, for so many items at once."""

    def __init__(self, layer: Layer, items: int) -> None:
        look, think = layer.look, layer.think
        self.look, self.think, self.items = look, think, items
        self.before_look, self.before_thought = normaliser(layer.before_look), normaliser(layer.before_thought)
        self.project = product(look.project.weight, look.project.bias, items)
        self.output = product(look.output.weight, look.output.bias, items)
        self.enter = product(think.enter.weight, think.enter.bias, items)
        self.leave = product(think.leave.weight, think.leave.bias, items)
        self.unit: Map | None = None
        if look.unit_queries:
            scales = look.scales()
            ones = look.project.weight.new_ones(1, look.size) if scales is None else scales.detach()
            self.unit = root_mean_square(look.size, look.epsilon, ones)
        self.parts = (look.heads, look.key_heads, look.key_heads)
        self.grouped = (items * look.key_heads, look.heads // look.key_heads, look.size)
        self.zero = look.project.weight.new_zeros(())
        self.scale = look.size**-0.5

    def seen(self, first: int) -> int:
        """The first place that any place from ``first`` on sees."""
        return 0 if self.look.window is None else max(0, first + 1 - self.look.window)

    def heads(self, each: Tensor, table: Tensor | tuple[Tensor, ...] | None) -> tuple[Tensor, ...]:
        """Queries, keys and values ``[..., head, size]`` of what was projected, turned by the rows of ``table``."""
        if self.unit is None and table is None:
            return each.split_with_sizes(self.parts, dim=-2)
        turned, values = each.split_with_sizes((self.parts[0] + self.parts[1], self.parts[2]), dim=-2)
        if self.unit is not None:
            turned = self.unit(turned)
        if table is not None:
            turned = rotate(turned, table)
        return *turned.split_with_sizes(self.parts[:2], dim=-2), values

    def find(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """What one query of each head finds, ``[item · key_head, group, size]``.

        ``keys`` are ``[item · key_head, size, place]``, ``values`` ``[item · key_head, place, size]``.
        """
        odds = torch.baddbmm(self.zero, queries.reshape(self.grouped), keys, beta=0, alpha=self.scale)
        return torch.bmm(torch.softmax(odds, -1), values)

    def read(self, x: Tensor, keys: Tensor, values: Tensor, first: int, table: Tensor | None) -> Tensor:
        """``k`` new places of each item from ``first`` on: ``[item, k, width]`` to the same shape.

        ``keys`` and ``values`` are the whole window's, ``[item, key_head, place, size]``; the new ones are put there.
        """
        n, k, width = x.shape
        look, stop, seen = self.look, first + k, self.seen(first)
        flat = x.reshape(n * k, width)
        each = self.project(self.before_look(flat)).view(n, k, -1, look.size)
        queries, new_keys, new_values = self.heads(each, table)
        keys[:, :, first:stop].transpose(1, 2).copy_(new_keys)
        values[:, :, first:stop].transpose(1, 2).copy_(new_values)
        if k == 1:
            shown = keys.flatten(0, 1)[:, seen:stop], values.flatten(0, 1)[:, seen:stop]
            found = self.find(queries, shown[0].transpose(1, 2), shown[1])
        else:
            bounded = first > 0 or look.window is not None
            found = functional.scaled_dot_product_attention(
                queries.transpose(1, 2),
                keys[:, :, seen:stop],
                values[:, :, seen:stop],
                attn_mask=visible(k, stop - seen, look.window, x.device) if bounded else None,
                is_causal=not bounded,
                enable_gqa=look.key_heads != look.heads,
            ).transpose(1, 2)
        flat = flat + self.output(found.reshape(n * k, -1))
        return (flat + self.leave(self.think.bend(self.enter(self.before_thought(flat))))).view(n, k, width)


class Single(Reader):
    """A `Reader` of one item at one new place: into tensors made once, with what can be folded into products there."""

    def __init__(self, layer: Layer, items: int) -> None:
        super().__init__(layer, items)
        look, think = layer.look, layer.think
        weights = look.project.weight, look.output.weight, think.enter.weight, think.leave.weight
        self.turned = tuple(weight.detach().t() for weight in weights)
        self.biases = (look.project.bias, look.output.bias, think.enter.bias, think.leave.bias)
        self.projected = weights[0].new_empty(1, weights[0].shape[0])
        self.each = self.projected.view(-1, look.size)
        self.plain = self.each.split_with_sizes(self.parts, dim=-2)
        self.found = weights[0].new_empty(self.grouped)
        self.flat = self.found.view(1, -1)
        # gelu(h) = √½ (u + u erf u) with u = √½ h: both factors go into products, and torch's own takes twice as long
        self.folds = think.activation == "gelu" and weights[0].device.type == "cpu"
        self.factor = 0.5**0.5 if self.folds else 1.0

    def one(
        self, x: Tensor, slots: tuple[Tensor, ...], shown: tuple[Tensor, ...], table: tuple[Tensor, ...] | None
    ) -> Tensor:
        """``[1, width]`` to the same shape. ``slots`` take key and value; ``shown`` is what is seen, as for `find`."""
        project, output, enter, leave = self.turned
        project_bias, output_bias, enter_bias, leave_bias = self.biases
        normal = self.before_look(x)
        if project_bias is None:
            torch.mm(normal, project, out=self.projected)
        else:
            torch.addmm(project_bias, normal, project, out=self.projected)
        queries, key, value = self.plain if self.unit is None and table is None else self.heads(self.each, table)
        slots[0].copy_(key)
        slots[1].copy_(value)
        odds = torch.baddbmm(self.zero, queries.view(self.grouped), shown[0], beta=0, alpha=self.scale)
        torch.bmm(torch.softmax(odds, -1), shown[1], out=self.found)
        x = torch.addmm(x if output_bias is None else x + output_bias, self.flat, output)
        normal = self.before_thought(x)
        if not self.folds:
            inner = self.think.bend(self.enter(normal))
        elif enter_bias is None:
            inner = torch.addmm(self.zero, normal, enter, beta=0, alpha=self.factor)
            inner = torch.addcmul(inner, inner, torch.erf(inner))
        else:
            inner = torch.addmm(enter_bias, normal, enter, beta=self.factor, alpha=self.factor)
            inner = torch.addcmul(inner, inner, torch.erf(inner))
        return torch.addmm(x if leave_bias is None else x + leave_bias, inner, leave, alpha=self.factor)


def small(layer: Layer) -> bool:
    """Whether calling costs more than computing at one row."""
    return layer.think.enter.weight.numel() < MANY


@dataclass
class Cache:
    """What a decoder keeps: keys and values of every place read, in tensors as large as the window from the start.

    Attributes:
        readers: the layers.
        keys: ``[layer, item, key_head, place, size]``.
        values: the same shape.
        label: the condition's vector ``[item, 1, width]`` or None.
        symbols: what the window holds, as pieces of ``[item, k]``.
        used: how many places of the window are filled.
    """

    readers: list[Reader]
    keys: Tensor
    values: Tensor
    label: Tensor | None = None
    symbols: list[Tensor] = field(default_factory=list)
    used: int = 0

    @classmethod
    def empty(cls, layers: Iterable[Layer], items: int, places: int, label: Tensor | None = None) -> "Cache":
        """Nothing read yet, for so many items and places."""
        readers: list[Reader] = [(Single if items == 1 and small(layer) else Reader)(layer, items) for layer in layers]
        look = readers[0].look
        shape = (len(readers), items, look.key_heads, places, look.size)
        new = look.project.weight.new_empty
        return cls(readers, new(shape), new(shape), label)

    def __deepcopy__(self, memo: object) -> "Cache":
        """What was read is copied; the label and the weights, which reading does not change, are shared."""
        return replace(self, keys=self.keys.clone(), values=self.values.clone(), symbols=list(self.symbols))

    def take(self, other: "Cache", rows: Tensor) -> None:
        """Hold what ``other`` (which may be this one) holds of the items ``rows``."""
        used = slice(0, other.used)
        self.keys[:, :, :, used] = other.keys[:, :, :, used].index_select(1, rows)
        self.values[:, :, :, used] = other.values[:, :, :, used].index_select(1, rows)
        self.label = None if other.label is None else other.label.index_select(0, rows)
        self.symbols = [torch.cat(other.symbols, dim=1).index_select(0, rows)] if other.symbols else []
        self.used = other.used

    def read(self, tokens: Tensor, x: Tensor, table: Tensor | None) -> Tensor:
        """The last new place's vector ``[item, width]``; ``x`` ``[item, k, width]`` are the ``tokens``, embedded.

        ``table`` holds the rotary rows of the whole window.
        """
        n, k = tokens.shape
        first, stop = self.used, self.used + k
        self.symbols.append(tokens)
        self.used = stop
        if n == k == 1 and isinstance(self.readers[0], Single):
            return self._one(x[0], first, table)
        rows = None if table is None else table[:, first:stop]
        for reader, keys, values in zip(self.readers, self.keys.unbind(0), self.values.unbind(0), strict=True):
            x = reader.read(x, keys, values, first, rows)
        return x[:, -1]

    def _one(self, x: Tensor, place: int, table: Tensor | None) -> Tensor:
        rows = None if table is None else table[:, place].unbind(0)
        stop, all_keys, all_values = place + 1, self.keys[:, 0], self.values[:, 0]
        # views of all layers at once: cutting them out layer by layer would cost four operations in each
        slots = zip(all_keys.select(2, place).unbind(0), all_values.select(2, place).unbind(0), strict=True)
        keys = all_keys.narrow(2, 0, stop).transpose(2, 3).unbind(0)
        values = all_values.narrow(2, 0, stop).unbind(0)
        for reader, slot, seen_keys, seen_values in zip(self.readers, slots, keys, values, strict=True):
            assert isinstance(reader, Single)
            start = reader.seen(place)
            if start:
                seen_keys, seen_values = seen_keys[:, :, start:], seen_values[:, start:]
            x = reader.one(x, slot, (seen_keys, seen_values), rows)
        return x
