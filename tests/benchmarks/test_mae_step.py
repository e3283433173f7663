"""The two sides of the comparison do the same work."""

import pytest
import torch

from apatite.engine.precision import Precision
from mae_step import check_equal_work, monai_step, our_step


def test_as_many_hidden_patches_and_weights():
    check_equal_work(8)


def test_both_learn_the_same_target():
    # An untrained network explains nothing of a target with unit variance: the loss begins near 1 and falls.
    for step in (our_step(8, 1, Precision()), monai_step(8, 1)):
        torch.manual_seed(1)
        losses = [float(step().detach()) for _ in range(4)]
        assert losses[0] == pytest.approx(1.2, abs=0.4)
        assert losses[-1] < losses[0]
