"""``pieria models``: which families there are."""

from typing import Annotated

import typer

from pieria.cli.output import As, AsJson, Column, print_json, print_table, say


def models(
    data: Annotated[str | None, typer.Option("--data", help="Only the families that fit this data set or path.")] = None,
    as_: As = None,
    column: Column = None,
    json: AsJson = False,
) -> None:
    """List the families of model: what they learn from, what they can do, how honest their likelihood is.

    Examples:  pieria models  ·  pieria models --data digits  ·  pieria explain vae
    """
    from pieria import registry

    families = registry.families()
    if data is not None:
        from pieria.modalities.finding import forms_of

        modality, reason, forms = forms_of(data, as_, column)
        say(f"{data}: read as {modality} ({reason}); forms: {', '.join(forms)}")
        families = [family for family in families if set(family.forms) & set(forms)]
    if json:
        print_json(
            [
                {
                    "name": f.name,
                    "summary": f.summary,
                    "forms": f.forms,
                    "conditions": f.conditions,
                    "learning": f.learning,
                    "abilities": f.abilities,
                    "likelihood": f.likelihood,
                    "presets": list(f.presets),
                    "paper": f.paper,
                    "holds_data": bool(f.holds_data_of),
                    "holds_data_of": f.holds_data_of,
                }
                for f in families
            ]
        )
        return
    print_table(
        ["model", "learns from", "likelihood", "can", "condition", "keeps examples", "what it is"],
        [
            (
                f.name,
                ", ".join(f.forms),
                f.likelihood,
                ", ".join(f.abilities),
                ", ".join(f.conditions),
                ", ".join(f.holds_data_of),
                f.summary,
            )
            for f in families
        ],
    )
