"""A row of the real nnU-Net: trained for its minutes on the labels of the row, and judged like every other row."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apatite.core.config import dump
from apatite.core.watch import Watch
from apatite.engine.machine import machine
from apatite.engine.precision import Precision
from apatite.io.run_folder import RunFolder
from apatite.io.store import Prepared
from apatite.segment.config import FinetuneConfig
from apatite.segment.labelled import labelled_rows
from apatite.study.nnunet.config import NnunetConfig
from apatite.study.nnunet.results import NnunetPredictions, read_results
from apatite.study.nnunet.run import NnunetRun, run_nnunet
from apatite.study.nnunet.stages import Curve as Journal
from apatite.study.run import log_look
from apatite.study.sweep.data import SweepData
from apatite.study.sweep.facts import Curve, counted, counted_outcomes, domains_of
from apatite.study.sweep.folder import SweepFolder
from apatite.study.sweep.judging import calibration_values, estimates_of, judge_row
from apatite.study.sweep.plan import settle_plan
from apatite.study.sweep.record import SPLITS, Record, is_flat
from apatite.study.sweep.rows import SweepRow
from apatite.study.sweep.settings import nnunet_config
from apatite.study.sweep.work import Job


def run_nnunet_row(
    job: Job, row: SweepRow, data: SweepData, folder: SweepFolder, watch: Watch
) -> tuple[Record, Mapping[str, Any]]:
    """Train, predict, judge.

    Its own thresholds are not asked for: they are chosen as those of every row are.

    Raises:
        ConfigError: there is no nnU-Net in the interpreter (`NNUNET_MISSING`).
        TrainingError: nnU-Net failed (`NNUNET_FAILED`).
    """
    prepared, config = data.learned_from(row.reader), nnunet_config(job.grid, row)
    digest = settle_plan(folder, row, config, prepared)
    out = folder.run(row.name)
    run = run_nnunet(config, prepared, out, watch, python=job.nnunet_python, is_calibrated=False)
    results = read_results(run.folder)
    model = results.digest()
    for split in SPLITS:
        log_look(out, folder.path, split, f"{row.name} {model}")
    judged = judge_row(NnunetPredictions(results), model, prepared, data.truth, job.grid, watch)
    plan, trained, curve = run.stages["plan"]["plan"], run.stages["x1-train"], curve_of(out)
    depth_mm, height_mm, width_mm = plan["spacing"]
    depth, height, width = plan["patch_size"]
    digests = {"data": prepared.about["manifest_sha256"], "truth": data.truth.about["manifest_sha256"]}
    record = Record(
        name=row.name,
        kind="nnunet",
        tier=job.grid.tier,
        axes=dict(row.axes),
        steps=trained["iterations"],
        seconds={"finetune": trained["elapsed_s"]} | _predicting(run) | judged.seconds,
        num_parameters=trained.get("num_parameters") or 0,
        curve=curve,
        is_flat=is_flat(curve, trained["iterations"]),
        calibration=calibration_values(judged.calibration),
        domains=domains_of(data.truth, *SPLITS),
        splits={"finetune": _learned(prepared, config)} | counted_outcomes(judged.outcomes),
        spacing_mm=(width_mm, height_mm, depth_mm),
        crop=(depth, height, width),
        **estimates_of(judged.outcomes, prepared.manifest.label_names, job.grid.resamples),
        config=dump(config) | {"plan": plan},
        digests={"model": model, "settings": digest} | digests,
        machine=_machine(trained, out),
    )
    return record, judged.outcomes


def curve_of(run: Path) -> Curve:
    """Iterations, and nnU-Net's own Dice on development after each epoch: on patches, pooled."""
    done, points = 0, []
    for epoch in Journal(run / "x1" / "curve.jsonl").epochs:
        done += epoch["iterations"]
        if epoch["mean_pseudo_dice"] is not None:
            points.append((done, float(epoch["mean_pseudo_dice"])))
    return tuple(points)


def _predicting(run: NnunetRun) -> dict[str, float]:
    """nnU-Net predicts beforehand; the other rows do so while they are judged."""
    stages = [facts["wall_s"] for name, facts in run.stages.items() if name.startswith("x1-predict-")]
    return {"plan": run.stages["plan"]["wall_s"], "predict": sum(stages)}


def _learned(prepared: Prepared, config: NnunetConfig) -> dict[str, int]:
    chosen = FinetuneConfig(num_labelled=config.num_labelled, draw=config.draw, hold_out=config.hold_out)
    return counted(prepared, labelled_rows(prepared, chosen), labelled=True)


def _machine(trained: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """The processor of this process, and what nnU-Net's own interpreter used of it."""
    here = machine(Precision(threads=trained["threads"]), 1)
    versions = RunFolder(path=out).read_about().get("nnunet", {})
    return here | {"device": trained["device"], "torch": versions.get("torch", ""), "nnunet": versions}
