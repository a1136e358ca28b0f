"""One page about a run: what it learned, a film of its training, and what happens between noise and artifact in it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pieria.explanation import family as families
from pieria.explanation import glossary
from pieria.explanation.page import Line, Page, chart, escape, film, paragraphs, picture, table, texts
from pieria.explanation.tracing import enlarged, frames
from pieria.forms import Grid
from pieria.modalities.contract import Modality
from pieria.models.contract import Decodes, Explains, Model
from pieria.noise import ItemNoise

if TYPE_CHECKING:
    from PIL.Image import Image

WORDS = ("training data", "latent space", "loss", "hyperparameters", "likelihood", "noise", "temperature", "overfitting")


def run_page(
    *,
    title: str,
    record: Mapping[str, Any],
    model: Model,
    modality: Modality,
    log: Sequence[Mapping[str, Any]],
    previews: Sequence[Path],
    seed: int = 0,
) -> str:
    """The HTML of a run's page.

    ``record`` is its ``run.json``, ``log`` its lines, ``previews`` the pictures or texts drawn while it learned, in order.
    """
    described = families.page(record["model"]["family"])
    about = dict(described.sections())
    page = Page(title=title, lead=described.family.summary, facts=_facts(record, model))
    page.add("The idea", paragraphs(*described.family.idea.partition("\n\n")[2].split("\n\n")))
    page.add("Training", training_charts(log), _film_of_training(previews))
    page.add("From noise to artifact", _trace(model, modality, seed))
    page.add("Latent space", _latent(model, modality, seed))
    page.add("The loss", "".join(paragraphs(line) for line in about.get("Loss", "").split("\n")))
    page.add("Hyperparameters", table(["name", "value", "meaning"], _settings(record, described), numbers=False))
    page.add(
        "The words", "".join(f"<h3>{escape(t.name)}</h3>{paragraphs(t.meaning)}" for t in map(glossary.find, WORDS) if t)
    )
    page.add("Read on", paragraphs(about.get("Paper", ""), f"The code, from top to bottom: {about['Source']}"))
    return page.html()


def _facts(record: Mapping[str, Any], model: Model) -> dict[str, object]:
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "data": record["data"]["name"],
        "model": record["model"]["family"],
        "parameters": f"{parameters:,}",
        "seed": record.get("seed", "not stated"),
        "state": record["state"],
    }


def training_charts(log: Sequence[Mapping[str, Any]]) -> str:
    """The losses by phase, and the held-out loss, against the step."""
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for entry in log:
        for name, value in entry.get("losses", {}).items():
            if isinstance(value, int | float):
                x, y = lines.setdefault(name, ([], []))
                x.append(entry["step"])
                y.append(value)
        if isinstance(entry.get("validation"), int | float):
            x, y = lines.setdefault("held out", ([], []))
            x.append(entry["step"])
            y.append(entry["validation"])
    # parts such as "generator/penalty" go to a chart of their own, so that they do not flatten the losses
    whole = [Line(name, x, y, dashed=name == "held out") for name, (x, y) in lines.items() if "/" not in name]
    parts = [Line(name, x, y) for name, (x, y) in lines.items() if "/" in name]
    return chart(whole, x="step", y="loss") + chart(parts, x="step", y="parts of the loss")


def _film_of_training(previews: Sequence[Path]) -> str:
    if not previews:
        return ""
    shown: list[tuple[str, str]] = []
    for path in previews:
        caption = path.stem.replace("-", " ")
        if path.suffix == ".png":
            shown.append((caption, picture(path)))
        else:
            shown.append((caption, texts([path.read_text(encoding="utf-8")], limit=3000)))
    return "<h3>What it drew while it learned, always from the same noise</h3>" + film(shown, "training-film")


def _trace(model: Model, modality: Modality, seed: int) -> str:
    if not isinstance(model, Explains):
        return ""
    with torch.inference_mode():
        steps = list(model.trace(model.Sampling(), ItemNoise(seed, 1), _some_condition(model)))
    lead = paragraphs("One sample, step by step, as the model of this run makes it. The last frame is the sample itself.")
    return lead + film(frames(steps, modality), "trace-film")


def _some_condition(model: Model) -> Tensor | None:
    return None if model.condition is None else torch.zeros(1, dtype=torch.int64)


def _latent(model: Model, modality: Modality, seed: int, side: int = 8) -> str:
    """A sheet of the latent space: four codes from the prior in the corners, and the paths between them, decoded."""
    if not isinstance(model, Decodes) or not isinstance(modality.form, Grid):
        return ""
    with torch.inference_mode():
        corners = model.prior(4, ItemNoise(seed, 4)).flatten(1)
        across = torch.linspace(0, 1, side)
        weights = torch.stack(
            [(1 - a) * (1 - b) for a in across for b in across]
            + [(1 - a) * b for a in across for b in across]
            + [a * (1 - b) for a in across for b in across]
            + [a * b for a in across for b in across]
        ).view(4, side * side)
        # a mixture of Gaussian codes is shorter than they are; rescaled, it stays where the decoder was trained
        codes = (weights.T @ corners) / weights.T.norm(dim=1, keepdim=True)
        shape = (side * side, *model.latents["z"])
        condition = _some_condition(model)
        decoded = model.decode(codes.view(shape), condition=None if condition is None else condition.expand(side * side))
    lead = paragraphs(
        "Four codes drawn from the prior stand in the corners; between them the codes are blended and decoded. Neighbours "
        "look alike: that is what makes it a space."
    )
    return lead + picture(enlarged(_sheet(modality.decode(decoded), side), 512))


def _sheet(images: "Sequence[Image]", side: int) -> "Image":
    from PIL.Image import new

    width, height = images[0].size
    sheet = new(images[0].mode, (side * (width + 1) - 1, side * (height + 1) - 1), "white")
    for place, image in enumerate(images):
        sheet.paste(image, ((place % side) * (width + 1), (place // side) * (height + 1)))
    return sheet


def _settings(record: Mapping[str, Any], described: families.Page) -> list[tuple[str, object, str]]:
    meaning = {setting.name: setting.description for setting in described.family.settings}
    return [(name, value, meaning.get(name, "")) for name, value in record["model"]["settings"].items()]
