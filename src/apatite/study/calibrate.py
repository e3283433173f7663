"""Choose the decision threshold, and freeze the burden groups, on the development split.

Volumes are counted on the original slices, gated by 130 HU and ungated, and a threshold is chosen for each reading:
a model that is read with the gate needs another threshold than one read without.
"""

from collections.abc import Sequence
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
from apatite.segment.predict import Predictor
from apatite.study.cases import PredictedCase, predict_cases

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
class _Curves:
    """Volumes of one label in one reading, at every threshold and by the reference."""

    curves_mm3: np.ndarray
    reference_mm3: np.ndarray
    patients: list[str]

    @classmethod
    def of(cls, entries: Sequence[tuple[np.ndarray, float, str]]) -> "_Curves":
        return cls(
            curves_mm3=np.stack([curve for curve, _, _ in entries]),
            reference_mm3=np.array([reference for _, reference, _ in entries]),
            patients=[patient for _, _, patient in entries],
        )

    def without_empty(self) -> "_Curves":
        rows = np.flatnonzero(self.reference_mm3 > 0)
        return _Curves(
            curves_mm3=self.curves_mm3[rows],
            reference_mm3=self.reference_mm3[rows],
            patients=[self.patients[row] for row in rows],
        )


def calibrate(
    predictor: Predictor, manifest: Manifest, cases: Sequence[Case], config: CalibrateConfig, watch: Watch = unwatched
) -> Calibration:
    """Calibrate a model on development cases.

    A label with too few cases gets no threshold of its own (it is read at 0.5), and with too few detectable volumes
    there are no burden groups.

    Args:
        predictor: The model.
        manifest: Where the cases' files are.
        cases: The labelled development cases.
        config: How.
        watch: Shows progress.

    Raises:
        DataError: there are too few cases for every label (`TOO_FEW_CASES`), or one cannot be read.
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
    fits: dict[int, dict[str, ThresholdFit]] = {}
    burden: dict[str, BurdenCuts] = {}
    for (label, reading), entries in rows.items():
        curves = _Curves.of(entries)
        fit = _fit(curves, config)
        if fit is None:
            continue
        fits.setdefault(label, {})[reading] = fit
        cuts = _burden(curves, fit, float(np.median(two_voxels_mm3))) if label == calcium_label(names) else None
        burden |= {} if cuts is None else {reading: cuts}
    if not fits:
        raise DataError(
            f"{len(cases)} development cases are too few for a threshold of any label",
            where=str(manifest.root),
            fix=f"annotate each label in at least {MIN_CASES} development cases, or keep the empty ones",
            code=TOO_FEW,
        )
    domains = sorted({case.domain for case in cases})
    return Calibration(fits=fits, burden=burden, num_cases=len(cases), domains=domains)


def _curve(found: PredictedCase, plane: int, label: int, gate: float | None) -> tuple[np.ndarray, float, str]:
    """Predicted volume at every threshold, reference volume, patient."""
    stack = found.scan.stack
    voxel_mm3 = slice_weights_mm(stack) * stack.pixel_mm2
    is_counted = found.prediction.is_counted
    may_count = is_counted if gate is None else is_counted & (found.scan.voxels_hu >= gate)
    curve = volume_curve(found.prediction.probability[plane], voxel_mm3, may_count)
    reference = (found.is_reference(label) & is_counted).sum(axis=(1, 2)) @ voxel_mm3
    return curve, float(reference), found.case.patient_id


def _fit(curves: _Curves, config: CalibrateConfig) -> ThresholdFit | None:
    """The threshold of one label in one reading; `None` with too few cases."""
    used = curves.without_empty() if config.drop_empty_cases else curves
    if len(used.patients) < MIN_CASES:
        return None
    return fit_threshold(
        used.curves_mm3, used.reference_mm3, used.patients, config.objective, config.resamples, config.seed
    )


def _burden(curves: _Curves, fit: ThresholdFit, two_voxels_mm3: float) -> BurdenCuts | None:
    """Frozen groups; `None` where too few development volumes are detectable."""
    at = int(np.argmin(np.abs(THRESHOLDS - fit.threshold)))
    false_mm3 = curves.curves_mm3[curves.reference_mm3 == 0, at]
    try:
        return deployed_cuts(curves.reference_mm3, false_mm3, two_voxels_mm3)
    except DataError as error:
        if error.code != TOO_FEW:
            raise
        return None
