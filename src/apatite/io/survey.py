"""One look at every file of a manifest: can it be read, what image is it, which label values does it hold.

Of a DICOM series only the listing is read: to decode thousands of series here would take hours, and `prepare` decodes
each once anyway, and compares their voxels then.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from apatite.core.errors import DataError
from apatite.core.scan import stack_from_grid
from apatite.core.watch import Watch, unwatched
from apatite.io.dicom.listing import is_listing, read_listing
from apatite.io.leaks import image_digest
from apatite.io.manifest import Case, Manifest
from apatite.io.nifti import read_label, read_volume


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What the files hold.

    Attributes:
        digests: `leaks.image_digest` by case_id, for the cases that could be read; that of the listing for DICOM.
        failures: What is wrong with each of the others, as plain values.
        label_values: All values found in label maps, ascending, without 0.
        thickness_mm: Distance between slices along the normal, by case_id.
    """

    digests: dict[str, str]
    failures: tuple[dict[str, Any], ...]
    label_values: tuple[int, ...]
    thickness_mm: dict[str, float]


def survey(manifest: Manifest, watch: Watch = unwatched) -> Survey:
    """Read every image and label of a manifest once; cases with a verdict are passed over.

    Raises:
        DataError: no case at all can be read.
    """
    digests: dict[str, str] = {}
    failures: list[dict[str, Any]] = []
    values: set[int] = set()
    thickness_mm: dict[str, float] = {}
    for case in watch(manifest.usable, "reading cases"):
        try:
            digest, distance_mm, found = _look(manifest, case)
        except DataError as error:
            failures.append({"case_id": case.case_id, **error.to_dict()})
            continue
        digests[case.case_id] = digest
        if distance_mm is not None:
            thickness_mm[case.case_id] = distance_mm
        values |= found
    if not digests and not failures:
        raise DataError(
            "no case may be used", where=str(manifest.root), fix="look at the column codes", code="EMPTY_SPLIT"
        )
    if not digests:
        raise DataError(
            f"no case can be read; the first: {failures[0]['what']}", where=failures[0]["where"], fix=failures[0]["fix"]
        )
    return Survey(
        digests=digests, failures=tuple(failures), label_values=tuple(sorted(values)), thickness_mm=thickness_mm
    )


def completed(manifest: Manifest, found: Survey) -> Manifest:
    """Fill in what the files say: missing thickness, unnamed labels; cases that cannot be read become `unused`."""
    cases = tuple(
        replace(
            case,
            split=case.split if case.case_id in found.digests else "unused",
            slice_thickness_mm=case.slice_thickness_mm or found.thickness_mm.get(case.case_id),
        )
        for case in manifest.cases
    )
    names = {value: f"label {value}" for value in found.label_values} | manifest.label_names
    return replace(manifest, cases=cases, label_names=dict(sorted(names.items())))


def _look(manifest: Manifest, case: Case) -> tuple[str, float | None, set[int]]:
    if is_listing(manifest.image_path(case)):
        return read_listing(manifest.image_path(case), case.case_id).digest, None, set()
    image = read_volume(manifest.image_path(case), case.case_id)
    stack = stack_from_grid(image.grid)
    found: set[int] = set()
    label_path = manifest.label_path(case)
    if label_path is not None:
        found = {int(value) for value in np.unique(read_label(label_path, stack, case.case_id))} - {0}
    return image_digest(image), round(float(stack.thickness_mm[0]), 4), found
