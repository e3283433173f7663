"""How a number is shown: three significant figures, never more than was measured.

Reports, tables and figures all format through this file, so the same quantity reads the same everywhere. Units stand
in the column's heading or the axis, not in the cell.
"""

import math
from collections.abc import Mapping

from apatite.core.volume import Estimate

Cell = str | float | int | Estimate | None
"""What a table may hold: text, a count (int), a measured number, a number with its interval, or nothing."""

NOTHING = "–"
"""What stands where a quantity is undefined or was not measured."""

_SMALLEST = 1e-9
"""Anything smaller is rounding noise and shown as 0.00."""


def cell_text(cell: Cell) -> str:
    """A table cell as text: counts exactly, measured numbers with three significant figures, NaN as a dash."""
    if cell is None:
        return NOTHING
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Estimate):
        return _estimate_text(cell)
    if isinstance(cell, int):
        return str(cell).replace("-", "−")
    return number_text(cell)


def number_text(value: float, largest: float | None = None) -> str:
    """A number with three significant figures, without exponent.

    Args:
        value: What to show.
        largest: Round as if showing this number; an estimate and its interval so share their last digit.
    """
    if not math.isfinite(value):
        return NOTHING if math.isnan(value) else ("∞" if value > 0 else "−∞")
    size = abs(value if largest is None else largest)
    # The exponent after rounding: 99.96 is shown as 100, not as 100.0.
    place = 2 - int(f"{size:.2e}".partition("e")[2]) if size >= _SMALLEST else 2
    rounded = round(value, place)
    text = f"{rounded:.{max(place, 0)}f}"
    return text.replace("-", "−") if rounded else text.replace("-", "")


def json_number(value: float) -> float | None:
    """A number JSON can hold: NaN and infinities become null."""
    return float(value) if math.isfinite(value) else None


def estimate_json(estimate: Estimate) -> Mapping[str, float | str | None]:
    """An estimate as plain values."""
    return {
        "value": json_number(estimate.value),
        "low": json_number(estimate.low),
        "high": json_number(estimate.high),
        "unit": estimate.unit,
        "coverage": estimate.coverage,
    }


def is_number(cell: Cell) -> bool:
    """Whether a cell belongs to a column that is aligned by its digits."""
    return not isinstance(cell, str)


def _estimate_text(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return NOTHING
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return number_text(estimate.value)
    largest = max(abs(estimate.value), abs(estimate.low), abs(estimate.high))
    value, low, high = (number_text(part, largest) for part in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}; {high}]"
