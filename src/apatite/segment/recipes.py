"""Fine-tuning recipes: Python functions that return a configuration."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from apatite.data.augment import AugmentConfig
from apatite.engine.optim import OptimConfig
from apatite.nn.decoders.registry import DecoderConfig
from apatite.nn.models import model_size
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
        decoder=DecoderConfig(name="mae", mae=model_size("vitiac-xs").decoder),
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


RECIPES: Final[dict[str, Callable[[], FinetuneConfig]]] = {
    "jin2025": jin2025,
    "small": small,
    "demo": demo,
    "sweep": sweep,
    "openkbp": openkbp,
}
