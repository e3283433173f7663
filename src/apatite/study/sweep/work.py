"""One row from its beginning, or from where it was stopped, to its record."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from apatite.core.config import dump, load, read_yaml, write_yaml
from apatite.core.watch import Watch, unwatched
from apatite.engine.machine import machine
from apatite.engine.place import Resume
from apatite.engine.precision import Precision
from apatite.io.model_package import read_summary
from apatite.io.run_folder import RunFolder
from apatite.io.store import Prepared
from apatite.pretrain.config import PretrainConfig
from apatite.pretrain.learned import learned_rows
from apatite.pretrain.stage import pretrain
from apatite.segment.config import FinetuneConfig
from apatite.segment.finetune import finetune
from apatite.segment.labelled import labelled_rows
from apatite.segment.predict import open_predictor
from apatite.study.run import log_look
from apatite.study.sweep.clock import StepClock
from apatite.study.sweep.data import SweepData
from apatite.study.sweep.expand import rows_of
from apatite.study.sweep.facts import counted, counted_outcomes, curve_of, domains_of, health_of, patch_mm, versions
from apatite.study.sweep.folder import SweepFolder
from apatite.study.sweep.grid import Grid
from apatite.study.sweep.judging import calibration_values, estimates_of, judge_row
from apatite.study.sweep.plan import settle_plan
from apatite.study.sweep.record import SPLITS, Record, is_flat, read_record, write_record
from apatite.study.sweep.rows import SweepRow
from apatite.study.sweep.settings import finetune_config, network_key, pretrain_config

C = TypeVar("C", PretrainConfig, FinetuneConfig)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row to be done, in plain values that another process can be told.

    Attributes:
        grid: Its grid.
        row: Its name.
        data: Prepared folders by reader.
        out: Folder of the sweep.
        is_inexact: Whether other rounding is accepted than an interrupted run began with.
        nnunet_python: Interpreter that has nnU-Net; this one when None.
        command: For the record.
    """

    grid: Grid
    row: str
    data: dict[str, Path] = field(default_factory=dict)
    out: Path
    is_inexact: bool = False
    nnunet_python: Path | None = None
    command: str = ""

    @property
    def resume(self) -> Resume:
        """How an interrupted run goes on."""
        return "inexact" if self.is_inexact else True


def do_row(job: Job, watch: Watch = unwatched) -> Record:
    """Do a row and write its record.

    Raises:
        StoppedError: a signal stopped its training; the state is committed.
        ApatiteError: it cannot be done.
    """
    begun = time.monotonic()
    row = rows_of(job.grid)[job.row]
    data = SweepData(by_reader={reader: Prepared.open(folder) for reader, folder in job.data.items()})
    folder = SweepFolder(path=job.out)
    if row.kind == "pretrain":
        record, outcomes = _pretrained(job, row, data, folder, watch), None
    elif row.kind == "vit":
        record, outcomes = _fine_tuned(job, row, data, folder, watch)
    else:
        from apatite.study.sweep.nnunet_row import run_nnunet_row

        record, outcomes = run_nnunet_row(job, row, data, folder, watch)
    record = replace(record, versions=versions(), command=job.command, elapsed_s=round(time.monotonic() - begun, 1))
    write_record(job.out, record, outcomes)
    return record


def _pretrained(job: Job, row: SweepRow, data: SweepData, folder: SweepFolder, watch: Watch) -> Record:
    needed = {name: read_record(folder.path, name) for name in row.needs}
    prepared, config = data.learned_from(""), pretrain_config(job.grid, row, needed)
    digest = settle_plan(folder, row, config, prepared)
    run, clock = RunFolder(path=folder.run(row.name)), StepClock(path=folder.clock(row.name), watch=watch)
    try:
        made = pretrain(_shared(folder, config), prepared.folder, run.path, resume=job.resume, watch=clock)
    finally:
        _share(folder, config, run)
    used = load(PretrainConfig, read_yaml(run.config), str(run.config))
    record = _record(job.grid, row, run, used)
    return replace(
        record,
        steps=made.steps,
        seconds={"pretrain": clock.total()[1]},
        step_s=clock.step_s(),
        health=health_of(run),
        domains=domains_of(prepared, "pretrain", "finetune"),
        splits={"pretrain": counted(prepared, learned_rows(used, prepared), labelled=False)},
        digests=record.digests | {"data": str(prepared.about["manifest_sha256"]), "settings": digest},
    )


