"""The demonstration: the whole road on scans whose truth is known, in a few minutes on two cores.

A cohort of phantoms is made; an encoder is pre-trained on those of the training patients; the same network is
fine-tuned from it and from scratch with the same few labels and the same settings; both are calibrated on development
and judged once on the untouched test split. Whatever the figures say is printed.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from apatite.calibrate.calibration import Calibration
from apatite.core.config import load, read_yaml
from apatite.core.errors import DataError
from apatite.core.watch import Watch, unwatched
from apatite.data.prepare import PrepareConfig, prepare
from apatite.io.leaks import refuse_leaks
from apatite.io.manifest import read_manifest, write_manifest
from apatite.io.model_package import copy_calibrated
from apatite.io.run_folder import RunFolder
from apatite.io.splits import SplitConfig, split_manifest
from apatite.io.store import Prepared
from apatite.io.survey import completed, survey
from apatite.phantom.cohort import PRESETS, CohortConfig
from apatite.phantom.folder import write_cohort
from apatite.pretrain.config import PretrainConfig
from apatite.pretrain.recipes import demo as demo_pretraining
from apatite.pretrain.stage import Pretrained, pretrain
from apatite.segment.config import FinetuneConfig
from apatite.segment.finetune import Finetuned, finetune
from apatite.segment.predict import Predictor, open_predictor
from apatite.segment.recipes import demo as demo_finetuning
from apatite.study.calibrate import CalibrateConfig, choose, divide
from apatite.study.development import Development, measure
from apatite.study.evaluate import Evaluation, evaluate
from apatite.study.judge import CALIBRATED, judge
from apatite.study.outcomes import CaseOutcome
from apatite.study.probability import ModelProbability, ProbabilityRecord
from apatite.study.run import deployed_of, labelled_cases, log_look

SCRATCH, PRETRAINED = "scratch", "pre-trained"
"""The two models of the demonstration, by name; each is a run folder under `runs`."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """How large a demonstration.

    Attributes:
        cohort: The phantoms.
        splits: How patients are divided.
        pretrain: The pre-training run.
        finetune: Both fine-tuning runs.
        calibrate: How the threshold is chosen.
        workers: Processes that make phantoms.
    """

    cohort: CohortConfig = field(default_factory=lambda: CohortConfig(patients=240))
    splits: SplitConfig = field(default_factory=lambda: SplitConfig(labelled=80))
    pretrain: PretrainConfig = field(default_factory=demo_pretraining)
    finetune: FinetuneConfig = field(default_factory=demo_finetuning)
    calibrate: CalibrateConfig = field(default_factory=CalibrateConfig)
    workers: int = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class DemoRun:
    """Everything that a demonstration made, for its page.

    Attributes:
        out: Its folder.
        prepared: The regions.
        encoder: The pre-training run.
        models: The fine-tuning runs by name.
        development: What each model said of the development cases that chose its threshold.
        calibrations: What was chosen from that.
        evaluation: Of all models on the test split.
        stages_s: Seconds of each stage.
    """

    out: Path
    prepared: Prepared
    encoder: Pretrained
    models: dict[str, Finetuned]
    development: dict[str, Development]
    calibrations: dict[str, Calibration]
    evaluation: Evaluation
    stages_s: dict[str, float]

    def predictor(self, name: str) -> Predictor:
        """One of the models, ready to be used."""
        return open_predictor(self.models[name].package)


def run_demo(out: Path, config: DemoConfig, watch: Watch = unwatched) -> DemoRun:
    """Run all stages of the demonstration; the page is made from what is returned (`demo_page`).

    Args:
        out: New or empty folder.
        config: How large.
        watch: Shows one bar per stage.

    Raises:
        DataError: the folder holds something already.
    """
    if out.exists() and any(out.iterdir()):
        raise DataError("holds something already", where=str(out), fix="name a new folder with -o")
    seconds: dict[str, float] = {}
    with _timed("making phantoms", seconds):
        write_cohort(config.cohort, out / "cohort", config.workers, watch)
    with _timed("indexing and preparing", seconds):
        prepared = _prepare(out, config, watch)
    with _timed("pre-training", seconds):
        encoder = pretrain(config.pretrain, prepared.folder, out / "runs" / "pretrain", watch=watch)
    models: dict[str, Finetuned] = {}
    settings = config.finetune
    for name, init_from in ((SCRATCH, None), (PRETRAINED, encoder.package)):
        with _timed(f"fine-tuning, {name}", seconds):
            models[name] = finetune(settings, prepared.folder, out / "runs" / name, init_from=init_from, watch=watch)
        # The twins must differ in their first weights only, so what was measured for the first holds for both.
        settings = load(FinetuneConfig, read_yaml(RunFolder(path=out / "runs" / name).config))
    with _timed("calibrating", seconds):
        development = {name: _measure(made, prepared, watch) for name, made in models.items()}
        calibrations = {name: choose(found, config.calibrate) for name, found in development.items()}
        for name, made in models.items():
            _keep(made.package, out / "models" / name, calibrations[name])
    with _timed("evaluating", seconds):
        evaluation = _evaluate(out, prepared, models, calibrations, watch)
    return DemoRun(
        out=out,
        prepared=prepared,
        encoder=encoder,
        models=models,
        development={name: divide(found, config.calibrate)[0] for name, found in development.items()},
        calibrations=calibrations,
        evaluation=evaluation,
        stages_s=seconds,
    )


@contextmanager
def _timed(name: str, seconds: dict[str, float]) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[name] = time.monotonic() - start


def _prepare(out: Path, config: DemoConfig, watch: Watch) -> Prepared:
    listed = read_manifest(out / "cohort" / "manifest.csv")
    found = survey(listed, watch)
    manifest = split_manifest(completed(listed, found), replace(config.splits, seed=config.cohort.seed))
    refuse_leaks(manifest.cases, found.digests)
    write_manifest(out / "manifest.csv", manifest)
    regions = PrepareConfig(kind="region", region=PRESETS[config.cohort.preset].region)
    prepare(manifest, out / "prepared", regions, config.workers, watch)
    return Prepared.open(out / "prepared")


def _measure(made: Finetuned, prepared: Prepared, watch: Watch) -> Development:
    cases = labelled_cases(prepared, "development")
    predictor = open_predictor(made.package)
    return measure(predictor, prepared.manifest, cases, watch, predictor.digest)


def _keep(package: Path, destination: Path, calibration: Calibration) -> None:
    copy_calibrated(package, destination, calibration.to_dict(), calibration.domains, calibration.burden_dict())


def _evaluate(
    out: Path, prepared: Prepared, models: dict[str, Finetuned], calibrations: dict[str, Calibration], watch: Watch
) -> Evaluation:
    """The one look at the test split."""
    outcomes: dict[str, list[CaseOutcome]] = {}
    deployed = {}
    probability: dict[str, ModelProbability] = {}
    names = prepared.manifest.label_names
    cases = labelled_cases(prepared, "test")
    for name, made in models.items():
        log_look(made.package, out, "test", name)
        record = ProbabilityRecord(calibration=calibrations[name], label_names=names)
        predictor = open_predictor(made.package)
        outcomes |= judge(name, predictor, calibrations[name], prepared.manifest, cases, watch, record.see)
        probability[name + CALIBRATED] = record.findings(outcomes[name + CALIBRATED])
        deployed |= deployed_of(name, calibrations[name])
    return evaluate(outcomes, label_names=names, deployed=deployed, probability=probability, watch=watch)
