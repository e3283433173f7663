"""A prepared folder of tiny regions with bright blobs, and a small task on it."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from apatite.ct.region import RegionConfig
from apatite.data.batches import Batch
from apatite.data.hiding import HidingLaw
from apatite.data.prepare import PrepareConfig, prepare
from apatite.engine.optim import OptimConfig
from apatite.engine.precision import Precision
from apatite.io.manifest import Case, Manifest
from apatite.nn.attention import AttentionKernel
from apatite.nn.decoders.tokens import TokenDecoderConfig
from apatite.nn.vit import ViTConfig
from apatite.pretrain.branches import Shapes
from apatite.pretrain.config import PretrainConfig
from apatite.pretrain.methods import METHODS
from apatite.pretrain.task import PretrainTask

SHAPE = (8, 12, 16)
SPLITS = ("pretrain", "finetune", "pretrain", "finetune", "development", "finetune", "pretrain", "test", "finetune")


@pytest.fixture(autouse=True)
def one_thread():
    """Sums depend on the number of threads, and the machine has others to serve."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_cohort(folder: Path, splits=SPLITS) -> Manifest:
    """Smooth soft tissue, one bright ellipsoid per case; it is the label where the split has labels."""
    folder.mkdir()
    cases = []
    for number, split in enumerate(splits):
        draw = np.random.default_rng(number)
        i, j, k = np.ogrid[:24, :20, :12]
        wave = 60 * np.sin(i / (3 + number)) + 40 * np.cos(j / 4 + number) + 20 * np.sin(k / 3)
        centre = draw.uniform((8, 6, 4), (16, 14, 8))
        blob = (i - centre[0]) ** 2 + (j - centre[1]) ** 2 + (2 * (k - centre[2])) ** 2 < 16
        voxels = wave + draw.normal(0, 10, (24, 20, 12)) + 700 * blob
        nib.save(nib.Nifti1Image(voxels.astype(np.int16), np.eye(4)), folder / f"i{number}.nii.gz")
        nib.save(nib.Nifti1Image(blob.astype(np.uint8), np.eye(4)), folder / f"l{number}.nii.gz")
        is_labelled = split != "pretrain"
        cases.append(
            Case(
                case_id=f"c{number}",
                patient_id=f"p{number}",
                image=f"i{number}.nii.gz",
                label=f"l{number}.nii.gz" if is_labelled else "",
                split=split,
                domain="phantom" if number % 2 else "real",
                region_centre_ras_mm=(11.5, 9.5, 5.5),
            )
        )
    return Manifest(root=folder, cases=tuple(cases), label_names={1: "calcium"})


def make_prepared(folder: Path, splits=SPLITS) -> Path:
    """The folder `prepared` beside the raw files."""
    config = PrepareConfig(region=RegionConfig(shape=SHAPE, spacing_mm=(1.0, 1.0, 1.0)))
    assert prepare(write_cohort(folder / "raw", splits), folder / "prepared", config).failures == ()
    return folder / "prepared"


@pytest.fixture(scope="session")
def prepared_folder(tmp_path_factory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("cohort"))


@pytest.fixture
def config() -> PretrainConfig:
    """Seven cases in batches of three for three epochs: seven steps."""
    return PretrainConfig(
        model="vitiac-xs",
        patch=(4, 4, 8),
        hidden_ratio=0.75,
        epochs=3,
        batch=3,
        check_epochs=1,
        save_every_s=0.0,
        device="cpu",
        optim=OptimConfig(lr=1e-3, warmup_fraction=0.2),
        precision=Precision(),
    )


@pytest.fixture
def encoder() -> ViTConfig:
    """Eight tokens of unequal edges."""
    return ViTConfig(crop=(4, 6, 10), patch=(2, 3, 5), dim=12, depth=2, heads=2)


@pytest.fixture
def task(encoder) -> PretrainTask:
    torch.manual_seed(0)
    method = replace(METHODS["mae"], hiding=HidingLaw(ratio=0.6))
    shapes = Shapes(encoder=encoder, decoder=TokenDecoderConfig(dim=12, depth=1, heads=2))
    return PretrainTask(method, shapes, AttentionKernel(), seed=1, steps=10)


@pytest.fixture
def batch(encoder) -> Batch:
    draw = torch.Generator().manual_seed(4)
    images = 300 * torch.randn(3, 1, *encoder.crop, generator=draw)
    return Batch(case_ids=("a", "b", "c"), images_hu=images)
