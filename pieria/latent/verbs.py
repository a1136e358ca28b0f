"""What a run is asked about its latent space."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pieria.latent.space import Progress, silent
from pieria.modalities.contract import Modality
from pieria.models.contract import Model

if TYPE_CHECKING:
    from pieria.latent.exploring import Latent
    from pieria.modalities.opening import Dataset


class HasLatent(ABC):
    """The verbs of runs whose model decodes codes; a `Run` of other families refuses them and says which have them."""

    path: Path
    model: Model
    modality: Modality
    record: dict[str, Any]

    @abstractmethod
    def dataset(self) -> "Dataset":
        """The data that it was fitted to."""

    @property
    def latent(self) -> "Latent":
        """The latent space: ``run.latent.interpolate(3, 7)``, ``map``, ``walk``, ``arithmetic``, ``invert``, ``neighbours``,
        ``traverse``. Raises `UsageError` for a family that has none.
        """
        return self.latent_space()

    def latent_space(self, space: str = "z", progress: Progress = silent) -> "Latent":
        """The latent space of this name; ``progress(what, done, total)`` hears how far long searches are."""
        from pieria.latent.exploring import Latent

        said = {"pieria": self.record["name"], "model": self.record["model"]["family"]}
        return Latent(self.model, self.modality, self.dataset, said, space=space, progress=progress)
