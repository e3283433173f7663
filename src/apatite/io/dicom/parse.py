"""The headers of one DICOM file, read in the child process.

Every value is read without trust: one that is missing or no number is `None`, and what that means is for
`series.lay_out` to say. Only what makes the whole file unusable is refused here.

Source: DICOM PS3.3, C.7.6 (image, plane, pixel), C.8.2.1 and C.8.15 (CT, enhanced CT), C.7.6.16 (functional groups).
"""

import hashlib
from pathlib import Path
from typing import cast

from apatite.core.errors import ModelError
from apatite.io.dicom.elements import FileElements, read_elements
from apatite.io.dicom.header import Header, Refusal, Vector3, Vector6
from apatite.io.dicom.limits import ReadLimits
from apatite.io.dicom.refused import Item, RefusedError
from apatite.io.dicom.values import Values
from apatite.io.regular_file import open_regular

_CHARSET, _FRAMES, _ROWS, _COLUMNS, _SAMPLES = 0x00080005, 0x00280008, 0x00280010, 0x00280011, 0x00280002
_BITS, _STORED, _HIGH, _SIGN = 0x00280100, 0x00280101, 0x00280102, 0x00280103
_SOP_CLASS, _SOP = 0x00080016, 0x00080018
_POSITION, _ORIENTATION, _SPACING, _THICKNESS = 0x00200032, 0x00200037, 0x00280030, 0x00180050
_INTERCEPT, _SLOPE, _RESCALE_TYPE = 0x00281052, 0x00281053, 0x00281054
_LOOKUP, _PADDING, _PADDING_END = 0x00283000, 0x00280120, 0x00280121
_TYPE, _FRAME_TYPE, _KERNEL, _KVP, _DIAMETER, _TILT = (
    0x00080008, 0x00089007, 0x00181210, 0x00180060, 0x00181100, 0x00181120,
)  # fmt: skip
_AGENT, _ROUTE, _AGENTS = 0x00180010, 0x00181040, 0x00180012
_DERIVATION, _DERIVATIONS, _BODY, _REGIONS = 0x00082111, 0x00089215, 0x00180015, 0x00082218
_ACQUIRED, _FRAME_ACQUIRED = 0x0008002A, 0x00189074
_TIMES = ((0x00080022, 0x00080032), (0x00080021, 0x00080031), (0x00080023, 0x00080033))
_ACQUISITION, _FRAME_ACQUISITION = 0x00200012, 0x00209156
_SHARED, _PER_FRAME = 0x52009229, 0x52009230
_MACROS = (
    0x00209113, 0x00209116, 0x00289110, 0x00289145, 0x00189329, 0x00189314, 0x00189325, 0x00189308, 0x00209111,
    0x00182218,
)  # fmt: skip
"""Functional groups: plane position and orientation, pixel measures and transformation, frame type, CT
reconstruction, X-ray details, table dynamics, frame content."""
_OF_FRAMES = (_POSITION, _ORIENTATION, _SPACING, _THICKNESS, _INTERCEPT, _SLOPE, _RESCALE_TYPE)
_IDENTITY = (0x00100021, 0x00100020, 0x00100030)
_TEXTS = {
    "series_description": 0x0008103E,
    "study_description": 0x00081030,
    "protocol_name": 0x00181030,
    "kernel": _KERNEL,
    "vendor": 0x00080070,
    "scanner_model": 0x00081090,
    "software": 0x00181020,
}
_UIDS = {
    "study_uid": 0x0020000D,
    "series_uid": 0x0020000E,
    "sop_uid": _SOP,
    "sop_class_uid": _SOP_CLASS,
    "frame_of_reference_uid": 0x00200052,
}
_MODALITY, _PHOTOMETRIC, _SEX, _AGE, _BURNED, _LOSSY = (
    0x00080060, 0x00280004, 0x00100040, 0x00101010, 0x00280301, 0x00282110,
)  # fmt: skip
_SERIES_NUMBER, _INSTANCE = 0x00200011, 0x00200013
_DAYS = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}

