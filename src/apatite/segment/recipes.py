"""Fine-tuning recipes: Python functions that return a configuration.

The recipes of published data sets are *after* Gu et al. 2024 (arXiv 2406.10519): that the pre-trained ViT complements
the pre-trained UNETR++ is theirs; how the two are joined, and how they learn, is not known. Crops, batches, deep
supervision, 250,000 steps and the largest gradient are those of the public code of UNETR++ (Amshaker/unetr_plus_plus,
commit dcba1c6); layer-wise decay, drop path and the rate per sample those of SelfMedMAE's scripts.
Differs: AdamW with a cosine, where UNETR++ has SGD with a polynomial; augmentation as in `data.augment`, which turns
and scales less and has no gamma; a mirrored organ that comes in pairs changes its name, where theirs keeps it.

`smit` has the figures of the released code of SMIT for BTCV (The-Veeraraghavan-Lab/SMIT, commit 5d81399): four crops
of 96³ a step, AdamW at 1e-4 with a weight decay of 1e-5, no decay of rates by layer, stochastic depth up to 0.3,
nothing mirrored; 10,000 epochs of its 21 training scans, 50 of them to warm up, a look at development every 30. Its
paper (Jiang et al. 2022, arXiv 2205.10342) could not be read.
Differs: its four crops are of one scan, half of them around a labelled voxel and half around one of the background;
ours are of four scans, seven in ten hold a voxel of a label that was drawn first, so that small organs come as often as
large ones, and the rest lie anywhere. It turns by right angles and scales and shifts intensities; ours is
`data.augment`. Its Dice has squared denominators, and its labels exclude each other and have a background; each of ours
is by itself. Whether gradients were clipped is not known: ours are.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from apatite.core.types import Edges
from apatite.data.augment import AugmentConfig
from apatite.engine.optim import OptimConfig
from apatite.nn.decoders.registry import DecoderConfig
from apatite.nn.intensity import ABDOMEN_HU, CHEST_HU, DEVIATIONS, Window
from apatite.nn.models import vit_size
from apatite.nn.unetrpp.presets import UNETRPPShape
from apatite.segment.config import FinetuneConfig


def jin2025() -> FinetuneConfig:
    """After Jin et al. 2025: ViTiac-S, patch 4, MAE decoder, calcium-free cases dropped.

    Their optimiser, losses, augmentation and number of epochs are not known; these are the defaults of this package,
    after SelfMedMAE where it states them (layer-wise decay 0.75, drop path 0.1).
    """
    return FinetuneConfig(drop_empty_cases=True)


def small() -> FinetuneConfig:
    """For two cores: XS with patches of 4 voxels on small regions; calcium-free cases are kept."""
    return FinetuneConfig(
        model="vitiac-xs",
        decoder=DecoderConfig(name="mae", mae=vit_size("vitiac-xs").decoder),
        steps=1200,
        check_every=100,
        optim=OptimConfig(lr=1e-3, layer_decay=0.8, betas=(0.9, 0.999), warmup_fraction=0.05),
    )


def demo() -> FinetuneConfig:
    """As `small`, as long as the demonstration's minutes allow."""
    return replace(small(), steps=450, check_every=50)


def sweep() -> FinetuneConfig:
    """As `demo`, for the rows of a sweep: a look at development every fifteenth of the run shows a flat end."""
    return replace(demo(), check_every=30)


def openkbp() -> FinetuneConfig:
    """Real head-and-neck CT on two cores: seven organs, crops of 64³ voxels, patches of 8, Upscale decoder."""
    return FinetuneConfig(
        model="vitiac-xs",
        patch=(8, 8, 8),
        crop=(64, 64, 64),
        windows_hu=((-1000.0, 1000.0), (-160.0, 240.0)),
        decoder=DecoderConfig(name="upscale"),
        batch=4,
        steps=700,
        check_every=100,
        augment=AugmentConfig(mirror_pairs=((3, 4),)),
        optim=OptimConfig(lr=1e-3, layer_decay=0.8, betas=(0.9, 0.999), warmup_fraction=0.05),
    )


