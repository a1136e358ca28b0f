"""Hyperparameters are frozen, described, bounded, and read from words."""

import pytest

from pieria.errors import UsageError
from pieria.settings import Field, Settings, assign


class Network(Settings):
    width: int = Field(64, ge=1, le=512, description="features in a layer")
    widths: tuple[int, ...] = Field((64, 64), description="features of each layer")
    tied: bool = Field(True, description="one table for both ends")


class Loop(Settings):
    rate: float = Field(1e-3, gt=0, description="the step size")


def test_words_become_values():
    read = Network.of({"width": "32", "widths": "8,16", "tied": "false"})
    assert (read.width, read.widths, read.tied) == (32, (8, 16), False)


def test_settings_are_frozen_and_a_change_is_a_checked_copy():
    settings = Network()
    with pytest.raises(ValueError, match="frozen"):
        settings.width = 3
    assert settings.changed(width=3).width == 3
    assert settings.width == 64
    with pytest.raises(UsageError, match="width = 0"):
        settings.changed(width=0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"widht": 3}, "Did you mean 'width' or 'widths'"),
        ({"width": 1000}, "less than or equal to 512"),
        ({"width": "wide"}, "width = 'wide'.*features in a layer"),
        ({"widths": "8,x"}, "widths"),
    ],
)
def test_wrong_values_are_refused_in_words(values, said):
    with pytest.raises(UsageError, match=said) as caught:
        Network.of(values)
    assert caught.value.exit_code == 2


def test_a_setting_without_a_description_cannot_be_declared():
    with pytest.raises(TypeError, match=r"Bare\.width needs a description"):

        class Bare(Settings):
            width: int = 3


def test_flat_values_go_to_the_class_that_declares_them():
    assert assign({"rate": 0.1, "width": 8}, [Network, Loop]) == [{"width": 8}, {"rate": 0.1}]
    with pytest.raises(UsageError, match="Did you mean 'rate'"):
        assign({"rat": 1}, [Network, Loop])


def test_no_setting_of_a_family_hides_one_of_the_data_or_of_the_plan():
    """One flat ``--set name=value`` reaches the first owner of the name, so that a second one could not be reached."""
    from pieria import registry
    from pieria.modalities import finding
    from pieria.training.plan import Plan

    read = {}
    for modality in map(finding.load, finding.MODALITIES):
        for form in modality.forms:
            read.setdefault(form, []).append(modality)
    for family in registry.families():
        kind = registry.find(family.name)
        own = set(kind.Settings.model_fields)
        assert not own & set(Plan.model_fields), family.name
        for form in kind.consumes:
            for modality in read.get(form.__name__.lower(), []):
                if modality.name == "labelled" and not kind.requires_condition:
                    continue  # targets of texts are for families that are given the text
                assert not own & set(modality.Settings.model_fields), (family.name, modality.name)
