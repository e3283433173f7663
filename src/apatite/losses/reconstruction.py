"""How far hidden patches are from what was there."""

import torch
from einops import rearrange

from apatite.core.types import Scalar, Tokens

EPSILON = 1e-6
"""Keeps a constant patch finite, as in the reference code."""


def normalise_patches(patches: Tokens, channels: int, floor: tuple[float, ...] = ()) -> Tokens:
    r"""Each patch with zero mean and unit variance, per channel.

    $$\hat x = (x - \bar x) / \sqrt{\mathrm{var}(x) + \epsilon + f_c^2}$$ with the unbiased variance over the patch's
    voxels and $\epsilon = 10^{-6}$.

    Args:
        patches: `batch tokens (patch voxels x channels)`, the channel last.
        channels: How many.
        floor: $f_c$, one spread per channel in network units, below which a patch counts as flat; none is the paper's.

    Source: He et al. 2022 (arXiv 2111.06377), section 4.1 "reconstruction target", per channel.
    Differs: the floor. In CT most patches are flat but for noise, which cannot be predicted; normalised like the rest,
    they drown the anatomy (docs/LOG.md).
    The result has no unit; a constant patch (air) becomes zero.
    """
    rows = rearrange(patches, "b n (v c) -> b n v c", c=channels)
    mean, variance = rows.mean(dim=2, keepdim=True), rows.var(dim=2, keepdim=True)
    least = torch.tensor(floor or (0.0,) * channels, dtype=rows.dtype, device=rows.device).square()
    return rearrange((rows - mean) / torch.sqrt(variance + EPSILON + least), "b n v c -> b n (v c)")


def mean_squared_error(predicted: Tokens, target: Tokens) -> Scalar:
    r"""Mean over samples, hidden patches and voxels of $(p - t)^2$.

    Source: He et al. 2022 (arXiv 2111.06377), section 3. Both arguments hold hidden patches only, so the loss is on
    those alone. The unit is the square of the target's (none, when the target is normalised).
    """
    return (predicted.float() - target.float()).square().mean()
