"""Where crops lie in their volumes: nine points of each, which go along when a crop is mirrored or moved.

Source: the centre and the eight corners of the crop after Gu et al. 2024 (arXiv 2406.10519).
Differs: how they are normalised and ordered there is not known. Here they are fractions of the prepared volume, 0 at
the outer face of its first voxel and 1 at that of its last; the centre first, then the corners as binary numbers of
depth, height and width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from apatite.core.types import Edges

Spacing = tuple[float, float, float]

_SIGNS: Final = np.array([(0, 0, 0), *((d, h, w) for d in (-1, 1) for h in (-1, 1) for w in (-1, 1))], np.float32)
"""The nine points seen from the middle of the crop, in half edges along depth, height, width."""
_MIRRORED: Final = [0, *(1 + (corner ^ 1) for corner in range(8))]
"""Which point a mirrored crop shows at the place of each: corners that differ in width alone change places."""
_FIRST: Final = 1
_AHEAD: Final = (5, 3, 2)
"""The corner at the origin of the crop, and those one edge ahead of it along depth, height, width."""


@dataclass(frozen=True, kw_only=True)
class CropPlaces:
    """Where each crop lies in its volume.

    Attributes:
        points: The centre, then the eight corners in lexicographic order of depth, height, width of the crop as seen;
            as fractions of the volume along depth, height, width. Outside 0 to 1 where a moved crop reaches further.
        extent_mm: Of the volume along depth, height, width.
    """

    points: Float[Tensor, "batch 9 3"]
    extent_mm: Float[Tensor, "batch 3"]

    def to(self, device: str | torch.device) -> "CropPlaces":
        """The same on a device."""
        return CropPlaces(points=self.points.to(device), extent_mm=self.extent_mm.to(device))

    def mirrored(self, is_mirrored: Bool[Tensor, "batch"]) -> "CropPlaces":
        """Some crops mirrored along width, together with all of their volume.

        What lay at a fraction w of the width then lies at 1 - w, and the corners keep the order of the crop as seen.
        """
        here = self.points[:, _MIRRORED]
        depth_height, width = here[..., :2], here[..., 2:]
        points = torch.cat([depth_height, 1 - width], dim=-1)
        chosen = is_mirrored.to(points.device)[:, None, None]
        return CropPlaces(points=torch.where(chosen, points, self.points), extent_mm=self.extent_mm)

    def moved(self, maps: Float[np.ndarray, "batch 3 4"]) -> "CropPlaces":
        """Crops read anew at other points of themselves, as `data.resample.resample` does.

        Args:
            maps: From a point of the new crop to the point of the old one that it shows, both from -1 to 1 along i, j,
                k. What the new crop shows of the volume's coordinates is what the points then say.
        """
        # Affine maps along depth, height, width; fractions of the volume are an affine function of them in turn.
        turned = torch.from_numpy(maps[:, ::-1][:, :, [2, 1, 0, 3]].astype(np.float32)).to(self.points.device)
        signs = torch.from_numpy(_SIGNS).to(self.points.device)
        shown = signs @ turned[:, :, :3].mT + turned[:, None, :, 3]
        half_edges = (self.points[:, _AHEAD] - self.points[:, _FIRST, None]) / 2
        return CropPlaces(points=self.points[:, :1] + shown @ half_edges, extent_mm=self.extent_mm)


@dataclass(frozen=True, kw_only=True, eq=False)
class VolumeSizes:
    """How large the volumes of a source are, in its order.

    Attributes:
        edges: Voxels along depth, height, width.
        extent_mm: Along the same axes.
    """

    edges: Int64[np.ndarray, "cases 3"]
    extent_mm: Float32[np.ndarray, "cases 3"]

    @classmethod
    def of(cls, shapes: Sequence[Sequence[int]], spacings_mm: Sequence[Spacing]) -> "VolumeSizes":
        """Sizes of volumes.

        Args:
            shapes: Voxels along depth, height, width.
            spacings_mm: Of their voxels along i (width), j (height), k (depth), as a grid states them.
        """
        extents = [np.multiply(shape, spacing[::-1]) for shape, spacing in zip(shapes, spacings_mm, strict=True)]
        return cls(
            edges=np.array(shapes, np.int64).reshape(-1, 3), extent_mm=np.array(extents, np.float32).reshape(-1, 3)
        )

    def places(self, cases: Sequence[int], starts: Sequence[Sequence[float]], crop: Edges) -> CropPlaces:
        """Where crops lie.

        Args:
            cases: The volume of each.
            starts: First voxel of each along depth, height, width.
            crop: Edges in voxels.
        """
        edges = self.edges[list(cases)]
        middles = np.array(starts, np.float64).reshape(-1, 3) + np.array(crop) / 2
        points = (middles[:, None] + _SIGNS * (np.array(crop) / 2)) / edges[:, None]
        return CropPlaces(
            points=torch.from_numpy(points.astype(np.float32)),
            extent_mm=torch.from_numpy(self.extent_mm[list(cases)]),
        )
