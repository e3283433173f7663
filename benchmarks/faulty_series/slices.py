"""Faults of order and of slices: shuffled, missing, doubled, overlapping, unevenly spaced."""

import copy
from dataclasses import replace

import numpy as np

from faulty_series.folder import Folder, number_text, refuse
from faulty_series.judge import Accepted, Expectation
from faulty_series.phantom import Layout

UNEVEN = ("SPACING_VARIES", "GAP", "OVERLAP", "NO_THICKNESS", "THICKNESS_VARIES")
TWICE = ("DUP_POS", "MIXED_SERIES")


def files_shuffled(folder: Folder, severity: int) -> Expectation:
    """File names in another order than the slices: two swapped, half of them, all."""
    moved = [[11, 12], list(range(0, 24, 2)), list(range(24))][severity]
    names = [folder.names[number] for number in folder.rng.permutation(moved)]
    for number, name in zip(moved, names, strict=True):
        folder.names[number] = name
    return folder.right()


def instance_numbers_shuffled(folder: Folder, severity: int) -> Expectation:
    """Instance numbers of a quarter, of half, of all slices at random."""
    moved = folder.rng.permutation(24)[: (6, 12, 24)[severity]]
    for number, value in zip(moved, folder.rng.permutation(moved), strict=True):
        folder.images[number].InstanceNumber = int(value) + 1
    return folder.right()


def instance_numbers_reversed(folder: Folder, severity: int) -> Expectation:
    """Instance numbers that run the other way, from -24, from 100000 down."""
    start = (24, -1, 100_000)[severity]
    for number, image in enumerate(folder.images):
        image.InstanceNumber = start - number
    return folder.right()


def instance_numbers_equal(folder: Folder, severity: int) -> Expectation:
    """The same instance number twice, in half of the slices, in all."""
    for image in folder.images[: (2, 12, 24)[severity]]:
        image.InstanceNumber = 1
    return folder.right()


def instance_numbers_missing(folder: Folder, severity: int) -> Expectation:
    """No instance number in one, half, all slices."""
    for number in folder.some(severity):
        del folder.images[number].InstanceNumber
    return folder.right()


def slice_location_lies(folder: Folder, severity: int) -> Expectation:
    """SliceLocation shuffled, absent, not a number."""
    locations = [image.SliceLocation for image in folder.images]
    for number, image in zip(folder.rng.permutation(24), folder.images, strict=True):
        if severity == 1:
            del image.SliceLocation
        else:
            image.SliceLocation = number_text("NaN") if severity else locations[number]
    return folder.right()


def thickness_lies(folder: Folder, severity: int) -> Expectation:
    """SliceThickness of 40 mm, absent, different in one slice."""
    for number, image in enumerate(folder.images):
        if severity == 0:
            image.SliceThickness = number_text("40")
        elif severity == 1:
            del image.SliceThickness
        elif number == 12:
            image.SliceThickness = number_text("7.5")
    return folder.right(flags=UNEVEN)


def spacing_between_slices_lies(folder: Folder, severity: int) -> Expectation:
    """SpacingBetweenSlices of 1 mm, negative, zero."""
    for image in folder.images:
        image.SpacingBetweenSlices = number_text(("1", "-5", "0")[severity])
    return folder.right()


def missing_middle(folder: Folder, severity: int) -> Expectation:
    """One, two, three neighbouring slices of the lesion are missing."""
    lost = folder.middle(severity + 1)
    folder.drop(lost)
    # In a stack that is uneven by itself, nobody can tell a hole from a protocol.
    needs = ("GAP",) if len(set(folder.layout.steps_mm)) == 1 else ("GAP", "SPACING_VARIES")
    return folder.without(lost, needs=needs)


def missing_scattered(folder: Folder, severity: int) -> Expectation:
    """One, two, three slices are missing, apart from each other."""
    lost = [12, 9, 16][: severity + 1]
    folder.drop(lost)
    needs = ("GAP",) if len(set(folder.layout.steps_mm)) == 1 else ("GAP", "SPACING_VARIES")
    return folder.without(lost, needs=needs)


def missing_end(folder: Folder, severity: int) -> Expectation:
    """The first one, three, five slices are missing; what remains is whole."""
    lost = list(range((1, 3, 5)[severity]))
    folder.drop(lost)
    return folder.without(lost, needs=())


def every_second(folder: Folder, severity: int) -> Expectation:
    """Only every second slice (even, odd), or every third: a coarse stack, but a regular one."""
    keep = list(range(severity % 2, 24, 3 if severity == 2 else 2))
    lost = [number for number in range(24) if number not in keep]
    folder.drop(lost)
    expected = folder.without(lost, needs=())
    return replace(expected, flags=frozenset(UNEVEN))


def duplicate_file(folder: Folder, severity: int) -> Expectation:
    """One, five, all files are there twice, byte for byte."""
    expected = folder.right(flags=("DUP_FILE",))
    for number in range(12, 12 + (1, 5, 12)[severity]):
        _again(folder, number, f"copy-{number:03d}.dcm")
    return expected


