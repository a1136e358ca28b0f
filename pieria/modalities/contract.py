"""What a modality is: how files become artifacts, artifacts become tensors of one form, and back.

    files ─read─▶ artifacts ─encode─▶ tensors ─family─▶ tensors ─decode─▶ artifacts ─write─▶ files

What is learned on the way (a vocabulary, a scaler) is learned from the training part alone and saved as JSON.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pieria.forms import Form
from pieria.settings import Settings as AnySettings

if TYPE_CHECKING:
    from torch import Tensor

    from pieria.data.examples import Examples

Artifact = Any


class Lazy(Sequence[Artifact]):
    """Artifacts that are made when they are asked for (a picture decoded, a row cut from a frame)."""

    @abstractmethod
    def take(self, places: Sequence[int]) -> "Lazy":
        """The artifacts at these places, still lazy."""


@dataclass(frozen=True)
class Sniff:
    """How sure a modality is that a path holds its kind of artifact (0 to 1), and why, in a few words."""

    confidence: float
    reason: str


@dataclass
class Collection:
    """What reading gave.

    Attributes:
        artifacts: in order; a lazy sequence where they are many (pictures decoded when asked for). For one stream of
            text: a sequence with one `str` per file, or a path-backed lazy text.
        labels: the class of each artifact, or None.
        classes: the names of the classes.
        captions: one string an artifact, or None.
        prompts: what each artifact answers to, kept apart from it (a source sentence, a question, the picture that it is
            made of), or None.
        sources: what artifacts are to be made of where nothing says which of what (unpaired pictures), in an order and a
            number of its own, or None.
        groups: named columns by which the artifacts can be told apart for an audit, one value an artifact.
        findings: what was found and what was done about it, each a line: "2 of 1,204 rows were ragged and left out".
        stream: the artifacts are one stream, to be split by place, not by item.
    """

    artifacts: Sequence[Artifact]
    labels: Sequence[int] | None = None
    classes: tuple[str, ...] = ()
    captions: Sequence[str] | None = None
    prompts: Sequence[Artifact] | None = None
    sources: "Collection | None" = None
    groups: dict[str, Sequence[Any]] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    stream: bool = False

    def __len__(self) -> int:
        return len(self.artifacts)

    def take(self, places: Sequence[int]) -> "Collection":
        """The artifacts at these places with all that is known of them: one part of a split. Lazy ones stay lazy.

        Unpaired ``sources`` stay as they are.
        """

        def cut(values: Sequence[Any]) -> Sequence[Any]:
            return values.take(places) if isinstance(values, Lazy) else [values[place] for place in places]

        return replace(
            self,
            artifacts=cut(self.artifacts),
            labels=None if self.labels is None else cut(self.labels),
            captions=None if self.captions is None else cut(self.captions),
            prompts=None if self.prompts is None else cut(self.prompts),
            groups={name: cut(values) for name, values in self.groups.items()},
        )


class Modality(ABC):
    """A kind of artifact.

    A family of methods in the order of the data's way: ``sniff``, ``read``, ``learn``, ``encode``, ``decode``,
    ``write``, ``preview``. Reading and sniffing need no torch.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[AnySettings]]
    forms: ClassVar[tuple[str, ...]]
    suffixes: ClassVar[tuple[str, ...]]

    def __init__(self, settings: AnySettings) -> None:
        self.settings = settings

    @classmethod
    @abstractmethod
    def sniff(cls, path: Path, column: str | None = None) -> Sniff:
        """How sure this modality is that ``path`` is its own; fast (looks at the beginning), never raises."""

    @abstractmethod
    def read(self, path: Path, column: str | None = None) -> Collection:
        """All artifacts at ``path``. Raises `DataError` that names the file, the line or item, and the cure."""

    @abstractmethod
    def learn(self, collection: Collection, form: str | None = None) -> None:
        """Learn what encoding needs (vocabulary, scaler) from the training part; afterwards ``self.form`` is set.

        ``form`` chooses one where the modality offers several (``--form grid``).
        """

    @property
    @abstractmethod
    def form(self) -> Form:
        """The form of the encoded tensors; known after ``learn`` or ``restore``."""

    @abstractmethod
    def encode(self, artifacts: Sequence[Artifact]) -> "Tensor":
        """Artifacts as one tensor of ``self.form``."""

    @abstractmethod
    def examples(self, collection: Collection, *, training: bool = False) -> "Examples":
        """A collection encoded, as a model is given it; labels become its condition. ``training`` turns augmentation on."""

    @abstractmethod
    def decode(self, x: "Tensor") -> Sequence[Artifact]:
        """Tensors of ``self.form`` back to artifacts."""

    @abstractmethod
    def write(self, artifacts: Sequence[Artifact], path: Path, metadata: dict[str, str] | None = None) -> list[Path]:
        """Write in the modality's own file format, to a file or (one file an artifact) into a directory.

        ``metadata`` (which run made them) goes into the file where the format has a place for it.
        """

    @abstractmethod
    def preview(self, artifacts: Sequence[Artifact], path: Path, metadata: dict[str, str] | None = None) -> Path:
        """One picture (PNG) or text (``.txt``) that shows these artifacts side by side; returns what was written."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What was learned, as JSON: with the settings, all that `restore` needs."""

    @classmethod
    @abstractmethod
    def restore(cls, settings: AnySettings, state: dict[str, Any]) -> Self:
        """The modality that `state` was taken from."""
