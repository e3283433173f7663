"""Voxels whose true calibration is known, as a model would hand them over."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest


@dataclass(frozen=True)
class Voxels:
    """Raw voxels of one case."""

    probability: np.ndarray
    is_reference: np.ndarray
    voxel_mm3: np.ndarray


@pytest.fixture
def sigmoid_case() -> Callable[..., Voxels]:
    """A case in which σ(logit / temperature + offset) is exactly how often the reference marks a voxel."""

    def make(seed: int, temperature: float = 1.0, count: int = 3000, offset: float = 0.0) -> Voxels:
        rng = np.random.default_rng(seed)
        true_logit = rng.normal(-1.5, 2.0, count)
        is_reference = rng.random(count) < 1 / (1 + np.exp(-true_logit))
        probability = 1 / (1 + np.exp(-temperature * (true_logit - offset)))
        return Voxels(probability, is_reference, rng.uniform(0.2, 1.5, count))

    return make
