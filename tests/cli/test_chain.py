"""The main job through the command, verb after verb, each reading only what the one before wrote."""

import json

from apatite.cli import main

TINY = [
    "patch=[4,8,8]",
    "precision={device: cpu, format: fp32, attention_in_fp32: false, head_multiple: 1, threads: 1}",
    "batch=4",
]
DECODER = ["decoder.mae.dim=24", "decoder.mae.depth=1", "decoder.mae.heads=2"]


def test_from_scans_to_volumes(head_study, tmp_path, capsys):
    def run(*arguments: object) -> dict:
        code = main.run([*map(str, arguments), "--json"])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return json.loads(captured.out)

    data, encoder, tuned, better = (tmp_path / name for name in ("data", "mae", "tuned", "better"))
    region = ["region.shape=[8,16,24]", "region.spacing_mm=[1.0,1.25,2.5]"]
    counts = run("prepare", "-i", head_study.manifest, "-o", data, *region)["counts"]
    assert counts == {"pretrain": 5, "finetune": 5, "development": 7, "test": 7}
    assert run("pretrain", "-d", data, "-o", encoder, "epochs=2", *TINY)["cases"] == 10
    made = run("finetune", "-d", data, "-o", tuned, "--init-from", encoder, "steps=3", *TINY, *DECODER)
    assert (made["coverage"], made["cases"]) == (1.0, 5)
    found = run("calibrate", "-m", tuned, "-d", data, "-o", better)
    assert set(found["calibration"]["labels"]["1"]) == {"ungated", "gated"}
    card = run("inspect", "-m", better)["card"]
    assert card["domains"] == {
        "pretraining": ["phantom"], "training": ["phantom"], "calibration": ["phantom"], "reference": ["phantom"],
    }  # fmt: skip
    summary = run("evaluate", "-m", tuned, "-m", better, "-d", data, "-o", tmp_path / "page", "--resamples", 20)
    assert summary["apatite"]["models"] == ["tuned", "better", "better + calibrated"]
    rows = run("predict", "-m", better, "-i", head_study.manifest, "-o", tmp_path / "out", "--reading", "ungated")[
        "rows"
    ]
    assert len(rows) == 24
    assert all(row["calibrated"] and row["flags"] == "" for row in rows)


def test_text_for_people(tuned, head_study, tmp_path, capsys):
    """Every verb that was not run as text elsewhere says what it made and where."""
    assert main.run(["calibrate", "-m", str(tuned), "-d", str(head_study.prepared), "-o", str(tmp_path / "c")]) == 0
    text = capsys.readouterr().out
    assert "7 development cases (phantom)" in text
    assert "label 1, gated: threshold" in text
    assert f"calibrated model: {tmp_path / 'c'}" in text
    scan = head_study.manifest.parent / "head-07.nii.gz"
    assert main.run(["predict", "-m", str(tuned), "-i", str(scan), "-o", str(tmp_path / "p")]) == 0
    text = capsys.readouterr().out
    assert "head-07: calcium" in text
    assert f"volumes: {tmp_path / 'p' / 'volumes.csv'}" in text
