"""Names that say nothing: patients, studies and series get identifiers that lead back to no one.

A series keeps its name wherever it is indexed: a digest of random UIDs. A patient's number could be guessed and hashed,
so patients and studies are hashed with a key that never leaves the folder of the manifest; another key, other names.

Source: HMAC, RFC 2104, with SHA-256.
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from apatite.core.commit import committed
from apatite.core.errors import DataError, ModelError
from apatite.io.dicom.header import Header
from apatite.io.regular_file import read_regular

_LENGTH: Final = 12
_KEY: Final = re.compile(r"[0-9a-f]{64}")
_UID: Final = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True)
class PatientKey:
    """The secret behind the names of patients and studies."""

    secret: bytes

    def patient_id(self, header: Header) -> str:
        """`p-` and 12 hex digits; images that name no patient are one patient per study."""
        return f"p-{self._digest('patient', header.patient or f'study {header.study_uid}')}"

    def study(self, header: Header) -> str:
        """`t-` and 12 hex digits, of patient and study."""
        return f"t-{self._digest('study', header.patient, header.study_uid)}"

    def _digest(self, *parts: str) -> str:
        return hmac.new(self.secret, "\n".join(parts).encode(), hashlib.sha256).hexdigest()[:_LENGTH]


def read_or_make_key(path: Path, *, is_made: bool) -> PatientKey:
    """The key in a file.

    Args:
        path: 64 hex digits.
        is_made: Make a random one, for its owner's eyes only, where there is no such file.

    Raises:
        DataError: the file is missing and not to be made, or holds no key.
        StorageError: it cannot be written.
    """
    if is_made and not path.exists():
        _write_key(path)
    try:
        text = read_regular(path, 1024).decode("ascii").strip()
    except (ModelError, UnicodeDecodeError) as error:
        raise DataError("the patient key cannot be read", where=str(path), fix="check --patient-key") from error
    if not _KEY.fullmatch(text):
        raise DataError("is no patient key", where=str(path), fix="a key is 64 hex digits, as `apatite index` makes it")
    return PatientKey(bytes.fromhex(text))


def series_case_id(headers: Iterable[Header]) -> str:
    """`s-` and 12 hex digits: the same for the same images, in whatever order or folder they are found."""
    text = min("\n".join(map(str, _identity(header))) for header in headers)
    return f"s-{hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]}"


def _identity(header: Header) -> tuple[object, ...]:
    """UIDs, and all that tells apart the stacks of one series, should its UIDs not do so."""
    return (
        *(header.series_uid, header.sop_uid, header.frame, header.patient, header.study_uid),
        *(header.frame_of_reference_uid, header.modality, header.rows, header.columns, header.pixel_spacing_mm),
        *(header.kernel, header.orientation_lps, header.acquisition_number),
    )


def safe_uid(uid: str) -> str:
    """A UID that is one, else nothing."""
    return uid if _UID.fullmatch(uid) else ""


def _write_key(path: Path) -> None:
    text = secrets.token_hex(32) + "\n"
    with committed(path) as part:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
