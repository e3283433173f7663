"""Fit a model to a new site with 20 to 40 of its cases, and say honestly whether that helped.

What is kept is fitted on all patients. What is reported is out of sample: the patients are divided into folds, the
whole fit is done again without each fold, and only that fit reads the fold's cases. The weights never change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from jaxtyping import Float64

from apatite.calibrate.calibration import Calibration
from apatite.calibrate.logit_histogram import Scale
from apatite.calibrate.readings import GATED, UNGATED, calcium_label
from apatite.calibrate.reliability import Reliability, ScoreConfig, reliability
from apatite.core.errors import DataError
from apatite.core.scan import Scan
from apatite.core.watch import Watch, unwatched
from apatite.io.manifest import Case, Manifest
from apatite.io.store import Prepared
from apatite.segment.predict import NativePrediction
from apatite.study.cases import CasePredictor
from apatite.study.development import Development, LabelLogits, measure
from apatite.study.judge import CALIBRATED, judge
from apatite.study.outcomes import CaseOutcome
from apatite.study.run import labelled_cases
from apatite.study.site_fit import Key, RecalibrateConfig, SiteFit, fit_site, folds_of

MIN_PATIENTS = 10
"""Fewer say nothing about a site."""
USED_SPLITS: Final = ("pretrain", "finetune", "development", "test")
BEFORE, AFTER = "as it came", "recalibrated"


@dataclass(frozen=True, kw_only=True, eq=False)
class Recalibration:
    """What was fitted, and what it is worth.

    Attributes:
        site: Fitted on all patients.
        old: The model's calibration before, or none.
        outcomes: Of the model as it came and recalibrated; the latter by fits without the case's patient.
        corrected_mm3: Of the recalibrated rows' volumes, in their order, by bias lines without the case's patient.
        reliability: By label value: of the probabilities as they came, and by temperatures without the case's patient.
        fold_thresholds: By label value and reading: what each fold's fit chose, in ascending order.
        label_names: Of the data.
        num_patients: Of the site.
        num_folds: Into which they were divided.
        config: How it was done.
    """

    site: SiteFit
    old: Calibration | None
    outcomes: Mapping[str, list[CaseOutcome]]
    corrected_mm3: Float64[np.ndarray, "rows"]
    reliability: Mapping[int, tuple[Reliability, Reliability]]
    fold_thresholds: Mapping[Key, tuple[float, ...]]
    label_names: Mapping[int, str]
    num_patients: int
    num_folds: int
    config: RecalibrateConfig

    def deployed_reading(self, label: int) -> str:
        """How the package reads a label unless told otherwise: calcium with its HU gate."""
        return GATED if label == calcium_label(self.label_names) else UNGATED


def site_cases(prepared: Prepared, split: Literal["development", "test", "all"]) -> tuple[Case, ...]:
    """The labelled cases of a split, or of all splits: a site is not trained on, so none has to be kept back.

    Raises:
        DataError: there are none (`EMPTY_SPLIT`).
    """
    if split != "all":
        return labelled_cases(prepared, split)
    cases = tuple(case for case in prepared.manifest.of_split(*USED_SPLITS) if case.label)
    if not cases:
        raise DataError("no case has a label", where=str(prepared.folder), fix="index with labels", code="EMPTY_SPLIT")
    return cases


def recalibrate(  # noqa: PLR0913 - a model, its calibration, a site's cases, and how
    predictor: CasePredictor,
    old: Calibration | None,
    manifest: Manifest,
    cases: Sequence[Case],
    config: RecalibrateConfig,
    *,
    model_digest: str = "",
    watch: Watch = unwatched,
) -> Recalibration:
    """Fit a model to a site and judge the fit on patients that it did not see.

    Args:
        predictor: The model.
        old: Its calibration, or none.
        manifest: Where the cases' files are.
        cases: Labelled cases of the site.
        config: How.
        model_digest: Names the model; kept in the calibration.
        watch: Shows progress.

    Raises:
        DataError: fewer than ten patients (`TOO_FEW_CASES`), or a case cannot be read.
    """
    patients = sorted({case.patient_id for case in cases})
    if len(patients) < MIN_PATIENTS:
        raise DataError(
            f"{len(patients)} patients of a site are too few to recalibrate on; {MIN_PATIENTS} are the least",
            where=str(manifest.root),
            fix="annotate 20 to 40 patients of the site",
            code="TOO_FEW_CASES",
        )
    development = measure(predictor, manifest, cases, watch, model_digest)
    site = fit_site(development, old, config)
    fold_fits = _fold_fits(development, old, config)
    outcomes = _judged(_Once(predictor), old, fold_fits, manifest, cases, watch)
    return Recalibration(
        site=site,
        old=old,
        outcomes=outcomes,
        corrected_mm3=_corrected(outcomes[AFTER], fold_fits),
        reliability=_reliability(development, old, fold_fits, config),
        fold_thresholds={
            key: tuple(sorted({fit.calibration.threshold(*key) for fit in fold_fits.values()}))
            for key in development.curves
        },
        label_names=manifest.label_names,
        num_patients=len(patients),
        num_folds=min(config.folds, len(patients)),
        config=config,
    )


def _fold_fits(development: Development, old: Calibration | None, config: RecalibrateConfig) -> dict[str, SiteFit]:
    """By patient: everything fitted without that patient's fold."""
    fits: dict[str, SiteFit] = {}
    quick = replace(config, resamples=0)
    for fold in folds_of(development.patients, development.thickness_mm, config.folds, config.seed):
        without = fit_site(development.of_patients(set(development.patients) - fold), old, quick)
        fits |= dict.fromkeys(fold, without)
    return fits


