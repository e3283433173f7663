"""How far hidden patches are from what was there."""

import torch
from einops import rearrange

from apatite.core.types import Scalar, Tokens


def normalise_patches(patches: Tokens, channels: int, epsilon: float = 1e-6) -> Tokens:
    r"""Each patch with zero mean and unit variance, per channel.

    $$\hat x = (x - \bar x) / \sqrt{\mathrm{var}(x) + \epsilon}$$ with the unbiased variance over the patch's voxels.

    Source: He et al. 2022 (arXiv 2111.06377), section 4.1 "reconstruction target", per channel.
    The result has no unit; a constant patch (air) becomes zero.
    """
    rows = rearrange(patches, "b n (v c) -> b n v c", c=channels)
    mean, variance = rows.mean(dim=2, keepdim=True), rows.var(dim=2, keepdim=True)
    return rearrange((rows - mean) / torch.sqrt(variance + epsilon), "b n v c -> b n (v c)")


def mean_squared_error(predicted: Tokens, target: Tokens) -> Scalar:
    r"""Mean over samples, hidden patches and voxels of $(p - t)^2$.

    Source: He et al. 2022 (arXiv 2111.06377), section 3. Both arguments hold hidden patches only, so the loss is on
    those alone. The unit is the square of the target's (none, when the target is normalised).
    """
    return (predicted.float() - target.float()).square().mean()
