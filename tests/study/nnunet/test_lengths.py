"""Flat or not, by hand."""

import pytest

from apatite.study.nnunet.lengths import Length, gain, is_flat, lengths_table, verdict


def length(multiple, dice):
    return Length(
        multiple=multiple,
        minutes=2.0 * multiple,
        epochs=50,
        iterations=100,
        pseudo_dice=None,
        dice=dice,
        dice_calibrated=0.5,
    )


@pytest.mark.parametrize(
    ("found", "brought", "flat", "words"),
    [
        ([(1, 0.6)], None, False, "not known"),
        ([(1, 0.6), (2, 0.65)], 0.05, False, "Not flat: from ×1 to ×2"),
        ([(1, 0.6), (2, 0.609)], 0.009, True, "Flat: from ×1 to ×2"),
        ([(1, 0.6), (2, 0.595)], -0.005, True, "Flat"),
        ([(1, 0.6), (2, 0.5)], -0.1, False, "Not flat"),
        ([(1, 0.4), (2, 0.6), (4, 0.605)], 0.005, True, "Flat: from ×2 to ×4"),
        # Three times as long is no doubling.
        ([(1, 0.6), (3, 0.601)], None, False, "not known"),
        # Both collapsed to background: equal, but nothing was learnt.
        ([(1, 0.0), (2, 0.0)], 0.0, False, "Not flat"),
        ([(1, None), (2, 0.6)], None, False, "not known"),
    ],
)
def test_flat_is_less_than_a_hundredth_over_the_last_doubling(found, brought, flat, words):
    lengths = [length(*row) for row in found]
    assert gain(lengths) == pytest.approx(brought)
    assert is_flat(lengths) is flat
    assert words in verdict(lengths)


def test_the_table():
    table = lengths_table([length(1, 0.6), length(2, None)])
    assert table.texts[0] == ["×1", "2.00", "50", "100", "–", "0.600", "0.500"]
    assert table.texts[1][5] == "–"
    assert "not known" in table.caption
