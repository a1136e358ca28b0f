"""Hyperparameters: frozen, flat, each described and bounded.

A family, a modality and the training loop each declare a subclass of `Settings` directly above the class that reads it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Self, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pieria.errors import UsageError, unknown

__all__ = ["Field", "Settings"]


class Settings(BaseModel):
    """A flat, immutable set of described values; unknown names and values out of bounds are refused.

    >>> class Example(Settings):
    ...     width: int = Field(64, ge=1, description="features in a hidden layer")
    >>> Example.of({"width": "32"}).width
    32
    >>> Example.of({"widht": 32})
    Traceback (most recent call last):
    ...
    pieria.errors.UsageError: no setting is called 'widht'. Did you mean 'width'? Known: width.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        for name, field in cls.model_fields.items():
            if not field.description:
                raise TypeError(f"{cls.__qualname__}.{name} needs a description: Field(..., description=...)")

    @model_validator(mode="before")
    @classmethod
    def _commas_make_tuples(cls, values: Any) -> Any:
        # the command line gives strings: widths=64,128 means (64, 128)
        if not isinstance(values, Mapping):
            return values
        read = dict(values)
        for name, value in read.items():
            field = cls.model_fields.get(name)
            if field is not None and isinstance(value, str) and get_origin(field.annotation) is tuple:
                read[name] = tuple(part for part in value.split(",") if part)
        return read

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Validated settings from words or values.

        Raises `UsageError` that names the setting, what was got and its bounds.
        """
        for name in values:
            if name not in cls.model_fields:
                raise unknown("setting", name, cls.model_fields)
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else cls.__qualname__
            meaning = cls.model_fields[name].description if name in cls.model_fields else ""
            said = first["msg"].removeprefix("Value error, ")
            raise UsageError(
                f"setting {name} = {first['input']!r}: {said}",
                f"a value within its bounds ({name}: {meaning})" if meaning else "",
            ) from None

    def changed(self, **values: Any) -> Self:
        """A copy with some values replaced, validated again."""
        return self.of({**self.model_dump(), **values})


def assign(values: Mapping[str, Any], owners: Iterable[type[Settings]]) -> list[dict[str, Any]]:
    """Give each flat ``key=value`` to the settings class that declares it, in the order of ``owners``.

    Raises `UsageError` with the nearest names of all owners for a key that none of them has.
    """
    owners = list(owners)
    shares: list[dict[str, Any]] = [{} for _ in owners]
    for name, value in values.items():
        for owner, share in zip(owners, shares, strict=True):
            if name in owner.model_fields:
                share[name] = value
                break
        else:
            raise unknown("setting", name, {known for owner in owners for known in owner.model_fields})
    return shares
