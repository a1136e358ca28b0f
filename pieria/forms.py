"""The four shapes that a model learns from, and the label that may condition it.

A modality turns artifacts into tensors of one form; a family consumes forms. Where they meet, the pair works.
No torch here: forms are listed, saved and compared without it.
"""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from pieria.errors import FormError


@dataclass(frozen=True)
class Form:
    """What a tensor of examples looks like; one of `Tokens`, `Grid`, `Row`, `Curve`, `Label`."""

    kind: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary from which `from_json` builds an equal form."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class Tokens(Form):
    """Symbols in order: long ``[batch, time]`` with values in ``0 .. vocabulary - 1``.

    With ``end`` set, an item is everything up to and including the first ``end``, and what follows is padded with
    ``end``; an item that fills all ``length`` places without it is an unfinished prefix. With ``end=None`` the data are
    one stream, and an item is a window of ``length`` symbols cut anywhere from it.

    ``begin`` (one past the last symbol) is what a model reads before the first symbol; it never stands in an item.
    """

    kind: ClassVar[str] = "tokens"
    vocabulary: int
    length: int
    end: int | None = None

    @property
    def begin(self) -> int:
        """The id read before the first symbol of an item or a stream: not itself a symbol."""
        return self.vocabulary


@dataclass(frozen=True)
class Grid(Form):
    """Pictures, piano rolls, tile maps: ``[batch, channel, height, width]``.

    With ``levels`` set the tensor is long with values in ``0 .. levels - 1`` (256 for 8-bit pictures, 2 for binary
    ones, the number of tile kinds when not ``ordered``); with ``levels=None`` it is float32, nominally in [-1, 1].
    """

    kind: ClassVar[str] = "grid"
    channels: int
    height: int
    width: int
    levels: int | None = 256
    ordered: bool = True

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)`` of one item."""
        return (self.channels, self.height, self.width)


@dataclass(frozen=True)
class Column:
    """One tensor column of a `Row`.

    ``number`` and ``integer`` columns hold ``(value - shift) / scale``; a ``category`` holds the codes
    ``0 .. levels - 1``; a ``missing`` column is 1 where column ``of`` has no value (which then holds 0) and 0 elsewhere.
    """

    name: str
    kind: Literal["number", "integer", "category", "missing"]
    levels: int | None = None
    scale: float = 1.0
    shift: float = 0.0
    of: str | None = None


@dataclass(frozen=True)
class Row(Form):
    """Rows of a table: float32 ``[batch, column]``, never NaN."""

    kind: ClassVar[str] = "row"
    columns: tuple[Column, ...]

    def missing_of(self, column: int) -> int | None:
        """The place of the column that says where ``column`` is missing, or None if it never is."""
        name = self.columns[column].name
        for place, other in enumerate(self.columns):
            if other.kind == "missing" and other.of == name:
                return place
        return None


@dataclass(frozen=True)
class Curve(Form):
    """Functions: float64 ``[batch, point, inputs + outputs]``; the first ``inputs`` columns say where, the rest what.

    One measured series is a batch of one whose *points* are split into train, validation and test.
    """

    kind: ClassVar[str] = "curve"
    inputs: int = 1
    outputs: int = 1


@dataclass(frozen=True)
class Label(Form):
    """A condition: the class of an item, long ``[batch]``."""

    kind: ClassVar[str] = "label"
    classes: tuple[str, ...]


KINDS: dict[str, type[Form]] = {form.kind: form for form in (Tokens, Grid, Row, Curve, Label)}


def from_json(value: dict[str, Any]) -> Form:
    """The form that `Form.to_json` wrote.

    >>> from_json(Tokens(vocabulary=65, length=64).to_json())
    Tokens(vocabulary=65, length=64, end=None)
    """
    fields = dict(value)
    kind = fields.pop("kind", None)
    if kind not in KINDS:
        raise FormError(f"a form of kind {kind!r}", f"one of {', '.join(KINDS)}", "Use the version that wrote it")
    if kind == "row":
        fields["columns"] = tuple(Column(**column) for column in fields["columns"])
    if kind == "label":
        fields["classes"] = tuple(fields["classes"])
    return KINDS[kind](**fields)
