"""A card that would mislead is not written, and not read."""

import copy
from dataclasses import replace
from typing import Any

import pytest

from apatite.core.errors import ConfigError, ModelError
from apatite.io.model_card import InputSpec, ModelCard, card_from_values, values_of_card


def test_a_card_survives_json(card: ModelCard) -> None:
    again = card_from_values(values_of_card(card), "model.json")
    assert again == card
    assert again.label_names == {1: "calcium"}
    assert isinstance(again.input.shape, tuple)


@pytest.mark.parametrize(
    ("place", "key", "value", "says"),
    [
        ((), "architechture", {}, "architechture"),
        (("input",), "spacing", [1, 1, 1], "unknown key 'spacing'"),
        ((), "format_version", 2, "format version 2"),
        ((), "kind", "classifier", "classifier"),
        ((), "domains", {"training": ["real"]}, "domains must name"),
        ((), "label_names", {"300": "calcium"}, "1 to 254"),
        ((), "label_names", {}, "a segmenter has named labels"),
        (("input",), "windows_hu", [[0.0, 300.0], [1000.0, -200.0]], "impossible"),
        (("input",), "kind", "crop", "'region' or 'volume'"),
        (("input",), "windows_hu", [], "impossible"),
        (("input",), "spacing_mm", [1.0, 1.0], "field required"),
        ((), "calibration", {"threshold": 0.3}, "go together"),
    ],
)
def test_nonsense_is_refused(card: ModelCard, place: tuple[str, ...], key: str, value: Any, says: str) -> None:
    values = copy.deepcopy(values_of_card(card))
    node = values
    for step in place:
        node = node[step]
    node[key] = value
    with pytest.raises(ModelError, match=says) as caught:
        card_from_values(values, "model.json")
    assert caught.value.code == "MODEL_VERSION"


@pytest.mark.parametrize(
    "key", ["kind", "architecture", "recipe", "input", "label_names", "domains", "provenance", "format_version"]
)
def test_every_field_is_required_in_the_file(card: ModelCard, key: str) -> None:
    values = values_of_card(card)
    del values[key]
    with pytest.raises(ModelError):
        card_from_values(values, "model.json")


def test_an_impossible_card_is_not_built(card: ModelCard) -> None:
    with pytest.raises(ConfigError):
        replace(card, domains={**card.domains, "calibration": ["phantom"]})
    with pytest.raises(ConfigError):
        InputSpec(shape=(0, 8, 8), spacing_mm=(1.0, 1.0, 1.0), windows_hu=((0.0, 1.0),))
