"""What a model says of the development cases: all that a calibration is chosen from, and no image any more.

Volumes are counted on the original slices at every threshold, gated by 130 HU and ungated; probabilities are kept as
volume per logit. So choosing takes a second, and can be repeated for any part of the patients.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from apatite.calcium.measure import slice_weights_mm
from apatite.calibrate.logit_histogram import LogitHistogram
from apatite.calibrate.readings import gate_of, readings_of
from apatite.calibrate.threshold import volume_curve
from apatite.core.errors import DataError
from apatite.core.watch import Watch, unwatched
from apatite.io.manifest import Case, Manifest, manifest_digest
from apatite.study.cases import CasePredictor, PredictedCase, predict_cases
from apatite.study.probability import histogram_of

_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """Volumes of one label in one reading on development cases, at every threshold and by the reference.

    Attributes:
        curves_mm3: `cases thresholds`, at `calibrate.threshold.THRESHOLDS`.
        reference_mm3: One per case.
        patients: One per case.
        thickness_mm: Nominal slice thickness of each; `None` where it is unknown.
    """

    curves_mm3: np.ndarray
    reference_mm3: np.ndarray
    patients: list[str]
    thickness_mm: list[float | None]

    @property
    def error_mm3(self) -> np.ndarray:
        """Mean |ΔV| at every threshold."""
        return np.abs(self.curves_mm3 - self.reference_mm3[:, None]).mean(axis=0)

    @classmethod
    def of(cls, entries: Sequence[tuple[np.ndarray, float, Case]]) -> "Curves":
        """Collect the cases' curves and references."""
        return cls(
            curves_mm3=np.stack([curve for curve, _, _ in entries]),
            reference_mm3=np.array([reference for _, reference, _ in entries]),
            patients=[case.patient_id for _, _, case in entries],
            thickness_mm=[case.slice_thickness_mm for _, _, case in entries],
        )

    def without_empty(self) -> "Curves":
        """Only the cases in which the reference marks something."""
        return self._rows(np.flatnonzero(self.reference_mm3 > 0).tolist())

    def of_patients(self, patients: Collection[str]) -> "Curves":
        """Only the cases of some patients."""
        return self._rows(_rows_of(self.patients, patients))

    def _rows(self, rows: Sequence[int]) -> "Curves":
        return Curves(
            curves_mm3=self.curves_mm3[list(rows)],
            reference_mm3=self.reference_mm3[list(rows)],
            patients=_taken(self.patients, rows),
            thickness_mm=_taken(self.thickness_mm, rows),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelLogits:
    """The probabilities of one label on development cases.

    Attributes:
        histograms: One per case.
        patients: One per case.
        thickness_mm: As in `Curves`.
    """

    histograms: list[LogitHistogram]
    patients: list[str]
    thickness_mm: list[float | None]

    def of_patients(self, patients: Collection[str]) -> "LabelLogits":
        """Only the cases of some patients."""
        rows = _rows_of(self.patients, patients)
        return LabelLogits(
            histograms=_taken(self.histograms, rows),
            patients=_taken(self.patients, rows),
            thickness_mm=_taken(self.thickness_mm, rows),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Development:
    """What a model says of the development cases.

    Attributes:
        curves: By label value and reading.
        logits: By label value.
        two_voxels_mm3: Median volume of two original voxels.
        label_names: Of the data.
        patients: The patient of each development case.
        thickness_mm: Nominal slice thickness of each; `None` where it is unknown.
        domains: Where the cases come from.
        model_digest: The package that was measured; empty where that is not known.
        data_digest: The manifest of the cases.
    """

    curves: Mapping[tuple[int, str], Curves]
    logits: Mapping[int, LabelLogits]
    two_voxels_mm3: float
    label_names: Mapping[int, str]
    patients: list[str]
    thickness_mm: list[float | None]
    domains: list[str]
    model_digest: str = ""
    data_digest: str = ""

    @property
    def num_cases(self) -> int:
        """Development cases."""
        return len(self.patients)

    def of_patients(self, patients: Collection[str]) -> "Development":
        """The same for some patients only: a part of them, or all but those of a fold."""
        rows = _rows_of(self.patients, patients)
        curves = {key: found.of_patients(patients) for key, found in self.curves.items()}
        logits = {label: found.of_patients(patients) for label, found in self.logits.items()}
        return replace(
            self,
            curves={key: found for key, found in curves.items() if found.patients},
            logits={label: found for label, found in logits.items() if found.patients},
            patients=_taken(self.patients, rows),
            thickness_mm=_taken(self.thickness_mm, rows),
        )


@dataclass
class _Collected:
    """What is gathered while the cases pass by."""

    curves: dict[tuple[int, str], list[tuple[np.ndarray, float, Case]]] = field(default_factory=dict)
    logits: dict[int, list[tuple[LogitHistogram, Case]]] = field(default_factory=dict)
    two_voxels_mm3: list[float] = field(default_factory=list)

    def see(self, found: PredictedCase, names: Mapping[int, str]) -> None:
        stack = found.scan.stack
        self.two_voxels_mm3.append(2 * float(np.median(slice_weights_mm(stack))) * stack.pixel_mm2)
        for plane, label in enumerate(found.prediction.label_values):
            if label not in found.annotated:
                continue
            self.logits.setdefault(label, []).append((histogram_of(found, plane, names), found.case))
            for reading in readings_of(names):
                curve = _curve(found, plane, label, gate_of(label, reading, names))
                self.curves.setdefault((label, reading), []).append(curve)


def measure(
    predictor: CasePredictor,
    manifest: Manifest,
    cases: Sequence[Case],
    watch: Watch = unwatched,
    model_digest: str = "",
) -> Development:
    """Volumes at every threshold, and probabilities, of the development cases.

    Args:
        predictor: The model.
        manifest: Where the cases' files are.
        cases: The labelled development cases.
        watch: Shows progress.
        model_digest: Names the model.

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
    collected = _Collected()
    for found in predict_cases(predictor, manifest, cases, "calibrating", watch):
        collected.see(found, manifest.label_names)
    return Development(
        curves={key: Curves.of(entries) for key, entries in collected.curves.items()},
        logits={
            label: LabelLogits(
                histograms=[histogram for histogram, _ in entries],
                patients=[case.patient_id for _, case in entries],
                thickness_mm=[case.slice_thickness_mm for _, case in entries],
            )
            for label, entries in collected.logits.items()
        },
        two_voxels_mm3=float(np.median(collected.two_voxels_mm3)),
        label_names=manifest.label_names,
        patients=[case.patient_id for case in cases],
        thickness_mm=[case.slice_thickness_mm for case in cases],
        domains=sorted({case.domain for case in cases}),
        model_digest=model_digest,
        data_digest=manifest_digest(manifest),
    )


def _curve(found: PredictedCase, plane: int, label: int, gate: float | None) -> tuple[np.ndarray, float, Case]:
    """Predicted volume at every threshold, reference volume, case."""
    stack = found.scan.stack
    voxel_mm3 = slice_weights_mm(stack) * stack.pixel_mm2
    is_counted = found.prediction.is_counted
    may_count = is_counted if gate is None else is_counted & (found.scan.voxels_hu >= gate)
    curve = volume_curve(found.prediction.probability[plane], voxel_mm3, may_count)
    reference = (found.is_reference(label) & is_counted).sum(axis=(1, 2)) @ voxel_mm3
    return curve, float(reference), found.case


def _rows_of(patients: Sequence[str], wanted: Collection[str]) -> list[int]:
    chosen = set(wanted)
    return [row for row, patient in enumerate(patients) if patient in chosen]


def _taken(items: Sequence[_Item], rows: Sequence[int]) -> list[_Item]:
    return [items[row] for row in rows]
