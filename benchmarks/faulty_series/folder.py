"""A series on its way to disk: datasets that a fault may change, bytes that it may damage, files that it may add.

Written as CT Image Storage by pydicom. Values that pydicom would refuse to write go in as raw text (`number_text`).
"""

import copy
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pydicom.config
from jaxtyping import Num
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat

from faulty_series.judge import Accepted, Expectation, Measured, Slices, measure
from faulty_series.phantom import BASES, Layout, Planes, sample, sampled

ROOT = "2.25.4711"
OFFSET_HU = -1024
HOLE = ("GAP", "MISSING_SLICES")
"""Refusals of a stack that lacks slices."""
Bytes = Callable[[bytes], bytes]


@contextmanager
def anything_goes() -> Iterator[None]:
    """Let pydicom write what is not allowed."""
    settings = pydicom.config.settings
    before = settings.reading_validation_mode, settings.writing_validation_mode
    settings.reading_validation_mode = settings.writing_validation_mode = pydicom.config.IGNORE
    try:
        yield
    finally:
        settings.reading_validation_mode, settings.writing_validation_mode = before


def number_text(text: str) -> DSfloat:
    """A decimal string that is written as it stands, number or not."""
    value = DSfloat(0.0)
    assert isinstance(value, DSfloat)
    value.original_string = text
    return value


def decimals(values: np.ndarray | tuple[float, ...]) -> list[DSfloat]:
    """Decimal strings of at most 16 bytes, exact to a micrometre and to 1e-9 of a direction."""
    return [number_text(f"{value:.9f}"[:16]) for value in np.asarray(values, float)]


