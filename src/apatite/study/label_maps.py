"""A folder of label maps as somebody who predicts: whatever made them, they are judged like a model.

One NIfTI per case, named by it: `<case_id>.nii.gz`, or `<case_id>_label.nii.gz` as `apatite predict` writes it. A map
may lie on the scan's own grid or on any other that covers what is counted; from another one each pixel takes the label
of the voxel it lies in. What a map says is certain: its probability is 0 or 1, and no threshold can be chosen for it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Bool, UInt8

from apatite.core.errors import ConfigError, DataError
from apatite.core.scan import Scan, SliceStack
from apatite.core.volume import Grid, Volume
from apatite.ct.region import is_inside_region
from apatite.io.case import Case
from apatite.io.model_package import CARD
from apatite.io.nifti import label_values, read_volume, viewer_grid
from apatite.io.run_folder import RunFolder
from apatite.io.store import Prepared
from apatite.segment.predict import NativePrediction

SUFFIXES: Final = (".nii.gz", ".nii", "_label.nii.gz", "_label.nii")
"""What follows the case's name."""

_NIFTI: Final = (".nii", ".nii.gz")
_EDGE: Final = 0.501
"""Half a voxel, and a little for rounding: a pixel on the outer face of a map is still inside."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelMaps:
    """Label maps in a folder, and the data they are judged on.

    Attributes:
        folder: Where they lie.
        label_values: The labels of the data; none as long as no data are known.
        regions: Case → grid of the region that is counted; all of a scan is, where its case has none.
    """

    folder: Path
    label_values: tuple[int, ...] = ()
    regions: Mapping[str, Grid] = field(default_factory=dict)

    def on(self, prepared: Prepared) -> "LabelMaps":
        """The same maps, judged with the labels and inside the regions of some prepared data."""
        rows = enumerate(prepared.cases) if prepared.kind == "region" else ()
        regions = {case.case_id: prepared.grid(row) for row, case in rows}
        return replace(self, label_values=prepared.label_values, regions=regions)

    def predict_case(self, case: Case, scan: Scan) -> NativePrediction:
        """The map of a case, on its original slices.

        Raises:
            ConfigError: no data are known yet.
            DataError: there is no map for the case, or two (`MISSING_FILE`); it does not cover what is counted
                (`GRID_MISMATCH`); it holds labels that the data do not have (`BAD_LABEL`); it cannot be read.
        """
        if not self.label_values:
            raise ConfigError(
                "label maps say nothing of what their values mean",
                where=str(self.folder),
                fix="compare them with prepared data",
            )
        region = self.regions.get(case.case_id)
        is_counted = np.ones(scan.stack.shape, bool) if region is None else is_inside_region(scan.stack, region)
        label = on_slices(read_volume(self._path(case), case.case_id), scan.stack, is_counted, case.case_id)
        unknown = set(np.unique(label).tolist()) - {0, *self.label_values}
        if unknown:
            raise DataError(
                f"label {min(unknown)} is not among the data's {list(self.label_values)}",
                where=case.case_id,
                fix="renumber the labels",
                code="BAD_LABEL",
            )
        planes = np.stack([(label == value).astype(np.float32) for value in self.label_values])
        return NativePrediction(probability=planes, is_counted=is_counted, label_values=self.label_values)

    def digest(self) -> str:
        """SHA-256 of all maps, by name."""
        whole = hashlib.sha256()
        for path in _maps(self.folder):
            whole.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        return whole.hexdigest()

    def _path(self, case: Case) -> Path:
        found = [path for suffix in SUFFIXES if (path := self.folder / f"{case.case_id}{suffix}").is_file()]
        if len(found) != 1:
            raise DataError(
                f"has no label map in {self.folder}" if not found else f"has {len(found)} label maps in {self.folder}",
                where=case.case_id,
                fix=f"put one there, called {case.case_id}.nii.gz",
                code="MISSING_FILE",
            )
        return found[0]


def is_label_maps(folder: Path) -> bool:
    """Whether a folder holds NIfTI files, and is neither a run nor a model package."""
    if not folder.is_dir() or RunFolder(path=folder).config.exists() or (folder / CARD).exists():
        return False
    return bool(_maps(folder))


def on_slices(
    volume: Volume, stack: SliceStack, is_counted: Bool[np.ndarray, "slices rows columns"], case_id: str
) -> UInt8[np.ndarray, "slices rows columns"]:
    """A label map on the slices of its scan; 0 where nothing is counted.

    Args:
        volume: The map, on any grid.
        stack: The original slices.
        is_counted: True where the map has to say something.
        case_id: The case, for messages.

    Raises:
        DataError: the map does not cover what is counted (`GRID_MISMATCH`), or holds no labels (`BAD_LABEL`).
    """
    voxels = label_values(volume.voxels, case_id)
    if volume.grid.matches(viewer_grid(stack)):
        return voxels * is_counted
    label = np.zeros(stack.shape, dtype=np.uint8)
    last = np.array(volume.grid.shape[::-1]) - 1
    for number in np.flatnonzero(is_counted.any(axis=(1, 2))).tolist():
        places = np.argwhere(is_counted[number])
        points_ijk = volume.grid.to_ijk(stack.to_ras(number, places.astype(np.float64)))
        if np.any(points_ijk < -_EDGE) or np.any(points_ijk > last + _EDGE):
            raise DataError(
                "the label map does not cover the region",
                where=case_id,
                fix="predict all of the region, or resample the map onto the scan",
                code="GRID_MISMATCH",
            )
        i, j, k = np.clip(np.rint(points_ijk).astype(np.int64), 0, last).T
        label[number, places[:, 0], places[:, 1]] = voxels[k, j, i]
    return label


def _maps(folder: Path) -> list[Path]:
    """NIfTI files that can be label maps; probabilities that lie beside them are none."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.endswith(_NIFTI) and not path.name.startswith(".") and "_prob.nii" not in path.name
    )
