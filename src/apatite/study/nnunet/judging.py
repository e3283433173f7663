"""What nnU-Net's predictions are worth on development, and its thresholds, chosen as for every other model.

The calibration is that of the package (`study.calibrate`) on the same cases, the same slices and the same gate; without
it, a comparison would compare one model at its best threshold with another at 0.5.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from apatite.calibrate.calibration import Calibration
from apatite.core.commit import commit_json, committed_folder
from apatite.core.errors import ConfigError, DataError
from apatite.core.watch import Watch, unwatched
from apatite.io.manifest import Case
from apatite.io.store import Prepared
from apatite.study.calibrate import TOO_FEW, CalibrateConfig, calibrate
from apatite.study.judge import CALIBRATED, judge
from apatite.study.nnunet.export import ABOUT
from apatite.study.nnunet.results import CALIBRATION, FORMAT, INDEX, NnunetPredictions, Results, read_results
from apatite.study.nnunet.stages import Facts
from apatite.study.outcomes import CaseOutcome
from apatite.study.quantities import QUANTITIES

NAME = "nnU-Net"


def adopt(
    finished: Path, prepared: Prepared, out: Path, watch: Watch = unwatched, *, is_calibrated: bool = True
) -> Facts:
    """Judge, calibrate and index a finished folder of nnU-Net's results, whoever made it; it is not changed.

    Args:
        finished: A folder of predictions with `dataset.json` and `plans.json`, or nnU-Net's folder of a trainer.
        prepared: The data that it predicted.
        out: Folder for `nnunet.json` and `calibration.json`; what `evaluate -m` is given.
        watch: Shows progress.
        is_calibrated: Choose thresholds on development; all its cases must have been predicted then.

    Raises:
        DataError: no predictions, or not those of all development cases (`MISSING_FILE`).
        ConfigError: its labels are not those of the data, or something lies in `out` already.
    """
    if out.exists():
        raise ConfigError("the folder exists already", where=str(out), fix="name a new one with -o")
    results = read_results(finished)
    if results.label_names != dict(prepared.manifest.label_names):
        raise ConfigError(
            f"its labels {results.label_names} are not those of the data, {dict(prepared.manifest.label_names)}",
            where=str(finished),
            fix="use data with the same labels",
        )
    if is_calibrated:
        NnunetPredictions(results).refuse_missing(_development(prepared))
    # In one step: an index without its calibration would pass for a finished folder.
    with committed_folder(out) as part:
        commit_json(part / INDEX, _index_of(results, prepared))
        if not is_calibrated:
            return {"dice": None, "dice_calibrated": None, "calibration": None, "notes": ["not calibrated"]}
        return judge_length(part, prepared, watch)


def judge_length(folder: Path, prepared: Prepared, watch: Watch = unwatched, *, is_calibrated: bool = True) -> Facts:
    """Choose thresholds for the predictions of a folder, write them there, and count Dice on development.

    Returns:
        `dice`, `dice_calibrated` (each `None` where it is undefined), the `calibration` and `notes`.
    """
    results, cases = read_results(folder), _development(prepared)
    predictor, notes = NnunetPredictions(results), []
    predictor.refuse_missing(cases)
    found: Calibration | None = None
    if is_calibrated:
        try:
            found = calibrate(predictor, prepared.manifest, cases, CalibrateConfig(), watch)
        except DataError as error:
            if error.code != TOO_FEW:
                raise
            notes.append(f"not calibrated: {error.what}")
    if found is not None:
        stored = {"calibration": found.to_dict(), "burden": found.burden_dict(), "domains": found.domains}
        commit_json(folder / CALIBRATION, stored)
    outcomes = judge(NAME, predictor, found, prepared.manifest, cases, watch)
    return {
        "dice": mean_dice(outcomes[NAME]),
        "dice_calibrated": None if found is None else mean_dice(outcomes[NAME + CALIBRATED]),
        "calibration": None if found is None else found.to_dict(),
        "notes": notes,
    }


def mean_dice(outcomes: Sequence[CaseOutcome]) -> float | None:
    """Mean over labels of the mean Dice over the cases that have the label, ungated; `None` without such a case."""
    dice, means = QUANTITIES["dice"], []
    for label in sorted({row.label for row in outcomes}):
        chosen = dice.chosen([row for row in outcomes if row.label == label and row.hu_gate is None])
        if chosen:
            means.append(dice.statistic(dice.values(chosen)))
    found = float(np.mean(means)) if means else math.nan
    return found if math.isfinite(found) else None


def _development(prepared: Prepared) -> tuple[Case, ...]:
    return tuple(case for case in prepared.manifest.of_split("development") if case.label)


def _index_of(results: Results, prepared: Prepared) -> Facts:
    regions = {}
    if prepared.kind == "region" and results.kind == "":
        # Its predictions may reach beyond the region, in which every model is judged.
        placed = {case.case_id: prepared.grids[row].ravel().tolist() for row, case in enumerate(prepared.cases)}
        regions = {"region_shape": list(prepared.images.shape[1:]), "regions": placed}
    return {
        "format": FORMAT,
        "predictions": sorted({str(path.parent.resolve()) for path in results.files.values()}),
        "calibration": CALIBRATION,
        ABOUT: {
            "kind": results.kind,
            "label_values": list(results.label_values),
            "label_names": {str(value): name for value, name in results.label_names.items()},
            "grids": {case: grid.ravel().tolist() for case, grid in results.grids.items()},
            **regions,
        },
    }
