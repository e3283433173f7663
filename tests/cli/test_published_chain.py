"""A published data set of magnetic resonance through every verb: its unit of intensity goes with it to the end."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from apatite.cli import main
from apatite.core.errors import ConfigError, ModelError
from apatite.io.layouts import LAYOUTS, PUBLISHED
from apatite.io.layouts.acdc import from_acdc
from apatite.io.model_package import read_package
from apatite.io.nifti import read_scan
from apatite.io.store import Prepared
from apatite.segment.predict import open_predictor
from apatite.segment.quantify import Quantifier, QuantifyConfig
from apatite.study.robustness.run import robustness

AFFINE = np.diag([-1.5, 1.5, 5.0, 1.0])
TINY = [
    "model=vitiac-xs",
    "crop=[8,16,32]",
    "patch=[4,8,8]",
    "batch=2",
    "unetrpp.preset=tiny",
    "precision={device: cpu, format: fp32, attention_in_fp32: false, head_multiple: 1, threads: 1}",
]


def heart(number: int, gain: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Ten by four by two centimetres in a scanner of its own gain, `i j k`, and the three labels in it."""
    draw = np.random.default_rng(number)
    i, j, k = np.meshgrid(np.arange(36), np.arange(20), np.arange(9), indexing="ij")
    distance = np.sqrt(((i - 18) * 1.5) ** 2 + ((j - 10) * 1.5) ** 2 + ((k - 4) * 5.0) ** 2)
    label = np.where(distance < 6, 3, np.where(distance < 10, 2, 0)) + (np.abs(i - 28) < 3) * (distance >= 10)
    voxels = (60 + 40 * label + draw.normal(0, 4, label.shape)) * (1 + number) * 2
    return np.rint(voxels).astype(np.int16) * int(gain), label.astype(np.uint8)


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("acdc") / "training"
    for number in range(1, 7):
        name = f"patient{number:03d}"
        (folder / name).mkdir(parents=True)
        (folder / name / "Info.cfg").write_text("ED: 1\nES: 7\nGroup: NOR\nNbFrame: 12\n")
        for frame in (1, 7):
            for end, voxels in zip(("", "_gt"), heart(10 * number + frame), strict=True):
                image = nib.Nifti1Image(voxels, AFFINE)
                # As distributed: the true sizes in pixdim and the qform, and 1 mm in the sform.
                image.set_sform(np.diag([-1.0, 1.0, 1.0, 1.0]), code=1)
                nib.save(image, folder / name / f"{name}_frame{frame:02d}{end}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def chain(training: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Everything that the verbs make, by verb."""
    out = tmp_path_factory.mktemp("chain")
    names = tuple(f"patient{number:03d}" for number in range(1, 7))
    split = replace(PUBLISHED["acdc"], patients=names, test=frozenset(names[5:]), num_development=1)
    paths = {name: out / name for name in ("prepared", "pretrained", "tuned")} | {"manifest": out / "m.csv"}
    verbs = [
        ["index", "-i", training, "-o", paths["manifest"], "--layout", "acdc"],
        ["prepare", "-i", paths["manifest"], "-o", paths["prepared"], "--recipe", "acdc", "--workers", 0,
         "least_shape=[8,16,32]"],
        ["pretrain", "-d", paths["prepared"], "-o", paths["pretrained"], "--recipe", "acdc", "epochs=1", *TINY],
        ["finetune", "-d", paths["prepared"], "-o", paths["tuned"], "--recipe", "acdc",
         "--init-from", paths["pretrained"], "steps=2", *TINY],
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PUBLISHED, "acdc", split)
        patch.setitem(LAYOUTS, "acdc", partial(from_acdc, split))
        for arguments in verbs:
            assert main.run([*map(str, arguments), "--json"]) == 0, arguments[0]
    return paths


def test_both_frames_stay_on_their_side(chain):
    prepared = Prepared.open(chain["prepared"])
    counts = {split: len(prepared.case_index(split)) for split in ("finetune", "development", "test")}
    assert counts == {"finetune": 8, "development": 2, "test": 2}
    assert prepared.intensity == "zscore"
    # 36 × 20 voxels of 1.5 mm, nine slices of 5 mm: at 1 mm it would have been a third as large, and padded.
    assert prepared.volume("patient001_frame01").grid.shape == (9, 20, 36)


def test_models_say_what_they_count_in(chain):
    for name in ("pretrained", "tuned"):
        card = read_package(chain[name] / "model").card
        assert card.input.intensity == "zscore"
        assert card.input.windows_hu == ((-768.0, 1024.0),)
        assert card.provenance.data_digest == Prepared.open(chain["prepared"]).about["manifest_sha256"]


def test_a_scanner_of_another_gain_changes_nothing(chain, tmp_path):
    predictor = open_predictor(chain["tuned"], "cpu")
    for number, gain in enumerate((1, 3)):
        nib.save(nib.Nifti1Image(heart(0, gain)[0], AFFINE), tmp_path / f"h{number}.nii.gz")
    first, louder = (predictor.predict(read_scan(tmp_path / f"h{number}.nii.gz")) for number in range(2))
    np.testing.assert_allclose(louder.probability, first.probability, atol=1e-5)
    assert np.ptp(first.probability) > 0


def test_what_needs_hu_is_refused(chain, tmp_path):
    with pytest.raises(ModelError, match="does not segment calcium"):
        Quantifier(open_predictor(chain["tuned"], "cpu"), (), QuantifyConfig())
    with pytest.raises(ConfigError, match="those of CT"):
        robustness([chain["tuned"]], Prepared.open(chain["prepared"]), tmp_path / "r")


def test_ct_cannot_begin_from_it(chain, body_study, tmp_path, capsys):
    begun = ["--init-from", str(chain["pretrained"]), "--json", "--recipe", "acdc", "steps=2", *TINY]
    code = main.run(["finetune", "-d", str(body_study.prepared), "-o", str(tmp_path / "run"), *begun])
    assert code == 2
    assert "intensity=zscore, the data have hu" in json.loads(capsys.readouterr().out)["what"]
