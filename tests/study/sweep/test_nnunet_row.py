"""A row of nnU-Net without nnU-Net: what it leaves on disk is put there by hand."""

import json

import numpy as np
import pytest

from apatite.core.config import write_yaml
from apatite.io.run_folder import RunFolder
from apatite.segment.predict import NativePrediction
from apatite.study.nnunet.run import NnunetRun
from apatite.study.sweep import nnunet_row
from apatite.study.sweep.record import outcomes_of, read_record
from apatite.study.sweep.run import run_sweep

EPOCHS = [(40, 0.10), (30, None), (30, 0.30)]


class SeesHu:
    """Predicts what is above 200 HU, everywhere."""

    label_values = (1,)

    def __init__(self, results):
        assert results == "results"

    def predict_case(self, case, scan):
        probability = 1 / (1 + np.exp(-(scan.voxels_hu[None].astype(np.float64) - 200) / 40))
        is_counted = np.ones(scan.voxels_hu.shape, dtype=bool)
        return NativePrediction(probability=probability, is_counted=is_counted, label_values=(1,))


class FakeResults(str):
    def digest(self):
        return "d" * 64


@pytest.fixture
def asked(monkeypatch):
    """Stands in for nnU-Net; keeps what it was asked for."""
    calls = []

    def run_nnunet(config, prepared, out, watch, *, python, is_calibrated):
        calls.append((config, prepared.folder, out, python, is_calibrated))
        RunFolder.create(out, {"nnunet": {"torch": "9.9", "nnunetv2": "2.6"}})
        write_yaml(RunFolder(path=out).config, config)
        (out / "x1").mkdir()
        rows = [{"event": "schedule", "num_epochs": 3}]
        rows += [{"event": "epoch", "iterations": count, "mean_pseudo_dice": dice} for count, dice in EPOCHS]
        (out / "x1" / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        plan = {"plan": {"spacing": [2.0, 1.0, 0.5], "patch_size": [16, 32, 64]}, "wall_s": 4.0}
        train = {"iterations": 103, "elapsed_s": 61.5, "device": "cpu", "threads": 2}
        stages = {"plan": plan, "x1-train": train, "x1-predict-development": {"wall_s": 2.0}}
        stages["x1-predict-test"] = {"wall_s": 3.0}
        return NnunetRun(folder=out, lengths=(), stages=stages, notes=())

    monkeypatch.setattr(nnunet_row, "run_nnunet", run_nnunet)
    monkeypatch.setattr(nnunet_row, "read_results", lambda _: FakeResults("results"))
    monkeypatch.setattr(nnunet_row, "NnunetPredictions", SeesHu)
    return calls


def test_a_row_of_nnunet_is_judged_as_every_other(tiny_grid, head_study, tmp_path, in_process, asked):
    axes = {"arm": ["nnunet"], "labels": [3], "draw": [2], "seed": [4]}
    grid = tiny_grid({"axes": axes}, nnunet={"minutes": 1.5, "change": ["batch=2"]})
    out = tmp_path / "out"
    state = run_sweep(grid, {"": head_study.prepared}, out, do_row=in_process)
    assert state.exit_code == 0, state.rows
    ((config, data, run, python, is_calibrated),) = asked
    assert (config.minutes, config.batch, config.num_labelled, config.draw, config.seed) == (1.5, 2, 3, 2, 4)
    assert (data, run, python, is_calibrated) == (
        head_study.prepared,
        out / "runs" / "nnunet-n3-d2-s4-perfect",
        None,
        False,
    )
    record = read_record(out, "nnunet-n3-d2-s4-perfect")
    assert record.kind == "nnunet" and record.axes["decoder"] is None
    assert record.curve == ((40, 0.1), (100, 0.3)) and record.steps == 103 and not record.is_flat
    assert (record.spacing_mm, record.crop, record.patch_mm) == ((0.5, 1.0, 2.0), (16, 32, 64), None)
    assert record.seconds["finetune"] == 61.5 and (record.seconds["plan"], record.seconds["predict"]) == (4.0, 5.0)
    assert record.splits["finetune"]["series"] == 3 and record.splits["test"]["series"] == 7
    assert record.digests["model"] == "d" * 64
    assert record.machine["torch"] == "9.9" and record.config["plan"]["patch_size"] == [16, 32, 64]
    assert set(outcomes_of(record, "test")) == {"raw", "calibrated"}
    assert record.summary["test"]["calibrated"][0]["estimates"]["dice"]["value"] > 0.3
    assert len(RunFolder(path=run).read_looks()) == 2
