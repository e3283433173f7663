"""The command `prepare` on a batch with bad cases, killed midway: good cases are all there, bad ones named."""

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from apatite.ct.region import RegionConfig
from apatite.data.prepare import PrepareConfig, prepare
from apatite.io.manifest import Case, Manifest, write_manifest
from apatite.io.store import Prepared

COUNT = 100
SPLITS = ("pretrain", "finetune", "development", "test")
REGION = PrepareConfig(region=RegionConfig(shape=(4, 6, 8), spacing_mm=(1.0, 1.0, 2.0)))
SETTINGS = ("region.shape=[4,6,8]", "region.spacing_mm=[1,1,2]")
BAD = {"c010": "TRUNCATED", "c030": "INTERNAL", "c050": "WORKER_KILLED", "c070": "DEADLINE", "c090": "OOM"}
COMMAND = "from apatite.cli.main import main; main()"
MISDEEDS = """
import os, signal, time
from apatite.data import prepare_piece

real = prepare_piece.PrepareTask.__call__

def misdo(task, case, folder):
    if case.case_id == "c030":
        raise RuntimeError("cannot parse DOE^JANE")
    if case.case_id == "c050":
        os.kill(os.getpid(), signal.SIGKILL)
    if case.case_id == "c070":
        time.sleep(99)
    if case.case_id == "c090":
        bytearray(8 * 2**30)
    return real(task, case, folder)

prepare_piece.PrepareTask.__call__ = misdo
"""
"""Every interpreter of the batch begins with this: what no file can do to a reader, a case does."""


@pytest.fixture
def study(tmp_path: Path) -> Manifest:
    affine = np.array([[0.5, 0, 0, -6], [0, 0.5, 0, -5], [0, 0, 2.0, -8], [0, 0, 0, 1]])
    cases = []
    for number in range(COUNT):
        voxels = np.random.default_rng(number).integers(-200, 800, (24, 20, 9)).astype(np.int16)
        nib.save(nib.Nifti1Image(voxels, affine), tmp_path / f"i{number}.nii.gz")
        nib.save(nib.Nifti1Image((voxels > 700).astype(np.uint8), affine), tmp_path / f"l{number}.nii.gz")
        cases.append(
            Case(
                case_id=f"c{number:03d}",
                patient_id=f"p{number}",
                image=f"i{number}.nii.gz",
                label=f"l{number}.nii.gz",
                split=SPLITS[number % 4],
                region_centre_ras_mm=(-0.25, -0.25, 0.0),
            )
        )
    (tmp_path / "i10.nii.gz").write_bytes((tmp_path / "i10.nii.gz").read_bytes()[:-400])
    manifest = Manifest(root=tmp_path, cases=tuple(cases), label_names={1: "calcium"})
    write_manifest(tmp_path / "m.csv", manifest)
    return manifest


def start(tmp_path: Path) -> subprocess.Popen:
    misdeeds = tmp_path / "misdeeds"
    misdeeds.mkdir(exist_ok=True)
    (misdeeds / "sitecustomize.py").write_text(MISDEEDS)
    limits = ("--workers", "2", "--case-minutes", "0.08", "--case-gib", "6")
    paths = ("-i", tmp_path / "m.csv", "-o", tmp_path / "out")
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "prepare", *map(str, paths), *limits, *SETTINGS],
        env=os.environ | {"PYTHONPATH": str(misdeeds)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def children_of(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            is_worker = b"spawn_main" in (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == parent and is_worker:
            found.append(int(path.parent.name))
    return found


def wait_for(settled: int, work: Path) -> None:
    until = time.monotonic() + 60
    while len(list(work.glob("cases/*/result"))) < settled:
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.slow
def test_a_batch_with_bad_cases_that_is_killed_and_started_again(study, tmp_path):
    before = {path.name for path in tmp_path.iterdir()}
    good = replace(study, cases=tuple(case for case in study.cases if case.case_id not in BAD))
    prepare(good, tmp_path / "clean", REGION)
    work = tmp_path / ".out.unfinished"

    first = start(tmp_path)
    wait_for(20, work)
    first.kill()
    first.communicate()
    second = start(tmp_path)
    wait_for(60, work)
    os.kill(children_of(second.pid)[0], signal.SIGKILL)
    said = second.communicate()[0]
    assert second.returncode == 8, said
    assert "DOE" not in said

    prepared, clean = Prepared.open(tmp_path / "out"), Prepared.open(tmp_path / "clean")
    assert {bad["case_id"]: bad["code"] for bad in prepared.about["failures"]} == BAD
    for name in ("images.npy", "fractions.npy", "grids.npy", "cases.csv"):
        assert (prepared.folder / name).read_bytes() == (clean.folder / name).read_bytes(), name
    rows = list(csv.DictReader((prepared.folder / "rows.csv").read_text().splitlines()))
    assert [row["case_id"] for row in rows] == [case.case_id for case in study.cases]
    assert {row["case_id"]: row["code"] for row in rows if row["verdict"] != "done"} == BAD
    assert {path.name for path in tmp_path.iterdir()} == before | {"misdeeds", "clean", "out"}


@pytest.mark.weekly
def test_two_commands_at_the_same_time_share_the_cases(study, tmp_path):
    """Both end well, with one folder; each case was prepared once."""
    good = replace(study, cases=tuple(case for case in study.cases if case.case_id not in BAD)[:24])
    write_manifest(tmp_path / "m.csv", good)
    before = {path.name for path in tmp_path.iterdir()}
    pair = [start(tmp_path), start(tmp_path)]
    said = [one.communicate()[0] for one in pair]
    assert [one.returncode for one in pair] == [0, 0], said
    prepare(good, tmp_path / "clean", REGION)
    for name in ("images.npy", "fractions.npy", "grids.npy", "cases.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "clean" / name).read_bytes(), name
    assert {path.name for path in tmp_path.iterdir()} == before | {"misdeeds", "clean", "out"}
