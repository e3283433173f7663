"""A cohort: patients numbered from 0, each drawn from the seed and its number alone.

Patient 7 of seed 3 is the same bytes whether it is made first, last, alone, or by another worker. Distributions follow
the trial of Jin et al. 2025 where it says something: about 2.6 series per patient, five vendors, soft and bone
kernels, slices of 0.6 to 10 mm, 11 % of patients without calcium. Everything else is an assumption.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from apatite.calcium.measure import volume_mm3
from apatite.core.errors import ConfigError
from apatite.core.rng import generator
from apatite.core.volume import Grid
from apatite.ct.region import REGIONS, RegionConfig, is_inside_region
from apatite.phantom.anatomy import Anatomy, build_anatomy
from apatite.phantom.density import Tissue, fill_tissue
from apatite.phantom.lesions import CalciumPieces, calcium_pieces, draw_plaques
from apatite.phantom.protocol import Protocol, draw_protocol, draw_vendor
from apatite.phantom.reader import IsMarked, read_humanly, read_perfectly
from apatite.phantom.scanner import Acquisition, Pose, acquire, lay_slices, make_pose
from apatite.phantom.siphon import SIDES, draw_arteries

VERSION = "phantom-1"
"""Changes whenever the bytes of any case change."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How finely a cohort is made: cell of the patient grid (mm), factor on the pixel size, region."""

    step_mm: float
    pixel_factor: float
    region: RegionConfig


PRESETS: dict[str, Preset] = {
    "paper": Preset(step_mm=0.5, pixel_factor=1.0, region=REGIONS["paper"]),
    "small": Preset(step_mm=0.7, pixel_factor=1.2, region=REGIONS["small"]),
}


@dataclass(frozen=True, kw_only=True)
class Prevalence:
    """How much calcium patients have: share with any, median mm³ of those by integration, SD of the logarithm.

    The rule of 130 HU reads about twice the volume that is there, so 60 mm³ is the 120 mm³ of a trial's readings.
    """

    share: float
    median_mm3: float
    spread: float


PREVALENCES: dict[str, Prevalence] = {
    "trial": Prevalence(share=0.89, median_mm3=60.0, spread=1.4),
    "screening": Prevalence(share=0.60, median_mm3=22.0, spread=1.4),
}


@dataclass(frozen=True, kw_only=True)
class CohortConfig:
    """Which cohort.

    Attributes:
        patients: How many.
        preset: `small` or `paper`.
        seed: Another seed, another cohort.
        first: Number of the first patient, to extend a cohort.
        prevalence: `trial` or `screening`.
    """

    patients: int = 150
    preset: Literal["small", "paper"] = "small"
    seed: int = 0
    first: int = 0
    prevalence: Literal["trial", "screening"] = "trial"

    def __post_init__(self) -> None:
        if self.patients < 1 or self.first < 0:
            raise ConfigError(
                f"{self.patients} patients from number {self.first} are no cohort", fix="use at least 1 patient"
            )

    @property
    def numbers(self) -> range:
        """Numbers of the patients."""
        return range(self.first, self.first + self.patients)


@dataclass(frozen=True, kw_only=True, eq=False)
class Patient:
    """One drawn patient.

    Attributes:
        number: Position in the cohort; the id is made of it.
        age: Years.
        sex: "F" or "M".
        vendor: Where the patient is usually scanned.
        num_series: How often.
        anatomy: Anatomy and calcium.
        calcium: The calcium of the right and left artery, in pieces.
    """

    number: int
    age: float
    sex: str
    vendor: str
    num_series: int
    anatomy: Anatomy
    calcium: tuple[CalciumPieces, CalciumPieces]

    @property
    def patient_id(self) -> str:
        """For example `p0007`."""
        return f"p{self.number:04d}"

    @property
    def analytic_mm3(self) -> float:
        """All calcium, by integration."""
        return float(sum(pieces.volume_mm3.sum() for pieces in self.calcium))


@dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """One scan of a patient, and what is true of it.

    Attributes:
        case_id: For example `p0007-s2`.
        patient: Who was scanned.
        protocol: How.
        pose: Where the head lay.
        acquisition: The slices and what is true on them.
        is_calcium: The perfect reader's annotation.
        readers: Two imperfect readers' annotations.
        region: The grid that registration would return, a few mm off.
        is_inside: Pixels inside that region.
    """

    case_id: str
    patient: Patient
    protocol: Protocol
    pose: Pose
    acquisition: Acquisition
    is_calcium: IsMarked
    readers: tuple[IsMarked, IsMarked]
    region: Grid
    is_inside: IsMarked


def draw_patient(config: CohortConfig, number: int) -> Patient:
    """Draw one patient; a function of the configuration's seed and prevalence and of the number alone."""
    rng = generator(config.seed, VERSION, "patient", number)
    prevalence = PREVALENCES[config.prevalence]
    age, sex = float(np.clip(rng.normal(77, 9), 45, 98)), "F" if rng.random() < 0.52 else "M"
    num_series = 1 + int(rng.choice(6, p=[0.25, 0.30, 0.22, 0.12, 0.07, 0.04]))
    vendor = draw_vendor(rng)
    has_calcium, z = rng.random() < prevalence.share, rng.standard_normal()
    trend = 0.02 * (age - 77) + (0.15 if sex == "M" else -0.15)
    total = (
        float(np.clip(prevalence.median_mm3 * math.exp(prevalence.spread * z + trend), 0.5, 800.0))
        if has_calcium
        else 0.0
    )
    right_share = 1 / (1 + math.exp(-0.7 * rng.standard_normal()))
    medial_share = float(rng.choice([0.05, 0.5, 0.92], p=[0.45, 0.25, 0.30]))
    arteries = draw_arteries(rng)
    drawn = [
        draw_plaques(rng, artery, total * share, medial_share)
        for artery, share in zip(arteries, (right_share, 1 - right_share), strict=True)
    ]
    walls = (drawn[0][0], drawn[1][0])
    anatomy = build_anatomy(rng, arteries, walls, [*drawn[0][1], *drawn[1][1]])
    pieces = (calcium_pieces(walls[0], arteries[0]), calcium_pieces(walls[1], arteries[1]))
    return Patient(
        number=number, age=round(age, 1), sex=sex, vendor=vendor, num_series=num_series, anatomy=anatomy, calcium=pieces
    )


