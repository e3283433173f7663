"""Choose thresholds, temperatures and intervals, and freeze the burden groups, on the development split.

A threshold is chosen for each reading: a model that is read with the 130-HU gate needs another one than one read
without. The patients are divided first: an interval promises something only if it is fitted on patients that had no
part in choosing threshold and temperature.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from apatite.calcium.burden import BurdenCuts, deployed_cuts
from apatite.calibrate.calibration import Calibration
from apatite.calibrate.interval import IntervalFit, IntervalFitConfig, fit_interval
from apatite.calibrate.readings import calcium_label, readings_of
from apatite.calibrate.temperature import TemperatureFit, fit_temperature
from apatite.calibrate.thickness import THICKNESS_GROUPS, thickness_group
from apatite.calibrate.threshold import MIN_CASES, THRESHOLDS, Objective, ThresholdFit, fit_threshold
from apatite.core.errors import ConfigError, DataError
from apatite.core.rng import generator
from apatite.core.watch import Watch, unwatched
from apatite.io.manifest import Case, Manifest
from apatite.study.cases import CasePredictor
from apatite.study.development import Curves, Development, measure

TOO_FEW = "TOO_FEW_CASES"


@dataclass(frozen=True, kw_only=True)
class CalibrateConfig:
    """How a calibration is done.

    Attributes:
        objective: `mae`, `bias0` or `log_mae`: what to make small on development.
        drop_empty_cases: Leave out cases without the label when the threshold is chosen, as the paper does.
        resamples: Resamples of patients, for the spread of threshold and temperature.
        seed: Of those, and of the division of the patients.
        fits_temperature: Whether probabilities are calibrated.
        interval_share: Share of the patients that is kept apart for the interval; 0 for none.
        interval: How the interval is fitted.
    """

    objective: Objective = "mae"
    drop_empty_cases: bool = False
    resamples: int = 1000
    seed: int = 0
    fits_temperature: bool = True
    interval_share: float = 0.5
    interval: IntervalFitConfig = field(default_factory=IntervalFitConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.interval_share < 1:
            raise ConfigError(
                f"an interval share of {self.interval_share} is not between 0 and 1",
                fix="use 0.5, or 0 for no interval",
            )

    @property
    def least_patients(self) -> int:
        """Fewer patients give no interval, whatever their errors: ⌈(n + 1) · coverage⌉ would exceed n."""
        coverage = self.interval.coverage if self.interval.sides == "symmetric" else (1 + self.interval.coverage) / 2
        # 0.9 / (1 − 0.9) is a little more than 9.
        return math.ceil(coverage / (1 - coverage) - 1e-9)


def calibrate(
    predictor: CasePredictor,
    manifest: Manifest,
    cases: Sequence[Case],
    config: CalibrateConfig,
    watch: Watch = unwatched,
    model_digest: str = "",
) -> Calibration:
    """Calibrate a model on development cases: `measure`, then `choose`.

    Args:
        predictor: The model.
        manifest: Where the cases' files are.
        cases: The labelled development cases.
        config: How.
        watch: Shows progress.
        model_digest: Names the model; kept in the calibration.

    Raises:
        DataError: there are too few cases for every label (`TOO_FEW_CASES`), or one cannot be read.
    """
    return choose(measure(predictor, manifest, cases, watch, model_digest), config)


def choose(development: Development, config: CalibrateConfig) -> Calibration:
    """Choose thresholds and temperatures on one part of the patients, fit the interval on the other.

    A label with too few cases gets no threshold of its own (it is read at 0.5) and no temperature; with too few
    detectable volumes there are no burden groups. The groups are ranks among all development volumes.

    Raises:
        DataError: there are too few cases for every label (`TOO_FEW_CASES`).
    """
    fitting, apart = divide(development, config)
    fits: dict[int, dict[str, ThresholdFit]] = {}
    burden: dict[str, BurdenCuts] = {}
    for (label, reading), curves in fitting.curves.items():
        fit = _threshold(curves, config)
        if fit is None:
            continue
        fits.setdefault(label, {})[reading] = fit
        if label == calcium_label(development.label_names):
            cuts = _burden(development.curves[label, reading], fit, development.two_voxels_mm3)
            burden |= {} if cuts is None else {reading: cuts}
    if not fits:
        raise DataError(
            f"{development.num_cases} development cases are too few for a threshold of any label",
            fix=f"annotate each label in at least {MIN_CASES} development cases, or keep the empty ones",
            code=TOO_FEW,
        )
    return Calibration(
        fits=fits,
        burden=burden,
        num_cases=development.num_cases,
        domains=development.domains,
        temperatures=_temperatures(fitting, config) if config.fits_temperature else {},
        intervals={} if apart is None else _intervals(apart, fits, config),
        model_digest=development.model_digest,
        data_digest=development.data_digest,
    )


def divide(development: Development, config: CalibrateConfig) -> tuple[Development, Development | None]:
    """The part that chooses threshold and temperature, and the part that the interval is fitted on.

    Patients are divided, never the series of one; within each group of slice thickness at random, so that both parts
    hold every thickness. There is no second part, and the first is everything, where no label is calcium, where none
    is wanted, or where it would give no interval: fewer than `least_patients` remain to choose the threshold, or no
    group of thickness has as many put aside.
    """
    apart = _patients_apart(development, config)
    others = set(development.patients) - apart
    largest = _largest_group(development.of_patients(apart), config)
    if calcium_label(development.label_names) is None or min(largest, len(others)) < config.least_patients:
        return development, None
    return development.of_patients(others), development.of_patients(apart)


def _largest_group(apart: Development, config: CalibrateConfig) -> int:
    """Patients of the thickness group that has most; all of them where groups may be joined."""
    if config.interval.merge != "none":
        return len(set(apart.patients))
    names = [thickness_group(mm) for mm in apart.thickness_mm]
    groups = [{p for p, at in zip(apart.patients, names, strict=True) if at == name} for name in THICKNESS_GROUPS]
    return max(map(len, groups))


def _patients_apart(development: Development, config: CalibrateConfig) -> set[str]:
    thickness = dict(zip(reversed(development.patients), reversed(development.thickness_mm), strict=True))
    ordered: list[str] = []
    for group in (*THICKNESS_GROUPS, ""):
        names = sorted(patient for patient, mm in thickness.items() if thickness_group(mm) == group)
        generator(config.seed, "interval part", group).shuffle(names)
        ordered += names
    # Every time that the running share passes a whole number, a patient is put aside.
    passed = [math.floor(number * config.interval_share) for number in range(len(ordered) + 1)]
    return {name for number, name in enumerate(ordered) if passed[number + 1] > passed[number]}


def _threshold(curves: Curves, config: CalibrateConfig) -> ThresholdFit | None:
    """The threshold of one label in one reading; `None` with too few cases."""
    used = curves.without_empty() if config.drop_empty_cases else curves
    if len(set(used.patients)) < MIN_CASES:
        return None
    return fit_threshold(
        used.curves_mm3, used.reference_mm3, used.patients, config.objective, config.resamples, config.seed
    )


def _temperatures(fitting: Development, config: CalibrateConfig) -> dict[int, TemperatureFit]:
    """The temperature of each label that has enough cases."""
    found: dict[int, TemperatureFit] = {}
    for label, logits in fitting.logits.items():
        try:
            found[label] = fit_temperature(
                logits.histograms, logits.patients, logits.thickness_mm, config.resamples, config.seed
            )
        except DataError as error:
            if error.code != TOO_FEW:
                raise
    return found


def _intervals(
    apart: Development, fits: dict[int, dict[str, ThresholdFit]], config: CalibrateConfig
) -> dict[str, IntervalFit]:
    """The interval on the volume of calcium in each reading, at the threshold that the other patients chose."""
    label = calcium_label(apart.label_names)
    found: dict[str, IntervalFit] = {}
    for reading in readings_of(apart.label_names):
        curves = None if label is None else apart.curves.get((label, reading))
        fit = None if label is None else fits.get(label, {}).get(reading)
        if curves is not None and fit is not None:
            found[reading] = fit_interval(
                _at(curves, fit), curves.reference_mm3, curves.patients, curves.thickness_mm, config.interval
            )
    return found


def _at(curves: Curves, fit: ThresholdFit) -> np.ndarray:
    """Volumes at the chosen threshold, which is one of the candidates."""
    return curves.curves_mm3[:, int(np.argmin(np.abs(THRESHOLDS - fit.threshold)))]


def _burden(curves: Curves, fit: ThresholdFit, two_voxels_mm3: float) -> BurdenCuts | None:
    """Frozen groups; `None` where too few development volumes are detectable."""
    false_mm3 = _at(curves, fit)[curves.reference_mm3 == 0]
    try:
        return deployed_cuts(curves.reference_mm3, false_mm3, two_voxels_mm3)
    except DataError as error:
        if error.code != TOO_FEW:
            raise
        return None
