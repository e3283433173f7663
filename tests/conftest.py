"""Two tiny studies on disk, made once: head CTs with calcium, and whole bodies with a left and a right organ."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from apatite.core.config import dump
from apatite.core.rng import generator
from apatite.core.scan import Scan, SliceStack
from apatite.ct.region import RegionConfig
from apatite.data.prepare import PrepareConfig, prepare
from apatite.engine.precision import Precision
from apatite.engine.weights import weights_of
from apatite.io.manifest import Case, Manifest, write_manifest
from apatite.io.model_card import InputSpec, ModelCard, Provenance
from apatite.io.model_package import write_package
from apatite.io.nifti import viewer_grid, write_label, write_scan
from apatite.io.store import Prepared
from apatite.nn.decoders.registry import DecoderConfig
from apatite.nn.decoders.tokens import TokenDecoderConfig
from apatite.nn.models import model_size
from apatite.segment.config import FinetuneConfig
from apatite.segment.finetune import finetune
from apatite.segment.model import Segmenter

if "PYTEST_XDIST_WORKER" in os.environ:
    # The workers are as many as the cores: threads of theirs would only wait for one another.
    torch.set_num_threads(1)

REGION = RegionConfig(shape=(8, 16, 24), spacing_mm=(1.0, 1.25, 2.5))
CASES = ("pretrain",) * 4 + ("finetune",) * 5 + ("development",) * 7 + ("test",) * 7
EMPTY = {4, 9, 16}
"""One case without calcium in each labelled split."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A manifest and what was prepared from it."""

    manifest: Path
    prepared: Path

    def open(self) -> Prepared:
        return Prepared.open(self.prepared)


