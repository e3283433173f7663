"""What Apatite makes of a folder; the one file of this package that imports it."""

from pathlib import Path

import numpy as np

from apatite.calcium.measure import volume_mm3
from apatite.core.errors import ApatiteError
from apatite.core.scan import Scan
from apatite.io.dicom.child import Decoder
from apatite.io.dicom.reading import files_below, read_files
from faulty_series.judge import LESION_FROM_HU, Outcome, Slices, measure

RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])


def apatite(folder: Path, decoder: Decoder) -> Outcome:
    """As `read_folder`, with a decoder that is there already.

    The note holds the volume as the package counts it, to be compared with that of the judge.
    """
    try:
        paths = files_below(folder, decoder.limits.series_files)
        reading = read_files(paths, decoder)
    except ApatiteError as error:
        return Outcome(code=error.code, note=error.what)
    mm3 = volume_mm3(reading.scan.voxels_hu >= LESION_FROM_HU, reading.scan.stack)
    return Outcome(volumes=(measure(slices_of(reading.scan)),), flags=frozenset(reading.flags), note=f"{mm3:.6g}")


def slices_of(scan: Scan) -> Slices:
    """In LPS."""
    return Slices(
        hu=scan.voxels_hu.astype(float),
        origins_lps_mm=scan.stack.origins_ras_mm * RAS_TO_LPS,
        column_step_lps_mm=scan.stack.column_step_ras_mm * RAS_TO_LPS,
        row_step_lps_mm=scan.stack.row_step_ras_mm * RAS_TO_LPS,
    )
