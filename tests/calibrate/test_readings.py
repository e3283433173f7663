"""The gate belongs to calcium, by its name, whatever its value."""

from apatite.calibrate.readings import calcium_label, gate_of, readings_of

MIXED = {2: "liver", 7: "calcium"}


def test_only_calcium_is_gated():
    assert readings_of(MIXED) == {"ungated": None, "gated": 130.0}
    assert calcium_label(MIXED) == 7
    assert {(label, reading): gate_of(label, reading, MIXED) for label in MIXED for reading in readings_of(MIXED)} == {
        (2, "ungated"): None,
        (2, "gated"): None,
        (7, "ungated"): None,
        (7, "gated"): 130.0,
    }


def test_without_calcium_there_is_one_reading():
    assert readings_of({1: "calcium score", 2: "Calcium"}) == {"ungated": None}
    assert calcium_label({}) is None
