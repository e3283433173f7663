"""How much of a DICOM file is believed before it is refused: caps that hold before anything is allocated."""

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class ReadLimits:
    """Caps of reading. What is beyond one is refused by name.

    Attributes:
        file_bytes: Of one file.
        header_bytes: Before the pixels; also what a deflated header may unpack to.
        elements: Data elements of one header, those in sequences included.
        elements_per_frame: As many more for each frame of a multi-frame file.
        nesting: Sequences within sequences.
        edge: Rows and columns of an image.
        frames: Images in one file.
        series_voxels: Voxels of one series.
        series_files: Files of one series, or of one folder read as a series.
        address_bytes: Address space of the child process.
        cpu_s: CPU seconds of the child for one file.
        wall_s: Seconds until the child has to have answered for one file.
    """

    file_bytes: int = 2**32
    header_bytes: int = 64 * MIB
    elements: int = 50_000
    elements_per_frame: int = 64
    nesting: int = 32
    edge: int = 4096
    frames: int = 4096
    series_voxels: int = 2**30
    series_files: int = 20_000
    address_bytes: int = 6 * 2**30
    cpu_s: int = 120
    wall_s: float = 300.0
