"""One case, read and resampled for training: a region, or the whole body on a regular grid."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from jaxtyping import Bool, Float32, Int16, UInt8
from scipy import ndimage

from apatite.core.errors import DataError
from apatite.core.intensity import Intensity, in_intensity
from apatite.core.scan import Scan, SliceStack
from apatite.core.volume import Grid, Volume, axis_aligned_grid
from apatite.ct.region import RegionConfig, cut_fraction, cut_region
from apatite.ct.template import Template
from apatite.data.prepare_place import Found, place_region
from apatite.io.case import Case
from apatite.io.images import read_image
from apatite.io.leaks import image_digest
from apatite.io.manifest import Manifest
from apatite.io.nifti import read_label, viewer_grid

Edges = tuple[int, int, int]

_BODY_STEP_MM = 3.0


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedCase:
    """What one case became.

    Attributes:
        image_hu: Int16 on the grid, depth height width: HU, or what `core.intensity` makes of images without them.
        labels: Regions: uint8 labels × depth × height × width, 255 × the annotated fraction. Whole volumes: uint8
            depth height width, 0 for background, else 1 + the place of the label among all label values. `None`
            without a label map.
        grid: Where the voxels lie.
        image_digest: `io.leaks.image_digest` of the original.
        found: How the region was found; `None` where it was stated, and for whole volumes.
    """

    image_hu: Int16[np.ndarray, "depth height width"]
    labels: UInt8[np.ndarray, "*labels depth height width"] | None
    grid: Grid
    image_digest: str
    found: Found | None = None


def prepare_region(
    manifest: Manifest,
    case: Case,
    region: RegionConfig,
    templates: Sequence[Template] = (),
    intensity: Intensity = "hu",
) -> PreparedCase:
    """Cut the region of one case.

    Args:
        manifest: Where its files lie.
        case: Which one.
        region: Size and spacing.
        templates: To find the region with, in a whole head that does not state it.
        intensity: What the image is counted in.

    Raises:
        DataError: the image or its label cannot be used, or the scan does not show the region.
    """
    scan = read_image(manifest.image_path(case), case.case_id)
    grid, found = place_region(scan, case, region, templates)
    label = _read_checked_label(manifest, case, scan.stack)
    fractions = None
    if label is not None:
        values = sorted(manifest.label_names)
        fractions = np.stack([_rounded(_fraction(label == value, scan.stack, grid)) for value in values])
    image = _as_int16(cut_region(in_intensity(scan, intensity, case.case_id), grid).voxels)
    return PreparedCase(image_hu=image, labels=fractions, grid=grid, image_digest=_digest(scan), found=found)


def prepare_volume(
    manifest: Manifest,
    case: Case,
    spacing_mm: tuple[float, float, float],
    least_shape: Edges,
    body_hu: float,
    intensity: Intensity = "hu",
) -> PreparedCase:
    """Resample the whole body of one case onto a regular grid along the patient's axes.

    Raises:
        DataError: the image or its label cannot be used.
    """
    scan = read_image(manifest.image_path(case), case.case_id)
    label = _read_checked_label(manifest, case, scan.stack)
    counted = in_intensity(scan, intensity, case.case_id)
    grid = body_grid(counted, spacing_mm, least_shape, body_hu)
    labels = None if label is None else _label_index(label, sorted(manifest.label_names), scan.stack, grid)
    image = _as_int16(cut_region(counted, grid).voxels)
    return PreparedCase(image_hu=image, labels=labels, grid=grid, image_digest=_digest(scan))


def body_grid(scan: Scan, spacing_mm: tuple[float, float, float], least_shape: Edges, body_hu: float) -> Grid:
    """The grid around the largest connected body above `body_hu`; around all of the scan where there is none.

    Args:
        scan: Original slices.
        spacing_mm: Along i, j, k.
        least_shape: The grid has at least these voxels, depth height width; the body stays in its middle.
        body_hu: What is above it is body.
    """
    stack = scan.stack
    # Connected components of a full scan are slow, so pixels are skipped; the box grows by what was skipped.
    step = np.array(
        [1, *(max(1, int(_BODY_STEP_MM / edge)) for edge in (stack.row_spacing_mm, stack.column_spacing_mm))]
    )
    is_body = _largest_component(scan.voxels_hu[:, :: step[1], :: step[2]] > body_hu)
    where = np.argwhere(is_body if is_body.any() else ~is_body)
    corners = _corners(stack, where.min(axis=0) * step - (step - 1), where.max(axis=0) * step + (step - 1))
    low, high = corners.min(axis=0), corners.max(axis=0)
    shape = tuple(
        max(math.ceil((high[axis] - low[axis]) / spacing_mm[axis]), least)
        for axis, least in zip((2, 1, 0), least_shape, strict=True)
    )
    return axis_aligned_grid((shape[0], shape[1], shape[2]), spacing_mm, (low + high) / 2)


def _corners(stack: SliceStack, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """RAS mm of the outer corners of a box of original voxels (slice, row, column)."""
    low, high = np.maximum(low, 0), np.minimum(high, np.array(stack.shape) - 1)
    in_plane = np.array([[r, c] for r in (low[1] - 0.5, high[1] + 0.5) for c in (low[2] - 0.5, high[2] + 0.5)])
    ends = []
    for k, sign in ((int(low[0]), -0.5), (int(high[0]), 0.5)):
        ends.append(stack.to_ras(k, in_plane) + sign * stack.thickness_mm[k] * stack.normal_ras)
    return np.concatenate(ends)


def _largest_component(is_body: Bool[np.ndarray, "slices rows columns"]) -> Bool[np.ndarray, "slices rows columns"]:
    components, count = cast(tuple[np.ndarray, int], ndimage.label(is_body))
    if count < 2:
        return is_body
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return components == sizes.argmax()


def _read_checked_label(manifest: Manifest, case: Case, stack: SliceStack) -> UInt8[np.ndarray, "s r c"] | None:
    """The label map of a case, holding only values that have a name and were looked for."""
    path = manifest.label_path(case)
    if path is None:
        if case.split == "finetune":
            raise DataError(
                "is to be fine-tuned on but has no label",
                where=case.case_id,
                fix="fill in its label column",
                code="MISSING_FILE",
            )
        return None
    label = read_label(path, stack, case.case_id)
    unknown = set(np.unique(label).tolist()) - {0} - set(manifest.annotated(case))
    if unknown:
        named = ", ".join(f"{value} {name}" for value, name in sorted(manifest.label_names.items()))
        raise DataError(
            f"label value {min(unknown)} is not among those looked for here ({named})",
            where=case.case_id,
            fix="name it in the .labels.json file and list it in annotated_labels",
            code="BAD_LABEL",
        )
    return label


def _fraction(is_marked: Bool[np.ndarray, "s r c"], stack: SliceStack, grid: Grid) -> Float32[np.ndarray, "d h w"]:
    """`cut_fraction`, resampling only the part of the grid that the marked voxels can reach."""
    result = np.zeros(grid.shape, dtype=np.float32)
    where = np.argwhere(is_marked)
    if not len(where):
        return result
    reach = np.maximum(where.min(axis=0) - 1, 0), np.minimum(where.max(axis=0) + 1, np.array(stack.shape) - 1)
    ijk = grid.to_ijk(_corners(stack, *reach))
    first = np.clip(np.floor(ijk.min(axis=0))[::-1] - 1, 0, np.array(grid.shape)).astype(int)
    last = np.clip(np.ceil(ijk.max(axis=0))[::-1] + 2, 0, np.array(grid.shape)).astype(int)
    shape = last - first
    if shape.min() < 1:
        return result
    affine = grid.ijk_to_ras.copy()
    affine[:3, 3] = grid.to_ras(first[::-1].astype(float))
    sub_grid = Grid(shape=(int(shape[0]), int(shape[1]), int(shape[2])), ijk_to_ras=affine)
    place = tuple(slice(start, stop) for start, stop in zip(first, last, strict=True))
    result[place] = cut_fraction(is_marked, stack, sub_grid).voxels
    return result


def _label_index(
    label: UInt8[np.ndarray, "s r c"], values: list[int], stack: SliceStack, grid: Grid
) -> UInt8[np.ndarray, "d h w"]:
    """The label with the largest fraction of each voxel; background needs more than any of them."""
    index = np.zeros(grid.shape, dtype=np.uint8)
    best = np.zeros(grid.shape, dtype=np.float32)
    marked = np.zeros(grid.shape, dtype=np.float32)
    for place, value in enumerate(values, start=1):
        fraction = _fraction(label == value, stack, grid)
        marked += fraction
        index[fraction > best] = place
        np.maximum(best, fraction, out=best)
    index[best < 1 - marked] = 0
    return index


def _rounded(fraction: Float32[np.ndarray, "d h w"]) -> UInt8[np.ndarray, "d h w"]:
    return np.rint(255 * np.clip(fraction, 0, 1)).astype(np.uint8)


def _as_int16(voxels_hu: Float32[np.ndarray, "d h w"]) -> Int16[np.ndarray, "d h w"]:
    """Whole HU; what does not fit saturates, it never wraps."""
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(voxels_hu), limits.min, limits.max).astype(np.int16)


def _digest(scan: Scan) -> str:
    return image_digest(Volume(voxels=scan.voxels_hu, grid=viewer_grid(scan.stack)))
