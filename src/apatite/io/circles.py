"""What a reader circled, as label values on the slices of a scan: from a label map, or from shapes in JSON.

    {"format": 1, "circles": [
      {"slice": 12, "polygon": [[210.0, 240.5], [214.0, 247.0], [206.5, 246.0]], "label": 1},
      {"slice": 12, "centre": [211.0, 301.5], "radius_mm": 3.0, "label": 2},
      {"z_mm": -23.5, "centre": [211.0, 301.5], "radius_px": 7.0, "label": 2},
      {"point_ras_mm": [-12.0, 4.5, -23.5], "radius_mm": 3.0},
      {"point_lps_mm": [12.0, -4.5, -23.5], "radius_mm": 3.0}
    ]}

`slice` counts from 0 in the order of the scan (along the normal for DICOM, as stored for NIfTI); `z_mm` is the height
(S) of the slice's first pixel, the third number of ImagePositionPatient. Points are [row, column], 0 is the centre of
the first pixel; a pixel is inside where its centre is. A polygon closes itself; where it crosses itself, even and odd
alternate. A point lies in the slice that is nearest along the normal. Without `label` the value is the caller's.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from skimage.draw import polygon2mask

from apatite.core.errors import DataError
from apatite.core.registry import nearest
from apatite.core.scan import SliceStack
from apatite.io.manifest import MAX_LABEL
from apatite.io.nifti import read_label
from apatite.io.strict_json import parse_json

FORMAT = 1
MAX_BYTES = 16 * 2**20
Z_TOLERANCE_MM = 0.1
"""A stated height belongs to a slice that is no further away; heights in files are rounded."""

_SHAPES: dict[str, tuple[tuple[str, ...], ...]] = {
    "polygon": (("slice",), ("z_mm",)),
    "centre": (("slice", "radius_px"), ("slice", "radius_mm"), ("z_mm", "radius_px"), ("z_mm", "radius_mm")),
    "point_ras_mm": (("radius_mm",),),
    "point_lps_mm": (("radius_mm",),),
}
"""What a shape's own key needs beside it; one of the combinations."""
_KEYS = ["slice", "z_mm", "polygon", "centre", "radius_px", "radius_mm", "point_ras_mm", "point_lps_mm", "label"]

IsInside = Bool[np.ndarray, "rows columns"]
Circles = UInt8[np.ndarray, "slices rows columns"]


def read_circles(path: Path, stack: SliceStack, case_id: str = "", label: int = 1) -> Circles:
    """Read circles as a label map on the slices of a scan.

    Args:
        path: `.nii`, `.nii.gz` on the same slices, or `.json` as above.
        stack: The slices that were circled.
        case_id: The case, for messages.
        label: Value of circles in JSON that state none.

    Raises:
        DataError: the file cannot be read (`IO_ERROR`, `TOO_LARGE`), a circle is not as described above or not on the
            scan (`BAD_CIRCLE`), two labels claim one pixel, or a label leaves 1 to 254 (`BAD_LABEL`); for a label
            map as `nifti.read_label`.
    """
    where = case_id or path.name
    if path.name.endswith((".nii", ".nii.gz")):
        return read_label(path, stack, where)
    return draw_circles(_read(path, where), stack, where, label)


def draw_circles(values: Any, stack: SliceStack, where: str = "", label: int = 1) -> Circles:
    """Circles in the form above, already parsed, as a label map.

    Raises:
        DataError: as `read_circles`.
    """
    if not isinstance(values, Mapping) or set(values) != {"format", "circles"} or values["format"] != FORMAT:
        raise _bad('is not {"format": 1, "circles": [...]}', where)
    if not isinstance(values["circles"], list):
        raise _bad("circles is no list", where)
    drawn = np.zeros(stack.shape, dtype=np.uint8)
    for number, circle in enumerate(values["circles"]):
        place = f"{where} circle {number}".strip()
        k, is_inside, value = _draw(circle, stack, place, label)
        if np.any((drawn[k] != value) & (drawn[k] != 0) & is_inside):
            raise DataError(
                f"shares pixels of slice {k} with a circle of another label",
                where=place,
                fix="draw them apart",
                code="BAD_LABEL",
            )
        drawn[k][is_inside] = value
    return drawn


def _read(path: Path, where: str) -> Any:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError("cannot be read", where=where, fix="check the path", code="IO_ERROR") from error
    if len(content) > MAX_BYTES:
        raise DataError(f"is over {MAX_BYTES} bytes", where=where, fix="is it a file of circles?", code="TOO_LARGE")
    try:
        return parse_json(content)
    except ValueError as error:
        raise _bad("is no plain JSON", where) from error


def _draw(circle: Any, stack: SliceStack, where: str, label: int) -> tuple[int, IsInside, int]:
    """Slice, pixels and label value of one circle."""
    shape = _shape_of(circle, where)
    value = circle.get("label", label)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_LABEL:
        raise DataError(f"its label is no whole number from 1 to {MAX_LABEL}", where=where, code="BAD_LABEL")
    if shape.startswith("point"):
        k, centre = _locate(_numbers(circle, shape, 3, where), shape, stack, where)
        is_inside = _disc_mm(stack, centre, _positive(circle, "radius_mm", where))
    else:
        k = _slice_of(circle, stack, where)
        is_inside = _polygon(circle, stack, where) if shape == "polygon" else _disc(circle, stack, where)
    if not is_inside.any():
        raise _bad("has no centre of a pixel inside", where, "draw it larger, and on the slice")
    return k, is_inside, value


