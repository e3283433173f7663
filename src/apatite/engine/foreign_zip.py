"""A zip file as `torch.save` writes it, with nothing hidden in it: every byte has one meaning to every reader.

Two entries of one name, bytes before, between or behind the entries, and names in the list that differ from those at
the entries let two programs read two things in one file. So what is checked here would not be what torch reads. What
torch writes has none of it, and is never compressed, so a file cannot unpack to more than it is.

Source: the zip format's description, https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3; the notes on the
format of PyTorch 2.13 (`docs/source/notes/serialization.rst`).
"""

import re
import struct
import zipfile
from collections import Counter
from collections.abc import Sequence
from typing import BinaryIO, Final

from apatite.core.errors import ModelError
from apatite.io.tensor_header import MAX_TENSORS

SAVE_AGAIN: Final = "download it again; or load it with the program that wrote it, and keep its tensors as safetensors"
PICKLE: Final = "data.pkl"
_PLAIN: Final = re.compile(
    r"data\.pkl|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id|data/\d{1,9}"
)
_PROGRAM: Final = re.compile(r"constants\.pkl|code/.*|extra/.*")
"""What torch.jit.save writes beside tensors."""

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL_BYTES, _END_BYTES, _ZIP64_BYTES = 46, 22, 56 + 20
_DESCRIPTOR, _DESCRIPTOR_BYTES = b"PK\x07\x08", (16, 24)
_HAS_DESCRIPTOR, _IS_ENCRYPTED = 8, 1


def checked_pickle(file: BinaryIO, size: int, pickle_bytes: int, where: str) -> bytes:
    """The pickle of a zip file that holds what `torch.save` writes and nothing else.

    Args:
        file: The file, open for reading.
        size: Its bytes.
        pickle_bytes: Most bytes of the pickle.
        where: The file, for messages.

    Raises:
        ModelError: it ends early (`TRUNCATED`), holds a program (`FOREIGN_CODE`), is compressed (`BOMB`), has an entry
            twice, or one that torch.save does not write (`NOT_WEIGHTS`), bytes outside its entries (`TRAILING_DATA`),
            too many entries or too long a pickle (`TOO_LARGE`), or is damaged (`CRC`).
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            name = _refuse_names(entries, where)
            _refuse_packing(entries, pickle_bytes, where)
            _refuse_gaps(file, size, entries, archive.start_dir, where)
            damaged = archive.testzip()
            if damaged is not None:
                raise _error("is damaged: an entry has another check sum than it states", "CRC", where)
            return archive.read(name)
    except (zipfile.BadZipFile, EOFError, struct.error, UnicodeDecodeError, NotImplementedError) as error:
        raise _error("is no whole zip file, as torch.save writes", "TRUNCATED", where) from error


def _refuse_names(entries: Sequence[zipfile.ZipInfo], where: str) -> str:
    """The pickle's name, once every entry is one that torch.save writes and none stands twice."""
    if len(entries) > MAX_TENSORS:
        raise _error(f"has {len(entries)} entries; at most {MAX_TENSORS} are read", "TOO_LARGE", where)
    names = [entry.orig_filename for entry in entries]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise _error(f"holds {_shown(twice[0])} twice", "NOT_WEIGHTS", where)
    folder = names[0].partition("/")[0] if names else ""
    inner = {name: name.removeprefix(f"{folder}/") for name in names}
    if any(_PROGRAM.fullmatch(rest) for rest in inner.values()):
        raise _error("is a program (TorchScript), not only weights; nothing of it was run", "FOREIGN_CODE", where)
    odd = [name for name, rest in inner.items() if rest == name or not _PLAIN.fullmatch(rest)]
    if odd or PICKLE not in inner.values():
        what = f"holds {_shown(odd[0])}, which torch.save does not write" if odd else f"holds no {PICKLE}"
        raise _error(what, "NOT_WEIGHTS", where)
    return f"{folder}/{PICKLE}"


def _refuse_packing(entries: Sequence[zipfile.ZipInfo], pickle_bytes: int, where: str) -> None:
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise _error("is compressed, which torch.save never does", "BOMB", where)
        if entry.flag_bits & _IS_ENCRYPTED:
            raise _error("is encrypted", "NOT_WEIGHTS", where)
        if entry.orig_filename.endswith(PICKLE) and entry.file_size > pickle_bytes:
            raise _error(
                f"has a pickle of {entry.file_size} bytes; at most {pickle_bytes} are read", "TOO_LARGE", where
            )


def _refuse_gaps(file: BinaryIO, size: int, entries: Sequence[zipfile.ZipInfo], listed_at: int, where: str) -> None:
    """Entries must follow each other from the first byte to the list of entries, and the list to the last byte."""
    place = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset != place:
            raise _error("has bytes outside its entries", "TRAILING_DATA", where)
        place = _end_of(file, entry, where)
    list_bytes = sum(_CENTRAL_BYTES + len(entry.orig_filename) + len(entry.extra) for entry in entries)
    rest = size - place - list_bytes - _END_BYTES
    file.seek(max(size - _END_BYTES, 0))
    end = file.read(_END_BYTES)
    is_end = end[:4] == b"PK\x05\x06" and end[-2:] == b"\0\0"
    if place != listed_at or rest not in (0, _ZIP64_BYTES) or not is_end:
        raise _error("has bytes outside its entries", "TRAILING_DATA", where)


def _end_of(file: BinaryIO, entry: zipfile.ZipInfo, where: str) -> int:
    """Where the entry ends, once its own header says what the list says."""
    file.seek(entry.header_offset)
    magic, _, flags, *_, num_name, num_extra = _LOCAL.unpack(file.read(_LOCAL.size))
    name = file.read(num_name)
    if magic != b"PK\x03\x04" or name != entry.orig_filename.encode() or flags != entry.flag_bits:
        raise _error("lists an entry under another name than it has", "NOT_WEIGHTS", where)
    end = entry.header_offset + _LOCAL.size + num_name + num_extra + entry.file_size
    if not flags & _HAS_DESCRIPTOR:
        return end
    # Sizes of 8 bytes where the entry's own header has the field for long sizes.
    file.seek(end)
    is_described = file.read(4) == _DESCRIPTOR
    extra_at = entry.header_offset + _LOCAL.size + num_name
    file.seek(extra_at)
    is_long = file.read(num_extra)[:2] == b"\x01\x00"
    return end + (_DESCRIPTOR_BYTES[is_long] if is_described else 0)


def _shown(name: str) -> str:
    return ascii(name[:80])


def _error(what: str, code: str, where: str) -> ModelError:
    return ModelError(what, where=where, fix=SAVE_AGAIN, code=code)