def _fine_tuned(
    job: Job, row: SweepRow, data: SweepData, folder: SweepFolder, watch: Watch
) -> tuple[Record, Mapping[str, Any]]:
    prepared = data.learned_from(row.reader)
    needed = {name: read_record(folder.path, name) for name in row.needs}
    config = finetune_config(job.grid, row, needed)
    digest = settle_plan(folder, row, config, prepared)
    run, clock = RunFolder(path=folder.run(row.name)), StepClock(path=folder.clock(row.name), watch=watch)
    init_from = folder.run(row.encoder) if row.encoder else None
    shared = _shared(folder, config)
    try:
        finetune(shared, prepared.folder, run.path, init_from=init_from, resume=job.resume, watch=clock)
    finally:
        _share(folder, config, run)
    used = load(FinetuneConfig, read_yaml(run.config), str(run.config))
    predictor = open_predictor(run.path)
    for split in SPLITS:
        log_look(run.path, folder.path, split, f"{row.name} {predictor.digest}")
    judged = judge_row(predictor, predictor.digest, prepared, data.truth, job.grid, watch)
    record, curve = _record(job.grid, row, run, used), curve_of(run)
    digests = {"data": prepared.about["manifest_sha256"], "truth": data.truth.about["manifest_sha256"]}
    encoder = {"encoder": needed[row.encoder].digests["model"]} if row.encoder else {}
    before = {"pretrain": needed[row.encoder].seconds["pretrain"]} if row.encoder else {}
    learned = counted(prepared, labelled_rows(prepared, used), labelled=True)
    record = replace(
        record,
        steps=used.steps,
        seconds=before | {"finetune": clock.total()[1]} | judged.seconds,
        curve=curve,
        is_flat=is_flat(curve, used.steps),
        calibration=calibration_values(judged.calibration),
        domains=domains_of(data.truth, *SPLITS),
        splits={"finetune": learned} | counted_outcomes(judged.outcomes),
        **estimates_of(judged.outcomes, prepared.manifest.label_names, job.grid.resamples),
        digests=record.digests | digests | encoder | {"settings": digest},
    )
    return record, judged.outcomes


def _record(grid: Grid, row: SweepRow, run: RunFolder, config: PretrainConfig | FinetuneConfig) -> Record:
    """What is read from the run and its package."""
    package = read_summary(run.model)
    spec = package.card.input
    assert config.precision is not None
    return Record(
        name=row.name,
        kind=row.kind,
        tier=grid.tier,
        axes=dict(row.axes),
        steps=0,
        seconds={},
        num_parameters=package.num_parameters,
        patch_mm=None if row.axes["patch"] is None or config.patch is None else patch_mm(config.patch, spec.spacing_mm),
        spacing_mm=spec.spacing_mm,
        crop=spec.shape,
        config=dump(config),
        digests={"model": package.digest},
        machine=machine(config.precision, 1),
    )


def _shared(folder: SweepFolder, config: C) -> C:
    """The configuration with what was measured for the first network of its kind, so that twins compute alike."""
    found = folder.precision(network_key(config))
    if config.precision is not None or not found.exists():
        return config
    return replace(config, precision=load(Precision, read_yaml(found), str(found)))


def _share(folder: SweepFolder, config: PretrainConfig | FinetuneConfig, run: RunFolder) -> None:
    """Keep what was measured for the run, where it is the first of its kind."""
    path = folder.precision(network_key(config))
    if run.config.exists() and not path.exists():
        measured = load(type(config), read_yaml(run.config), str(run.config)).precision
        if measured is not None:
            write_yaml(path, measured)
