"""Hounsfield units to network units: one channel per window.

HU are absolute, so the constants are global and never those of one image. The windows are part of the model and
travel with it. Images without HU come counted in standard deviations (`core.intensity`), and so are their windows.

Source: the nnU-Net data set builder of the group of Jin et al. 2025 writes two channels, [-1024, 3071] and [0, 300]
HU; whether their ViT used both is not known.
"""

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from apatite.core.errors import ConfigError
from apatite.core.types import Image

Window = tuple[float, float]

ABDOMEN_HU: Final[Window] = (-175.0, 250.0)
"""Soft tissue with contrast agent, as SelfMedMAE."""
CHEST_HU: Final[Window] = (-1000.0, 400.0)
"""Lung and soft tissue: our choice."""
DEVIATIONS: Final[Window] = (-768.0, 1024.0)
"""Of images counted in standard deviations: from three below the mean to four above it."""


class Windows(nn.Module):
    """Clip HU to each window and map it to -1 ... 1.

    Args:
        windows_hu: Lower and upper end of each channel's window.
    """

    low: Tensor
    high: Tensor

    def __init__(self, windows_hu: Sequence[Window]) -> None:
        super().__init__()
        if not windows_hu or any(low >= high for low, high in windows_hu):
            raise ConfigError(
                f"windows {list(windows_hu)} are empty", fix="give at least one window as [low, high] in HU"
            )
        ends = torch.tensor(windows_hu, dtype=torch.float32)
        self.register_buffer("low", ends[:, 0].view(-1, 1, 1, 1), persistent=False)
        self.register_buffer("high", ends[:, 1].view(-1, 1, 1, 1), persistent=False)

    def forward(self, image_hu: Float[Tensor, "batch 1 depth height width"]) -> Image:
        """`batch windows depth height width` in -1 ... 1."""
        clipped = torch.minimum(torch.maximum(image_hu, self.low), self.high)
        return (clipped - self.low) / (self.high - self.low) * 2 - 1
