"""One value of a data element, read without trust: what cannot be read is `None` or empty, never a default.

Source: DICOM PS3.5, 6.2 (value representations) and 6.1 (character sets).
"""

import math
import re
import struct

from apatite.io.dicom.refused import Item

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NOT_FINITE = frozenset(["nan", "inf", "infinity"])
_WHOLE = re.compile(r"[+-]?\d{1,12}", re.ASCII)
_UID = re.compile(r"[!-~]{1,64}")
_LONGEST_NUMBER = 64
_LONGEST_TEXT = 1024


class Values:
    """The values of one image: of its own level first, then of the levels above.

    Args:
        levels: Where to look, the nearest first.
        is_big_endian: Of whole numbers that are stored as bytes.
        charset: SpecificCharacterSet as given.
    """

    def __init__(self, levels: tuple[Item, ...], is_big_endian: bool, charset: str = "") -> None:
        self.levels, self.charset = levels, charset
        self.order = ">" if is_big_endian else "<"

    def raw(self, tag: int) -> bytes:
        """The bytes of an element; empty where there is none."""
        for level in self.levels:
            if tag in level.values:
                return level.values[tag]
        return b""

    def ascii(self, tag: int) -> str:
        """A code string or UID; anything that is not ASCII makes it empty."""
        value = self.raw(tag)[:_LONGEST_TEXT].strip(b" \0")
        return value.decode("ascii") if value.isascii() else ""

    def uid(self, tag: int) -> str:
        """A UID, or at least up to 64 visible characters; else empty."""
        value = self.ascii(tag)
        return value if _UID.fullmatch(value) else ""

    def words(self, tag: int) -> tuple[str, ...]:
        """All values of a code string, upper case."""
        value = self.ascii(tag)
        return tuple(word.strip().upper() for word in value.split("\\")) if value else ()

    def text(self, tag: int) -> str:
        """Free text in the character set of the file, without control characters."""
        value = self.raw(tag)[:_LONGEST_TEXT]
        text = value.decode("ascii") if value.isascii() and b"\x1b" not in value else _decoded(value, self.charset)
        return "".join(letter if letter.isprintable() else " " for letter in text).strip()

    def numbers(self, tag: int) -> tuple[float | None, ...]:
        """All values of a decimal string; `nan` and `inf` are told from what is no number at all."""
        value = self.raw(tag).strip(b" \0")
        if not value or not value.isascii():
            return ()
        return tuple(_number(part.strip(" \0")) for part in value.decode("ascii").split("\\"))

    def number(self, tag: int) -> float | None:
        """The one value of a decimal string."""
        values = self.numbers(tag)
        return values[0] if len(values) == 1 else None

    def vector(self, tag: int, size: int) -> tuple[float, ...] | None:
        """Exactly `size` values of a decimal string."""
        values = tuple(value for value in self.numbers(tag) if value is not None)
        return values if len(values) == size == len(self.numbers(tag)) else None

    def whole(self, tag: int) -> int | None:
        """The one value of an integer string."""
        value = self.ascii(tag)
        return int(value) if _WHOLE.fullmatch(value) else None

    def short(self, tag: int, *, is_signed: bool = False) -> int | None:
        """A 16-bit whole number."""
        value = self.raw(tag)
        return struct.unpack(self.order + ("h" if is_signed else "H"), value)[0] if len(value) == 2 else None

    def kind(self, tag: int) -> bytes:
        """How an element says that it is stored; empty where the encoding leaves that out."""
        for level in self.levels:
            if tag in level.values:
                return level.types[tag]
        return b""

    def meanings(self, tag: int) -> str:
        """Code meanings of the items of a sequence, one after the other; `?` for an item that has none."""
        for level in self.levels:
            if tag in level.sequences:
                items = level.sequences[tag]
                found = [Values((item,), self.order == ">", self.charset).text(_CODE_MEANING) or "?" for item in items]
                return " ".join(found)[:_LONGEST_TEXT]
        return ""


_CODE_MEANING = 0x00080104


def _number(text: str) -> float | None:
    if text.lower().lstrip("+-") in _NOT_FINITE:
        return math.nan if "nan" in text.lower() else math.copysign(math.inf, -1 if text[0] == "-" else 1)
    return float(text) if len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text) else None


def _decoded(value: bytes, charset: str) -> str:
    """Text in one of DICOM's character sets. It serves to find words in, so a letter that cannot be read is `�`."""
    import warnings

    from pydicom.charset import convert_encodings, decode_bytes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            encodings = convert_encodings([part.strip() for part in charset.split("\\")])
            return decode_bytes(value, encodings, set())
        except (LookupError, UnicodeError, ValueError):
            return value.decode("latin-1")
