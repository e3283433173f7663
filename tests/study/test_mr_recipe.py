"""The how-to of MR and five folds, on made-up images: which steps work together and which are refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from apatite.cli.main import run
from apatite.core.errors import ConfigError
from apatite.data.prepare import PrepareConfig, prepare
from apatite.engine.precision import Precision
from apatite.io.manifest import read_manifest
from apatite.nn.intensity import DEVIATIONS
from apatite.nn.projection import ProjectionConfig
from apatite.pretrain.config import PretrainConfig
from apatite.pretrain.recipes import smit_small
from apatite.pretrain.stage import pretrain
from apatite.segment.config import FinetuneConfig
from apatite.segment.finetune import finetune
from apatite.segment.recipes import RECIPES as FINETUNE

CROP = (16, 16, 32)
HERE = Precision(device="cpu", threads=1)


@pytest.fixture(scope="module")
def prepared(body_study, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same images in both units."""
    folder, listed = tmp_path_factory.mktemp("units"), read_manifest(body_study.manifest)
    for unit in ("hu", "zscore"):
        body_hu = -500.0 if unit == "hu" else -1024.0
        config = PrepareConfig(
            kind="volume", spacing_mm=(3.0, 3.0, 3.0), least_shape=(32, 32, 48), intensity=unit, body_hu=body_hu
        )
        prepare(listed, folder / unit, config)
    return {unit: folder / unit for unit in ("hu", "zscore")}


def pretraining() -> PretrainConfig:
    small = ProjectionConfig(prototypes=16, hidden=12, dim=8)
    return replace(
        smit_small(), crop=CROP, windows_hu=(DEVIATIONS,), hidden_ratio=0.5, projection=small, batch=4, epochs=1,
        check_epochs=1, precision=HERE,
    )  # fmt: skip


def tuning() -> FinetuneConfig:
    config = FINETUNE["smit_small"]()
    augment = replace(
        config.augment, thickness_probability=0.0, noise_hu=25.0, offset_hu=25.0, mirror_pairs=((2, 5),)
    )  # fmt: skip
    return replace(config, crop=CROP, windows_hu=(DEVIATIONS,), augment=augment, steps=1, check_every=1, precision=HERE)


def test_an_encoder_goes_to_images_of_its_own_unit_only(prepared: dict[str, Path], tmp_path: Path):
    made = pretrain(pretraining(), prepared["zscore"], tmp_path / "encoder")
    tuned = finetune(tuning(), prepared["zscore"], tmp_path / "mr", init_from=tmp_path / "encoder")
    assert made.package.is_dir() and tuned.package.is_dir()
    with pytest.raises(ConfigError, match="intensity=zscore, the data have hu"):
        finetune(tuning(), prepared["hu"], tmp_path / "ct", init_from=tmp_path / "encoder")
    # Where it is asked for by name, with the windows of the images at hand.
    across = replace(tuning(), crosses_units=True, windows_hu=((-1000.0, 1000.0),))
    crossed = finetune(across, prepared["hu"], tmp_path / "across", init_from=tmp_path / "encoder")
    assert crossed.coverage is not None and crossed.coverage.ratio == 1.0


def test_five_folds_judge_every_patient_once(body_study, tmp_path: Path):
    root = tmp_path / "mr"
    shutil.copytree(body_study.manifest.parent, root, ignore=shutil.ignore_patterns("prepared"))
    judged: list[str] = []
    for fold in range(5):
        out = root / f"fold-{fold}" / "manifest.csv"
        arguments = ["index", "-i", str(root / "manifest.csv"), "-o", str(out), "--test", "0", "--development", "0"]
        assert run([*arguments, "--labelled-fraction", "1.0", "--folds", "5", "--fold", str(fold)]) == 0
        cases = read_manifest(out).cases
        here = {case.patient_id for case in cases if case.split == "development"}
        learned = {case.patient_id for case in cases if case.split in ("pretrain", "finetune")}
        assert here and not here & learned and len(here | learned) == 12
        assert {case.split for case in cases} == {"development", "finetune"}
        judged += sorted(here)
    assert sorted(judged) == sorted({case.patient_id for case in read_manifest(root / "manifest.csv").cases})
