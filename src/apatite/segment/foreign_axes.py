"""Published Swins were trained on arrays as NIfTI holds them, along i, j, k; ours run along depth, height, width.

That is the same in reverse. Weights that know an axis are turned round: the patch's kernel, the table of offsets inside
a window, and the order of the neighbours that a merging puts side by side. An encoder with weights that were not turned
runs without a word, on images that it takes to lie on their side.

Source: [code] the pipelines of SMIT and of MONAI's pre-training give `LoadImage`'s arrays to the network as they are.
"""

from collections.abc import Sequence

from einops import rearrange
from torch import Tensor

from apatite.nn.swin.config import Convention, Corner, SwinConfig

KERNEL = "embed.project.weight"
TABLE = ".attention.relative_position_bias_table"
MERGED = (".merge.norm.weight", ".merge.norm.bias", ".merge.reduction.weight")


def in_our_axes(name: str, tensor: Tensor, shape: SwinConfig) -> Tensor:
    """A weight along depth, height, width, of one along i, j, k.

    Args:
        name: Ours.
        tensor: As published; of the right shape.
        shape: The encoder's. A window's and a patch's edges must be equal, as all published ones' are.
    """
    if name == KERNEL:
        return tensor.permute(0, 1, 4, 3, 2)
    if name.endswith(TABLE):
        edges = {axis: 2 * edge - 1 for axis, edge in zip("kji", shape.window, strict=True)}
        return rearrange(tensor, "(i j k) heads -> (k j i) heads", **edges)
    if name.endswith(MERGED):
        published = published_order(shape.published)
        groups = rearrange(tensor, "... (slots dim) -> ... slots dim", slots=len(published))
        order = slots_of(published, shape.published.neighbours)
        return rearrange(groups[..., order, :], "... slots dim -> ... (slots dim)")
    return tensor


def published_order(convention: Convention) -> tuple[Corner, ...]:
    """Which neighbours a merging's channels come from in the files of a convention, along i, j, k."""
    ours = convention.neighbours
    return tuple((i, j, k) for k, j, i in ours) if convention.along_ijk else ours


def slots_of(published: Sequence[Corner], ours: Sequence[Corner]) -> list[int]:
    """For each of our neighbours, along depth, height, width, its place among the published, along i, j, k.

    Each place is given once, also where a neighbour stands twice. In which order equal ones come makes no difference.
    """
    free = list(range(len(published)))
    order = []
    for corner in ours:
        place = next(place for place in free if published[place][::-1] == corner)
        free.remove(place)
        order.append(place)
    return order
