"""Faults of geometry: tilt, turned and mirrored slices, positions, orientations and spacings that cannot be."""

from dataclasses import replace

import numpy as np

from faulty_series.folder import Folder, decimals, number_text, refuse
from faulty_series.judge import Expectation
from faulty_series.phantom import tilted, turned

UNEVEN = ("SPACING_VARIES", "GAP", "OVERLAP")
TILTED = ("TILT", "TILT_TAG")
PARTS = ("MIXED_SERIES", "MIXED_SIZE", "MIXED_IOP")
"""What a reader may call a series of which some slices fell out because they say something else than the others."""


def tilt_with_tag(folder: Folder, severity: int) -> Expectation:
    """A gantry tilt of 0.5, 12, 30°, rightly stated."""
    angle = (0.5, 12.0, 30.0)[severity]
    folder.retake(tilted(angle, -angle, folder.layout.steps_mm))
    return folder.right(flags=(*TILTED, *UNEVEN))


def tilt_without_tag(folder: Folder, severity: int) -> Expectation:
    """A gantry tilt of -0.5, -12, -30° that no tag states."""
    folder.retake(tilted((-0.5, -12.0, -30.0)[severity], None, folder.layout.steps_mm))
    return folder.right(flags=(*TILTED, *UNEVEN))


def tilt_tag_lies(folder: Folder, severity: int) -> Expectation:
    """The tag says 20° and nothing is tilted; 0° at a tilt of 18°; not a number."""
    if severity == 1:
        folder.retake(tilted(18.0, 0.0, folder.layout.steps_mm))
    for image in folder.images:
        image.GantryDetectorTilt = number_text(("20", "0", "NaN")[severity])
    return folder.right(flags=(*TILTED, *UNEVEN))


def tilt_varies(folder: Folder, severity: int) -> Expectation:
    """Slices that are not parallel: turned by up to 1, 4, 12° from first to last."""
    most = np.deg2rad((1.0, 4.0, 12.0)[severity])
    row, column = folder.planes.along_row, folder.planes.along_column
    for number, image in enumerate(folder.images):
        angle = most * number / (len(folder.images) - 1)
        turned_column = np.cos(angle) * column + np.sin(angle) * np.cross(row, column)
        image.ImageOrientationPatient = decimals(np.concatenate([row, turned_column]))
    return refuse("MIXED_IOP")


def one_slice_turned(folder: Folder, severity: int) -> Expectation:
    """One slice of the lesion is turned by 1, 5, 90°."""
    angle = np.deg2rad((1.0, 5.0, 90.0)[severity])
    row, column = folder.planes.along_row, folder.planes.along_column
    across = np.cross(row, column)
    folder.images[12].ImageOrientationPatient = decimals(
        np.concatenate([row, np.cos(angle) * column + np.sin(angle) * across])
    )
    return folder.without([12], *PARTS)


def oblique(folder: Folder, severity: int) -> Expectation:
    """Slices turned about two axes: by 3 and 5, 10 and 20, 25 and 35°."""
    x, y = ((3.0, 5.0), (10.0, 20.0), (25.0, 35.0))[severity]
    folder.retake(replace(turned(x, y), steps_mm=folder.layout.steps_mm))
    return folder.right("NONAXIAL", flags=UNEVEN)


def other_planes(folder: Folder, severity: int) -> Expectation:
    """Coronal, sagittal, sagittal from the other side."""
    axes = (
        ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0)),
        ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
        ((0.0, -1.0, 0.0), (0.0, 0.0, 1.0)),
    )
    folder.retake(replace(folder.layout, along_row=axes[severity][0], along_column=axes[severity][1], step=None))
    return folder.right("NONAXIAL", flags=(*UNEVEN, *TILTED))