WANTED = frozenset(
    [
        _CHARSET, _FRAMES, _ROWS, _COLUMNS, _SAMPLES, _BITS, _STORED, _HIGH, _SIGN, _LOOKUP, _PADDING, _PADDING_END,
        _TYPE, _FRAME_TYPE, _KVP, _DIAMETER, _TILT, _AGENT, _ROUTE, _AGENTS, _DERIVATION, _DERIVATIONS, _BODY,
        _REGIONS, _ACQUIRED, _FRAME_ACQUIRED, _ACQUISITION, _FRAME_ACQUISITION, _SHARED, _PER_FRAME, _MODALITY,
        _PHOTOMETRIC, _SEX, _AGE, _BURNED, _LOSSY, _SERIES_NUMBER, _INSTANCE, 0x00080104, *_MACROS, *_OF_FRAMES,
        *_IDENTITY, *_TEXTS.values(), *_UIDS.values(), *(tag for pair in _TIMES for tag in pair),
    ]
)  # fmt: skip


def parse_headers(path: Path, limits: ReadLimits | None = None) -> list[Header] | Refusal:
    """Read the headers of one file.

    Args:
        path: Any file.
        limits: Caps.

    Returns:
        One header per frame, or why the file cannot be used.
    """
    limits = limits or ReadLimits()
    try:
        with open_regular(path) as file:
            elements = read_elements(file, WANTED, limits)
        return headers_of(path, elements, limits)
    except ModelError:
        return Refusal(code="IO_ERROR", what="the file cannot be opened, or is a link", path=path)
    except OSError:
        return Refusal(code="IO_ERROR", what="the file cannot be read", path=path)
    except RefusedError as refused:
        return refusal_of(refused, path)


def refusal_of(refused: RefusedError, path: Path) -> Refusal:
    """A refusal as plain values, with the series where it is known."""
    series_uid = Values((refused.top,), is_big_endian=False).uid(_UIDS["series_uid"])
    return Refusal(code=refused.code, what=refused.what, path=path, tag=refused.tag, series_uid=series_uid)


def headers_of(path: Path, file: FileElements, limits: ReadLimits) -> list[Header]:
    """One header per frame of a file whose elements were found.

    Raises:
        RefusedError: the file is no DICOM object, or its pixels do not fit its header.
    """
    try:
        return _headers_of(path, file, limits)
    except RefusedError as refused:
        refused.top = file.top
        raise


def _headers_of(path: Path, file: FileElements, limits: ReadLimits) -> list[Header]:
    top = file.top
    charset = Values((top,), file.is_big_endian).ascii(_CHARSET)
    values = Values((top,), file.is_big_endian, charset)
    if not file.is_stated and not (values.uid(_SOP_CLASS) and values.uid(_SOP)):
        raise RefusedError("NOT_DICOM", "without file meta information, it has no SOP class and instance either")
    frames = _num_frames(values, limits)
    header = _header(path, file, values, frames)
    _check_pixels(file, header)
    groups = top.sequences.get(_PER_FRAME)
    if groups is None and _SHARED not in top.sequences:
        return [header] if frames == 1 else [_at(header, frame) for frame in range(frames)]
    if groups is not None and len(groups) != frames:
        raise RefusedError("LENGTH_LIE", "the number of frames is not that of the functional groups", "NumberOfFrames")
    shared = _flat(top.sequences.get(_SHARED) or [Item()])
    bare = Item(
        values={tag: value for tag, value in top.values.items() if tag not in _OF_FRAMES},
        types=top.types,
        sequences=top.sequences,
    )
    levels = [(_flat([group]), shared, bare) for group in groups or [Item()] * frames]
    return [
        _header(path, file, Values(level, file.is_big_endian, charset), frames, frame)
        for frame, level in enumerate(levels)
    ]


def _at(header: Header, frame: int) -> Header:
    return Header(**{**vars(header), "frame": frame})


def _num_frames(values: Values, limits: ReadLimits) -> int:
    stated = values.raw(_FRAMES).strip(b" \0")
    frames = values.whole(_FRAMES) if stated else 1
    if frames is None or frames < 1:
        raise RefusedError("BAD_PIXELS", "the number of frames is no whole number above zero", "NumberOfFrames")
    if frames > limits.frames:
        raise RefusedError("TOO_LARGE", f"the file has over {limits.frames} frames", "NumberOfFrames")
    return frames


def _flat(groups: list[Item]) -> Item:
    """All functional groups of one frame as one level; a group that is not there exactly once is left out."""
    flat = Item()
    for tag in _MACROS:
        items = groups[0].sequences.get(tag, []) if len(groups) == 1 else []
        if len(items) == 1:
            flat.values.update(items[0].values)
            flat.types.update(items[0].types)
            flat.sequences.update(items[0].sequences)
    return flat


