"""A deflated data set is unpacked chunk by chunk, and no further than an honest one could go."""

import mmap
import zlib

from apatite.io.dicom.limits import ReadLimits
from apatite.io.dicom.refused import RefusedError

MOST_RATIO = 20
"""CT deflates to a half or a third, a blank frame to more; a bomb to a thousandth."""

Bytes = bytes | mmap.mmap
_CHUNK = 2**16
_MOST_AT_ONCE = 2**22


def inflate(content: Bytes, start: int, limits: ReadLimits) -> bytes:
    """Unpack a deflated data set.

    Args:
        content: The file.
        start: Where the deflated bytes begin.
        limits: Caps; a header's bytes may be unpacked whatever the ratio.

    Raises:
        RefusedError: cut short or damaged (`TRUNCATED`), or it unpacks to too much (`BOMB`).
    """
    inflater, parts, total = zlib.decompressobj(-zlib.MAX_WBITS), [], 0
    most = min(limits.file_bytes, limits.header_bytes + MOST_RATIO * (len(content) - start))
    pending: bytes = b""
    while not inflater.eof:
        chunk = pending or content[start : start + _CHUNK]
        start += 0 if pending else len(chunk)
        if not chunk:
            raise RefusedError("TRUNCATED", "the deflated data set ends early")
        try:
            parts.append(inflater.decompress(chunk, _MOST_AT_ONCE))
        except zlib.error:
            raise RefusedError("TRUNCATED", "the deflated data set is damaged") from None
        pending, total = inflater.unconsumed_tail, total + len(parts[-1])
        if total > most:
            raise RefusedError("BOMB", f"the data set unpacks to over {most} bytes")
    return b"".join(parts)
