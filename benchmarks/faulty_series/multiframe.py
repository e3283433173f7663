"""Faults of enhanced CT: a whole series in one file, its frames in any order, its values per frame or shared."""

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage

from faulty_series.folder import Folder, refuse
from faulty_series.judge import Expectation

FRAME_KEYWORDS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope", "RescaleType"),
}


def _item(image: Dataset, names: tuple[str, ...]) -> Dataset:
    """The functional groups of one frame."""
    item = Dataset()
    for name in names:
        macro = Dataset()
        for keyword in FRAME_KEYWORDS[name]:
            setattr(macro, keyword, image[keyword].value)
        setattr(item, name, Sequence([macro]))
    return item


def merge(folder: Folder, order: list[int], shared: tuple[str, ...], drop: dict[int, str] | None = None) -> None:
    """Put all slices into one enhanced file; `drop` takes one functional group away from a frame."""
    names = tuple(name for name in FRAME_KEYWORDS if name not in shared)
    frames = [_item(folder.images[number], names) for number in order]
    for number, name in (drop or {}).items():
        delattr(frames[number], name)
    file = folder.images[0]
    file.PixelData = b"".join(folder.images[number].PixelData for number in order)
    common = _item(folder.images[0], shared)
    for keywords in FRAME_KEYWORDS.values():
        for keyword in keywords:
            delattr(file, keyword)
    file.SOPClassUID = EnhancedCTImageStorage
    file.NumberOfFrames = len(order)
    file.SharedFunctionalGroupsSequence = Sequence([common])
    file.PerFrameFunctionalGroupsSequence = Sequence(frames)
    del file.SliceLocation
    folder.images, folder.names = [file], ["enhanced.dcm"]


def enhanced(folder: Folder, severity: int) -> Expectation:
    """One enhanced file: as scanned; reversed; in any order with nothing shared."""
    expected = folder.right()
    order = (list(range(24)), list(range(23, -1, -1)), folder.rng.permutation(24).tolist())[severity]
    shared = tuple(FRAME_KEYWORDS)[1:] if severity < 2 else ()
    merge(folder, order, shared)
    return expected


def enhanced_broken_frame(folder: Folder, severity: int) -> Expectation:
    """One frame lacks its position, its orientation, its rescale."""
    name = tuple(FRAME_KEYWORDS)[(0, 1, 3)[severity]]
    code = ("NO_IPP", "NO_IOP", "NO_HU")[severity]
    expected = folder.without([12], code, "MIXED_IOP", "MIXED_SERIES")
    merge(folder, list(range(24)), (), drop={12: name})
    return expected


def enhanced_frames_lie(folder: Folder, severity: int) -> Expectation:
    """NumberOfFrames is one too large, one too small, zero."""
    merge(folder, list(range(24)), ())
    folder.images[0].NumberOfFrames = (25, 23, 0)[severity]
    return refuse("TRUNCATED", "LENGTH_LIE", "TRAILING_DATA", "BAD_PIXELS", "NO_IPP", "NO_PIXELS", "TOO_LARGE")


def classic_with_frames(folder: Folder, severity: int) -> Expectation:
    """A classic CT image that says it has two, 24, 100000 frames."""
    for number in range(24):
        folder.images[number].NumberOfFrames = (2, 24, 100_000)[severity]
    return refuse("TRUNCATED", "LENGTH_LIE", "BAD_PIXELS", "TOO_LARGE", "NO_PIXELS", "NO_IPP", "DUP_POS")


ALL_BASES = (enhanced,)
KINDS = (enhanced_broken_frame, enhanced_frames_lie, classic_with_frames)