def make_patient(config: CohortConfig, number: int) -> Iterator[Series]:
    """Draw one patient, then scan it as often as drawn.

    Yields:
        Every series of the patient, in order.
    """
    patient = draw_patient(config, number)
    tissue = fill_tissue(patient.anatomy, PRESETS[config.preset].step_mm)
    for series in range(1, patient.num_series + 1):
        yield make_series(config, patient, tissue, series)


def make_series(config: CohortConfig, patient: Patient, tissue: Tissue, series: int) -> Series:
    """Scan a patient once.

    Args:
        config: Preset and seed.
        patient: Who.
        tissue: The patient's anatomy on its fine grid.
        series: Number of the series, from 1.
    """
    rng = generator(config.seed, VERSION, "series", patient.number, series)
    vendor = patient.vendor if rng.random() < 0.85 else draw_vendor(rng)
    preset = PRESETS[config.preset]
    protocol = draw_protocol(rng, vendor, preset.pixel_factor)
    pose = make_pose(protocol, np.round(rng.uniform(-25, 25, 3), 2))
    region = preset.region.grid(pose.shift_mm + _registration_error(rng))
    acquisition = acquire(tissue, pose, protocol, lay_slices(protocol, region.centre_ras_mm, float(rng.random())), rng)
    is_calcium = read_perfectly(acquisition)
    readers = [
        read_humanly(acquisition, is_calcium, generator(config.seed, VERSION, "reader", patient.number, series, reader))
        for reader in (1, 2)
    ]
    return Series(
        case_id=f"{patient.patient_id}-s{series}",
        patient=patient,
        protocol=protocol,
        pose=pose,
        acquisition=acquisition,
        is_calcium=is_calcium,
        readers=(readers[0], readers[1]),
        region=region,
        is_inside=is_inside_region(acquisition.scan.stack, region),
    )


def truth_of(series: Series) -> dict[str, Any]:
    """All that is known about a series, as plain values: volumes by integration and by the rule, protocol, plaques."""
    stack = series.acquisition.scan.stack
    halves = np.array(series.region.shape[::-1]) * np.array(series.region.spacing_mm) / 2
    analytic, plaques = {}, []
    for side, pieces in zip(SIDES, series.patient.calcium, strict=True):
        offset = np.abs(series.pose.to_ras(pieces.points_mm) - series.region.centre_ras_mm)
        inside = np.all(offset <= halves, axis=1)
        analytic[side] = {
            "inside": float(pieces.volume_mm3[inside].sum()),
            "outside": float(pieces.volume_mm3[~inside].sum()),
        }
        for plaque in (p for p in series.patient.anatomy.plaques if p.side == side):
            share = pieces.volume_mm3[inside & (pieces.plaque == plaque.number)].sum() / plaque.volume_mm3
            plaques.append({**asdict(plaque), "inside_share": float(share)})

    def measured(is_marked: IsMarked) -> dict[str, float]:
        return {
            "inside": volume_mm3(is_marked & series.is_inside, stack),
            "outside": volume_mm3(is_marked & ~series.is_inside, stack),
        }

    is_right = _is_right(series)
    return {
        "version": VERSION,
        "case_id": series.case_id,
        "patient_id": series.patient.patient_id,
        "analytic_mm3": analytic,
        "rule_mm3": {"right": measured(series.is_calcium & is_right), "left": measured(series.is_calcium & ~is_right)},
        "reader_mm3": [measured(reader) for reader in series.readers],
        "plaques": plaques,
        "protocol": asdict(series.protocol),
        "region_centre_ras_mm": [float(v) for v in series.region.centre_ras_mm],
        "true_centre_ras_mm": [float(v) for v in series.pose.shift_mm],
        "region_frame_to_ras": series.pose.turn.tolist(),
    }


def _is_right(series: Series) -> IsMarked:
    """Pixels on the patient's right of the anatomy's own midline."""
    stack = series.acquisition.scan.stack
    axis = series.pose.turn[:, 0]
    start = (stack.origins_ras_mm - series.pose.shift_mm) @ axis
    rows = np.arange(stack.shape[1]) * float(stack.row_step_ras_mm @ axis)
    columns = np.arange(stack.shape[2]) * float(stack.column_step_ras_mm @ axis)
    return start[:, None, None] + rows[None, :, None] + columns[None, None, :] > 0


def _registration_error(rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    """How far off registration puts the region's centre: SD 2 mm per axis, never more than 8 mm."""
    error = np.round(rng.normal(0, 2.0, 3), 2)
    return error * min(1.0, 8.0 / max(float(np.linalg.norm(error)), 1e-9))
