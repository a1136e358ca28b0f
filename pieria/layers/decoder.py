"""The layer of which transformers are stacked: places look at each other, then each thinks about what it found.

Its settings are those that tell GPT-2, GPT-3, Llama, Mistral and Qwen apart, so that a checkpoint of any of them is one
set of values and its weights.
"""

from typing import Literal, Self

from pydantic import model_validator
from torch import Tensor, nn

from pieria.layers.attention import Attention
from pieria.layers.dropout import Dropout
from pieria.layers.feed_forward import FeedForward
from pieria.layers.norms import norm
from pieria.settings import Field, Settings


class DecoderSettings(Settings):
    """The stack of layers."""

    layers: int = Field(4, ge=1, description="how many times the places look at each other")
    heads: int = Field(4, ge=1, description="different looks at once in a layer")
    key_heads: int | None = Field(
        None, ge=1, description="keys and values a layer, shared by groups of heads; heads if unset"
    )
    width: int = Field(256, ge=2, description="features of a symbol's vector")
    head_size: int | None = Field(None, ge=1, description="features of a head; width divided by heads if unset")
    hidden: float = Field(4.0, gt=0, description="features inside a layer's small network, as a multiple of width")
    inner: int | None = Field(None, ge=1, description="features inside the small network, exactly; hidden decides if unset")
    positions: Literal["learned", "rotary"] = Field("rotary", description="how a place is known: a vector each, or a turn")
    rotary_base: float = Field(10_000.0, gt=1, description="the slowest rotary position turns once in about 2π times this")
    norm: Literal["layer", "rms"] = Field("layer", description="normalisation: centred and scaled, or scaled only")
    norm_epsilon: float = Field(1e-5, gt=0, description="added to the variance where a normalisation divides by its root")
    activation: Literal["gelu", "gelu-tanh", "swiglu", "relu2"] = Field(
        "gelu", description="what bends in the small network; gelu-tanh is GPT-2's approximation of gelu"
    )
    unit_queries: bool = Field(True, description="normalise queries and keys, which bounds how sharply a place can look")
    query_scales: bool = Field(False, description="normalised queries and keys have learned scales")
    bias: bool = Field(False, description="biases in linear layers and normalisations")
    query_bias: bool | None = Field(None, description="biases of queries, keys and values; as bias says if unset")
    window: int | None = Field(None, ge=1, description="a place sees the last so many places only, itself included")
    windowed: Literal["all", "alternate"] = Field(
        "all", description="which layers the window bounds: all, or the second of every two"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="share of features left out at random in training")

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.head_size is None and self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.heads % (self.key_heads or self.heads):
            raise ValueError(f"heads {self.heads} is not a multiple of key_heads {self.key_heads}")
        if self.positions == "rotary" and self.size % 2:
            raise ValueError(f"rotary positions need an even number of features a head, not {self.size}")
        if self.query_scales and not self.unit_queries:
            raise ValueError("query_scales are for normalised queries: set unit_queries too")
        return self

    @property
    def size(self) -> int:
        """Features of a head."""
        return self.head_size or self.width // self.heads

    def window_of(self, layer: int) -> int | None:
        """How many places a place of this layer sees, itself included; None for all."""
        return None if self.windowed == "alternate" and layer % 2 == 0 else self.window


class Layer(nn.Module):
    """x + look(norm(x)), then x + think(norm(x)); ``place`` is the layer's place in the stack."""

    def __init__(self, settings: DecoderSettings, place: int = 0) -> None:
        super().__init__()
        self.before_look = norm(settings.norm, settings.width, settings.bias, settings.norm_epsilon)
        self.look = Attention(
            settings.width,
            settings.heads,
            settings.key_heads,
            size=settings.size,
            bias=settings.bias,
            query_bias=settings.query_bias,
            dropout=settings.dropout,
            unit_queries=settings.unit_queries,
            query_scales=settings.query_scales,
            window=settings.window_of(place),
            epsilon=settings.norm_epsilon,
        )
        self.before_thought = norm(settings.norm, settings.width, settings.bias, settings.norm_epsilon)
        inner = settings.inner or round(settings.width * settings.hidden)
        self.think = FeedForward(settings.width, inner, settings.activation, bias=settings.bias)
        self.drop = Dropout(settings.dropout)

    def forward(self, x: Tensor, table: Tensor | None, mask: Tensor | None = None) -> Tensor:
        """``[batch, time, width]`` to the same shape; ``table`` and ``mask`` are attention's."""
        x = x + self.drop(self.look(self.before_look(x), table, mask))
        return x + self.drop(self.think(self.before_thought(x)))