@dataclass(kw_only=True, eq=False)
class Folder:
    """A series and what lies beside it.

    Attributes:
        layout: How the slices lie.
        hu: `slices rows columns`, what they show.
        rng: Of this case; severity and fault are part of its seed.
        images: One dataset per slice.
        names: One file name per image.
        encode: Turns a dataset into another syntax just before it is written, by image.
        rewrites: Changes the written bytes, by image.
        extra: Other files by name.
        after: Called with the folder when all is written.
    """

    layout: Layout
    rng: np.random.Generator
    hu: Num[np.ndarray, "slices rows columns"] = field(init=False)
    images: list[Dataset] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    encode: dict[int, Callable[[Dataset], None]] = field(default_factory=dict)
    rewrites: dict[int, Bytes] = field(default_factory=dict)
    extra: dict[str, Dataset | bytes] = field(default_factory=dict)
    after: list[Callable[[Path], None]] = field(default_factory=list)
    planes: Planes = field(init=False)
    _twins: list[tuple[Dataset, Dataset, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.retake(self.layout)

    @classmethod
    def of(cls, layout: Layout | str, rng: np.random.Generator) -> "Folder":
        """An intact series."""
        return cls(layout=BASES[layout] if isinstance(layout, str) else layout, rng=rng)

    def retake(self, layout: Layout) -> None:
        """Scan the head anew."""
        self.layout, self.hu, self.planes = layout, sampled(layout), layout.planes()
        self._twins = [(_twin(image), image, content) for image, content in _written(layout)]
        self.images = [twin for twin, _, _ in self._twins]
        self.names = [f"{number:03d}.dcm" for number in range(len(self.images))]

    def replan(self, planes: Planes) -> None:
        """Scan the head anew on slices that no layout describes."""
        self.planes, self.hu = planes, sample(planes)
        self.images = make_images(planes, self.hu)
        self.names = [f"{number:03d}.dcm" for number in range(len(self.images))]

    def truth(self, slices: list[int] | None = None) -> Measured:
        """The right answer, of all slices or of some."""
        keep = list(range(len(self.hu))) if slices is None else sorted(slices)
        return measure(Slices.on(self.planes.keep(keep), self.hu[keep]))

    def right(self, *codes: str, flags: tuple[str, ...] = ()) -> Expectation:
        """The volume is right; a refusal for `codes` is too."""
        accepted = (Accepted(truth=self.truth()),)
        return Expectation(accepted=accepted, codes=frozenset(codes), flags=frozenset(flags) | self.own_flags)

    def without(self, lost: list[int], *codes: str, needs: tuple[str, ...] = ("GAP",)) -> Expectation:
        """Refuse for `codes`, or give the volume of the other slices with a flag of `needs`."""
        rest = [number for number in range(len(self.hu)) if number not in lost]
        answer = (Accepted(truth=self.truth(rest), needs=frozenset(needs)),) if len(rest) > 2 else ()
        refusals = frozenset({*codes, *(HOLE if needs else ())})
        return Expectation(accepted=answer, codes=refusals, flags=frozenset({"SPACING_VARIES"}) | self.own_flags)

    @property
    def own_flags(self) -> frozenset[str]:
        """What may be said of the intact series."""
        uneven = {"SPACING_VARIES"} if len(set(self.layout.steps_mm)) > 1 else set()
        return frozenset(uneven | (set() if self.layout.step is None else {"TILT", "TILT_TAG"}))

    def drop(self, lost: list[int]) -> None:
        """Forget some images; geometry and voxels stay, so that the truth can still be asked for."""
        keep = [number for number in range(len(self.images)) if number not in lost]
        self.images, self.names = [self.images[n] for n in keep], [self.names[n] for n in keep]

    def middle(self, count: int) -> list[int]:
        """The middle slice and those after it; they show the lesion."""
        start = len(self.images) // 2
        return list(range(start, start + count))

    def some(self, severity: int) -> list[int]:
        """One slice of the lesion, every second slice, all slices."""
        count = len(self.images)
        return [[count // 2], list(range(0, count, 2)), list(range(count))][severity]

    def write(self, place: Path) -> None:
        """Write everything into an existing empty folder."""
        untouched = {id(twin): content for twin, image, content in self._twins if _is_same(twin, image)}
        with anything_goes():
            for number, (image, name) in enumerate(zip(self.images, self.names, strict=True)):
                if number in self.encode:
                    self.encode[number](image)
                    untouched.pop(id(image), None)
                content = untouched.get(id(image)) or to_bytes(image)
                rewrite = self.rewrites.get(number, lambda content: content)
                (place / name).write_bytes(rewrite(content))
            for name, content in self.extra.items():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(content if isinstance(content, bytes) else to_bytes(content))
        for finish in self.after:
            finish(place)


def refuse(*codes: str, is_rule: bool = False) -> Expectation:
    """No right volume exists."""
    return Expectation(codes=frozenset(codes), is_rule=is_rule)


def to_bytes(image: Dataset) -> bytes:
    """A DICOM file with preamble and file meta."""
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def make_images(
    planes: Planes, hu: Num[np.ndarray, "slices rows columns"], series: int = 1, patient: str = "PHANTOM-1"
) -> list[Dataset]:
    """One CT image per slice."""
    with anything_goes():
        first = _first_image(planes, series, patient)
        store(first, hu[0])
        images = [first, *(_twin(first) for _ in hu[1:])]
        for number, image in enumerate(images):
            _place(image, planes, number, series)
            image.PixelData = _stored(hu[number], PLAIN).tobytes()
    return images


def _twin(image: Dataset) -> Dataset:
    """A copy whose elements can be changed; a deep copy takes longer than all else together."""
    twin = Dataset()
    twin._dict = {tag: copy.copy(element) for tag, element in image._dict.items()}
    twin.file_meta = FileMetaDataset()
    twin.file_meta.TransferSyntaxUID = image.file_meta.TransferSyntaxUID
    return twin


def _is_same(twin: Dataset, image: Dataset) -> bool:
    """Whether a twin still holds the very values that it was made with, so that its bytes are known."""
    if twin._dict.keys() != image._dict.keys() or not hasattr(twin, "file_meta"):
        return False
    pairs = [(twin._dict[tag], image._dict[tag]) for tag in twin._dict]
    is_same = all(one.value is other.value and one.VR == other.VR for one, other in pairs)
    return is_same and twin.file_meta.TransferSyntaxUID == image.file_meta.TransferSyntaxUID


@lru_cache(maxsize=8)
def _written(layout: Layout) -> tuple[tuple[Dataset, bytes], ...]:
    """The intact series of a layout and its files, made once; to be copied, not to be changed."""
    with anything_goes():
        return tuple((image, to_bytes(image)) for image in make_images(layout.planes(), sampled(layout)))


def _place(image: Dataset, planes: Planes, number: int, series: int) -> None:
    """What differs from slice to slice."""
    image.SOPInstanceUID = f"{ROOT}.{series}.{number + 1}"
    image.AcquisitionTime = f"1011{number % 60:02d}"
    image.InstanceNumber = number + 1
    image.ImagePositionPatient = decimals(planes.origins_lps_mm[number])
    image.SliceLocation = number_text(f"{planes.origins_lps_mm[number] @ planes.normal:.3f}")


def _first_image(planes: Planes, series: int, patient: str) -> Dataset:
    """What all slices have in common."""
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 100"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.SOPClassUID = CTImageStorage
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = "20200102"
    image.StudyTime = "101112"
    image.AccessionNumber = ""
    image.Modality, image.Manufacturer, image.ManufacturerModelName = "CT", "SIMULATED", "Analytic"
    image.ReferringPhysicianName = ""
    image.SeriesDescription, image.BodyPartExamined = "SIMULATED head", "HEAD"
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = patient, patient, "19500101", "F"
    image.PatientAge = "070Y"
    image.SliceThickness = number_text(f"{planes.thickness_mm:g}")
    image.KVP = number_text("120")
    if planes.tilt_deg is not None:
        image.GantryDetectorTilt = number_text(f"{planes.tilt_deg:g}")
    image.ConvolutionKernel = "STANDARD"
    image.ReconstructionDiameter = number_text(f"{planes.spacing_mm[1] * planes.size[1]:g}")
    image.PatientPosition = planes.position
    image.StudyInstanceUID, image.SeriesInstanceUID = f"{ROOT}.100", f"{ROOT}.200.{series}"
    image.StudyID, image.SeriesNumber, image.AcquisitionNumber = "1", series, 1
    image.ImageOrientationPatient = decimals(np.concatenate([planes.along_row, planes.along_column]))
    image.FrameOfReferenceUID = f"{ROOT}.300"
    image.PositionReferenceIndicator = ""
    image.PixelSpacing = [number_text(f"{value:g}") for value in planes.spacing_mm]
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta = meta
    return image


@dataclass(frozen=True, kw_only=True)
class Storage:
    """How Hounsfield units become stored values."""

    slope: float = 1.0
    intercept: float = OFFSET_HU
    bits: int = 16
    stored: int = 12
    is_signed: bool = False

    @property
    def dtype(self) -> np.dtype:
        """Of the array."""
        return np.dtype(f"<{'i' if self.is_signed else 'u'}{self.bits // 8}")


PLAIN = Storage()


def store(image: Dataset, hu: Num[np.ndarray, "rows columns"], how: Storage = PLAIN) -> Num[np.ndarray, "rows columns"]:
    """Put pixels into an image; returns the Hounsfield units that a reader must find there."""
    values = _stored(hu, how)
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = values.shape
    image.BitsAllocated, image.BitsStored, image.HighBit = how.bits, how.stored, how.stored - 1
    image.PixelRepresentation = int(how.is_signed)
    image.RescaleIntercept, image.RescaleSlope = number_text(f"{how.intercept:g}"), number_text(f"{how.slope:g}")
    image.RescaleType = "HU"
    image.PixelData = values.tobytes()
    image["PixelData"].VR = "OW" if how.bits > 8 else "OB"
    return values * how.slope + how.intercept


def _stored(hu: Num[np.ndarray, "rows columns"], how: Storage) -> Num[np.ndarray, "rows columns"]:
    stored = np.rint((np.asarray(hu, float) - how.intercept) / how.slope)
    limits = np.iinfo(how.dtype)
    return np.clip(stored, limits.min, limits.max).astype(how.dtype)


def store_all(folder: Folder, how: Storage) -> None:
    """Store every slice in another way; the truth follows what rounding left."""
    folder.hu = np.stack([store(image, hu, how) for image, hu in zip(folder.images, folder.hu, strict=True)])


def another_layout(layout: Layout, **changes: object) -> Layout:
    """A layout with some fields changed."""
    return replace(layout, **changes)  # pyright: ignore[reportArgumentType]