def lying(position: str, other: str, third: str):
    """Three positions of the patient on the table, each as its orientation vectors say."""

    def change(folder: Folder, severity: int) -> Expectation:
        layout = turned(0.0, 0.0, (position, other, third)[severity])
        folder.retake(replace(layout, steps_mm=folder.layout.steps_mm))
        return folder.right(flags=(*UNEVEN, *TILTED))

    change.__name__ = f"lying_{position.lower()}"
    change.__doc__ = f"The patient lies {position}, {other}, {third}."
    return change


def position_tag_lies(folder: Folder, severity: int) -> Expectation:
    """PatientPosition says feet first, prone, nonsense; the orientation vectors count."""
    for image in folder.images:
        image.PatientPosition = ("FFS", "HFP", "XYZ")[severity]
    return folder.right()


def mirrored_axes(folder: Folder, severity: int) -> Expectation:
    """Rows, columns or both written from the other side; the vectors say so."""
    row, column = folder.layout.along_row, folder.layout.along_column
    back = (tuple(-value for value in row), tuple(-value for value in column))
    row, column = ((back[0], column), (row, back[1]), back)[severity]
    step = folder.layout.step or tuple(folder.planes.normal.tolist())
    folder.retake(replace(folder.layout, along_row=row, along_column=column, step=step))
    return folder.right(flags=(*UNEVEN, *TILTED))


def recentred(folder: Folder, severity: int) -> Expectation:
    """The field of view moves in the plane: by 9 mm halfway; with every slice; at random by up to 10 mm."""
    count = len(folder.planes.origins_lps_mm)
    across = np.zeros((count, 2))
    if severity == 0:
        across[count // 2 :] = (9.0, -6.0)
    elif severity == 1:
        across[:] = np.arange(count)[:, None] * np.array([0.8, -0.5])
    else:
        across[:] = folder.rng.uniform(-10, 10, (count, 2))
    moved = across[:, :1] * folder.planes.along_row + across[:, 1:] * folder.planes.along_column
    folder.replan(replace(folder.planes, origins_lps_mm=folder.planes.origins_lps_mm + moved))
    # No scanner moves its field at random, so that may be taken for wrong positions.
    return folder.right(*(("BAD_IPP",) if severity == 2 else ()), flags=(*UNEVEN, *TILTED))


def anisotropic_pixels(folder: Folder, severity: int) -> Expectation:
    """Pixels of 3×2, 1.5×3, 4×2.5 mm."""
    spacing = ((3.0, 2.0), (1.5, 3.0), (4.0, 2.5))[severity]
    size = (round(192 / spacing[0]), round(192 / spacing[1]))
    folder.retake(replace(folder.layout, spacing_mm=spacing, size=size))
    return folder.right()


def spacing_in_other_tag(folder: Folder, severity: int) -> Expectation:
    """Detector spacing beside the right one: half, double, zero."""
    for image in folder.images:
        image.ImagerPixelSpacing = [number_text(("1.5", "6", "0")[severity])] * 2
    return folder.right()


def small_position_noise(folder: Folder, severity: int) -> Expectation:
    """Positions rounded to 0.1 mm, orientation to four, to three digits."""
    for number, image in enumerate(folder.images):
        if severity == 0:
            values = [number_text(f"{value:.1f}") for value in folder.planes.origins_lps_mm[number]]
            image.ImagePositionPatient = values
        else:
            both = np.concatenate([folder.planes.along_row, folder.planes.along_column])
            digits = (0, 4, 3)[severity]
            image.ImageOrientationPatient = [number_text(f"{value:.{digits}f}") for value in both]
    return folder.right(*(("BAD_IOP",) if severity == 2 else ()), flags=UNEVEN)


KINDS = (tilt_tag_lies, position_tag_lies, spacing_in_other_tag)
ALL_BASES = (
    tilt_with_tag,
    tilt_without_tag,
    tilt_varies,
    one_slice_turned,
    oblique,
    other_planes,
    lying("HFP", "FFP", "FFS"),
    lying("HFDR", "HFDL", "FFDR"),
    mirrored_axes,
    recentred,
    anisotropic_pixels,
    small_position_noise,
)
