"""A safetensors file that carries the SHA-256 of all its other bytes in its own header.

A model package keeps its digests in a second file; a training state is one file, so that it can be replaced in one
step. The 64 digits of the seal count as zeros when the digest is taken. Like a package's, it finds damage, and is no
signature.
"""

import hashlib
import re
from io import BufferedIOBase
from pathlib import Path

from apatite.core.errors import ModelError, StorageError
from apatite.io.regular_file import open_regular
from apatite.io.tensor_header import MAX_HEADER_BYTES

BLANK_SEAL = {"sha256": "0" * 64}
"""To be among the free text of a file that will be sealed."""

_PLACE = re.compile(rb'"sha256":"([0-9a-f]{64})"')


def seal(part: Path) -> None:
    """Fill in the blank seal of a file that is being committed and is not yet under its name.

    Raises:
        StorageError: what is on disk is not what was written.
    """
    with part.open("r+b") as file:
        try:
            place, _, digest = _seal_and_digest(file, str(part))
        except ModelError as error:
            raise StorageError(
                "the file read back is damaged", where=str(part), fix="check the disk", code="IO_ERROR"
            ) from error
        file.seek(place)
        file.write(digest.encode())


def require_sealed(path: Path, fix: str) -> None:
    """Refuse a file of which any byte was altered since it was sealed.

    Args:
        path: The file; its header was read and found whole.
        fix: What to do with a damaged one.

    Raises:
        ModelError: it is damaged, or carries no seal (`MODEL_DIGEST`).
    """
    with open_regular(path) as file:
        _, found, digest = _seal_and_digest(file, str(path))
    if found != digest:
        raise ModelError("was damaged after it was written", where=str(path), fix=fix, code="MODEL_DIGEST")


def _seal_and_digest(file: BufferedIOBase, where: str) -> tuple[int, str, str]:
    """Where the seal's digits stand, what they are, and what they should be."""
    size = file.read(8)
    head = file.read(min(int.from_bytes(size, "little"), MAX_HEADER_BYTES))
    places = list(_PLACE.finditer(head))
    # In JSON text a quote is escaped, so no value can look like a seal.
    if len(places) != 1:
        raise ModelError("carries no seal", where=where, fix="give a file of checkpoints/", code="MODEL_DIGEST")
    begin, end = places[0].span(1)
    digest = hashlib.sha256(size + head[:begin] + b"0" * 64 + head[end:])
    while chunk := file.read(2**20):
        digest.update(chunk)
    return len(size) + begin, head[begin:end].decode(), digest.hexdigest()
