"""A phantom patient scanned again with one thing changed: the exact experiment, of which degrading is an imitation.

The patient is drawn again from the cohort's seed, and scanned by the phantom's own scanner where the first scan lay,
with the same protocol but for one parameter. Noise and streaks are drawn anew, as on the next day. What the perfect
reader marks there is the reference.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np

from apatite.core.config import load
from apatite.core.errors import ApatiteError, DataError
from apatite.core.rng import generator
from apatite.core.scan import Scan, SliceStack
from apatite.ct.degrade.degradation import Degradation
from apatite.ct.degrade.registry import DEGRADATIONS
from apatite.io.manifest import Case, Manifest
from apatite.phantom.cohort import PRESETS, VERSION, CohortConfig, Series, draw_patient, make_series
from apatite.phantom.density import Tissue, fill_tissue
from apatite.phantom.protocol import VENDORS, Protocol
from apatite.phantom.scanner import Acquisition, acquire, lay_slices, make_pose

SAME_HU: Final = 0.05
"""Mean difference below which a scan counts as the one that was made again."""
_FWHM = 2.3548
"""Full width at half maximum of a Gaussian of SD 1."""
_CASE_ID = re.compile(r"p(\d+)-s(\d+)")


@dataclass(frozen=True, kw_only=True)
class Tilt(Degradation):
    """The gantry tilted by `level` degrees."""

    what: ClassVar[str] = "a tilted gantry"
    unit: ClassVar[str] = "°"
    axis: ClassVar[str] = "gantry tilt"
    levels: ClassVar[tuple[float, ...]] = (-10.0, 10.0, 20.0)
    limits: ClassVar[tuple[float, float]] = (-30.0, 30.0)
    is_two_sided: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Turn(Degradation):
    """The head nodding by `level` degrees more."""

    what: ClassVar[str] = "the head turned about the left-right axis"
    unit: ClassVar[str] = "°"
    axis: ClassVar[str] = "nod of the head"
    levels: ClassVar[tuple[float, ...]] = (-20.0, -10.0, 10.0, 20.0)
    limits: ClassVar[tuple[float, float]] = (-45.0, 45.0)
    is_two_sided: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class OtherVendor(Degradation):
    """Scanned as the vendor with number `level` (from 1) of `phantom.protocol.VENDORS` scans."""

    what: ClassVar[str] = "another vendor's kernel, noise and calibration"
    axis: ClassVar[str] = "vendor"
    levels: ClassVar[tuple[float, ...]] = tuple(float(number + 1) for number in range(len(VENDORS)))
    limits: ClassVar[tuple[float, float]] = (1.0, float(len(VENDORS)))
    is_ordered: ClassVar[bool] = False

    @property
    def text(self) -> str:
        """The vendor's name."""
        return list(VENDORS)[int(self.level) - 1]


RESCANS: Final[dict[str, type[Degradation]]] = {**DEGRADATIONS, "tilt": Tilt, "turn": Turn, "vendor": OtherVendor}
"""By name: what can be changed when a phantom is scanned again."""


def _thicker(protocol: Protocol, level: float) -> Protocol:
    noise_hu = protocol.noise_hu * math.sqrt(protocol.thickness_mm / level)
    return replace(protocol, thickness_mm=level, spacing_mm=level, noise_hu=noise_hu)


def _turned(protocol: Protocol, level: float) -> Protocol:
    nod, tip, turn = protocol.turn_deg
    return replace(protocol, turn_deg=(nod + level, tip, turn))


