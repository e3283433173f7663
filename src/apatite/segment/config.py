"""Everything that decides a fine-tuning run."""

from dataclasses import dataclass, field

from apatite.core.errors import ConfigError
from apatite.core.types import Edges
from apatite.data.augment import AugmentConfig
from apatite.data.feed import FeedConfig
from apatite.engine.optim import OptimConfig
from apatite.engine.precision import Precision
from apatite.nn.decoders.registry import DecoderConfig
from apatite.nn.intensity import Window
from apatite.nn.stem import StemName
from apatite.nn.unetrpp.presets import UNETRPPShape
from apatite.nn.vit import HEAD_CT_WINDOWS_HU
from apatite.segment.networks import network_of
from apatite.segment.transfer import Take


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """A fine-tuning run. From scratch is the same run without `--init-from`.

    Attributes:
        network: A key of `segment.networks.NETWORKS`; what it does not have, it does not read the settings of.
        model: A key of `nn.models.MODELS`: the ViT, or the Swin of the network `swin`.
        patch: Edges of a patch in voxels; `None` for the model's own, 4 of a ViT and 2 of a Swin.
        crop: Edges of a crop of whole volumes; `None` for regions, which come whole.
        windows_hu: One input channel per window.
        stem: How a patch becomes a token, `linear` or `conv`; the same as the encoder's to take it over.
        decoder: The segmentation decoder of the network `vit`.
        unetrpp: UNETR++, in the other networks.
        deep_supervision: Whether UNETR++ learns from logits on two coarser grids as well.
        drop_path: Stochastic depth of the ViT or the Swin.
        steps: Optimiser steps.
        batch: Samples per step.
        drop_empty_cases: Leave out labelled cases without any label in them, as the paper does.
        num_labelled: Learn from that many of the labelled cases; from all when `None`.
        draw: Which ones; a smaller number is a subset of a larger one of the same draw.
        hold_out: Cases never to learn from, as `vendor=GE` (`io.hold_out`).
        augment: What is varied in training.
        take: What `--init-from` takes over: the whole `encoder`, and of UNETR++ what the network has of it; or the
            patch `embedding` of the ViT or the Swin alone.
        crosses_units: Let `--init-from` take what was pre-trained on images in another unit or in other windows, as CT
            for MR: only the number of windows must then agree.
        min_coverage: Share of each part that is taken which `--init-from` must fill.
        seed: Of weights and draws.
        optim: Rates.
        check_every: Steps between looks at the development split.
        save_every_s: Seconds between commits of the last state.
        feed: How batches are made.
        device: `auto`, `cpu`, `cuda` or `mps`.
        precision: How to compute; measured, and written down here, when `None`.
    """

    network: str = "vit"
    model: str = "vitiac-s"
    patch: Edges | None = None
    crop: Edges | None = None
    windows_hu: tuple[Window, ...] = HEAD_CT_WINDOWS_HU
    stem: StemName = "linear"
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    unetrpp: UNETRPPShape = field(default_factory=UNETRPPShape)
    deep_supervision: bool = True
    drop_path: float = 0.1
    steps: int = 10_000
    batch: int = 8
    drop_empty_cases: bool = False
    num_labelled: int | None = None
    draw: int = 0
    hold_out: tuple[str, ...] = ()
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    take: Take = "encoder"
    crosses_units: bool = False
    min_coverage: float = 0.9
    seed: int = 0
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-3, layer_decay=0.75, betas=(0.9, 0.999)))
    check_every: int = 250
    save_every_s: float = 120.0
    feed: FeedConfig = field(default_factory=FeedConfig)
    device: str = "auto"
    precision: Precision | None = None

    def __post_init__(self) -> None:
        network_of(self.network)
        if min(self.steps, self.batch, self.check_every) < 1:
            raise ConfigError(
                f"steps {self.steps}, batch {self.batch}, check_every {self.check_every}", fix="use at least 1"
            )
        if self.num_labelled is not None and self.num_labelled < 1:
            raise ConfigError(f"num_labelled {self.num_labelled}", fix="use at least 1, or leave it out for all")
