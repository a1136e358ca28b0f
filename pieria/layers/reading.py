"""Reading symbol by symbol: a stack of layers with what was read kept, so that each new place costs one place's work.

At one row the time goes into calling, not into computing: so weights are looked up once, modules are not called, and every
operation on small tensors counts. At many rows it goes into products: so weights are packed where that is quicker.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from pieria.layers.attention import rotate, visible
from pieria.layers.decoder import Layer

Map = Callable[[Tensor], Tensor]

# multiply-adds of a product from which packing its weights for oneDNN pays, if there is more than one row; measured on an
# EPYC, where torch's float32 products come from a library that is made for Intel's processors
PACKED = 2**19


def product(weight: Tensor, bias: Tensor | None, rows: int) -> Map:
    """x Wᵀ + b for x of so many rows, by the quickest routine; ``weight`` is ``[outputs, inputs]``.

    On processors large ones are oneDNN's, whose weights are packed here, once for all calls (twice as quick at 32 rows).
    """
    weight = weight.detach()
    plain = weight.device.type == "cpu" and weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()
    if plain and rows > 1 and rows * weight.numel() >= PACKED:
        packed, multiply = torch.ops.mkldnn._reorder_linear_weight(weight, rows), torch.ops.mkldnn._linear_pointwise
        return lambda x: multiply(x, packed, bias, "none", [], "")
    turned = weight.t()
    if bias is None:
        return lambda x: torch.mm(x, turned)
    return lambda x: torch.addmm(bias, x, turned)


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
        self.look, self.bend, self.items = look, think.bend, items
        self.before_look, self.before_thought = normaliser(layer.before_look), normaliser(layer.before_thought)
        self.project = product(look.project.weight, look.project.bias, items)
        self.output = self._onto(look.output)
        self.enter = product(think.enter.weight, think.enter.bias, items)
        self.leave = self._onto(think.leave)
        self.unit: Map | None = None
        if look.unit_queries:
            scales = look.scales()
            ones = look.project.weight.new_ones(1, look.size) if scales is None else scales.detach()
            self.unit = root_mean_square(look.size, look.epsilon, ones)
        self.parts = (look.heads, look.key_heads, look.key_heads)
        self.grouped = (items * look.key_heads, look.heads // look.key_heads, look.size)
        self.zero = look.project.weight.new_zeros(())
        self.scale = look.size**-0.5

    def _onto(self, linear: nn.Linear) -> Callable[[Tensor, Tensor], Tensor]:
        """x + h Wᵀ + b of x and h; at one row in one operation."""
        if self.items > 1 or linear.bias is not None:
            multiply = product(linear.weight, linear.bias, self.items)
            return lambda x, h: x + multiply(h)
        turned = linear.weight.detach().t()
        return lambda x, h: torch.addmm(x, h, turned)

    def heads(self, projected: Tensor, table: Tensor | tuple[Tensor, ...] | None) -> tuple[Tensor, ...]:
        """Queries, keys and values ``[..., head, size]``, turned by the rows of ``table`` (as `Attention.heads_of` has it)."""
        each = projected.view(*projected.shape[:-1], -1, self.look.size)
        if self.unit is None and table is None:
            return each.split_with_sizes(self.parts, dim=-2)
        turned, values = each.split_with_sizes((self.parts[0] + self.parts[1], self.parts[2]), dim=-2)
        if self.unit is not None:
            turned = self.unit(turned)
        if table is not None:
            turned = rotate(turned, table)
        return *turned.split_with_sizes(self.parts[:2], dim=-2), values

    def one(self, x: Tensor, window: tuple[Tensor, ...], table: tuple[Tensor, ...] | None) -> Tensor:
        """One new place of each item: ``[item, width]`` to the same shape.

        ``window`` is where its key and value go, ``[item, key_head, size]`` each, and what is seen with them: keys
        ``[item · key_head, size, place]``, values ``[item · key_head, place, size]``.
        """
        key, value, keys, values = window
        queries, new_key, new_value = self.heads(self.project(self.before_look(x)), table)
        key.copy_(new_key)
        value.copy_(new_value)
        odds = torch.baddbmm(self.zero, queries.reshape(self.grouped), keys, beta=0, alpha=self.scale)
        found = torch.bmm(torch.softmax(odds, -1), values)
        x = self.output(x, found.view(self.items, -1))
        return self.leave(x, self.bend(self.enter(self.before_thought(x))))

    def many(self, x: Tensor, keys: Tensor, values: Tensor, first: int, table: Tensor | None) -> Tensor:
        """``k`` new places of each item from ``first`` on: ``[item, k, width]`` to the same shape; k is 1 or more.

        ``keys`` and ``values`` are the whole window's, ``[item, key_head, place, size]``; the new ones are put there.
        """
        n, k, width = x.shape
        look, stop = self.look, first + k
        flat = x.reshape(n * k, width)
        queries, new_keys, new_values = self.heads(self.project(self.before_look(flat)).view(n, k, -1), table)
        keys[:, :, first:stop].transpose(1, 2).copy_(new_keys)
        values[:, :, first:stop].transpose(1, 2).copy_(new_values)
        seen = self.seen(first, k)
        bounded = first > 0 or look.window is not None
        found = functional.scaled_dot_product_attention(
            queries.transpose(1, 2),
            keys[:, :, seen:stop],
            values[:, :, seen:stop],
            attn_mask=visible(k, stop - seen, look.window, x.device) if bounded else None,
            is_causal=not bounded,
            enable_gqa=look.key_heads != look.heads,
        )
        flat = self.output(flat, found.transpose(1, 2).reshape(n * k, -1))
        return self.leave(flat, self.bend(self.enter(self.before_thought(flat)))).view(n, k, width)

    def seen(self, first: int, k: int = 1) -> int:
        """The first place that any of the ``k`` places from ``first`` on sees."""
        return 0 if self.look.window is None else max(0, first + 1 - self.look.window)


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
        readers = [Reader(layer, items) for layer in layers]
        look = readers[0].look
        shape = (len(readers), items, look.key_heads, places, look.size)
        new = look.project.weight.new_empty
        return cls(readers, new(shape), new(shape), label)

    def __deepcopy__(self, memo: object) -> "Cache":
        """What was read is copied; the label and the weights, which reading does not change, are shared."""
        return replace(self, keys=self.keys.clone(), values=self.values.clone(), symbols=list(self.symbols))

    def read(self, tokens: Tensor, x: Tensor, table: Tensor | None) -> Tensor:
        """The last new place's vector ``[item, width]``; ``x`` ``[item, k, width]`` are the ``tokens``, embedded.

        ``table`` holds the rotary rows of the whole window.
        """
        first, stop = self.used, self.used + tokens.shape[1]
        if tokens.shape[1] == 1:
            last = self._one(x[:, 0], first, table)
        else:
            rows = None if table is None else table[:, first:stop]
            for reader, keys, values in zip(self.readers, self.keys, self.values, strict=True):
                x = reader.many(x, keys, values, first, rows)
            last = x[:, -1]
        self.symbols.append(tokens)
        self.used = stop
        return last

    def _one(self, x: Tensor, place: int, table: Tensor | None) -> Tensor:
        # views of all layers at once: cutting them out layer by layer would cost four operations in each
        rows = None if table is None else table[:, place].unbind(0)
        new = zip(self.keys.select(3, place).unbind(0), self.values.select(3, place).unbind(0), strict=True)
        keys, values = self.keys.flatten(1, 2), self.values.flatten(1, 2)
        seen = [reader.seen(place) for reader in self.readers]
        if not any(seen):
            shown = keys[:, :, : place + 1].transpose(2, 3).unbind(0), values[:, :, : place + 1].unbind(0)
        else:
            shown = (
                tuple(each[:, start : place + 1].transpose(1, 2) for each, start in zip(keys, seen, strict=True)),
                tuple(each[:, start : place + 1] for each, start in zip(values, seen, strict=True)),
            )
        for reader, slots, *window in zip(self.readers, new, *shown, strict=True):
            x = reader.one(x, (*slots, *window), rows)
        return x