CHANGES: Final[dict[str, Callable[[Protocol, float], Protocol]]] = {
    "thickness": _thicker,
    "noise": lambda protocol, level: replace(protocol, noise_hu=math.hypot(protocol.noise_hu, level)),
    "blur": lambda protocol, level: replace(protocol, fwhm_mm=math.hypot(protocol.fwhm_mm, _FWHM * level)),
    "sharpen": lambda protocol, level: replace(protocol, overshoot=protocol.overshoot + level),
    "offset": lambda protocol, level: replace(protocol, offset_hu=protocol.offset_hu + level),
    "pose": lambda protocol, _level: protocol,
    "tilt": lambda protocol, level: replace(protocol, tilt_deg=level),
    "turn": _turned,
    "vendor": lambda protocol, level: as_vendor(protocol, list(VENDORS)[int(level) - 1]),
}
"""By name: the protocol with that one thing changed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Phantom:
    """A scan of a phantom, and the patient who can be scanned again.

    Attributes:
        config: The cohort.
        number: Of the patient.
        series_number: Of the scan, from 1.
        series: The scan as it was made.
        tissue: The patient.
    """

    config: CohortConfig
    number: int
    series_number: int
    series: Series
    tissue: Tissue


def find_phantom(manifest: Manifest, case: Case, scan: Scan) -> Phantom:
    """Draw the patient of a case again.

    Args:
        manifest: Where the case's truth lies; its cohort's `cohort.json` lies one folder above.
        case: Of a cohort of the parasellar phantom.
        scan: Its slices; they have to be those that are made again.

    Raises:
        DataError: it is no such phantom, or one of another version.
    """
    path = manifest.truth_path(case)
    try:
        if path is None:
            raise ValueError("no truth")
        truth = json.loads(path.read_text(encoding="utf-8"))
        about = json.loads((path.parent.parent / "cohort.json").read_text(encoding="utf-8"))
        found = _CASE_ID.fullmatch(truth["case_id"])
        if about["version"] != VERSION or found is None:
            raise ValueError("another phantom")
        config = load(CohortConfig, about["config"], "cohort.json")
    except (OSError, ValueError, KeyError, TypeError, ApatiteError) as error:
        raise _no_phantom(case) from error
    number, series_number = int(found[1]), int(found[2])
    patient = draw_patient(config, number)
    tissue = fill_tissue(patient.anatomy, PRESETS[config.preset].step_mm)
    series = make_series(config, patient, tissue, series_number)
    if not _is_same(series.acquisition.scan, scan):
        raise _no_phantom(case)
    return Phantom(config=config, number=number, series_number=series_number, series=series, tissue=tissue)


def scan_again(phantom: Phantom, name: str, degradation: Degradation) -> Acquisition:
    """Scan a patient once more with one thing changed.

    Args:
        phantom: The patient, and how the first scan was made.
        name: In `CHANGES`.
        degradation: The level; its slices are used, so that degrading and scanning again can be compared voxel by
            voxel. Only a tilt lays slices of its own.
    """
    first = phantom.series
    protocol = CHANGES[name](first.protocol, degradation.level)
    stack = _slices(phantom, name, protocol, degradation)
    rng = generator(phantom.config.seed, VERSION, "again", phantom.number, phantom.series_number)
    return acquire(phantom.tissue, make_pose(protocol, first.pose.shift_mm), protocol, stack, rng)


def as_vendor(protocol: Protocol, name: str) -> Protocol:
    """The same slices and pixels with another vendor's kernel, noise, grain and offset, each at the same place in its
    range as before.
    """
    own, other = VENDORS[protocol.vendor], VENDORS[name]
    is_bone = protocol.kernel_class == "bone"
    before, after = (own.bone_fwhm_mm, other.bone_fwhm_mm) if is_bone else (own.soft_fwhm_mm, other.soft_fwhm_mm)
    place = (protocol.fwhm_mm - before[0]) / (before[1] - before[0])
    noisier = 1.0 if is_bone else sum(other.noise_hu) / sum(own.noise_hu)
    return replace(
        protocol,
        vendor=name,
        scanner_model=f"{name} 1",
        fwhm_mm=after[0] + place * (after[1] - after[0]),
        overshoot=other.overshoot if is_bone else 0.0,
        noise_hu=protocol.noise_hu * noisier,
        grain_mm=other.grain_mm * (0.5 if is_bone else 1.0),
        offset_hu=protocol.offset_hu - own.offset_hu + other.offset_hu,
    )


def _slices(phantom: Phantom, name: str, protocol: Protocol, degradation: Degradation) -> SliceStack:
    if name == "tilt":
        return lay_slices(protocol, phantom.series.region.centre_ras_mm, 0.5)
    return degradation.slices(phantom.series.acquisition.scan.stack)


def _is_same(one: Scan, other: Scan) -> bool:
    """Whether two scans agree but for the rounding of another processor."""
    if one.stack.shape != other.stack.shape:
        return False
    return float(np.abs(one.voxels_hu.astype(np.float32) - other.voxels_hu).mean()) < SAME_HU


def _no_phantom(case: Case) -> DataError:
    return DataError(
        f"is no scan of the phantom {VERSION} that could be made again",
        where=case.case_id,
        fix="use a cohort of `apatite phantom` of this version, or degrade the scans instead",
    )
