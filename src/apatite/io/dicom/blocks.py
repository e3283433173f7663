"""A head that was scanned in two blocks, base and vault, is one scan when nothing but the block tells them apart.

Such protocols send a thin stack of the skull base and a thick one of the vault as two series. Joined, they are one
stack with uneven spacing, which is what `core.scan` is made for; apart, neither shows the whole head.

Source: 1,226 of 10,659 series of the trial in Fontanella et al. were separate base and vault stacks.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import numpy as np
from jaxtyping import Float

from apatite.core.scan import SliceStack
from apatite.io.dicom.header import Header, Refusal
from apatite.io.dicom.series import Series, lay_out
from apatite.io.dicom.steps import SAME_POSITION_MM

MOST_GAP: Final = 1.5
"""Between two blocks, in units of the larger of their spacings."""
_SAME_DIRECTION: Final = 1e-3
_SAME_STEP_MM: Final = 1e-3


def join_blocks(series: Iterable[Series]) -> list[Series]:
    """Join series that continue each other; all others come back as they are, in the order of the input.

    Args:
        series: Of one study, laid out, not refused and not set aside.

    Returns:
        Every image of the input is in exactly one of them, as a slice or as left out.
    """
    blocks = list(series)
    while (found := _next_join(blocks)) is not None:
        lower, upper, joined = found
        place = min(blocks.index(lower), blocks.index(upper))
        blocks = [block for block in blocks if block is not lower and block is not upper]
        blocks.insert(place, joined)
    return blocks


def _next_join(blocks: list[Series]) -> tuple[Series, Series, Series] | None:
    """Two blocks of which each continues the other and no third one; several acquisitions are not for us to match."""
    pairs = [(lower, upper) for lower in blocks for upper in blocks if lower is not upper and continues(lower, upper)]
    for lower, upper in pairs:
        rivals = [pair for pair in pairs if pair[0] is lower or pair[1] is upper]
        joined = _joined(lower, upper)
        if len(rivals) == 1 and joined.refusal is None:
            return lower, upper, joined
    return None


def continues(lower: Series, upper: Series) -> bool:
    """Whether `upper` goes on where `lower` ends: at most one slice of overlap, at most 1.5 spacings of gap."""
    first, second = lower.stack, upper.stack
    if first is None or second is None or min(first.shape[0], second.shape[0]) < 2:
        return False
    if _identity(lower.headers[0]) != _identity(upper.headers[0]) or not lower.headers[0].frame_of_reference_uid:
        return False
    if first.shape[1:] != second.shape[1:] or not _are_parallel(first, second):
        return False
    steps = [float(np.median(np.diff(stack.positions_mm))) for stack in (first, second)]
    gap_mm = float(second.origins_ras_mm[0] @ first.normal_ras - first.positions_mm[-1])
    return -min(steps) - SAME_POSITION_MM <= gap_mm <= MOST_GAP * max(steps) + SAME_POSITION_MM


def _identity(header: Header) -> tuple[object, ...]:
    return (
        header.patient,
        header.study_uid,
        header.frame_of_reference_uid,
        header.kernel,
        header.vendor,
        header.kvp,
    )


def _are_parallel(first: SliceStack, second: SliceStack) -> bool:
    """The same pixels, the same directions, sorted the same way."""
    steps = [
        (first.column_step_ras_mm, second.column_step_ras_mm),
        (first.row_step_ras_mm, second.row_step_ras_mm),
    ]
    is_same = all(_is_close(a, b, _SAME_STEP_MM) for a, b in steps)
    return is_same and _is_close(first.normal_ras, second.normal_ras, _SAME_DIRECTION)


def _is_close(first: Float[np.ndarray, "3"], second: Float[np.ndarray, "3"], limit: float) -> bool:
    return bool(np.abs(first - second).max() <= limit)


def _joined(lower: Series, upper: Series) -> Series:
    """One series, laid out anew, so that it reads back the same; slices of `upper` within `lower` are left out."""
    first, second = lower.stack, upper.stack
    if first is None or second is None:
        raise ValueError("a refused series cannot be joined")
    is_above = second.origins_ras_mm @ first.normal_ras > first.positions_mm[-1] + SAME_POSITION_MM
    pairs = list(zip(upper.headers, is_above, strict=True))
    left_out = tuple(
        Refusal(code="NOT_BEST", what="another block of the scan shows the same place", path=header.path)
        for header, is_kept in pairs
        if not is_kept
    )
    joined = lay_out([*lower.headers, *(header for header, is_kept in pairs if is_kept)])
    return replace(joined, left_out=lower.left_out + upper.left_out + left_out + joined.left_out)