def _shape_of(circle: Any, where: str) -> str:
    """Which of `_SHAPES` it is, when it has all that shape needs and nothing else."""
    if not isinstance(circle, Mapping):
        raise _bad("is no object with keys and values", where)
    for key in circle:
        if key not in _KEYS:
            raise _bad(f"has an unknown key {key[:40]!r}", where, nearest(key, _KEYS))
    shapes = [shape for shape in _SHAPES if shape in circle]
    if len(shapes) != 1:
        raise _bad(f"has {len(shapes)} shapes, not one", where, f"give one of {', '.join(_SHAPES)}")
    others = set(circle) - {shapes[0], "label"}
    if others not in [set(needed) for needed in _SHAPES[shapes[0]]]:
        choices = " or ".join(" and ".join(needed) for needed in _SHAPES[shapes[0]])
        raise _bad(f"has {sorted(others)} beside {shapes[0]}", where, f"give {choices}")
    return shapes[0]


def _slice_of(circle: Mapping[str, Any], stack: SliceStack, where: str) -> int:
    slices = stack.shape[0]
    if "z_mm" in circle:
        z_mm = _number(circle["z_mm"], "z_mm", where)
        off_mm = np.abs(stack.origins_ras_mm[:, 2] - z_mm)
        k = int(off_mm.argmin())
        if off_mm[k] > Z_TOLERANCE_MM:
            raise _bad(f"no slice is at z_mm {z_mm:g}", where, f"the nearest is at {stack.origins_ras_mm[k, 2]:.2f}")
        return k
    k = circle["slice"]
    if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k < slices:
        raise _bad(f"slice {str(k)[:20]} is not one of 0 to {slices - 1}", where, "count slices from 0")
    return k


def _polygon(circle: Mapping[str, Any], stack: SliceStack, where: str) -> IsInside:
    vertices = circle["polygon"]
    if not isinstance(vertices, list) or len(vertices) < 3:
        raise _bad("is a polygon of fewer than 3 vertices", where)
    points = np.array([_pair(vertex, "polygon", where) for vertex in vertices])
    _require_on_slice(points, stack, where)
    return polygon2mask(stack.shape[1:], points)


def _disc(circle: Mapping[str, Any], stack: SliceStack, where: str) -> IsInside:
    centre = np.array(_pair(circle["centre"], "centre", where))
    _require_on_slice(centre[None], stack, where)
    if "radius_mm" in circle:
        return _disc_mm(stack, centre, _positive(circle, "radius_mm", where))
    rows, columns = np.ogrid[: stack.shape[1], : stack.shape[2]]
    radius = _positive(circle, "radius_px", where)
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def _disc_mm(stack: SliceStack, centre: Float[np.ndarray, "2"], radius_mm: float) -> IsInside:
    rows, columns = np.ogrid[: stack.shape[1], : stack.shape[2]]
    offset_mm = (rows - centre[0])[..., None] * stack.row_step_ras_mm + (columns - centre[1])[..., None] * (
        stack.column_step_ras_mm
    )
    return np.linalg.norm(offset_mm, axis=-1) <= radius_mm


def _locate(point: Sequence[float], shape: str, stack: SliceStack, where: str) -> tuple[int, Float[np.ndarray, "2"]]:
    """The slice nearest to a point in the patient, and the (row, column) right opposite to it there."""
    point_ras_mm = np.array(point) * ([1, 1, 1] if shape == "point_ras_mm" else [-1, -1, 1])
    along_mm = float(point_ras_mm @ stack.normal_ras)
    off_mm = np.abs(stack.positions_mm - along_mm)
    k = int(off_mm.argmin())
    gaps_mm = np.diff(stack.positions_mm)[max(k - 1, 0) : k + 1]
    if off_mm[k] > max(float(gaps_mm.max(initial=0)), float(stack.thickness_mm[k])) / 2:
        raise _bad("its point lies above or below the scan", where, "is it RAS or LPS, and of this scan?")
    step = np.stack([stack.row_step_ras_mm, stack.column_step_ras_mm], axis=1)
    centre = np.linalg.pinv(step) @ (point_ras_mm - stack.origins_ras_mm[k])
    _require_on_slice(centre[None], stack, where)
    return k, centre


def _require_on_slice(points: Float[np.ndarray, "points 2"], stack: SliceStack, where: str) -> None:
    if np.any(points < -0.5) or np.any(points > np.array(stack.shape[1:]) - 0.5):
        raise _bad(
            f"reaches beyond the {stack.shape[1]} rows and {stack.shape[2]} columns", where, "give [row, column]"
        )


def _numbers(circle: Mapping[str, Any], key: str, count: int, where: str) -> list[float]:
    values = circle[key]
    if not isinstance(values, list) or len(values) != count:
        raise _bad(f"{key} is not {count} numbers", where)
    return [_number(value, key, where) for value in values]


def _pair(value: Any, key: str, where: str) -> list[float]:
    return _numbers({key: value}, key, 2, where)


def _positive(circle: Mapping[str, Any], key: str, where: str) -> float:
    number = _number(circle[key], key, where)
    if number <= 0:
        raise _bad(f"{key} is not above 0", where)
    return number


def _number(value: Any, key: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e6:
        raise _bad(f"{key} is no number of a sensible size", where)
    return float(value)


def _bad(what: str, where: str, fix: str = "see the format of circles in docs/how-to/measure.md") -> DataError:
    return DataError(what, where=where, fix=fix, code="BAD_CIRCLE")
