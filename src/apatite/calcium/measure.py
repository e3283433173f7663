"""Volume of calcium on the original slices: tilt, overlap and uneven spacing are counted as they are.

Each slice stands for the part of the normal that is nearest to it, so overlapping slices are not counted twice and
gaps are not silently filled.

    V = sum over slices k of  w_k * pixel area * number of calcium pixels in slice k
"""

import numpy as np
from jaxtyping import Float, Num

from apatite.core.scan import SliceStack


def slice_weights_mm(stack: SliceStack) -> Float[np.ndarray, "slices"]:
    """How much of the normal each slice stands for.

    Half the distance to either neighbour; at an end, half the distance to the one neighbour plus half the thickness.
    At most twice the slice's thickness, so that a gap is not filled. A single slice stands for its thickness.
    """
    if stack.shape[0] == 1:
        return stack.thickness_mm.copy()
    gaps = np.diff(stack.positions_mm)
    weights = np.empty(stack.shape[0])
    weights[1:-1] = (gaps[:-1] + gaps[1:]) / 2
    weights[0] = (gaps[0] + stack.thickness_mm[0]) / 2
    weights[-1] = (gaps[-1] + stack.thickness_mm[-1]) / 2
    return np.minimum(weights, 2 * stack.thickness_mm)


def volume_mm3(is_calcium: Num[np.ndarray, "slices rows columns"] | np.ndarray, stack: SliceStack) -> float:
    """Volume of the marked pixels, in mm³.

    Args:
        is_calcium: True (or a fraction between 0 and 1) per pixel of the original slices.
        stack: Where those slices lie.

    Raises:
        ValueError: the pixels do not fit the slices.
    """
    if is_calcium.shape != stack.shape:
        raise ValueError(f"marked pixels {is_calcium.shape} do not fit the slices {stack.shape}")
    pixels = is_calcium.reshape(stack.shape[0], -1).sum(axis=1, dtype=np.float64)
    return float(pixels @ slice_weights_mm(stack)) * stack.pixel_mm2
