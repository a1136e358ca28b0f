"""``pieria data``: what there is, or what a path holds."""

from typing import Annotated, Any

import typer

from pieria.cli.output import As, AsJson, Column, To, pairs, print_json, print_table


def data(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME|PATH]", help="A data set of the catalogue, or a file or folder.")
    ] = None,
    as_: As = None,
    column: Column = None,
    to: To = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of how the data are read, such as size=64."),
    ] = None,
    json: AsJson = False,
) -> None:
    """List the data sets that come by name, or look into one, or into a file or folder of yours.

    Examples:  pieria data  ·  pieria data digits  ·  pieria data my-table.csv  ·  pieria data photos/ --set size=64
    """
    from pieria.data import catalogue

    if name is None:
        entries = [catalogue.find(known) for known in catalogue.names()]
        if json:
            print_json(
                [
                    {"name": e.name, "modality": e.modality, "description": e.description, "licence": e.licence}
                    for e in entries
                ]
            )
        else:
            print_table(
                ["data set", "modality", "what", "licence"],
                [(e.name, e.modality, e.description, e.licence) for e in entries],
            )
        return
    from pieria.modalities.opening import look

    facts = look(name, as_=as_, column=column, to=to, settings=pairs(set_))
    if json:
        print_json(facts)
    else:
        print_table(
            ["", ""],
            [(key, _in_words(key, value)) for key, value in facts.items() if value not in ([], {}, None, "")],
        )


def _in_words(key: str, value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count:,}" for name, count in value.items())
    if isinstance(value, list):
        return (", " if key == "classes" else "\n").join(map(str, value))
    return str(value)
