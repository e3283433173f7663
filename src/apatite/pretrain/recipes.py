"""Pre-training recipes: Python functions that return a configuration.

Learning rates follow the MAE reference recipe (He et al. 2022, arXiv 2111.06377): 1.5e-4 per 256 samples of a batch.
Small runs see far fewer samples than 800 epochs of a hospital's archive, so their rates are higher; those are ours.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from apatite.engine.optim import OptimConfig
from apatite.pretrain.config import PretrainConfig


def jin2025() -> PretrainConfig:
    """After Jin et al. 2025: ViTiac-S, patch 4, 90 % hidden, 800 epochs. Their optimiser is not known: MAE's."""
    batch = 64
    return PretrainConfig(
        batch=batch, epochs=800, optim=OptimConfig(lr=1.5e-4 * batch / 256, warmup_fraction=0.05, clip_norm=0.0)
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


RECIPES: Final[dict[str, Callable[[], PretrainConfig]]] = {
    "jin2025": jin2025,
    "small": small,
    "demo": demo,
    "sweep": sweep,
    "openkbp": openkbp,
}
