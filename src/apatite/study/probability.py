"""What a model's probabilities are worth on the cases under evaluation, before and after its temperature.

The histograms are collected while the cases are judged, so the reliability that is shown is that of these cases and not
of those on which the temperature was fitted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool

from apatite.calcium.measure import slice_weights_mm
from apatite.calibrate.calibration import Calibration
from apatite.calibrate.logit_histogram import LogitHistogram, could_be_label, lesion_band, logit_histogram
from apatite.calibrate.readings import calcium_label, gate_of
from apatite.calibrate.reliability import Reliability, ScoreConfig, reliability
from apatite.calibrate.soft_volume import SoftAgreement, soft_agreement
from apatite.calibrate.temperature import TemperatureFit
from apatite.study.cases import PredictedCase
from apatite.study.intervals import STANDARD, IntervalConfig
from apatite.study.outcomes import CaseOutcome


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelProbability:
    """The probabilities of one label of a calibrated model.

    Attributes:
        fit: The temperature, from development.
        before: Reliability of the probabilities as the model gives them.
        after: Reliability after the temperature.
        soft: By HU gate: annotated against soft volume.
    """

    fit: TemperatureFit
    before: Reliability
    after: Reliability
    soft: Mapping[float | None, SoftAgreement]


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelProbability:
    """What is known of a calibrated model's probabilities and intervals.

    Attributes:
        labels: By label value; only labels that have a temperature.
        promised: Coverage of its intervals on the volume; `None` where it has none.
    """

    labels: Mapping[int, LabelProbability]
    promised: float | None


@dataclass(kw_only=True, eq=False)
class ProbabilityRecord:
    """Collects histograms while a model's cases pass by; give its `see` to `judge`.

    Attributes:
        calibration: Of the model, or none; nothing is collected for labels that have no temperature.
        label_names: Of the data.
        seen: By label value: histogram, patient and slice thickness of each case.
    """

    calibration: Calibration | None
    label_names: Mapping[int, str]
    seen: dict[int, list[tuple[LogitHistogram, str, float | None]]] = field(default_factory=dict)

    def see(self, found: PredictedCase) -> None:
        """Keep what is needed of one case: some kilobytes per label."""
        for plane, label in enumerate(found.prediction.label_values):
            if label in found.annotated and label in self._temperatures:
                histogram = histogram_of(found, plane, self.label_names)
                case = found.case
                self.seen.setdefault(label, []).append((histogram, case.patient_id, case.slice_thickness_mm))

    def findings(self, outcomes: Sequence[CaseOutcome], config: IntervalConfig = STANDARD) -> ModelProbability:
        """Judge the probabilities of all cases seen.

        Args:
            outcomes: The calibrated model's rows on these cases; their soft volumes are compared.
            config: How intervals are computed.
        """
        labels = {
            label: self._of_label(label, [row for row in outcomes if row.label == label], config)
            for label, entries in self.seen.items()
            if any(histogram.num_voxels for histogram, _, _ in entries)
        }
        intervals = [] if self.calibration is None else list(self.calibration.intervals.values())
        return ModelProbability(labels=labels, promised=intervals[0].coverage if intervals else None)

    @property
    def _temperatures(self) -> Mapping[int, TemperatureFit]:
        return {} if self.calibration is None else self.calibration.temperatures

    def _of_label(self, label: int, rows: Sequence[CaseOutcome], config: IntervalConfig) -> LabelProbability:
        fit, entries = self._temperatures[label], self.seen[label]
        histograms = [histogram for histogram, _, _ in entries]
        patients = [patient for _, patient, _ in entries]
        score = ScoreConfig(
            resamples=config.resamples, method=config.method, coverage=config.coverage, seed=config.seed
        )
        scales = [fit.scale(thickness_mm) for _, _, thickness_mm in entries]
        return LabelProbability(
            fit=fit,
            before=reliability(histograms, patients, [1.0] * len(entries), score),
            after=reliability(histograms, patients, scales, score),
            soft=_soft(rows, score),
        )


def histogram_of(found: PredictedCase, plane: int, label_names: Mapping[int, str]) -> LogitHistogram:
    """The histogram of one label of a predicted case, on its original slices.

    Args:
        found: The case.
        plane: Of the label in the prediction.
        label_names: Tells which label is calcium, whose voxels are bright.
    """
    label, stack = found.prediction.label_values[plane], found.scan.stack
    probability, is_reference = found.prediction.probability[plane], found.is_reference(label)
    bright_hu = found.scan.voxels_hu if label == calcium_label(label_names) else None
    is_band = lesion_band(probability, is_reference, found.prediction.is_counted, bright_hu)
    voxel_mm3 = slice_weights_mm(stack) * stack.pixel_mm2
    return logit_histogram(probability[is_band], is_reference[is_band], voxel_mm3[np.nonzero(is_band)[0]])


def is_summed(
    found: PredictedCase, plane: int, reading: str, label_names: Mapping[int, str]
) -> Bool[np.ndarray, "slices rows columns"]:
    """Which voxels a soft volume counts: those that pass the gate or, without one, those that could be the label."""
    label = found.prediction.label_values[plane]
    gate_hu = gate_of(label, reading, label_names)
    if gate_hu is not None:
        return found.prediction.is_counted & (found.scan.voxels_hu >= gate_hu)
    bright_hu = found.scan.voxels_hu if label == calcium_label(label_names) else None
    return found.prediction.is_counted & could_be_label(found.prediction.probability[plane], bright_hu)


def _soft(rows: Sequence[CaseOutcome], config: ScoreConfig) -> dict[float | None, SoftAgreement]:
    found: dict[float | None, SoftAgreement] = {}
    for gate_hu in dict.fromkeys(row.hu_gate for row in rows):
        known = [(row, row.soft_mm3) for row in rows if row.hu_gate == gate_hu and row.soft_mm3 is not None]
        if known:
            soft_mm3 = np.array([soft for _, soft in known])
            reference_mm3 = np.array([row.reference_mm3 for row, _ in known])
            found[gate_hu] = soft_agreement(soft_mm3, reference_mm3, [row.patient_id for row, _ in known], config)
    return found