def _judged(
    predictor: CasePredictor,
    old: Calibration | None,
    fold_fits: Mapping[str, SiteFit],
    manifest: Manifest,
    cases: Sequence[Case],
    watch: Watch,
) -> dict[str, list[CaseOutcome]]:
    """Count every case twice: read as the model came, and by the fit without its patient."""
    outcomes: dict[str, list[CaseOutcome]] = {BEFORE: [], AFTER: []}
    for case in watch(cases, "judging", len(cases)):
        fitted = fold_fits[case.patient_id].calibration
        for name, calibration in ((BEFORE, old), (AFTER, fitted)):
            found = judge(name, predictor, calibration, manifest, [case])
            outcomes[name] += found[name if calibration is None else name + CALIBRATED]
    return outcomes


class _Once(CasePredictor):
    """Predicts a case once, however often it is asked for the last one."""

    def __init__(self, predictor: CasePredictor) -> None:
        self.predictor = predictor
        self._last: tuple[str, NativePrediction] | None = None

    @property
    def label_values(self) -> tuple[int, ...]:
        """As of the predictor."""
        return self.predictor.label_values

    def predict_case(self, case: Case, scan: Scan) -> NativePrediction:
        """The prediction of a case, kept until another is asked for."""
        if self._last is None or self._last[0] != case.case_id:
            self._last = (case.case_id, self.predictor.predict_case(case, scan))
        return self._last[1]


def _corrected(rows: Sequence[CaseOutcome], fold_fits: Mapping[str, SiteFit]) -> Float64[np.ndarray, "rows"]:
    """The rows' volumes by the line of the fit without their patient."""
    return np.array([_corrected_row(row, fold_fits[row.patient_id]) for row in rows], dtype=np.float64)


def _corrected_row(row: CaseOutcome, fitted: SiteFit) -> float:
    """A label that was annotated in no other fold has no line; its volume stays."""
    line = fitted.lines.get((row.label, UNGATED if row.hu_gate is None else GATED))
    return row.predicted_mm3 if line is None else line.corrected(row.predicted_mm3)


def _reliability(
    development: Development, old: Calibration | None, fold_fits: Mapping[str, SiteFit], config: RecalibrateConfig
) -> dict[int, tuple[Reliability, Reliability]]:
    """Probabilities as they came, and by temperatures without the case's patient; labels without one are left out."""
    settings = ScoreConfig(resamples=config.resamples, seed=config.seed)
    found: dict[int, tuple[Reliability, Reliability]] = {}
    for label, logits in development.logits.items():
        of_patient = {patient: fit.calibration for patient, fit in fold_fits.items()}
        fitted = [_scale(of_patient[p], label, mm) for p, mm in _who(logits)]
        if None in fitted or not any(histogram.num_voxels for histogram in logits.histograms):
            continue
        before = [_scale(old, label, mm) or Scale(1.0) for _, mm in _who(logits)]
        found[label] = (
            reliability(logits.histograms, logits.patients, before, settings),
            reliability(logits.histograms, logits.patients, [t for t in fitted if t is not None], settings),
        )
    return found


def _who(logits: LabelLogits) -> list[tuple[str, float | None]]:
    return list(zip(logits.patients, logits.thickness_mm, strict=True))


def _scale(calibration: Calibration | None, label: int, thickness_mm: float | None) -> Scale | None:
    """Temperature and offset of a label; `None` where it has none."""
    fit = None if calibration is None else calibration.temperatures.get(label)
    return None if fit is None else fit.scale(thickness_mm)
