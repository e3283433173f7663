"""What the distances between slices say: even, uneven, overlapping, or with a hole where slices are missing.

Uneven distances are usual in head CT (thin slices at the base, thick ones at the vertex) and are measured as they are.
A hole is another matter: its tissue was scanned, but its slices are not there, and a volume across it would be made
up. So a hole is refused (`MISSING_SLICES`) where it is beyond doubt, that is where all other steps are equal and the
stack goes back to them; where the protocol may have been so, a long step is only flagged (`GAP`).
"""

import numpy as np
from jaxtyping import Float

SAME_POSITION_MM = 0.05
EVEN_MM, EVEN_SHARE = 0.05, 0.05
"""Steps within both of the median are equal."""
HOLE_RATIO = 1.5
"""In an otherwise even stack."""
LONG_RATIO = 2.5
"""In an uneven one."""
UNSEEN_RATIO = 2.0
"""Of the thickness: beyond, a slice does not stand for all that lies between it and its neighbours."""
MAX_STEP_MM = 20.0
"""No protocol of the head leaves out so much."""

Steps = Float[np.ndarray, "steps"]


def missing_slices(steps_mm: Steps) -> int | None:
    """Where slices are missing beyond doubt: the slice before the hole; `None` where there is no such place.

    A hole is a run of steps of at least `HOLE_RATIO` medians between steps that all equal the median. At an end of the
    stack, a single such step is a hole too; several in a row are a change of protocol. Any step over `MAX_STEP_MM` is
    a hole.
    """
    if steps_mm.max() > MAX_STEP_MM:
        return int(np.argmax(steps_mm))
    if len(steps_mm) < 2:
        return None
    median = float(np.median(steps_mm))
    is_even = np.abs(steps_mm - median) <= max(EVEN_MM, EVEN_SHARE * median)
    is_long = steps_mm >= HOLE_RATIO * median
    if not is_long.any() or not np.all(is_even | is_long):
        return None
    for start, stop in _runs(is_long):
        is_inside = start > 0 and stop < len(steps_mm)
        if is_inside or (stop - start == 1 and len(steps_mm) > 2):
            return start
    return None


def step_flags(steps_mm: Steps, thickness_mm: Float[np.ndarray, "slices"]) -> list[str]:
    """`SPACING_VARIES`, `GAP` and `OVERLAP`, each where it holds."""
    flags = []
    median = float(np.median(steps_mm))
    if np.ptp(steps_mm) > EVEN_MM:
        flags.append("SPACING_VARIES")
    half_mm = (thickness_mm[1:] + thickness_mm[:-1]) / 2
    if steps_mm.max() > LONG_RATIO * median or np.any(steps_mm > UNSEEN_RATIO * half_mm + EVEN_MM):
        flags.append("GAP")
    if np.any(half_mm - steps_mm > np.maximum(EVEN_MM, EVEN_SHARE * steps_mm)):
        flags.append("OVERLAP")
    return flags


def _runs(is_long: np.ndarray) -> list[tuple[int, int]]:
    """First step and first step behind each run of long ones."""
    edges = np.diff(np.concatenate([[0], is_long.astype(int), [0]]))
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))
