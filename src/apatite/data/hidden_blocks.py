"""Cuboids of hidden cells: random boxes until an exact number of cells is hidden.

Source: the block-wise law of BEiT (Bao et al. 2022, arXiv 2106.08254) as released with iBOT (arXiv 2111.07832):
rectangles of a random area, at most what is missing, at an aspect ratio of 0.3 to 1/0.3; ten attempts for each. As in
DINOv3's released code, single cells then make up the number, so that it is exact.
Differs: boxes have three edges, the ratio of any two of which lies in that range; a box that is longer than the grid is
cut to it instead of being drawn again, since grids of CT may be thin; the smallest box is never larger than what is
missing; numbers are rounded up.
"""

from math import log
from typing import Final

import numpy as np
from jaxtyping import Bool, Int64

from apatite.core.types import Edges

SMALLEST_ASPECT: Final = 0.3
"""Of a box: its shortest edge over its longest, before rounding."""
ATTEMPTS: Final = 10
"""Boxes that are tried in a row before single cells make up what is missing."""


def hide_blocks(
    source: np.random.Generator, order: Int64[np.ndarray, "cells"], cells: Edges, count: int
) -> Bool[np.ndarray, "cells"]:
    """Hide random boxes of cells until so many are hidden.

    Args:
        source: What is drawn from.
        order: A random order of all cells, for the single cells that may be missing at the end.
        cells: Along depth, height, width.
        count: How many are hidden.
    """
    is_hidden = np.zeros(cells, bool)
    missing, failures = count, 0
    while missing and failures < ATTEMPTS:
        box = _random_box(source, cells, missing)
        new = int(np.count_nonzero(~is_hidden[box]))
        if 0 < new <= missing:
            is_hidden[box] = True
            missing, failures = missing - new, 0
        else:
            failures += 1
    flat = is_hidden.reshape(-1)
    flat[order[~flat[order]][:missing]] = True
    return flat


def _random_box(source: np.random.Generator, cells: Edges, most: int) -> tuple[slice, slice, slice]:
    """A box of at most about so many cells; one that is longer than the grid is cut to it."""
    least = min(max(1, min(cells) // 3) ** 3, most)
    volume = source.uniform(least, most)
    stretch = source.uniform(log(SMALLEST_ASPECT) / 2, -log(SMALLEST_ASPECT) / 2, size=3)
    wanted = np.rint(np.cbrt(volume) * np.exp(stretch - stretch.mean()))
    edges = np.clip(wanted, 1, cells).astype(np.int64)
    starts = source.integers(0, np.array(cells) - edges + 1)
    depth, height, width = (slice(int(a), int(a + n)) for a, n in zip(starts, edges, strict=True))
    return depth, height, width
