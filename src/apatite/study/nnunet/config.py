"""Everything that decides a run of nnU-Net: its time, how its plan may be shrunk, and which cases it learns from."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from apatite.core.errors import ConfigError

Edges = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class NnunetConfig:
    """A run of nnU-Net. What is `None` stays as nnU-Net plans it.

    Attributes:
        minutes: Of training at ×1, from its start to its last iteration; planning and prediction come on top.
        configuration: A configuration of nnU-Net's plans.
        patch: Largest patch, in voxels along depth, height, width.
        batch: Samples per iteration.
        base_features: Channels of the first stage; they double per stage, up to 320.
        stages: Most stages of the network.
        spacing_mm: To resample to, along i, j, k.
        windows: Two channels, all of HU and 0 to 300 HU, as the group of Jin et al. 2025; otherwise one.
        mirror: Mirror in training and prediction. Wrong where labels have a side.
        validate: Also do nnU-Net's own validation after training.
        num_labelled: Learn from that many of the labelled cases; from all when `None`.
        draw: Which ones, as in fine-tuning.
        hold_out: Cases never to learn from, as `vendor=GE`.
        seed: Of the first weights. nnU-Net's augmentation has no seed.
        device: `auto`, `cpu`, `cuda` or `mps`.
        workers: Processes that augment; 0 does it between the iterations.
    """

    minutes: float
    configuration: Literal["3d_fullres", "3d_lowres", "2d"] = "3d_fullres"
    patch: Edges | None = None
    batch: int | None = None
    base_features: int | None = None
    stages: int | None = None
    spacing_mm: tuple[float, float, float] | None = None
    windows: bool = True
    mirror: bool = False
    validate: bool = False
    num_labelled: int | None = None
    draw: int = 0
    hold_out: tuple[str, ...] = ()
    seed: int = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    workers: int = 1

    def __post_init__(self) -> None:
        counts = {"batch": self.batch, "base_features": self.base_features, "num_labelled": self.num_labelled}
        for name, count in counts.items():
            if count is not None and count < 1:
                raise ConfigError(f"{name} {count}", fix="use at least 1, or leave it out")
        if not 0 < self.minutes < math.inf or self.workers < 0:
            raise ConfigError(f"minutes {self.minutes}, workers {self.workers}", fix="give it some time")
        if self.stages is not None and self.stages < 2:
            raise ConfigError(f"stages {self.stages}", fix="use at least 2, or leave it out")
        if self.patch is not None and min(self.patch) < 8:
            raise ConfigError(f"a patch of {self.patch} voxels", fix="use edges of at least 8")
        if not 0 <= self.seed < 2**32 or self.draw < 0:
            raise ConfigError(f"seed {self.seed}, draw {self.draw}", fix="use 0, 1, 2, …")
        if self.spacing_mm is not None and not all(0 < edge < math.inf for edge in self.spacing_mm):
            raise ConfigError(f"spacing_mm {self.spacing_mm}", fix="use positive numbers")

    def plan_settings(self) -> dict[str, Any]:
        """What the planning child is told; nnU-Net counts axes from k to i."""
        return {
            "configuration": self.configuration,
            "patch": None if self.patch is None else list(self.patch),
            "batch": self.batch,
            "base_features": self.base_features,
            "stages": self.stages,
            "spacing_mm": None if self.spacing_mm is None else list(self.spacing_mm[::-1]),
        }
