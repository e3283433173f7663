"""How surely a network says by how many quarter turns a crop was turned."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from apatite.core.types import Scalar
from apatite.losses.logits import exact


def rotation_loss(logits: Float[Tensor, "batch 4"], turns: Int[Tensor, "batch"]) -> Scalar:
    r"""Cross-entropy of the four turns, in nats, averaged over samples; ln 4 for a network that knows nothing.

    $$L = -\frac{1}{B} \sum_b \log \mathrm{softmax}(z_b)_{t_b}$$

    Args:
        logits: Of 0, 1, 2 and 3 quarter turns.
        turns: How many there were.

    Source: Gidaris et al. 2018 (arXiv 1803.07728). Differs: one turn is drawn per sample; there all four are shown.
    In fp32 whatever comes in, fp64 stays. Where processes share a batch equally, the mean of their losses is that of
    the whole batch.
    """
    return F.cross_entropy(exact(logits), turns)
