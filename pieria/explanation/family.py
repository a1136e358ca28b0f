"""A family on one page: idea, data, latent space, loss by phase, settings, papers, file:line; read from its source."""

import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pieria import registry
from pieria.errors import unknown
from pieria.explanation import glossary

_FORM = {
    "tokens": "symbols in order: texts, and whatever is written with a vocabulary",
    "grid": "grids of values: pictures and tile maps",
    "row": "rows of a table: numbers, categories and missing values",
    "curve": "curves: measured functions",
}
_LEARNING = {
    "estimates": "It does not learn step by step: counting, EM or highest likelihood estimate it from all data at once.",
    "trains": "It is trained by gradient, step by step.",
    "learns": "It learns in stages, one part after the other.",
}
_LIKELIHOOD = {
    "exact": "It says exactly how probable an item is.",
    "bound": "It bounds from below how probable an item is.",
    "estimate": "It estimates how probable an item is.",
    "pseudo": "It gives a pseudo-likelihood: comparable among its own kind only.",
    "none": "It cannot say how probable an item is.",
}


@dataclass(frozen=True)
class Page:
    """What is known of a family."""

    family: registry.Family

    def to_json(self) -> dict[str, Any]:
        """The family as plain values."""
        said = asdict(self.family)
        for part in (said, *said["settings"], *said["sampling"], *(s for kind in said["kinds"] for s in kind["sampling"])):
            part["path"] = _short(part["path"])
        return said

    def sections(self) -> list[tuple[str, str]]:
        """Title and text of each section, in reading order."""
        family = self.family
        file = _short(family.path)
        rest = family.idea.strip().partition("\n\n")[2]
        latent = (
            "It makes every item from a code, drawn from a prior: its latent space."
            + (" It also finds the code of a given item." if "encodes" in family.abilities else "")
            if "decodes" in family.abilities
            else "A path of hidden states, one behind each place, in the stead of one code for the whole item."
            if "hides" in family.abilities
            else "None: it makes an item without a code for the whole of it."
        )
        phases = [f"{phase.name}: {phase.loss}  ({_short(phase.path)}:{phase.line})" for phase in family.phases]
        settings, drawing = _listed(family.settings), _listed(family.sampling)
        found = [
            ("The idea", "\n\n".join(part for part in (family.summary, rest) if part)),
            ("Training data", "; or ".join(_FORM.get(form, form) for form in family.forms) + "."),
            ("Latent space", latent),
            ("Loss", "\n".join([_LEARNING.get(family.learning, ""), *phases, _LIKELIHOOD[family.likelihood]]).strip()),
            ("Hyperparameters", "\n".join(settings) or "None."),
            ("Drawing", "\n".join(drawing) or "No options."),
            *((title, "\n".join(_listed(options))) for title, options in self._drawn_otherwise()),
            ("Presets", ", ".join(family.presets)),
            ("Paper", family.paper),
            ("Source", f"{file}:{family.line}"),
        ]
        if kept := family.holds_data_of:
            of = "" if kept == family.forms else f" of {_many(kept)}"
            warning = f"The saved model{of} contains training data: do not publish it without a thought."
            found.insert(2, ("It keeps its examples", warning))
        return [(title, text) for title, text in found if text]

    def _drawn_otherwise(self) -> list[tuple[str, tuple[registry.Setting, ...]]]:
        """A title and the options of drawing, for those of its forms that have others."""
        return [(f"Drawing {_many(kind.forms)}", kind.sampling) for kind in self.family.kinds if kind.sampling]

    def markdown(self) -> str:
        """The page for a site: the sections of `sections`, hyperparameters as tables."""
        tables = {"Hyperparameters": self.family.settings, "Drawing": self.family.sampling, **dict(self._drawn_otherwise())}
        blocks = []
        for title, body in self.sections():
            if tables.get(title):
                rows = [f"| `{s.name}` | `{s.default}` | {s.description.replace('|', '/')} |" for s in tables[title]]
                body = "\n".join(["| name | default | what it is |", "|---|---|---|", *rows])
            elif title != "The idea":
                body = "\n\n".join(body.split("\n"))
            blocks.append(f"### {title}\n\n{body}")
        return "\n\n".join(blocks) + "\n"

    def text(self, width: int = 100) -> str:
        """The page for a terminal."""
        blocks = [self.family.name]
        for title, body in self.sections():
            paragraphs = [
                textwrap.fill(" ".join(line.split()), width, initial_indent="  ", subsequent_indent="    ")
                for line in (body.split("\n\n") if title == "The idea" else body.split("\n"))
                if line.strip()
            ]
            blocks.append("\n".join([title, *paragraphs]))
        return "\n\n".join(blocks)


def page(name: str) -> Page:
    """The page of a family, by name or path; `UsageError` for an unknown one."""
    return Page(registry.describe(name))


def or_term(what: str) -> Page | glossary.Term:
    """A family's page, or a term of the glossary; `UsageError` with the nearest of both for neither."""
    term = glossary.find(what)
    if term is not None:
        return term
    if what.endswith(".py") or what in registry.names():
        return page(what)
    raise unknown("family, run or term", what, [*registry.names(), *(t.name for t in glossary.TERMS)])


def _listed(settings: tuple[registry.Setting, ...]) -> list[str]:
    return [f"{s.name} = {s.default}: {s.description}" for s in settings]


def _many(forms: tuple[str, ...]) -> str:
    return " and ".join({"tokens": "symbols"}.get(form, f"{form}s") for form in forms)


def _short(path: Path) -> str:
    root = registry.HOME.parent.parent
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
