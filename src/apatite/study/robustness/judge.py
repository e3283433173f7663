"""One model on one case, as it is and at every level: rows of counts and volumes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from apatite.calibrate.calibration import Calibration, thresholds_of
from apatite.calibrate.readings import UNGATED, gate_of, readings_of
from apatite.core.scan import SliceStack
from apatite.ct.degrade.degradation import Degradation
from apatite.io.hold_out import is_held_out
from apatite.segment.predict import NativePrediction, Predictor, decide
from apatite.study.contestants import Contestant
from apatite.study.judge import CALIBRATED
from apatite.study.outcomes import outcome
from apatite.study.robustness.config import RobustnessConfig
from apatite.study.robustness.original import AtLevel, Original, at_level
from apatite.study.robustness.rows import AS_IS, LevelRow

Ladders = Mapping[str, Sequence[Degradation]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rung:
    """One level of one way; `degradation` is `None` for the scan as it is."""

    by: str
    degradation: Degradation | None

    @property
    def level(self) -> float:
        """How much."""
        return 0.0 if self.degradation is None else self.degradation.level


def titles_of(contestant: Contestant) -> dict[str, Calibration | None]:
    """Titles in the tables, as `study.judge` gives them: at 0.5 and, where it is calibrated, at its thresholds."""
    raw: dict[str, Calibration | None] = {contestant.name: None}
    return raw if contestant.calibration is None else raw | {contestant.name + CALIBRATED: contestant.calibration}


def held_out_of(contestant: Contestant) -> tuple[str, ...]:
    """What the model's training held out, as its card says."""
    predictor = contestant.predictor
    return tuple(predictor.card.held_out) if isinstance(predictor, Predictor) else ()


def rungs_of(original: Original, ladders: Ladders, config: RobustnessConfig) -> list[Rung]:
    """The levels at which a case can be looked at, the scan as it is first."""
    rungs = [Rung(by=AS_IS, degradation=None)]
    for by, ladder in ladders.items():
        if by == "thickness" and original.thickness_mm > config.thin_mm:
            continue
        rungs += [Rung(by=by, degradation=step) for step in ladder if step.fits(original.scan.stack)]
    return rungs


def judge_case(
    contestant: Contestant, original: Original, ladders: Ladders, config: RobustnessConfig
) -> Iterator[LevelRow]:
    """All rows of one model on one case.

    Voxels count inside the region of the scan as it is, also where the model was told a centre beside it: what it then
    does not see, it misses.

    Raises:
        DataError: the case cannot be predicted.
    """
    region: tuple[SliceStack, Bool[np.ndarray, "slices rows columns"]] | None = None
    original_mm3: dict[int, float] = {}
    for rung in rungs_of(original, ladders, config):
        seen = _seen(original, rung, config)
        prediction = contestant.predictor.predict_case(seen.case, seen.scan)
        if region is None:
            region = (seen.scan.stack, prediction.is_counted)
        # A degradation that leaves the slices alone leaves the very same object.
        is_counted = region[1] if seen.scan.stack is region[0] else prediction.is_counted
        for row in _rows(contestant, original, (rung, seen, is_counted), prediction, config):
            if rung.degradation is None:
                original_mm3.setdefault(row.label, row.reference_mm3)
            yield _completed(row, original_mm3)


def _seen(original: Original, rung: Rung, config: RobustnessConfig) -> AtLevel:
    if rung.degradation is None:
        return AtLevel(case=original.case, scan=original.scan, references=original.references)
    return at_level(original, rung.by, rung.degradation, config.seed)


def _rows(
    contestant: Contestant,
    original: Original,
    shown: tuple[Rung, AtLevel, Bool[np.ndarray, "slices rows columns"]],
    prediction: NativePrediction,
    config: RobustnessConfig,
) -> Iterator[LevelRow]:
    """Rows of one prediction, per title and annotated label."""
    rung, seen, is_counted = shown
    names = contestant.label_names
    reading = config.reading if config.reading in readings_of(names) else UNGATED
    is_stranger = is_held_out(original.case, held_out_of(contestant))
    for title, calibration in titles_of(contestant).items():
        thresholds = thresholds_of(calibration, prediction.label_values, reading)
        decided = decide(prediction.probability, prediction.label_values, thresholds)
        for label in (value for value in prediction.label_values if value in seen.references):
            counted = outcome(
                (decided == label).astype(np.float32),
                seen.references[label],
                seen.scan,
                is_counted,
                0.5,
                hu_gate=gate_of(label, reading, names),
                case=original.case,
                label=label,
            )
            yield LevelRow(
                model=title,
                by=rung.by,
                level=rung.level,
                case_id=counted.case_id,
                patient_id=counted.patient_id,
                label=label,
                true_positive=counted.true_positive,
                false_positive=counted.false_positive,
                false_negative=counted.false_negative,
                predicted_mm3=counted.predicted_mm3,
                reference_mm3=counted.reference_mm3,
                original_mm3=0.0,
                analytic_mm3=original.analytic_mm3,
                thickness_mm=original.thickness_mm,
                noise_hu=original.noise_hu,
                vendor=original.case.vendor,
                is_stranger=is_stranger,
            )


def _completed(row: LevelRow, original_mm3: Mapping[int, float]) -> LevelRow:
    return replace(row, original_mm3=original_mm3[row.label])
