"""Folders of nnU-Net results, written by hand from what is known."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from apatite.core.commit import commit_json
from apatite.io.nifti_file import write_nifti
from apatite.study.nnunet.export import about_of

Fill = Callable[[int, tuple[int, int, int]], np.ndarray]


@pytest.fixture
def write_results(tmp_path: Path):
    """A folder as nnU-Net leaves it: `dataset.json`, `plans.json`, label maps and probabilities of some cases."""

    def write(
        prepared, rows, fill: Fill, *, name: str = "results", is_ours: bool = True, with_npz: bool = True
    ) -> Path:
        folder = tmp_path / name
        labels = {"background": 0} | {
            prepared.manifest.label_names[v]: n + 1 for n, v in enumerate(prepared.label_values)
        }
        description = {"labels": labels, "file_ending": ".nii.gz"}
        commit_json(folder / "plans.json", {})
        commit_json(folder / "dataset.json", description | ({"apatite": about_of(prepared, rows)} if is_ours else {}))
        for row in rows:
            probabilities, case = fill(row, prepared.grid(row).shape), prepared.cases[row].case_id
            label = probabilities.argmax(axis=0).astype(np.uint8)
            # As ITK writes it: in single precision.
            affine = np.array(prepared.grids[row]).astype(np.float32).astype(np.float64)
            write_nifti(folder / f"{case}.nii.gz", label, affine)
            if with_npz:
                np.savez_compressed(folder / f"{case}.npz", probabilities=probabilities.astype(np.float32))
        return folder

    return write


STAND_IN = """
import json, os, sys
from pathlib import Path
verb, settings, pipe = sys.argv[3], json.loads(sys.argv[4]), int(sys.argv[5])
here = Path(__file__).parent
with (here / "calls").open("a") as calls:
    calls.write(json.dumps([verb, settings]) + "\\n")
def say(event, **row):
    os.write(pipe, (json.dumps({"event": event, **row}) + "\\n").encode())
def asked(mode):
    return (here / mode).exists()
if verb == "versions":
    say("versions", python="3.11.0", nnunetv2="2.8.1", torch="2.13.0")
if verb == "plan":
    assert (Path(settings["raw"]) / "Dataset501_Apatite" / "dataset.json").exists()
    say("planned", configuration=settings["configuration"], plans="nnUNetPlans", plan={"batch_size": 2})
if verb == "train":
    model = Path(settings["model"])
    (model / "fold_0").mkdir(parents=True, exist_ok=True)
    latest = model / "fold_0" / "checkpoint_latest.pth"
    begin, epochs = 0, 5
    if latest.exists() and settings["num_epochs"] is not None:
        begin, epochs = int(latest.read_text()), settings["num_epochs"]
        say("resumed", epoch=begin)
    else:
        say("schedule", num_epochs=epochs, measured=3, seconds_per_iteration=0.25)
    for epoch in range(begin, epochs):
        say("epoch", epoch=epoch, iterations=10 + epoch, loss=None if epoch == 1 else 1.0 / (epoch + 1),
            mean_pseudo_dice=0.1 * epoch, elapsed_s=settings["budget_s"] * (epoch + 1) / epochs)
        if asked("breaks") and epoch == 3:
            latest.write_text("2")
            raise RuntimeError("out of memory, so to say")
    (model / "fold_0" / "checkpoint_final.pth").write_text("weights")
    say("trained", device="cpu", threads=2, peak_gpu_bytes=None)
if verb == "predict":
    import nibabel as nib
    import numpy as np
    assert (Path(settings["model"]) / "fold_0" / "checkpoint_final.pth").exists()
    out = Path(settings["out"])
    out.mkdir(parents=True, exist_ok=True)
    # The longer it was trained, the better it knows what calcium is.
    multiple = int(Path(settings["results"]).parent.name.removeprefix("x"))
    blur = {1: 0.6, 2: 0.0, 4: 0.0}[multiple]
    for case in settings["cases"]:
        image = nib.load(Path(settings["images"]) / f"{case}_0000.nii.gz")
        hu = np.asarray(image.dataobj).astype(np.float32)
        foreground = 0.45 / (1 + np.exp(-(hu - 130 - 400 * blur) / 20)).transpose(2, 1, 0)
        probabilities = np.stack([1 - foreground, foreground]).astype(np.float32)
        np.savez(out / f"{case}.npz", probabilities=probabilities)
        nib.save(nib.Nifti1Image(np.zeros(hu.shape, np.uint8), image.affine), out / f"{case}.nii.gz")
        say("case", case_id=case)
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """An executable that behaves as nnU-Net's interpreter does, in a moment: planning, training, predicting."""
    folder = tmp_path / "stand-in"
    folder.mkdir()
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\n{STAND_IN}")
    path.chmod(0o755)
    return path


@pytest.fixture
def calls(stand_in: Path) -> Callable[[], list[tuple[str, dict]]]:
    """What the stand-in was asked for since the last time."""

    def read() -> list[tuple[str, dict]]:
        file = stand_in.parent / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [tuple(json.loads(line)) for line in lines]

    return read
