"""One page about a run: what it learned, a film of its training, and what happens between noise and artifact in it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pieria.explanation import family as families
from pieria.explanation import glossary
from pieria.explanation.page import Line, Page, chart, escape, film, paragraphs, picture, table, texts
from pieria.explanation.tracing import enlarged, frames
from pieria.forms import Grid, Label, Tokens
from pieria.modalities.contract import Modality
from pieria.models.contract import Decodes, Explains, Model, display_of, learned_numbers
from pieria.noise import ItemNoise

if TYPE_CHECKING:
    from PIL.Image import Image

MANY = 1024  # codes whose mean is the middle of the latent space
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
    condition: Tensor | None = None,
) -> str:
    """The HTML of a run's page.

    ``record`` is its ``run.json``, ``log`` its lines, ``previews`` the pictures or texts drawn while it learned, in order;
    ``condition`` is what the traced sample is drawn under, for a model that has one.
    """
    described = families.page(record["model"]["family"])
    about = dict(described.sections())
    page = Page(title=title, lead=described.family.summary, facts=_facts(record, model))
    page.add("The idea", paragraphs(*described.family.idea.partition("\n\n")[2].split("\n\n")))
    page.add("Training", training_charts(log), _film_of_training(previews))
    page.add("From noise to artifact", _trace(model, modality, seed, condition))
    page.add("Latent space", _latent(model, modality, seed))
    page.add("The loss", "".join(paragraphs(line) for line in about.get("Loss", "").split("\n")))
    page.add("Hyperparameters", table(["name", "value", "meaning"], _settings(record, described), numbers=False))
    page.add(
        "The words", "".join(f"<h3>{escape(t.name)}</h3>{paragraphs(t.meaning)}" for t in map(glossary.find, WORDS) if t)
    )
    page.add("Read on", paragraphs(about.get("Paper", ""), f"The code, from top to bottom: {about['Source']}"))
    return page.html()


def _facts(record: Mapping[str, Any], model: Model) -> dict[str, object]:
    learned, how = learned_numbers(model)
    return {
        "data": record["data"]["name"],
        "model": record["model"]["family"],
        "parameters": f"{learned:,} ({how})",
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
    if all(len(x) < 2 for x, _ in lines.values()):
        # estimated in one go: there is no curve to draw
        said = [f"{name} loss: {y[0]:.4g}." for name, (_, y) in lines.items() if y]
        return paragraphs("It was estimated from all data in one go, so there is no curve of training.", *said)
    # parts such as "generator/penalty" go to a chart of their own, so that they do not flatten the losses
    whole = [Line(name, x, y, dashed=name == "held out") for name, (x, y) in lines.items() if "/" not in name]
    parts = [Line(name, x, y) for name, (x, y) in lines.items() if "/" in name]
    return chart(whole, x="step", y="loss") + chart(parts, x="step", y="parts of the loss")


def _film_of_training(previews: Sequence[Path]) -> str:
    if not previews:
        return ""
    shown: list[tuple[str, str]] = []
    for path in previews:
        word, _, step = path.stem.rpartition("-")
        caption = f"{word} {int(step):,}" if step.isdigit() else path.stem
        if path.suffix == ".png":
            shown.append((caption, picture(path)))
        else:
            shown.append((caption, texts([shown_text(path)], limit=3000)))
    what = "What it drew while it learned, always from the same noise" if len(shown) > 1 else "What it draws"
    return f"<h3>{what}</h3>" + paragraphs(said_of(previews[-1])) + film(shown, "training-film")


def said_of(preview: Path) -> str:
    """What a preview says of how it shows things, where that is not how the model draws: a sentence, or nothing."""
    from PIL.Image import open as opened

    if preview.suffix != ".png":
        return ""
    with opened(preview) as image:
        return str(image.info.get("shown", ""))


def shown_text(path: Path) -> str:
    """A preview's text without the lines at its head that name the run."""
    lines = path.read_text(encoding="utf-8").splitlines()
    while lines and re.match(r"# \w+: ", lines[0]):
        lines.pop(0)
    return "\n".join(lines)


