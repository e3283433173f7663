"""DICOM in: headers under caps, geometry from positions alone, pixels from a limited child process."""
