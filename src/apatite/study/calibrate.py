"""Choose the decision threshold, and freeze the burden groups, on the development split.

Volumes are counted on the original slices, gated by 130 HU and ungated, and a threshold is chosen for each reading:
a model that is read with the gate needs another threshold than one read without.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from apatite.calcium.burden import BurdenCuts, deployed_cuts
from apatite.calcium.measure import slice_weights_mm
from apatite.calibrate.calibration import Calibration
from apatite.calibrate.readings import calcium_label, gate_of, readings_of
from apatite.calibrate.threshold import (
    MIN_CASES,
    THRESHOLDS,
    Objective,
    ThresholdFit,
    fit_threshold,
    volume_curve,
)
from apatite.core.errors import DataError
from apatite.core.watch import Watch, unwatched
from apatite.io.manifest import Case, Manifest
from apatite.study.cases import CasePredictor, PredictedCase, predict_cases

TOO_FEW = "TOO_FEW_CASES"


@dataclass(frozen=True, kw_only=True)
class CalibrateConfig:
    """How a calibration is done.

    Attributes:
        objective: `mae`, `bias0` or `log_mae`: what to make small on development.
        drop_empty_cases: Leave out cases without the label, as the paper does.
        resamples: Resamples of patients, for the spread of the threshold.
        seed: Of those.
    """

    objective: Objective = "mae"
    drop_empty_cases: bool = False
    resamples: int = 1000
    seed: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """Volumes of one label in one reading on development cases, at every threshold and by the reference.

    Attributes:
        curves_mm3: `cases thresholds`, at `calibrate.threshold.THRESHOLDS`.
        reference_mm3: One per case.
        patients: One per case.
    """

    curves_mm3: np.ndarray
    reference_mm3: np.ndarray
    patients: list[str]

    @property
    def error_mm3(self) -> np.ndarray:
        """Mean |ΔV| at every threshold."""
        return np.abs(self.curves_mm3 - self.reference_mm3[:, None]).mean(axis=0)

    @classmethod
    def of(cls, entries: Sequence[tuple[np.ndarray, float, str]]) -> "Curves":
        """Collect the cases' curves, references and patients."""
        return cls(
            curves_mm3=np.stack([curve for curve, _, _ in entries]),
            reference_mm3=np.array([reference for _, reference, _ in entries]),
            patients=[patient for _, _, patient in entries],
        )

    def without_empty(self) -> "Curves":
        """Only the cases in which the reference marks something."""
        rows = np.flatnonzero(self.reference_mm3 > 0)
        return Curves(
            curves_mm3=self.curves_mm3[rows],
            reference_mm3=self.reference_mm3[rows],
            patients=[self.patients[row] for row in rows],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Development:
    """What a model says of the development cases.

    Attributes:
        curves: By label value and reading.
        two_voxels_mm3: Median volume of two original voxels.
        label_names: Of the data.
        num_cases: Development cases.
        domains: Where those come from.
    """

    curves: Mapping[tuple[int, str], Curves]
    two_voxels_mm3: float
    label_names: Mapping[int, str]
    num_cases: int
    domains: list[str]


def calibrate(
    predictor: CasePredictor,
    manifest: Manifest,
    cases: Sequence[Case],
    config: CalibrateConfig,
    watch: Watch = unwatched,
) -> Calibration:
    """Calibrate a model on development cases: `measure`, then `choose`.

    Args:
        predictor: The model.
        manifest: Where the cases' files are.
        cases: The labelled development cases.
        config: How.
        watch: Shows progress.

    Raises:
        DataError: there are too few cases for every label (`TOO_FEW_CASES`), or one cannot be read.
    """
    return choose(measure(predictor, manifest, cases, watch), config)


def measure(
    predictor: CasePredictor, manifest: Manifest, cases: Sequence[Case], watch: Watch = unwatched
) -> Development:
    """Volumes of the development cases at every threshold, gated and ungated.

    Raises:
        DataError: there is no case (`EMPTY_SPLIT`), or one cannot be read.
    """
    if not cases:
        raise DataError(
            "the development split holds no labelled case",
            where=str(manifest.root),
            fix="index with a development split",
            code="EMPTY_SPLIT",
        )
    rows: dict[tuple[int, str], list[tuple[np.ndarray, float, str]]] = {}
    two_voxels_mm3 = []
    names = manifest.label_names
    for found in predict_cases(predictor, manifest, cases, "calibrating", watch):
        two_voxels_mm3.append(2 * float(np.median(slice_weights_mm(found.scan.stack))) * found.scan.stack.pixel_mm2)
        for plane, label in enumerate(found.prediction.label_values):
            if label in found.annotated:
                for reading in readings_of(names):
                    curve = _curve(found, plane, label, gate_of(label, reading, names))
                    rows.setdefault((label, reading), []).append(curve)
    return Development(
        curves={key: Curves.of(entries) for key, entries in rows.items()},
        two_voxels_mm3=float(np.median(two_voxels_mm3)),
        label_names=names,
        num_cases=len(cases),
        domains=sorted({case.domain for case in cases}),
    )


def choose(development: Development, config: CalibrateConfig) -> Calibration:
    """Choose a threshold for each label and reading, and freeze the burden groups.

    A label with too few cases gets no threshold of its own (it is read at 0.5), and with too few detectable volumes
    there are no burden groups.

    Raises:
        DataError: there are too few cases for every label (`TOO_FEW_CASES`).
    """
    fits: dict[int, dict[str, ThresholdFit]] = {}
    burden: dict[str, BurdenCuts] = {}
    for (label, reading), curves in development.curves.items():
        fit = _fit(curves, config)
        if fit is None:
            continue
        fits.setdefault(label, {})[reading] = fit
        if label == calcium_label(development.label_names):
            cuts = _burden(curves, fit, development.two_voxels_mm3)
            burden |= {} if cuts is None else {reading: cuts}
    if not fits:
        raise DataError(
            f"{development.num_cases} development cases are too few for a threshold of any label",
            fix=f"annotate each label in at least {MIN_CASES} development cases, or keep the empty ones",
            code=TOO_FEW,
        )
    return Calibration(fits=fits, burden=burden, num_cases=development.num_cases, domains=development.domains)


def _curve(found: PredictedCase, plane: int, label: int, gate: float | None) -> tuple[np.ndarray, float, str]:
    """Predicted volume at every threshold, reference volume, patient."""
    stack = found.scan.stack
    voxel_mm3 = slice_weights_mm(stack) * stack.pixel_mm2
    is_counted = found.prediction.is_counted
    may_count = is_counted if gate is None else is_counted & (found.scan.voxels_hu >= gate)
    curve = volume_curve(found.prediction.probability[plane], voxel_mm3, may_count)
    reference = (found.is_reference(label) & is_counted).sum(axis=(1, 2)) @ voxel_mm3
    return curve, float(reference), found.case.patient_id


def _fit(curves: Curves, config: CalibrateConfig) -> ThresholdFit | None:
    """The threshold of one label in one reading; `None` with too few cases."""
    used = curves.without_empty() if config.drop_empty_cases else curves
    if len(used.patients) < MIN_CASES:
        return None
    return fit_threshold(
        used.curves_mm3, used.reference_mm3, used.patients, config.objective, config.resamples, config.seed
    )


def _burden(curves: Curves, fit: ThresholdFit, two_voxels_mm3: float) -> BurdenCuts | None:
    """Frozen groups; `None` where too few development volumes are detectable."""
    at = int(np.argmin(np.abs(THRESHOLDS - fit.threshold)))
    false_mm3 = curves.curves_mm3[curves.reference_mm3 == 0, at]
    try:
        return deployed_cuts(curves.reference_mm3, false_mm3, two_voxels_mm3)
    except DataError as error:
        if error.code != TOO_FEW:
            raise
        return None
