"""Whole heads as DICOM series with their truth: something to try `index`, `prepare` and `quantify` on.

    cohort.json  truth.csv
    dicom/<patient>/s01/*.dcm   truth/<patient>-s01.json

Patients are those of the region phantom; vendors differ in how they number, store and compress, as real ones do. Every
file says that it is simulated.
"""

import csv
import io
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np

from apatite.calcium.measure import volume_mm3
from apatite.core.commit import commit_json, commit_text, committed_folder
from apatite.core.errors import ConfigError
from apatite.core.rng import generator
from apatite.core.watch import Watch, unwatched
from apatite.io.dicom.header import SIMULATED
from apatite.phantom.cohort import CohortConfig
from apatite.phantom.dicom_series import SeriesSettings, write_series
from apatite.phantom.folder import clear_the_way
from apatite.phantom.head import VERSION, Head, draw_head
from apatite.phantom.head_scan import HeadScan, scan_head
from apatite.phantom.head_slices import SliceLayout, lay_head_slices
from apatite.phantom.protocol import Protocol, draw_protocol
from apatite.phantom.scanner import make_pose

MATRIX: Final = {"small": 256, "paper": 512}
"""Rows and columns by preset."""
BONE_SHARE = 0.35
"""Share of patients whose study also holds a series with a bone kernel."""

_HEAD_FIELD_MM = 235.0
_LAYOUTS: Final = {"supine": 0.76, "downwards": 0.12, "feet_first": 0.06, "prone": 0.06}


@dataclass(frozen=True, kw_only=True)
class Maker:
    """How the files of one invented vendor look; the kernels are named as by the real maker that it stands for."""

    name: str
    kernels: dict[str, str]
    stored: dict[str, Any]


MAKERS: Final[dict[str, Maker]] = {
    "Aldan": Maker(
        name=f"GE {SIMULATED}",
        kernels={"soft": "STANDARD", "bone": "BONEPLUS"},
        stored={"bits_stored": 16, "is_signed": True, "padding_stored": -2000},
    ),
    "Borgo": Maker(name=f"SIEMENS {SIMULATED}", kernels={"soft": "H30s", "bone": "H60s"}, stored={"instances": "down"}),
    "Cobre": Maker(
        name=f"Philips {SIMULATED}",
        kernels={"soft": "UB", "bone": "D"},
        stored={"syntax": "jpegls", "padding_stored": 0},
    ),
    "Dorn": Maker(
        name=f"TOSHIBA {SIMULATED}",
        kernels={"soft": "FC21", "bone": "FC30"},
        stored={
            "bits_stored": 16,
            "is_signed": True,
            "intercept": 0.0,
            "padding_stored": -2048,
            "syntax": "implicit",
        },
    ),
    "Elmet": Maker(
        name=f"ELMET {SIMULATED}", kernels={"soft": "E2", "bone": "E9"}, stored={"syntax": "rle", "padding_stored": 0}
    ),
}
"""Invented vendor of `protocol.VENDORS` → how its files look."""


def write_head_cohort(
    config: CohortConfig, folder: Path, workers: int = 1, watch: Watch = unwatched
) -> list[dict[str, Any]]:
    """Draw patients, scan their heads, and write DICOM and truth, whole or not at all.

    Args:
        config: Which patients; the preset sets the matrix.
        folder: New or empty folder.
        workers: Processes; the bytes do not depend on it.
        watch: Shows progress, one step per patient.

    Returns:
        The rows of `truth.csv`, one per series.

    Raises:
        DataError: the folder holds something already.
        StorageError: as `core.commit.committed_folder`.
    """
    if workers < 1:
        raise ConfigError(f"{workers} workers cannot work", fix="use at least 1")
    clear_the_way(folder)
    with committed_folder(folder) as part:
        made = watch(_made(config, part, workers), "making heads", config.patients)
        rows = [row for patient in made for row in patient]
        commit_text(part / "truth.csv", _table(rows))
        commit_json(part / "cohort.json", {"version": VERSION, "config": asdict(config), "series": len(rows)})
    return rows


def write_head_patient(config: CohortConfig, number: int, folder: Path) -> list[dict[str, Any]]:
    """Draw one head, scan it once or twice, and write series and truth.

    Args:
        config: Which patients.
        number: Which of them.
        folder: The cohort's folder.

    Returns:
        One row per series.
    """
    rng = generator(config.seed, VERSION, "study", number)
    head = draw_head(config, number, region_step_mm=0.5 if config.preset == "paper" else 0.7)
    protocol = _draw_protocol(rng, head.patient.vendor, MATRIX[config.preset])
    layout = _draw_layout(rng, MATRIX[config.preset])
    if layout.high_mm < -layout.low_mm:
        # The vertex comes first, and an upper block that ends in thicker slices would lie at the base.
        protocol = replace(protocol, vault_mm=0.0)
    protocols = [replace(protocol, kernel_class="soft", overshoot=0.0)]
    if rng.random() < BONE_SHARE:
        sharp = {"fwhm_mm": 0.65 * protocol.fwhm_mm, "overshoot": 0.4, "noise_hu": 4 * protocol.noise_hu}
        protocols.append(replace(protocol, kernel_class="bone", grain_mm=0.5 * protocol.grain_mm, **sharp))
    rows = []
    pose = make_pose(protocol, np.round(rng.uniform(-25, 25, 3), 2))
    centre = pose.to_ras(head.to_head(np.array([[0.0, -14.0, 0.0]])))[0]
    for series, chosen in enumerate(protocols, start=1):
        stack = lay_head_slices(chosen, layout, centre, pose.shift_mm)
        draws = generator(config.seed, VERSION, "scan", number, series)
        made = scan_head(head, pose, chosen, stack, draws)
        rows.append(_write(made, head, chosen, _settings(config, head, chosen, series), folder))
    return rows


