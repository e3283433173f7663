"""Many doors, one manifest: how a data set may lie on disk, one file per layout."""

from apatite.io.layouts.doors import DICOM, LAYOUTS, detect_layout, read_layout
from apatite.io.layouts.entries import case_id_of
from apatite.io.layouts.published import PUBLISHED

__all__ = ["DICOM", "LAYOUTS", "PUBLISHED", "case_id_of", "detect_layout", "read_layout"]
