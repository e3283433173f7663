"""Cutting a volume into patches and putting it together again: the one place that knows the order of tokens.

A token is one patch; tokens run along width first, then height, then depth. Within a patch the voxels run the same
way, with the channel last.
"""

from einops import rearrange

from apatite.core.errors import ConfigError
from apatite.core.types import Edges, Image, Rows, TokenChoice, Tokens


def token_edges(crop: Edges, patch: Edges) -> Edges:
    """Tokens along depth, height, width.

    Raises:
        ConfigError: the crop is smaller than a patch, or no whole number of patches.
    """
    if any(edge < size for edge, size in zip(crop, patch, strict=True)):
        raise ConfigError(
            f"the crop {crop} is smaller than one patch {patch}", fix="use a smaller patch or a larger crop"
        )
    if any(edge % size for edge, size in zip(crop, patch, strict=True)):
        raise ConfigError(f"the crop {crop} is not a whole number of patches {patch}", fix="choose edges that divide")
    return crop[0] // patch[0], crop[1] // patch[1], crop[2] // patch[2]


def patchify(image: Image, patch: Edges) -> Rows:
    """Cut a volume into patches, one row each: `batch tokens (patch voxels x channels)`."""
    d, h, w = patch
    return rearrange(image, "b c (z d) (y h) (x w) -> b (z y x) (d h w c)", d=d, h=h, w=w)


def unpatchify(rows: Rows, tokens: Edges, patch: Edges) -> Image:
    """Put patches together again; the inverse of `patchify`.

    Args:
        rows: `batch tokens (patch voxels x channels)`.
        tokens: Tokens along depth, height, width.
        patch: Edges of one patch in voxels.
    """
    (z, y, x), (d, h, w) = tokens, patch
    return rearrange(rows, "b (z y x) (d h w c) -> b c (z d) (y h) (x w)", z=z, y=y, x=x, d=d, h=h, w=w)


def take_tokens(tokens: Rows, chosen: TokenChoice) -> Rows:
    """The chosen rows of each sample."""
    return tokens.gather(1, chosen[..., None].expand(-1, -1, tokens.shape[-1]))


def place_tokens(filler: Tokens, tokens: Rows, chosen: TokenChoice) -> Tokens:
    """`filler` with the chosen rows replaced by `tokens`; the inverse of `take_tokens` on those rows."""
    return filler.scatter(1, chosen[..., None].expand(-1, -1, tokens.shape[-1]), tokens)
