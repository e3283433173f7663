"""Tokens stay as similar to each other as an earlier teacher saw them: an anchor for dense features in long runs.

Source: Siméoni et al. 2025 (arXiv 2508.10104), section 4, "Gram anchoring"; its released loss.
Differs: negative similarities count like any other. The released loss can set them to zero, for the teacher alone or
    for both; that is left out.
"""

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from apatite.core.types import Scalar, Tokens
from apatite.losses.logits import exact


def gram_loss(student: Tokens, anchor: Tokens) -> Scalar:
    r"""Mean over samples and pairs of cells of the squared difference of two similarities.

    $$L = \frac{1}{B n^2} \sum_b \sum_{i,j}
    \big(\langle s_{bi}, s_{bj} \rangle - \langle a_{bi}, a_{bj} \rangle\big)^2$$
    with the tokens s, a divided by their lengths first. No unit; between 0 and 4. Within one sample only: `cells²`
    numbers each.

    Args:
        student: `batch cells dim`; the gradient goes here.
        anchor: The same cells as an earlier teacher saw them; detached.

    Computed in fp32 whatever comes in, fp64 stays.
    """
    with torch.autocast(student.device.type, enabled=False):
        return (_similarities(student) - _similarities(anchor.detach())).square().mean()


def _similarities(tokens: Tokens) -> Float[Tensor, "batch tokens tokens"]:
    points = F.normalize(exact(tokens), dim=-1)
    return einsum(points, points, "batch i dim, batch j dim -> batch i j")
