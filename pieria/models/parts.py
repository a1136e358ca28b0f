"""Families that are parts of others, by name: ``gpt``, ``ngram:words`` (family:preset)."""

from collections.abc import Mapping
from typing import Any

from pieria import registry
from pieria.errors import unknown
from pieria.forms import Form
from pieria.models.contract import Model


def family_of(name: str) -> tuple[type[Model], dict[str, Any]]:
    """The family, and what its preset says, of ``family`` or ``family:preset``; `UsageError` for an unknown one."""
    said, _, preset = name.strip().partition(":")
    family = registry.find(said)
    if preset and preset not in family.presets:
        raise unknown(f"preset of {said}", preset, family.presets)
    return family, family.presets.get(preset, {})


def named(name: str, form: Form, condition: Form | None = None, settings: Mapping[str, Any] | None = None) -> Model:
    """An unfitted part from ``family`` or ``family:preset``, with some settings of its own."""
    family, preset = family_of(name)
    chosen = {k: v for k, v in preset.items() if k in family.Settings.model_fields}
    return family(family.Settings.of({**chosen, **(settings or {})}), form, condition)
