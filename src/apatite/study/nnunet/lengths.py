"""Has nnU-Net been given enough time? Trainings of doubled length, each with a schedule of its own, until Dice is flat.

One long training says nothing about a shorter one: its learning rate is still high where the shorter one would have
ended. So each length is a training from the start.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from apatite.report.html import Table

FLAT_DICE = 0.01
"""A doubling that brings less than this, up or down, is flat."""
LEARNT_DICE = 0.1
"""Below this nothing was learnt, and two such trainings being equal says nothing."""


@dataclass(frozen=True, kw_only=True)
class Length:
    """One training and what it came to on the development cases, on the original slices, ungated.

    Attributes:
        multiple: Of the stated minutes.
        minutes: Of this training, as measured.
        epochs: Steps of its learning rate.
        iterations: All of them.
        pseudo_dice: nnU-Net's own figure of the last epoch: on patches, pooled; `None` where it is undefined.
        dice: Mean over labels of the mean Dice over cases that have the label; at 0.5.
        dice_calibrated: The same at thresholds chosen on these very cases; `None` without a calibration.
    """

    multiple: int
    minutes: float
    epochs: int
    iterations: int
    pseudo_dice: float | None
    dice: float | None
    dice_calibrated: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def gain(lengths: Sequence[Length]) -> float | None:
    """What the last doubling brought in Dice; `None` where the last two lengths are no doubling, or have no Dice."""
    if len(lengths) < 2:
        return None
    before, after = lengths[-2:]
    if after.multiple != 2 * before.multiple or before.dice is None or after.dice is None:
        return None
    return after.dice - before.dice


def is_flat(lengths: Sequence[Length]) -> bool:
    """Whether the last doubling brought less than 0.01 Dice, to a network that has learnt something."""
    found = gain(lengths)
    return found is not None and abs(found) < FLAT_DICE and (lengths[-1].dice or 0.0) >= LEARNT_DICE


def verdict(lengths: Sequence[Length]) -> str:
    """One sentence on whether more time would help."""
    found = gain(lengths)
    if found is None:
        return "Whether more time would help is not known: no two trainings of which one is twice as long."
    last = lengths[-1].multiple
    if is_flat(lengths):
        return f"Flat: from ×{last // 2} to ×{last} development Dice changed by {found:+.3f}, less than {FLAT_DICE:g}."
    return f"Not flat: from ×{last // 2} to ×{last} development Dice changed by {found:+.3f}; more time may change it."


def lengths_table(lengths: Sequence[Length]) -> Table:
    """The trainings as a table."""
    return Table(
        columns=("length", "minutes", "epochs", "iterations", "pseudo-Dice", "Dice", "Dice, calibrated"),
        rows=[
            [
                f"×{row.multiple}",
                row.minutes,
                row.epochs,
                row.iterations,
                row.pseudo_dice,
                row.dice,
                row.dice_calibrated,
            ]
            for row in lengths
        ],
        caption="Trainings of nnU-Net, each with its own schedule, on the development cases: Dice on the original "
        "slices, at 0.5 and at thresholds chosen on the same cases; pseudo-Dice is nnU-Net's own, on patches. "
        + verdict(lengths),
    )
