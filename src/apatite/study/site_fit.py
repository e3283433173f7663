"""All that is fitted for a new site on a few of its cases: threshold, temperature, interval and bias line.

Twenty to forty cases are too few to keep half of them apart for the interval. So every patient's volume is predicted at
a threshold that was chosen without that patient, and the distances of these volumes make the interval; the same volumes
make the bias line.

Source: Vovk 2015 (doi 10.1007/s10472-013-9368-4), cross-conformal prediction; Barber et al. 2021 (doi
10.1214/20-AOS1965), who show what such an interval can promise.
Differs: a new volume is read at the one threshold that all patients chose, not at those of the folds as in their CV+.
So 1 − α is no guarantee any more; it is reached where leaving patients out hardly moves the threshold, and how far it
moves is reported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from apatite.calibrate.bias_line import BiasLine, fit_bias_line
from apatite.calibrate.calibration import UNCALIBRATED_THRESHOLD, Calibration
from apatite.calibrate.interval import IntervalFit, IntervalFitConfig, fit_interval
from apatite.calibrate.readings import calcium_label
from apatite.calibrate.thickness import THICKNESS_GROUPS, thickness_group
from apatite.calibrate.threshold import THRESHOLDS, Objective
from apatite.core.errors import ConfigError
from apatite.core.rng import generator
from apatite.study.calibrate import CalibrateConfig, choose
from apatite.study.development import Curves, Development

Key = tuple[int, str]
"""Label value and reading."""
LEAST_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class RecalibrateConfig:
    """How a model is fitted to a site.

    Attributes:
        objective: What the threshold makes small, as in `CalibrateConfig`.
        keeps_threshold: Leave the model's threshold; only temperature, interval and line are the site's.
        folds: Into how many parts the patients are divided, to judge each by a fit on the others.
        seed: Of the division and of resamples.
        resamples: Of patients, for the spread of threshold and temperature.
        interval: Coverage, and what becomes of a slice thickness with too few patients.
    """

    objective: Objective = "mae"
    keeps_threshold: bool = False
    folds: int = 5
    seed: int = 0
    resamples: int = 1000
    interval: IntervalFitConfig = field(default_factory=lambda: IntervalFitConfig(merge="neighbours"))

    def __post_init__(self) -> None:
        # Folds within folds: with four of them, ten patients leave five or six to choose a threshold on, or fewer.
        if self.folds < LEAST_FOLDS:
            raise ConfigError(f"{self.folds} folds leave too few patients to fit on", fix=f"use at least {LEAST_FOLDS}")


@dataclass(frozen=True, kw_only=True, eq=False)
class SiteFit:
    """What was fitted.

    Attributes:
        calibration: For the model's package.
        lines: By label value and reading; not applied to anything.
    """

    calibration: Calibration
    lines: Mapping[Key, BiasLine]


def fit_site(development: Development, old: Calibration | None, config: RecalibrateConfig) -> SiteFit:
    """Fit everything on some patients of a site.

    Burden groups stay as they were, where the model has any: they are ranks in a reference cohort, not at a site.

    Args:
        development: What the model says of the site's cases.
        old: The model's calibration before, or none.
        config: How.

    Raises:
        DataError: there are too few cases for every label (`TOO_FEW_CASES`).
    """
    chosen = _decide(development, old, config, is_final=True)
    volumes = volumes_without_own(development, old, config)
    lines = {key: fit_bias_line(found, development.curves[key].reference_mm3) for key, found in volumes.items()}
    calibration = replace(
        chosen,
        intervals=_intervals(development, volumes, config.interval),
        burden=old.burden if old is not None and old.burden else chosen.burden,
    )
    return SiteFit(calibration=calibration, lines=lines)


def folds_of(
    patients: Sequence[str], thickness_mm: Sequence[float | None], folds: int, seed: int
) -> tuple[frozenset[str], ...]:
    """Divide patients at random into parts that hold every slice thickness alike; never more parts than patients."""
    thickness = dict(zip(reversed(patients), reversed(thickness_mm), strict=True))
    ordered: list[str] = []
    for group in (*THICKNESS_GROUPS, ""):
        names = sorted(patient for patient, mm in thickness.items() if thickness_group(mm) == group)
        generator(seed, "site folds", group).shuffle(names)
        ordered += names
    count = min(folds, len(ordered))
    return tuple(frozenset(ordered[first::count]) for first in range(count))


def volumes_without_own(
    development: Development, old: Calibration | None, config: RecalibrateConfig
) -> dict[Key, Float64[np.ndarray, "cases"]]:
    """Every case's volume at a threshold that was chosen without its patient."""
    volumes = {key: np.zeros(len(curves.patients)) for key, curves in development.curves.items()}
    for fold in folds_of(development.patients, development.thickness_mm, config.folds, config.seed):
        others = development.of_patients(set(development.patients) - fold)
        calibration = _decide(others, old, config, is_final=False)
        for key, curves in development.curves.items():
            is_own = np.array([patient in fold for patient in curves.patients])
            volumes[key][is_own] = volumes_at(curves, calibration.threshold(*key))[is_own]
    return volumes


def volumes_at(curves: Curves, threshold: float) -> Float64[np.ndarray, "cases"]:
    """The cases' volumes at one of the candidate thresholds."""
    return curves.curves_mm3[:, int(np.argmin(np.abs(THRESHOLDS - threshold)))]


def threshold_before(old: Calibration | None, key: Key) -> float:
    """The threshold that a model came with."""
    return UNCALIBRATED_THRESHOLD if old is None else old.threshold(*key)


def site_json(site: SiteFit) -> dict[str, Any]:
    """The fit as plain values; the calibration as in a model card."""
    lines = [
        {"label": label, "reading": reading, "slope": line.slope, "intercept": line.intercept, "cases": line.num_cases}
        for (label, reading), line in site.lines.items()
    ]
    return {"calibration": site.calibration.to_dict(), "bias_lines": lines}


def _decide(
    development: Development, old: Calibration | None, config: RecalibrateConfig, *, is_final: bool
) -> Calibration:
    """Threshold and temperature of some patients; the old threshold where it is to stay."""
    settings = CalibrateConfig(
        objective=config.objective,
        resamples=config.resamples if is_final else 0,
        seed=config.seed,
        fits_temperature=is_final,
        interval_share=0.0,
    )
    chosen = choose(development, settings)
    return replace(chosen, fits={} if old is None else old.fits) if config.keeps_threshold else chosen


def _intervals(
    development: Development, volumes: Mapping[Key, np.ndarray], config: IntervalFitConfig
) -> dict[str, IntervalFit]:
    """The interval on the volume of calcium in each reading, where at least one thickness has enough patients."""
    label = calcium_label(development.label_names)
    found: dict[str, IntervalFit] = {}
    for (value, reading), predicted_mm3 in volumes.items():
        curves = development.curves[value, reading]
        if value == label:
            fit = fit_interval(predicted_mm3, curves.reference_mm3, curves.patients, curves.thickness_mm, config)
            found |= {reading: fit} if any(group.above is not None for group in fit.groups.values()) else {}
    return found
