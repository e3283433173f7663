"""Pre-training recipes: Python functions that return a configuration.

Learning rates follow the MAE reference recipe (He et al. 2022, arXiv 2111.06377): 1.5e-4 per 256 samples of a batch.
Small runs see far fewer samples than 800 epochs of a hospital's archive, so their rates are higher; those are ours.

The recipes of published data sets are *after* Gu et al. 2024 (arXiv 2406.10519): that a ViT and UNETR++ are pre-trained
together on the training cases of the data set itself, with these losses, is theirs. Their sizes, crops, rates and
lengths are not known. The ViT and its rates are those of the public code of SelfMedMAE (B, 75 % hidden, AdamW at 6.4e-3
per 256 samples), the crops those of the public code of UNETR++, the lengths chosen for about 30,000 steps.
Differs: SelfMedMAE mirrors, and chooses crops by their labels; here the crop's place is to be found, so nothing is
mirrored, and crops are drawn without labels.

`smit` has the figures of SMIT's released code (The-Veeraraghavan-Lab/SMIT, commit 5d81399), for scans at 2 mm: views of
96³ out of crops of 128³, six scans a step, a rate of 1e-4 per scan, 500 epochs of which 20 warm up, stochastic depth up
to 0.3, weights decayed by 0.01, no clipping, nothing mirrored. Its paper (Jiang et al. 2022, arXiv
2205.10342) could not be read.
Differs: the rate follows steps, where the code's changes once an epoch and is 0 in the whole first one; the teacher is
as intended (`pretrain.teaching`), and norms and biases are not decayed. The recipe `smit_released` departs in neither.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from apatite.core.types import Edges
from apatite.engine.optim import OptimConfig
from apatite.nn.intensity import ABDOMEN_HU, CHEST_HU, DEVIATIONS, Window
from apatite.nn.projection import ProjectionConfig
from apatite.nn.unetrpp.presets import UNETRPPShape
from apatite.pretrain.config import PretrainConfig


def jin2025() -> PretrainConfig:
    """After Jin et al. 2025: ViTiac-S, patch 4, 90 % hidden, 800 epochs. Their optimiser is not known: MAE's."""
    batch = 64
    return PretrainConfig(
        patch=(4, 4, 4),
        batch=batch,
        epochs=800,
        optim=OptimConfig(lr=1.5e-4 * batch / 256, warmup_fraction=0.05, clip_norm=0.0),
    )


def small() -> PretrainConfig:
    """For two cores: XS with patches of 4 voxels on small regions."""
    return PretrainConfig(
        model="vitiac-xs",
        target_floor_hu=15.0,
        batch=16,
        epochs=60,
        check_epochs=10,
        optim=OptimConfig(lr=1e-3, warmup_fraction=0.1),
    )


def demo() -> PretrainConfig:
    """As `small`, as long as the demonstration's minutes allow."""
    return replace(small(), epochs=30, check_epochs=10)


def sweep() -> PretrainConfig:
    """As `demo`, for the rows of a sweep: the health panel is looked at once, at the end, for looking costs time."""
    config = demo()
    return replace(config, check_epochs=config.epochs)


def openkbp() -> PretrainConfig:
    """Real head-and-neck CT on two cores: XS, crops of 64³ voxels, patches of 8."""
    return PretrainConfig(
        model="vitiac-xs",
        patch=(8, 8, 8),
        crop=(64, 64, 64),
        windows_hu=((-1000.0, 1000.0), (-160.0, 240.0)),
        target_floor_hu=15.0,
        batch=8,
        epochs=100,
        check_epochs=20,
        optim=OptimConfig(lr=1e-3, warmup_fraction=0.1),
    )


