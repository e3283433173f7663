"""Moving a batch rigidly: each sample is read at the points of its own affine map, linearly between voxels.

On a CPU torch first writes the coordinates of every voxel, twelve bytes each, and then reads them again; one loop that
computes each coordinate where it is needed is several times faster. On other devices torch's own kernels are used.
"""

from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor
from torch.nn import functional

from apatite.core.types import Image

Maps = Float[np.ndarray, "batch 3 4"]
"""From a point of the new image to the point of the old one that it shows, both from -1 to 1 along i, j, k."""


def resample(images: Image, maps: Maps, outside: float) -> Image:
    """Read every sample at the points of its map.

    Args:
        images: `batch channels depth height width`.
        maps: One per sample; -1 and 1 are the outer faces of the first and the last voxel.
        outside: The value around the old image, blended in within one voxel of its border.
    """
    if images.device.type != "cpu" or images.dtype != torch.float32:
        return _resample_on_device(images, maps, outside)
    images, out = images.contiguous(), torch.empty_like(images, memory_format=torch.contiguous_format)
    for sample, target, index_map in zip(images, out, _index_maps(maps, images.shape), strict=True):
        for channel, result in zip(sample, target, strict=True):
            _read(channel.numpy(), index_map, np.float32(outside), result.numpy())
    return out


def _resample_on_device(images: Tensor, maps: Maps, outside: float) -> Tensor:
    """The value of what lies outside is torch's 0, so everything is measured from it."""
    grid = functional.affine_grid(torch.from_numpy(maps).to(images), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images - outside, grid, "bilinear", "zeros", align_corners=False)
    return moved + outside


def _index_maps(maps: Maps, shape: torch.Size) -> Maps:
    """The same maps between voxel indices: an index is `((point + 1) * edge - 1) / 2`."""
    edges = np.array(shape[:1:-1], dtype=np.float64)
    linear = maps[:, :, :3] * edges[:, None] / edges
    shift = (maps[:, :, :3] @ (1 / edges - 1) + maps[:, :, 3] + 1) * edges / 2 - 0.5
    return np.concatenate([linear, shift[:, :, None]], axis=2)


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _read(source, index_map, outside, out):
    """One channel; the inner loop has all eight neighbours inside, the border takes the slower way."""
    depth, height, width = source.shape
    along_x = index_map[:, 0]
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            row = index_map[:, 1] * y + index_map[:, 2] * z + index_map[:, 3]
            for x in range(out.shape[2]):
                i, j, k = row[0] + along_x[0] * x, row[1] + along_x[1] * x, row[2] + along_x[2] * x
                i0, j0, k0 = int(np.floor(i)), int(np.floor(j)), int(np.floor(k))
                di, dj, dk = np.float32(i - i0), np.float32(j - j0), np.float32(k - k0)
                if 0 <= i0 < width - 1 and 0 <= j0 < height - 1 and 0 <= k0 < depth - 1:
                    near = _mix_four(source[k0], j0, i0, dj, di, outside)
                    far = _mix_four(source[k0 + 1], j0, i0, dj, di, outside)
                    out[z, y, x] = near + dk * (far - near) + outside
                else:
                    out[z, y, x] = _at_border(source, (k0, j0, i0), (dk, dj, di), outside)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
@no_type_check
def _mix_four(plane, j, i, dj, di, outside):
    """How far four neighbours in a plane rise above the outside, mixed; air then stays air to the last bit."""
    a, b = plane[j, i] - outside, plane[j, i + 1] - outside
    c, d = plane[j + 1, i] - outside, plane[j + 1, i + 1] - outside
    upper, lower = a + di * (b - a), c + di * (d - c)
    return upper + dj * (lower - upper)


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _at_border(source, corner, beyond, outside):
    """The same where some or all of the eight neighbours lie outside."""
    total = np.float32(0)
    for number in range(8):
        weight, is_inside = np.float32(1), True
        index = (corner[0] + (number >> 2), corner[1] + (number >> 1 & 1), corner[2] + (number & 1))
        for axis in range(3):
            is_far = index[axis] > corner[axis]
            weight *= beyond[axis] if is_far else np.float32(1) - beyond[axis]
            is_inside = is_inside and 0 <= index[axis] < source.shape[axis]
        if is_inside:
            total += weight * (source[index] - outside)
    return total + outside