def duplicate_position_same_pixels(folder: Folder, severity: int) -> Expectation:
    """One, five, twelve images are there twice under another SOP instance UID."""
    expected = folder.right(*TWICE, "DUP_FILE", flags=("DUP_FILE",))
    for number in range(12, 12 + (1, 5, 12)[severity]):
        folder.images[_again(folder, number, f"copy-{number:03d}.dcm")].SOPInstanceUID += f".{number}"
    return expected


def duplicate_position_other_pixels(folder: Folder, severity: int) -> Expectation:
    """At one, five, twelve positions lie two images that differ."""
    for number in range(12, 12 + (1, 5, 12)[severity]):
        image = folder.images[_again(folder, number, f"copy-{number:03d}.dcm")]
        image.SOPInstanceUID += f".{number}"
        image.PixelData = np.roll(np.frombuffer(image.PixelData, np.uint16), 5).tobytes()
        image.InstanceNumber = 100 + number
    return refuse(*TWICE)


def near_duplicate_position(folder: Folder, severity: int) -> Expectation:
    """A second, different image of one slice lies 1 µm, 10 µm, 40 µm beside it."""
    number = _again(folder, 12, "near.dcm")
    image, off_mm = folder.images[number], (1e-3, 1e-2, 4e-2)[severity]
    image.SOPInstanceUID += ".1"
    image.PixelData = np.roll(np.frombuffer(image.PixelData, np.uint16), 5).tobytes()
    moved = folder.planes.origins_lps_mm[12] + off_mm * folder.planes.normal
    image.ImagePositionPatient = [number_text(f"{value:.6f}") for value in moved]
    return refuse(*TWICE, "OVERLAP")


def _again(folder: Folder, number: int, name: str) -> int:
    folder.images.append(copy.deepcopy(folder.images[number]))
    folder.names.append(name)
    return len(folder.images) - 1


def overlapping(folder: Folder, severity: int) -> Expectation:
    """Slices twice as thick as their distance: everywhere; half the stack; with steps of a quarter."""
    layout = folder.layout
    half = tuple(step / 2 for step in layout.steps_mm for _ in (0, 1))
    steps = [half, half[:24] + layout.steps_mm[12:], tuple(step / 4 for step in layout.steps_mm for _ in range(4))]
    folder.retake(replace(layout, steps_mm=steps[severity]))
    return folder.right(flags=UNEVEN)


def irregular(folder: Folder, severity: int) -> Expectation:
    """Every distance off by up to 5, 20, 60 %."""
    width = (0.05, 0.2, 0.6)[severity]
    steps = np.array(folder.layout.steps_mm) * (1 + folder.rng.uniform(-width, width, len(folder.layout.steps_mm)))
    folder.retake(replace(folder.layout, steps_mm=tuple(steps.round(3).tolist())))
    return folder.right(flags=UNEVEN)


def two_blocks(folder: Folder, severity: int) -> Expectation:
    """Thin slices below and thick ones above: 5 and 7 mm, 4 and 8 mm, 2.5 and 10 mm."""
    low, high = ((5.0, 7.0), (4.0, 8.0), (2.5, 10.0))[severity]
    folder.retake(replace(folder.layout, steps_mm=(low,) * 14 + (high,) * 8))
    return folder.right(flags=UNEVEN)


def few_slices(folder: Folder, severity: int) -> Expectation:
    """One slice; two neighbours; two far apart."""
    keep = ([12], [12, 13], [8, 16])[severity]
    folder.drop([number for number in range(24) if number not in keep])
    return refuse("LT3_SLICES", is_rule=True)


def three_slices(folder: Folder, severity: int) -> Expectation:
    """Three slices are enough: neighbours, with a step of two, of three."""
    keep = [12 - (severity + 1), 12, 12 + severity + 1]
    lost = [number for number in range(24) if number not in keep]
    folder.drop(lost)
    truth = folder.truth(keep)
    return Expectation(accepted=(Accepted(truth=truth),), codes=frozenset({"GAP"}), flags=frozenset(UNEVEN))


def many_slices(folder: Folder, severity: int) -> Expectation:
    """60, 90, 120 slices of 2, 1.3, 1 mm."""
    count = (60, 90, 120)[severity]
    layout: Layout = replace(folder.layout, steps_mm=(120 / count,) * (count - 1), thickness_mm=120 / count)
    folder.retake(replace(layout, size=(48, 48), spacing_mm=(4.0, 4.0)))
    return folder.right()


ALL_BASES = (missing_middle, duplicate_position_other_pixels, overlapping, irregular, two_blocks)
KINDS = (
    files_shuffled,
    instance_numbers_shuffled,
    instance_numbers_reversed,
    instance_numbers_equal,
    instance_numbers_missing,
    slice_location_lies,
    thickness_lies,
    spacing_between_slices_lies,
    missing_scattered,
    missing_end,
    every_second,
    duplicate_file,
    duplicate_position_same_pixels,
    near_duplicate_position,
    few_slices,
    three_slices,
    many_slices,
)
