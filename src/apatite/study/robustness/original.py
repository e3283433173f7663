"""One case as it is, and the same case at a level: degraded, or scanned again.

Both ways come out of `at_level` alike: slices, the reference on them, and where the region is put.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from apatite.calibrate.readings import calcium_label
from apatite.core.errors import DataError
from apatite.core.scan import Scan
from apatite.ct.degrade.degradation import Degradation, degrade
from apatite.ct.kernel_check import measured_kernel
from apatite.ct.near import grid_corners_ras_mm, is_empty, near
from apatite.io.case import Case
from apatite.io.images import read_image
from apatite.io.nifti import read_label
from apatite.io.store import Prepared
from apatite.phantom.reader import read_perfectly
from apatite.phantom.scanner import Acquisition
from apatite.study.cases import analytic_mm3
from apatite.study.robustness.reference import calcium_reference, label_reference
from apatite.study.robustness.rescan import Phantom, find_phantom, scan_again

ROOM_MM = 24.0
"""How much of a scan is kept round the region: half of the thickest slice, the farthest shift, and the kernels."""

Marked = Bool[np.ndarray, "slices rows columns"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Original:
    """A case as it is.

    Attributes:
        case: Its row in the manifest, with the centre of its region.
        scan: Original slices; for a region, those near it.
        references: Label value to where it is annotated.
        calcium: The value of calcium among them; `None` where there is none.
        noise_hu: Noise in brain; `None` where none is in view.
        analytic_mm3: True volume inside the region, of phantoms only.
        phantom: The patient, where the case is to be scanned again.
    """

    case: Case
    scan: Scan
    references: Mapping[int, Marked]
    calcium: int | None
    noise_hu: float | None
    analytic_mm3: float | None
    phantom: Phantom | None

    @property
    def thickness_mm(self) -> float:
        """Of the thickest slice."""
        return float(self.scan.stack.thickness_mm.max())


@dataclass(frozen=True, kw_only=True, eq=False)
class AtLevel:
    """A case at one level.

    Attributes:
        case: Its row, with the centre that a model is told.
        scan: Its slices at that level.
        references: Label value to what an annotator would mark there.
    """

    case: Case
    scan: Scan
    references: Mapping[int, Marked]


def read_original(prepared: Prepared, case: Case, *, rescan: bool) -> Original:
    """Read a labelled case.

    Args:
        prepared: Where it is.
        case: One of its cases.
        rescan: Also draw its patient, so that it can be scanned again.

    Raises:
        DataError: it cannot be read, or is no phantom that could be scanned again.
    """
    manifest = prepared.manifest
    label_path = manifest.label_path(case)
    if label_path is None:
        raise DataError("has no reference", where=case.case_id, fix="fill in its label column", code="MISSING_FILE")
    whole = read_image(manifest.image_path(case), case.case_id)
    label = read_label(label_path, whole.stack, case.case_id)
    phantom = find_phantom(manifest, case, whole) if rescan else None
    scan = whole
    if phantom is not None:
        # On the very slices on which it is scanned again: a file rounds positions.
        scan = phantom.series.acquisition.scan
    if prepared.kind == "region":
        grid = prepared.grid(prepared.cases.index(case))
        x, y, z = (float(value) for value in grid.centre_ras_mm)
        case = _with_centre(case, (x, y, z))
        window = near(whole.stack, grid_corners_ras_mm(grid), ROOM_MM)
        # A phantom holds little more than its region, and its truth lies on all of its slices.
        if phantom is None and not is_empty(window):
            window = _widened(window, whole)
            scan, label = _part(whole, window), label[window]
    references = {value: label == value for value in manifest.annotated(case)}
    if phantom is not None:
        # One reader for all scans of the patient, whoever's labels lie on disk.
        references = dict.fromkeys(references, phantom.series.is_calcium)
    return Original(
        case=case,
        scan=scan,
        references=references,
        calcium=calcium_label(manifest.label_names),
        noise_hu=measured_kernel(whole).noise_hu,
        analytic_mm3=analytic_mm3(manifest, case),
        phantom=phantom,
    )


def at_level(original: Original, name: str, degradation: Degradation, seed: int) -> AtLevel:
    """The case at one level: scanned again where it is a phantom that can be, else degraded.

    Args:
        original: The case as it is.
        name: Of the way.
        degradation: The level.
        seed: Of noise and directions.
    """
    case, key = original.case, original.case.case_id
    if case.region_centre_ras_mm is not None:
        x, y, z = (float(v) for v in degradation.centre(np.array(case.region_centre_ras_mm), key, seed))
        case = _with_centre(case, (x, y, z))
    if original.phantom is not None and name != "pose":
        again = scan_again(original.phantom, name, degradation)
        return AtLevel(case=case, scan=again.scan, references=_read(original, again))
    scan = degrade(original.scan, degradation, key, seed)
    references = {}
    for value, is_annotated in original.references.items():
        if value == original.calcium:
            references[value] = calcium_reference(original.scan, is_annotated, scan, degradation)
        else:
            references[value] = label_reference(original.scan, is_annotated, degradation)
    return AtLevel(case=case, scan=scan, references=references)


def _read(original: Original, acquisition: Acquisition) -> dict[int, Marked]:
    """The perfect reader's annotation; of a phantom all labels are calcium."""
    return dict.fromkeys(original.references, read_perfectly(acquisition))


def _with_centre(case: Case, centre_ras_mm: tuple[float, float, float]) -> Case:
    return replace(case, region_centre_ras_mm=centre_ras_mm)


def _widened(window: tuple[slice, slice, slice], scan: Scan) -> tuple[slice, slice, slice]:
    """The same slices, and room in their planes as well."""
    stack = scan.stack
    rows, columns = int(ROOM_MM / stack.row_spacing_mm), int(ROOM_MM / stack.column_spacing_mm)
    return (
        window[0],
        slice(max(window[1].start - rows, 0), min(window[1].stop + rows, stack.shape[1])),
        slice(max(window[2].start - columns, 0), min(window[2].stop + columns, stack.shape[2])),
    )


def _part(scan: Scan, window: tuple[slice, slice, slice]) -> Scan:
    is_padding = None if scan.is_padding is None else scan.is_padding[window]
    return Scan(voxels_hu=scan.voxels_hu[window], stack=scan.stack.part(window), is_padding=is_padding)
