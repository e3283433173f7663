"""What one prepared case leaves on disk until the prepared folder is put together of all of them.

image.npy, labels.npy   regions: as in `io.store`, of one case; no labels.npy without a label map
volume/                 whole volumes: the Zarr group
looks.npy               the registered scan in grey levels, where the region was found
case.json               the grid, the image's digest, and how the region was found
"""

import hashlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int16, UInt8

from apatite.core.config import dump
from apatite.ct.template import Template
from apatite.data.prepare_case import PreparedCase, prepare_region, prepare_volume
from apatite.data.prepare_config import PrepareConfig
from apatite.data.prepare_place import Found
from apatite.io.case import Case
from apatite.io.manifest import Manifest, to_csv
from apatite.io.store import write_volume_group

FORMAT = 2
"""Of the files above; another one is prepared anew."""
LOOKS = "looks.npy"


@dataclass(frozen=True, kw_only=True)
class PrepareTask:
    """What a worker does with one case; a `batch.attempt.Task`.

    Attributes:
        manifest: Where the files lie and what labels are called; without the cases.
        config: What to make.
        templates: To find regions with.
    """

    manifest: Manifest
    config: PrepareConfig
    templates: tuple[Template, ...] = ()

    def __call__(self, case: Case, folder: Path) -> Sequence[str]:
        """Read and resample one case."""
        prepared = self._prepared(case)
        write_piece(folder, prepared, self.config.kind)
        return () if prepared.found is None else prepared.found.flags

    def versions(self, cases: Sequence[Case]) -> list[str]:
        """One word per case, that changes whenever what is made of it could.

        That is: with the settings, its row, its files, the templates, the program.
        """
        shared = {
            "format": [FORMAT, version("apatite")],
            "config": dump(self.config),
            "label_names": sorted(self.manifest.label_names.items()),
            "templates": [_template_mark(template) for template in self.templates],
        }
        return [_digest(shared | {"case": to_csv((case,)), "files": self._marks(case)}) for case in cases]

    def _marks(self, case: Case) -> list[list[int] | None]:
        files = [self.manifest.image_path(case), self.manifest.label_path(case)]
        return [_mark(path) for path in files if path is not None]

    def _prepared(self, case: Case) -> PreparedCase:
        config = self.config
        if config.kind == "region":
            return prepare_region(self.manifest, case, config.region, self.templates, config.intensity)
        return prepare_volume(
            self.manifest, case, config.spacing_mm, config.least_shape, config.body_hu, config.intensity
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """One prepared case, read back.

    Attributes:
        image_hu, labels: Regions: the arrays; `None` for whole volumes, and labels without a label map.
        volume: Whole volumes: the folder of the group.
        ijk_to_ras: Of the grid.
        image_digest: Of the original.
        found: How the region was found, as plain values; `None` where it was not.
        looks: The file of the registered scan; `None` where it was not registered.
    """

    image_hu: Int16[np.ndarray, "depth height width"] | None
    labels: UInt8[np.ndarray, "labels depth height width"] | None
    volume: Path | None
    ijk_to_ras: np.ndarray
    image_digest: str
    found: dict[str, Any] | None
    looks: Path | None


def write_piece(folder: Path, prepared: PreparedCase, kind: Literal["region", "volume"]) -> None:
    """Write one prepared case into an empty folder."""
    if kind == "volume":
        write_volume_group(folder / "volume", prepared.image_hu, prepared.labels)
    else:
        for name, array in (("image", prepared.image_hu), ("labels", prepared.labels)):
            if array is not None:
                (folder / f"{name}.npy").write_bytes(_npy(array))
    if prepared.found is not None:
        (folder / LOOKS).write_bytes(_npy(prepared.found.looks))
    about = {
        "ijk_to_ras": prepared.grid.ijk_to_ras.tolist(),
        "image_digest": prepared.image_digest,
        "found": None if prepared.found is None else _plain(prepared.found),
    }
    (folder / "case.json").write_text(json.dumps(about, indent=1, allow_nan=False), encoding="utf-8")


def read_piece(folder: Path) -> Piece:
    """Read a prepared case back, as `write_piece` left it."""
    about = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    return Piece(
        image_hu=_array(folder / "image.npy"),
        labels=_array(folder / "labels.npy"),
        volume=folder / "volume" if (folder / "volume").exists() else None,
        ijk_to_ras=np.array(about["ijk_to_ras"], dtype=np.float64),
        image_digest=about["image_digest"],
        found=about["found"],
        looks=folder / LOOKS if (folder / LOOKS).exists() else None,
    )


def _plain(found: Found) -> dict[str, Any]:
    localisation = found.localisation
    return {
        "region_centre_ras_mm": found.centre_ras_mm,
        "template": found.template,
        "mni_to_ras": localisation.pose.mni_to_ras.tolist(),
        "kind": localisation.kind,
        "confidence": {name: _number(value) for name, value in localisation.confidence.items()},
        "disagreement_mm": _number(localisation.disagreement_mm),
        "flags": found.flags,
        "box": found.coverage.box,
        "covered_fraction": found.coverage.fraction,
        "quality": {name: _number(value) for name, value in found.quality.to_dict().items()},
    }


def _number(value: Any) -> Any:
    """JSON has no word for what is not a number."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _npy(array: np.ndarray) -> bytes:
    """As bytes: NumPy's own writer does not say that a disk is full."""
    out = io.BytesIO()
    np.lib.format.write_array(out, np.ascontiguousarray(array), allow_pickle=False)
    return out.getvalue()


def _array(path: Path) -> Any:
    return np.load(path, allow_pickle=False) if path.exists() else None


def _digest(about: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def _mark(path: Path) -> list[int] | None:
    """Of a file that may change: its size and time; of one that may not be there, nothing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _template_mark(template: Template) -> str:
    volume = template.volume
    digest = hashlib.sha256(repr((template.age_from_years, template.age_to_years, volume.voxels.shape)).encode())
    digest.update(volume.grid.ijk_to_ras.tobytes())
    digest.update(np.ascontiguousarray(volume.voxels).tobytes())
    return digest.hexdigest()