def smit_small() -> FinetuneConfig:
    """Real head-and-neck CT on two cores: a Swin of width 24 and the decoder of Swin UNETR, crops of 48³ voxels."""
    return replace(openkbp(), network="swin", model="swin-xs", patch=None, crop=(48, 48, 48), batch=2)


ABDOMEN_PAIRS: Final = ((2, 3), (12, 13))
"""Kidneys and adrenal glands."""
MR: Final = AugmentConfig(thickness_probability=0.0, noise_hu=25.0, offset_hu=25.0)
"""For images in standard deviations: noise and offset up to a tenth of one; their slices are thick as they are."""


def smit() -> FinetuneConfig:
    """After the released code of SMIT: its Swin and the decoder of Swin UNETR on abdominal CT. For a large GPU."""
    epochs, scans = 10_000, 21
    return FinetuneConfig(
        network="swin",
        model="swin-smit",
        crop=(96, 96, 96),
        windows_hu=(ABDOMEN_HU,),
        drop_path=0.3,
        steps=epochs * scans,
        batch=4,
        augment=AugmentConfig(flip_probability=0.0, mirror_pairs=ABDOMEN_PAIRS),
        optim=OptimConfig(lr=1e-4, betas=(0.9, 0.999), weight_decay=1e-5, warmup_fraction=50 / epochs),
        check_every=30 * scans,
    )


def synapse() -> FinetuneConfig:
    """Abdominal CT, thirteen organs: the ViT added to UNETR++, crops of 64×128×128."""
    return _hybrid(
        (64, 128, 128),
        UNETRPPShape(preset="synapse"),
        window=ABDOMEN_HU,
        augment=AugmentConfig(mirror_pairs=ABDOMEN_PAIRS),
    )


def btcv() -> FinetuneConfig:
    """Abdominal CT, thirteen organs: the ViT added to UNETR++, crops of 96³."""
    return _hybrid(
        (96, 96, 96),
        UNETRPPShape(preset="synapse", stem=(4, 4, 4)),
        window=ABDOMEN_HU,
        augment=AugmentConfig(mirror_pairs=ABDOMEN_PAIRS),
    )


def acdc() -> FinetuneConfig:
    """Cardiac MR, two ventricles and the myocardium: the ViT added to UNETR++, crops of 16×160×160."""
    shape = UNETRPPShape(preset="acdc")
    return _hybrid((16, 160, 160), shape, window=DEVIATIONS, augment=MR, patch=(4, 16, 16), batch=4)


def msd_lung() -> FinetuneConfig:
    """Chest CT, tumours: the ViT added to UNETR++, crops of 32×192×192."""
    shape = UNETRPPShape(preset="lung")
    return _hybrid((32, 192, 192), shape, window=CHEST_HU, augment=AugmentConfig(), patch=(8, 16, 16))


def msd_brats() -> FinetuneConfig:
    """One sequence of brain MR, three parts of a tumour: the ViT added to UNETR++, crops of 128³."""
    return _hybrid((128, 128, 128), UNETRPPShape(preset="brats"), window=DEVIATIONS, augment=MR)


def _hybrid(
    crop: Edges,
    unetrpp: UNETRPPShape,
    *,
    window: Window,
    augment: AugmentConfig,
    patch: Edges = (16, 16, 16),
    batch: int = 2,
) -> FinetuneConfig:
    """What the published data sets share."""
    return FinetuneConfig(
        network="hybrid",
        model="vit-b",
        patch=patch,
        crop=crop,
        windows_hu=(window,),
        unetrpp=unetrpp,
        deep_supervision=True,
        steps=250_000,
        batch=batch,
        augment=augment,
        optim=OptimConfig(
            lr=3.44e-2 * batch / 256, betas=(0.9, 0.999), layer_decay=0.75, warmup_fraction=0.01, clip_norm=12.0
        ),
        check_every=2_500,
    )


RECIPES: Final[dict[str, Callable[[], FinetuneConfig]]] = {
    "jin2025": jin2025,
    "small": small,
    "demo": demo,
    "sweep": sweep,
    "openkbp": openkbp,
    "smit": smit,
    "smit_small": smit_small,
    "synapse": synapse,
    "btcv": btcv,
    "acdc": acdc,
    "msd_lung": msd_lung,
    "msd_brats": msd_brats,
}
