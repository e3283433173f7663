"""The Swin encoders by name: SMIT's three, MONAI's, and a small one.

Source: `swin-smit` is the released configuration of SMIT (The-Veeraraghavan-Lab/SMIT, commit 5d81399,
`models/configs_Trans.py`); `swin-smit-2025` that of the lung model of the same lab in MHubAI/models, `swin-heart` that
of The-Veeraraghavan-Lab/SMIT-HeartSubSeg; `swin-unetr` the encoder of MONAI's `SwinUNETR` (1.6.1) as it is made by
default. `swin-xs` is ours, for two cores.
Differs: crop and windows come from the run. What stands here is the crop and the window of the public code; the lung
model's of [-140, 260] HU and the heart model's of [-200, 300] HU too. Rates of stochastic depth, 0.3 in all of SMIT's,
come from the run as well.
"""

from dataclasses import dataclass, replace
from typing import Final

from apatite.core.errors import ConfigError
from apatite.core.types import Edges
from apatite.nn.intensity import ABDOMEN_HU, Window
from apatite.nn.stem import StemName
from apatite.nn.swin.config import SwinConfig


@dataclass(frozen=True, kw_only=True)
class SwinSize:
    """A Swin encoder and what is known of it.

    Attributes:
        shape: As it was published, with the crop and the windows it was made for.
        note: Whose it is.
    """

    shape: SwinConfig
    note: str

    @property
    def summary(self) -> str:
        """One line for a list of models."""
        shape = self.shape
        depths, heads = ("-".join(map(str, counts)) for counts in (shape.depths, shape.heads))
        return f"Swin of width {shape.dim}, {depths} blocks, {heads} heads, windows of {shape.window[0]}; {self.note}"

    def encoder(
        self,
        *,
        crop: Edges | None = None,
        patch: Edges | None = None,
        windows_hu: tuple[Window, ...] | None = None,
        stem: StemName = "linear",
        drop_path: float = 0.0,
    ) -> SwinConfig:
        """The encoder's config; where nothing is given, the crop, the patch and the windows are the model's own.

        Raises:
            ConfigError: the crop is no whole number of cells, or a stem is asked for that a Swin does not have.
        """
        if stem != "linear":
            raise ConfigError(f"a Swin has no {stem} stem", fix="leave out stem, or choose a ViT")
        return replace(
            self.shape,
            crop=crop or self.shape.crop,
            patch=patch or self.shape.patch,
            windows_hu=windows_hu or self.shape.windows_hu,
            drop_path=drop_path,
        )


_UNETR = SwinConfig(
    windows_hu=((-1000.0, 1000.0),),
    depths=(2, 2, 2, 2),
    heads=(3, 6, 12, 24),
    window=(7, 7, 7),
    qkv_bias=True,
    normalises_embedding=False,
    convention="monai",
)

SWINS: Final[dict[str, SwinSize]] = {
    "swin-smit": SwinSize(shape=SwinConfig(windows_hu=(ABDOMEN_HU,)), note="of SMIT's release, 2022"),
    "swin-smit-2025": SwinSize(
        shape=SwinConfig(
            crop=(128, 128, 128),
            windows_hu=((-140.0, 260.0),),
            depths=(2, 2, 8, 2),
            heads=(4, 4, 8, 16),
            qkv_bias=True,
        ),
        note="of the same lab's lung model, 2025",
    ),
    "swin-heart": SwinSize(
        shape=SwinConfig(
            crop=(128, 128, 128),
            windows_hu=((-200.0, 300.0),),
            depths=(2, 2, 12, 2),
            heads=(4, 4, 8, 16),
            qkv_bias=True,
        ),
        note="of the same lab's heart model",
    ),
    "swin-unetr": SwinSize(shape=_UNETR, note="of MONAI's Swin UNETR"),
    "swin-unetr-ijk": SwinSize(
        shape=replace(_UNETR, convention="monai-ijk"), note="the same, for weights that MONAI 1.5 or later trained"
    ),
    "swin-unetr-1.4-ijk": SwinSize(
        shape=replace(_UNETR, convention="monai-1.4-ijk"),
        note="the same, for weights that MONAI 1.4 or earlier trained, as its self-supervised ones",
    ),
    "swin-xs": SwinSize(
        shape=SwinConfig(crop=(48, 48, 48), windows_hu=(ABDOMEN_HU,), dim=24, depths=(2, 2, 2, 2), heads=(2, 2, 4, 4)),
        note="ours, for two cores",
    ),
}