def head_stack(number: int) -> SliceStack:
    """8 to 12 slices of 30×34 pixels: tilted in every third case, unevenly spaced in every second."""
    slices = 8 + number % 5
    steps = np.full(slices - 1, 2.5)
    if number % 2:
        steps[slices // 2 :] = 3.5
    height = np.concatenate([[0.0], np.cumsum(steps)])
    tilt = np.deg2rad(12.0) if number % 3 == 0 else 0.0
    row = np.array([0.0, 1.1 * np.cos(tilt), 1.1 * np.sin(tilt)])
    origins = np.array([-15.0 + number, -16.0, -13.0]) + height[:, None] * np.array([0.0, 0.0, 1.0])
    return SliceStack(
        shape=(slices, 30, 34),
        origins_ras_mm=origins,
        column_step_ras_mm=np.array([0.9, 0.0, 0.0]),
        row_step_ras_mm=row,
        thickness_mm=np.full(slices, 2.5 if number % 2 else 3.0),
    )


def centre_of(stack: SliceStack) -> tuple[float, float, float]:
    x, y, z = np.round(viewer_grid(stack).centre_ras_mm + np.array([0.3, -0.4, 0.2]), 2).tolist()
    return x, y, z


def head_scan(number: int) -> tuple[Scan, np.ndarray]:
    """A head with one calcification, whose soft rim is what a threshold has to decide about; and its annotation."""
    stack, draw = head_stack(number), generator(11, "head", number)
    rows, columns = np.meshgrid(np.arange(30), np.arange(34), indexing="ij")
    points = np.stack([stack.to_ras(k, np.stack([rows, columns], -1).astype(float)) for k in range(stack.shape[0])])
    middle = points.reshape(-1, 3).mean(axis=0) + draw.uniform(-3, 3, 3)
    distance_mm = np.linalg.norm((points - middle) / np.array([1.0, 1.3, 1.2]), axis=-1)
    voxels = draw.normal(30, 15, stack.shape)
    if number not in EMPTY:
        voxels += 700 * np.exp(-((distance_mm / draw.uniform(2.5, 4.5)) ** 2))
    voxels_hu = np.rint(voxels).astype(np.int16)
    is_calcium = (voxels_hu >= 130) & (distance_mm < 12) & (number not in EMPTY)
    return Scan(voxels_hu=voxels_hu, stack=stack), is_calcium.astype(np.uint8)


@pytest.fixture(scope="session")
def head_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """23 patients; one more series of the first one. Labels but for pre-training; two kernels, two thicknesses."""
    folder = tmp_path_factory.mktemp("heads")
    cases = []
    for number, split in [*enumerate(CASES), (len(CASES), "pretrain")]:
        scan, label = head_scan(number)
        name = f"head-{number:02d}"
        write_scan(folder / f"{name}.nii.gz", scan)
        if split != "pretrain":
            write_label(folder / f"{name}_calcium.nii.gz", label, scan.stack)
        cases.append(
            Case(
                case_id=name,
                patient_id=f"patient-{number % len(CASES):02d}",
                image=f"{name}.nii.gz",
                label="" if split == "pretrain" else f"{name}_calcium.nii.gz",
                split=split,
                domain="phantom",
                vendor=("A", "B", "C")[number % 3],
                kernel_class=("soft", "bone")[number % 2],
                slice_thickness_mm=float(scan.stack.thickness_mm[0]),
                region_centre_ras_mm=centre_of(scan.stack),
            )
        )
    manifest = Manifest(root=folder, cases=tuple(cases), label_names={1: "calcium"})
    write_manifest(folder / "manifest.csv", manifest)
    prepare(manifest, folder / "prepared", PrepareConfig(region=REGION))
    return Study(manifest=folder / "manifest.csv", prepared=folder / "prepared")


@pytest.fixture(scope="session")
def body_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Bodies in air with a left organ (2) and a right one (5); in every second case only the left was looked for."""
    folder = tmp_path_factory.mktemp("bodies")
    cases = []
    for number, split in enumerate(("finetune",) * 4 + ("development",) * 6 + ("test",) * 2):
        draw = generator(12, "body", number)
        stack = SliceStack(
            shape=(14, 22, 30),
            origins_ras_mm=np.array([-40.0, -30.0, 5.0]) + np.arange(14)[:, None] * np.array([0.0, 0.0, 3.0]),
            column_step_ras_mm=np.array([2.5, 0.0, 0.0]),
            row_step_ras_mm=np.array([0.0, 2.5, 0.0]),
            thickness_mm=np.full(14, 3.0),
        )
        voxels, label = np.full(stack.shape, -1000.0), np.zeros(stack.shape, np.uint8)
        voxels[:, 3:20, 3:28] = draw.normal(0, 10, (14, 17, 25))
        low = int(draw.integers(3, 6))
        voxels[low : low + 5, 7:13, 5:11] += 150
        label[low : low + 5, 7:13, 5:11] = 2
        is_both = number % 2 == 0
        voxels[low : low + 5, 7:13, 20:25] += 300
        if is_both:
            label[low : low + 5, 7:13, 20:25] = 5
        name = f"body-{number}"
        write_scan(folder / f"{name}.nii.gz", Scan(voxels_hu=np.rint(voxels).astype(np.int16), stack=stack))
        write_label(folder / f"{name}_organs.nii.gz", label, stack)
        cases.append(
            Case(
                case_id=name,
                patient_id=name,
                image=f"{name}.nii.gz",
                label=f"{name}_organs.nii.gz",
                split=split,
                annotated_labels=(2, 5) if is_both else (2,),
            )
        )
    manifest = Manifest(root=folder, cases=tuple(cases), label_names={2: "left organ", 5: "right organ"})
    write_manifest(folder / "manifest.csv", manifest)
    config = PrepareConfig(kind="volume", spacing_mm=(3.0, 3.0, 3.0), least_shape=(8, 16, 24))
    prepare(manifest, folder / "prepared", config)
    return Study(manifest=folder / "manifest.csv", prepared=folder / "prepared")


@pytest.fixture(scope="session")
def tiny() -> FinetuneConfig:
    """A run of seconds on the heads: 12 tokens, a decoder of one block, nothing measured."""
    return FinetuneConfig(
        model="vitiac-xs",
        patch=(4, 8, 8),
        decoder=DecoderConfig(mae=TokenDecoderConfig(dim=24, depth=1, heads=2)),
        steps=8,
        batch=4,
        check_every=3,
        precision=Precision(threads=1),
    )


@pytest.fixture(scope="session")
def tuned(head_study: Study, tiny: FinetuneConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished fine-tuning run on the heads; its weights know nothing yet."""
    folder = tmp_path_factory.mktemp("runs") / "tuned"
    finetune(tiny, head_study.prepared, folder)
    return folder


@pytest.fixture(scope="session")
def make_encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write an encoder package, as pre-training leaves it, with random weights."""

    def make(*, model: str = "vitiac-xs", patch: tuple[int, int, int] = (4, 8, 8)) -> Path:
        torch.manual_seed(5)
        config = model_size(model).encoder(crop=REGION.shape, patch=patch)
        card = ModelCard(
            kind="encoder",
            architecture=dump(config),
            recipe="mae",
            input=InputSpec(shape=REGION.shape, spacing_mm=REGION.spacing_mm, windows_hu=config.windows_hu),
            label_names={},
            domains={"pretraining": ["phantom", "real"], "training": [], "calibration": [], "reference": []},
            provenance=Provenance(apatite_version="0", seed=5),
        )
        folder = tmp_path_factory.mktemp("encoders") / "encoder"
        write_package(folder, card, weights_of(config.build()))
        return folder

    return make


@pytest.fixture
def sees_hu(monkeypatch: pytest.MonkeyPatch) -> Callable[[np.ndarray], np.ndarray]:
    """Every segmenter says what the HU say: 1/2 at 300 HU, whatever its weights. Returns that function."""

    def probability(segmenter: Segmenter, image_hu: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid((image_hu - 300) / 80).expand(-1, segmenter.config.num_labels, -1, -1, -1)

    monkeypatch.setattr(Segmenter, "probability", probability)
    return lambda voxels_hu: 1 / (1 + np.exp(-(voxels_hu - 300) / 80))


@pytest.fixture
def listing() -> Callable[[Path], list[str]]:
    """All files and folders below a path, so that a test can say that nothing was added."""
    return lambda path: sorted(str(found.relative_to(path)) for found in path.rglob("*"))


@pytest.fixture
def card() -> ModelCard:
    """A segmenter's card with unequal edges."""
    return ModelCard(
        kind="segmenter",
        architecture={"patch": 4, "dim": 24, "crop": [8, 16, 24]},
        recipe="tiny",
        input=InputSpec(shape=(8, 16, 24), spacing_mm=(0.44, 0.5, 2.0), windows_hu=((-200.0, 1000.0),)),
        label_names={1: "calcium"},
        domains={"pretraining": ["phantom"], "training": ["phantom", "real"], "calibration": [], "reference": []},
        provenance=Provenance(apatite_version="0.1.0", seed=7, citation="Jin et al. 2025"),
    )
