"""A fresh segmentation head says that labels are rare.

With a bias of 0 every voxel starts at probability 0.5, and the first hundreds of steps are spent on pushing all of
them down together; a few voxels of calcium in a region do not survive that.

Source: Lin et al. 2017 (arXiv 1708.02002), section 4.1: a prior of about 0.01 for the rare class.
"""

import math

from torch import nn

PRIOR = 0.018
"""Probability of a label before anything was learned: logit -4."""


def start_rare(head: nn.Linear | nn.Conv3d) -> None:
    """Set the bias of a head so that it predicts `PRIOR` everywhere (its weights are small at first)."""
    if head.bias is not None:
        nn.init.constant_(head.bias, math.log(PRIOR / (1 - PRIOR)))
