"""A grid of seconds on the tiny heads, and rows that are done in this process."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from apatite.core.errors import ApatiteError, StoppedError
from apatite.core.watch import Watch
from apatite.ct.region import RegionConfig
from apatite.data.prepare import PrepareConfig, prepare
from apatite.io.manifest import Manifest, read_manifest
from apatite.io.nifti import read_label, read_scan, write_label
from apatite.study.sweep.expand import rows_of
from apatite.study.sweep.grid import Grid, grid_of
from apatite.study.sweep.process import Ended, IsOver
from apatite.study.sweep.record import Record, read_record, write_record
from apatite.study.sweep.settings import row_digest
from apatite.study.sweep.work import Job, do_row

PRECISION = "precision={device: cpu, format: fp32, attention_in_fp32: false, head_multiple: 1, threads: 1}"


@pytest.fixture
def tiny_grid() -> Callable[..., Grid]:
    """A grid whose rows take a second on the heads; blocks are given."""

    def make(*blocks: dict, steps: int = 8, **changes: object) -> Grid:
        values = {
            "pretrain": {"recipe": "sweep", "change": ["epochs=2", "check_epochs=2", "batch=4", PRECISION]},
            "finetune": {"recipe": "sweep", "change": [f"steps={steps}", "check_every=2", "batch=4", PRECISION]},
            "resamples": 20,
            "defaults": {"patch": [4, 8, 8]},
            "minutes": {"pretrain": 0.05, "vit": 0.05},
            "blocks": list(blocks),
        }
        return grid_of(values | changes, "tiny")

    return make


@pytest.fixture(scope="session")
def reader_heads(head_study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The heads as a reader sees them who misses the lowest slice of everything; prepared."""
    folder, listed = tmp_path_factory.mktemp("reader"), read_manifest(head_study.manifest)
    cases = []
    for case in listed.cases:
        label = ""
        if case.label:
            stack = read_scan(listed.image_path(case)).stack
            marked = read_label(listed.root / case.label, stack)
            found = np.flatnonzero(marked.any(axis=(1, 2)))
            marked[found[:1]] = 0
            label = f"labels-reader/{case.case_id}.nii.gz"
            write_label(folder / label, marked, stack)
        image = os.path.relpath(listed.image_path(case), folder)
        cases.append(replace(case, image=image, label=label))
    manifest = Manifest(root=folder, cases=tuple(cases), label_names=listed.label_names)
    region = RegionConfig(shape=(8, 16, 24), spacing_mm=(1.0, 1.25, 2.5))
    prepare(manifest, folder / "prepared", PrepareConfig(region=region))
    return folder / "prepared"


def here(job: Job, is_over: IsOver, title: str, watch: Watch) -> Ended:
    """Do a row in this process."""
    try:
        do_row(job, watch)
    except StoppedError:
        return Ended(how="stopped")
    except ApatiteError as error:
        return Ended(how="failed", error=error.to_dict())
    return Ended(how="done")


@pytest.fixture(scope="session")
def precision_change() -> str:
    """Nothing is measured: every row computes alike."""
    return PRECISION


@pytest.fixture(scope="session")
def in_process() -> Callable[[Job, IsOver, str, Watch], Ended]:
    return here


def pretend(job: Job, is_over: IsOver, title: str, watch: Watch) -> Ended:
    """Leave a record without doing anything; pre-training "took" ten seconds, everything else five."""
    row = rows_of(job.grid)[job.row]
    digest = row_digest(job.grid, row, {name: read_record(job.out, name) for name in row.needs})
    seconds = {"pretrain": 10.0} if row.kind == "pretrain" else {"finetune": 5.0}
    record = Record(
        name=row.name, kind=row.kind, tier="own", axes=dict(row.axes), steps=5, seconds=seconds, num_parameters=1,
        digests={"settings": digest},
    )  # fmt: skip
    write_record(job.out, record, None if row.kind == "pretrain" else {})
    return Ended(how="done")


@pytest.fixture
def pretended() -> Callable[[Job, IsOver, str, Watch], Ended]:
    return pretend
