"""A model package: a folder with a card, weights, and a list of digests that seals both.

    model.json            what the model is, wants, and has seen (`io.model_card`)
    weights.safetensors   its tensors, exactly those of the architecture
    MANIFEST.sha256       SHA-256 of both; `sha256sum -c MANIFEST.sha256` checks it without this package

A package is never changed: calibration makes a calibrated copy, so a killed process cannot leave a card and a seal
that disagree. The seal finds damage and careless edits. It is no signature: who alters a package on purpose can seal it
again, so compare `Package.digest` with the one its maker published. Knows no torch; `engine.weights` does.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from apatite.core.commit import commit_bytes, committed_folder
from apatite.core.errors import ModelError, StorageError
from apatite.io.model_card import ModelCard, card_from_values, values_of_card
from apatite.io.regular_file import open_regular, read_regular
from apatite.io.strict_json import parse_json
from apatite.io.tensor_header import TensorHeader, header_of, read_header

CARD, WEIGHTS, SEAL = "model.json", "weights.safetensors", "MANIFEST.sha256"
MAX_CARD_BYTES = 2**20
MAX_WEIGHTS_BYTES = 4 * 2**30
"""A thousand million numbers of fp32; checked before any is read."""

_FIX = "copy or make the package again; do not use these weights"
_LOOKED_AT = 10
"""Files of a folder; more than a package has, fewer than could flood a message."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Package:
    """A package that was read and found whole.

    Attributes:
        card: Content of `model.json`.
        weights: Arrays by name, all finite.
        digest: SHA-256 of the seal; names this very package.
    """

    card: ModelCard
    weights: dict[str, np.ndarray]
    digest: str


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What can be said about a package without reading a weight.

    Attributes:
        card: Content of `model.json`.
        header: Every tensor's type and shape.
        digest: SHA-256 of the seal.
    """

    card: ModelCard
    header: TensorHeader
    digest: str

    @property
    def num_parameters(self) -> int:
        """How many numbers the weights hold."""
        return sum(math.prod(claim.shape) for claim in self.header.tensors.values())


def write_package(folder: Path, card: ModelCard, weights: Mapping[str, np.ndarray]) -> None:
    """Write a package, whole or not at all.

    Args:
        folder: Must not exist.
        card: What the model is.
        weights: Arrays by the architecture's own names (`engine.weights.weights_of`).

    Raises:
        ModelError: a weight is not finite (`NONFINITE`).
        DataError: the folder exists.
        StorageError: it cannot be written, or reads back differently.
    """
    require_finite(weights, where=str(folder))
    # Through text and back, so that a card which could not be read again is never written.
    try:
        text = json.dumps(values_of_card(card), indent=1, allow_nan=False) + "\n"
    except ValueError as error:
        raise ModelError(
            "its card holds a number that is not finite", where=str(folder), fix="leave it out", code="NONFINITE"
        ) from error
    card_from_values(json.loads(text), where=CARD)
    content = {
        CARD: text.encode(),
        WEIGHTS: save({name: np.asarray(array, order="C") for name, array in weights.items()}),
    }
    with committed_folder(folder) as part:
        for name, data in content.items():
            commit_bytes(part / name, data)
        commit_bytes(part / SEAL, _seal(content).encode())
        try:
            read_summary(part)
        except ModelError as error:
            raise StorageError(
                "the package read back is damaged", where=str(folder), fix="check the disk", code="IO_ERROR"
            ) from error


def read_summary(folder: Path) -> Summary:
    """Check a package's seal, card and header, without decoding its weights.

    Raises:
        ModelError: files missing, added or altered (`MODEL_DIGEST`), a link, pipe or device in place of one
            (`IO_ERROR`), another format or an unknown key (`MODEL_VERSION`), or a header that lies or is too large.
    """
    seal = _read_seal(folder)
    card = _read_card(folder, seal)
    header = _read_header(folder)
    _require_digest(_sha256_of_file(folder / WEIGHTS), seal[WEIGHTS], folder / WEIGHTS)
    return Summary(card=card, header=header, digest=_digest_of_seal(seal))


def read_package(folder: Path) -> Package:
    """Read a package with its weights.

    Raises:
        ModelError: as `read_summary`, or a weight is not finite (`NONFINITE`).
    """
    seal = _read_seal(folder)
    card = _read_card(folder, seal)
    _read_header(folder)
    content = read_regular(folder / WEIGHTS, MAX_WEIGHTS_BYTES)
    # What is decoded is what was digested and checked: the file may have changed since its header was read.
    _require_digest(_sha256(content), seal[WEIGHTS], folder / WEIGHTS)
    header_of(content, str(folder / WEIGHTS))
    try:
        weights = load(content)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ModelError(
            "its weights cannot be decoded", where=str(folder / WEIGHTS), fix=_FIX, code="MODEL_DIGEST"
        ) from error
    require_finite(weights, where=str(folder))
    return Package(card=card, weights=weights, digest=_digest_of_seal(seal))


def copy_calibrated(
    folder: Path,
    destination: Path,
    calibration: Mapping[str, Any],
    domains: list[str],
    burden: Mapping[str, Any] | None = None,
) -> None:
    """Write a copy of a package that carries a calibration; the original stays as it is.

    A validated range does not go along: it was measured with the thresholds of before.

    Args:
        folder: The package to copy.
        destination: The new package; must not exist.
        calibration: Plain values: threshold, temperature, interval, and how they were chosen.
        domains: Of the data on which it was chosen.
        burden: Cut points of burden groups; none keeps those of the original.

    Raises:
        ModelError: the original is not whole.
        DataError: the destination exists.
    """
    package = read_package(folder)
    before = package.card.domains
    is_kept = burden is None or dict(burden) == package.card.burden
    # Of cut-points that stay, what they were frozen on: cards of earlier versions say it under `calibration` only.
    frozen_on = (before["reference"] or before["calibration"]) if package.card.burden else before["reference"]
    card = replace(
        package.card,
        calibration=dict(calibration),
        domains={**before, "calibration": list(domains), "reference": list(frozen_on if is_kept else domains)},
        burden=package.card.burden if burden is None else dict(burden),
        validated=None,
    )
    write_package(destination, card, package.weights)


def copy_validated(folder: Path, destination: Path, validated: Mapping[str, Any]) -> None:
    """Write a copy of a package that says on which scans it was shown to work; the original stays as it is.

    Args:
        folder: The package to copy.
        destination: The new package; must not exist.
        validated: Plain values: ranges, criteria, and the data they were measured on.

    Raises:
        ModelError: the original is not whole.
        DataError: the destination exists.
    """
    package = read_package(folder)
    write_package(destination, replace(package.card, validated=dict(validated)), package.weights)


def require_finite(weights: Mapping[str, np.ndarray], where: str) -> None:
    """Refuse weights that hold infinity or not-a-number.

    Raises:
        ModelError: with code `NONFINITE`, naming the first such tensor.
    """
    for name, array in weights.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ModelError(
                f"{name} holds values that are not finite",
                where=where,
                fix="train again with a smaller learning rate",
                code="NONFINITE",
            )


def _seal(content: Mapping[str, bytes]) -> str:
    return _seal_text({name: _sha256(data) for name, data in content.items()})


def _seal_text(digests: Mapping[str, str]) -> str:
    """The text of `MANIFEST.sha256`: digest, two blanks, name, as `sha256sum` writes it."""
    return "".join(f"{digests[name]}  {name}\n" for name in (CARD, WEIGHTS))


def _digest_of_seal(digests: Mapping[str, str]) -> str:
    return _sha256(_seal_text(digests).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sha256_of_file(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path) from error


def _read_seal(folder: Path) -> dict[str, str]:
    """Digests by file name, once the folder holds exactly the three files."""
    if not folder.is_dir():
        raise ModelError(
            "is not a model package",
            where=str(folder),
            fix="give the folder that holds model.json",
            code="MODEL_DIGEST",
        )
    try:
        found, wanted = {path.name for path in islice(folder.iterdir(), _LOOKED_AT)}, {CARD, WEIGHTS, SEAL}
    except OSError as error:
        raise _unreadable(folder) from error
    for names, word in ((wanted - found, "missing"), (found - wanted, "not part of a package")):
        if names:
            # ascii: a file's name may hold what would move the cursor.
            shown = ", ".join(name if name.isprintable() else ascii(name) for name in sorted(names))
            raise ModelError(f"{shown}: {word}", where=str(folder), fix=_FIX, code="MODEL_DIGEST")
    text = read_regular(folder / SEAL, limit=1000).decode("ascii", errors="replace")
    digests = {name: digest for digest, _, name in (line.partition("  ") for line in text.splitlines())}
    if set(digests) != {CARD, WEIGHTS} or _seal_text(digests) != text:
        raise ModelError(
            "is not a list of the two files' digests", where=str(folder / SEAL), fix=_FIX, code="MODEL_DIGEST"
        )
    return digests


def _require_digest(found: str, wanted: str, path: Path) -> None:
    if found != wanted:
        raise ModelError("was altered after it was sealed", where=str(path), fix=_FIX, code="MODEL_DIGEST")


def _read_card(folder: Path, seal: Mapping[str, str]) -> ModelCard:
    """The card that was sealed."""
    content = read_regular(folder / CARD, MAX_CARD_BYTES)
    _require_digest(_sha256(content), seal[CARD], folder / CARD)
    try:
        values = parse_json(content)
    except ValueError as error:
        raise ModelError("is not JSON", where=str(folder / CARD), fix=_FIX, code="MODEL_VERSION") from error
    if not isinstance(values, dict):
        raise ModelError("is not a JSON object", where=str(folder / CARD), fix=_FIX, code="MODEL_VERSION")
    return card_from_values(values, where=CARD)


def _read_header(folder: Path) -> TensorHeader:
    """The weights' header, once the file is of a size that a machine can hold."""
    header = read_header(folder / WEIGHTS)
    if max((claim.end for claim in header.tensors.values()), default=0) > MAX_WEIGHTS_BYTES:
        raise ModelError(f"is over {MAX_WEIGHTS_BYTES} bytes", where=str(folder / WEIGHTS), fix=_FIX, code="TOO_LARGE")
    return header


def _unreadable(path: Path) -> ModelError:
    return ModelError("cannot be read", where=str(path), fix="check the path and its permissions", code="IO_ERROR")
