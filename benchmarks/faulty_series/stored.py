"""Faults of stored values: signs, widths, padding, metal, colours, and images of nothing."""

from dataclasses import replace

import numpy as np

from faulty_series.folder import Folder, Storage, refuse, store_all
from faulty_series.judge import Accepted, Expectation, Slices, measure
from faulty_series.phantom import LESION_CENTRE_LPS_MM

METAL = frozenset({"HU_CLIPPED", "METAL"})
INT16_MOST_HU, TWELVE_BITS_MOST_HU = 32767, 3071


def storage_variants(folder: Folder, severity: int) -> Expectation:
    """Signed values without an offset; signed with one; 16 unsigned bits with a slope of a half."""
    how = (
        Storage(intercept=0.0, is_signed=True, stored=16),
        Storage(is_signed=True, stored=16),
        Storage(slope=0.5, stored=16),
    )[severity]
    store_all(folder, how)
    return folder.right()


def sign_lost(folder: Folder, severity: int) -> Expectation:
    """Signed values said to be unsigned, so that air is 64536: in all, in half, in one slice."""
    store_all(folder, Storage(intercept=0.0, is_signed=True, stored=16))
    lost = folder.some(2 - severity)
    for number in lost:
        folder.images[number].PixelRepresentation = 0
    codes = ("HU_RANGE", "BAD_PIXELS")
    return folder.without(lost, *codes) if severity == 2 else refuse(*codes)


def sign_invented(folder: Folder, severity: int) -> Expectation:
    """Unsigned 12-bit values said to be signed 16-bit; 13 signed bits; said to be signed in half of the slices."""
    for number, image in enumerate(folder.images):
        if severity == 2 and number % 2:
            continue
        image.PixelRepresentation = 1
        image.BitsStored, image.HighBit = ((16, 15), (13, 12), (16, 15))[severity]
    return folder.right()


def high_bits_junk(folder: Folder, severity: int) -> Expectation:
    """12 bits stored, and above them: one overlay bit, all four, in one slice only."""
    for number, image in enumerate(folder.images):
        if severity == 2 and number != 12:
            continue
        values = np.frombuffer(image.PixelData, np.uint16)
        junk = folder.rng.integers(0, 2 if severity == 0 else 16, values.shape).astype(np.uint16) << 12
        image.PixelData = (values | junk).tobytes()
    return folder.right()


def metal(folder: Folder, severity: int) -> Expectation:
    """Metal of 4000, 12000, 30000 HU inside the lesion."""
    return _with_metal(folder, (4000, 12_000, 30_000)[severity])


def metal_beyond_int16(folder: Folder, severity: int) -> Expectation:
    """Values of 33000, 40000, 60000 HU inside the lesion, which 16 signed bits do not hold."""
    return _with_metal(folder, (33_000, 40_000, 60_000)[severity])


def _with_metal(folder: Folder, value_hu: int) -> Expectation:
    hu = np.array(folder.hu, float)
    steps = folder.planes.origins_lps_mm - np.array(LESION_CENTRE_LPS_MM)
    number = int(np.argmin(np.abs(steps @ folder.planes.normal)))
    rows, columns = np.nonzero(hu[number] >= 130)
    hu[number, rows[:5], columns[:5]] = value_hu
    folder.hu = hu
    store_all(folder, Storage(stored=16))
    clipped = [measure(Slices.on(folder.planes, hu.clip(None, most))) for most in (INT16_MOST_HU, TWELVE_BITS_MOST_HU)]
    answers = [Accepted(truth=folder.truth()), *(Accepted(truth=truth, needs=METAL) for truth in clipped)]
    return Expectation(accepted=tuple(answers), codes=frozenset({"HU_RANGE"}), flags=METAL)


def padding_stated(folder: Folder, severity: int) -> Expectation:
    """A ring of padding, stated: -2000 signed, 63536 in an unsigned tag for -2000, a range from -3000 to -2000."""
    _pad(folder, -2000.0)
    for image in folder.images:
        if severity == 1:
            image.add_new(0x00280120, "US", 63536)
        else:
            image.add_new(0x00280120, "SS", -2000)
        if severity == 2:
            image.add_new(0x00280121, "SS", -3000)
    return folder.right()


def padding_unstated(folder: Folder, severity: int) -> Expectation:
    """A ring of padding that no tag states: -1500, -2000, -3024 HU."""
    _pad(folder, (-1500.0, -2000.0, -3024.0)[severity])
    return folder.right()


