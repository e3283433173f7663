"""The data elements of one DICOM file, found without believing any length that the file states.

Only what a header needs is kept; the rest is walked over, so that the caps hold for all of it. Nothing is decoded
here: a value is the bytes in the file. The pixels are found, not read.

Source: DICOM PS3.5, 7 (data elements, sequences), A.4 (encapsulated pixels); PS3.10, 7 (file meta information).
Differs: a file without preamble or without file meta information is read where its first element leaves no doubt
about its encoding. An element given twice counts as not given.
"""

import mmap
import struct
from collections.abc import Collection
from dataclasses import dataclass
from io import BufferedReader

from apatite.io.dicom.inflate import Bytes, inflate
from apatite.io.dicom.limits import ReadLimits
from apatite.io.dicom.refused import Item, RefusedError

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
"""Pixels as float32, as float64 and as whole numbers; all else of a header comes before them."""

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_SYNTAX, _FRAMES = 0x00020010, 0x00280008
_LONG = frozenset([b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV", b"??"])
_ENCAPSULATED_BY = frozenset([b"OB", b"OW", b"UN"])


@dataclass(frozen=True, kw_only=True)
class PixelElement:
    """Where the pixels lie in `FileElements.content`.

    Attributes:
        tag: One of `PIXEL_TAGS`.
        start, length: Of the value; the length is `None` where the pixels are encapsulated.
        fragments: Start and length of each; the first is the offset table.
    """

    tag: int
    start: int
    length: int | None
    fragments: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class FileElements:
    """One file.

    Attributes:
        content: Its bytes; those after inflating where it is deflated.
        syntax: Transfer syntax UID; the encoding that was found where the file does not say.
        is_stated: Whether it says.
        is_big_endian: Of all numbers.
        top: The elements asked for.
        pixels: Where the pixels lie; `None` where there are none.
    """

    content: Bytes
    syntax: str
    is_stated: bool
    is_big_endian: bool
    top: Item
    pixels: PixelElement | None


def read_elements(file: BufferedReader, wanted: Collection[int], limits: ReadLimits) -> FileElements:
    """Find the elements of an open file.

    Args:
        file: A regular file.
        wanted: Tags to keep, of sequences and of what lies in them too.
        limits: Caps.

    Raises:
        RefusedError: no DICOM file, cut short, a length that its bytes do not have, or beyond a cap.
    """
    size = file.seek(0, 2)
    if size > limits.file_bytes:
        raise RefusedError("TOO_LARGE", f"the file is over {limits.file_bytes} bytes")
    if size < 16:
        raise RefusedError("NOT_DICOM" if size else "TRUNCATED", "the file is too short to be DICOM")
    content: Bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    syntax, start = _file_meta(content, limits)
    if syntax == DEFLATED:
        content, start = inflate(content, start, limits), 0
    is_stated = bool(syntax)
    syntax = syntax or _found_encoding(content, start)
    walker = _Walker(content, frozenset(wanted), limits, syntax)
    try:
        top, pixels = walker.top_level(start)
    except RefusedError as refused:
        if is_stated or refused.code in ("TOO_DEEP", "TOO_LARGE"):
            refused.top = walker.top
            raise
        raise RefusedError("NOT_DICOM", "without file meta information, its bytes are no data elements") from None
    if not is_stated and pixels is not None and pixels.length is None:
        raise RefusedError("SYNTAX_UNSUPPORTED", "compressed pixels without a transfer syntax", "TransferSyntaxUID")
    return FileElements(
        content=content,
        syntax=syntax,
        is_stated=is_stated,
        is_big_endian=syntax == BIG_ENDIAN,
        top=top,
        pixels=pixels,
    )


def _file_meta(content: Bytes, limits: ReadLimits) -> tuple[str, int]:
    """The transfer syntax (empty where none is stated), and where the data set begins."""
    start = 132 if content[128:132] == b"DICM" else 4 if content[:4] == b"DICM" else 0
    if content[start : start + 2] != b"\x02\x00":
        return "", start
    walker = _Walker(content, frozenset([_SYNTAX]), limits, EXPLICIT)
    meta, end = walker.group_two(start)
    return meta.values.get(_SYNTAX, b"").rstrip(b"\0 ").decode("ascii", "replace"), end


def _found_encoding(content: Bytes, start: int) -> str:
    """The encoding that the first element shows: its tag is of group 8, its type two letters or not."""
    head = content[start : start + 8]
    is_explicit = len(head) == 8 and _is_type(head[4:6])
    if head[:2] == b"\x08\x00":
        return EXPLICIT if is_explicit else IMPLICIT
    if head[:2] == b"\x00\x08" and is_explicit:
        return BIG_ENDIAN
    raise RefusedError("NOT_DICOM", "the file does not begin like DICOM")


def _is_type(letters: bytes) -> bool:
    """Whether two bytes can be a value representation; some writers put `??` for unknown."""
    return letters == b"??" or (letters.isalpha() and letters.isupper())


class _Walker:
    """Goes over elements one by one, counting."""

    def __init__(self, content: Bytes, wanted: frozenset[int], limits: ReadLimits, syntax: str) -> None:
        self.content, self.wanted, self.limits = content, wanted, limits
        self.end, self.count, self.most = len(content), 0, limits.elements
        self.top = Item()
        self.is_implicit = syntax == IMPLICIT
        order = ">" if syntax == BIG_ENDIAN else "<"
        self.tag_of, self.long_of = struct.Struct(order + "HH").unpack_from, struct.Struct(order + "I").unpack_from
        self.short_of = struct.Struct(order + "H").unpack_from

    def group_two(self, at: int) -> tuple[Item, int]:
        """The file meta information, and where it ends."""
        item = Item()
        while self.content[at : at + 2] == b"\x02\x00":
            at = self._element(at, self.end, item, 0, self.is_implicit)
        return item, at

    def top_level(self, at: int) -> tuple[Item, PixelElement | None]:
        """All elements up to the pixels, and where those lie."""
        item, first = self.top, at
        while at < self.end:
            if at - first > self.limits.header_bytes:
                raise RefusedError("TOO_LARGE", f"over {self.limits.header_bytes} bytes stand before the pixels")
            tag = self._tag(at, self.end)
            if tag in PIXEL_TAGS:
                return item, self._pixels(tag, at)
            if tag == 0 or tag >> 16 == 0xFFFE:
                raise RefusedError("LENGTH_LIE", "a length leads to where no element begins")
            at = self._element(at, self.end, item, 0, self.is_implicit)
            if tag == _FRAMES:
                self._grant(item)
        return item, None

    def _grant(self, item: Item) -> None:
        """Allow a multi-frame file more elements: each frame has some of its own."""
        text = item.values.get(_FRAMES, b"").strip(b" \0")
        frames = min(int(text), self.limits.frames) if text.isdigit() and len(text) < 10 else 1
        self.most = self.limits.elements + frames * self.limits.elements_per_frame

    def _tag(self, at: int, end: int) -> int:
        if at + 8 > end:
            raise RefusedError("TRUNCATED" if end == self.end else "LENGTH_LIE", "the file ends within an element")
        group, element = self.tag_of(self.content, at)
        return group << 16 | element

    def _head(self, at: int, end: int, is_implicit: bool) -> tuple[int, bytes, int, int]:
        """Tag, type (empty where implicit), length, and where the value begins."""
        tag = self._tag(at, end)
        if is_implicit or tag >> 16 == 0xFFFE:
            return tag, b"", self.long_of(self.content, at + 4)[0], at + 8
        kind = self.content[at + 4 : at + 6]
        if not _is_type(kind):
            raise RefusedError(
                "NOT_DICOM", "its elements are not encoded as its transfer syntax says", "TransferSyntaxUID"
            )
        if kind not in _LONG:
            return tag, kind, self.short_of(self.content, at + 6)[0], at + 8
        if at + 12 > end:
            raise RefusedError("TRUNCATED" if end == self.end else "LENGTH_LIE", "the file ends within an element")
        return tag, kind, self.long_of(self.content, at + 8)[0], at + 12

    def _element(self, at: int, end: int, item: Item, depth: int, is_implicit: bool) -> int:
        """Take one element into `item` where it is wanted; returns where the next begins."""
        self.count += 1
        if self.count > self.most:
            raise RefusedError("TOO_LARGE", f"the header has over {self.most} elements")
        tag, kind, length, start = self._head(at, end, is_implicit)
        is_wanted = tag in self.wanted
        if (
            kind == b"SQ"
            or length == _UNDEFINED
            or (is_wanted and kind in (b"", b"UN") and self._opens_sequence(start, length))
        ):
            if kind not in (b"SQ", b"UN", b""):
                raise RefusedError("LENGTH_LIE", "an element that is no sequence has no length")
            # PS3.5, 6.2.2: what is UN without a length is encoded as implicit, whatever the file is.
            items, start = self._items(start, length, end, depth + 1, is_implicit or kind == b"UN")
            if is_wanted:
                item.sequences[tag] = item.sequences.get(tag, []) + items
            return start
        if start + length > end:
            is_cut = end == self.end and length <= self.limits.header_bytes
            raise RefusedError("TRUNCATED" if is_cut else "LENGTH_LIE", "an element is longer than what is there")
        if is_wanted:
            is_again = tag in item.values
            item.values[tag], item.types[tag] = b"" if is_again else self.content[start : start + length], kind
        return start + length

    def _opens_sequence(self, start: int, length: int) -> bool:
        """Whether an element whose type is not written, or is unknown, holds items."""
        return length >= 8 and start + 8 <= self.end and self._tag(start, self.end) == _ITEM

    def _items(self, at: int, length: int, end: int, depth: int, is_implicit: bool) -> tuple[list[Item], int]:
        """The items of a sequence, and where what follows it begins."""
        if depth > self.limits.nesting:
            raise RefusedError("TOO_DEEP", f"sequences are nested over {self.limits.nesting} deep")
        is_open = length == _UNDEFINED
        stop = end if is_open else at + length
        if stop > end:
            raise RefusedError(
                "TRUNCATED" if end == self.end else "LENGTH_LIE", "a sequence is longer than what is there"
            )
        items: list[Item] = []
        while is_open or at < stop:
            tag, _, size, start = self._head(at, stop, True)
            if tag == _SEQUENCE_END and is_open:
                return items, start
            if tag != _ITEM:
                raise RefusedError("LENGTH_LIE", "a sequence holds something that is no item")
            self.count += 1
            item, at = self._item(start, size, stop, depth, is_implicit)
            items.append(item)
        return items, stop

    def _item(self, at: int, length: int, end: int, depth: int, is_implicit: bool) -> tuple[Item, int]:
        is_open = length == _UNDEFINED
        stop = end if is_open else at + length
        if stop > end:
            raise RefusedError("TRUNCATED" if end == self.end else "LENGTH_LIE", "an item is longer than what is there")
        item = Item()
        while is_open or at < stop:
            if is_open and self._tag(at, stop) == _ITEM_END:
                return item, at + 8
            at = self._element(at, stop, item, depth, is_implicit)
        return item, stop

    def _pixels(self, tag: int, at: int) -> PixelElement:
        _, kind, length, start = self._head(at, self.end, self.is_implicit)
        if length != _UNDEFINED:
            if start + length > self.end:
                raise RefusedError("TRUNCATED", "the pixels end early", "PixelData")
            return PixelElement(tag=tag, start=start, length=length)
        if kind and kind not in _ENCAPSULATED_BY:
            raise RefusedError("LENGTH_LIE", "the pixels have no length", "PixelData")
        fragments, at = [], start
        while True:
            if at + 8 > self.end:
                raise RefusedError("TRUNCATED", "the compressed pixels end early", "PixelData")
            item, size = self._tag(at, self.end), self.long_of(self.content, at + 4)[0]
            if item == _SEQUENCE_END:
                return PixelElement(tag=tag, start=start, length=None, fragments=tuple(fragments))
            if item != _ITEM or len(fragments) > 16 * self.limits.frames:
                raise RefusedError("LENGTH_LIE", "the compressed pixels are not in fragments", "PixelData")
            if at + 8 + size > self.end:
                raise RefusedError("TRUNCATED", "the compressed pixels end early", "PixelData")
            fragments.append((at + 8, size))
            at += 8 + size
