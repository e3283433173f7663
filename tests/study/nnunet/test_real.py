"""The real nnU-Net on the tiny heads, in seconds; skipped where it is not installed in this interpreter."""

import json

import numpy as np
import pytest

from apatite.io.nifti import read_volume
from apatite.study.contestants import open_contestant
from apatite.study.nnunet.config import NnunetConfig
from apatite.study.nnunet.export import DATASET
from apatite.study.nnunet.run import run_nnunet

pytest.importorskip("nnunetv2", reason="nnunetv2 has an environment of its own (docs/how-to/compare-with-nnunet.md)")


@pytest.mark.slow
def test_planned_trained_and_asked(head_study, tmp_path):
    prepared = head_study.open()
    config = NnunetConfig(
        minutes=0.25, patch=(8, 16, 16), base_features=8, stages=3, batch=3, device="cpu", workers=0, num_labelled=3
    )
    made = run_nnunet(config, prepared, tmp_path / "run")
    plan = made.stages["plan"]["plan"]
    assert (plan["patch_size"], plan["batch_size"]) == ([8, 16, 16], 3)
    assert plan["architecture"]["arch_kwargs"]["features_per_stage"] == [8, 16, 32]
    trained = made.stages["x1-train"]
    assert trained["epochs"] >= 1
    # One epoch's rounding, and the first iterations on a busy machine.
    assert trained["elapsed_s"] < 60
    rows = [json.loads(line) for line in (tmp_path / "run" / "x1" / "curve.jsonl").read_text().splitlines()]
    rates = [row["learning_rate"] for row in rows if row["event"] == "epoch"]
    expected = [0.01 * (1 - epoch / len(rates)) ** 0.9 for epoch in range(len(rates))]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    fold = tmp_path / "run" / trained["model"] / "fold_0"
    assert (fold / "checkpoint_final.pth").exists() and not (fold / "checkpoint_best.pth").exists()
    split = json.loads((tmp_path / "run" / "preprocessed" / DATASET / "splits_final.json").read_text())
    assert [len(split[0][part]) for part in ("train", "val")] == [3, 7]
    folder = tmp_path / "run" / "x1" / "predictions" / "test"
    for row in prepared.case_index("test").tolist():
        name = prepared.cases[row].case_id
        probabilities = np.load(folder / f"{name}.npz")["probabilities"]
        label = read_volume(folder / f"{name}.nii.gz")
        # The order of axes that is read here is the one in which nnU-Net writes.
        np.testing.assert_array_equal(probabilities.argmax(axis=0), label.voxels)
        assert label.grid.matches(prepared.grid(row), 1e-3)
    assert not list((tmp_path / "run" / "x1" / "predictions").rglob("*.pkl"))
    assert open_contestant(tmp_path / "run", "nnU-Net").calibration is not None
    assert made.lengths[0].dice is not None