def _trace(model: Model, modality: Modality, seed: int, condition: Tensor | None) -> str:
    if not isinstance(model, Explains) or (model.condition is not None and condition is None):
        return ""
    display = display_of(model)
    with torch.inference_mode():
        steps = list(model.trace(display.options, ItemNoise(seed, 1), condition))
    lead = paragraphs(
        "One sample, step by step, as the model of this run makes it. The last frame is the sample itself.", display.words
    )
    if isinstance(model.condition, Tokens) and condition is not None:
        lead += paragraphs(f"What it answers to: {getattr(modality, 'told', modality.decode)(condition)[0]}")
    return lead + film(frames(steps, modality), "trace-film")


def _latent(model: Model, modality: Modality, seed: int, side: int = 8) -> str:
    """A sheet of the latent space: codes from the prior, and the paths between them, decoded.

    Without a condition four codes stand in the corners; with classes each row is a class, and each column a code.
    """
    if not isinstance(model, Decodes) or not isinstance(modality.form, Grid):
        return ""
    if isinstance(model.condition, Label):
        return _classes_by_codes(model, modality, seed, side)
    with torch.inference_mode():
        corners = _apart(model, ItemNoise(seed, 32))
        across = torch.linspace(0, 1, side)
        weights = torch.stack(
            [(1 - a) * (1 - b) for a in across for b in across]
            + [(1 - a) * b for a in across for b in across]
            + [a * (1 - b) for a in across for b in across]
            + [a * b for a in across for b in across]
        ).view(4, side * side)
        # a mixture of codes is nearer to their mean than they are; rescaled, it stays where the decoder was trained
        weights = weights.to(corners)
        mean = model.prior(MANY, ItemNoise(seed, MANY)).flatten(1).mean(dim=0)
        codes = mean + (weights.T @ (corners - mean)) / weights.T.norm(dim=1, keepdim=True)
        decoded = model.decode(codes.view(side * side, *model.latents["z"]))
    lead = paragraphs(
        "Four codes stand in the corners: of 32 drawn from the prior, those whose items differ most. Between them the codes "
        "are blended and decoded. Neighbours look alike: that is what makes it a space."
    )
    return lead + picture(enlarged(_sheet(modality.decode(decoded), side), 512))


def _apart(model: Decodes, noise: ItemNoise) -> Tensor:
    """Four codes whose decoded items are far from each other: each next one is the farthest from those before it."""
    codes = model.prior(len(noise), noise)
    items = model.decode(codes).flatten(1).double()
    chosen = [0]
    nearest = torch.full((len(codes),), torch.inf, dtype=torch.float64, device=items.device)
    while len(chosen) < 4:
        nearest = torch.minimum(nearest, (items - items[chosen[-1]]).norm(dim=1))
        chosen.append(int(nearest.argmax()))
    return codes[chosen].flatten(1)


def _classes_by_codes(model: Decodes, modality: Modality, seed: int, side: int, most: int = 10) -> str:
    assert isinstance(model, Model)
    assert isinstance(model.condition, Label)
    classes = model.condition.classes[:most]
    with torch.inference_mode():
        codes = model.prior(side, ItemNoise(seed, side)).repeat(len(classes), *[1] * len(model.latents["z"]))
        condition = torch.arange(len(classes)).repeat_interleave(side).to(codes.device)
        decoded = model.decode(codes, condition=condition)
    lead = paragraphs(
        f"Each column is one code drawn from the prior, each row a class that was asked for ({', '.join(classes)}): what "
        "stays the same down a column is what the code says, what stays the same along a row is what the class says."
    )
    return lead + picture(enlarged(_sheet(modality.decode(decoded), side), 512))


def _sheet(images: "Sequence[Image]", side: int) -> "Image":
    from PIL.Image import new

    width, height = images[0].size
    down = -(-len(images) // side)
    sheet = new(images[0].mode, (side * (width + 1) - 1, down * (height + 1) - 1), "white")
    for place, image in enumerate(images):
        sheet.paste(image, ((place % side) * (width + 1), (place // side) * (height + 1)))
    return sheet


def _settings(record: Mapping[str, Any], described: families.Page) -> list[tuple[str, object, str]]:
    meaning = {setting.name: setting.description for setting in described.family.settings}
    return [(name, value, meaning.get(name, "")) for name, value in record["model"]["settings"].items()]
