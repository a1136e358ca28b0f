"""The model card: what is known of a run, from its record, its scorecard and its audit; absent facts are "not stated".

Nothing is invented: every sentence prints a fact that the run holds. Mitchell et al. 2019, Model Cards for Model Reporting,
https://arxiv.org/abs/1810.03993.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pieria.evaluation.scorecard import Scorecard, plain

NOT_STATED = "not stated"

TEMPLATE = """\
---
library_name: pieria
tags:
- pieria
- {{ family | tojson }}
model_name: {{ name | tojson }}
license: {{ licence_tag | tojson }}
---

# {{ name }}

| | |
|---|---|
{% for what, said in facts -%}
| {{ what }} | {{ said | cell }} |
{% endfor %}
## How good it is

{% if figures -%}
| figure | value | 95 % interval | baseline | real data | unit | better | on | n |
|---|---:|---|---:|---:|---|---|---|---:|
{% for f in figures -%}
| {{ f.name | cell }} | {{ f.value | plain }} | {{ f | interval }} | {{ f.baseline | plain }} | {{ f.floor | plain }} | \
{{ f.unit | cell }} | {{ f.better }} | {{ f.split }} | {{ f.count | plain }} |
{% endfor %}
"Real data" is what as many real items show in the place of the samples. Likelihoods called "bound", "estimate" or
"pseudo" are not comparable with exact ones.
{% else -%}
Not evaluated.
{% endif %}
## What the audit found

{% if verdicts -%}
{% for v in verdicts -%}
- **{{ v.severity }}**, {{ v.about }}: {{ v.words }}
{% endfor -%}
{% else -%}
Not audited.
{% endif %}
{% if groups -%}
## Groups: {{ groups.column }}

How a sample's group was told: {{ groups.how }}\
{% if groups.classifier_accuracy is not none %} (right on {{ "%.0f" | format(100 * groups.classifier_accuracy) }} % of \
held-out items){% endif %}.

| group | share of data | share of samples | 95 % interval | nats | likeness |
|---|---:|---:|---|---:|---:|
{% for name, g in groups.groups.items() -%}
| {{ name | cell }} | {{ g.data.share | plain }} | {{ g.samples.share | plain }} | {{ g.samples | interval }} | \
{{ g.nats | plain }} | {{ g.likeness | plain }} |
{% endfor %}
{% endif -%}
## How it was made

| | |
|---|---|
{% for what, said in making -%}
| {{ what }} | {{ said | cell }} |
{% endfor -%}
{% if settings %}
<details><summary>Every setting</summary>

{% for what, said in settings -%}
- `{{ what }}`: {{ said }}
{% endfor %}
</details>
{% endif -%}
"""


def card(
    record: Mapping[str, Any],
    scorecard: Scorecard | Sequence[Mapping[str, Any]] | None = None,
    audit: Mapping[str, Any] | None = None,
) -> str:
    """``card.md`` as text: front matter that model hubs read, then facts, figures, verdicts and settings.

    ``scorecard`` is a `Scorecard` or what its ``to_json`` wrote; ``audit`` is what `audit` returned. Either may be absent,
    and the card then says so.
    """
    import jinja2

    rendering = jinja2.Environment(autoescape=False, undefined=jinja2.ChainableUndefined, keep_trailing_newline=True)
    rendering.filters["plain"] = _number
    rendering.filters["interval"] = _interval
    rendering.filters["cell"] = lambda said: str(said).replace("|", "\\|").replace("\n", " ")
    found = audit or {}
    model, data = _mapping(record, "model"), _mapping(record, "data", "dataset")
    family = _first(record, "family", "model") if not model else model.get("family", NOT_STATED)
    result = _mapping(record, "result")
    cost = {**found.get("cost", {}), **(result.get("cost") or {})}
    licence = _told(data.get("licence"), found.get("licence"))
    origin = _mapping(record, "imported")
    facts = [
        ("family", family),
        ("data", _told(data.get("name"), found.get("data"), record.get("data"))),
        ("source of the data", _told(data.get("source"), found.get("source"))),
        ("licence of the data", licence),
        ("consent of the people in the data", _told(data.get("consent"), found.get("consent"))),
        ("fingerprint of the data", _told(data.get("fingerprint"), record.get("fingerprint"))),
        (
            "the file holds training examples",
            NOT_STATED if "holds_data" not in found else "yes" if found["holds_data"] else "no",
        ),
        *([("imported from", _told(origin.get("from")))] if origin else []),
        *([("licence of what was imported", _told(origin.get("licence")))] if origin else []),
        ("intended use", _told(record.get("intended_use"))),
    ]
    making = [
        ("command", _told(record.get("command"))),
        ("state", _told(record.get("state"))),
        ("seed", _told(record.get("seed"))),
        ("steps", _told(result.get("steps"), record.get("steps"))),
        ("device", _told(record.get("device"))),
        ("training time", _unit(_told(result.get("seconds"), cost.get("seconds")), "s")),
        ("energy", _with_source(cost, "joules", "J")),
        ("CO2 equivalent", _with_source(cost, "gCO2e", "g")),
        ("versions", _spelled(record.get("versions"))),
    ]
    settings = record.get("settings") or model.get("settings") or {}
    figures = scorecard.to_json() if isinstance(scorecard, Scorecard) else list(scorecard or [])
    return rendering.from_string(TEMPLATE).render(
        name=_told(record.get("name"), "a Pieria model"),
        family=str(family),
        # the hub knows licences by its own tags; "other" is its word for all that this text spells out
        licence_tag="other" if licence != NOT_STATED else "unknown",
        facts=facts,
        making=making,
        figures=figures,
        verdicts=found.get("verdicts"),
        groups=found.get("groups"),
        settings=[(key, settings[key]) for key in settings] if isinstance(settings, Mapping) else [],
    )


def _mapping(record: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        if isinstance(record.get(name), Mapping):
            found: Mapping[str, Any] = record[name]
            return found
    return {}


def _first(record: Mapping[str, Any], *names: str) -> Any:
    return _told(*[record.get(name) for name in names])


def _told(*values: Any) -> Any:
    """The first of these that says something."""
    for value in values:
        if value is not None and value not in ("", NOT_STATED) and not isinstance(value, Mapping):
            return " ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return NOT_STATED


def _unit(value: Any, unit: str) -> str:
    return f"{plain(float(value))} {unit}" if isinstance(value, int | float) else str(value)


def _with_source(cost: Mapping[str, Any], name: str, unit: str) -> str:
    said = _unit(_told(cost.get(name)), unit)
    return said if said == NOT_STATED else f"{said} ({_told(cost.get(f'{name}_source'))})"


def _spelled(value: Any) -> str:
    return ", ".join(f"{key} {value[key]}" for key in value) if isinstance(value, Mapping) else str(_told(value))


def _number(value: Any) -> str:
    return plain(float(value)) if isinstance(value, int | float) else ""


def _interval(figure: Mapping[str, Any]) -> str:
    low, high = figure.get("low"), figure.get("high")
    return "" if low is None or high is None else f"{plain(low)} … {plain(high)}"
