"""How far hidden voxels are from what was there, when the whole image is made.

Source: Xie et al. 2022 (arXiv 2111.09886), section 3.3 and the released SimMIM; SMIT's released code in 3D.
Differs: from released SimMIM in nothing but the place of its 1e-5: that is added before the division by channels there,
    to the number of values here. SMIT has one channel, where all three are the same.
"""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from apatite.core.types import Edges, Image, Scalar
from apatite.losses.logits import exact

EPSILON = 1e-5
"""Added to the number of hidden values; where none is hidden the loss is 0."""


def hidden_l1(made: Image, wanted: Image, is_hidden: Float[Tensor, "batch #channels depth height width"]) -> Scalar:
    r"""Mean absolute error over the hidden voxels of all views.

    $$L = \frac{\sum M |\hat x - x|}{\sum M + 10^{-5}}$$ with sums over views, samples, channels and voxels: one
    normaliser, so that a view with more hidden voxels counts more. What is visible has no gradient.

    Args:
        made: Of all views; the gradient goes here.
        wanted: What was there. The loss is in its unit; SMIT's images are in [0, 1], and in the network's unit, -1 to
            1, the same error is twice as large.
        is_hidden: M, 1 where a voxel is hidden, else 0; one channel stands for all.

    Computed in fp32 whatever comes in, fp64 stays.
    """
    made = exact(made)
    is_hidden = is_hidden.to(made.dtype).expand_as(made)
    return (is_hidden * (made - wanted).abs()).sum() / (is_hidden.sum() + EPSILON)


def to_voxels(rows: Float[Tensor, "batch elements values"], grid: Edges, cell: Edges, edges: Edges) -> Image:
    """The voxels that a linear layer makes of each element of a map: depth to space.

    Args:
        rows: `batch elements (s1 s2 s3 channels)`, elements and voxels along width first, then height, then depth, as
            in `nn.patches`: of one channel, value (s1·S2 + s2)·S3 + s3 of element (h, w, t) is voxel
            (S1·h + s1, S2·w + s2, S3·t + s3).
        grid: Elements along depth, height, width.
        cell: Edges S of an element in voxels.
        edges: Of the image; what lies beyond them is cut off, because a merging padded odd grids at their end.
    """
    (z, y, x), (d, h, w) = grid, cell
    image = rearrange(rows, "b (z y x) (d h w c) -> b c (z d) (y h) (x w)", z=z, y=y, x=x, d=d, h=h, w=w)
    return image[:, :, : edges[0], : edges[1], : edges[2]]
