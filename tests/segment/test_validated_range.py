"""A scan outside the range in which its model was shown to hold is named by what it is outside in."""

from dataclasses import replace

import pytest

from apatite.core.errors import ModelError
from apatite.core.reasons import REASONS
from apatite.io.model_card import ModelCard
from apatite.segment.validity import OUT_OF_VALIDATED_RANGE, outside_validated

THICKNESS = {"unit": "mm", "low": 0.6, "high": 3.0, "num_positive": 12, "ends_because": "", "total": None}
NOISE = {"unit": "HU", "low": 0.0, "high": 20.0, "num_positive": 12, "ends_because": "", "total": 21.0}


def validated(card: ModelCard, **ranges: object) -> ModelCard:
    return replace(card, validated={"ranges": ranges})


def test_a_card_without_a_range_says_nothing(card: ModelCard) -> None:
    assert outside_validated(card, thickness_mm=10.0, noise_hu=500.0) == ()
    assert outside_validated(validated(card), thickness_mm=10.0, noise_hu=500.0) == ()


@pytest.mark.parametrize(
    ("thickness_mm", "noise_hu", "expected"),
    [
        (1.0, 5.0, ()),
        (3.0, 21.0, ()),
        (3.09, 0.1, ()),
        (3.2, 5.0, ("thickness",)),
        (0.4, 5.0, ("thickness",)),
        (2.0, 21.5, ("noise",)),
        (8.0, 80.0, ("thickness", "noise")),
        (None, 80.0, ("noise",)),
        (8.0, None, ("thickness",)),
        (None, None, ()),
    ],
)
def test_either_side_and_unknown_values(card: ModelCard, thickness_mm, noise_hu, expected) -> None:
    ready = validated(card, thickness=THICKNESS, noise=NOISE)
    assert outside_validated(ready, thickness_mm=thickness_mm, noise_hu=noise_hu) == expected


def test_a_model_that_holds_nowhere_is_outside_everywhere(card: ModelCard) -> None:
    nowhere = {"low": None, "high": None, "total": None}
    ready = validated(card, thickness=nowhere, noise=nowhere)
    assert outside_validated(ready, thickness_mm=1.0, noise_hu=1.0) == ("thickness", "noise")
    # Where noise could not be measured, a range of it limits nothing.
    unknown = validated(card, noise={**NOISE, "total": None})
    assert outside_validated(unknown, noise_hu=100.0) == ()


@pytest.mark.parametrize("wrong", [{}, {"ranges": 3}, {"ranges": {"thickness": {"low": 0.6}}}, {"ranges": None}])
def test_another_content_is_refused(card: ModelCard, wrong) -> None:
    with pytest.raises(ModelError) as caught:
        outside_validated(replace(card, validated=wrong), thickness_mm=2.0)
    assert caught.value.code == "MODEL_VERSION"


def test_the_flag_is_a_known_reason() -> None:
    assert REASONS[OUT_OF_VALIDATED_RANGE][0] == "flag"
