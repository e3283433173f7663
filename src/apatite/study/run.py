"""Evaluate model packages on a labelled split and write what was found; every look is logged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from apatite.calcium.burden import BurdenCuts
from apatite.calcium.rule import CALCIUM_HU
from apatite.calibrate.calibration import Calibration
from apatite.calibrate.readings import GATED, UNGATED, calcium_label
from apatite.core.errors import DataError
from apatite.core.watch import Watch, unwatched
from apatite.io.manifest import Case
from apatite.io.run_folder import RunFolder, environment
from apatite.io.store import Prepared
from apatite.report.html import Table
from apatite.study.contestants import contestant_names, open_contestant
from apatite.study.evaluate import EvaluateConfig, Evaluation, evaluate
from apatite.study.intervals import STANDARD, IntervalConfig
from apatite.study.judge import CALIBRATED, judge
from apatite.study.label_maps import LabelMaps
from apatite.study.outcomes import CaseOutcome
from apatite.study.probability import ModelProbability, ProbabilityRecord
from apatite.study.tables import comparison_table, difference_table, labels_table
from apatite.study.write import summary_json, write_evaluation


@dataclass(frozen=True, kw_only=True)
class EvaluatedModels:
    """What an evaluation left.

    Attributes:
        values: The content of `summary.json` and the path of the page.
        tables: The main tables, for the terminal.
        report: The page.
    """

    values: dict[str, Any]
    tables: list[Table]
    report: Path


def evaluate_models(
    models: Sequence[Path],
    prepared: Prepared,
    out: Path,
    split: Literal["development", "test"] = "test",
    *,
    intervals: IntervalConfig = STANDARD,
    watch: Watch = unwatched,
) -> EvaluatedModels:
    """Evaluate packages, or runs that hold one, on the same cases.

    Args:
        models: In the order of the tables; later ones are compared with earlier ones.
        prepared: Its original scans and labels must still be where they were.
        out: Folder for `cases.csv`, `summary.json`, `report.html`.
        split: Which cases.
        intervals: Bootstrap settings.
        watch: Shows progress.

    Raises:
        DataError: the split holds no labelled case (`EMPTY_SPLIT`), or one cannot be read.
        ConfigError: two models have one name, or other labels than the data.
    """
    cases = labelled_cases(prepared, split)
    outcomes: dict[str, list[CaseOutcome]] = {}
    deployed: dict[str, dict[float | None, BurdenCuts]] = {}
    probability: dict[str, ModelProbability] = {}
    digests: dict[str, str] = {}
    for path, name in zip(models, contestant_names(models), strict=True):
        found = open_contestant(path, name)
        if isinstance(found.predictor, LabelMaps):
            found = replace(found, predictor=found.predictor.on(prepared), label_names=prepared.manifest.label_names)
        found.refuse_other_labels(prepared)
        log_look(path, out, split, f"{name} {found.digest}")
        record = ProbabilityRecord(calibration=found.calibration, label_names=prepared.manifest.label_names)
        outcomes |= judge(name, found.predictor, found.calibration, prepared.manifest, cases, watch, record.see)
        if found.calibration is not None:
            probability[name + CALIBRATED] = record.findings(outcomes[name + CALIBRATED], intervals)
        deployed |= deployed_of(name, found.calibration)
        digests[name] = found.digest
    config = EvaluateConfig(intervals=intervals, burden_label=calcium_label(prepared.manifest.label_names))
    names = prepared.manifest.label_names
    evaluation = evaluate(outcomes, config, label_names=names, deployed=deployed, probability=probability, watch=watch)
    domains = sorted({case.domain for case in cases})
    report = write_evaluation(evaluation, out, provenance=_provenance(prepared, split, digests), domains=domains)
    return EvaluatedModels(
        values={"report": str(report), **summary_json(evaluation, {})}, tables=main_tables(evaluation), report=report
    )


def labelled_cases(prepared: Prepared, split: str) -> tuple[Case, ...]:
    """The cases of a split that have a label file.

    Raises:
        DataError: there are none (`EMPTY_SPLIT`).
    """
    cases = tuple(case for case in prepared.manifest.of_split(split) if case.label)
    if not cases:
        raise DataError(
            f"the {split} split holds no labelled case",
            where=str(prepared.folder),
            fix="index with labels and a split",
            code="EMPTY_SPLIT",
        )
    return cases


def deployed_of(name: str, calibration: Calibration | None) -> dict[str, dict[float | None, BurdenCuts]]:
    """The frozen burden groups of each reading, under the calibrated model's name in the tables."""
    if calibration is None or not calibration.burden:
        return {}
    gates = {UNGATED: None, GATED: CALCIUM_HU}
    return {name + CALIBRATED: {gates[reading]: cuts for reading, cuts in calibration.burden.items()}}


def log_look(model: Path, out: Path, split: str, detail: str) -> None:
    """Write a look down in the output folder, and in the model's run folder where it has one."""
    RunFolder(path=out).log_look(split, "evaluate", detail)
    for folder in (model, model.parent):
        run = RunFolder(path=folder)
        if run.config.exists():
            run.log_look(split, "evaluate", detail)


def main_tables(evaluation: Evaluation) -> list[Table]:
    """What the terminal shows: means over labels where there are several, else the comparison and the differences."""
    if len(evaluation.labels) > 1:
        return [labels_table(evaluation, gate) for gate in evaluation.gates]
    label = next(iter(evaluation.labels))
    tables = [comparison_table(evaluation, label, gate) for gate in evaluation.gates]
    if len(evaluation.models) > 1:
        tables.append(difference_table(evaluation, label, None))
    return tables


def _provenance(prepared: Prepared, split: str, digests: Mapping[str, str]) -> dict[str, str]:
    versions = environment()
    return {
        "split": split,
        "data": str(prepared.about["manifest_sha256"])[:16],
        "python": str(versions["python"]),
        "machine": str(versions["platform"]),
        **{f"model {name}": digest[:16] for name, digest in digests.items()},
    }
