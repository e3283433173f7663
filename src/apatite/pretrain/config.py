"""Everything that decides a pre-training run."""

from dataclasses import dataclass, field

from apatite.core.errors import ConfigError
from apatite.core.types import Edges
from apatite.data.feed import FeedConfig
from apatite.data.photometric import PhotometricConfig
from apatite.engine.optim import OptimConfig
from apatite.engine.precision import Precision
from apatite.losses.critical import CriticalVoxelLossConfig
from apatite.losses.euler import EulerLossConfig
from apatite.losses.topology import TopologyLossConfig
from apatite.nn.contrast_head import ContrastConfig
from apatite.nn.intensity import Window
from apatite.nn.projection import ProjectionConfig
from apatite.nn.stem import StemName
from apatite.nn.unetrpp.presets import UNETRPPShape
from apatite.nn.vit import HEAD_CT_WINDOWS_HU
from apatite.pretrain.teaching import TeachingChanges


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """A pre-training run.

    Attributes:
        method: A key of `pretrain.methods.METHODS`.
        model: A key of `nn.models.MODELS`.
        patch: Edges of a patch in voxels; `None` takes the model's own: 4 for a ViT, 2 for a Swin.
        crop: Edges of what the network is given: a crop of whole volumes, or a view of a region or of a larger crop;
            `None` for regions that are shown whole.
        parent: Edges of the crop that several views are cut from; `None` takes the method's, a third larger than a
            view. Regions are their own parents.
        windows_hu: One input channel per window.
        stem: How a patch becomes a token, `linear` or `conv`.
        drop_path: Stochastic depth of the ViT or the Swin.
        hidden_ratio: Share of hidden patches; `None` takes the method's.
        local_views: Smaller views of each sample; `None` takes the method's.
        target_floor_hu: Patches whose spread is below this count as flat in a normalised target; 0 is the papers'.
            About twice the noise of the scans keeps noise from drowning the anatomy.
        weights: Other weights of the method's terms, by their names in the journal, or by a term's name for all
            branches: `weights.topology=0.1`.
        unetrpp: Shape of UNETR++, where the method has one.
        topology: Of the term of that name.
        euler: Of the term of that name.
        critical: Of the term `critical_voxels`.
        teaching: What is changed of the rules of the method's teacher.
        projection: Of a student's heads of self-distillation.
        contrast: Of the term of that name.
        photometric: How values of each view are changed; not at all as it stands, because HU keep their meaning.
        epochs: Passes over the cases.
        batch: Samples per step.
        flip_probability: Chance of a left-right flip, the only augmentation: masking is the rest.
        hold_out: Cases never to learn from, as `vendor=GE` (`io.hold_out`).
        seed: Of weights and draws.
        optim: Rates.
        check_epochs: Epochs between looks at the health panel.
        save_every_s: Seconds between commits of the last state.
        feed: How batches are made.
        device: `auto`, `cpu`, `cuda` or `mps`.
        precision: How to compute; measured, and written down here, when `None`.
    """

    method: str = "mae"
    model: str = "vitiac-s"
    patch: Edges | None = None
    crop: Edges | None = None
    parent: Edges | None = None
    windows_hu: tuple[Window, ...] = HEAD_CT_WINDOWS_HU
    stem: StemName = "linear"
    drop_path: float = 0.0
    hidden_ratio: float | None = None
    local_views: int | None = None
    target_floor_hu: float = 0.0
    weights: dict[str, float] = field(default_factory=dict)
    unetrpp: UNETRPPShape = field(default_factory=UNETRPPShape)
    topology: TopologyLossConfig = field(default_factory=TopologyLossConfig)
    euler: EulerLossConfig = field(default_factory=EulerLossConfig)
    critical: CriticalVoxelLossConfig = field(default_factory=CriticalVoxelLossConfig)
    teaching: TeachingChanges = field(default_factory=TeachingChanges)
    projection: ProjectionConfig = field(default_factory=ProjectionConfig)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    photometric: PhotometricConfig = field(default_factory=PhotometricConfig)
    epochs: int = 800
    batch: int = 64
    flip_probability: float = 0.5
    hold_out: tuple[str, ...] = ()
    seed: int = 0
    optim: OptimConfig = field(default_factory=OptimConfig)
    check_epochs: int = 20
    save_every_s: float = 120.0
    feed: FeedConfig = field(default_factory=FeedConfig)
    device: str = "auto"
    precision: Precision | None = None

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch, self.check_epochs) < 1:
            raise ConfigError(
                f"epochs {self.epochs}, batch {self.batch}, check_epochs {self.check_epochs}", fix="use at least 1"
            )
        if not 0 <= self.drop_path < 1 or (self.local_views or 0) < 0:
            raise ConfigError(
                f"drop_path {self.drop_path}, local_views {self.local_views}",
                fix="drop_path in [0, 1), 0 views or more",
            )
        if not 0 <= self.flip_probability <= 1:
            raise ConfigError(f"flip_probability {self.flip_probability}", fix="use a number between 0 and 1")