def padding_tag_lies(folder: Folder, severity: int) -> Expectation:
    """PixelPaddingValue is that of air; of nothing in the image; of the brain."""
    value = (24, 4000, 1054)[severity]
    for image in folder.images:
        image.add_new(0x00280120, "US", value)
    brain_is_gone = np.where(folder.hu == 30, -1024, folder.hu)
    lost = Accepted(truth=measure(Slices.on(folder.planes, brain_is_gone)))
    expected = folder.right(*(("BAD_PIXELS", "HU_RANGE") if severity == 2 else ()))
    # Believing the tag leaves the lesion as it is.
    return replace(expected, accepted=(*expected.accepted, lost)) if severity == 2 else expected


def _pad(folder: Folder, value_hu: float) -> None:
    rows, columns = folder.planes.size
    y, x = np.ogrid[:rows, :columns]
    outside = (y - (rows - 1) / 2) ** 2 + (x - (columns - 1) / 2) ** 2 > (min(rows, columns) / 2) ** 2
    folder.hu = np.where(outside, value_hu, np.asarray(folder.hu, float))
    store_all(folder, Storage(intercept=0.0, is_signed=True, stored=16))


def constant(folder: Folder, severity: int) -> Expectation:
    """Nothing but 0 HU, nothing but air, nothing but the least value."""
    folder.hu = np.full(folder.hu.shape, (0.0, -1000.0, -1024.0)[severity])
    store_all(folder, Storage())
    return folder.right("HU_RANGE", "NOT_HEAD", "BAD_PIXELS")


def one_constant_slice(folder: Folder, severity: int) -> Expectation:
    """An end slice of 0 HU, of air, of the least value."""
    folder.hu = np.array(folder.hu, float)
    folder.hu[0] = (0.0, -1000.0, -1024.0)[severity]
    store_all(folder, Storage())
    return folder.right()


def colours(folder: Folder, severity: int) -> Expectation:
    """RGB, a palette, YBR."""
    for image in folder.images:
        image.PhotometricInterpretation = ("RGB", "PALETTE COLOR", "YBR_FULL")[severity]
        if severity != 1:
            image.SamplesPerPixel, image.PlanarConfiguration = 3, 0
            image.BitsAllocated = image.BitsStored = 8
            image.HighBit = 7
            grey = (np.frombuffer(image.PixelData, np.uint16) // 16).astype(np.uint8)
            image.PixelData = np.repeat(grey, 3).tobytes()
            image["PixelData"].VR = "OB"
    return refuse("BAD_PIXELS")


def float_pixels(folder: Folder, severity: int) -> Expectation:
    """Pixels as 32-bit floats, as 64-bit floats, none at all."""
    for image, hu in zip(folder.images, folder.hu, strict=True):
        del image.PixelData
        if severity == 0:
            image.BitsAllocated = 32
            image.FloatPixelData = np.asarray(hu, np.float32).tobytes()
        elif severity == 1:
            image.BitsAllocated = 64
            image.DoubleFloatPixelData = np.asarray(hu, np.float64).tobytes()
    return refuse("NO_PIXELS", "BAD_PIXELS")


def other_widths(folder: Folder, severity: int) -> Expectation:
    """Stored in 8 bits with a slope of 16; in 32 bits; in 10 of 16 bits with a slope of 4."""
    how = (
        Storage(slope=16.0, bits=8, stored=8),
        Storage(bits=32, stored=32, is_signed=True),
        Storage(slope=4.0, stored=10),
    )[severity]
    store_all(folder, how)
    return folder.right(*(() if severity == 2 else ("BAD_PIXELS",)))


def bits_contradict(folder: Folder, severity: int) -> Expectation:
    """More bits stored than allocated; none stored; a high bit that does not fit."""
    for image in folder.images:
        if severity == 0:
            image.BitsStored = 20
        elif severity == 1:
            image.BitsStored = 0
        else:
            image.HighBit = 31
    # All 16 bits, unmasked, are the right values; a reader that says so is right as well.
    return folder.right("BAD_PIXELS")


ALL_BASES = ()
KINDS = (
    storage_variants,
    sign_lost,
    sign_invented,
    high_bits_junk,
    metal,
    metal_beyond_int16,
    padding_stated,
    padding_unstated,
    padding_tag_lies,
    constant,
    one_constant_slice,
    colours,
    float_pixels,
    other_widths,
    bits_contradict,
)