def _draw_protocol(rng: np.random.Generator, vendor: str, matrix: int) -> Protocol:
    """A protocol whose field holds a head; small matrices get no slices below 1 mm."""
    drawn = draw_protocol(rng, vendor, 1.0)
    pixel = max(drawn.pixel_mm * 512 / matrix, _HEAD_FIELD_MM / matrix)
    if matrix >= 512:
        return replace(drawn, pixel_mm=pixel, shift_mm=0.0)
    thickness, spacing = max(drawn.thickness_mm, 1.0), max(drawn.spacing_mm, 1.0)
    return replace(drawn, pixel_mm=pixel, thickness_mm=thickness, spacing_mm=spacing, shift_mm=0.0)


def _draw_layout(rng: np.random.Generator, matrix: int) -> SliceLayout:
    """Orientation and cover; one of ten lies obliquely, one of eight shows the base alone."""
    name = str(rng.choice(list(_LAYOUTS), p=list(_LAYOUTS.values())))
    is_oblique, is_base = rng.random() < 0.1, rng.random() < 0.12
    turn = tuple(np.round(rng.uniform(-9, 9, 3) if is_oblique else np.zeros(3), 2).tolist())
    # From below the great foramen to above the vertex; where the vertex comes first, the other way round.
    low, high = float(rng.uniform(-52, -34)), 45.0 if is_base else float(rng.uniform(112, 122))
    if name in ("downwards", "feet_first"):
        low, high = -high, -low
    return SliceLayout(name=name, rows=matrix, columns=matrix, oblique_deg=turn, low_mm=low, high_mm=high)


def _settings(config: CohortConfig, head: Head, protocol: Protocol, series: int) -> SeriesSettings:
    maker = MAKERS[protocol.vendor]
    return SeriesSettings(
        seed=config.seed,
        number=head.patient.number,
        series=series,
        age_years=head.patient.age,
        sex=head.patient.sex,
        vendor=maker.name,
        scanner_model=protocol.scanner_model,
        kernel=maker.kernels[protocol.kernel_class],
        description=f"HEAD {protocol.kernel_class.upper()} {protocol.thickness_mm:g} mm",
        **maker.stored,
    )


def _write(made: HeadScan, head: Head, protocol: Protocol, settings: SeriesSettings, folder: Path) -> dict[str, Any]:
    """Write one series and its truth; returns the row of the table."""
    name = f"{settings.patient_id}-s{settings.series:02d}"
    place = Path("dicom") / settings.patient_id / f"s{settings.series:02d}"
    write_series(folder / place, made.scan, settings)
    truth, stack = made.truth, made.scan.stack
    row: dict[str, Any] = {
        "case_id": name,
        "folder": place.as_posix(),
        "series_uid": str(settings.uid("series", settings.study, settings.series)),
        "kernel_class": protocol.kernel_class,
        "slices": stack.shape[0],
        "thickness_mm": protocol.thickness_mm,
        "spacing_mm": round(protocol.spacing_mm, 4),
        "tilt_deg": round(protocol.tilt_deg, 3),
    }
    for side, is_side in (("right", truth.is_right), ("left", truth.is_calcium & ~truth.is_right)):
        row[f"true_{side}_mm3"] = round(truth.calcium_mm3[side], 3)
        row[f"rule_{side}_mm3"] = round(volume_mm3(is_side, stack), 3)
    content = {
        **row,
        "version": VERSION,
        "protocol": asdict(protocol),
        "mni_to_ras": truth.pose.mni_to_ras.tolist(),
        "centroid_ras_mm": truth.centroid_ras_mm,
        "plaques": list(truth.plaques),
        "head_scale": head.scale.tolist(),
    }
    commit_json(folder / "truth" / f"{name}.json", content)
    return row


def _table(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _made(config: CohortConfig, folder: Path, workers: int) -> Iterator[list[dict[str, Any]]]:
    """The rows of every patient, in order."""
    if workers == 1:
        for number in config.numbers:
            yield write_head_patient(config, number, folder)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(write_head_patient, repeat(config), config.numbers, repeat(folder))
