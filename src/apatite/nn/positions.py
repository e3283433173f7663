"""Fixed 3D sine-cosine positions.

A third of the width goes to each of depth, height, width; in each third the first half are sines, the second
cosines, at frequencies 10000^(-2k / (dim/3)).

Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.5, per axis, as the MAE family does it in 2D and 3D.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from apatite.core.errors import ConfigError
from apatite.core.types import Edges


def sincos_positions(tokens: Edges, dim: int) -> Float[Tensor, "tokens dim"]:
    """One row per token, in the order of `patchify`.

    Args:
        tokens: Tokens along depth, height, width.
        dim: Width; a multiple of 6 (sine and cosine for each of three axes).

    Raises:
        ConfigError: `dim` is not a multiple of 6.
    """
    if dim % 6:
        raise ConfigError(
            f"3D sine-cosine positions need a width divisible by 6, got {dim}", fix=f"use {dim // 6 * 6 or 6}"
        )
    per_axis = dim // 6
    frequency = 10000.0 ** (-torch.arange(per_axis, dtype=torch.float64) / per_axis)
    places = torch.cartesian_prod(*(torch.arange(edge, dtype=torch.float64) for edge in tokens))
    angle = places[:, :, None] * frequency
    table = torch.cat([angle.sin(), angle.cos()], dim=-1)
    return table.flatten(1).float()