def _header(path: Path, file: FileElements, values: Values, frames: int, frame: int = 0) -> Header:
    """One image. `file` is only asked where the pixels lie and how they are encoded."""
    is_signed = values.short(_SIGN) == 1
    # Without a sign the stored values say nothing, as without bits.
    bits_stored = values.short(_STORED) if values.short(_SIGN) in (0, 1) else None
    return Header(
        path=path,
        frame=frame,
        frames=frames,
        patient=_patient(values),
        transfer_syntax_uid=file.syntax,
        modality=values.ascii(_MODALITY),
        image_type=values.words(_FRAME_TYPE) or values.words(_TYPE),
        rows=values.short(_ROWS) or 0,
        columns=values.short(_COLUMNS) or 0,
        pixel_spacing_mm=cast(tuple[float, float] | None, values.vector(_SPACING, 2)),
        position_lps_mm=cast(Vector3 | None, values.vector(_POSITION, 3)),
        orientation_lps=cast(Vector6 | None, values.vector(_ORIENTATION, 6)),
        thickness_mm=values.number(_THICKNESS),
        tilt_deg=values.number(_TILT),
        slope=values.number(_SLOPE),
        intercept=values.number(_INTERCEPT),
        rescale_type=values.ascii(_RESCALE_TYPE).upper(),
        has_lookup=any(level.sequences.get(_LOOKUP) for level in values.levels),
        padding=_padding(values, is_signed),
        bits_allocated=values.short(_BITS) or 0,
        bits_stored=bits_stored or 0,
        high_bit=values.short(_HIGH) or 0,
        is_signed=is_signed,
        samples_per_pixel=values.short(_SAMPLES) or 0,
        photometric=values.ascii(_PHOTOMETRIC).upper(),
        pixel_bytes=0 if file.pixels is None else file.pixels.length,
        series_number=values.whole(_SERIES_NUMBER),
        instance_number=values.whole(_INSTANCE),
        acquisition_number=values.whole(_FRAME_ACQUISITION) or values.whole(_ACQUISITION),
        acquired_at=_acquired_at(values),
        body_part=values.text(_BODY) or values.meanings(_REGIONS),
        contrast=values.text(_AGENT) or values.meanings(_AGENTS) or values.text(_ROUTE),
        kvp=values.number(_KVP),
        reconstruction_diameter_mm=values.number(_DIAMETER),
        age_years=_age_years(values),
        sex=values.ascii(_SEX).upper(),
        burned_in=values.ascii(_BURNED).upper() == "YES",
        lossy=values.ascii(_LOSSY) == "01",
        derivation=f"{values.text(_DERIVATION)} {values.meanings(_DERIVATIONS)}".strip(),
        **{name: values.uid(tag) for name, tag in _UIDS.items()},
        **{name: values.text(tag) for name, tag in _TEXTS.items()},
    )


def _patient(values: Values) -> str:
    parts = [values.raw(tag).strip(b" \0") for tag in _IDENTITY]
    if not any(parts):
        return ""
    return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).hexdigest()


def _padding(values: Values, is_signed: bool) -> tuple[int, int] | None:
    """As the element says that it is signed; where it does not say, as the pixels are."""
    ends = []
    for tag in (_PADDING, _PADDING_END):
        kind = values.kind(tag)
        is_end_signed = is_signed if kind not in (b"SS", b"US") else kind == b"SS"
        ends.append(values.short(tag, is_signed=is_end_signed))
    first, last = ends
    if first is None:
        return None
    return first, first if last is None else last


def _acquired_at(values: Values) -> str:
    stated = values.ascii(_FRAME_ACQUIRED) or values.ascii(_ACQUIRED)
    if stated:
        return stated
    for date, time in _TIMES:
        if values.ascii(date):
            return values.ascii(date) + values.ascii(time)
    return ""


def _age_years(values: Values) -> float | None:
    text = values.ascii(_AGE).upper()
    if len(text) != 4 or not text[:3].isdigit() or text[3] not in _DAYS:
        return None
    return int(text[:3]) / _DAYS[text[3]]


def _check_pixels(file: FileElements, header: Header) -> None:
    """Native pixels must be as long as the header says; `BAD_PIXELS` and the like are for the series to say."""
    pixels = file.pixels
    if pixels is None or pixels.length is None:
        return
    size = header.rows * header.columns * header.samples_per_pixel * header.bits_allocated * header.frames
    if not size or header.bits_allocated % 8:
        return
    if pixels.length < size // 8:
        raise RefusedError("TRUNCATED", "there are fewer pixels than the header says", "PixelData")
    if pixels.length > size // 8 + 1:
        raise RefusedError("LENGTH_LIE", "there are more pixels than the header says", "PixelData")
