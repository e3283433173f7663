"""How long a row will take: as stated in the grid, until rows of its kind have been measured."""

from collections.abc import Mapping
from statistics import median

from apatite.study.sweep.record import Record
from apatite.study.sweep.rows import EQUAL_TIME, SweepRow

START_S = 8.0
"""A process that begins, and opens the data."""


def spent_s(record: Record) -> float:
    """Seconds of a finished row itself, without those of the encoder that it began from."""
    return sum(seconds for stage, seconds in record.seconds.items() if stage != "pretrain" or record.kind == "pretrain")


def expected_s(row: SweepRow, rows: Mapping[str, SweepRow], done: Mapping[str, Record]) -> float:
    """Seconds that a row takes from beginning to end.

    The median of finished rows of the same network and recipe; else the grid's figure, corrected by what finished rows
    of that kind took against theirs.

    Args:
        row: The row.
        rows: All rows of its grid.
        done: Records of the finished ones.
    """
    if row.is_timed and all(name in done for name in row.needs):
        # A fine-tuning adds the time of pre-training to its own; a pre-training is given that of the other method.
        counted = row.needs[:1] if row.kind == "pretrain" else row.needs
        return START_S + sum(spent_s(done[name]) for name in counted)
    finished = [(rows[name], spent_s(record)) for name, record in done.items() if name in rows]
    alike = [seconds for other, seconds in finished if _is_alike(other, row)]
    if alike:
        return START_S + median(alike)
    ratios = [seconds / (60 * other.minutes) for other, seconds in finished if other.kind == row.kind]
    return START_S + 60 * row.minutes * (median(ratios) if ratios else 1.0)


def _is_alike(other: SweepRow, row: SweepRow) -> bool:
    is_longer = EQUAL_TIME in (other.axes["init"], row.axes["init"])
    same_recipe = (other.pretrain, other.finetune) == (row.pretrain, row.finetune)
    return other.cost_key == row.cost_key and same_recipe and not is_longer