def smit() -> PretrainConfig:
    """SMIT as intended, at its released sizes: its Swin, two views of 96³ out of 128³. For a large GPU."""
    batch = 6
    return PretrainConfig(
        method="smit",
        model="swin-smit",
        crop=(96, 96, 96),
        parent=(128, 128, 128),
        windows_hu=(ABDOMEN_HU,),
        drop_path=0.3,
        epochs=500,
        batch=batch,
        flip_probability=0.0,
        check_epochs=25,
        optim=OptimConfig(lr=1e-4 * batch, betas=(0.9, 0.999), weight_decay=0.01, warmup_fraction=0.04, clip_norm=0.0),
    )


def smit_released() -> PretrainConfig:
    """SMIT as its released code does it, weight decay on every parameter included. For a large GPU."""
    config = smit()
    return replace(config, method="smit_released", optim=replace(config.optim, decays_all=True))


def smit_small() -> PretrainConfig:
    """Real head-and-neck CT on two cores: a Swin of width 24, views of 48³ out of 64³, fewer prototypes."""
    return PretrainConfig(
        method="smit",
        model="swin-xs",
        crop=(48, 48, 48),
        windows_hu=((-1000.0, 1000.0), (-160.0, 240.0)),
        target_floor_hu=15.0,
        projection=ProjectionConfig(prototypes=2048, hidden=512, dim=128),
        batch=8,
        epochs=100,
        flip_probability=0.0,
        check_epochs=20,
        optim=OptimConfig(lr=1e-3, betas=(0.9, 0.999), warmup_fraction=0.1, clip_norm=3.0),
    )


def synapse() -> PretrainConfig:
    """Abdominal CT: ViT-B and UNETR++ together, crops of 64×128×128, patches of 16."""
    return _hybrid((64, 128, 128), UNETRPPShape(preset="synapse"), window=ABDOMEN_HU, epochs=10_000)


def btcv() -> PretrainConfig:
    """Abdominal CT: ViT-B and UNETR++ together, crops of 96³ as SelfMedMAE, patches of 16."""
    return _hybrid((96, 96, 96), UNETRPPShape(preset="synapse", stem=(4, 4, 4)), window=ABDOMEN_HU, epochs=8_000)


def acdc() -> PretrainConfig:
    """Cardiac MR: ViT-B and UNETR++ together, crops of 16×160×160, patches of 4×16×16."""
    shape = UNETRPPShape(preset="acdc")
    return _hybrid((16, 160, 160), shape, window=DEVIATIONS, epochs=1_300, patch=(4, 16, 16))


def msd_lung() -> PretrainConfig:
    """Chest CT: ViT-B and UNETR++ together, crops of 32×192×192, patches of 8×16×16."""
    return _hybrid((32, 192, 192), UNETRPPShape(preset="lung"), window=CHEST_HU, epochs=4_000, patch=(8, 16, 16))


def msd_brats() -> PretrainConfig:
    """One sequence of brain MR: ViT-B and UNETR++ together, crops of 128³, patches of 16."""
    return _hybrid((128, 128, 128), UNETRPPShape(preset="brats"), window=DEVIATIONS, epochs=500)


def _hybrid(
    crop: Edges, unetrpp: UNETRPPShape, *, window: Window, epochs: int, patch: Edges = (16, 16, 16)
) -> PretrainConfig:
    """What the published data sets share."""
    batch = 6
    return PretrainConfig(
        method="topo_mae_hybrid",
        model="vit-b",
        patch=patch,
        crop=crop,
        windows_hu=(window,),
        hidden_ratio=0.75,
        unetrpp=unetrpp,
        epochs=epochs,
        batch=batch,
        flip_probability=0.0,
        check_epochs=max(1, epochs // 20),
        optim=OptimConfig(lr=6.4e-3 * batch / 256, warmup_fraction=0.01),
    )


RECIPES: Final[dict[str, Callable[[], PretrainConfig]]] = {
    "jin2025": jin2025,
    "small": small,
    "demo": demo,
    "sweep": sweep,
    "openkbp": openkbp,
    "smit": smit,
    "smit_released": smit_released,
    "smit_small": smit_small,
    "synapse": synapse,
    "btcv": btcv,
    "acdc": acdc,
    "msd_lung": msd_lung,
    "msd_brats": msd_brats,
}
